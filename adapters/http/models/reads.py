"""Documents of questions: balances, usage, explanations."""

from __future__ import annotations

from typing import Annotated, Literal

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
        int, Field(ge=0, description="Events that stand without a price, and are in no amount.")
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
