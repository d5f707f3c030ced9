"""Leases: what a gateway may spend while the ledger is out, signed in advance.

A lease is a hold of kind ``lease``. `issue` authorizes it and signs a token of one printable word,
``tbl1.<payload>.<signature>``: base64url without padding (RFC 4648, section 5) of canonical JSON
and of the signature over ``tbl1.<payload>``. While the ledger is out a gateway spends against the
token through `LocalLease` (`ledger.application.local_lease`); afterwards its usage events name
the lease as their hold. Semantics: docs/spec/holds.md, section Leases.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from datetime import datetime
from hashlib import blake2b
from typing import Protocol

import msgspec

from ledger.application import ask_fields as fields
from ledger.application.protection import Holds
from ledger.domain.commands import Outcome
from ledger.domain.errors import InvalidInput, Problem, Refused
from ledger.domain.holds import HoldAnswer
from ledger.domain.money import AMOUNT_DECIMALS, scaled_text
from ledger.domain.periods import from_us, to_us

PREFIX = "tbl1"
"""Says what the word is, and the version of its form."""
MAX_TOKEN_CHARS = 4096
KEY_ID_BYTES = 8
KIND = "lease"


class Signer(Protocol):
    """Signs for the ledger."""

    @property
    def public_key(self) -> bytes:
        """Return the public key that verifies what this signs."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message."""
        ...


class Verifier(Protocol):
    """Knows a ledger's public key."""

    @property
    def public_key(self) -> bytes:
        """Return that key."""
        ...

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Tell whether the key's owner signed the message."""
        ...


class LeaseToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a lease says; members in alphabetical order, which is that of the canonical JSON.

    Attributes:
        amount: that may be spent, canonical decimal text.
        currency: of the amount.
        expires_at: exclusive, RFC 3339 in UTC.
        key: id of the ledger's key, see `key_id`.
        lease: id of the hold.
        tenant: whose ledger.
    """

    amount: str
    currency: str
    expires_at: str
    key: str
    lease: str
    tenant: str

    @property
    def amount_scaled(self) -> int:
        """Return the amount x 10^18."""
        return fields.money(self.amount, "/amount")

    @property
    def expires_us(self) -> int:
        """Return the end in microseconds since the epoch."""
        return fields.instant(self.expires_at, "/expires_at")


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(LeaseToken).decode


def key_id(public_key: bytes) -> str:
    """Return the id of a public key: 16 hexadecimal digits of its BLAKE2b digest."""
    return blake2b(public_key, digest_size=KEY_ID_BYTES).hexdigest()


def issue(
    *, holds: Holds, signer: Signer, document: Mapping[str, object], tenant: str
) -> tuple[Outcome, str | None]:
    """Authorize a lease and sign what was granted.

    Repeated with the same document, it returns the same token.

    Args:
        holds: of the ledger.
        signer: the ledger's key.
        document: as for `Holds.authorize`, by amount; its kind is ``lease``.
        tenant: whose ledger.

    Returns:
        The answer, and a token where the answer allows one.

    Raises:
        Unavailable: the ledger is out of reach; ask again with the same id.
    """
    if _is_other(document):
        return _OTHER_KIND, None
    outcome = holds.authorize(_lease(document), tenant=tenant)
    return outcome, _granted(outcome, signer, tenant)


async def issue_async(
    *, holds: Holds, signer: Signer, document: Mapping[str, object], tenant: str
) -> tuple[Outcome, str | None]:
    """Do as `issue`."""
    if _is_other(document):
        return _OTHER_KIND, None
    outcome = await holds.authorize_async(_lease(document), tenant=tenant)
    return outcome, _granted(outcome, signer, tenant)


_OTHER_KIND = Outcome(
    "invalid_kind",
    problem=Problem("invalid_kind", "a lease is a hold of kind lease", "/kind"),
    detail=HoldAnswer("", decision="deny"),
)


def _is_other(document: Mapping[str, object]) -> bool:
    """Tell whether the ask is for a call, which is no permission to spend locally."""
    return isinstance(document, Mapping) and document.get("kind", KIND) != KIND


def _lease(document: Mapping[str, object]) -> Mapping[str, object]:
    return {**document, "kind": KIND} if isinstance(document, Mapping) else document


def _granted(outcome: Outcome, signer: Signer, tenant: str) -> str | None:
    answer = outcome.detail
    if answer is None or not answer.decision.startswith("allow") or answer.amount <= 0:
        return None
    token = LeaseToken(
        amount=scaled_text(answer.amount, AMOUNT_DECIMALS),
        currency=answer.currency,
        expires_at=_moment(answer.expires_at),
        key=key_id(signer.public_key),
        lease=answer.hold,
        tenant=tenant,
    )
    return signed(token, signer=signer)


def _moment(at: int) -> str:
    return from_us(at).isoformat().replace("+00:00", "Z")


def signed(token: LeaseToken, *, signer: Signer) -> str:
    """Return a token as one printable word with the signature of the ledger."""
    head = f"{PREFIX}.{_printable(_encode(token))}"
    return f"{head}.{_printable(signer.sign(head.encode()))}"


def read_token(token: str, *, verifier: Verifier, now: datetime) -> LeaseToken:
    """Return what a token says, if the ledger signed it and it has not expired.

    Args:
        token: the word that `issue` returned.
        verifier: knows the ledger's public key.
        now: aware.

    Raises:
        Refused: ``lease_malformed``, ``lease_forged`` (another key, or changed), or
            ``lease_expired``, in this order.
    """
    lease = check_token(token, verifier=verifier)
    if to_us(now) >= lease.expires_us:
        raise Refused(f"the lease expired at {lease.expires_at}", code="lease_expired")
    return lease


def check_token(token: str, *, verifier: Verifier) -> LeaseToken:
    """Do as `read_token` whatever the time is: what was spent on a lease outlives it.

    Raises:
        Refused: ``lease_malformed``, ``lease_forged``.
    """
    lease, message, signature = _parts(token)
    if lease.key != key_id(verifier.public_key) or not verifier.verify(message, signature):
        raise Refused(
            "the token was not signed by the ledger whose public key this is", code="lease_forged"
        )
    return lease


def peek_token(token: str) -> LeaseToken:
    """Return what a token says, whoever signed it: to look at, never to spend against.

    Raises:
        Refused: ``lease_malformed``.
    """
    return _parts(token)[0]


def _parts(token: str) -> tuple[LeaseToken, bytes, bytes]:
    """Return what a token says, what was signed, and the signature."""
    if not isinstance(token, str) or len(token) > MAX_TOKEN_CHARS:
        raise _malformed(f"a token is text of at most {MAX_TOKEN_CHARS} characters")
    parts = token.split(".")
    if len(parts) != 3 or parts[0] != PREFIX:
        raise _malformed(f"a token is {PREFIX}.<payload>.<signature>")
    lease = _payload(_bytes(parts[1]))
    return lease, f"{PREFIX}.{parts[1]}".encode(), _bytes(parts[2])


def _payload(payload: bytes) -> LeaseToken:
    try:
        lease = _decode(payload)
        canonical = (
            _encode(lease) == payload
            and scaled_text(lease.amount_scaled, AMOUNT_DECIMALS) == lease.amount
            and _moment(lease.expires_us) == lease.expires_at
        )
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, InvalidInput):
        raise _malformed("its payload is not a lease's") from None
    if not canonical:
        raise _malformed("its payload is not in canonical form")
    return lease


def _malformed(why: str) -> Refused:
    return Refused(f"this is no lease token: {why}", code="lease_malformed")


def _printable(body: bytes) -> str:
    return urlsafe_b64encode(body).rstrip(b"=").decode()


def _bytes(part: str) -> bytes:
    """Return the bytes of a part that is spelled in the one way that `signed` spells it."""
    try:
        body = urlsafe_b64decode(part.encode("ascii") + b"=" * (-len(part) % 4))
    except (binascii.Error, ValueError):
        raise _malformed("a part is not base64url") from None
    if _printable(body) != part:
        raise _malformed("a part is not canonical base64url")
    return body
