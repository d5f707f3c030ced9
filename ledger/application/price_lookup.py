"""Looking prices up: filters for lists, and which row prices a call and why."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from ledger.application.price_shelf import Shelf
from ledger.domain.catalog import ANY, Catalog, PricedRow
from ledger.domain.periods import to_us
from ledger.domain.price_book import PriceBook
from ledger.domain.price_records import PriceRecord, Standing
from ledger.domain.prices import PriceKey, PriceKind, PriceStatus


class PriceFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows; None or "" is any.

    Attributes:
        provider: exactly.
        model: part of the name, in lower case.
        meter: exactly.
        kind: cost or sell.
        book: sell book; matches no cost row.
        status: proposed, approved or retired.
        source: who proposed it.
    """

    provider: str = ""
    model: str = ""
    meter: str = ""
    kind: PriceKind | None = None
    book: str = ""
    status: PriceStatus | None = None
    source: str = ""

    def wants_book(self, book: PriceBook) -> bool:
        """Tell whether rows of a book can pass."""
        return (
            (not self.provider or book.provider == self.provider.lower())
            and (self.kind is None or book.kind is self.kind)
            and (not self.book or (book.kind is PriceKind.SELL and book.book == self.book))
        )

    def wants(self, standing: Standing) -> bool:
        """Tell whether a row passes, given that its book does."""
        row = standing.row
        return (
            (self.status is None or standing.status is self.status)
            and (not self.model or self.model.lower() in row.key.model.lower())
            and (not self.meter or row.key.meter == self.meter)
            and (not self.source or row.source == self.source)
        )


class Resolution(msgspec.Struct, frozen=True, kw_only=True):
    """Which row prices one meter, and why.

    Attributes:
        kind: cost or sell.
        book: sell book; "" for costs.
        meter: the meter.
        record: the row; None if there is none: usage of the meter is unpriced then.
        why: the steps of the look-up, for people.
    """

    kind: PriceKind
    book: str
    meter: str
    record: PriceRecord | None
    why: tuple[str, ...]


def resolve(
    shelf: Shelf, catalog: Catalog, asked: PriceKey, *, book: str, at: datetime
) -> tuple[Resolution, ...]:
    """Return the rows that price a call, cost and sell, meter by meter.

    Args:
        shelf: the books that the catalog was made of.
        catalog: the approved prices.
        asked: provider, model, region and tier as the response says; meter "" is all that have
            a price; ``context_over`` is the request's input tokens less one.
        book: sell book.
        at: instant of use.
    """
    name = catalog.model_name(asked.provider, asked.model)
    found = []
    for kind in (PriceKind.COST, PriceKind.SELL):
        rows = catalog.rows(kind=kind, book=book)
        place, why = _place(kind, rows, asked, name, book)
        meters = [asked.meter] if asked.meter else _meters(rows, place)
        for meter in meters:
            key = msgspec.structs.replace(asked, provider=place[0], model=place[1], meter=meter)
            row = catalog.find(key, kind=kind, book=book, at=to_us(at))
            record = None
            if row is not None:
                home, standing = shelf.find(row.version)
                record = home.record(standing)
            found.append(
                Resolution(
                    kind=kind,
                    book="" if kind is PriceKind.COST else book,
                    meter=meter,
                    record=record,
                    why=(*why, *_because(rows, key, row, at)),
                )
            )
    return tuple(found)


def _place(
    kind: PriceKind, rows: Sequence[PricedRow], asked: PriceKey, name: str, book: str
) -> tuple[tuple[str, str], tuple[str, ...]]:
    """Return the provider and model whose rows are looked at, and why those."""
    means: tuple[str, ...] = ()
    if name != asked.model:
        means = (f"the model name {asked.model!r} means {name!r}",)
    place = (asked.provider, name)
    if kind is PriceKind.COST:
        return place, means
    places = {(priced.row.key.provider, priced.row.key.model) for priced in rows}
    for candidate in (place, (asked.provider, ANY), (ANY, ANY)):
        if candidate in places:
            if candidate == place:
                return place, means
            return candidate, (*means, f"book {book!r} has no row of its own for {name!r}")
    return place, means


def _meters(rows: Sequence[PricedRow], place: tuple[str, str]) -> list[str]:
    return sorted(
        {
            priced.row.key.meter
            for priced in rows
            if (priced.row.key.provider, priced.row.key.model) == place
        }
    )


def _because(
    rows: Sequence[PricedRow], key: PriceKey, row: PricedRow | None, at: datetime
) -> list[str]:
    same = [
        priced.row
        for priced in rows
        if (priced.row.key.provider, priced.row.key.model, priced.row.key.meter)
        == (key.provider, key.model, key.meter)
    ]
    if row is None:
        if not same:
            return [f"no approved row for {key.provider}/{key.model} {key.meter}: unpriced"]
        first = min(one.effective_from for one in same)
        return [
            f"{len(same)} rows for this meter, none for tier {key.tier or 'standard'!r},"
            f" batch {key.batch}, in force at that time (the first is from {first:%Y-%m-%d}):"
            " unpriced"
        ]
    found = row.row
    why = []
    if found.key.region != key.region:
        why.append(f"no row for region {key.region!r}, so the row of every region")
    if found.key.context_over:
        why.append(f"more than {found.key.context_over:,} input tokens re-price the whole request")
    why.append(f"in force from {found.effective_from:%Y-%m-%d %H:%M} UTC")
    later = [one.effective_from for one in same if one.key == found.key]
    following = min((start for start in later if start > found.effective_from), default=None)
    if following is not None:
        why.append(f"until {following:%Y-%m-%d %H:%M} UTC")
    return why
