"""Verify, the prices: what rated the entries is what the price books say.

Entries carry their prices in shapes, each leaf with the version of the row, or of the plan's
charge, it came from. A price book is a stream of the same log without digests of its own, as a plan
is; comparing every version in use with it finds one that was changed or can no longer be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from ledger.application.plans import PlanView
from ledger.application.reads import Reads
from ledger.application.replay import Difference
from ledger.domain.errors import InvariantViolation, LedgerError
from ledger.domain.money import plain, text
from ledger.domain.plan_rates import linear_rate, track_of
from ledger.domain.price_records import PriceRecord
from ledger.domain.shapes import LeafRate, rate_decimal, shape_from_body
from ledger.domain.tenant_plans import PLAN_PRICE, plan_price_parts, plan_terms


class PlanRows(Protocol):
    """Finds a version of a plan."""

    def plan(self, name: str, *, version: int | None = None) -> PlanView:
        """Return a version of a plan."""
        ...


class PriceRows(Protocol):
    """Finds a row by its version."""

    def find(self, version: str) -> PriceRecord:
        """Return all that is known of a row."""
        ...


def price_differences(
    *, reads: Reads, prices: PriceRows, plans: PlanRows, tenant: str | None = None
) -> list[Difference]:
    """Return where a rate in use is not the rate of the row that it cites.

    Args:
        reads: tenants and their shapes.
        prices: the price books as the log has them.
        plans: plans, likewise.
        tenant: only this one's; None for all.

    Returns:
        Differences of code ``price`` (another rate, or no such row) and ``price_unreadable``.
    """
    names = [tenant] if tenant is not None else [row.tenant for row in reads.tenants()]
    known: dict[str, str] = {}
    found: list[Difference] = []
    for name in names:
        seen: set[tuple[str, str]] = set()
        for version, rate in _rates(reads, name):
            if version not in known:
                try:
                    known[version] = _said(version, prices, plans)
                except InvariantViolation as error:
                    return [*found, Difference(name, "price_unreadable", version, rate, str(error))]
                except LedgerError as error:
                    known[version] = error.message
            if known[version] != rate and (version, rate) not in seen:
                seen.add((version, rate))
                found.append(Difference(name, "price", version, rate, known[version]))
    return found


def _said(version: str, prices: PriceRows, plans: PlanRows) -> str:
    """Return the unit rate of a row, or what a plan's charge costs on its days.

    Raises:
        LedgerError: there is none, or it cannot be read.
    """
    if not version.startswith(PLAN_PRICE):
        return text(prices.find(version).row.unit_rate())
    plan, number, name, days = plan_price_parts(version)
    charge = plans.plan(plan, version=number).plan.charge(name)
    if not days:
        unit = linear_rate(charge.model)
        return "not the same for every unit" if unit is None else text(plain(unit))
    return plan_terms(charge.window, charge.model)


def _rates(reads: Reads, tenant: str) -> Iterator[tuple[str, str]]:
    """Yield version and unit rate, or a plan's terms, of every leaf price of a tenant's shapes."""
    for body in reads.shapes(tenant):
        card = shape_from_body(body).shape.card
        if card is None:
            continue
        running = {plan.version for plan in card.plans}
        for leaves, decimals in ((card.sell, card.sell_decimals), (card.cost, card.cost_decimals)):
            yield from (
                _rate(leaf, decimals)
                for leaf in leaves
                if leaf.version and leaf.version not in running
            )
        for plan in card.plans:
            yield plan.version, plan_terms(plan.window, track_of(plan).model)


def _rate(leaf: LeafRate, decimals: int) -> tuple[str, str]:
    return leaf.version, text(plain(rate_decimal(leaf.rate, decimals)))
