"""The catalog: approved price rows, indexed so that an event finds its shape fast.

Look-up rules, in this order of strictness:

- the row in force at ``occurred_at`` is the one with the latest ``effective_from`` not after it;
- tier and batch must be equal; a region without a row of its own uses the row of region "";
- of the rows whose ``context_over`` is below the request's input tokens the highest applies to
  the whole request (context tiers are cliffs);
- a leaf with a quantity and no row makes the whole event unpriced: an unknown price is never zero.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec

from ledger.domain.amounts import amounts
from ledger.domain.matching import ModelNames
from ledger.domain.money import decimals_of, to_scaled
from ledger.domain.periods import to_us
from ledger.domain.plan_rates import PlanRate
from ledger.domain.prices import ModelMatch, PriceKey, PriceKind, PriceRow, RoundingScope
from ledger.domain.shapes import UNIT, CompiledShape, LeafRate, RateCard, Shape, compile_shape
from ledger.domain.tenant_plans import PlanDays, TenantPlan, UnitRate
from ledger.domain.usage import UsageEvent

BYOK_TIER = "byok"
"""Sell rows of this tier are the platform fees of calls made with the tenant's own key."""
ANY = "*"
"""Provider or model of a sell row that applies where no other does."""
DEFAULT_BOOK = "default"

_ZERO = LeafRate(version="", rate=0)
_MEMO_LIMIT = 100_000


class PricedRow(msgspec.Struct, frozen=True):
    """An approved row and its identity.

    Attributes:
        kind: cost or sell.
        book: sell price book; "" for costs.
        row: the price.
        version: ``<book>/<provider>@<revision>.<row>``, stored with every entry it rates.
    """

    kind: PriceKind
    book: str
    row: PriceRow
    version: str


class Rated(msgspec.Struct, gc=False, frozen=True):
    """An event's shape and amounts under one catalog.

    Attributes:
        catalog: the catalog that rated it.
        book: the sell book it was rated for.
        currency: the ledger currency it was rated for.
        plan: the tenant's plan it was rated for; None for none.
        shape: the shape; stateful shapes carry no amounts here.
        charge: in the shape's charge decimals.
        cost: in the shape's cost decimals.
    """

    catalog: Catalog
    book: str
    currency: str
    plan: TenantPlan | None
    shape: CompiledShape
    charge: int
    cost: int

    def holds(self, catalog: Catalog, book: str, currency: str, plan: TenantPlan | None) -> bool:
        """Tell whether it is what rating with these would give."""
        return (
            self.catalog is catalog
            and self.plan is plan
            and self.book == book
            and self.currency == currency
        )


class _Prices:
    """All rows of one model, cost and one book's sell, and the shapes compiled of them."""

    __slots__ = ("contexts", "cost", "dates", "sell", "shapes")

    def __init__(self, cost: Sequence[PricedRow], sell: Sequence[PricedRow]) -> None:
        rows = [priced.row for priced in (*cost, *sell)]
        self.cost = _by_key(cost)
        self.sell = _by_key(sell)
        self.dates = sorted({to_us(row.effective_from) for row in rows})
        self.contexts = sorted({row.key.context_over for row in rows} - {0})
        self.shapes: dict[tuple[object, ...], CompiledShape] = {}


_Index = dict[tuple[str, str, str, bool, int], list[tuple[int, PricedRow]]]


def _by_key(rows: Sequence[PricedRow]) -> _Index:
    index: _Index = {}
    for priced in rows:
        key = priced.row.key
        place = (key.meter, key.region, key.tier, key.batch, key.context_over)
        index.setdefault(place, []).append((to_us(priced.row.effective_from), priced))
    for dated in index.values():
        dated.sort(key=lambda pair: pair[0])
    return index


