"""What the model of cost protection speaks of: prices, terms, asks, usage, windows; plain values.

Instants are microseconds since the epoch, the zone is UTC, there is one provider.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal, NamedTuple

SECOND = 1_000_000
UNITS = {"m": 60 * SECOND, "h": 3600 * SECOND, "d": 86400 * SECOND}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SOURCE = "tallybook:hold"
EXPIRY = "tallybook:expiry"
ZERO = Decimal(0)
LEAST = Decimal(1).scaleb(-18)
Quantities = dict[str, Decimal]
Available = Literal["available"]


class Price(NamedTuple):
    """What one unit of a meter sells for and costs."""

    sell: Decimal
    cost: Decimal


PRICES: dict[str, dict[str, Price]] = {
    "big": {
        "tokens.input": Price(Decimal(2), Decimal(1)),
        "tokens.output": Price(Decimal(5), Decimal(3)),
    },
    "small": {
        "tokens.input": Price(Decimal(1), Decimal("0.5")),
        "tokens.output": Price(Decimal(2), Decimal("1.5")),
    },
}
"""Prices by model and meter; a model that is not here has none."""


@dataclass(frozen=True)
class Rung:
    """A step of a ladder, at a threshold in the budget's measure."""

    kind: str
    at: Decimal
    model: str = ""


@dataclass(frozen=True)
class Terms:
    """A budget's terms; empty filters admit everything."""

    name: str
    limit: Decimal
    steps: tuple[Rung, ...]
    scope: str = "tenant"
    value: str = ""
    models: tuple[str, ...] = ()
    meters: tuple[str, ...] = ()
    measure: str = "charge"
    window: str = "day"
    on_unpriced: str = "deny"
    state: str = "open"

    @property
    def cap(self) -> bool:
        """Tell whether it stops calls."""
        return any(step.kind in ("stop", "confirm") for step in self.steps)

    def lowest(self, kind: str) -> Decimal | None:
        """Return the lowest threshold of a kind of step."""
        return min((step.at for step in self.steps if step.kind == kind), default=None)

    def identity(self) -> tuple[object, ...]:
        """Return what makes another budget of it when it changes."""
        return (self.scope, self.value, self.models, self.meters, self.measure, self.window)


@dataclass
class Budget:
    """A budget, and the confirmations of its windows."""

    number: int
    terms: Terms
    confirmed: list[tuple[int, int, Decimal]] = field(default_factory=list)


@dataclass(frozen=True)
class Who:
    """Attribution of a call."""

    user: str = ""
    label: str = ""


@dataclass(frozen=True)
class Ask:
    """What an authorization asks for; ``quantities`` as sorted pairs, ``ttl`` in seconds."""

    model: str
    who: Who = Who()
    amount: Decimal | Available | None = None
    quantities: tuple[tuple[str, Decimal], ...] = ()
    min_amount: Decimal | None = None
    ttl: int = 300
    on_expiry: str = "capture_progress"


@dataclass
class Usage:
    """A usage event: what was recorded, and what corrections say of it."""

    source: str
    id: str
    model: str
    who: Who
    at: int
    quantities: Quantities
    hold: str = ""
    void: bool = False
    adjusted: Quantities | None = None
    reversed: Decimal = ZERO
    named: bool = True
    event: bool = False

    def standing(self) -> Quantities | None:
        """Return the quantities that count; None after a void."""
        if self.void:
            return None
        return self.quantities if self.adjusted is None else self.adjusted


class Answer(NamedTuple):
    """What an operation answers: code, decision, charge reserved, model to call."""

    code: str
    decision: str = ""
    amount: Decimal = ZERO
    model: str = ""


@dataclass
class Hold:
    """What is known of a hold's id.

    Attributes:
        amount: charge that it still reserves.
        reserved: charge that it reserved in all.
        bindings: what it still reserves in budgets, by number.
    """

    id: str
    status: str = "unmatched"
    ask: Ask | None = None
    code: str = ""
    first: Answer = field(default_factory=lambda: Answer(""))
    model: str = ""
    at: int = 0
    expires_at: int = 0
    amount: Decimal = ZERO
    reserved: Decimal = ZERO
    estimate: Quantities = field(default_factory=dict)
    bindings: dict[int, Decimal] = field(default_factory=dict)
    step: tuple[int, object] = (0, None)
    checkpoint: tuple[int, Quantities] = (0, {})
    final: bool = False
    usage: Usage | None = None


class Refused(NamedTuple):
    """Why an ask does not fit."""

    code: str


def charge_of(model: str, quantities: Quantities) -> Decimal | None:
    """Return what quantities sell for; None where one of them has no price."""
    prices = PRICES.get(model, {})
    if any(quantity and meter not in prices for meter, quantity in quantities.items()):
        return None
    return sum((q * prices[m].sell for m, q in quantities.items() if q), ZERO)


def merged(one: Quantities, other: Quantities) -> Quantities:
    """Return the larger quantity of each meter."""
    return {meter: max(one.get(meter, ZERO), other.get(meter, ZERO)) for meter in {**one, **other}}


def filled(who: Who, asked: Who) -> Who:
    """Return attribution, with what was asked for where it says nothing."""
    return Who(who.user or asked.user, who.label or asked.label)


def call_of(usage: Usage) -> tuple[str, int, bool]:
    """Return what a call was: model, time, and whether somebody named the time."""
    return usage.model, usage.at, usage.named


def nonzero(quantities: Quantities) -> Quantities:
    """Return quantities without those of nothing."""
    return {meter: quantity for meter, quantity in quantities.items() if quantity}


def window_of(window: str, at: int) -> object:
    """Return a name of the window, or the rolling window's bucket, that holds an instant."""
    if window == "lifetime":
        return "ever"
    if window.startswith("rolling:"):
        return at // UNITS[window[-1]]
    moment = EPOCH + timedelta(microseconds=at)
    form = {"hour": "%Y-%m-%d %H", "day": "%Y-%m-%d", "week": "%G-%V", "month": "%Y-%m"}
    return moment.strftime(form[window])


def window_end(window: str, at: int) -> int:
    """Return the end of the hour or day that holds an instant."""
    length = UNITS["h"] if window == "hour" else UNITS["d"]
    return at - at % length + length


def counts_at(window: str, at: int, now: int) -> bool:
    """Tell whether what happened at an instant is in the window that is current at ``now``."""
    if window.startswith("rolling:"):
        unit = UNITS[window[-1]]
        return 0 <= now // unit - at // unit <= int(window[len("rolling:") : -1])
    return window_of(window, at) == window_of(window, now)


def measured(terms: Terms, model: str, quantities: Quantities) -> Decimal:
    """Return what quantities count in a budget, in its measure."""
    counted = {m: q for m, q in quantities.items() if not terms.meters or m in terms.meters}
    if terms.measure not in ("charge", "cost"):
        return counted.get(terms.measure, ZERO)
    if charge_of(model, quantities) is None:
        return ZERO
    prices = PRICES.get(model, {})
    side = 0 if terms.measure == "charge" else 1
    return sum((q * prices[m][side] for m, q in counted.items() if q), ZERO)
