"""A tenant's entries as documents, newest first, and what became of each event.

A line of usage shows what was recorded; a correction's line shows what it changed, so that the
lines of all entries add up to the balance.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import islice
from typing import Any

import msgspec

from ledger.application.documents.encoding import to_plain
from ledger.application.ports import TenantRow
from ledger.application.reads import Reads
from ledger.domain.entries import (
    Commit,
    ConflictKept,
    CorrectionApplied,
    Entry,
    Posting,
    UsageAdjusted,
    UsageRecorded,
    UsageRerated,
    UsageVoided,
)
from ledger.domain.errors import InvalidInput
from ledger.domain.ledger import Ref, standing_posting
from ledger.domain.money import AMOUNT_DECIMALS, from_scaled
from ledger.domain.periods import from_us
from ledger.domain.protection_entries import ChargeReversed
from ledger.domain.shapes import CompiledShape, shape_from_body

MAX_LIMIT = 1000
"""Most lines of one answer; the cursor leads to the next ones."""
UNPRICED_LIMIT = 100_000
"""Most unpriced events that one listing considers, the oldest."""
_PAGE_COMMITS = 20
_KINDS: dict[type, str] = {
    UsageRecorded: "usage",
    UsageVoided: "void",
    UsageAdjusted: "adjust",
    UsageRerated: "rerate",
    CorrectionApplied: "applied",
    ConflictKept: "conflict",
    ChargeReversed: "reversal",
}
_CHANGES = {
    "void": "voided",
    "adjust": "adjusted",
    "rerate": "rerated",
    "conflict": "contested",
    "reversal": "reversed",
}
_ABOUT_USAGE = UsageVoided | UsageAdjusted | UsageRerated | CorrectionApplied | ChargeReversed
_Amounts = dict[str, Decimal]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One entry as it is listed.

    Attributes:
        ref: ``<tenant>:<version>.<index>``, the receipt.
        kind: ``usage``, ``void``, ``adjust``, ``rerate``, ``applied`` (a correction that had come
            before its event), ``conflict`` or ``reversal`` (of part of a charge).
        source: of the entry's key; of the event's where the entry has no key of its own.
        id: likewise.
        target: source and id of the event that a correction is about.
        time: when the usage occurred, UTC; None where nothing is posted.
        recorded_at: when the entry was recorded, UTC.
        request_id: the provider's.
        quantities: by meter; of a correction, the change.
        charge: unrounded; of a correction, the change.
        costs: unrounded, by currency; likewise.
        flags: ``unpriced``, ``time_defaulted``, ``no_effect`` (a correction that changed nothing
            when it came), and on usage what became of it: ``voided``, ``adjusted``, ``rerated``,
            ``contested``, ``reversed``.
        corrections: refs of the entries that are about this usage.
    """

    ref: str
    kind: str
    source: str
    id: str
    target: dict[str, str] | None = None
    time: str | None = None
    recorded_at: str
    provider: str = ""
    model: str = ""
    outcome: str = ""
    request_id: str = ""
    user: str = ""
    project: str = ""
    quantities: _Amounts = {}
    charge: Decimal = Decimal(0)
    costs: _Amounts = {}
    flags: list[str] = []
    corrections: list[str] = []


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which lines are listed; all conditions hold.

    Attributes:
        id: of the event, the correction, its target or the provider's request.
        outcome: of the usage.
        model: as the response said.
        conflicts: only conflicts.
        unpriced: only usage that stands without a price.
    """

    id: str | None = None
    outcome: str | None = None
    model: str | None = None
    conflicts: bool = False
    unpriced: bool = False

    def takes(self, line: Line) -> bool:
        """Return whether a line meets the conditions that the line itself answers."""
        return (
            (self.outcome is None or line.outcome == self.outcome)
            and (self.model is None or line.model == self.model)
            and (not self.conflicts or line.kind == "conflict")
            and (not self.unpriced or line.kind == "usage")
        )


def read_cursor(given: str | None) -> Ref | None:
    """Return a cursor's place; a whole receipt is taken too.

    Raises:
        InvalidInput: ``invalid_cursor``.
    """
    if given is None:
        return None
    match = re.fullmatch(r"(\d{1,18})\.(\d{1,9})", given.rpartition(":")[2])
    if match is None:
        raise InvalidInput(
            f"{given[:64]!r} is no cursor; give <version>.<index> as the answer before did",
            code="invalid_cursor",
        )
    return int(match[1]), int(match[2])


class Listing:
    """Lines of one tenant.

    Args:
        reads: where entries are.
        tenant: whose.
    """

    def __init__(self, reads: Reads, tenant: TenantRow) -> None:
        self._reads = reads
        self._tenant = tenant
        self._shapes: list[CompiledShape] | None = None
        self._cut = False

    @property
    def cut(self) -> bool:
        """Whether only the oldest `UNPRICED_LIMIT` unpriced events were considered."""
        return self._cut

    def page(
        self, wanted: Filter, *, before: Ref | None, limit: int
    ) -> tuple[list[Line], str | None]:
        """Return up to ``limit`` wanted lines, and the cursor of older ones if there are any."""
        found = list(islice(self.lines(wanted, before=before), limit + 1))
        lines = found[:limit]
        return lines, lines[-1].ref.rpartition(":")[2] if len(found) > limit else None

    def lines(self, wanted: Filter, *, before: Ref | None) -> Iterator[Line]:
        """Yield the lines that are wanted, newest first, below a place."""
        if wanted.conflicts and not self._tenant.conflicts:
            return
        entries = self._entries_of_id(wanted.id) if wanted.id else self._entries(before)
        is_unpriced = self._unpriced() if wanted.unpriced else None
        left = None if is_unpriced is None else len(is_unpriced)
        for version, index, commit in entries:
            entry = commit.entries[index]
            if left == 0:
                return
            if type(entry) not in _KINDS or (before is not None and (version, index) >= before):
                continue
            if is_unpriced is not None:
                if type(entry) is not UsageRecorded or self._key(entry) not in is_unpriced:
                    continue
                left = left - 1 if left else left
            line = self._line(entry, (version, index), commit)
            if wanted.takes(line):
                yield self._with_history(line)

    def _entries(self, before: Ref | None) -> Iterator[tuple[int, int, Commit]]:
        below = None if before is None else before[0] + 1
        while True:
            page = self._reads.commits(
                tenant=self._tenant.tenant, before=below, limit=_PAGE_COMMITS
            )
            for version, commit in page:
                for index in reversed(range(len(commit.entries))):
                    yield version, index, commit
            if len(page) < _PAGE_COMMITS:
                return
            below = page[-1][0]

    def _entries_of_id(self, id: str) -> Iterator[tuple[int, int, Commit]]:
        """Yield the entries with an id and all entries about these events, newest first."""
        name = self._tenant.tenant
        found: dict[Ref, Commit] = {}
        for located in self._reads.find_id(id, tenant=name):
            found[located.version, located.index] = located.commit
            entry = located.commit.entries[located.index]
            keys = [key for key in (self._key(entry), _target(entry)) if key is not None]
            for source, target_id in keys:
                for about in self._reads.history(tenant=name, source=source, id=target_id):
                    found[about.version, about.index] = about.commit
        for version, index in sorted(found, reverse=True):
            yield version, index, found[version, index]

    def _unpriced(self) -> set[tuple[str, str]]:
        rows = self._reads.unpriced(tenant=self._tenant.tenant, limit=UNPRICED_LIMIT)
        self._cut = len(rows) == UNPRICED_LIMIT
        return {(usage.source, usage.id) for _, usage in rows}

    def _shape(self, number: int) -> CompiledShape:
        if self._shapes is None or number >= len(self._shapes):
            bodies = self._reads.shapes(self._tenant.tenant)
            self._shapes = [shape_from_body(body) for body in bodies]
        return self._shapes[number]

    def _key(self, entry: Entry) -> tuple[str, str] | None:
        if isinstance(entry, UsageRecorded):
            return self._shape(entry.shape).shape.source, entry.id
        if isinstance(entry, UsageVoided | UsageAdjusted | ConflictKept):
            return entry.source, entry.id
        return _target(entry)

    def _ref(self, ref: Ref) -> str:
        return f"{self._tenant.tenant}:{ref[0]}.{ref[1]}"

    def _line(self, entry: Entry, ref: Ref, commit: Commit) -> Line:
        source, id = self._key(entry) or ("", "")
        target = _target(entry)
        kind = _KINDS[type(entry)]
        sides = _sides(entry)
        quantities: _Amounts = {}
        costs: _Amounts = {}
        charge = Decimal(0)
        for sign, posting in sides:
            shape = self._shape(posting.shape)
            for meter, count in zip(shape.shape.meters, posting.quantities, strict=True):
                change = from_scaled(sign * count, shape.shape.decimals)
                quantities[meter] = quantities.get(meter, Decimal(0)) + change
            if not shape.unpriced:
                charge += from_scaled(sign * posting.charge, shape.charge_decimals)
                if posting.cost:
                    cost = from_scaled(sign * posting.cost, shape.cost_decimals)
                    name = shape.cost_currency
                    costs[name] = costs.get(name, Decimal(0)) + cost
        last: Posting | ChargeReversed | None = sides[-1][1] if sides else None
        if isinstance(entry, ChargeReversed):
            charge = from_scaled(-entry.amount, AMOUNT_DECIMALS)
            last = entry
        was = self._shape(last.shape).shape if last is not None else None
        extra = last.extra if last is not None else None
        return Line(
            ref=self._ref(ref),
            kind=kind,
            source=source,
            id=id,
            target=None if target is None else {"source": target[0], "id": target[1]},
            time=None if last is None else from_us(last.occurred_at).isoformat(),
            recorded_at=from_us(commit.recorded_at).isoformat(),
            provider=was.provider if was else "",
            model=was.model if was else "",
            outcome=was.outcome if was else "",
            request_id=extra.request_id if extra else "",
            user=extra.user if extra else "",
            project=extra.project if extra else "",
            quantities=quantities,
            charge=charge,
            costs=costs,
            flags=self._flags(entry),
        )

    def _flags(self, entry: Entry) -> list[str]:
        flags = []
        if isinstance(entry, UsageVoided | UsageAdjusted) and entry.reversed is None:
            flags.append("no_effect")
        posts = not isinstance(entry, ConflictKept | ChargeReversed)
        stands = standing_posting(entry) if posts else None
        if stands is not None and self._shape(stands.shape).unpriced:
            flags.append("unpriced")
        if isinstance(entry, UsageRecorded) and entry.extra and entry.extra.time_defaulted:
            flags.append("time_defaulted")
        return flags

    def _with_history(self, line: Line) -> Line:
        """Return a line of usage with what became of it."""
        if line.kind != "usage":
            return line
        flags = list(line.flags)
        refs = []
        for located in self._reads.history(
            tenant=self._tenant.tenant, source=line.source, id=line.id
        ):
            entry = located.commit.entries[located.index]
            ref = self._ref((located.version, located.index))
            if ref == line.ref:
                continue
            refs.append(ref)
            flag = _CHANGES.get(_KINDS[type(entry)], "")
            if flag and flag not in flags:
                flags.append(flag)
        return msgspec.structs.replace(line, flags=flags, corrections=refs)


def _target(entry: Entry) -> tuple[str, str] | None:
    if isinstance(entry, _ABOUT_USAGE):
        return entry.target_source, entry.target_id
    return None


def _sides(entry: Entry) -> list[tuple[int, Posting]]:
    """Return what an entry takes back and what it posts, with signs."""
    if isinstance(entry, UsageRecorded):
        posting = standing_posting(entry)
        return [(1, posting)] if posting is not None else []
    if isinstance(entry, UsageVoided):
        return [(-1, entry.reversed)] if entry.reversed is not None else []
    if isinstance(entry, UsageAdjusted | UsageRerated | CorrectionApplied):
        both = ((-1, entry.reversed), (1, entry.posted))
        return [(sign, posting) for sign, posting in both if posting is not None]
    return []


def events_document(tenant: TenantRow, lines: Sequence[Line], after: str | None) -> dict[str, Any]:
    """Return lines of one tenant; ``after`` is the cursor of older ones."""
    return {
        "tenant": tenant.tenant,
        "currency": tenant.currency,
        "timezone": tenant.timezone,
        "events": [to_plain(line) for line in lines],
        "next": after,
    }
