"""Billing periods: where they are, their close, and opening one again. They are the platform's."""
# No `from __future__ import annotations`: see adapters.http.management.

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query

from adapters.http.context import Context, Kept
from adapters.http.cursors import Listing
from adapters.http.exchange import named_tenant
from adapters.http.management import Document, Doors, Paged, request_body
from adapters.http.models.invoices import (
    BillingPeriodDocument,
    BillingPeriodsDocument,
    ClosedDocument,
    CloseRequest,
    ReopenRequest,
)
from ledger.application import billing_asks as asks
from ledger.application.documents.encoding import to_json
from ledger.application.documents.invoices import (
    close_document,
    period_document,
    periods_document,
)
from ledger.application.period_lists import PeriodFilter, PeriodState
from ledger.application.repeats import Command
from ledger.application.services import Services

MODELS = (CloseRequest, ReopenRequest)
_READ = ("finance", "read", "support")


def router(services: Services) -> APIRouter:
    """Return the routes."""
    api = APIRouter(tags=["money"])
    doors = Doors(services)

    @api.get("/v2/periods", response_model=BillingPeriodsDocument)
    def periods(
        context: Annotated[Context, doors.own_or_all(*_READ, platform=True)],
        page: Paged,
        state: Annotated[PeriodState | None, Query(description="Only those there.")] = None,
        overdue: Annotated[
            bool, Query(description="Only those whose grace is over and that are not closed.")
        ] = False,
    ) -> Any:
        """List closed periods and the one that is next, of one tenant or of all, in order.

        A page looks at 5,000 tenants at most, so it may be short or empty while `next` is there.
        """
        listing = Listing("periods", (context.only, state, overdue))
        found = context.services.periods.page(
            PeriodFilter(tenant=context.only, state=state, overdue=overdue),
            after=listing.place(page.cursor, tuple[int, date]),
            limit=page.limit,
        )
        following = None if found.following is None else listing.cursor(found.following)
        document = periods_document(found.rows, found.warnings)
        del document["more"]
        return Document({**document, "next": following})

    @api.post(
        "/v2/periods/close",
        response_model=ClosedDocument,
        openapi_extra=request_body(CloseRequest, example={"finalize": False}, once=True),
    )
    def close(
        context: Annotated[Context, doors.own_or_all("finance", platform=True)],
    ) -> Any:
        """Close every period whose grace is over; interrupted, it goes on where it was.

        It takes as long as there are periods that are over; docs/performance.md has figures.
        """
        document = context.document()
        tenant = context.one_or_all(document)
        ask = asks.close(document)

        def run(_: Command) -> Kept:
            report = context.services.periods.close(
                by=context.by, tenant=tenant, grace_hours=ask.grace_hours
            )
            finalized = 0
            if ask.finalize:
                finalized = context.services.invoicing.finalize_all(by=context.by, tenant=tenant)
            return Kept(to_json(close_document(report, finalized=finalized)))

        return Document(context.once(run))

    @api.post(
        "/v2/periods/reopen",
        response_model=BillingPeriodDocument,
        openapi_extra=request_body(
            ReopenRequest,
            example={"tenant": "acme", "first_day": "2026-11-01", "reason": "late import"},
            once=True,
        ),
    )
    def reopen(context: Annotated[Context, doors.platform("finance")]) -> Any:
        """Ask to open the latest closed period again; a second key within 7 days opens it.

        After the first the state is still `closed`, after the second it is `reopened`.
        """
        document = context.document()
        tenant = context.exchange.tenant(named_tenant(document))
        ask = asks.reopen(document)

        def run(_: Command) -> Kept:
            status = context.services.periods.reopen(
                tenant,
                first_day=ask.first_day,
                by=context.by,
                reason=ask.reason,
                # Also where a crash kept the answer from being kept.
                once=context.command(),
            )
            return Kept(to_json(period_document(status)))

        return Document(context.once(run))

    return api
