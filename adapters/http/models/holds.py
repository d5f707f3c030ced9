"""Documents about holds; docs/spec/holds.md says what they mean."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from adapters.http.models.common import (
    Amount,
    Answered,
    Name,
    Number,
    Quantities,
    TenantRequest,
    Text,
    Time,
)

Ttl = Annotated[int, Field(description="Seconds.", examples=[300])]
Step = Annotated[int, Field(ge=1, le=10**9, description="Rising.")]
Labels = Annotated[dict[Name, Text], Field(max_length=20)]


class AuthorizeRequest(TenantRequest):
    """Ask whether a provider call may be made: quantities or an amount."""

    hold: Name
    quantities: Quantities | None = None
    amount: Annotated[
        Number | None, Field(description="A charge, or `available`: all that is left.")
    ] = None
    min_amount: Number | None = None
    provider: Text = ""
    model: Text = ""
    ttl: Ttl = 300
    on_expiry: Literal["capture_progress", "void", "capture_full"] = "capture_progress"
    currency: Text = ""
    kind: Literal["call", "lease"] = "call"
    user: Text = ""
    project: Text = ""
    api_key: Text = ""
    session: Text = ""
    conversation: Text = ""
    plugin: Text = ""
    labels: Labels = {}
    tools: list[Name] = []
    provider_account: Text = ""
    region: Text = ""
    tier: Text = ""
    batch: bool = False
    byok: bool = False
    billable: Literal["tenant", "platform"] = "tenant"


class ExtendRequest(TenantRequest):
    """Reserve up to a target, all in all; quantities or an amount."""

    step: Step
    quantities: Quantities | None = None
    amount: Number | None = None
    ttl: Ttl | None = None


class ProgressRequest(TenantRequest):
    """Keep what a call took so far."""

    step: Step
    quantities: Quantities


class CaptureRequest(TenantRequest):
    """Post what a call took, all in all."""

    capture: Name
    quantities: Quantities
    final: bool = True
    provider: Text = ""
    model: Text = ""
    tier: Text = ""
    region: Text = ""
    request_id: Text = ""
    outcome: Literal["ok", "error", "aborted"] = "ok"
    occurred_at: Time | None = None
    source: Name | None = None
    raw: Any = None


class VoidRequest(TenantRequest):
    """Give a hold up: the provider was not called."""

    void: Name
    reason: Text = ""
    force: bool = False


class ReverseRequest(TenantRequest):
    """Take part of a captured charge back."""

    reversal: Name
    amount: Number
    reason: Text = ""
    source: Name | None = None


class ReasonDocument(Answered):
    """Why: a budget or credit with its numbers, or what is missing."""

    code: str
    name: str
    measure: str | None = None
    limit: Amount | None = None
    spent: Amount | None = None
    held: Amount | None = None
    asked: Amount | None = None
    available: Amount | None = None
    window: Time | None = None
    detail: str | None = None


class EstimateLineDocument(Answered):
    """One line of an estimate: quantity x rate = amount."""

    meter: str
    quantity: Amount
    rate: Amount
    amount: Amount
    version: Annotated[str, Field(description="Version of the price.")]


class HoldAnswerDocument(Answered):
    """The answer to an operation on a hold."""

    status: str
    hold: str = ""
    decision: Literal["allow", "allow_partial", "allow_downgraded", "confirm", "deny"] | None = None
    suggested_status: int | None = None
    receipt: str | None = None
    flags: list[str] = []
    message: str | None = None
    code: str | None = None
    asked: Amount | None = None
    amount: Amount | None = None
    charge: Amount | None = None
    overrun: Amount | None = None
    currency: str | None = None
    provider: str | None = None
    model: str | None = None
    expires_at: Time | None = None
    reasons: list[ReasonDocument] = []
    estimate: list[EstimateLineDocument] = []
    violated_policies: Annotated[
        list[str],
        Field(
            description="What refuses: `budget:NAME`, `credit`, `entitlement:KIND:NAME`,"
            " `unpriced:WHAT`.",
            examples=[["budget:monthly"]],
        ),
    ] = []


class UsageKeyDocument(Answered):
    """Source and id of a usage event."""

    source: str
    id: str


class HoldBudgetDocument(Answered):
    """A budget in which a hold reserves."""

    number: int
    window: Time | None


class HoldDocument(Answered):
    """A hold; amounts are charge in the ledger's currency."""

    tenant: str
    hold: str
    status: Literal["open", "captured", "voided", "expired", "refused", "unmatched"]
    due: Annotated[bool, Field(description="Its time is over, and nobody has come by since.")]
    kind: Literal["call", "lease"]
    code: Annotated[str, Field(description="Of the authorization.")]
    provider: str
    model: str
    user: str
    currency: str
    reserved: Annotated[str, Field(description="Still reserved.")]
    reserved_at_most: Amount
    overrun: Annotated[str, Field(description="Charge beyond what was reserved.")]
    authorized_at: Time | None
    expires_at: Time | None
    on_expiry: Literal["capture_progress", "void", "capture_full"]
    step: Annotated[int, Field(description="Last extension.")]
    progress: Annotated[dict[str, Amount], Field(description="The last checkpoint.")]
    captured: Annotated[dict[str, Amount], Field(description="What was captured, all in all.")]
    final: bool
    late: Annotated[bool, Field(description="Captured after it was over.")]
    usage: Annotated[UsageKeyDocument | None, Field(description="The usage event that it became.")]
    budgets: list[HoldBudgetDocument]


class HoldsDocument(Answered):
    """Holds, the one that expires or expired last first."""

    tenant: str
    holds: list[HoldDocument]
    next: Annotated[str | None, Field(description="Cursor of the next page.")]


class DecisionDocument(Answered):
    """A kept answer to an authorization."""

    tenant: str
    receipt: str
    at: Time
    hold: str
    decision: Literal["allow", "allow_partial", "allow_downgraded", "confirm", "deny"]
    code: str
    provider: str
    model: Annotated[str, Field(description="That was asked for.")]
    called_model: Annotated[str, Field(description="That is to be called.")]
    user: str
    currency: str
    asked: Amount
    amount: Annotated[str, Field(description="Reserved by it.")]
    reasons: list[ReasonDocument]
    violated_policies: list[str]


class DecisionsDocument(Answered):
    """Decisions, the newest first."""

    tenant: str
    version: Annotated[int, Field(description="Commit up to which the listing counts.")]
    decisions: list[DecisionDocument]
    next: Annotated[str | None, Field(description="Cursor of the next page.")]
