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
from ledger.application.reads import Located, Reads
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
from ledger.domain.entry_parts import Extra
from ledger.domain.errors import InvalidInput
from ledger.domain.ledger import Ref, standing_posting
from ledger.domain.money import AMOUNT_DECIMALS, from_scaled
from ledger.domain.periods import from_us
from ledger.domain.protection_entries import ChargeReversed
from ledger.domain.shapes import CompiledShape, Shape, shape_from_body

MAX_LIMIT = 1000
"""Most lines of one answer; the cursor leads to the next ones."""
MAX_SCANNED = 50_000
"""Most entries that an interface looks at for one answer where somebody waits for it."""
UNPRICED_LIMIT = 100_000
"""Most unpriced events that one listing considers, the oldest."""
_PAGE_COMMITS = 20
_HISTORIES = 100
"""Lines of usage whose history is asked for in one go."""
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
_NO_EXTRA = Extra()


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
        session: opaque id.
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
    session: str = ""
    quantities: _Amounts = {}
    charge: Decimal = Decimal(0)
    costs: _Amounts = {}
    flags: list[str] = []
    corrections: list[str] = []


class Said(msgspec.Struct, frozen=True):
    """What an entry's usage says: what many have in common, the rest, and when it was."""

    shape: Shape
    extra: Extra | None
    occurred_at: int


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which lines are listed; all conditions hold.

    Attributes:
        id: of the event, the correction, its target or the provider's request.
        outcome: of the usage.
        model: as the response said.
        meter: that the usage has.
        session: of the usage.
        request_id: the provider's.
        start: earliest time of the usage, microseconds since the epoch; of an entry that posts
            nothing the time of recording.
        end: time from which on it is no longer listed.
        conflicts: only conflicts.
        unpriced: only usage that stands without a price.
    """

    id: str | None = None
    outcome: str | None = None
    model: str | None = None
    meter: str | None = None
    session: str | None = None
    request_id: str | None = None
    start: int | None = None
    end: int | None = None
    conflicts: bool = False
    unpriced: bool = False

    @property
    def about_usage(self) -> bool:
        """Whether there is a condition that only what posts usage can meet."""
        conditions = (self.outcome, self.model, self.meter, self.session, self.request_id)
        return any(one is not None for one in conditions)

    def takes(self, said: Said | None, kind: str, recorded_at: int) -> bool:
        """Return whether an entry meets the conditions that it answers itself.

        Args:
            said: by the usage that it posts or changes; None where there is none.
            kind: of the entry.
            recorded_at: microseconds since the epoch.
        """
        at = recorded_at if said is None else said.occurred_at
        if (self.start is not None and at < self.start) or (
            self.end is not None and at >= self.end
        ):
            return False
        if (self.conflicts and kind != "conflict") or (self.unpriced and kind != "usage"):
            return False
        if not self.about_usage:
            return True
        if said is None:
            return False
        extra = said.extra or _NO_EXTRA
        return (
            (self.outcome is None or said.shape.outcome == self.outcome)
            and (self.model is None or said.shape.model == self.model)
            and (self.meter is None or self.meter in said.shape.meters)
            and (self.session is None or extra.session == self.session)
            and (self.request_id is None or extra.request_id == self.request_id)
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
        self._stopped: Ref | None = None

    @property
    def cut(self) -> bool:
        """Whether only the oldest `UNPRICED_LIMIT` unpriced events were considered."""
        return self._cut

    def page(
        self,
        wanted: Filter,
        *,
        before: Ref | None,
        limit: int,
        until: int | None = None,
        most: int | None = None,
    ) -> tuple[list[Line], str | None]:
        """Return up to ``limit`` wanted lines, and the cursor of older ones if there may be any.

        Args:
            wanted: which lines.
            before: place below which they are.
            limit: most lines.
            until: last commit whose entries are told of as what became of usage; None for all.
            most: entries to look at; the page then ends early, and its cursor goes on from there.
        """
        self._stopped = None
        found = list(islice(self._lines(wanted, before=before, most=most), limit + 1))
        lines = self._with_history(found[:limit], until)
        if len(found) > limit:
            return lines, lines[-1].ref.rpartition(":")[2]
        stopped = self._stopped
        return lines, None if stopped is None else f"{stopped[0]}.{stopped[1]}"

    def line(self, located: Located) -> Line | None:
        """Return an entry as it is listed; None for one of a kind that is not."""
        entry = located.commit.entries[located.index]
        if type(entry) not in _KINDS:
            return None
        ref = (located.version, located.index)
        return self._with_history([self._line(entry, ref, located.commit)], None)[0]

    def lines(self, wanted: Filter, *, before: Ref | None) -> Iterator[Line]:
        """Yield the lines that are wanted, newest first, below a place."""
        found = self._lines(wanted, before=before)
        while some := list(islice(found, _HISTORIES)):
            yield from self._with_history(some, None)

    def _lines(
        self, wanted: Filter, *, before: Ref | None, most: int | None = None
    ) -> Iterator[Line]:
        if wanted.conflicts and not self._tenant.conflicts:
            return
        id = wanted.id if wanted.id is not None else wanted.request_id
        entries = self._entries(before) if id is None else self._entries_of_id(id)
        is_unpriced = self._unpriced() if wanted.unpriced else None
        left = None if is_unpriced is None else len(is_unpriced)
        seen = 0
        for version, index, commit in entries:
            if left == 0:
                return
            if before is not None and (version, index) >= before:
                continue
            if seen == most:
                # Everything down to the entry before this one was looked at.
                self._stopped = (version, index + 1)
                return
            seen += 1
            entry = commit.entries[index]
            kind = _KINDS.get(type(entry))
            if kind is None:
                continue
            if is_unpriced is not None:
                if type(entry) is not UsageRecorded or self._key(entry) not in is_unpriced:
                    continue
                left = left - 1 if left else left
            if wanted.takes(self.said(entry), kind, commit.recorded_at):
                yield self._line(entry, (version, index), commit)

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
        if isinstance(entry, ChargeReversed):
            charge = from_scaled(-entry.amount, AMOUNT_DECIMALS)
        said = self.said(entry)
        was = said.shape if said is not None else None
        extra = said.extra if said is not None else None
        return Line(
            ref=self._ref(ref),
            kind=kind,
            source=source,
            id=id,
            target=None if target is None else {"source": target[0], "id": target[1]},
            time=None if said is None else from_us(said.occurred_at).isoformat(),
            recorded_at=from_us(commit.recorded_at).isoformat(),
            provider=was.provider if was else "",
            model=was.model if was else "",
            outcome=was.outcome if was else "",
            request_id=extra.request_id if extra else "",
            user=extra.user if extra else "",
            project=extra.project if extra else "",
            session=extra.session if extra else "",
            quantities=quantities,
            charge=charge,
            costs=costs,
            flags=self._flags(entry),
        )

    def said(self, entry: Entry) -> Said | None:
        """Return what the usage says that an entry posts or changes; None where there is none."""
        last: Posting | UsageRecorded | ChargeReversed | None = None
        if isinstance(entry, UsageRecorded | ChargeReversed):
            last = entry
        elif isinstance(entry, UsageVoided):
            last = entry.reversed
        elif isinstance(entry, UsageAdjusted | UsageRerated | CorrectionApplied):
            last = entry.posted or entry.reversed
        if last is None:
            return None
        return Said(self._shape(last.shape).shape, last.extra, last.occurred_at)

    def _flags(self, entry: Entry) -> list[str]:
        flags = []
        if isinstance(entry, UsageVoided | UsageAdjusted) and entry.reversed is None:
            flags.append("no_effect")
        posts = not isinstance(entry, ConflictKept | ChargeReversed)
        stands = standing_posting(entry) if posts else None
        if stands is not None and self._shape(stands.shape).waits:
            flags.append("unpriced" if self._shape(stands.shape).unpriced else "uncosted")
        if isinstance(entry, UsageRecorded) and entry.extra and entry.extra.time_defaulted:
            flags.append("time_defaulted")
        return flags

    def _with_history(self, lines: Sequence[Line], until: int | None) -> list[Line]:
        """Return lines, those of usage with what became of it."""
        usage = [(line.source, line.id) for line in lines if line.kind == "usage"]
        if not usage:
            return list(lines)
        histories = self._reads.histories(tenant=self._tenant.tenant, events=usage)
        return [
            line
            if line.kind != "usage"
            else self._told(line, histories.get((line.source, line.id), ()), until)
            for line in lines
        ]

    def _told(self, line: Line, history: Sequence[Located], until: int | None) -> Line:
        flags = list(line.flags)
        refs = []
        for located in history:
            ref = self._ref((located.version, located.index))
            if ref == line.ref or (until is not None and located.version > until):
                continue
            refs.append(ref)
            flag = _CHANGES.get(_KINDS[type(located.commit.entries[located.index])], "")
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
