"""Holds and the decisions that were kept, as questions; what changes them is in `holds`."""
# No `from __future__ import annotations`: see adapters.http.management.

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query

from adapters.http.context import Context
from adapters.http.cursors import Listing
from adapters.http.management import Document, Doors, Paged
from adapters.http.models.holds import DecisionsDocument, HoldDocument, HoldsDocument
from adapters.http.times import instant
from ledger.application.documents.protection import decision_document, hold_document
from ledger.application.services import Services
from ledger.domain.holds import hold_digest

MOST_COMMITS = 10_000
"""Most commits that one page of decisions looks at."""
_SCOPES = ("holds:write", "read")


def router(services: Services) -> APIRouter:
    """Return the routes."""
    api = APIRouter(tags=["protection"])
    doors = Doors(services)

    @api.get("/v2/holds", response_model=HoldsDocument)
    def holds(
        context: Annotated[Context, doors.query(*_SCOPES)],
        page: Paged,
        only: Annotated[
            Literal["open", "expired", "overrun"] | None,
            Query(description="Open, expired, or captured beyond what they reserved."),
        ] = None,
    ) -> Any:
        """List holds, the one that expires or expired last first.

        A hold that is extended between two pages moves to the front of the list.
        """
        listing = Listing("holds", (context.tenant, only))
        found = context.protection.holds(
            tenant=context.tenant,
            only=only,
            after=listing.place(page.cursor, tuple[int, bytes]),
            limit=page.limit + 1,
        )
        shown, following = listing.page(
            found, page.limit, lambda one: (one.hold.expires_at, hold_digest(one.hold.id))
        )
        return Document(
            {
                "tenant": context.tenant,
                "holds": [hold_document(one) for one in shown],
                "next": following,
            }
        )

    @api.get("/v2/holds/{hold:id}", response_model=HoldDocument)
    def hold(
        context: Annotated[Context, doors.query(*_SCOPES)],
        hold: Annotated[str, Path(description="The client's id.")],
    ) -> Any:
        """Return a hold."""
        return Document(hold_document(context.protection.hold(hold, tenant=context.tenant)))

    @api.get("/v2/decisions", response_model=DecisionsDocument)
    def decisions(
        context: Annotated[Context, doors.query(*_SCOPES, "support")],
        page: Paged,
        hold: Annotated[str | None, Query(max_length=256, description="Id of a hold.")] = None,
        decision: Annotated[
            Literal["allow", "allow_partial", "allow_downgraded", "confirm", "deny"] | None,
            Query(),
        ] = None,
        since: Annotated[
            str | None, Query(description="No older ones: a moment, or a day (00:00 UTC).")
        ] = None,
        as_of: Annotated[
            int | None,
            Query(ge=1, le=2**62, description="Only up to this commit: `version` of an answer."),
        ] = None,
    ) -> Any:
        """List the answers to authorizations that were kept, the newest first, with reasons.

        A page may be short, also empty, while `next` is there: many commits were looked at.
        """
        row = context.reads.tenant(context.tenant)
        version = min(as_of or row.version, row.version)
        listing = Listing("decisions", (context.tenant, hold, decision, since, as_of))
        before = listing.place(page.cursor, tuple[int, int])
        found, stopped = context.protection.decisions_scanned(
            tenant=context.tenant,
            decision=decision,
            hold=hold,
            since=instant(since, "since"),
            before=before or (version + 1, 0),
            limit=page.limit + 1,
            most=MOST_COMMITS,
        )
        shown, following = listing.page(found, page.limit, lambda one: (one.version, one.index))
        if following is None and stopped is not None:
            following = listing.cursor(stopped)
        return Document(
            {
                "tenant": context.tenant,
                "version": version,
                "decisions": [decision_document(one) for one in shown],
                "next": following,
            }
        )

    return api
