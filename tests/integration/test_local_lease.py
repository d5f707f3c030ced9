"""Leases at the gateway, with a real key and real files: nothing is spent twice."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters.signing import Ed25519Signer, load_or_create, verifier
from ledger.application import local_lease
from ledger.application.leases import LeaseToken, key_id, read_token, signed
from ledger.application.local_lease import LocalLease
from ledger.domain.errors import InvalidInput, LedgerError, Refused, Unavailable

NOW = datetime(2026, 11, 3, 12, 0, tzinfo=UTC)


@pytest.fixture
def signer(tmp_path: Path) -> Ed25519Signer:
    """Return a new key in a file."""
    return load_or_create(tmp_path / "key.pem")


class _Gateway:
    """Opens one lease again and again."""

    def __init__(self, folder: Path, signer: Ed25519Signer) -> None:
        self.path = folder / "lease.json"
        self.now = NOW
        self.verifier = verifier(signer.public_key)
        self.token = self.sign(signer, "l-1")

    @staticmethod
    def sign(signer: Ed25519Signer, lease: str) -> str:
        token = LeaseToken(
            amount="1",
            currency="USD",
            expires_at="2026-11-03T13:00:00Z",
            key=key_id(signer.public_key),
            lease=lease,
            tenant="acme",
        )
        return signed(token, signer=signer)

    def open(self, **members: Any) -> LocalLease:
        given: dict[str, Any] = {"path": self.path, "token": self.token, "verifier": self.verifier}
        return LocalLease(**(given | members), clock=lambda: self.now)


@pytest.fixture
def gateway(tmp_path: Path, signer: Ed25519Signer) -> Iterator[_Gateway]:
    """Return a gateway with a lease of 1 USD until one o'clock."""
    return _Gateway(tmp_path, signer)


def test_a_lease_is_spent_up_to_its_amount_exactly(gateway: _Gateway) -> None:
    """The last of it may be used; then only nothing is left to allow."""
    with gateway.open() as lease:
        assert lease.authorize("a", "0.4")
        assert not lease.authorize("b", "0.600000000000000001")
        assert lease.authorize("b", Decimal("0.6"))
        assert not lease.authorize("c", "0.000000000000000001")
        assert lease.authorize("d", 0)
        assert (lease.spent, lease.left) == (Decimal(1), Decimal(0))


def test_an_id_is_paid_once(gateway: _Gateway) -> None:
    """Its repetition has the same answer, and another amount is another call."""
    with gateway.open() as lease:
        assert lease.authorize("a", "0.7")
        assert lease.authorize("a", "0.70")
        assert lease.spent == Decimal("0.7")
        with pytest.raises(Refused) as caught:
            lease.authorize("a", "0.1")
        assert caught.value.code == "lease_conflict"


def test_a_gateway_that_starts_again_remembers(gateway: _Gateway) -> None:
    """What was answered before a crash is spent after it."""
    first = gateway.open()
    assert first.authorize("a", "0.7")
    os.close(first._lock or 0)  # As a crash does: nothing is said, the lock is gone.
    first._lock = None
    with gateway.open() as again:
        assert again.spent == Decimal("0.7")
        assert not again.authorize("b", "0.4")
        assert again.authorize("a", "0.7")