class Catalog:
    """Approved prices, compiled; immutable but for its memo.

    Args:
        rows: approved rows; of two with the same key and date the later in order counts.
        matches: which model names mean which priced model, in order of precedence.

    Attributes:
        rounds_sessions: whether a row rounds quantities over a session.
    """

    def __init__(self, rows: Iterable[PricedRow] = (), matches: Iterable[ModelMatch] = ()) -> None:
        self._cost: dict[tuple[str, str], list[PricedRow]] = {}
        self.rounds_sessions = False
        self._sell: dict[tuple[str, str, str], list[PricedRow]] = {}
        for priced in rows:
            key = priced.row.key
            if priced.row.quantity_rule.scope is RoundingScope.SESSION:
                self.rounds_sessions = True
            if priced.kind is PriceKind.COST:
                self._cost.setdefault((key.provider, key.model), []).append(priced)
            else:
                sell = (priced.book, key.provider, key.model)
                self._sell.setdefault(sell, []).append(priced)
        self._names = ModelNames(matches, known=self._cost)
        self._models: dict[tuple[str, str, str], _Prices] = {}

    def rows(self, *, kind: PriceKind, book: str = "") -> list[PricedRow]:
        """Return the approved rows of one kind and, for sell rows, of one book."""
        if kind is PriceKind.COST:
            return [priced for rows in self._cost.values() for priced in rows]
        return [
            priced for (name, _, _), rows in self._sell.items() if name == book for priced in rows
        ]

    def model_name(self, provider: str, model: str) -> str:
        """Return the priced model that a response's model name means; itself if none does."""
        return self._names.resolve(provider, model)

    def rate(
        self,
        event: UsageEvent,
        *,
        numbers: tuple[int, ...],
        decimals: int,
        occurred_at: int,
        book: str,
        currency: str,
        plan: TenantPlan | None = None,
    ) -> Rated:
        """Return the event's shape and amounts.

        Args:
            event: in canonical form.
            numbers: its quantities as integers, in order.
            decimals: the decimals of ``numbers``.
            occurred_at: microseconds; chooses the rows in force.
            book: the tenant's sell book.
            currency: the tenant's currency; sell rows in another do not apply.
            plan: the tenant's; what it charges is not looked up in the sell book.
        """
        days = plan.at(occurred_at) if plan is not None else None
        shape = self._shape(event, numbers, decimals, occurred_at, book, currency, days)
        charge, cost = amounts(shape, numbers)
        return Rated(self, book, currency, plan, shape, charge, cost)

    def _shape(
        self,
        event: UsageEvent,
        numbers: tuple[int, ...],
        decimals: int,
        occurred_at: int,
        book: str,
        currency: str,
        days: PlanDays | None,
    ) -> CompiledShape:
        model = (event.provider, event.model, book)
        prices = self._models.get(model)
        if prices is None:
            prices = self._load(*model)
        meters = tuple(event.quantities)
        context = 0
        if prices.contexts:
            context = bisect_left(prices.contexts, _input_tokens(meters, numbers, decimals))
        memo = (
            currency,
            event.source,
            event.tier,
            event.region,
            event.batch,
            event.provider_account,
            event.outcome,
            event.attempt,
            event.billable,
            event.byok,
            meters,
            decimals,
            bisect_right(prices.dates, occurred_at),
            context,
            tuple(map(bool, numbers)) if 0 in numbers else None,
            days.id if days is not None else None,
        )
        shape = prices.shapes.get(memo)
        if shape is None:
            over = prices.contexts[context - 1] if context else 0
            where = _Where(occurred_at, currency, prices, over, days)
            shape = _compile(event, meters, numbers, decimals, where)
            if len(prices.shapes) >= _MEMO_LIMIT:
                prices.shapes.clear()
            prices.shapes[memo] = shape
        return shape

    def _load(self, provider: str, model: str, book: str) -> _Prices:
        name = self._names.resolve(provider, model)
        # Platform fees have a chain of their own: a model's own sell rows do not hide them.
        sell = [
            *self._nearest(book, provider, name, fees=False),
            *self._nearest(book, provider, name, fees=True),
        ]
        prices = _Prices(self._cost.get((provider, name), []), sell)
        if len(self._models) >= _MEMO_LIMIT:
            self._models.clear()
        self._models[provider, model, book] = prices
        return prices

    def _nearest(self, book: str, provider: str, model: str, *, fees: bool) -> list[PricedRow]:
        """Return a model's sell rows, or else its provider's, or else those for any."""
        for place in ((provider, model), (provider, ANY), (ANY, ANY)):
            rows = [
                priced
                for priced in self._sell.get((book, *place), ())
                if (priced.row.key.tier == BYOK_TIER) is fees
            ]
            if rows:
                return rows
        return []

    def find(self, key: PriceKey, *, kind: PriceKind, book: str, at: int) -> PricedRow | None:
        """Return the row that prices ``key`` at an instant, by the look-up rules above."""
        prices = _Prices(
            self._cost.get((key.provider, key.model), []),
            self._sell.get((book, key.provider, key.model), []),
        )
        index = prices.cost if kind is PriceKind.COST else prices.sell
        return _row(index, key.meter, key.region, key.tier, key.batch, key.context_over, prices, at)


