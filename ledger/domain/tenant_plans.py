"""What a tenant's plan charges at any moment: subscriptions and plan versions, made ready to rate.

A `TenantPlan` is a value that the write path keeps beside a ledger, as it keeps prices: made from
the tenant's billing account, replaced when that changes. It decides which leaf is charged by the
plan and which is left to the tenant's sell book.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from functools import lru_cache

import msgspec

from ledger.domain.billing_calendar import Holding, Segment, Stretch, span_on, stretches_of
from ledger.domain.billing_periods import BillingPeriod
from ledger.domain.charge_models import ChargeModel
from ledger.domain.errors import InvalidInput
from ledger.domain.periods import day_of, day_start
from ledger.domain.plan_rates import PlanRate, linear_rate, track_of
from ledger.domain.plans import Plan, PlanCharge
from ledger.domain.prices import PLAN_BOOK

PLAN_PRICE = f"{PLAN_BOOK}/"
"""How what stands for a price version begins where a plan's charge is the price."""
PlanOf = Callable[[str, int], Plan]
"""Returns a plan's version by its name and number."""


class UnitRate(msgspec.Struct, frozen=True):
    """A plan's charge that costs the same for every unit.

    Attributes:
        version: ``plan/<name>@<version>#<charge>``.
        rate: price of one unit.
    """

    version: str
    rate: Decimal


LeafPlan = PlanRate | UnitRate


def charge_version(plan: str, version: int, charge: str) -> str:
    """Return what stands for a price version where a plan's charge is the price."""
    return f"{PLAN_PRICE}{plan}@{version}#{charge}"


def plan_price_parts(version: str) -> tuple[str, int, str, str]:
    """Return plan, its version, charge and days of what stands for a price version.

    The days are "" where every unit costs the same.

    Raises:
        InvalidInput: ``invalid_version`` if it names no plan's charge.
    """
    name, _, days = version.removeprefix(PLAN_PRICE).partition(":")
    plan, _, rest = name.partition("@")
    number, _, charge = rest.partition("#")
    if not number.isdecimal():
        raise InvalidInput(f"{version[:200]!r} names no charge of a plan", code="invalid_version")
    return plan, int(number), charge, days


def plan_terms(window: str, model: ChargeModel) -> str:
    """Return what a charge costs, but for what goes by the days of a period, as text."""
    terms = msgspec.structs.replace(
        model,
        free_quantity=Decimal(0),
        min_amount=None,
        max_amount=None,
        commitment=None,
    )
    return f"{window or 'period'} {msgspec.json.encode(terms).decode()}"


def price_of(charge: PlanCharge, plan: str, stretch: Stretch, period: BillingPeriod) -> LeafPlan:
    """Return what a charge costs on the days of a stretch.

    Args:
        charge: of the plan.
        plan: its name.
        stretch: its days and the plan's version.
        period: of the plan's cycle that holds them.
    """
    return _rate(charge, plan, stretch.version, period, stretch.first_day, stretch.after_day)


PlanDaysId = tuple[date, date, date, date, str, int]
"""Days of a stretch and of its period, plan and version: all that a charge depends on."""


