"""What tenants used, grouped, and how one event's amounts come about."""
# No `from __future__ import annotations`: see adapters.http.management.

import re
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from adapters.http.context import Context
from adapters.http.cursors import Listing
from adapters.http.management import Document, Doors, Paged
from adapters.http.models.reads import ExplanationDocument, UsageDocument
from adapters.http.times import day
from ledger.application.documents.explain import explanation_document
from ledger.application.documents.usage import usage_document
from ledger.application.explain import Explanation, explain
from ledger.application.reads import GROUPINGS
from ledger.application.services import Services
from ledger.domain.errors import NotFound

CATCH_UP_S = 2.0
"""Longest time that a request helps the rollups to catch up; ``lag`` says what is left."""
_RECEIPT = re.compile(r"[1-9][0-9]{0,17}\.[0-9]{1,9}")


def router(services: Services) -> APIRouter:
    """Return the routes."""
    api = APIRouter(tags=["read"])
    doors = Doors(services)

    @api.get("/v2/tenants/{tenant:id}/usage", response_model=UsageDocument)
    def usage(
        context: Annotated[Context, doors.tenant("read")],
        page: Paged,
        by: Annotated[
            str,
            Query(
                max_length=200,
                description=f"Some of {','.join(GROUPINGS)}, each once.",
                examples=["day,model"],
            ),
        ] = "model,meter",
        first: Annotated[
            str | None,
            Query(alias="from", description="First day, in the tenant's time zone."),
        ] = None,
        to: Annotated[
            str | None, Query(description="The day after the last one, likewise.")
        ] = None,
        catch_up: Annotated[
            bool, Query(description="Count what is in the log first, for at most 2 s.")
        ] = True,
    ) -> Any:
        """Return quantities, charge and provider cost, grouped; from the daily rollups."""
        groups = [name for name in (part.strip() for part in by.split(",")) if name]
        start, end = day(first, "from"), day(to, "to")
        row = context.reads.tenant(context.tenant)
        listing = Listing("usage", (row.tenant, tuple(groups), first, to))
        after = listing.place(page.cursor, tuple[str, ...])
        if catch_up and page.cursor is None:
            services.projections.catch_up(within_s=CATCH_UP_S)
        lag = context.reads.rollup_lag()
        rows = context.reads.usage(
            tenant=row.tenant, start=start, end=end, by=groups, after=after, limit=page.limit + 1
        )
        shown, following = listing.page(rows, page.limit, lambda one: one.group)
        document = usage_document(row, start, end, groups, shown, lag)
        return Document({**document, "next": following})

    @api.get("/v2/tenants/{tenant:id}/explain/{event:id}", response_model=ExplanationDocument)
    def explain_event(
        context: Annotated[Context, doors.tenant("read", "support")],
        event: Annotated[
            str,
            Path(description="Id of an event or a correction, receipt, or provider request id."),
        ],
        source: Annotated[
            str | None, Query(max_length=256, description="Source of the event.")
        ] = None,
    ) -> Any:
        """Explain one event: formula, prices, history, and where in the log it is."""
        return Document(explanation_document(_explained(context, event, source)))

    return api


def _explained(context: Context, event: str, source: str | None) -> Explanation:
    asked: dict[str, Any] = {
        "reads": context.reads,
        "tenant": context.tenant,
        "source": source,
        "prices": context.services.prices,
        "plans": context.services.plans,
    }
    if _RECEIPT.fullmatch(event):
        # A receipt as this API answers it: without the tenant, which the path names.
        try:
            return explain(event=f"{context.tenant}:{event}", **asked)
        except NotFound:
            pass
    return explain(event=event, **asked)
