"""Entries: what a tenant's ledger is made of, and the commit that stores a batch of them.

One stored event is one commit: all entries of one tenant that one database commit wrote. The
codec is MessagePack arrays, each entry tagged with a small number that is never reused; members
are only ever appended to an entry, with a default, so old commits stay readable.

Amounts and quantities are integers; the entry's shape says their decimals.
"""

from __future__ import annotations

from hashlib import sha256

import msgspec

from ledger.domain.entry_parts import Extra
from ledger.domain.errors import InvariantViolation
from ledger.domain.protection_entries import ProtectionEntry
from ledger.domain.wide import narrowed, widened

COMMIT_TOPIC = "tb.commit:1"
"""Topic of a stored commit; a new form gets a new number and an upcast."""
STREAM_PREFIX = "ledger-"
GENESIS = b""
"""What the first commit of a ledger carries as the digest before it."""


class LedgerOpened(msgspec.Struct, gc=False, frozen=True, array_like=True, tag=0):
    """A tenant's ledger begins.

    Attributes:
        tenant: the tenant's name.
        currency: of every charge in this ledger.
        timezone: in which its days and months begin.
        book: sell price book.
    """

    tenant: str
    currency: str
    timezone: str
    book: str


class ShapeDefined(msgspec.Struct, gc=False, frozen=True, array_like=True, tag=1):
    """A shape gets its number: the count of those before it."""

    number: int
    body: bytes


class UsageRecorded(msgspec.Struct, gc=False, frozen=True, array_like=True, tag=2):
    """Usage happened.

    Attributes:
        id: the producer's idempotency key.
        occurred_at: microseconds since the epoch.
        shape: number of the shape.
        quantities: in the order of the shape's meters.
        charge: what the tenant is charged.
        cost: what the provider charges us.
        extra: the rest, or None.
    """

    id: str
    occurred_at: int
    shape: int
    quantities: tuple[int, ...]
    charge: int
    cost: int
    extra: Extra | None


class Posting(msgspec.Struct, gc=False, frozen=True, array_like=True):
    """The countable part of a usage event, as it stands or stood.

    Attributes:
        shape: number of the shape.
        occurred_at: microseconds since the epoch; says the period.
        quantities: in the order of the shape's meters.
        charge: unrounded.
        cost: unrounded.
        extra: attribution that rollups need, and amounts by leaf.
    """

    shape: int
    occurred_at: int
    quantities: tuple[int, ...]
    charge: int
    cost: int
    extra: Extra | None


class UsageVoided(msgspec.Struct, gc=False, frozen=True, array_like=True, tag=3):
    """A usage event was taken back.

    Attributes:
        source: who sent the correction.
        id: its idempotency key.
        target_source: source of the event.
        target_id: id of the event.
        reason: for people.
        reversed: what stood until now; None while the event has not arrived.
    """

    source: str
    id: str
    target_source: str
    target_id: str
    reason: str
    reversed: Posting | None


class UsageAdjusted(msgspec.Struct, gc=False, frozen=True, array_like=True, tag=4):
    """A usage event's quantities were replaced; both postings None while it has no effect yet.

    Attributes:
        meters: meters of the replacement, in order.
        quantities: the replacement, x 10^6.
        reversed: what stood until now.
        posted: what stands from now on.
    """

    source: str
    id: str
    target_source: str
    target_id: str
    reason: str
    meters: tuple[str, ...]
    quantities: tuple[int, ...]
    reversed: Posting | None
    posted: Posting | None


class UsageRerated(msgspec.Struct, gc=False, frozen=True, array_like=True, tag=5):
    """A usage event was rated with other prices: an approved one at last, or a corrected one.

    Attributes:
        target_source: source of the event.
        target_id: id of the event.
        reason: ``price_approved``, ``price_changed``, ``plan_changed``, ``captured``.
        reversed: what stood until now.
        posted: what stands from now on.
    """

    target_source: str
    target_id: str
    reason: str
    reversed: Posting
    posted: Posting


class CorrectionApplied(msgspec.Struct, gc=False, frozen=True, array_like=True, tag=6):
    """A correction that came before its event takes effect, now that the event is here.

    Attributes:
        correction_version: commit that holds the correction.
        correction_index: its place there.
        reversed: what stood until now.
        posted: what stands from now on; None for a void.
    """

    target_source: str
    target_id: str
    correction_version: int
    correction_index: int
    reversed: Posting
    posted: Posting | None


class ConflictKept(msgspec.Struct, gc=False, frozen=True, array_like=True, tag=7):
    """The same key came with another payload; kept as evidence, nothing is charged.

    Attributes:
        source: of the key.
        id: of the key.
        fingerprint: of the payload that was refused.
        payload: canonical form of the payload that was refused.
        version: commit of the entry that holds the key.
        index: its place there.
    """

    source: str
    id: str
    fingerprint: bytes
    payload: bytes
    version: int
    index: int


Entry = (
    LedgerOpened
    | ShapeDefined
    | UsageRecorded
    | UsageVoided
    | UsageAdjusted
    | UsageRerated
    | CorrectionApplied
    | ConflictKept
    | ProtectionEntry
)


class Commit(msgspec.Struct, gc=False, frozen=True, array_like=True):
    """The entries that one database commit added to one ledger.

    Attributes:
        before: digest of the commit before; empty in the first.
        recorded_at: database time, microseconds since the epoch.
        entries: in order.
    """

    before: bytes
    recorded_at: int
    entries: tuple[Entry, ...]


class CommitParts(msgspec.Struct, frozen=True, array_like=True):
    """A commit to be encoded; the same wire form as `Commit`, entries as a list."""

    before: bytes
    recorded_at: int
    entries: list[Entry]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Commit)


def encode_commit(before: bytes, recorded_at: int, entries: list[Entry]) -> bytes:
    """Return the stored form of a commit."""
    parts = CommitParts(before, recorded_at, entries)
    try:
        return _encoder.encode(parts)
    except OverflowError:
        return _encoder.encode(widened(msgspec.to_builtins(parts, builtin_types=(bytes,))))


def decode_commit(state: bytes) -> Commit:
    """Return the commit of a stored form.

    Raises:
        InvariantViolation: the bytes are no commit: the log was changed or is newer than this code.
    """
    try:
        return _decoder.decode(state)
    except msgspec.ValidationError:
        return _decode_wide(state)
    except msgspec.DecodeError as error:
        raise _unreadable(error) from error


_wide_decoder = msgspec.msgpack.Decoder(ext_hook=narrowed)


def _decode_wide(state: bytes) -> Commit:
    try:
        return msgspec.convert(_wide_decoder.decode(state), Commit)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> InvariantViolation:
    return InvariantViolation(f"a stored commit cannot be read: {error}")


def commit_digest(stream: str, version: int, state: bytes) -> bytes:
    """Return the SHA-256 digest of a commit: of its stream, its number and its stored form.

    The stored form holds the digest before it, so one digest stands for the whole stream.
    """
    return sha256(b"%b %d\n%b" % (stream.encode(), version, state)).digest()


def stream_of(tenant_id: int) -> str:
    """Return the stream id of a tenant's ledger."""
    return f"{STREAM_PREFIX}{tenant_id}"


def tenant_of_stream(stream: str, *, prefix: str = STREAM_PREFIX) -> int | None:
    """Return the tenant number of a ledger's stream id, None for other streams.

    Args:
        stream: its id.
        prefix: of other streams that are numbered by tenant.
    """
    number = stream.removeprefix(prefix)
    return int(number) if number != stream and number.isdigit() else None
