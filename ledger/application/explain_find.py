"""Finding the usage event that people mean: by id, receipt, request id, or a correction's id."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from ledger.application.reads import Located, Reads
from ledger.domain.entries import (
    ConflictKept,
    CorrectionApplied,
    Entry,
    UsageAdjusted,
    UsageRecorded,
    UsageRerated,
    UsageVoided,
)
from ledger.domain.errors import InvalidInput, NotFound
from ledger.domain.protection_entries import ChargeReversed, HoldCaptured
from ledger.domain.shapes import shape_from_body

MAX_CANDIDATES = 10
"""Most candidates that an ambiguous id lists."""
_RECEIPT = re.compile(r"(?P<tenant>.+):(?P<version>[1-9]\d{0,17})\.(?P<index>\d{1,9})", re.DOTALL)


Key = tuple[str, str, str]
"""Tenant, source and id of a usage event."""


class Candidate(msgspec.Struct, frozen=True, order=True):
    """A usage event that an id may mean.

    Attributes:
        tenant: whose.
        source: of its key.
        id: of its key.
        receipt: names this event alone.
    """

    tenant: str
    source: str
    id: str
    receipt: str = ""


class AmbiguousId(InvalidInput):
    """The id names more than one usage event.

    Args:
        id: what was asked for.
        candidates: what it may mean.
    """

    default_code = "ambiguous_id"

    def __init__(self, id: str, candidates: Sequence[Candidate]) -> None:
        named = "".join(
            f"\n  {one.receipt}  {one.id} of {one.source}" for one in candidates[:MAX_CANDIDATES]
        )
        more = len(candidates) - MAX_CANDIDATES
        if more > 0:
            named += f"\n  and {more} more"
        super().__init__(f"{id!r} names {len(candidates)} events; give a receipt:{named}")
        self.candidates = tuple(candidates)


def find_event(
    *, reads: Reads, event: str, tenant: str | None = None, source: str | None = None
) -> Located:
    """Return the entry of the usage event that is meant; see `explain` for the arguments.

    Raises:
        NotFound: ``unknown_event``, ``unknown_tenant``.
        AmbiguousId: ``ambiguous_id``.
    """
    by_receipt = _by_receipt(reads, event, tenant)
    if by_receipt is not None:
        return by_receipt
    if tenant is not None and source is not None:
        located = reads.locate(tenant=tenant, source=source, id=event)
        return _usage_of(reads, located)
    own: dict[Key, Located] = {}
    others: dict[Key, Located] = {}
    for located in reads.find_id(event, tenant=tenant):
        of, id = _target(reads, located)
        if source is None or of == source:
            # An event's own id means that event, though another's request may be called the same.
            (own if id == event else others)[located.tenant.tenant, of, id] = located
    meant = own or others
    if not meant:
        where = "" if tenant is None else f" in the ledger of {tenant!r}"
        raise NotFound(
            f"there is no event {event!r}{where}; give an id, a request id or a receipt"
            " such as acme:12.0",
            code="unknown_event",
        )
    if len(meant) > 1:
        raise AmbiguousId(event, [_candidate(reads, *key) for key in sorted(meant)])
    [located] = meant.values()
    return _usage_of(reads, located)


def _by_receipt(reads: Reads, event: str, tenant: str | None) -> Located | None:
    """Return the event of a receipt; None if this is none, for ids may look like receipts."""
    receipt = _RECEIPT.fullmatch(event)
    if receipt is None or (tenant is not None and receipt["tenant"] != tenant):
        return None
    try:
        located = reads.place(
            tenant=receipt["tenant"],
            version=int(receipt["version"]),
            index=int(receipt["index"]),
        )
    except NotFound:
        return None
    return _usage_of(reads, located)


def _usage_of(reads: Reads, located: Located) -> Located:
    """Return the usage event that an entry is, or is about."""
    if isinstance(entry_of(located), UsageRecorded):
        return located
    source, id = _target(reads, located)
    try:
        target = reads.locate(tenant=located.tenant.tenant, source=source, id=id)
    except NotFound:
        raise NotFound(
            f"entry {receipt_of(located)} is a correction of {id!r} of source {source!r}, which has"
            " not arrived; it takes effect when the event does",
            code="unknown_event",
        ) from None
    if not isinstance(entry_of(target), UsageRecorded):
        raise NotFound(
            f"entry {receipt_of(target)} is no usage event; only those can be explained",
            code="unknown_event",
        )
    return target


def _target(reads: Reads, located: Located) -> tuple[str, str]:
    """Return source and id of the usage event that an entry is about."""
    entry = entry_of(located)
    if isinstance(entry, UsageRecorded):
        shape = shape_from_body(reads.shapes(located.tenant.tenant)[entry.shape])
        return shape.shape.source, entry.id
    if isinstance(entry, UsageVoided | UsageAdjusted | UsageRerated | CorrectionApplied):
        return entry.target_source, entry.target_id
    if isinstance(entry, ChargeReversed):
        return entry.target_source, entry.target_id
    if isinstance(entry, HoldCaptured) and entry.usage[0]:
        return entry.usage
    if isinstance(entry, ConflictKept):
        holder = reads.place(tenant=located.tenant.tenant, version=entry.version, index=entry.index)
        return _target(reads, holder)
    raise NotFound(
        f"entry {receipt_of(located)} is no usage event; only those can be explained",
        code="unknown_event",
    )


def _candidate(reads: Reads, tenant: str, source: str, id: str) -> Candidate:
    try:
        located = reads.locate(tenant=tenant, source=source, id=id)
    except NotFound:
        return Candidate(tenant, source, id, f"{tenant}:-")
    return Candidate(tenant, source, id, receipt_of(located))


def entry_of(located: Located) -> Entry:
    """Return the entry that was located."""
    return located.commit.entries[located.index]


def receipt_of(located: Located) -> str:
    """Return an entry's receipt, ``<tenant>:<version>.<index>``."""
    return f"{located.tenant.tenant}:{located.version}.{located.index}"