def _input_tokens(meters: tuple[str, ...], numbers: tuple[int, ...], decimals: int) -> int:
    total = sum(
        number
        for meter, number in zip(meters, numbers, strict=True)
        if meter.startswith("tokens.input")
    )
    return -(-total // UNIT) if decimals else total


def _row(
    index: _Index,
    meter: str,
    region: str,
    tier: str,
    batch: bool,
    over: int,
    prices: _Prices,
    at: int,
) -> PricedRow | None:
    levels = [level for level in reversed(prices.contexts) if level <= over]
    for place in (region, "") if region else ("",):
        for level in (*levels, 0):
            dated = index.get((meter, place, tier, batch, level))
            if not dated:
                continue
            found = bisect_right(dated, at, key=lambda pair: pair[0])
            if found:
                return dated[found - 1][1]
    return None


class _Where(NamedTuple):
    """What an event is rated by: instant, currency, prices, context tier, days of a plan."""

    at: int
    currency: str
    prices: _Prices
    over: int
    days: PlanDays | None


_Leaf = PricedRow | UnitRate | PlanRate | None
"""What a leaf is charged by."""


def _compile(
    event: UsageEvent,
    meters: tuple[str, ...],
    numbers: tuple[int, ...],
    decimals: int,
    where: _Where,
) -> CompiledShape:
    at, currency, prices, over, days = where
    missing: list[str] = []

    def leaves(kind: PriceKind, planned: Sequence[_Leaf]) -> list[_Leaf]:
        sell = kind is PriceKind.SELL
        fee = sell and event.byok
        tier = BYOK_TIER if fee else event.tier
        # A platform fee is ours, so the provider's batch price has no part in it.
        batch = event.batch and not fee
        index = prices.sell if sell else prices.cost
        rows: list[_Leaf] = []
        for meter, number, of_plan in zip(meters, numbers, planned, strict=True):
            if of_plan is not None:
                rows.append(of_plan)
                continue
            row = _row(index, meter, event.region, tier, batch, over, prices, at)
            if sell and row is not None and row.row.currency != currency:
                row = None
            if row is None and number and not fee:
                missing.append(f"{kind}:{meter}")
            rows.append(row)
        return rows

    nothing: list[_Leaf] = [None] * len(meters)
    planned = nothing
    if days is not None and event.billable == "tenant":
        planned = [
            days.leaf(provider=event.provider, model=event.model, meter=meter, byok=event.byok)
            for meter in meters
        ]
    sell = leaves(PriceKind.SELL, planned) if event.billable == "tenant" else []
    unsold = bool(missing)
    cost = [] if event.byok else leaves(PriceKind.COST, nothing)
    currencies = {row.row.currency for row in cost if isinstance(row, PricedRow)}
    if len(currencies) > 1:
        missing.append("cost:one currency")
    # What a plan charges is known whatever it costs; only the cost waits for its price then.
    known = not unsold and all(
        of_plan is not None or not number for of_plan, number in zip(planned, numbers, strict=True)
    )
    card = None
    if not missing or (known and sell):
        card = _card(sell, [] if missing else cost, currency, next(iter(currencies), currency))
    return compile_shape(
        Shape(
            source=event.source,
            provider=event.provider,
            model=event.model,
            tier=event.tier,
            region=event.region,
            batch=event.batch,
            provider_account=event.provider_account,
            outcome=event.outcome,
            attempt=event.attempt,
            billable=event.billable,
            byok=event.byok,
            meters=meters,
            decimals=decimals,
            card=card,
            missing=tuple(missing),
        )
    )


def _card(
    sell: Sequence[_Leaf], cost: Sequence[_Leaf], currency: str, cost_currency: str
) -> RateCard:
    sell_decimals, cost_decimals = _decimals(sell), _decimals(cost)
    plans = tuple(dict.fromkeys(leaf for leaf in sell if isinstance(leaf, PlanRate)))
    by_plan = tuple(plans.index(leaf) if isinstance(leaf, PlanRate) else -1 for leaf in sell)
    return RateCard(
        currency=currency,
        sell=tuple(_leaf(leaf, sell_decimals) for leaf in sell),
        sell_decimals=sell_decimals,
        cost_currency=cost_currency if cost else currency,
        cost=tuple(_leaf(leaf, cost_decimals) for leaf in cost),
        cost_decimals=cost_decimals,
        plans=plans,
        by_plan=by_plan if plans else (),
    )


def _unit_rate(leaf: _Leaf) -> Decimal | None:
    if isinstance(leaf, PricedRow):
        return leaf.row.unit_rate()
    return leaf.rate if isinstance(leaf, UnitRate) else None


def _decimals(leaves: Sequence[_Leaf]) -> int:
    rates = (_unit_rate(leaf) for leaf in leaves)
    return max((decimals_of(rate) for rate in rates if rate is not None), default=0)


def _leaf(leaf: _Leaf, decimals: int) -> LeafRate:
    if leaf is None:
        return _ZERO
    if isinstance(leaf, PlanRate):
        return LeafRate(version=leaf.version, rate=0)
    if isinstance(leaf, UnitRate):
        return LeafRate(version=leaf.version, rate=to_scaled(leaf.rate, decimals))
    row = leaf.row
    rate = to_scaled(row.unit_rate(), decimals)
    rule = row.quantity_rule
    if rule.scope in (RoundingScope.NONE, RoundingScope.LINE):
        return LeafRate(version=leaf.version, rate=rate)
    return LeafRate(
        version=leaf.version,
        rate=rate,
        increment=to_scaled(rule.increment, 6),
        minimum=to_scaled(rule.minimum, 6),
        mode=rule.mode,
        scope=rule.scope,
    )
