"""Documents of questions: balances, usage, explanations."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from adapters.http.models.common import Amount, Answered, Time

Count = Annotated[int, Field(ge=0)]
Quantities = Annotated[
    dict[str, Amount], Field(description="Quantity by meter.", examples=[{"tokens.input": "1200"}])
]
Costs = Annotated[
    dict[str, Amount], Field(description="Provider cost by currency.", examples=[{"USD": "0.021"}])
]


class SumsDocument(Answered):
    """What a stretch of time came to."""

    charge: Annotated[str, Field(description="Unrounded, in the tenant's currency.")]
    charge_rounded: Annotated[str, Field(description="Rounded once, to the currency's minor unit.")]
    costs: Costs
    quantities: Quantities
    events: Count
    voided: Count
    unpriced: Annotated[
        int,
        Field(
            ge=0,
            description="Events that wait for a price: in no amount, or only not in costs where"
            " a plan charges them.",
        ),
    ]


class PeriodDocument(SumsDocument):
    """A month of the tenant's time zone."""

    period: Annotated[str, Field(examples=["2026-11"])]


class CapDocument(Answered):
    """A tenant-wide cap on charge in its current window."""

    budget: str
    state: Literal["open", "closed"]
    window: str
    window_start: Time | None
    window_end: Time | None
    limit: Amount
    ceiling: Annotated[str, Field(description="What applies now: the first stop or confirm step.")]
    spent: Amount
    held: Amount
    available: Amount


class CreditSumsDocument(Answered):
    """Prepaid credit."""

    required: Annotated[bool, Field(description="Holds need credit for their whole amount.")]
    free: Amount
    held: Amount
    owed: Amount


class BalanceDocument(Answered):
    """Where a tenant stands."""

    tenant: str
    currency: str
    timezone: str
    version: Annotated[int, Field(description="Commit that this is the state after.")]
    month: Annotated[str, Field(description="The current one.", examples=["2026-11"])]
    spent: Annotated[str, Field(description="Unrounded charge of the current month.")]
    held: Annotated[str, Field(description="Charge that open holds reserve.")]
    available: Annotated[
        str | None,
        Field(
            description="The least that a tenant-wide cap on charge, or required credit, leaves;"
            " below 0 after an overrun, null where nothing bounds."
        ),
    ]
    bounded_by: Annotated[
        str | None, Field(description="The budget that leaves least, or `credit`.")
    ]
    open_holds: Count
    caps: list[CapDocument]
    credit: CreditSumsDocument
    periods: list[PeriodDocument]
    total: SumsDocument


class UsageRowDocument(Answered):
    """A group; it also has a member for each grouping that was asked for."""

    quantity: Annotated[Amount | None, Field(description="null where the group mixes meters.")]
    charge: Amount
    costs: Costs
    unpriced: Annotated[
        Amount | None, Field(description="Quantity without a price; null as above.")
    ]


class UsageDocument(Answered):
    """What a tenant used, grouped, in order of the groups."""

    tenant: str
    currency: str
    timezone: str
    from_: Annotated[str | None, Field(alias="from", description="First day.")]
    to: Annotated[str | None, Field(description="The day after the last one.")]
    by: list[str]
    lag: Annotated[
        int, Field(ge=0, description="Log positions, of all tenants, that are not counted yet.")
    ]
    rows: list[UsageRowDocument]
    next: Annotated[str | None, Field(description="Cursor of the next page.")]


class ProofDocument(Answered):
    """Where in the log an entry is."""

    receipt: str
    commit: int
    index: int
    digest: Annotated[str, Field(description="Of the commit, hex.")]
    before: Annotated[str, Field(description="Digest of the commit before; empty in the first.")]
    recorded_at: Time
    position: Annotated[int, Field(description="Of the commit in the whole log.")]


class ChangeDocument(Answered):
    """One step in an event's life; amounts as in the explanation's rating."""

    kind: Literal["recorded", "void", "adjust", "rerate", "applied", "conflict", "reversal"]
    proof: ProofDocument
    source: str
    id: str
    reason: str
    note: str
    took_back: dict[str, Any] | None
    posted: dict[str, Any] | None
    payload: Any
    amount: Annotated[str | None, Field(description="Charge that a reversal took back.")]


class ExplanationDocument(Answered):
    """All there is to say of a usage event."""

    tenant: str
    currency: str
    timezone: str
    book: str
    source: str
    id: str
    event: Annotated[
        dict[str, Any], Field(description="Canonical members as recorded, defaults left out.")
    ]
    occurred_at: Time
    time_defaulted: bool
    fingerprint: str
    proof: ProofDocument
    rating: Annotated[
        dict[str, Any], Field(description="Amounts as recorded, leaf by leaf, with the prices.")
    ]
    timeline: list[ChangeDocument]
    standing: Literal["recorded", "voided", "adjusted", "rerated"]
    stands: dict[str, Any] | None
    charge: Amount | None
    costs: Costs
    recomputed: Literal["equal", "different", "unpriced"]
