"""Price books: event-sourced aggregates of price rows, one a kind, book and provider.

A row is proposed, then approved or dropped; an approved row is retired, or superseded by another
for the same key and date. Rows are never edited. docs/spec/prices.md.

Invariants: of one key and date at most one row is approved; a row's version, made of the event
that proposed it and its place there, never changes; times come from the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Self

from eventsourcing.domain import BaseAggregate, CanInitAggregate, CanMutateAggregate

from ledger.domain.catalog import ANY, PricedRow
from ledger.domain.errors import InvalidInput, NotFound, Refused
from ledger.domain.meters import STANDARD_METERS
from ledger.domain.money import decimals_of, text
from ledger.domain.price_records import (
    Dated,
    Markup,
    PriceRecord,
    Ref,
    RetireReason,
    Standing,
    StoredMatch,
    StoredPrice,
    Terms,
    terms_of,
)
from ledger.domain.prices import (
    PLAN_BOOK,
    ModelMatch,
    PriceKey,
    PriceKind,
    PriceRow,
    PriceStatus,
)
from ledger.domain.usage import check_text

COST_BOOK = "cost"
"""What versions of cost rows begin with; no sell book may have this name."""
MANUAL = "manual"
"""Source of rows that a person set."""
MARKUP = "markup"
"""Source of sell rows that a mark-up derived from cost rows."""
STREAM_PREFIX = "prices-"
MAX_BOOK_NAME = 64
MAX_MARKUP_PERCENT = 100_000


class PriceBook(BaseAggregate[str]):
    """The rows of one kind, book and provider.

    Args:
        kind: cost or sell.
        book: sell book; "" for costs.
        provider: whose models; ``*`` in sell books for rows of every provider. There the book's
            mark-ups are kept, too.

    Attributes:
        rows: every row that was ever proposed, by revision and place.
        approved: the approved rows.
        matches: model names by source, in order of the sources' first approval.
        pending_matches: model names that a source proposes, not yet approved.
        markups: mark-ups in the order in which they were set.
        decided: ``(source, key, terms)`` to the dates of rows that a person decided against.
    """

    TOPIC = "tb.prices:1"

    @dataclass(frozen=True)
    class Event(CanMutateAggregate[str]):
        """Something that happened to a price book."""

        originator_id: str
        originator_version: int
        timestamp: datetime

    @dataclass(frozen=True)
    class Opened(Event, CanInitAggregate[str]):
        """The book has its first row, or its first mark-up."""

        TOPIC = "tb.prices.opened:1"
        originator_topic: str
        kind: PriceKind
        book: str
        provider: str

    @dataclass(frozen=True)
    class PricesProposed(Event):
        """A source proposed rows."""

        TOPIC = "tb.prices.proposed:1"
        rows: tuple[StoredPrice, ...]
        source: str
        digest: str

        def apply(self, aggregate: PriceBook) -> None:
            """Add the rows."""
            revision = self.originator_version
            for index, stored in enumerate(self.rows):
                row = stored.row(
                    provider=aggregate.provider, source=self.source, digest=self.digest
                )
                ref = (revision, index)
                aggregate.rows[ref] = Standing(ref, row, self.timestamp)

    @dataclass(frozen=True)
    class PricesApproved(Event):
        """Rows were approved, and with them the model names of some sources."""

        TOPIC = "tb.prices.approved:1"
        refs: tuple[Ref, ...]
        by: str
        sources: tuple[str, ...] = ()

        def apply(self, aggregate: PriceBook) -> None:
            """Let the rows count; those that they supersede do not any more."""
            for ref in self.refs:
                aggregate._approve(ref, self.by, self.timestamp)
            for source in self.sources:
                aggregate.matches[source] = aggregate.pending_matches.pop(source)

    @dataclass(frozen=True)
    class PricesRetired(Event):
        """Approved rows were retired, or proposed ones dropped."""

        TOPIC = "tb.prices.retired:1"
        refs: tuple[Ref, ...]
        by: str
        reason: str

        def apply(self, aggregate: PriceBook) -> None:
            """Let the rows count no more."""
            for ref in self.refs:
                standing = aggregate.rows[ref]
                if standing.status is PriceStatus.APPROVED:
                    del aggregate.approved[standing.row.key, standing.row.effective_from]
                standing.retire(self.by, self.timestamp, self.reason)
                if self.reason == RetireReason.PERSON:
                    aggregate._remember(standing)

    @dataclass(frozen=True)
    class MatchesReplaced(Event):
        """A source named models anew; counts once approved."""

        TOPIC = "tb.prices.matches-replaced:1"
        source: str
        digest: str
        matches: tuple[StoredMatch, ...]

        def apply(self, aggregate: PriceBook) -> None:
            """Keep the clauses until they are approved."""
            aggregate.pending_matches[self.source] = self.matches

    @dataclass(frozen=True)
    class MarkupSet(Event):
        """The book's mark-up from an instant on was set."""

        TOPIC = "tb.prices.markup-set:1"
        percent: Decimal
        effective_from: datetime
        by: str

        def apply(self, aggregate: PriceBook) -> None:
            """Add the mark-up."""
            aggregate.markups.append(
                Markup(self.percent, self.effective_from, self.by, self.timestamp)
            )

    def __init__(self, kind: PriceKind, book: str, provider: str) -> None:
        self.kind = kind
        self.book = book
        self.provider = provider
        self.rows: dict[Ref, Standing] = {}
        self.approved: dict[Dated, Standing] = {}
        self.matches: dict[str, tuple[StoredMatch, ...]] = {}
        self.pending_matches: dict[str, tuple[StoredMatch, ...]] = {}
        self.markups: list[Markup] = []
        self.decided: dict[tuple[str, PriceKey, Terms], set[datetime]] = {}

    # -- commands -----------------------------------------------------------------------

    @classmethod
    def open(cls, *, kind: PriceKind, book: str, provider: str, at: datetime) -> Self:
        """Open a book at an instant.

        Raises:
            InvalidInput: ``invalid_book``, ``invalid_text``.
        """
        check_book(kind, book)
        check_text(provider, pointer="/provider", required=True)
        return cls._create(
            cls.Opened,
            id=stream_id(kind=kind, book=book, provider=provider),
            kind=kind,
            book=book,
            provider=provider,
            timestamp=at,
        )

    def propose(
        self, rows: Sequence[PriceRow], *, source: str, digest: str, at: datetime
    ) -> tuple[Ref, ...]:
        """Propose rows; return their refs, in order.

        Raises:
            InvalidInput: a row breaks its own rules (`PriceRow.check`) or is not this book's:
                ``unknown_meter``, ``invalid_provider``, ``duplicate_row``.
        """
        if not rows:
            return ()
        for row in rows:
            self._check(row)
        if len({(row.key, row.effective_from) for row in rows}) < len(rows):
            raise InvalidInput(
                f"two rows of {source} have the same key and date", code="duplicate_row"
            )
        self.trigger_event(
            self.PricesProposed,
            rows=tuple(map(StoredPrice.of, rows)),
            source=source,
            digest=digest,
            timestamp=at,
        )
        return tuple((self.version, index) for index in range(len(rows)))

    def approve(self, refs: Iterable[Ref], *, by: str, at: datetime) -> None:
        """Approve proposed rows, and the pending model names of their sources.

        Raises:
            NotFound: ``unknown_price``.
            Refused: ``not_proposed`` for a row that is approved or retired.
        """
        wanted = tuple(refs)
        for ref in wanted:
            standing = self.standing(ref)
            if standing.status is not PriceStatus.PROPOSED:
                raise Refused(
                    f"{self.version_of(ref)} is {standing.status}; only proposed rows can be"
                    " approved, and `prices set` makes a new one",
                    code="not_proposed",
                )
        named = {self.rows[ref].row.source for ref in wanted} & self.pending_matches.keys()
        if wanted:
            self.trigger_event(
                self.PricesApproved, refs=wanted, by=by, sources=tuple(sorted(named)), timestamp=at
            )

    def approve_matches(self, *, by: str, at: datetime) -> None:
        """Approve all pending model names."""
        if self.pending_matches:
            sources = tuple(sorted(self.pending_matches))
            self.trigger_event(self.PricesApproved, refs=(), by=by, sources=sources, timestamp=at)

    def retire(self, refs: Iterable[Ref], *, by: str, reason: str, at: datetime) -> None:
        """Retire approved rows, or drop proposed ones.

        Raises:
            NotFound: ``unknown_price``.
            Refused: ``already_retired``.
        """
        wanted = tuple(refs)
        for ref in wanted:
            if self.standing(ref).status is PriceStatus.RETIRED:
                raise Refused(f"{self.version_of(ref)} is retired already", code="already_retired")
        if wanted:
            self.trigger_event(self.PricesRetired, refs=wanted, by=by, reason=reason, timestamp=at)

    def replace_matches(
        self, matches: Iterable[ModelMatch], *, source: str, digest: str, at: datetime
    ) -> bool:
        """Propose a source's model names; return whether they differ from what it said before."""
        stored = tuple(StoredMatch(match.model, match.clause) for match in matches)
        if stored == self.pending_matches.get(source, self.matches.get(source, ())):
            return False
        self.trigger_event(
            self.MatchesReplaced, source=source, digest=digest, matches=stored, timestamp=at
        )
        return True

    def set_markup(
        self, percent: Decimal, *, effective_from: datetime, by: str, at: datetime
    ) -> None:
        """Set the mark-up of this book from an instant on.

        Raises:
            InvalidInput: ``invalid_markup`` below -100 % or with more than 6 decimals.
        """
        if (
            not percent.is_finite()
            or not -100 <= percent <= MAX_MARKUP_PERCENT
            or decimals_of(percent) > 6
        ):
            raise InvalidInput(
                f"a mark-up of {percent} % is not between -100 % and {MAX_MARKUP_PERCENT:,} %"
                " with at most 6 decimals",
                code="invalid_markup",
                pointer="/percent",
            )
        self.trigger_event(
            self.MarkupSet, percent=percent, effective_from=effective_from, by=by, timestamp=at
        )

    # -- questions ----------------------------------------------------------------------

    def standing(self, ref: Ref) -> Standing:
        """Return a row by its ref.

        Raises:
            NotFound: ``unknown_price``.
        """
        found = self.rows.get(ref)
        if found is None:
            raise NotFound(f"there is no price {self.version_of(ref)}", code="unknown_price")
        return found

    def proposed(self) -> list[Standing]:
        """Return the proposed rows, oldest first."""
        return [one for one in self.rows.values() if one.status is PriceStatus.PROPOSED]

    def in_force(self, key: PriceKey, at: datetime) -> Standing | None:
        """Return the approved row of a key at an instant, None before the first."""
        dated = [date for found, date in self.approved if found == key and date <= at]
        return self.approved[key, max(dated)] if dated else None

    def version_of(self, ref: Ref) -> str:
        """Return the version string of a row."""
        return f"{self.book or COST_BOOK}/{self.provider}@{ref[0]}.{ref[1]}"

    def priced(self, standing: Standing) -> PricedRow:
        """Return a row as the catalog takes it."""
        return PricedRow(self.kind, self.book, standing.row, self.version_of(standing.ref))

    def record(self, standing: Standing) -> PriceRecord:
        """Return all that is known of a row."""
        row = standing.row
        return PriceRecord(
            version=self.version_of(standing.ref),
            kind=self.kind,
            book=self.book,
            row=row,
            status=standing.status,
            proposed_at=standing.proposed_at,
            source=row.source,
            digest=row.source_digest,
            approver=standing.approver,
            approved_at=standing.approved_at,
            retired_by=standing.retired_by,
            retired_at=standing.retired_at,
            reason=standing.reason,
            note=row.note,
        )

    def model_matches(self) -> Iterator[ModelMatch]:
        """Yield the approved model names, in order of precedence."""
        for stored in self.matches.values():
            for match in stored:
                yield ModelMatch(provider=self.provider, model=match.model, clause=match.clause)

    def was_decided_against(self, row: PriceRow, *, whenever: bool) -> bool:
        """Tell whether a person dropped or retired this row of this source before.

        Args:
            row: as its source proposes it.
            whenever: for sources without history: at any date, not only at the row's own.
        """
        dates = self.decided.get((row.source, row.key, terms_of(row)))
        return dates is not None and (whenever or row.effective_from in dates)

    # -- folding ------------------------------------------------------------------------

    def _approve(self, ref: Ref, by: str, at: datetime) -> None:
        standing = self.rows[ref]
        place = (standing.row.key, standing.row.effective_from)
        before = self.approved.get(place)
        if before is not None:
            before.retire(by, at, RetireReason.SUPERSEDED)
            if before.row.source not in (standing.row.source, MARKUP):
                # One source's row was preferred to another's: a decision, not an update.
                self._remember(before)
        standing.status = PriceStatus.APPROVED
        standing.approver, standing.approved_at = by, at
        self.approved[place] = standing

    def _remember(self, standing: Standing) -> None:
        row = standing.row
        self.decided.setdefault((row.source, row.key, standing.terms), set()).add(
            row.effective_from
        )

    def _check(self, row: PriceRow) -> None:
        row.check()
        key = row.key
        if key.provider != self.provider or (
            self.kind is PriceKind.COST and ANY in (key.provider, key.model)
        ):
            raise InvalidInput(
                f"a row for {key.provider}/{key.model} does not belong into {self.id}",
                code="invalid_provider",
                pointer="/provider",
            )
        check_text(key.model, pointer="/model", required=True)
        check_text(key.region, pointer="/region")
        check_text(key.tier, pointer="/tier")
        if key.meter not in STANDARD_METERS:
            raise InvalidInput(
                f"there is no meter {key.meter[:64]!r}; docs/spec/metering.md lists them",
                code="unknown_meter",
                pointer="/meter",
            )
        if key.context_over < 0:
            raise InvalidInput(
                f"context_over {key.context_over} is negative; 0 is every request",
                code="invalid_context",
                pointer="/context_over",
            )


