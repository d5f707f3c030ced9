"""Budgets: caps that stop and alerts that tell; confirmations; the default cap."""
# No `from __future__ import annotations`: see adapters.http.management.

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from adapters.http.context import Context
from adapters.http.cursors import Listing
from adapters.http.management import Document, Doors, Paged, request_body
from adapters.http.models.protection import (
    BudgetDocument,
    BudgetRequest,
    BudgetsDocument,
    ConfirmationRequest,
    DefaultCapDocument,
    DefaultCapRequest,
    WaiverDocument,
    WaiverRequest,
)
from ledger.application import ask_fields as fields
from ledger.application.documents.budgets import (
    budget_document,
    default_cap_document,
    waiver_document,
)
from ledger.application.protection_reads import BudgetStanding
from ledger.application.services import Services
from ledger.domain.errors import NotFound

MODELS = (BudgetRequest, ConfirmationRequest, DefaultCapRequest, WaiverRequest)
_READ = ("read", "holds:write", "finance", "support")
_WRITE = ("admin", "finance")
_BUDGETS = "/v2/tenants/{tenant:id}/budgets"
Name = Annotated[str, Path(description="Name of the budget.", max_length=256)]


def router(services: Services) -> APIRouter:
    """Return the routes."""
    api = APIRouter(tags=["protection"])
    doors = Doors(services)

    @api.get(_BUDGETS, response_model=BudgetsDocument)
    def budgets(
        context: Annotated[Context, doors.tenant(*_READ)],
        page: Paged,
        ended: Annotated[bool, Query(description="Also those that ended.")] = False,
    ) -> Any:
        """List budgets with what is spent, held and available in their current windows."""
        listing = Listing("budgets", (context.tenant, ended))
        after = listing.place(page.cursor, tuple[str, int])
        found = [
            one
            for one in context.protection.budgets(tenant=context.tenant, ended=ended)
            if after is None or (one.terms.name, one.number) > after
        ]
        shown, following = listing.page(found, page.limit, lambda one: (one.terms.name, one.number))
        return Document(
            {
                "tenant": context.tenant,
                "budgets": [budget_document(one) for one in shown],
                "next": following,
            }
        )

    @api.get(f"{_BUDGETS}/{{budget:id}}", response_model=BudgetDocument)
    def budget(context: Annotated[Context, doors.tenant(*_READ)], budget: Name) -> Any:
        """Return a budget that is not ended."""
        found = context.protection.budget(tenant=context.tenant, name=budget)
        return Document(budget_document(found))

    @api.put(
        f"{_BUDGETS}/{{budget:id}}",
        response_model=BudgetDocument,
        openapi_extra=request_body(BudgetRequest, example={"cap": "500", "window": "month"}),
    )
    def set_budget(context: Annotated[Context, doors.tenant(*_WRITE)], budget: Name) -> Any:
        """Give a budget terms, or a state; the same again changes nothing.

        Limits and steps change at once and counters stay; another scope, filter, measure or
        window makes a new budget. A document of `state` alone closes, opens or ends it.
        """
        document = context.document()
        if set(document) == {"state"}:
            standing = _state(context, budget, document)
        else:
            standing = context.services.budgets.set(
                document, tenant=context.tenant, name=budget, by=context.by
            )
        return Document(budget_document(standing))

    @api.post(
        f"{_BUDGETS}/{{budget:id}}/confirmations",
        response_model=BudgetDocument,
        openapi_extra=request_body(
            ConfirmationRequest, example={"id": "confirm-1", "ceiling": "750", "by": "ann"}
        ),
    )
    def confirm(context: Annotated[Context, doors.tenant(*_WRITE, "support")], budget: Name) -> Any:
        """Let a budget's current window pass its confirm step, up to a ceiling."""
        document = context.signed(context.document())
        standing = context.services.budgets.confirm(document, tenant=context.tenant, name=budget)
        return Document(budget_document(standing))

    @api.put(
        "/v2/tenants/{tenant:id}/default-cap",
        response_model=WaiverDocument,
        openapi_extra=request_body(WaiverRequest, example={"waived": True}),
    )
    def waive(context: Annotated[Context, doors.tenant(*_WRITE)]) -> Any:
        """Say that a tenant has no default cap, in as many words; one that it got is ended."""
        fields.read_members(context.document(), {"waived": _true}, required=("waived",))
        outcome = context.services.budgets.waive(tenant=context.tenant, by=context.by)
        left = context.protection.budgets(tenant=context.tenant)
        return Document(waiver_document(context.tenant, outcome, left))

    _add_policies(api, services, doors)
    return api


def _add_policies(api: APIRouter, services: Services, doors: Doors) -> None:
    @api.get("/v2/policies/default-cap", response_model=DefaultCapDocument)
    def default_cap(
        context: Annotated[Context, doors.platform("read", "finance", "support")],
    ) -> Any:
        """Return the cap that a ledger gets which never had one."""
        return Document(default_cap_document(context.services.policies.default_cap()))

    @api.put(
        "/v2/policies/default-cap",
        response_model=DefaultCapDocument,
        openapi_extra=request_body(DefaultCapRequest, example={"limit": "100", "currency": "EUR"}),
    )
    def set_default_cap(context: Annotated[Context, doors.platform(*_WRITE)]) -> Any:
        """Set the default cap of ledgers in a currency, or say that there is none."""
        document = context.document()
        said = fields.read_members(document, _DEFAULT_CAP)
        policies = context.services.policies
        if "waived" in said:
            if len(said) > 1:
                fields.fail("/waived", "says that there is none; give it alone")
            cap = policies.waive_default_cap(by=context.by)
        elif "limit" not in said:
            fields.fail("/limit", "is missing; give a limit, or waived")
        else:
            cap = policies.set_default_cap(
                document["limit"], currency=said.get("currency") or "USD", by=context.by
            )
        return Document(default_cap_document(cap))


def _true(value: object, pointer: str) -> bool:
    if value is not True:
        fields.fail(pointer, "give true; what is not waived needs no word")
    return True


_DEFAULT_CAP: dict[str, fields.Check] = {
    "limit": fields.money,
    "currency": fields.currency,
    "waived": _true,
}
_STATE: dict[str, fields.Check] = {"state": fields.choice("open", "closed", "ended")}


def _state(context: Context, name: str, document: Mapping[str, object]) -> BudgetStanding:
    """Close, open or end a budget; in that state already, nothing changes."""
    state = fields.read_members(document, _STATE)["state"]
    budgets, tenant = context.services.budgets, context.tenant
    if state == "closed":
        return budgets.close(name, tenant=tenant, by=context.by)
    if state == "open":
        return budgets.reopen(name, tenant=tenant, by=context.by)
    try:
        return budgets.end(name, tenant=tenant, by=context.by)
    except NotFound:
        ended = [
            one
            for one in context.protection.budgets(tenant=tenant, ended=True)
            if one.terms.name == name
        ]
        if not ended:
            raise
        return ended[-1]
