"""Price rows along time: what is new in a source's list, who contradicts whom, what sells for what.

Of the rows of one key each holds from its date to the next row's. Approved rows form one line;
a source's own rows, proposed or approved, form a line of their own. Everything here is pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

import msgspec

from ledger.domain.money import (
    EXACT,
    RATE_DECIMALS,
    RoundingMode,
    decimals_of,
    plain,
    round_to,
    text,
)
from ledger.domain.price_book import MANUAL, MARKUP, PriceBook
from ledger.domain.price_records import Markup, Ref, RetireReason, Standing, Terms, terms_of
from ledger.domain.prices import PriceKey, PriceRow, PriceStatus

_HUNDRED = Decimal(100)


class Span(NamedTuple):
    """A row's time on a line: ``[start, end)``, without end if that is None."""

    start: datetime
    end: datetime | None
    standing: Standing


class News(msgspec.Struct, frozen=True):
    """What a source's list says that its book does not have yet.

    Attributes:
        rows: to be proposed.
        replaced: proposed rows of the source that the list says otherwise, or no more.
        known: rows of the list that are proposed or in force as they are.
        decided: rows of the list that a person decided against before.
        gone: approved rows of the source that its list has no more; a person may retire them.
    """

    rows: tuple[PriceRow, ...]
    replaced: tuple[Ref, ...]
    known: int
    decided: int
    gone: tuple[Ref, ...]


def by_key(standings: Iterable[Standing]) -> dict[PriceKey, list[Standing]]:
    """Return rows that are not retired by key."""
    found: dict[PriceKey, list[Standing]] = {}
    for standing in standings:
        if standing.status is not PriceStatus.RETIRED:
            found.setdefault(standing.row.key, []).append(standing)
    return found


def line(standings: Iterable[Standing]) -> list[Span]:
    """Return rows as a line; of two with one date the later proposed holds."""
    ordered = sorted(standings, key=lambda one: (one.row.effective_from, one.ref))
    starts = [one.row.effective_from for one in ordered]
    ends = [*starts[1:], None]
    return [
        Span(one.row.effective_from, end, one)
        for one, end in zip(ordered, ends, strict=bool(ordered))
        if one.row.effective_from != end
    ]


def _overlap(one: Span, other: Span) -> bool:
    return (other.end is None or one.start < other.end) and (
        one.end is None or other.start < one.end
    )


def _covers(spans: Sequence[Span], start: datetime, end: datetime | None, terms: Terms) -> bool:
    """Tell whether a line has these terms all the time from ``start`` to ``end``."""
    at = start
    for span in spans:
        if span.end is not None and span.end <= at:
            continue
        if span.start > at or span.standing.terms != terms:
            return False
        if span.end is None or (end is not None and span.end >= end):
            return True
        at = span.end
    return False


def news(book: PriceBook, rows: Iterable[PriceRow], *, source: str, complete: bool) -> News:
    """Compare a source's list with its book.

    Args:
        book: the provider's costs.
        rows: the list's rows of that provider.
        source: who says so.
        complete: whether the list is all that the source says, its history included; else it
            adds to what the source said before.
    """
    listed: dict[PriceKey, list[PriceRow]] = {}
    for row in rows:
        listed.setdefault(row.key, []).append(row)
    live = by_key(book.rows.values())
    fresh: list[PriceRow] = []
    replaced: list[Ref] = []
    gone: list[Ref] = []
    known = decided = 0
    for key in {**listed, **live}:
        here = live.get(key, [])
        mine = [one for one in here if one.row.source == source]
        says = sorted(listed.get(key, ()), key=lambda row: row.effective_from)
        dates = {row.effective_from for row in says}
        if complete:
            for one in mine:
                if one.row.effective_from not in dates:
                    (gone if one.status is PriceStatus.APPROVED else replaced).append(one.ref)
        elif mine:
            dates.update(one.row.effective_from for one in mine)
        lines = _lines(here, without=source if complete else None) if here else []
        open_rows = {
            one.row.effective_from: one for one in mine if one.status is PriceStatus.PROPOSED
        }
        ends = sorted(dates)
        for row in says:
            terms = terms_of(row)
            start = row.effective_from
            same = open_rows.get(start)
            if same is not None and same.terms == terms:
                known += 1
                continue
            in_force = book.approved.get((key, start))
            if in_force is not None and in_force.terms == terms:
                known += 1
            elif book.was_decided_against(row, whenever=not complete):
                decided += 1
            elif any(_covers(one, start, _next(ends, start), terms) for one in lines):
                known += 1
            else:
                fresh.append(row)
            if same is not None:
                replaced.append(same.ref)
    return News(tuple(fresh), tuple(replaced), known, decided, tuple(gone))


def _next(dates: Sequence[datetime], after: datetime) -> datetime | None:
    return next((date for date in dates if date > after), None)


def _lines(standings: Sequence[Standing], *, without: str | None) -> list[list[Span]]:
    """Return the approved line, and each source's own that has proposals, but for one source's."""
    sources = {one.row.source for one in standings if one.status is PriceStatus.PROPOSED}
    return [
        line(one for one in standings if one.status is PriceStatus.APPROVED),
        *(
            line(one for one in standings if one.row.source == source)
            for source in sorted(sources - {without})
        ),
    ]


