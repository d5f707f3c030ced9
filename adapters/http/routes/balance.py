"""Balances: where a tenant stands. Hot: gateways ask before they show or route anything."""

from __future__ import annotations

import asyncio
import re

from adapters.http.exchange import Answer, Exchange
from adapters.http.models.reads import BalanceDocument
from adapters.http.operations import Body, Operation, Parameter
from adapters.http.schema import reference
from ledger.application import ask_fields as fields
from ledger.application.documents.encoding import to_json
from ledger.application.documents.standing import standing_document
from ledger.application.services import Services

MODELS = (BalanceDocument,)
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
AS_OF = Parameter(
    name="as_of",
    description="A moment (RFC 3339), or the number of a commit: what the balance was then. Folds"
    " the tenant's log up to there, so it takes time in proportion to its entries.",
    schema={"type": "string", "examples": ["2026-11-01T00:00:00Z", "120"]},
)


def operations(services: Services) -> list[Operation]:
    """Return the routes."""
    standings = services.standings

    async def balance(exchange: Exchange) -> Answer:
        tenant = exchange.tenant(exchange.path["tenant"])
        if exchange.query_string:
            as_of = _as_of(exchange)
            if as_of is not None:
                version, at = as_of
                standing = await asyncio.to_thread(standings.at, tenant, version=version, at=at)
                return Answer(to_json(standing_document(standing)))
        return Answer(await standings.document(tenant))

    return [
        Operation(
            method="GET",
            path="/v2/tenants/{tenant:id}/balance",
            handler=balance,
            scopes=("read",),
            summary="Say where a tenant stands: spent, held, available.",
            tag="read",
            parameters=(AS_OF,),
            answers={200: Body(schema=reference(BalanceDocument))},
            tenant_in="path",
        )
    ]


def _as_of(exchange: Exchange) -> tuple[int | None, int | None] | None:
    """Return the commit or the moment that is asked for; None for now."""
    given = exchange.query.get("as_of")
    if given is None:
        return None
    if _VERSION.fullmatch(given):
        return int(given), None
    return None, fields.instant(given, "/as_of")
