"""Resolve the dated and conditional prices of one genai-prices model into periods.

The package keeps a list of prices of which the last active one holds, and variants that replace
single prices for a request context such as ``service_tier=flex``. Periods are what holds from one
start date to the next; a price that depends on the time of day is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import msgspec
from genai_prices.types import (
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    StartDateConstraint,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""Start of prices for which the source gives no date."""

TIME_OF_DAY = "the price depends on the time of day, which a row cannot say"

_STANDARD_TIERS = frozenset({"default", "standard"})


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """For which requests a set of prices holds.

    Attributes:
        when: the package's price context; {} is the standard price.
        tier: service tier of the rows.
        batch: whether the rows are batch prices.
        problem: why no row can say it; "" if one can.
    """

    when: Mapping[str, str]
    tier: str = ""
    batch: bool = False
    problem: str = ""

    @property
    def label(self) -> str:
        """Return the context as text; "" for the standard price."""
        return ", ".join(f"{key}={value}" for key, value in sorted(self.when.items()))


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """What holds from ``start`` until the next period.

    Attributes:
        start: UTC, inclusive.
        prices: price key to price; empty where ``problem`` says why.
        own: price keys that the context lists itself; None for the standard price.
        problem: why there are no prices.
    """

    start: datetime
    prices: Mapping[str, object]
    own: frozenset[str] | None = None
    problem: str = ""


def contexts(variants: Sequence[PriceVariant]) -> list[Context]:
    """Return the standard context, then each distinct one of the variants, in their order."""
    result = [Context(when={})]
    for variant in variants:
        if all(variant.when != context.when for context in result):
            context = _context(variant.when)
            same = context.tier == "" and not context.batch and not context.problem
            if same and any(_listed(v.prices) for v in variants if v.when == variant.when):
                problem = "it changes prices of what rows call the standard tier"
                result.append(Context(when=variant.when, problem=problem))
            elif not same:
                result.append(context)
    return result


def periods(
    model: ModelInfo, *, variants: Sequence[PriceVariant], context: Context
) -> Iterator[Period]:
    """Yield a model's periods in a context, in order of time.

    A context's first period is that of its first variant: the package would charge the standard
    price before, but the data does not say that the tier existed.
    """
    conditions = (
        [ConditionalPrice(prices=model.prices)]
        if isinstance(model.prices, ModelPrice)
        else model.prices
    )
    applying = [v for v in variants if v.when.items() <= context.when.items()]
    starts = {_start(condition.constraint) for condition in conditions}
    starts |= {_start(variant.constraint) for variant in applying}
    for start in sorted(starts):
        standard = _standing(conditions, start)
        active = [v for v in applying if _start(v.constraint) <= start]
        if standard is None or (context.when and not active):
            continue
        if isinstance(standard, str) or any(_conditional(v.constraint) for v in active):
            yield Period(start=start, prices={}, problem=TIME_OF_DAY)
            continue
        own: dict[str, object] = {}
        for variant in active:
            for key, price in _listed(variant.prices).items():
                own.setdefault(key, price)
        yield Period(
            start=start,
            prices={**_listed(standard), **own},
            own=frozenset(own) if context.when else None,
        )


def _context(when: Mapping[str, str]) -> Context:
    tier, batch = "", False
    for key, value in when.items():
        if key == "processing" and value == "batch":
            batch = True
        elif key in {"service_tier", "speed"} and not tier:
            tier = "" if value in _STANDARD_TIERS else value
        else:
            return Context(when=when, problem="a row has no such condition")
    return Context(when=when, tier=tier, batch=batch)


def _standing(conditions: Sequence[ConditionalPrice], at: datetime) -> ModelPrice | str | None:
    """Return the last price that is active, as the package does; `TIME_OF_DAY` if that varies."""
    for condition in reversed(conditions):
        if _conditional(condition.constraint):
            return TIME_OF_DAY
        if _start(condition.constraint) <= at:
            return condition.prices
    return None


def _conditional(constraint: object) -> bool:
    return constraint is not None and not isinstance(constraint, StartDateConstraint)


def _start(constraint: object) -> datetime:
    if isinstance(constraint, StartDateConstraint):
        day = constraint.start_date
        return datetime(day.year, day.month, day.day, tzinfo=UTC)
    return EPOCH


def _listed(prices: ModelPrice) -> dict[str, object]:
    return {key: price for key, price in vars(prices).items() if price is not None}
