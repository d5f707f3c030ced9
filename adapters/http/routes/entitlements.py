"""Entitlements: what a tenant may use at all."""
# No `from __future__ import annotations`: see adapters.http.management.

from typing import Annotated, Any

from fastapi import APIRouter

from adapters.http.context import Context
from adapters.http.management import Document, Doors, request_body
from adapters.http.models.protection import EntitlementsDocument, EntitlementsRequest
from ledger.application import asks
from ledger.application.documents.entitlements import entitlements_document
from ledger.application.services import Services
from ledger.domain.entitlements import Entitlements

MODELS = (EntitlementsRequest,)
_PATH = "/v2/tenants/{tenant:id}/entitlements"


def router(services: Services) -> APIRouter:
    """Return the routes."""
    api = APIRouter(tags=["admin"])
    doors = Doors(services)

    @api.get(_PATH, response_model=EntitlementsDocument)
    def entitlements(
        context: Annotated[Context, doors.tenant("admin", "read", "support")],
    ) -> Any:
        """Return what a tenant may use."""
        found = context.protection.entitlements(context.tenant) or Entitlements()
        return Document(entitlements_document(context.tenant, found))

    @api.put(
        _PATH,
        response_model=EntitlementsDocument,
        openapi_extra=request_body(
            EntitlementsRequest, example={"default": "deny", "providers": ["openai"]}
        ),
    )
    def set_entitlements(context: Annotated[Context, doors.tenant("admin")]) -> Any:
        """Say what a tenant may use; replaces what was said before."""
        wanted = asks.entitlements(context.document())
        context.services.entitlements.set(wanted, tenant=context.tenant, by=context.by)
        return Document(entitlements_document(context.tenant, wanted))

    return api
