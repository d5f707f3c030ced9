"""Changes that one commit makes to several price books: proposals of a list, derived sell rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from ledger.application.price_results import ChangeResult
from ledger.application.price_shelf import Shelf
from ledger.domain.price_book import PriceBook
from ledger.domain.price_records import Ref, RetireReason
from ledger.domain.price_timelines import news, publish
from ledger.domain.prices import (
    ModelMatch,
    PriceKey,
    PriceKind,
    PriceList,
    PriceRow,
    PriceStatus,
)


class Tally:
    """Counts of one pull."""

    def __init__(self) -> None:
        self.listed = self.known = self.decided = self.proposed = 0
        self.approved = self.dropped = self.published = self.renamed = 0
        self.gone: list[str] = []


def propose_list(
    shelf: Shelf,
    prices: PriceList,
    wanted: Collection[str],
    complete: bool,
    now: datetime,
    tally: Tally,
) -> Iterable[PriceBook]:
    """Propose a list's news provider by provider; return the books that it is about."""
    rows: dict[str, list[PriceRow]] = {}
    for row in prices.rows:
        rows.setdefault(row.key.provider, []).append(row)
    names: dict[str, list[ModelMatch]] = {}
    for match in prices.matches:
        names.setdefault(match.provider, []).append(match)
    here = {book.provider for book in shelf.costs()} if complete else set()
    books = []
    for provider in sorted({*rows, *here}):
        if wanted and provider not in wanted:
            continue
        book = shelf.open(kind=PriceKind.COST, book="", provider=provider, at=now)
        found = news(book, rows.get(provider, ()), source=prices.source, complete=complete)
        book.retire(found.replaced, by=prices.source, reason=RetireReason.REPLACED, at=now)
        book.propose(found.rows, source=prices.source, digest=prices.digest, at=now)
        tally.renamed += book.replace_matches(
            names.get(provider, ()), source=prices.source, digest=prices.digest, at=now
        )
        tally.listed += len(rows.get(provider, ()))
        tally.known += found.known
        tally.decided += found.decided
        tally.proposed += len(found.rows)
        tally.dropped += len(found.replaced)
        tally.gone += [book.version_of(ref) for ref in found.gone]
        books.append(book)
    return books


def by_book(shelf: Shelf, versions: Iterable[str]) -> list[tuple[PriceBook, tuple[Ref, ...]]]:
    """Return the rows of some versions, book by book; each once.

    Raises:
        InvalidInput: ``invalid_version``.
        NotFound: ``unknown_price``.
    """
    found: dict[str, tuple[PriceBook, dict[Ref, None]]] = {}
    for version in versions:
        book, standing = shelf.find(version)
        found.setdefault(book.id, (book, {}))[1][standing.ref] = None
    return [(book, tuple(refs)) for book, refs in found.values()]


def all_are(chosen: Iterable[tuple[PriceBook, tuple[Ref, ...]]], status: PriceStatus) -> bool:
    """Tell whether chosen rows have a status, each of them."""
    return all(book.standing(ref).status is status for book, refs in chosen for ref in refs)


def as_they_are(chosen: Iterable[tuple[PriceBook, tuple[Ref, ...]]]) -> ChangeResult:
    """Return chosen rows as what a change led to that is done already."""
    return ChangeResult(
        records=tuple(book.record(book.rows[ref]) for book, refs in chosen for ref in refs)
    )


def publish_keys(
    shelf: Shelf, costs: PriceBook, keys: Collection[PriceKey], *, by: str, at: datetime
) -> int:
    """Publish the sell rows of cost keys in every sell book."""
    if not keys:
        return 0
    published = 0
    for name in shelf.sell_names():
        sells = shelf.open(kind=PriceKind.SELL, book=name, provider=costs.provider, at=at)
        published += publish(costs, sells, shelf.markups(name), keys=keys, by=by, at=at)
    return published


def publish_for(
    shelf: Shelf, changed: PriceBook, keys: Collection[PriceKey], *, by: str, at: datetime
) -> int:
    """Publish what follows from a change of keys in a cost or a sell book."""
    if changed.kind is PriceKind.COST:
        return publish_keys(shelf, changed, keys, by=by, at=at)
    if not shelf.has(kind=PriceKind.COST, book="", provider=changed.provider):
        return 0
    costs = shelf.open(kind=PriceKind.COST, book="", provider=changed.provider, at=at)
    return publish(costs, changed, shelf.markups(changed.book), keys=keys, by=by, at=at)


def publish_book(shelf: Shelf, name: str, *, by: str, at: datetime) -> int:
    """Publish the sell rows of all costs in one sell book."""
    published = 0
    for costs in shelf.costs():
        keys = {key for key, _ in costs.approved}
        if keys:
            sells = shelf.open(kind=PriceKind.SELL, book=name, provider=costs.provider, at=at)
            published += publish(costs, sells, shelf.markups(name), keys=keys, by=by, at=at)
    return published


def open_sell_book(shelf: Shelf, name: str, *, by: str, at: datetime) -> int:
    """Publish all costs in a sell book that is new."""
    return 0 if name in shelf.sell_names() else publish_book(shelf, name, by=by, at=at)
