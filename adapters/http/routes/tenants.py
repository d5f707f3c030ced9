"""Tenants: their ledgers, and opening them."""
# No `from __future__ import annotations`: see adapters.http.management.

from typing import Annotated, Any

from fastapi import APIRouter

from adapters.http.context import Context
from adapters.http.cursors import Listing
from adapters.http.management import Document, Doors, Paged, request_body
from adapters.http.models.admin import (
    OpenedDocument,
    TenantDocument,
    TenantsDocument,
    TenantSettingsRequest,
)
from ledger.application import ask_fields as fields
from ledger.application.documents.tenants import tenant_document
from ledger.application.ports import TenantRow
from ledger.application.services import Services
from ledger.domain.errors import NotFound, Refused

MODELS = (TenantSettingsRequest,)
_READ = ("admin", "read", "support", "finance")
_PATH = "/v2/tenants/{tenant:id}"
_SETTINGS: dict[str, fields.Check] = {
    "currency": fields.name,
    "timezone": fields.name,
    "book": fields.name,
}


def router(services: Services) -> APIRouter:
    """Return the routes."""
    api = APIRouter(tags=["admin"])
    doors = Doors(services)

    @api.get("/v2/tenants", response_model=TenantsDocument)
    def tenants(context: Annotated[Context, doors.own_or_all(*_READ)], page: Paged) -> Any:
        """List tenants by name; a key of a tenant sees its own."""
        listing = Listing("tenants", (context.only,))
        after = listing.place(page.cursor, tuple[str])
        if context.only is None:
            found = context.reads.tenants(after=after[0] if after else None, limit=page.limit + 1)
        else:
            found = [one for one in (_known(context),) if one is not None]
        shown, following = listing.page(found, page.limit, lambda one: (one.tenant,))
        return Document({"tenants": [tenant_document(one) for one in shown], "next": following})

    @api.get(_PATH, response_model=TenantDocument)
    def tenant(context: Annotated[Context, doors.tenant(*_READ)]) -> Any:
        """Return a tenant's settings and how far its ledger is."""
        return Document(tenant_document(context.reads.tenant(context.tenant)))

    @api.put(
        _PATH,
        response_model=OpenedDocument,
        openapi_extra=request_body(
            TenantSettingsRequest, example={"currency": "EUR", "timezone": "Europe/Berlin"}
        ),
    )
    def open_tenant(context: Annotated[Context, doors.tenant("admin")]) -> Any:
        """Open a tenant's ledger; its settings are for good, and the same again is nothing."""
        said = fields.read_members(context.document(), _SETTINGS)
        known = _known(context)
        if known is not None:
            settings = {name: getattr(known, name) for name in _SETTINGS}
            said = settings | said
        outcome = context.services.tenants.open(context.tenant, **said)
        row = context.reads.tenant(context.tenant)
        if outcome.status == "conflict":
            raise Refused(
                f"the ledger of {row.tenant!r} is open with currency {row.currency}, time zone"
                f" {row.timezone} and book {row.book}, for good",
                code="conflict",
            )
        return Document({"status": outcome.status, **tenant_document(row)})

    return api


def _known(context: Context) -> TenantRow | None:
    try:
        return context.reads.tenant(context.tenant)
    except NotFound:
        return None