def contradictions(book: PriceBook) -> dict[Ref, tuple[Standing, ...]]:
    """Return the proposed rows that another source contradicts, with the rows that do so.

    Two rows of one key contradict each other if they would hold at the same time with another
    unit rate, currency or quantity rule. A proposal is compared with the approved rows of other
    sources and with what other sources propose.
    """
    found: dict[Ref, tuple[Standing, ...]] = {}
    open_keys = {one.row.key for one in book.rows.values() if one.status is PriceStatus.PROPOSED}
    for key, here in by_key(book.rows.values()).items():
        if key not in open_keys or len({one.row.source for one in here}) < 2:
            continue
        approved = line(one for one in here if one.status is PriceStatus.APPROVED)
        lines = {
            source: line(one for one in here if one.row.source == source)
            for source in sorted({one.row.source for one in here})
        }
        proposed = [
            span
            for spans in lines.values()
            for span in spans
            if span.standing.status is PriceStatus.PROPOSED
        ]
        for span in proposed:
            rivals = tuple(
                other.standing
                for other in (*approved, *proposed)
                if other.standing.row.source != span.standing.row.source
                and other.standing.terms != span.standing.terms
                and _overlap(span, other)
            )
            if rivals:
                found[span.standing.ref] = rivals
    return found


def percent_at(markups: Iterable[Markup], at: datetime) -> Decimal:
    """Return the mark-up in percent that holds at an instant; 0 before any was set."""
    percent, since = Decimal(0), None
    for markup in markups:
        if markup.effective_from <= at and (since is None or markup.effective_from >= since):
            percent, since = markup.percent, markup.effective_from
    return percent


def marked_up(row: PriceRow, *, version: str, percent: Decimal, start: datetime) -> PriceRow:
    """Return the sell row that a cost row and a mark-up give, from an instant on.

    The unit rate is cost x (1 + percent / 100). One that needs more than 12 decimals is rounded
    half-even to 12, and the note says so.
    """
    note = f"cost {version} + {text(percent)} %"
    rate = row.rate
    if percent:
        unit = EXACT.multiply(row.unit_rate(), EXACT.divide(_HUNDRED + percent, _HUNDRED))
        if decimals_of(unit) > RATE_DECIMALS:
            exact = unit
            unit = round_to(unit, RATE_DECIMALS, RoundingMode.HALF_EVEN)
            note += f"; {text(exact)} a unit, rounded half-even to {RATE_DECIMALS} decimals"
        rate = plain(EXACT.multiply(unit, row.unit_size))
    return msgspec.structs.replace(
        row, effective_from=start, rate=rate, source=MARKUP, source_digest="", note=note
    )


def sell_rows(
    costs: Sequence[Span], markups: Sequence[Markup], *, manual: Iterable[datetime], book: PriceBook
) -> dict[datetime, PriceRow]:
    """Return what the mark-ups of a sell book make of one key's costs, by date.

    There is a row from each cost row's date and from each mark-up's date on; none from the date
    of a manual sell row on, since that holds until it is retired.

    Args:
        costs: the key's approved cost line.
        markups: the sell book's.
        manual: dates of the sell book's manual rows of that key.
        book: the cost book; knows the rows' versions.
    """
    if not costs:
        return {}
    until = min(manual, default=None)
    first = costs[0].start
    starts = {span.start for span in costs}
    starts.update(one.effective_from for one in markups if one.effective_from > first)
    found = {}
    for start in starts:
        if until is not None and start >= until:
            continue
        cost = next(
            span.standing
            for span in costs
            if span.start <= start and (span.end is None or start < span.end)
        )
        found[start] = marked_up(
            cost.row,
            version=book.version_of(cost.ref),
            percent=percent_at(markups, start),
            start=start,
        )
    return found


def publish(
    costs: PriceBook,
    sells: PriceBook,
    markups: Sequence[Markup],
    *,
    keys: Iterable[PriceKey],
    by: str,
    at: datetime,
) -> int:
    """Bring the sell rows that mark-ups derive up to date; return how many rows were published.

    What is published is frozen: a row is replaced only if the cost row or the mark-up for its
    date was, and retired only if there is no cost row or a manual price any more.

    Args:
        costs: a provider's costs.
        sells: the same provider's rows in one sell book.
        markups: that sell book's.
        keys: whose costs, mark-ups or manual prices changed.
        by: whose decision it was.
        at: when.
    """
    cost_rows = _approved(costs)
    sell_index = _approved(sells)
    fresh: list[PriceRow] = []
    ended: list[Ref] = []
    for key in sorted(keys):
        selling = sell_index.get(key, ())
        wanted = sell_rows(
            line(cost_rows.get(key, ())),
            markups,
            manual=(one.row.effective_from for one in selling if one.row.source == MANUAL),
            book=costs,
        )
        published = {one.row.effective_from: one for one in selling if one.row.source == MARKUP}
        for start, row in wanted.items():
            before = published.get(start)
            if before is None or before.terms != terms_of(row):
                fresh.append(row)
        ended += [one.ref for start, one in published.items() if start not in wanted]
    sells.retire(ended, by=by, reason=RetireReason.REPLACED, at=at)
    sells.approve(sells.propose(fresh, source=MARKUP, digest="", at=at), by=by, at=at)
    return len(fresh)


def _approved(book: PriceBook) -> Mapping[PriceKey, list[Standing]]:
    found: dict[PriceKey, list[Standing]] = {}
    for standing in book.approved.values():
        found.setdefault(standing.row.key, []).append(standing)
    return found
