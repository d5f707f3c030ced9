"""The journal: bookings, exports that other programs read, the trial balance. The platform's."""
# No `from __future__ import annotations`: see adapters.http.management.

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from adapters.http.context import Context
from adapters.http.cursors import Listing
from adapters.http.few import Few
from adapters.http.management import Document, Doors, Paged
from adapters.http.models.journals import JournalDocument, TrialBalanceDocument
from ledger.application import ask_fields as fields
from ledger.application.documents.journals import (
    JournalForm,
    bookings_document,
    export_pieces,
    trial_balance_document,
)
from ledger.application.journals import BookingPlace, place_of
from ledger.application.services import Services
from ledger.domain.errors import InvalidInput
from ledger.domain.journal import Booking, trial_balance

WHOLE_JOURNALS = 2
"""Requests for the journal that a process answers at once: each makes it anew."""
_FILES = {
    JournalForm.BEANCOUNT: "journal.beancount",
    JournalForm.HLEDGER: "journal.hledger",
    JournalForm.NETSUITE: "netsuite.csv",
    JournalForm.QUICKBOOKS: "quickbooks.csv",
}
_OTHER_FORMS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "text/plain": {"schema": {"type": "string"}},
            "text/csv": {"schema": {"type": "string"}},
        }
    }
}


def router(services: Services) -> APIRouter:
    """Return the routes."""
    api = APIRouter(tags=["money"])
    enter = Doors(services).own_or_all("finance", "read", "support", platform=True)
    few = Few(WHOLE_JOURNALS)

    @api.get("/v2/journal", response_model=JournalDocument, responses=_OTHER_FORMS)
    def journal(
        context: Annotated[Context, enter],
        page: Paged,
        form: Annotated[JournalForm, Query(description="Who is to read it.")] = JournalForm.JSON,
        first: Annotated[
            str | None, Query(alias="from", description="First local day.", max_length=10)
        ] = None,
        to: Annotated[
            str | None, Query(description="First local day no longer included.", max_length=10)
        ] = None,
    ) -> Any:
        """Return the journal, of one tenant or of all: the same days, the same ids, always.

        JSON comes in pages; other forms whole, as a file. It is made anew for each request, of a
        page for the tenants on it, which takes time in proportion to their days and accounts; two
        at once a process, else 503 `server_busy`.
        """
        asked = {
            "first_day": None if first is None else fields.day(first, "/from"),
            "after_day": None if to is None else fields.day(to, "/to"),
        }
        if form is JournalForm.JSON:
            listing = Listing("journal", (context.only, first, to))
            after = listing.place(page.cursor, BookingPlace)
            with few.one():
                rows = context.services.journals.page(
                    limit=page.limit, after=after, tenant=context.only, **asked
                )
            shown, following = listing.page(rows, page.limit, place_of)
            return Document({**bookings_document(shown), "next": following})
        if not {"limit", "cursor"}.isdisjoint(context.exchange.query):
            raise InvalidInput(
                f"{form.value} comes whole; leave limit and cursor out",
                code="invalid_parameter",
                pointer="/form",
            )
        with few.one():
            booked = context.services.journals.bookings(tenant=context.only, **asked)
            return _file(form, booked)

    @api.get("/v2/journal/balance", response_model=TrialBalanceDocument)
    def balance(
        context: Annotated[Context, enter],
        through: Annotated[
            str | None, Query(description="Last local day that counts.", max_length=10)
        ] = None,
    ) -> Any:
        """Return the trial balance: debits and credits of each account, by currency."""
        after = None
        if through is not None:
            after = fields.day(through, "/through") + timedelta(days=1)
        with few.one():
            booked = context.services.journals.bookings(tenant=context.only, after_day=after)
        return Document(trial_balance_document(trial_balance(booked)))

    return api


def _file(form: JournalForm, booked: list[Booking]) -> Response:
    headers = {
        "Content-Type": form.media_type,
        "Content-Disposition": f'attachment; filename="{_FILES[form]}"',
    }
    return Response(b"".join(export_pieces(form, booked, accounts={})), headers=headers)
