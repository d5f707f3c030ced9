"""Documents of budgets, entitlements and the default cap, as docs/spec/holds.md has them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from adapters.http.models.common import (
    Amount,
    Answered,
    Name,
    Number,
    Request,
    TenantRequest,
    Text,
    Time,
)

Patterns = Annotated[
    list[Name], Field(description="Names; `*` at the end matches any rest.", examples=[["gpt-4*"]])
]
Next = Annotated[str | None, Field(description="Cursor of the next page.")]


class StepRequest(Request):
    """A step of a ladder: at a percentage of the limit or at an amount."""

    kind: Literal["inform", "warn", "projected", "downgrade", "confirm", "stop"]
    percent: Number | None = None
    amount: Number | None = None
    model: Annotated[Name | None, Field(description="Of a downgrade: called instead.")] = None


class FilterRequest(Request):
    """Which usage counts; what is left out is all."""

    providers: Patterns = []
    models: Patterns = []
    meters: Patterns = []
    byok: Literal["include", "exclude"] = "include"


class BudgetRequest(TenantRequest):
    """Terms: `cap` or `alert` with the usual ladder, or `limit` and `steps`; or `state` alone."""

    cap: Annotated[Number | None, Field(description="A limit that stops calls.")] = None
    alert: Annotated[Number | None, Field(description="A limit that only tells.")] = None
    limit: Number | None = None
    steps: Annotated[list[StepRequest] | None, Field(min_length=1, max_length=16)] = None
    scope: Annotated[
        str,
        Field(
            description="`tenant`, or such as `user=u1`, `project=p`, `label:team=blue`.",
            max_length=1024,
        ),
    ] = "tenant"
    filter: FilterRequest | None = None
    measure: Annotated[Text, Field(description="`charge`, `cost` or a meter.")] = "charge"
    currency: Annotated[Text, Field(description="Of a cost.")] = ""
    window: Annotated[
        Text,
        Field(description="`hour`, `day`, `week`, `month`, such as `rolling:24h`, `lifetime`."),
    ] = "month"
    on_unpriced: Literal["deny", "allow"] | None = None
    on_outage: Annotated[Text, Field(description="`fail_closed` or `lease:AMOUNT`.")] = (
        "fail_closed"
    )
    state: Annotated[
        Literal["open", "closed", "ended"] | None,
        Field(description="`closed` refuses all that it applies to, `ended` applies to nothing."),
    ] = None


class FilterDocument(Answered):
    """Which usage counts; an empty list is all."""

    providers: list[str]
    models: list[str]
    meters: list[str]
    byok: Literal["include", "exclude"]


class StepDocument(Answered):
    """A step of a ladder in the current window."""

    step: Annotated[str, Field(examples=["warn@80%"])]
    kind: Literal["inform", "warn", "projected", "downgrade", "confirm", "stop"]
    threshold: Amount
    fired: bool
    model: str | None = None


class ForecastDocument(Answered):
    """Where a window is going."""

    total: Amount
    limit_at: Annotated[str | None, Field(description="When the limit will be passed.")]


class BudgetDocument(Answered):
    """A budget and its current window; numbers are in its measure."""

    tenant: str
    budget: str
    number: int
    kind: Literal["cap", "alert"]
    state: Literal["open", "closed", "ended"]
    scope: str
    filter: FilterDocument
    measure: str
    currency: str
    window: str
    window_text: str
    window_start: Time | None
    window_end: Time | None
    limit: Amount
    ceiling: Amount
    spent: Amount
    held: Amount
    available: Amount
    confirmed: bool
    steps: list[StepDocument]
    forecast: ForecastDocument | None
    on_unpriced: Literal["deny", "allow"]
    on_outage: str


class BudgetsDocument(Answered):
    """Budgets by name."""

    tenant: str
    budgets: list[BudgetDocument]
    next: Next


class ConfirmationRequest(TenantRequest):
    """Raise the confirm ceiling of a budget's current window, once under this id."""

    id: Name
    ceiling: Number
    by: Annotated[Name | None, Field(description="Who confirms; the key where left out.")] = None
    until: Annotated[Time | None, Field(description="The window's end where it is left out.")] = (
        None
    )
    reason: Text = ""


class EntitlementsRequest(TenantRequest):
    """What a tenant may use; a kind without a list follows the default."""

    default: Literal["allow", "deny"] = "allow"
    providers: Patterns | None = None
    models: Patterns | None = None
    meters: Patterns | None = None
    plugins: Patterns | None = None
    tools: Patterns | None = None


class EntitlementsDocument(Answered):
    """What a tenant may use; a kind without a list is left out."""

    tenant: str
    default: Literal["allow", "deny"]
    providers: list[str] | None = None
    models: list[str] | None = None
    meters: list[str] | None = None
    plugins: list[str] | None = None
    tools: list[str] | None = None


class DefaultCapRequest(Request):
    """A limit of ledgers in one currency, or `waived`: "none", in as many words."""

    limit: Number | None = None
    currency: Text = "USD"
    waived: Annotated[Literal[True] | None, Field(description="No default cap.")] = None


class DefaultCapDocument(Answered):
    """The cap that a ledger gets which never had one."""

    waived: bool
    limits: Annotated[dict[str, Amount], Field(description="A month, by currency.")]
    otherwise: Annotated[
        str, Field(description="Of currencies with cents; 100 times that of others.")
    ]
    window: Literal["month"]
    by: Annotated[str, Field(description="Who said so; empty while nobody did.")]


class WaiverRequest(TenantRequest):
    """This tenant has no default cap, in as many words."""

    waived: Literal[True]


class WaiverDocument(Answered):
    """A tenant without a default cap, and the caps that it has nevertheless."""

    tenant: str
    status: str
    caps: list[str]
