"""A posting's amounts, leaf by leaf, computed again from the rates that rated it.

amount = billed quantity x unit rate, where the billed quantity is the quantity by the rate's
rounding rule. Where the rule sums over a session, a segment s is billed R(S + s) - R(S), S being
what the session had used before: that depends on history, so the stored amount is shown and the
billed quantity follows from it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Literal, Protocol

import msgspec

from ledger.application.plans import PlanView
from ledger.domain.amounts import amounts
from ledger.domain.entries import Posting, UsageRecorded
from ledger.domain.errors import LedgerError
from ledger.domain.money import from_scaled
from ledger.domain.money import text as number_text
from ledger.domain.plan_rates import Track
from ledger.domain.price_records import PriceRecord
from ledger.domain.prices import RoundingScope
from ledger.domain.shapes import CompiledShape, LeafRate, rate_decimal
from ledger.domain.tenant_plans import PLAN_PRICE, plan_price_parts

Side = Literal["sell", "cost"]
SESSION_FORMULA = "R(S+s) - R(S)"
"""How a leaf is billed that is rounded over its session."""


class PriceLookup(Protocol):
    """Where all that is known of a price row comes from."""

    def find(self, version: str) -> PriceRecord | None:
        """Return a row by its version; None, or a `LedgerError`, if it is unknown."""
        ...


class PlanLookup(Protocol):
    """Where all that is known of a plan's version comes from."""

    def plan(self, name: str, *, version: int | None = None) -> PlanView:
        """Return a version of a plan."""
        ...


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a rate comes from.

    Attributes:
        source: who proposed the row.
        digest: of the source's data, hex; "" for rows set by hand.
        approver: who approved it.
        approved_at: when.
        effective_from: from when it applies.
        status: of the row now.
        note: how it was derived.
    """

    source: str
    digest: str
    approver: str
    approved_at: datetime | None
    effective_from: datetime
    status: str
    note: str


class LeafAmount(msgspec.Struct, frozen=True, kw_only=True):
    """One meter's amount: ``amount`` = ``billed`` x ``rate``.

    Attributes:
        side: whose price.
        meter: the leaf.
        quantity: as recorded.
        rounding: rule that was applied; "" where the quantity is billed as it is.
        billed: quantity billed; None where a rate of zero hides it.
        rate: price of one unit.
        version: price row; "" where none was needed.
        amount: unrounded.
        origin: where the rate comes from; None if that is unknown here.
    """

    side: Side
    meter: str
    quantity: Decimal
    rounding: str
    billed: Decimal | None
    rate: Decimal
    version: str
    amount: Decimal
    origin: Origin | None


class Rating(msgspec.Struct, frozen=True, kw_only=True):
    """How a posting's amounts come about.

    Attributes:
        currency: of the charge.
        charge: unrounded, as stored; None if unpriced.
        cost_currency: of the cost.
        cost: unrounded, as stored; None if unpriced.
        quantities: by meter.
        leaves: sell first, then cost, in the order of the meters.
        missing: what has no approved price: ``sell:tokens.input`` of an unpriced posting; costs
            alone where a plan charges it.
        recomputed: ``equal``, ``different``, or ``unpriced`` where there is nothing to compute.
    """

    currency: str
    charge: Decimal | None
    cost_currency: str
    cost: Decimal | None
    quantities: dict[str, Decimal]
    leaves: tuple[LeafAmount, ...] = ()
    missing: tuple[str, ...] = ()
    recomputed: Literal["equal", "different", "unpriced"] = "unpriced"


def origins(
    prices: PriceLookup | None, plans: PlanLookup | None = None
) -> Callable[[str], Origin | None]:
    """Return a look-up of rates' origins that remembers and takes unknown rows for unknown."""
    known: dict[str, Origin | None] = {"": None}

    def find(version: str) -> Origin | None:
        if version not in known:
            if version.startswith(PLAN_PRICE):
                known[version] = None if plans is None else _published(plans, version)
            else:
                known[version] = None if prices is None else _origin(prices, version)
        return known[version]

    return find