def test_every_answer_that_allows_is_in_the_file_first(
    gateway: _Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Synced, renamed, and the folder synced, in this order."""
    done: list[str] = []
    real_sync, real_replace = os.fsync, Path.replace

    def sync(handle: int) -> None:
        done.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")
        real_sync(handle)

    def replace(self: Path, target: Path) -> Path:
        done.append("rename")
        return real_replace(self, target)

    with gateway.open() as lease:
        monkeypatch.setattr(os, "fsync", sync)
        monkeypatch.setattr(Path, "replace", replace)
        assert lease.authorize("a", "0.7")
        assert done == ["file", "rename", "folder"]
        assert b'"a":"0.7"' in gateway.path.read_bytes()


def test_what_cannot_be_kept_is_not_allowed(
    gateway: _Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk answers no call, spends nothing, and may be asked again."""
    with gateway.open() as lease:

        def full(handle: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as broken:
            broken.setattr(os, "fsync", full)
            with pytest.raises(Unavailable) as caught:
                lease.authorize("a", "0.7")
        assert caught.value.code == "lease_not_saved"
        assert lease.spent == 0
        assert lease.authorize("a", "0.7")


def test_a_lease_is_over_at_its_end(gateway: _Gateway) -> None:
    """What was allowed stays so; nothing more is."""
    with gateway.open() as lease:
        gateway.now = NOW + timedelta(hours=1) - timedelta(microseconds=1)
        assert lease.authorize("a", "0.1")
        gateway.now = NOW + timedelta(hours=1)
        assert not lease.authorize("b", "0.1")
        assert lease.authorize("a", "0.1")
    with gateway.open() as over:
        assert over.spent == Decimal("0.1")


def test_a_lease_pays_for_a_bounded_number_of_calls(
    gateway: _Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is written anew for each."""
    monkeypatch.setattr(local_lease, "MAX_SPENDS", 1)
    with gateway.open() as lease:
        assert lease.authorize("a", 0)
        assert not lease.authorize("b", 0)


def test_threads_together_never_spend_more(gateway: _Gateway) -> None:
    """Of forty calls at a twentieth each, twenty are allowed."""
    start = threading.Barrier(4)

    def spend(worker: int) -> int:
        start.wait()
        return sum(lease.authorize(f"{worker}-{n}", "0.05") for n in range(10))

    with gateway.open() as lease, ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(spend, range(4))) == 20
        assert lease.left == 0


def test_a_second_gateway_cannot_have_the_file(gateway: _Gateway) -> None:
    """Until the first lets it go."""
    with gateway.open():
        with pytest.raises(Refused) as caught:
            gateway.open()
        assert caught.value.code == "lease_in_use"
    gateway.open().close()


def test_a_closed_lease_allows_nothing(gateway: _Gateway) -> None:
    """Another process may have it by then."""
    lease = gateway.open()
    lease.close()
    lease.close()
    with pytest.raises(Refused) as caught:
        lease.authorize("a", 0)
    assert caught.value.code == "lease_closed"


def test_each_token_has_a_file_of_its_own(gateway: _Gateway, signer: Ed25519Signer) -> None:
    """And a file that was refused is free for its own token."""
    gateway.open().close()
    with pytest.raises(Refused) as caught:
        gateway.open(token=gateway.sign(signer, "l-2"))
    assert caught.value.code == "lease_mismatch"
    gateway.open().close()


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff", b"[]", "amount"])
def test_a_broken_file_is_not_taken_for_an_empty_one(gateway: _Gateway, body: Any) -> None:
    """Nobody knows what was spent, so nothing more is."""
    with gateway.open() as lease:
        lease.authorize("a", "0.7")
    if body == "amount":
        body = gateway.path.read_bytes().replace(b'"0.7"', b'"-0.7"')
    gateway.path.write_bytes(body)
    with pytest.raises(Unavailable) as caught:
        gateway.open()
    assert caught.value.code == "lease_file_broken"


@pytest.mark.parametrize(
    ("id", "amount", "code"),
    [("", 1, "invalid_id"), ("a", "1e2", "invalid_amount"), ("a", 0.5, "invalid_amount")],
)
def test_what_cannot_be_read_spends_nothing(
    gateway: _Gateway, id: str, amount: Any, code: str
) -> None:
    """Ids and amounts are as everywhere."""
    with gateway.open() as lease:
        with pytest.raises(InvalidInput) as caught:
            lease.authorize(id, amount)
        assert caught.value.code == code
        assert lease.spent == 0


def test_a_token_of_another_key_opens_nothing(gateway: _Gateway, tmp_path: Path) -> None:
    """Not even the file is made."""
    other = load_or_create(tmp_path / "other.pem")
    with pytest.raises(Refused) as caught:
        gateway.open(token=gateway.sign(other, "l-1"))
    assert caught.value.code == "lease_forged"
    assert not gateway.path.exists()


# -- keys ---------------------------------------------------------------------------------


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    """The second time it is read; nothing else is left in the folder."""
    path = tmp_path / "key.pem"
    before = os.umask(0)
    try:
        first = load_or_create(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    again = load_or_create(path)
    assert again.public_key == first.public_key
    assert again.sign(b"m") == first.sign(b"m")
    assert [one.name for one in tmp_path.iterdir()] == ["key.pem"]


def test_processes_that_make_a_key_at_once_have_one_key(tmp_path: Path) -> None:
    """A key that has its name already is never replaced."""
    from adapters.signing import ed25519

    path = tmp_path / "key.pem"
    ed25519._create(path)
    first = path.read_bytes()
    ed25519._create(path)
    assert path.read_bytes() == first
    assert [one.name for one in tmp_path.iterdir()] == ["key.pem"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_key_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    """Whoever read it can sign leases."""
    path = tmp_path / "key.pem"
    load_or_create(path)
    path.chmod(mode)
    with pytest.raises(Refused) as caught:
        load_or_create(path)
    assert caught.value.code == "key_exposed"


def test_what_is_no_key_is_not_replaced(tmp_path: Path) -> None:
    """A key of another kind, or no key, may matter to somebody."""
    path = tmp_path / "key.pem"
    path.write_bytes(b"something else")
    path.chmod(0o600)
    with pytest.raises(Refused) as caught:
        load_or_create(path)
    assert caught.value.code == "key_malformed"
    assert path.read_bytes() == b"something else"


def test_a_key_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    """With the path, as an error that may pass."""
    with pytest.raises(Unavailable) as caught:
        load_or_create(tmp_path / "nowhere" / "key.pem")
    assert caught.value.code == "key_unavailable"


def test_signatures_are_of_one_key_and_one_message(signer: Ed25519Signer, tmp_path: Path) -> None:
    """Anything else is data that does not verify, never an exception."""
    known = verifier(signer.public_key)
    good = signer.sign(b"m")
    assert known.verify(b"m", good)
    assert not known.verify(b"n", good)
    assert not known.verify(b"m", good[:-1])
    assert not known.verify(b"m", b"")
    other = load_or_create(tmp_path / "other.pem")
    assert not verifier(other.public_key).verify(b"m", good)


@pytest.mark.parametrize("key", [b"", b"k" * 31, b"k" * 33])
def test_a_public_key_has_its_length(key: bytes) -> None:
    """A wrong one is told at once."""
    with pytest.raises(InvalidInput) as caught:
        verifier(key)
    assert caught.value.code == "invalid_public_key"


def test_no_changed_character_of_a_token_passes(gateway: _Gateway) -> None:
    """Each of its characters is either form or signed."""
    token = gateway.token
    for place in range(0, len(token), 3):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        with pytest.raises(LedgerError) as caught:
            read_token(changed, verifier=gateway.verifier, now=NOW)
        assert caught.value.code in ("lease_malformed", "lease_forged")


def test_the_file_is_plain_json_for_whoever_must_look(gateway: _Gateway) -> None:
    """Which lease of whom, and what each call was allowed; the token's digest, not the token."""
    with gateway.open() as lease:
        lease.authorize("a", "0.25")
    record = msgspec.json.decode(gateway.path.read_bytes())
    assert (record["tenant"], record["lease"], record["spends"]) == ("acme", "l-1", {"a": "0.25"})
    assert gateway.token not in gateway.path.read_text()
