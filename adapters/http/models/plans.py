"""Documents of plans and subscriptions; docs/spec/plans.md and periods.md say what they mean."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from adapters.http.models.common import Answered, JsonObject, Name, Number, Request, TenantRequest
from adapters.http.models.protection import Next

Day = Annotated[str, Field(json_schema_extra={"format": "date"}, examples=["2026-11-01"])]
"""A local day of a tenant."""
Version = Annotated[int, Field(ge=1, le=10**9, description="Of the plan.")]
Patterns = Annotated[list[Name], Field(max_length=100, examples=[["tokens.*"]])]
Words = Annotated[
    str,
    Field(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9]*([._-][a-z0-9]+)*$"),
]


class CycleRequest(Request):
    """How time is cut into billing periods."""

    anchor: Annotated[Day, Field(description="A day on which a period starts.")]
    timezone: Name
    unit: Literal["day", "week", "month", "year"] = "month"
    count: Annotated[int, Field(ge=1, le=120)] = 1


class ChargeRequest(Request):
    """One charge: which usage it takes, and its model (docs/spec/charges.md)."""

    name: Words
    meters: Patterns
    model: Annotated[JsonObject, Field(examples=[{"tiers": [{"rate": "0.01"}]}])]
    providers: Patterns = []
    models: Patterns = []
    byok: bool = True
    included: Number = "0"
    window: Literal["", "hour", "day"] = ""


class FeeRequest(Request):
    """What having the plan costs in each period."""

    name: Words
    amount: Number
    prorated: bool = True


class CommitmentRequest(Request):
    """A promised amount of all charges together."""

    amount: Number
    overage_factor: Number = "1"
    true_up: bool = True


class PlanRequest(Request):
    """A plan as a whole; docs/spec/plans.md."""

    name: Annotated[Words, Field(description="As in the path.")]
    currency: Annotated[str, Field(min_length=3, max_length=3, examples=["EUR"])]
    cycle: CycleRequest
    charges: Annotated[list[ChargeRequest], Field(max_length=200)] = []
    fees: Annotated[list[FeeRequest], Field(max_length=200)] = []
    commitment: CommitmentRequest | None = None
    min_amount: Number | None = None


class PlanDocument(Answered):
    """A version of a plan; members of it that have their default are left out."""

    name: str
    version: Annotated[int, Field(ge=1)]
    latest: Annotated[int, Field(ge=1, description="The last version that was published.")]
    retired: Annotated[bool, Field(description="Nobody new gets it.")]
    plan: JsonObject


class PlansDocument(Answered):
    """Plans by name, each in its latest version."""

    plans: list[PlanDocument]
    next: Next


class SubscribeRequest(TenantRequest):
    """Put a tenant on a plan from a day on."""

    plan: Name
    from_day: Annotated[Day, Field(description="First local day.")]
    version: Annotated[Version | None, Field(description="The latest where it is left out.")] = None
    anchor: Annotated[
        Day | None, Field(description="A day on which a period starts; else the cycle stays.")
    ] = None


class EndSubscriptionRequest(TenantRequest):
    """Put a tenant at list prices from a day on."""

    from_day: Annotated[Day, Field(description="First local day at list prices.")]


class PartyRequest(Request):
    """Who sells or buys."""

    name: Annotated[str, Field(min_length=1, description="As it is registered.")]
    address: list[str] = []
    country: Annotated[
        str, Field(pattern=r"^([A-Z]{2})?$", description="ISO 3166-1 alpha-2.", examples=["DE"])
    ] = ""
    tax_id: str = ""
    email: str = ""
    reference: str = ""


class TaxRequest(Request):
    """A tax rate and why it applies (UN/CEFACT 5305)."""

    category: Literal["S", "Z", "E", "AE", "K", "G", "O"] = "O"
    percent: Annotated[Number, Field(description="0 to 100; above 0 in `S` only.")] = "0"


class DetailsRequest(Request):
    """How invoices are made out; what is left out is the platform's."""

    party: Annotated[PartyRequest, Field(default_factory=PartyRequest.model_construct)]
    tax: Annotated[TaxRequest | None, Field(description="Of every line without one.")] = None
    line_taxes: Annotated[
        dict[str, TaxRequest], Field(description="By name of a plan's charge or fee.")
    ] = {}
    series: Annotated[
        str, Field(max_length=16, description="Of numbers.", examples=["DE-2026"])
    ] = ""
    payment_days: Annotated[int | None, Field(ge=0, le=365)] = None


class HoldingDocument(Answered):
    """What a tenant is on from a day on."""

    from_day: Day
    plan: Annotated[str | None, Field(description="null for list prices.")]
    version: int | None


class DetailsDocument(Answered):
    """How invoices are made out; what has its default is left out."""

    party: dict[str, Any] = {}
    tax: dict[str, Any] = {}
    line_taxes: dict[str, Any] = {}
    series: str = ""
    payment_days: int = 14


class SubscriptionDocument(Answered):
    """Where a tenant's billing stands."""

    tenant: str
    current: Annotated[
        HoldingDocument | None,
        Field(description="Today; null at list prices without an earlier plan."),
    ]
    plans: list[HoldingDocument]
    cycles: list[JsonObject]
    details: DetailsDocument
    closed_before: Annotated[Day | None, Field(description="First day that is not closed.")]
    unknown_taxes: Annotated[
        list[str],
        Field(description="Names in `line_taxes` that no charge or fee of the tenant's plans has."),
    ]
    rated_again: Annotated[
        int, Field(description="Events that this change has made be charged otherwise.")
    ]


class SubscriptionsDocument(Answered):
    """Where the billing of tenants stands, one a tenant, in order of their numbers."""

    subscriptions: list[SubscriptionDocument]
    next: Next
