"""Prepaid credit: grants, refunds, transfers, and whether holds need it."""
# No `from __future__ import annotations`: see adapters.http.management.

from typing import Annotated, Any

from fastapi import APIRouter

from adapters.http.context import Context
from adapters.http.cursors import Listing
from adapters.http.management import Document, Doors, Paged, request_body
from adapters.http.models.credits import (
    CreditPageDocument,
    CreditPolicyDocument,
    CreditPolicyRequest,
    GrantedDocument,
    GrantRequest,
    RefundRequest,
    TransferRequest,
    WithdrawalDocument,
)
from ledger.application import ask_fields as fields
from ledger.application.access import require_platform
from ledger.application.documents.credits import (
    credit_document,
    grant_document,
    policy_document,
    withdrawal_document,
)
from ledger.application.services import Services

MODELS = (CreditPolicyRequest, GrantRequest, RefundRequest, TransferRequest)
_CREDITS = "/v2/tenants/{tenant:id}/credits"


def router(services: Services) -> APIRouter:
    """Return the routes."""
    api = APIRouter(tags=["money"])
    doors = Doors(services)

    @api.get(_CREDITS, response_model=CreditPageDocument)
    def credits(
        context: Annotated[Context, doors.tenant("finance", "read", "support")], page: Paged
    ) -> Any:
        """Return prepaid credit: what is free, held and owed, and the grants."""
        listing = Listing("credits", (context.tenant,))
        after = listing.place(page.cursor, tuple[int])
        standing = context.protection.credit(context.tenant)
        grants = [one for one in standing.grants if after is None or one.number > after[0]]
        shown, following = listing.page(grants, page.limit, lambda one: (one.number,))
        document = credit_document(standing, shown)
        return Document({**document, "next": following})

    @api.post(
        f"{_CREDITS}/grants",
        response_model=GrantedDocument,
        openapi_extra=request_body(GrantRequest, example={"id": "grant-1", "amount": "50"}),
    )
    def grant(context: Annotated[Context, doors.tenant("finance")]) -> Any:
        """Give credit; the same grant again is a `duplicate`."""
        document = context.signed(context.document())
        outcome = context.services.credits.grant(document, tenant=context.tenant)
        standing = context.protection.credit(context.tenant)
        given = [one for one in standing.grants if one.id == document["id"]]
        return Document(grant_document(outcome, document["id"], standing, given))

    @api.post(
        f"{_CREDITS}/refunds",
        response_model=WithdrawalDocument,
        openapi_extra=request_body(
            RefundRequest, example={"id": "refund-1", "grant": "grant-1", "amount": "available"}
        ),
    )
    def refund(context: Annotated[Context, doors.tenant("finance")]) -> Any:
        """Take free paid credit out of a grant; the same again answers the first."""
        document = context.signed(context.document())
        done = context.services.credits.refund(document, tenant=context.tenant)
        return Document(withdrawal_document(done, context.reads.tenant(context.tenant).currency))

    @api.post(
        f"{_CREDITS}/transfers",
        response_model=WithdrawalDocument,
        openapi_extra=request_body(
            TransferRequest,
            example={"id": "pass-1", "grant": "grant-1", "amount": "20", "to": "globex"},
        ),
    )
    def transfer(context: Annotated[Context, doors.tenant("finance")]) -> Any:
        """Pass free credit on to another tenant; needs a key of the platform.

        The same transfer again completes one that was interrupted, or changes nothing.
        """
        # It writes in two ledgers, and a key of a tenant opens one.
        require_platform(context.exchange.who)
        document = context.signed(context.document())
        done = context.services.credits.transfer(document, tenant=context.tenant)
        return Document(withdrawal_document(done, context.reads.tenant(context.tenant).currency))

    @api.put(
        f"{_CREDITS}/policy",
        response_model=CreditPolicyDocument,
        openapi_extra=request_body(CreditPolicyRequest, example={"required": True}),
    )
    def policy(context: Annotated[Context, doors.tenant("finance")]) -> Any:
        """Say whether holds need credit for their whole amount."""
        said = fields.read_members(
            context.document(), {"required": fields.flag}, required=("required",)
        )
        required: bool = said["required"]
        outcome = context.services.credits.policy(
            tenant=context.tenant, required=required, by=context.by
        )
        return Document(policy_document(context.tenant, outcome, required=required))

    return api
