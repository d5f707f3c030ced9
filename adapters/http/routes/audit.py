"""The audit log: who did what, which keys are used, and which still call what will go."""
# No `from __future__ import annotations`: see adapters.http.management.

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query

from adapters.http.context import Context
from adapters.http.cursors import DEFAULT_LIMIT, MAX_LIMIT, Listing
from adapters.http.management import Document, Doors, Paged
from adapters.http.models.admin import AuditDocument, DeprecationsDocument, UsesDocument
from adapters.http.operations import Operation
from adapters.http.times import instant
from ledger.application.documents.amounts import utc_text
from ledger.application.documents.audit import audit_document, uses_document
from ledger.application.key_uses import KeyUseSum
from ledger.application.services import Services
from ledger.domain.periods import to_us

DEPRECATIONS_DAYS = 30
"""How far back the report on routes that will go looks, where nobody says."""
_DAY_US = 86_400_000_000
# Of a key and a route there are at most five rows.
_MOST_USES = 100_000
Since = Annotated[
    str | None, Query(description="No older ones: a moment, or a day (00:00 UTC).", max_length=40)
]


def router(services: Services, operations: Sequence[Operation]) -> APIRouter:
    """Return the routes.

    Args:
        services: the use cases.
        operations: hot routes, some of which will go.
    """
    api = APIRouter(tags=["admin"])
    enter = Doors(services).own_or_all("admin")

    @api.get("/v2/audit", response_model=AuditDocument)
    def audit(
        context: Annotated[Context, enter],
        page: Paged,
        act: Annotated[
            str | None,
            Query(max_length=64, description="An act, or the noun of several.", examples=["key"]),
        ] = None,
        who: Annotated[str | None, Query(max_length=512, examples=["key:0123456789abc"])] = None,
    ) -> Any:
        """List who did what, the newest first; a key of a tenant sees what is about it."""
        listing = Listing("audit", (context.only, act, who))
        before = listing.place(page.cursor, tuple[int])
        limit = min(page.limit + 1, MAX_LIMIT)
        found = context.audit_log.list(
            tenant=context.only, before=before[0] if before else None, limit=limit, act=act, who=who
        )
        shown, following = listing.page(found, limit - 1, lambda one: (one.number,))
        return Document({"lines": [audit_document(one) for one in shown], "next": following})

    @api.get("/v2/audit/uses", response_model=UsesDocument)
    def uses(
        context: Annotated[Context, enter],
        key: Annotated[str | None, Query(max_length=64, description="Id of a key.")] = None,
        since: Since = None,
        daily: Annotated[bool, Query(description="Each day apart, in UTC.")] = False,
        limit: Annotated[
            int, Query(ge=1, le=MAX_LIMIT, description="Most rows of the answer.")
        ] = DEFAULT_LIMIT,
    ) -> Any:
        """Say how often keys called routes, those that were used last first."""
        found = context.key_uses.report(
            tenant=context.only,
            key=key,
            since=instant(since, "since"),
            daily=daily,
            limit=limit + 1,
        )
        shown = [uses_document(one) for one in found[:limit]]
        return Document({"uses": shown, "more": len(found) > limit})

    @api.get("/v2/admin/deprecations", response_model=DeprecationsDocument)
    def deprecations(context: Annotated[Context, enter], since: Since = None) -> Any:
        """Say which keys still call routes that will go."""
        start = instant(since, "since")
        if start is None:
            start = to_us(context.reads.now()) - DEPRECATIONS_DAYS * _DAY_US
        going = [one for one in operations if one.deprecated is not None]
        found = context.key_uses.report(
            tenant=context.only,
            since=start,
            routes=sorted({one.template for one in going}),
            limit=_MOST_USES,
        )
        return Document(
            {
                "since": utc_text(start),
                "routes": [_deprecated(one, found) for one in going],
            }
        )

    return api


def _deprecated(operation: Operation, uses: Sequence[KeyUseSum]) -> dict[str, Any]:
    """Return a route that will go, with the keys that called it."""
    if operation.deprecated is None:
        raise ValueError(f"{operation.template} stays")
    callers: dict[tuple[str, str], tuple[int, int]] = {}
    for one in uses:
        if one.route == operation.template:
            count, last = callers.get((one.tenant, one.key), (0, 0))
            callers[one.tenant, one.key] = (count + one.uses, max(last, one.last_at))
    return {
        "method": operation.method,
        "path": operation.template,
        "deprecated_on": operation.deprecated[0],
        "sunset_on": operation.deprecated[1],
        "keys": [
            {"tenant": tenant or None, "key": key, "uses": count, "last_at": utc_text(last)}
            for (tenant, key), (count, last) in sorted(callers.items())
        ],
    }