def _published(plans: PlanLookup, version: str) -> Origin | None:
    try:
        plan, number, charge, days = plan_price_parts(version)
        view = plans.plan(plan, version=number)
    except LedgerError:
        return None
    here, _, whole = days.replace("/", " to before ").partition("~")
    held = f", on the days from {here}" if here else ""
    held += f" of the period from {whole}" if whole else ""
    return Origin(
        source=f"charge {charge} of plan {plan} version {number}",
        digest="",
        approver=view.by,
        approved_at=view.at,
        effective_from=view.at,
        status="approved",
        note=f"as published{held}",
    )


def _origin(prices: PriceLookup, version: str) -> Origin | None:
    try:
        record = prices.find(version)
    except LedgerError:
        return None
    if record is None:
        return None
    return Origin(
        source=record.source,
        digest=record.digest,
        approver=record.approver,
        approved_at=record.approved_at,
        effective_from=record.row.effective_from,
        status=str(record.status),
        note=record.note,
    )


def rate_posting(
    *,
    shape: CompiledShape,
    posting: Posting | UsageRecorded,
    currency: str,
    origin: Callable[[str], Origin | None],
    reversed_: bool = False,
) -> Rating:
    """Return a posting's amounts leaf by leaf, and whether they are what is stored.

    Args:
        shape: the posting's.
        posting: as stored.
        currency: of the ledger.
        origin: says where a rate comes from.
        reversed_: it was taken back: from what was held before it.
    """
    of = shape.shape
    factor = shape.quantity_factor
    quantities = {
        meter: from_scaled(number * factor, 6)
        for meter, number in zip(of.meters, posting.quantities, strict=True)
    }
    card = of.card
    if card is None:
        return Rating(
            currency=currency,
            charge=None,
            cost_currency="",
            cost=None,
            quantities=quantities,
            missing=of.missing,
        )
    extra = posting.extra
    session = extra.session if extra is not None else ""
    sell = _Side("sell", card.sell, card.sell_decimals, extra.leaf_charges if extra else ())
    cost = _Side("cost", card.cost, card.cost_decimals, extra.leaf_costs if extra else ())
    if shape.tracks:
        sell.charged_by_plan(shape, extra.leaf_before if extra else (), reversed_=reversed_)
    leaves = [
        leaf for side in (sell, cost) for leaf in side.leaves(shape, posting, session, origin)
    ]
    if shape.stateful:
        equal = (sum(sell.computed), sum(cost.computed)) == (posting.charge, posting.cost)
        equal = equal and sell.fits and cost.fits
    else:
        equal = amounts(shape, posting.quantities) == (posting.charge, posting.cost)
    return Rating(
        currency=card.currency,
        charge=from_scaled(posting.charge, shape.charge_decimals),
        cost_currency=card.cost_currency if card.cost else "",
        cost=from_scaled(posting.cost, shape.cost_decimals),
        quantities=quantities,
        leaves=tuple(leaves),
        missing=of.missing,
        recomputed="equal" if equal else "different",
    )