class PlanDays:
    """What holds on the days of one stretch.

    Args:
        stretch: its days, and the plan on them.
        period: of the plan's cycle that holds them.
        timezone: of the ledger.
        plan: the version; None at list prices.

    Attributes:
        id: tells stretches of one tenant apart, with whatever a charge depends on.
        start: first instant, microseconds since the epoch.
        end: first instant after it.
        tracks: the charges that depend on what was used so far.
    """

    __slots__ = ("_leaves", "_plan", "_rates", "_timezone", "end", "id", "start", "tracks")

    def __init__(
        self, stretch: Stretch, period: BillingPeriod, timezone: str, plan: Plan | None
    ) -> None:
        self._plan = plan
        self._timezone = timezone
        self._leaves: dict[tuple[str, str, str, bool], LeafPlan | None] = {}
        self._rates: dict[str, LeafPlan] = {}
        first, after = stretch.first_day, stretch.after_day
        self.start = day_start(timezone, first)
        self.end = day_start(timezone, after)
        self.id: PlanDaysId = (
            *(first, after, period.first_day, period.after_day),
            *(stretch.plan, stretch.version),
        )
        if plan is not None:
            self._rates = {
                charge.name: price_of(charge, plan.name, stretch, period) for charge in plan.charges
            }
        rates = self._rates.values()
        self.tracks = tuple(track_of(one) for one in rates if isinstance(one, PlanRate))

    @property
    def plain(self) -> bool:
        """Whether list prices hold."""
        return self._plan is None

    def leaf(self, *, provider: str, model: str, meter: str, byok: bool) -> LeafPlan | None:
        """Return what charges a leaf of an event; None leaves it to the sell book."""
        if self._plan is None:
            return None
        place = (provider, model, meter, byok)
        try:
            return self._leaves[place]
        except KeyError:
            charge = self._plan.charge_for(provider=provider, model=model, meter=meter, byok=byok)
            found = None if charge is None else self._rates[charge.name]
            if len(self._leaves) >= _LEAVES_KEPT:
                self._leaves.clear()
            self._leaves[place] = found
            return found

    def keys(self, at: int) -> list[str]:
        """Return the accumulator keys that usage at an instant may need."""
        return [track.key(self._timezone, at) for track in self.tracks]


_LEAVES_KEPT = 10_000
_DAYS_KEPT = 2_000


@lru_cache(maxsize=8192)
def _rate(
    charge: PlanCharge, plan: str, version: int, period: BillingPeriod, first: date, after: date
) -> LeafPlan:
    """Return a charge's price on some days of a period."""
    model = charge.model_for(period, first_day=first, after_day=after)
    name = charge_version(plan, version, charge.name)
    unit = linear_rate(model)
    if unit is not None:
        return UnitRate(name, unit)
    # What is taken back on one day may be worth what another day was charged, so that only the
    # sum over all days of a stretch says anything: other days, or the same ones as another part
    # of a period, are another price.
    days = f"{name}:{first}/{after}"
    if (first, after) != (period.first_day, period.after_day):
        days += f"~{period.first_day}/{period.after_day}"
    return PlanRate(days, charge.window, msgspec.json.encode(model))


class TenantPlan:
    """What a tenant's subscriptions come to, day by day; thread-safe.

    Args:
        holdings: plans by day, in order.
        segments: cycles by day, in order.
        timezone: of the ledger.
        plan_of: returns versions that were subscribed to.
    """

    __slots__ = ("_days", "_holdings", "_known", "_last", "_plan_of", "_segments", "_timezone")

    def __init__(
        self,
        holdings: Sequence[Holding],
        segments: Sequence[Segment],
        *,
        timezone: str,
        plan_of: PlanOf,
    ) -> None:
        self._holdings = tuple(holdings)
        self._segments = tuple(segments)
        self._timezone = timezone
        self._plan_of = plan_of
        self._days: dict[str, PlanDays] = {}
        self._known: dict[PlanDaysId, PlanDays] = {}
        self._last: PlanDays | None = None

    def at(self, at: int) -> PlanDays | None:
        """Return what holds at an instant; None at list prices.

        Args:
            at: microseconds since the epoch.
        """
        days = self._last
        if days is None or not days.start <= at < days.end:
            days = self._last = self._on(day_of(self._timezone, at))
        return None if days.plain else days

    def _on(self, day: str) -> PlanDays:
        found = self._days.get(day)
        if found is None:
            local = date.fromisoformat(day)
            span = span_on(local, timezone=self._timezone, segments=self._segments)
            stretch = next(
                one
                for one in stretches_of(span, self._holdings)
                if one.first_day <= local < one.after_day
            )
            plan = self._plan_of(stretch.plan, stretch.version) if stretch.plan else None
            found = PlanDays(stretch, span.period, self._timezone, plan)
            if len(self._days) >= _DAYS_KEPT:
                self._days.clear()
                self._known.clear()
            # Callers prepare commands on threads of their own: each of these is one step.
            found = self._days[day] = self._known.setdefault(found.id, found)
        return found
