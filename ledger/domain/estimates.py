"""Estimates: what a call that is yet to be made would come to, by the price book. Pure.

The formula is quantity x rate = amount, summed over the meters; quantities are rounded as the
price says. Prices that round over a session round an estimate as a session of its own. What a plan
charges by what was used so far is estimated upon what is recorded by now, and upon what open holds
may use beside it: `ledger.domain.promises`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from ledger.domain.amounts import leaf_amounts
from ledger.domain.budgets import Budget
from ledger.domain.catalog import Catalog, Rated
from ledger.domain.entry_parts import Extra
from ledger.domain.holds import HOLD_SOURCE, Ask, EstimateLine
from ledger.domain.ledger import LedgerState, amounts_now
from ledger.domain.promises import Part, upon_promises
from ledger.domain.protection_entries import Promise
from ledger.domain.shapes import CompiledShape
from ledger.domain.usage import UsageEvent, scaled_quantities


class Estimate(msgspec.Struct, gc=False, frozen=True):
    """What an ask comes to.

    Attributes:
        shape: that rated it.
        numbers: quantities in the shape's decimals; empty for an ask by amount.
        charge: in the shape's charge decimals.
        cost: in the shape's cost decimals.
        amount: charge x 10^18.
        extra: attribution, with amounts by leaf where the shape rounds sessions.
        by_amount: nothing is known but the charge.
        promises: what it may use of a plan's charges, and what of ``amount`` is for that.
    """

    shape: CompiledShape
    numbers: tuple[int, ...]
    charge: int
    cost: int
    amount: int
    extra: Extra | None
    by_amount: bool = False
    promises: tuple[Promise, ...] = ()

    def needs(self, budget: Budget) -> int | None:
        """Return what the ask counts in a budget, in its measure; None where that is unknown."""
        if not self.by_amount:
            terms = budget.terms
            if terms.is_money and (
                self.shape.unpriced or (self.shape.waits and terms.measure == "cost")
            ):
                return None
            if (
                budget.terms.measure == "cost"
                and self.cost
                and self.shape.cost_currency != budget.terms.currency
            ):
                return None
            return budget.measured(self.shape, self.numbers, self.charge, self.cost, self.extra)
        terms = budget.terms
        if not terms.is_money or terms.filter.meters:
            return None
        shape = self.shape.shape
        if terms.measure == "charge":
            return self.amount
        if shape.byok:
            return 0
        card = shape.card
        return self.amount if card is not None and card.currency == terms.currency else None

    def applies(self, budget: Budget) -> bool:
        """Tell whether a budget has a part in this ask."""
        if self.by_amount:
            return budget.applies_to_amount(self.shape, self.extra)
        return budget.applies(self.shape, self.extra)


def ask_event(tenant: str, ask: Ask, *, model: str | None = None) -> UsageEvent:
    """Return the usage event that an ask expects, as far as it is known."""
    return UsageEvent(
        api_key=ask.api_key,
        batch=ask.batch,
        billable=ask.billable,
        byok=ask.byok,
        conversation=ask.conversation,
        id="-",
        labels=ask.labels,
        model=ask.model if model is None else model,
        plugin=ask.plugin,
        project=ask.project,
        provider=ask.provider,
        provider_account=ask.provider_account,
        quantities=ask.quantities,
        region=ask.region,
        session=ask.session,
        source=HOLD_SOURCE,
        tenant=tenant,
        tier=ask.tier,
        user=ask.user,
    )


def ask_extra(ask: Ask) -> Extra | None:
    """Return the attribution of an ask."""
    if not (
        ask.user
        or ask.project
        or ask.api_key
        or ask.session
        or ask.conversation
        or ask.plugin
        or ask.labels
    ):
        return None
    return Extra(
        ask.api_key,
        ask.conversation,
        "",
        ask.labels,
        ask.plugin,
        ask.project,
        b"",
        "",
        ask.session,
        False,
        ask.user,
    )


def estimate(
    state: LedgerState,
    catalog: Catalog,
    ask: Ask,
    *,
    now: int,
    model: str | None = None,
    rated: Rated | None = None,
    extra: Extra | None,
) -> Estimate:
    """Return what an ask comes to.

    Args:
        state: of the ledger.
        catalog: prices.
        ask: with quantities, or an amount that is a number.
        now: chooses the prices in force.
        model: another than the ask's.
        rated: found earlier; taken if made by this catalog for this ledger.
        extra: attribution of the ask.
    """
    place = (state.book, state.currency, state.plan)
    if rated is None or model is not None or not rated.holds(catalog, *place):
        numbers, decimals = scaled_quantities(ask.quantities)
        rated = catalog.rate(
            ask_event(state.tenant, ask, model=model),
            numbers=numbers,
            decimals=decimals,
            occurred_at=now,
            book=state.book,
            currency=state.currency,
            plan=state.plan,
        )
    else:
        numbers = scaled_quantities(ask.quantities)[0]
    shape = rated.shape
    if not ask.quantities:
        amount = max(ask.amount or 0, 0)
        return Estimate(shape, (), 0, 0, amount, extra, by_amount=True)
    return of_numbers(state, shape, numbers, rated.charge, rated.cost, extra, now=now)


def of_numbers(
    state: LedgerState,
    shape: CompiledShape,
    numbers: tuple[int, ...],
    charge: int,
    cost: int,
    extra: Extra | None,
    *,
    now: int,
    so_far: Callable[[str], int] | None = None,
    own: Mapping[str, Part] = {},
) -> Estimate:
    """Return the estimate of quantities that are rated already.

    Args:
        state: of the ledger.
        shape: that rated them.
        numbers: quantities in the shape's decimals.
        charge: in the shape's charge decimals; found here where it depends on history.
        cost: likewise.
        extra: attribution.
        now: when the call is to be made.
        so_far: what a plan's charges hold so far, where that is not what the state says.
        own: what the hold has of a plan's charges already; see `upon_promises`.
    """
    promises: tuple[Promise, ...] = ()
    if shape.stateful:
        charges, costs, _ = amounts_now(state, shape, numbers, "", now, so_far)
        if shape.tracks:
            charges, promises = upon_promises(state, shape, numbers, charges, at=now, own=own)
        extra = msgspec.structs.replace(extra or Extra(), leaf_charges=charges, leaf_costs=costs)
        charge, cost = sum(charges), sum(costs)
    amount = charge * shape.charge_factor
    return Estimate(shape, numbers, charge, cost, amount, extra, promises=promises)


def formula(
    shape: CompiledShape, numbers: Sequence[int], extra: Extra | None
) -> tuple[EstimateLine, ...]:
    """Return an estimate line by line: quantity x rate = amount, with the price's version.

    A leaf that the tenant's plan charges by what was used so far has a rate of 0.

    Args:
        shape: that rated it.
        numbers: quantities in the shape's decimals.
        extra: of the estimate; has the amounts of a shape whose amounts depend on history.
    """
    card = shape.shape.card
    if card is None or not numbers or not card.sell:
        return ()
    if shape.stateful:
        charges = extra.leaf_charges if extra is not None else ()
        if len(charges) != len(card.sell):
            return ()
    else:
        charges = leaf_amounts(shape, numbers)[0]
    return tuple(
        EstimateLine(
            meter,
            number * shape.quantity_factor,
            rate.rate,
            card.sell_decimals,
            rate.version,
            amount * shape.charge_factor,
        )
        for meter, number, rate, amount in zip(
            shape.meters, numbers, card.sell, charges, strict=True
        )
    )
