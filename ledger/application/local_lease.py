"""A lease at the gateway: spending against a signed token while the ledger is out.

What was spent is in a file beside the gateway, synced and renamed into place before any answer
that allows a call, so a gateway that crashes and starts again cannot spend the same money twice.
Whoever deletes the file forgets what was spent; the ledger then learns it from the usage events.

Invariants: spent <= amount of the token; the file is never behind an answer; one process has it.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from types import TracebackType

import msgspec

from ledger.application import ask_fields as fields
from ledger.application.leases import LeaseToken, Verifier, check_token
from ledger.domain.errors import LedgerError, Refused, Unavailable
from ledger.domain.money import AMOUNT_DECIMALS, from_scaled, scaled_text
from ledger.domain.periods import to_us

MAX_SPENDS = 100_000
"""Most calls that one lease pays for; the file is written anew for each."""


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file: which lease, and the amounts allowed by id, as decimal text."""

    lease: str
    spends: dict[str, str]
    tenant: str
    token: str


_decode = msgspec.json.Decoder(_Record).decode


def _now() -> datetime:
    return datetime.now(UTC)


class LocalLease:
    """Spends against one token. Thread-safe; close it, or use it as a context manager.

    Example:
        ::

            with LocalLease(path=path, token=token, verifier=verifier) as lease:
                if lease.authorize("call-1", "0.05"):
                    ...

    Args:
        path: of the file that keeps what was spent; its folder exists.
        token: as `ledger.application.leases.issue` returned it.
        verifier: knows the ledger's public key.
        clock: returns the time, aware; of the gateway, for the ledger is out.

    Raises:
        Refused: ``lease_malformed``, ``lease_forged``; ``lease_in_use`` by another process;
            ``lease_mismatch`` if the file is of another token.
        Unavailable: ``lease_file_broken`` if the file cannot be read, so that nobody knows what
            was spent; ``lease_not_saved``.
    """

    def __init__(
        self,
        *,
        path: Path,
        token: str,
        verifier: Verifier,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self.token: LeaseToken = check_token(token, verifier=verifier)
        self._path = path
        self._clock = clock
        self._mutex = threading.Lock()
        self._amount = self.token.amount_scaled
        self._expires_us = self.token.expires_us
        self._digest = blake2b(token.encode(), digest_size=16).hexdigest()
        self._lock: int | None = _locked(path)
        try:
            self._spends = self._load()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> LocalLease:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        del kind, error, traceback
        self.close()

    def close(self) -> None:
        """Let another process have the file; what was spent stays in it."""
        with self._mutex:
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    @property
    def spent(self) -> Decimal:
        """Return what was allowed so far."""
        with self._mutex:
            return from_scaled(sum(self._spends.values()), AMOUNT_DECIMALS)

    @property
    def left(self) -> Decimal:
        """Return what may still be allowed, were it not for the expiry."""
        with self._mutex:
            return from_scaled(self._amount - sum(self._spends.values()), AMOUNT_DECIMALS)

    def authorize(self, id: str, amount: Decimal | int | str) -> bool:
        """Tell whether a call may be made; once per id, the same answer for its repetition.

        A call that was allowed stays allowed, even after the lease's end. One that was not leaves
        no trace: the same id is answered anew.

        Args:
            id: the client's, 1 to 256 characters.
            amount: at most what the call will cost.

        Returns:
            False where less is left, the lease is over, or it has paid for `MAX_SPENDS` calls.

        Raises:
            InvalidInput: ``invalid_id``, ``invalid_amount``.
            Refused: ``lease_conflict`` if the id was allowed another amount; ``lease_closed``.
            Unavailable: ``lease_not_saved``: do not make the call; the same id may be asked again.
        """
        name = fields.name(id, "/id")
        asked = fields.money(amount, "/amount")
        with self._mutex:
            if self._lock is None:
                raise Refused("this lease is closed; open it again", code="lease_closed")
            known = self._spends.get(name)
            if known is not None:
                if known != asked:
                    raise Refused(
                        f"id {name!r} was allowed {scaled_text(known, AMOUNT_DECIMALS)}; give"
                        " another call another id",
                        code="lease_conflict",
                    )
                return True
            if (
                to_us(self._clock()) >= self._expires_us
                or len(self._spends) >= MAX_SPENDS
                or sum(self._spends.values()) + asked > self._amount
            ):
                return False
            spends = {**self._spends, name: asked}
            self._save(spends)
            self._spends = spends
            return True

    # -- the file ---------------------------------------------------------------------

    def _load(self) -> dict[str, int]:
        try:
            body = self._path.read_bytes()
        except FileNotFoundError:
            self._save({})
            return {}
        except OSError as error:
            raise _broken(self._path, str(error)) from error
        try:
            record = _decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _broken(self._path, str(error)) from None
        if (record.tenant, record.lease, record.token) != (
            self.token.tenant,
            self.token.lease,
            self._digest,
        ):
            raise Refused(
                f"{self._path} is of lease {record.lease!r} of {record.tenant!r}; give each token"
                " a file of its own",
                code="lease_mismatch",
            )
        spends = {}
        for name, amount in record.spends.items():
            try:
                spends[name] = fields.money(amount, "/amount")
            except LedgerError as error:
                raise _broken(self._path, error.message) from None
        return spends

    def _save(self, spends: dict[str, int]) -> None:
        """Write, sync, rename and sync the folder: after this a crash forgets nothing.

        Raises:
            Unavailable: ``lease_not_saved``.
        """
        record = _Record(
            lease=self.token.lease,
            spends={name: scaled_text(one, AMOUNT_DECIMALS) for name, one in spends.items()},
            tenant=self.token.tenant,
            token=self._digest,
        )
        draft = self._path.with_name(f"{self._path.name}.new")
        try:
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.encode(record))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise Unavailable(
                f"{self._path} cannot be written: {error}", code="lease_not_saved"
            ) from error


def _locked(path: Path) -> int:
    """Return the descriptor that holds the lock; of a file beside, for the other is replaced.

    Raises:
        Refused: ``lease_in_use``.
        Unavailable: ``lease_not_saved``.
    """
    beside = path.with_name(f"{path.name}.lock")
    try:
        handle = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(f"{beside} cannot be made: {error}", code="lease_not_saved") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise Refused(
            f"{path} is in use by another process; a lease has one gateway", code="lease_in_use"
        ) from error
    return handle


def _broken(path: Path, why: str) -> Unavailable:
    return Unavailable(
        f"{path} cannot be read, so what was spent is not known: {why}", code="lease_file_broken"
    )