class _Side:
    """Sell or cost of one posting.

    Attributes:
        computed: amounts by leaf x 10^(6 + the rates' decimals), for stateful shapes.
        fits: whether each stored amount is a whole number of billed units at its rate.
    """

    def __init__(
        self, side: Side, rates: tuple[LeafRate, ...], decimals: int, stored: tuple[int, ...]
    ) -> None:
        self._side: Side = side
        self._rates = rates
        self._decimals = decimals
        self._stored = stored
        self._scale = 1
        self._tracks: tuple[Track | None, ...] = ()
        self._before: tuple[int, ...] = ()
        self._sign = 1
        self._all_decimals = 6 + decimals
        self.computed: list[int] = []
        self.fits = True

    def charged_by_plan(
        self, shape: CompiledShape, before: tuple[int, ...], *, reversed_: bool
    ) -> None:
        """Take note that a plan charges leaves of it, upon what it held before."""
        self._scale = shape.sell_factor
        self._all_decimals = shape.charge_decimals
        self._tracks = shape.tracks
        self._before = before
        self._sign = -1 if reversed_ else 1
        self.fits = len(before) == len(shape.tracks)

    def leaves(
        self,
        shape: CompiledShape,
        posting: Posting | UsageRecorded,
        session: str,
        origin: Callable[[str], Origin | None],
    ) -> list[LeafAmount]:
        """Return one leaf a meter; none where this side has no rates."""
        if not self._rates:
            return []
        if shape.stateful and len(self._stored) != len(self._rates):
            self.fits = False
        leaves = []
        for place, (rate, meter, number) in enumerate(
            zip(self._rates, shape.shape.meters, posting.quantities, strict=True)
        ):
            quantity = number * shape.quantity_factor
            track = self._tracks[place] if self._tracks else None
            if track is not None:
                leaves.append(self._planned(track, place, meter, quantity, origin))
                continue
            over_session = bool(session) and not rate.exact and rate.scope is RoundingScope.SESSION
            stored = self._stored[place] if place < len(self._stored) else None
            billed: int | None = quantity if rate.exact else rate.billed(quantity)
            amount = rate.rate * (billed or 0) * self._scale
            if over_session:
                amount, billed = self._of_session(rate, stored or 0)
            elif stored is not None and stored != amount:
                self.fits = False
            self.computed.append(amount)
            leaves.append(
                LeafAmount(
                    side=self._side,
                    meter=meter,
                    quantity=from_scaled(quantity, 6),
                    rounding=rounding_rule(rate=rate, over_session=over_session),
                    billed=None if billed is None else from_scaled(billed, 6),
                    rate=rate_decimal(rate.rate, self._decimals),
                    version=rate.version,
                    amount=from_scaled(amount, self._all_decimals),
                    origin=origin(rate.version),
                )
            )
        return leaves

    def _planned(
        self,
        track: Track,
        place: int,
        meter: str,
        quantity: int,
        origin: Callable[[str], Origin | None],
    ) -> LeafAmount:
        """Return a leaf that a plan charges: F at two running quantities, and their difference."""
        held = self._before[place] if place < len(self._before) else 0
        low, high = sorted((held, held + self._sign * quantity))
        scale = 10 ** (self._all_decimals - track.decimals)
        amount = (track.charge(high) - track.charge(low)) * scale if low >= 0 else 0
        if place >= len(self._stored) or self._stored[place] != amount:
            self.fits = False
        self.computed.append(amount)
        window = f", anew each {track.rate.window}" if track.rate.window else ""
        ends = [
            f"F({number_text(from_scaled(one, 6))})"
            f" = {number_text(from_scaled(track.charge(max(one, 0)), track.decimals))}"
            for one in (high, low)
        ]
        return LeafAmount(
            side=self._side,
            meter=meter,
            quantity=from_scaled(quantity, 6),
            rounding=f"by what the plan's period holds{window}: {' less '.join(ends)}",
            billed=None,
            rate=rate_decimal(0, 0),
            version=track.rate.version,
            amount=from_scaled(amount, self._all_decimals),
            origin=origin(track.rate.version),
        )

    def _of_session(self, rate: LeafRate, stored: int) -> tuple[int, int | None]:
        if not rate.rate:
            self.fits = self.fits and not stored
            return stored, None
        billed, rest = divmod(stored, rate.rate * self._scale)
        self.fits = self.fits and not rest
        return stored, billed


def rounding_rule(*, rate: LeafRate, over_session: bool) -> str:
    """Return a rate's rounding rule for people; "" where quantities are billed as they are."""
    if rate.exact:
        return ""
    parts = []
    if rate.increment:
        step = from_scaled(rate.increment, 6)
        parts.append(f"{rate.mode.value.replace('_', ' ')} to steps of {step}")
    if rate.minimum:
        parts.append(f"at least {from_scaled(rate.minimum, 6)}")
    scope = f"per session: {SESSION_FORMULA}" if over_session else "per request"
    return ", ".join(parts) + f", {scope}"
