"""The shelf: all price books at one position of the log, and the catalog made of them.

`PriceLibrary` keeps a shelf current by reading what was appended since, and is the ledger's
`CatalogSource`. A change runs on the shelf as it is, and is saved only if nobody changed a price
meanwhile; else it runs again on what is there now.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

import msgspec

from ledger.application.ports import CatalogSource
from ledger.domain.catalog import ANY, DEFAULT_BOOK, Catalog, PricedRow
from ledger.domain.errors import InvariantViolation, NotFound, Refused
from ledger.domain.price_book import PriceBook, parse_version, stream_id
from ledger.domain.price_records import Markup, Standing
from ledger.domain.prices import ModelMatch, PriceKind

MAX_ATTEMPTS = 5
"""How often a change is tried while others change prices."""

_T = TypeVar("_T")


class PricesChanged(Exception):
    """Somebody else changed a price since the shelf was read; nothing was saved."""


class StoredPriceEvent(msgspec.Struct, frozen=True):
    """An event of a price book and its position in the log."""

    position: int
    event: PriceBook.Event


class PriceStore(Protocol):
    """Where price books are stored."""

    def head(self) -> int:
        """Return the position of the last event of any price book; 0 if there is none."""
        ...

    def events(self, *, after: int) -> Iterable[StoredPriceEvent]:
        """Return the events after a position: each book's in order."""
        ...

    def save(self, books: Sequence[PriceBook], *, head: int) -> int:
        """Append the books' pending events, all or none, and return the new head.

        Args:
            books: changed since the shelf was at ``head``.
            head: position that the changes were decided on.

        Raises:
            PricesChanged: the head is another by now.
        """
        ...

    def now(self) -> datetime:
        """Return the database's time."""
        ...


class Shelf:
    """All price books.

    Attributes:
        books: by stream id.
        head: position of the last event in them.
    """

    def __init__(self) -> None:
        self.books: dict[str, PriceBook] = {}
        self.head = 0

    def fold(self, stored: StoredPriceEvent) -> None:
        """Fold the next event of its book."""
        event = stored.event
        book = event.mutate(self.books.get(event.originator_id))
        if book is None:
            raise InvariantViolation(f"{event.originator_id} has no book after {event}")
        self.books[event.originator_id] = book
        self.head = max(self.head, stored.position)

    def costs(self) -> list[PriceBook]:
        """Return the cost books, by provider."""
        books = (book for book in self.books.values() if book.kind is PriceKind.COST)
        return sorted(books, key=lambda book: book.provider)

    def sell_names(self) -> list[str]:
        """Return the names of the sell books; ``default`` is always one."""
        names = {book.book for book in self.books.values() if book.kind is PriceKind.SELL}
        return sorted({*names, DEFAULT_BOOK})

    def has(self, *, kind: PriceKind, book: str, provider: str) -> bool:
        """Tell whether a book was opened."""
        return stream_id(kind=kind, book=book, provider=provider) in self.books

    def open(self, *, kind: PriceKind, book: str, provider: str, at: datetime) -> PriceBook:
        """Return a book, opened at an instant if it was not yet."""
        stream = stream_id(kind=kind, book=book, provider=provider)
        found = self.books.get(stream)
        if found is None:
            found = PriceBook.open(kind=kind, book=book, provider=provider, at=at)
            self.books[stream] = found
        return found

    def markups(self, book: str) -> list[Markup]:
        """Return the mark-ups of a sell book."""
        found = self.books.get(stream_id(kind=PriceKind.SELL, book=book, provider=ANY))
        return found.markups if found is not None else []

    def find(self, version: str) -> tuple[PriceBook, Standing]:
        """Return a row by its version, with its book.

        Raises:
            InvalidInput: ``invalid_version``.
            NotFound: ``unknown_price``.
        """
        stream, ref = parse_version(version)
        book = self.books.get(stream)
        if book is None:
            raise NotFound(f"there is no price {version}", code="unknown_price")
        return book, book.standing(ref)

    def catalog(self) -> Catalog:
        """Return the catalog of approved prices."""
        return Catalog(self._approved(), self._matches())

    def _approved(self) -> Iterator[PricedRow]:
        for book in self.books.values():
            for standing in book.approved.values():
                yield book.priced(standing)

    def _matches(self) -> Iterator[ModelMatch]:
        for book in self.costs():
            yield from book.model_matches()


class PriceLibrary:
    """Keeps the shelf and its catalog current; thread-safe.

    Args:
        store: where the books are.
    """

    def __init__(self, store: PriceStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._shelf: Shelf | None = None
        self._catalog = Catalog()
        self._catalog_head = 0

    def load(self) -> Catalog:
        """Return the catalog as the price books are now; the same one while they are unchanged."""
        return self.read(self._current_catalog)

    def _current_catalog(self, shelf: Shelf) -> Catalog:
        if shelf.head != self._catalog_head:
            self._catalog = shelf.catalog()
            self._catalog_head = shelf.head
        return self._catalog

    def now(self) -> datetime:
        """Return the database's time."""
        return self._store.now()

    def read(self, question: Callable[[Shelf], _T]) -> _T:
        """Return the answer to a question about the shelf as it is now.

        Args:
            question: changes nothing, and keeps nothing of the shelf but immutable values.
        """
        with self._lock:
            shelf = self._forward(self._shelf or Shelf())
            self._shelf = shelf
            return question(shelf)

    def change(self, decision: Callable[[Shelf, datetime], _T]) -> _T:
        """Change books and save them in one commit.

        Args:
            decision: changes books of the shelf, given the database's time; runs again on the
                newer shelf if somebody else changed prices meanwhile.

        Raises:
            Refused: ``prices_busy`` if others change prices all the time; nothing was saved.
            LedgerError: as the decision raises; nothing was saved.
        """
        for _ in range(MAX_ATTEMPTS):
            shelf = self._forward(self._take())
            result = decision(shelf, self._store.now())
            changed = [book for book in shelf.books.values() if book.pending_events]
            if changed:
                try:
                    shelf.head = self._store.save(changed, head=shelf.head)
                except PricesChanged:
                    continue
            self._keep(shelf)
            return result
        raise Refused(
            "others are changing prices all the time; nothing was saved, try again",
            code="prices_busy",
        )

    def _take(self) -> Shelf:
        """Return the shelf to be changed; until it is kept again readers load their own."""
        with self._lock:
            shelf, self._shelf = self._shelf, None
        return shelf or Shelf()

    def _keep(self, shelf: Shelf) -> None:
        with self._lock:
            if self._shelf is None or self._shelf.head < shelf.head:
                self._shelf = shelf

    def _forward(self, shelf: Shelf) -> Shelf:
        if self._store.head() != shelf.head:
            for stored in self._store.events(after=shelf.head):
                shelf.fold(stored)
        return shelf


def _check_protocol(library: PriceLibrary) -> CatalogSource:
    return library