def check_book(kind: PriceKind, book: str) -> None:
    """Check a book's name.

    Raises:
        InvalidInput: ``invalid_book``.
    """
    if kind is PriceKind.COST:
        if book:
            raise InvalidInput("cost rows have no book", code="invalid_book", pointer="/book")
        return
    if not 0 < len(book) <= MAX_BOOK_NAME or not book.isprintable() or "/" in book:
        raise InvalidInput(
            f"book {book[:MAX_BOOK_NAME]!r} is not 1 to {MAX_BOOK_NAME} printable characters"
            " without a slash",
            code="invalid_book",
            pointer="/book",
        )
    if book == COST_BOOK:
        raise InvalidInput(
            f"a sell book cannot be called {COST_BOOK!r}; `--kind cost` means the costs",
            code="invalid_book",
            pointer="/book",
        )
    if book == PLAN_BOOK:
        raise InvalidInput(
            f"a sell book cannot be called {PLAN_BOOK!r}: charges of plans are cited so",
            code="invalid_book",
            pointer="/book",
        )


def stream_id(*, kind: PriceKind, book: str, provider: str) -> str:
    """Return the stream id: ``prices-cost-openai``, ``prices-sell:default-openai``."""
    if kind is PriceKind.COST:
        return f"{STREAM_PREFIX}cost-{provider}"
    # The first dash after the book's name ends it, so dashes of the name are written otherwise.
    name = book.replace("%", "%25").replace("-", "%2D")
    return f"{STREAM_PREFIX}sell:{name}-{provider}"


def parse_version(version: str) -> tuple[str, Ref]:
    """Return stream id and ref of a version string.

    Raises:
        InvalidInput: ``invalid_version``.
    """
    place, at, ref = version.rpartition("@")
    book, slash, provider = place.partition("/")
    revision, dot, index = ref.partition(".")
    if not (at and slash and dot and provider and revision.isdecimal() and index.isdecimal()):
        raise InvalidInput(
            f"{version[:80]!r} is no price version such as cost/openai@3.17",
            code="invalid_version",
            pointer="/version",
        )
    kind = PriceKind.COST if book == COST_BOOK else PriceKind.SELL
    name = "" if kind is PriceKind.COST else book
    check_book(kind, name)
    return stream_id(kind=kind, book=name, provider=provider), (int(revision), int(index))


def shown_rate(row: PriceRow) -> str:
    """Return a rate for people: ``2.5 USD per 1,000,000``."""
    size = f" per {row.unit_size:,f}" if row.unit_size != 1 else " per unit"
    return f"{text(row.rate)} {row.currency}{size}"
