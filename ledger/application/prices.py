"""Price books in use: pull proposals, approve, set, retire, mark up, look up.

Every change is one commit over all books that it touches; whatever it approves publishes the
sell rows of the standing mark-ups in the same commit, and afterwards rates the usage that waited
for a price. Repeating a call that was interrupted is safe: what is there already is not new.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Protocol

import msgspec

from ledger.application.price_changes import (
    Tally,
    all_are,
    as_they_are,
    by_book,
    open_sell_book,
    propose_list,
    publish_book,
    publish_for,
    publish_keys,
)
from ledger.application.price_lookup import PriceFilter, Resolution, resolve
from ledger.application.price_results import ChangeResult, Contradiction, PullResult, RecordPage
from ledger.application.price_shelf import PriceLibrary, Shelf
from ledger.application.rerating import RatingCounts, Rerating
from ledger.domain.catalog import ANY, DEFAULT_BOOK
from ledger.domain.errors import InvalidInput, Refused
from ledger.domain.periods import EPOCH
from ledger.domain.price_book import MANUAL, PriceBook, check_book
from ledger.domain.price_records import Markup, PriceRecord, RetireReason, Standing, terms_of
from ledger.domain.price_timelines import contradictions
from ledger.domain.prices import (
    PriceKey,
    PriceKind,
    PriceList,
    PriceRow,
    PriceStatus,
)


class LiteLlmReader(Protocol):
    """Reads a LiteLLM price map."""

    def __call__(self, *, path: Path, effective_from: datetime) -> PriceList:
        """Return what the file proposes from a date on."""
        ...


class PriceSources(msgspec.Struct, frozen=True):
    """Where proposals come from.

    Attributes:
        pulled: sources that `prices pull` asks; each returns its whole list.
        litellm: reads a LiteLLM price map file.
    """

    pulled: Sequence[Callable[[], PriceList]]
    litellm: LiteLlmReader


class PriceBooks:
    """The use cases of price books.

    Args:
        library: where the books are.
        sources: where proposals come from.
        rerating: rates what waited for a price; None in tests that have no ledger.
    """

    def __init__(
        self, library: PriceLibrary, sources: PriceSources, rerating: Rerating | None = None
    ) -> None:
        self._library = library
        self._sources = sources
        self._rerating = rerating

    # -- proposals ----------------------------------------------------------------------

    def pull(
        self,
        lists: Sequence[PriceList] | None = None,
        *,
        approve: bool = False,
        providers: Collection[str] = (),
        by: str,
    ) -> PullResult:
        """Propose what sources list and the books do not have; nothing new, nothing stored.

        Args:
            lists: whole lists; None asks the sources.
            approve: approve every proposal of these providers that no other source contradicts.
            providers: only these; all if empty.
            by: who approves.

        Raises:
            InvalidInput: ``unknown_provider`` if no list has a provider that was asked for.
            Refused: ``prices_busy``.
        """
        if lists is None:
            lists = [load() for load in self._sources.pulled]
        return self._pull(lists, approve=approve, providers=providers, by=by, complete=True)

    def import_litellm(
        self,
        path: Path,
        *,
        effective_from: datetime | None = None,
        approve: bool = False,
        by: str,
    ) -> PullResult:
        """Propose what a LiteLLM price map says and the books do not have.

        Args:
            path: the file.
            effective_from: the file has no dates; None is the database's time.
            approve: approve every proposal of its providers that no other source contradicts.
            by: who approves.

        Raises:
            InvalidInput: ``invalid_price_file``.
        """
        start = effective_from or self._library.now()
        prices = self._sources.litellm(path=path, effective_from=start)
        return self._pull([prices], approve=approve, providers=(), by=by, complete=False)

    def _pull(
        self,
        lists: Sequence[PriceList],
        *,
        approve: bool,
        providers: Collection[str],
        by: str,
        complete: bool,
    ) -> PullResult:
        wanted = {name.lower() for name in providers}
        listed = {row.key.provider for prices in lists for row in prices.rows}
        if unknown := wanted - listed:
            raise InvalidInput(
                f"no source lists prices of {', '.join(sorted(unknown))};"
                f" the sources have {', '.join(sorted(listed))}",
                code="unknown_provider",
            )

        def decide(shelf: Shelf, now: datetime) -> PullResult:
            tally = Tally()
            touched: dict[str, PriceBook] = {}
            for prices in lists:
                for book in propose_list(shelf, prices, wanted, complete, now, tally):
                    touched[book.id] = book
            held = waiting = 0
            for book in touched.values():
                rivals = contradictions(book)
                free = [one for one in book.proposed() if one.ref not in rivals]
                held += len(rivals)
                if approve:
                    book.approve([one.ref for one in free], by=by, at=now)
                    book.approve_matches(by=by, at=now)
                    tally.approved += len(free)
                    keys = {one.row.key for one in free}
                    tally.published += publish_keys(shelf, book, keys, by=by, at=now)
                else:
                    waiting += len(free)
            return PullResult(
                listed=tally.listed,
                known=tally.known,
                decided=tally.decided,
                proposed=tally.proposed,
                approved=tally.approved,
                held=held,
                waiting=waiting,
                dropped=tally.dropped,
                gone=tuple(tally.gone),
                unsaid=sum(len(prices.skipped) for prices in lists),
                published=tally.published,
                renamed=tally.renamed,
            )

        result = self._library.change(decide)
        if approve:
            return msgspec.structs.replace(result, rating=self._rate())
        return result

    # -- decisions ----------------------------------------------------------------------

    def approve(self, versions: Sequence[str], *, by: str, again: bool = False) -> ChangeResult:
        """Approve rows, held ones too; proposals that contradict them are dropped for good.

        Args:
            versions: of the rows.
            by: who approves.
            again: the command was begun before; where all rows are approved by now, it is done.

        Raises:
            InvalidInput: ``invalid_version``.
            NotFound: ``unknown_price``.
            Refused: ``not_proposed``, ``prices_busy``.
        """

        def decide(shelf: Shelf, now: datetime) -> ChangeResult:
            dropped: list[str] = []
            records: list[PriceRecord] = []
            published = 0
            chosen = by_book(shelf, versions)
            if again and all_are(chosen, PriceStatus.APPROVED):
                return as_they_are(chosen)
            for book, refs in chosen:
                rivals = contradictions(book)
                against = {
                    other.ref
                    for ref in refs
                    for other in rivals.get(ref, ())
                    if other.status is PriceStatus.PROPOSED and other.ref not in refs
                }
                book.approve(refs, by=by, at=now)
                book.retire(sorted(against), by=by, reason=RetireReason.PERSON, at=now)
                dropped += [book.version_of(ref) for ref in sorted(against)]
                records += [book.record(book.rows[ref]) for ref in refs]
                if book.kind is PriceKind.COST:
                    keys = {book.rows[ref].row.key for ref in refs}
                    published += publish_keys(shelf, book, keys, by=by, at=now)
            return ChangeResult(records=tuple(records), dropped=tuple(dropped), published=published)

        return self._rated(self._library.change(decide))

    def approve_all(self, *, providers: Collection[str] = (), by: str) -> PullResult:
        """Approve every proposed row that no other source contradicts.

        Args:
            providers: only these; all if empty.
            by: who approves.
        """
        wanted = {name.lower() for name in providers}

        def decide(shelf: Shelf, now: datetime) -> PullResult:
            approved = held = published = 0
            for book in shelf.costs():
                if wanted and book.provider not in wanted:
                    continue
                rivals = contradictions(book)
                free = [one for one in book.proposed() if one.ref not in rivals]
                held += len(rivals)
                approved += len(free)
                book.approve([one.ref for one in free], by=by, at=now)
                book.approve_matches(by=by, at=now)
                keys = {one.row.key for one in free}
                published += publish_keys(shelf, book, keys, by=by, at=now)
            return PullResult(
                listed=0,
                known=0,
                decided=0,
                proposed=0,
                approved=approved,
                held=held,
                waiting=0,
                dropped=0,
                gone=(),
                unsaid=0,
                published=published,
                renamed=0,
            )

        return msgspec.structs.replace(self._library.change(decide), rating=self._rate())

    def set(
        self,
        row: PriceRow,
        *,
        kind: PriceKind,
        book: str = "",
        effective_from: datetime | None = None,
        by: str,
    ) -> ChangeResult:
        """Set a price by hand: proposed and approved at once.

        Setting the same price again changes nothing. A manual sell row ends the mark-up's rows
        of that key from its date on.

        Args:
            row: its source and date are not looked at.
            kind: cost or sell.
            book: sell book; opened if there is none of that name.
            effective_from: None is the beginning of time where the key has no price yet, so that
                usage recorded before is rated; else it is the database's time.
            by: who says so.

        Raises:
            InvalidInput: as `PriceRow.check` and `PriceBook.propose` raise.
            Refused: ``prices_busy``.
        """

        def decide(shelf: Shelf, now: datetime) -> ChangeResult:
            check_book(kind, book)
            published = 0
            if kind is PriceKind.SELL:
                published += open_sell_book(shelf, book, by=by, at=now)
            target = shelf.open(kind=kind, book=book, provider=row.key.provider, at=now)
            start = effective_from
            if start is None:
                priced = any(key == row.key for key, _ in target.approved)
                start = now if priced else EPOCH
            manual = msgspec.structs.replace(
                row, effective_from=start, source=MANUAL, source_digest=""
            )
            manual.check()
            before = target.in_force(row.key, start)
            if before is not None and _same(before, manual, dated=effective_from is not None):
                return ChangeResult(records=(target.record(before),), published=published)
            refs = target.propose([manual], source=MANUAL, digest="", at=now)
            target.approve(refs, by=by, at=now)
            published += publish_for(shelf, target, {row.key}, by=by, at=now)
            return ChangeResult(
                records=tuple(target.record(target.rows[ref]) for ref in refs),
                published=published,
            )

        return self._rated(self._library.change(decide))

    def retire(self, versions: Sequence[str], *, by: str, again: bool = False) -> ChangeResult:
        """Retire approved rows and drop proposed ones; the same source does not propose them again.

        What an approved row has rated stays as it is.

        Args:
            versions: of the rows.
            by: who says so.
            again: the command was begun before; where all rows are retired by now, it is done.

        Raises:
            InvalidInput: ``invalid_version``.
            NotFound: ``unknown_price``.
            Refused: ``already_retired``, ``prices_busy``.
        """

        def decide(shelf: Shelf, now: datetime) -> ChangeResult:
            records: list[PriceRecord] = []
            published = 0
            chosen = by_book(shelf, versions)
            if again and all_are(chosen, PriceStatus.RETIRED):
                return as_they_are(chosen)
            for book, refs in chosen:
                keys = {
                    one.row.key
                    for one in map(book.standing, refs)
                    if one.status is PriceStatus.APPROVED
                }
                book.retire(refs, by=by, reason=RetireReason.PERSON, at=now)
                records += [book.record(book.rows[ref]) for ref in refs]
                if book.kind is PriceKind.COST or any(
                    book.rows[ref].row.source == MANUAL for ref in refs
                ):
                    published += publish_for(shelf, book, keys, by=by, at=now)
            return ChangeResult(records=tuple(records), published=published)

        return self._library.change(decide)

    def markup(
        self,
        percent: Decimal,
        *,
        book: str = DEFAULT_BOOK,
        effective_from: datetime | None = None,
        by: str,
        again: bool = False,
    ) -> ChangeResult:
        """Set a sell book's standing mark-up: sell = cost + ``percent`` %.

        Publishes sell rows from its date on for the cost rows that are in force then or begin
        later, and from now on with every cost row that is approved.

        Args:
            percent: -100 or more.
            book: opened if there is none of that name.
            effective_from: None is the beginning of time for a book that is opened by this, and
                the database's time for one that has published prices.
            by: who says so.
            again: the command was begun before; without a date, the book's latest mark-up is the
                one that it set, if it is of this percent.

        Raises:
            InvalidInput: ``invalid_book``, ``invalid_markup``.
            Refused: ``prices_busy``.
        """

        def decide(shelf: Shelf, now: datetime) -> ChangeResult:
            check_book(PriceKind.SELL, book)
            fresh = not any(
                one.kind is PriceKind.SELL and one.book == book for one in shelf.books.values()
            )
            start = effective_from or (EPOCH if fresh else now)
            home = shelf.open(kind=PriceKind.SELL, book=book, provider=ANY, at=now)
            if again and effective_from is None and home.markups:
                last = home.markups[-1]
                start = last.effective_from if last.percent == percent else start
            same = [one for one in home.markups if one.effective_from == start]
            if not same or same[-1].percent != percent:
                home.set_markup(percent, effective_from=start, by=by, at=now)
            return ChangeResult(published=publish_book(shelf, book, by=by, at=now))

        return self._rated(self._library.change(decide))

    # -- rating later -------------------------------------------------------------------

    def rate_unpriced(self) -> RatingCounts:
        """Rate the unpriced usage that has a price by now; see `Rerating.rate_unpriced`."""
        return self._rate() or RatingCounts()

    def rerate(self, *, tenant: str, start: datetime, end: datetime) -> RatingCounts:
        """Rate a tenant's usage again, posting differences; see `Rerating.rerate`."""
        if self._rerating is None:
            raise Refused("there is no ledger to rate again", code="no_ledger")
        return self._rerating.rerate(tenant=tenant, start=start, end=end)

    def _rate(self) -> RatingCounts | None:
        return self._rerating.rate_unpriced() if self._rerating is not None else None

    def _rated(self, result: ChangeResult) -> ChangeResult:
        return msgspec.structs.replace(result, rating=self._rate())

    # -- questions ----------------------------------------------------------------------

    def find(self, version: str) -> PriceRecord:
        """Return all that is known of a row by its version, whatever became of it.

        Raises:
            InvalidInput: ``invalid_version``.
            NotFound: ``unknown_price``.
        """

        def question(shelf: Shelf) -> PriceRecord:
            book, standing = shelf.find(version)
            return book.record(standing)

        return self._library.read(question)

    def list(
        self, only: PriceFilter | None = None, *, after: str | None = None, limit: int = 100
    ) -> RecordPage:
        """Return rows in order of book, key and date.

        Args:
            only: which rows; None is all.
            after: only rows that come after the one of this version.
            limit: most rows to return.

        Raises:
            InvalidInput: ``invalid_version``.
            NotFound: ``unknown_price``: there is no row ``after``.
        """
        chosen = only or PriceFilter()

        def question(shelf: Shelf) -> RecordPage:
            found = [
                (book, standing)
                for book in shelf.books.values()
                if chosen.wants_book(book)
                for standing in book.rows.values()
                if chosen.wants(standing)
            ]
            found.sort(key=_order)
            start = 0
            if after is not None:
                start = bisect_right(found, _order(shelf.find(after)), key=_order)
            records = tuple(
                book.record(standing) for book, standing in found[start : start + limit]
            )
            return RecordPage(records, len(found))

        return self._library.read(question)

    def diff(self, *, providers: Collection[str] = ()) -> tuple[Contradiction, ...]:
        """Return the held rows with the rows that contradict them.

        Args:
            providers: only these; all if empty.
        """
        wanted = {name.lower() for name in providers}

        def question(shelf: Shelf) -> tuple[Contradiction, ...]:
            found = []
            for book in shelf.costs():
                if wanted and book.provider not in wanted:
                    continue
                for ref, rivals in contradictions(book).items():
                    others = tuple(book.record(rival) for rival in rivals)
                    found.append(Contradiction(book.record(book.rows[ref]), others))
            return tuple(sorted(found, key=lambda one: (one.held.row.key, one.held.version)))

        return self._library.read(question)

    def at(
        self,
        *,
        provider: str,
        model: str,
        meter: str = "",
        region: str = "",
        tier: str = "",
        batch: bool = False,
        input_tokens: int = 0,
        book: str = DEFAULT_BOOK,
        at: datetime | None = None,
    ) -> tuple[Resolution, ...]:
        """Return which rows price a call at an instant, and why.

        Args:
            provider: as the response says.
            model: as the response says.
            meter: "" is every meter that the model has a price for.
            region: as the response says.
            tier: service tier as the response says.
            batch: whether at the provider's batch price.
            input_tokens: of the request, for context tiers.
            book: the tenant's sell book.
            at: None is the database's time.
        """
        instant = at or self._library.now()
        asked = PriceKey(provider, model, meter, region, tier, batch, max(0, input_tokens - 1))
        catalog = self._library.load()
        return self._library.read(
            lambda shelf: resolve(shelf, catalog, asked, book=book, at=instant)
        )

    def markups(self, book: str = DEFAULT_BOOK) -> tuple[Markup, ...]:
        """Return the mark-ups of a sell book, in the order in which they were set."""
        return self._library.read(lambda shelf: tuple(shelf.markups(book)))


def _same(before: Standing, manual: PriceRow, *, dated: bool) -> bool:
    """Tell whether a manual price stands already; at the very date if one was given."""
    return (
        before.row.source == MANUAL
        and before.terms == terms_of(manual)
        and (not dated or before.row.effective_from == manual.effective_from)
    )


def _order(found: tuple[PriceBook, Standing]) -> tuple[object, ...]:
    book, standing = found
    return book.kind, book.book, standing.row.key, standing.row.effective_from, standing.ref
