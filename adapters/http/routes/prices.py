"""Price books: rows, proposals, decisions, mark-ups. They are no tenant's."""
# No `from __future__ import annotations`: see adapters.http.management.

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from adapters.http.context import Context
from adapters.http.cursors import Listing
from adapters.http.management import Document, Doors, Paged
from adapters.http.models.prices import (
    ContradictionsDocument,
    MarkupsDocument,
    PriceDocument,
    PricesDocument,
    ResolutionsDocument,
)
from adapters.http.times import instant
from ledger.application.documents.prices import (
    held_document,
    page_document,
    record_document,
    tree,
)
from ledger.application.price_lookup import PriceFilter
from ledger.application.services import Services
from ledger.domain.catalog import DEFAULT_BOOK
from ledger.domain.periods import from_us
from ledger.domain.prices import PriceKind, PriceStatus

_READ = ("finance", "read", "support")
Word = Annotated[str, Query(max_length=256)]


def router(services: Services) -> APIRouter:
    """Return the routes that answer questions."""
    api = APIRouter(tags=["money"])
    doors = Doors(services)

    @api.get("/v2/prices", response_model=PricesDocument)
    def prices(
        context: Annotated[Context, doors.platform(*_READ)],
        page: Paged,
        *,
        provider: Word = "",
        model: Annotated[str, Query(max_length=256, description="Part of the name.")] = "",
        meter: Word = "",
        kind: Annotated[PriceKind | None, Query()] = None,
        book: Annotated[str, Query(max_length=256, description="Sell book.")] = "",
        status: Annotated[PriceStatus | None, Query()] = None,
        source: Word = "",
    ) -> Any:
        """List price rows in order of book, key and date, retired ones too: their history."""
        del context
        only = PriceFilter(
            provider=provider,
            model=model,
            meter=meter,
            kind=kind,
            book=book,
            status=status,
            source=source,
        )
        listing = Listing("prices", (provider, model, meter, kind, book, status, source))
        after = listing.place(page.cursor, tuple[str])
        found = services.prices.list(only, after=after[0] if after else None, limit=page.limit + 1)
        rows, following = listing.page(found.records, page.limit, lambda one: (one.version,))
        document = page_document(type(found)(tuple(rows), found.total))
        return Document({**document, "next": following})

    @api.get("/v2/prices/contradictions", response_model=ContradictionsDocument)
    def contradictions(
        context: Annotated[Context, doors.platform(*_READ)],
        page: Paged,
        provider: Word = "",
    ) -> Any:
        """List held rows, where sources disagree, with the rows that contradict them."""
        del context
        listing = Listing("contradictions", (provider,))
        after = listing.place(page.cursor, tuple[str])
        everything = services.prices.diff(providers=[provider] if provider else ())
        found = list(everything)
        if after is not None:
            places = [one.held.version for one in found]
            # A row that was decided upon meanwhile is gone, and so is its place.
            found = found[places.index(after[0]) + 1 :] if after[0] in places else []
        shown, following = listing.page(found, page.limit, lambda one: (one.held.version,))
        document = held_document(shown, len(shown))
        return Document({**document, "total": len(everything), "next": following})

    @api.get("/v2/prices/at", response_model=ResolutionsDocument)
    def at(
        context: Annotated[Context, doors.platform(*_READ)],
        *,
        provider: Annotated[str, Query(min_length=1, max_length=256)],
        model: Annotated[str, Query(min_length=1, max_length=256)],
        meter: Annotated[
            str, Query(max_length=256, description="All that have a price where left out.")
        ] = "",
        time: Annotated[
            str | None, Query(description="A moment, or a day (00:00 UTC); now where left out.")
        ] = None,
        book: Annotated[str, Query(max_length=256, description="Sell book.")] = DEFAULT_BOOK,
        region: Word = "",
        tier: Word = "",
        batch: bool = False,
        input_tokens: Annotated[int, Query(ge=0, le=10**12)] = 0,
    ) -> Any:
        """Say which rows price a call at a time, and why."""
        del context
        asked = instant(time, "time")
        found = services.prices.at(
            provider=provider.lower(),
            model=model,
            meter=meter,
            region=region,
            tier=tier,
            batch=batch,
            input_tokens=input_tokens,
            book=book,
            at=None if asked is None else from_us(asked),
        )
        return Document({"prices": tree(found)})

    @api.get("/v2/prices/markups/{book:id}", response_model=MarkupsDocument)
    def markups(
        context: Annotated[Context, doors.platform(*_READ)],
        book: Annotated[str, Path(description="Sell book.")],
    ) -> Any:
        """List a sell book's mark-ups, in the order in which they were set."""
        del context
        return Document({"book": book, "markups": tree(services.prices.markups(book))})

    @api.get("/v2/prices/{version:id}", response_model=PriceDocument)
    def price(
        context: Annotated[Context, doors.platform(*_READ)],
        version: Annotated[str, Path(description="Of a row, such as cost/openai@3.17.")],
    ) -> Any:
        """Return a price row and all that is known of it, whatever became of it."""
        del context
        return Document(record_document(services.prices.find(version)))

    return api
