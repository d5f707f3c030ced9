"""Daily rollups: the fold from a tenant's commits to usage by day, model, meter and person.

`fold` returns changes, to be added to the rows that are there. Adding is all that ever happens
to a row, so the rows do not depend on how the log was cut into batches. A row that was touched
exists, even when what it adds up to is nothing.

Rules: a correction takes back exactly the posting that it reverses and adds the one that it
posts, each on its own local day. Usage without a price counts in `quantity` and in `unpriced`
and has no amounts. The cost currency is the rate card's where the card has cost rates, and ""
otherwise (unpriced usage, the tenant's own provider key): a shape alone decides it.

A reversal takes back part of an event's charge and of no leaf in particular, so it has a row of its
own: on the usage's day, with its provider, model, user and project, meter and cost currency "", no
quantity, and the charge less what was taken back.

Numbers are integers: quantities x 10^6, amounts x 10^18.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

import msgspec

from ledger.domain.amounts import leaf_amounts
from ledger.domain.entries import (
    Commit,
    CorrectionApplied,
    Posting,
    UsageAdjusted,
    UsageRecorded,
    UsageRerated,
    UsageVoided,
)
from ledger.domain.errors import InvariantViolation
from ledger.domain.periods import day_of
from ledger.domain.protection_entries import ChargeReversed
from ledger.domain.shapes import CompiledShape

NAME = "usage_daily"
VERSION = 1
"""Version of the fold; rows that another version began to rebuild are not continued."""

RowKey = tuple[int, str, str, str, str, str, str, str]
"""Tenant number, local day, provider, model, meter, user, project, cost currency."""
Rows = dict[RowKey, list[int]]
"""What to add by row: quantity, charge, cost, unpriced quantity."""

_QUARTER_HOUR = 900_000_000
_DAYS_KEPT = 4096
_Group = tuple[int, str, str, str]
"""Shape number, local day, user, project."""


class Leaf(msgspec.Struct, frozen=True):
    """One meter of a shape, ready to be multiplied.

    Attributes:
        meter: its name.
        charge: charge x 10^18 of one unit of an entry's quantity; 0 where amounts are rounded.
        cost: cost x 10^18, likewise.
    """

    meter: str
    charge: int
    cost: int


class Plan:
    """What the fold derives from a shape once.

    Attributes:
        shape: the shape.
        leaves: one a meter.
        linear: whether a leaf's amount is its quantity times a rate, so that sums may be rated.
        cost_currency: of the rows; "" where there is no cost.
    """

    __slots__ = ("cost_currency", "leaves", "linear", "shape")

    def __init__(self, shape: CompiledShape) -> None:
        self.shape = shape
        self.linear = shape.plain
        card = shape.shape.card
        self.cost_currency = card.cost_currency if card is not None and card.cost else ""
        meters = shape.shape.meters
        none = (0,) * len(meters)
        charges = shape.sell_rates if self.linear and shape.sell_rates else none
        costs = shape.cost_rates if self.linear and shape.cost_rates else none
        self.leaves = tuple(
            Leaf(meter, charge * shape.charge_factor, cost * shape.cost_factor)
            for meter, charge, cost in zip(meters, charges, costs, strict=True)
        )


class TenantView:
    """What the fold must know of a tenant.

    Attributes:
        timezone: in which days begin.
        plans: by shape number; those at least that the commits at hand refer to.
    """

    __slots__ = ("plans", "timezone")

    def __init__(self, timezone: str) -> None:
        self.timezone = timezone
        self.plans: dict[int, Plan] = {}


def shapes_used(commit: Commit) -> set[int]:
    """Return the numbers of the shapes that a commit's postings and reversals refer to."""
    used: set[int] = set()
    for entry in commit.entries:
        if type(entry) is UsageRecorded or type(entry) is ChargeReversed:
            used.add(entry.shape)
        else:
            used.update(posting.shape for _, posting in postings_of(entry))
    return used


def fold(commits: Iterable[tuple[int, Commit]], views: Mapping[int, TenantView]) -> Rows:
    """Return what commits add to the daily rows.

    Args:
        commits: tenant numbers and commits, in any order.
        views: of these tenants, with the plans of all shapes that the commits refer to.

    Raises:
        InvariantViolation: a commit refers to a shape that is not there.
    """
    rows: Rows = {}
    grouped: dict[int, dict[_Group, list[tuple[int, ...]]]] = {}
    try:
        for tenant_id, commit in commits:
            groups = grouped.setdefault(tenant_id, {})
            _fold_commit(rows, groups, tenant_id, views[tenant_id], commit)
    except KeyError as error:
        raise InvariantViolation(
            f"a commit refers to tenant or shape {error}, which the ledger has not defined"
        ) from error
    for tenant_id, groups in grouped.items():
        _rate_groups(rows, groups, tenant_id, views[tenant_id].plans)
    return rows


