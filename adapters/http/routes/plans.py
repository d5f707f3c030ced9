"""Plans and subscriptions: what tenants are charged for, from when on, and how it is invoiced."""
# No `from __future__ import annotations`: see adapters.http.management.

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from adapters.http.context import Context
from adapters.http.cursors import Listing
from adapters.http.exchange import check_json
from adapters.http.management import Document, Doors, Paged, request_body
from adapters.http.models.plans import (
    DetailsRequest,
    EndSubscriptionRequest,
    PlanDocument,
    PlanRequest,
    PlansDocument,
    SubscribeRequest,
    SubscriptionDocument,
    SubscriptionsDocument,
)
from ledger.application import billing_asks as asks
from ledger.application.documents.plans import (
    details_from_json,
    plan_document,
    subscription_document,
    subscriptions_document,
)
from ledger.application.services import Services
from ledger.domain.errors import InvalidInput
from ledger.domain.json_members import check_members_once
from ledger.domain.plans import plan_from_json

MODELS = (DetailsRequest, EndSubscriptionRequest, PlanRequest, SubscribeRequest)
_READ = ("finance", "read", "support")
_PLAN = "/v2/plans/{plan:id}"
_SUBSCRIPTION = "/v2/tenants/{tenant:id}/subscription"
_EXAMPLE = {
    "name": "team",
    "currency": "USD",
    "cycle": {"anchor": "2026-11-01", "timezone": "UTC"},
    "fees": [{"name": "base", "amount": "30"}],
    "charges": [
        {
            "name": "tokens",
            "meters": ["tokens.*"],
            "included": "1000000",
            "model": {"tiers": [{"rate": "4", "unit_size": "1000000"}]},
        }
    ],
}
Name = Annotated[str, Path(description="Of the plan.", max_length=256)]


def router(services: Services) -> APIRouter:
    """Return the routes."""
    api = APIRouter(tags=["money"])
    doors = Doors(services)
    _add_plans(api, doors)
    _add_subscriptions(api, doors)
    return api


def _add_plans(api: APIRouter, doors: Doors) -> None:
    @api.get("/v2/plans", response_model=PlansDocument)
    def plans(context: Annotated[Context, doors.platform(*_READ)], page: Paged) -> Any:
        """List plans by name, each in its latest version."""
        listing = Listing("plans")
        after = listing.place(page.cursor, tuple[str])
        found = [
            one for one in context.services.plans.list() if after is None or one.name > after[0]
        ]
        shown, following = listing.page(found, page.limit, lambda one: (one.name,))
        return Document({"plans": [plan_document(one) for one in shown], "next": following})

    @api.get(_PLAN, response_model=PlanDocument)
    def plan(
        context: Annotated[Context, doors.platform(*_READ)],
        plan: Name,
        version: Annotated[
            int | None, Query(ge=1, le=asks.MAX_VERSION, description="The latest if left out.")
        ] = None,
    ) -> Any:
        """Return a version of a plan."""
        return Document(plan_document(context.services.plans.plan(plan, version=version)))

    @api.put(
        _PLAN,
        response_model=PlanDocument,
        openapi_extra=request_body(PlanRequest, example=_EXAMPLE),
    )
    def publish(context: Annotated[Context, doors.platform("finance")], plan: Name) -> Any:
        """Publish a plan, or its next version; the same content again is no new version."""
        check_json(context.exchange.headers)
        # As it was sent: a plan's reader says itself what is wrong, and where.
        document = context.exchange.body
        named = plan_from_json(document).name
        if named != plan:
            raise InvalidInput(
                f"the path names the plan {plan[:64]!r}, the document {named!r}",
                code="invalid_plan",
                pointer="/name",
            )
        return Document(plan_document(context.services.plans.publish(document, by=context.by)))

    @api.post(f"{_PLAN}/retire", response_model=PlanDocument)
    def retire(context: Annotated[Context, doors.platform("finance")], plan: Name) -> Any:
        """Keep new subscribers away from a plan; publishing it opens it again."""
        return Document(plan_document(context.services.plans.retire(plan, by=context.by)))


def _add_subscriptions(api: APIRouter, doors: Doors) -> None:
    change = doors.tenant("finance", platform=True)

    @api.get("/v2/subscriptions", response_model=SubscriptionsDocument)
    def subscriptions(
        context: Annotated[Context, doors.platform(*_READ)],
        page: Paged,
        plan: Annotated[
            str | None,
            Query(max_length=256, description="Only tenants that are on it, or come to it."),
        ] = None,
    ) -> Any:
        """List tenants by number with their plans, cycles and details; also those without a plan.

        A page looks at 5,000 tenants at most, so it may be short or empty while `next` is there.
        """
        listing = Listing("subscriptions", (plan,))
        after = listing.place(page.cursor, tuple[int])
        found = context.services.subscriptions.page(
            plan=plan, after=after[0] if after else 0, limit=page.limit
        )
        document = subscriptions_document(found.rows)
        del document["more"]
        following = None if found.following is None else listing.cursor((found.following,))
        return Document({**document, "next": following})

    @api.get(_SUBSCRIPTION, response_model=SubscriptionDocument)
    def subscription(context: Annotated[Context, doors.tenant(*_READ)]) -> Any:
        """Return a tenant's plans by day, its billing cycles, and how it is invoiced."""
        return Document(subscription_document(context.subscriptions.show(context.tenant)))

    @api.put(
        _SUBSCRIPTION,
        response_model=SubscriptionDocument,
        openapi_extra=request_body(
            SubscribeRequest, example={"plan": "team", "from_day": "2026-12-01"}
        ),
    )
    def subscribe(context: Annotated[Context, change]) -> Any:
        """Put a tenant on a plan from a day on, or change its plan; the same again is nothing.

        A change in mid-period is prorated by days.
        """
        document = context.document()
        check_members_once(context.exchange.body, code="invalid_body")
        ask = asks.subscribe(document)
        view = context.services.subscriptions.subscribe(
            context.tenant,
            ask.plan,
            version=ask.version,
            from_day=ask.from_day,
            anchor=ask.anchor,
            by=context.by,
        )
        return Document(subscription_document(view))

    @api.post(
        f"{_SUBSCRIPTION}/end",
        response_model=SubscriptionDocument,
        openapi_extra=request_body(EndSubscriptionRequest, example={"from_day": "2027-01-01"}),
    )
    def end(context: Annotated[Context, change]) -> Any:
        """Put a tenant at list prices from a day on; again is nothing."""
        document = context.document()
        check_members_once(context.exchange.body, code="invalid_body")
        first = asks.end(document)
        view = context.services.subscriptions.end(context.tenant, from_day=first, by=context.by)
        return Document(subscription_document(view))

    @api.put(
        f"{_SUBSCRIPTION}/details",
        response_model=SubscriptionDocument,
        openapi_extra=request_body(
            DetailsRequest,
            example={
                "party": {"name": "Acme GmbH", "country": "DE"},
                "tax": {"category": "S", "percent": "19"},
            },
        ),
    )
    def set_details(context: Annotated[Context, change]) -> Any:
        """Say how a tenant's invoices are made out: buyer, taxes, series, payment days."""
        check_json(context.exchange.headers)
        details = details_from_json(context.exchange.body)
        view = context.services.subscriptions.set_details(context.tenant, details, by=context.by)
        return Document(subscription_document(view))
