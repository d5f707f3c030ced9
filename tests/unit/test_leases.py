"""Lease tokens: who may have one, and what a gateway may believe."""

from __future__ import annotations

import asyncio
import hmac
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from fakes.asking import RecordingQueue

from ledger.application.leases import (
    LeaseToken,
    check_token,
    issue,
    issue_async,
    key_id,
    read_token,
    signed,
)
from ledger.application.protection import Holds
from ledger.domain.commands import Outcome
from ledger.domain.errors import Refused
from ledger.domain.holds import HoldAnswer
from ledger.domain.periods import to_us

END = datetime(2026, 11, 3, 12, 0, tzinfo=UTC)
BEFORE = END - timedelta(microseconds=1)
DOCUMENT: dict[str, Any] = {"hold": "l-1", "amount": "5", "ttl": 3600}


class _Key:
    """Signs with a keyed digest: enough to tell keys and messages apart."""

    def __init__(self, public_key: bytes = b"k" * 32) -> None:
        self.public_key = public_key

    def sign(self, message: bytes) -> bytes:
        return hmac.digest(self.public_key, message, "sha256")

    def verify(self, message: bytes, signature: bytes) -> bool:
        return hmac.compare_digest(signature, self.sign(message))


KEY = _Key()
LEASE = LeaseToken(
    amount="4.5",
    currency="USD",
    expires_at="2026-11-03T12:00:00Z",
    key=key_id(KEY.public_key),
    lease="l-1",
    tenant="acme",
)


def _granted(
    decision: str = "allow", amount: int = 45 * 10**17, status: str = "created"
) -> Outcome:
    answer = HoldAnswer("l-1", decision, amount, currency="USD", expires_at=to_us(END))
    return Outcome(status, 1, detail=answer)


def _issue(answer: Outcome, document: Any = DOCUMENT) -> tuple[Outcome, str | None, RecordingQueue]:
    queue = RecordingQueue(answer)
    outcome, token = issue(holds=Holds(queue), signer=KEY, document=document, tenant="acme")
    return outcome, token, queue


def _word(payload: bytes, key: _Key = KEY) -> str:
    """Return any payload as a token with a good signature."""
    head = "tbl1." + urlsafe_b64encode(payload).rstrip(b"=").decode()
    return f"{head}.{urlsafe_b64encode(key.sign(head.encode())).rstrip(b'=').decode()}"


def _refusal(token: Any, now: datetime = BEFORE, key: _Key = KEY) -> str:
    with pytest.raises(Refused) as caught:
        read_token(token, verifier=key, now=now)
    return caught.value.code


def test_a_lease_is_a_hold_of_its_kind_and_its_token_says_what_was_granted() -> None:
    """What was granted, not what was asked for, is what the gateway may spend."""
    answer = _granted("allow_partial")
    outcome, token, queue = _issue(answer)
    assert outcome is answer
    assert token is not None
    assert token.isprintable()
    assert read_token(token, verifier=KEY, now=BEFORE) == LEASE
    [command] = queue.commands
    assert (command.ask.kind, command.ask.amount) == ("lease", 5 * 10**18)


def test_the_same_lease_has_the_same_token() -> None:
    """A repeated ask gives nobody a second token to spend."""
    assert _issue(_granted())[1] == _issue(_granted(status="exists"))[1]


def test_the_async_twin_issues_the_same() -> None:
    """The same token of the same answer."""
    holds = Holds(RecordingQueue(_granted()))
    later = issue_async(holds=holds, signer=KEY, document=DOCUMENT, tenant="acme")
    assert asyncio.run(later)[1] == _issue(_granted())[1]


@pytest.mark.parametrize(
    "answer",
    [
        _granted("deny", status="denied_exceeds_budget"),
        _granted("confirm", status="confirmation_required"),
        _granted(amount=0),
        Outcome("created"),
    ],
)
def test_what_is_not_granted_has_no_token(answer: Outcome) -> None:
    """Neither a refusal nor a lease of nothing."""
    assert _issue(answer)[1] is None


@pytest.mark.parametrize(
    ("document", "status"),
    [
        ({**DOCUMENT, "kind": "call"}, "invalid_kind"),
        ({"hold": "l-1", "quantities": {"tokens.input": 1}}, "invalid_quantities"),
        ({"hold": "l-1"}, "invalid_amount"),
        (None, "invalid_document"),
    ],
)
def test_what_is_no_lease_has_no_token(document: Any, status: str) -> None:
    """A call's hold that was allowed is no permission to spend locally either."""
    outcome, token, queue = _issue(_granted(), document)
    assert outcome.status == status
    assert token is None
    assert not queue.commands


def test_a_lease_ends_at_its_expiry() -> None:
    """The end is exclusive."""
    token = signed(LEASE, signer=KEY)
    assert read_token(token, verifier=KEY, now=BEFORE) == LEASE
    assert _refusal(token, END) == "lease_expired"
    assert check_token(token, verifier=KEY) == LEASE


def test_another_key_is_no_key() -> None:
    """Neither of another ledger, nor one that claims this ledger's key."""
    token = signed(LEASE, signer=KEY)
    assert _refusal(token, key=_Key(b"x" * 32)) == "lease_forged"
    assert _refusal(signed(LEASE, signer=_Key(b"x" * 32))) == "lease_forged"


def test_a_changed_payload_is_forged() -> None:
    """More money under the signature of less."""
    more = signed(msgspec.structs.replace(LEASE, amount="450"), signer=_Key(b"x"))
    less = signed(LEASE, signer=KEY)
    assert _refusal(".".join([*more.split(".")[:2], less.split(".")[2]])) == "lease_forged"


def _payload(**members: Any) -> bytes:
    return msgspec.json.encode(msgspec.to_builtins(LEASE) | members)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "tbl1",
        "tbl1..",
        "tbl2." + signed(LEASE, signer=KEY).partition(".")[2],
        signed(LEASE, signer=KEY) + ".x",
        signed(LEASE, signer=KEY) + "=",
        signed(LEASE, signer=KEY) + "\n",
        "tbl1.\ud800.x",
        "tbl1.é.x",
        "tbl1." + "a" * 5000 + ".x",
        None,
        _word(b"{}"),
        _word(b"[" * 2000),
        _word(b"\xff"),
        _word(_payload(more=1)),
        _word(_payload(amount=4)),
        _word(_payload(amount="4.50")),
        _word(_payload(amount="-1")),
        _word(_payload(amount="1e3")),
        _word(_payload(expires_at="2026-11-03T13:00:00+01:00")),
        _word(_payload(expires_at="never")),
        _word(_payload().replace(b",", b", ")),
    ],
)
def test_only_the_one_spelling_is_a_token(token: Any) -> None:
    """Even under a good signature: two words for one lease could be spent twice."""
    assert _refusal(token) == "lease_malformed"