def _fold_commit(
    rows: Rows,
    groups: dict[_Group, list[tuple[int, ...]]],
    tenant_id: int,
    view: TenantView,
    commit: Commit,
) -> None:
    """Collect linear usage by group, to be rated in sums; add rounded usage at once."""
    plans = view.plans
    days = _calendar(view.timezone)
    for entry in commit.entries:
        if type(entry) is not UsageRecorded:
            for sign, posting in postings_of(entry):
                _add_posting(rows, tenant_id, plans[posting.shape], days, posting, sign)
            if type(entry) is ChargeReversed:
                _add_reversal(rows, tenant_id, plans[entry.shape], days, entry)
            continue
        number = entry.shape
        plan = plans[number]
        if not plan.linear:
            _add_posting(rows, tenant_id, plan, days, entry, 1)
            continue
        extra = entry.extra
        day = days[entry.occurred_at // _QUARTER_HOUR]
        user, project = (extra.user, extra.project) if extra is not None else ("", "")
        group = (number, day, user, project)
        quantities = groups.get(group)
        if quantities is None:
            groups[group] = [entry.quantities]
        else:
            quantities.append(entry.quantities)


def postings_of(entry: object) -> tuple[tuple[int, Posting], ...]:
    """Return a correction's postings with their signs; nothing for other entries."""
    if isinstance(entry, UsageVoided):
        return ((-1, entry.reversed),) if entry.reversed is not None else ()
    if isinstance(entry, UsageAdjusted | UsageRerated | CorrectionApplied):
        both = ((-1, entry.reversed), (1, entry.posted))
        return tuple((sign, posting) for sign, posting in both if posting is not None)
    return ()


def _rate_groups(
    rows: Rows,
    groups: dict[_Group, list[tuple[int, ...]]],
    tenant_id: int,
    plans: Mapping[int, Plan],
) -> None:
    for (number, day, user, project), quantities in groups.items():
        plan = plans[number]
        shape = plan.shape
        totals = quantities[0] if len(quantities) == 1 else tuple(map(sum, zip(*quantities)))  # noqa: B905 (one shape's quantities are equally many)
        factor = shape.quantity_factor
        unpriced = shape.unpriced
        provider, model = shape.shape.provider, shape.shape.model
        currency = plan.cost_currency
        for leaf, total in zip(plan.leaves, totals, strict=True):
            key = (tenant_id, day, provider, model, leaf.meter, user, project, currency)
            row = rows.get(key)
            if row is None:
                row = rows[key] = [0, 0, 0, 0]
            quantity = total * factor
            row[0] += quantity
            row[1] += total * leaf.charge
            row[2] += total * leaf.cost
            if unpriced:
                row[3] += quantity


def _add_posting(
    rows: Rows,
    tenant_id: int,
    plan: Plan,
    days: Mapping[int, str],
    posting: Posting | UsageRecorded,
    sign: int,
) -> None:
    shape = plan.shape
    extra = posting.extra
    day = days[posting.occurred_at // _QUARTER_HOUR]
    user, project = (extra.user, extra.project) if extra is not None else ("", "")
    provider, model = shape.shape.provider, shape.shape.model
    charges, costs = posting_leaves(shape, posting)
    for place, (leaf, number) in enumerate(zip(plan.leaves, posting.quantities, strict=True)):
        key = (tenant_id, day, provider, model, leaf.meter, user, project, plan.cost_currency)
        row = rows.setdefault(key, [0, 0, 0, 0])
        quantity = sign * number * shape.quantity_factor
        row[0] += quantity
        if shape.unpriced:
            row[3] += quantity
        if charges:
            row[1] += sign * charges[place] * shape.charge_factor
        if costs:
            row[2] += sign * costs[place] * shape.cost_factor


def _add_reversal(
    rows: Rows, tenant_id: int, plan: Plan, days: Mapping[int, str], entry: ChargeReversed
) -> None:
    extra = entry.extra
    day = days[entry.occurred_at // _QUARTER_HOUR]
    user, project = (extra.user, extra.project) if extra is not None else ("", "")
    of = plan.shape.shape
    row = rows.setdefault(
        (tenant_id, day, of.provider, of.model, "", user, project, ""), [0, 0, 0, 0]
    )
    row[1] -= entry.amount


def posting_leaves(
    shape: CompiledShape, posting: Posting | UsageRecorded
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return a posting's charges and costs leaf by leaf, in the shape's decimals.

    Amounts of a shape that rounds over sessions depend on history, so its entries keep them.

    Raises:
        InvariantViolation: such an entry lacks them.
    """
    if not shape.stateful:
        return leaf_amounts(shape, posting.quantities)
    extra = posting.extra
    charges = extra.leaf_charges if extra is not None else ()
    costs = extra.leaf_costs if extra is not None else ()
    if sum(charges) != posting.charge or sum(costs) != posting.cost:
        raise InvariantViolation(
            f"the amounts by leaf of an entry at {posting.occurred_at} do not sum to its amounts"
        )
    return charges, costs


class _Calendar(dict[int, str]):
    """Local days by quarter of an hour, the fewest steps from an instant to its day."""

    def __init__(self, timezone: str) -> None:
        super().__init__()
        self._timezone = timezone

    def __missing__(self, quarter: int) -> str:
        if len(self) >= _DAYS_KEPT:
            self.clear()
        day = self[quarter] = day_of(self._timezone, quarter * _QUARTER_HOUR)
        return day


@lru_cache(maxsize=256)
def _calendar(timezone: str) -> _Calendar:
    return _Calendar(timezone)
