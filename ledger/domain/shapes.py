"""Shapes: what many usage entries have in common, stored once per tenant and referred to by number.

A shape says who, what, where and at which prices; an entry adds its id, its time, its quantities
and its amounts. A tenant's stream defines a shape (`ShapeDefined`) before it uses it, so a stream
can be read on its own.

Invariants: a shape's number is its position among the tenant's definitions, from 0; it never
changes; a shape without a card is unpriced and its entries carry no amounts.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

import msgspec

from ledger.domain.meters import QUANTITY_DECIMALS
from ledger.domain.money import AMOUNT_DECIMALS, RoundingMode
from ledger.domain.plan_rates import PlanRate, Track, track_of
from ledger.domain.prices import RoundingScope

UNIT = 10**QUANTITY_DECIMALS


class LeafRate(msgspec.Struct, frozen=True, array_like=True):
    """The price of one leaf, compiled from a price row.

    Attributes:
        version: the row's identity, ``<book>/<provider>@<revision>.<row>``.
        rate: price of one unit x 10^(the card's rate decimals).
        increment: quantity step x 10^6; 0 bills quantities as they are.
        minimum: least billed quantity x 10^6.
        mode: rounding of the quantity.
        scope: over what the quantity is summed before rounding.
    """

    version: str
    rate: int
    increment: int = 0
    minimum: int = 0
    mode: RoundingMode = RoundingMode.UP
    scope: RoundingScope = RoundingScope.NONE

    @property
    def exact(self) -> bool:
        """Whether quantities are billed as they are."""
        return not self.increment and not self.minimum

    def billed(self, quantity: int) -> int:
        """Return the billed quantity of ``quantity``, both x 10^6."""
        if quantity <= 0:
            return 0
        step = self.increment
        if step:
            whole, rest = divmod(quantity, step)
            quantity = step * (whole + _carry(self.mode, whole, rest, step))
        return max(quantity, self.minimum)


def _carry(mode: RoundingMode, whole: int, rest: int, step: int) -> int:
    """Return 1 where ``whole`` steps and ``rest`` round up, else 0."""
    if not rest or mode is RoundingMode.DOWN:
        return 0
    if mode is RoundingMode.UP:
        return 1
    twice = 2 * rest
    if twice != step:
        return int(twice > step)
    return 1 if mode is RoundingMode.HALF_UP else whole % 2


class RateCard(msgspec.Struct, frozen=True, array_like=True):
    """The compiled prices of a shape's leaves, in the order of its meters.

    Attributes:
        currency: of the charge: the tenant's.
        sell: one rate a meter; empty where nothing is charged.
        sell_decimals: decimals of the sell rates.
        cost_currency: of the provider's cost.
        cost: one rate a meter; empty where the cost is not ours.
        cost_decimals: decimals of the cost rates.
        plans: charges of the tenant's plan that depend on what was used so far.
        by_plan: one place in ``plans`` a meter, -1 for a leaf with a rate; empty where no leaf is
            charged so.
    """

    currency: str
    sell: tuple[LeafRate, ...]
    sell_decimals: int
    cost_currency: str
    cost: tuple[LeafRate, ...]
    cost_decimals: int
    plans: tuple[PlanRate, ...] = ()
    by_plan: tuple[int, ...] = ()


class Shape(msgspec.Struct, frozen=True, array_like=True):
    """What many usage entries of a tenant have in common.

    Attributes:
        source: producer.
        provider: who ran the call.
        model: as the response says.
        tier: service tier.
        region: as the response says.
        batch: batch price.
        provider_account: account alias at the provider.
        outcome: ``ok``, ``error``, ``aborted``.
        attempt: 1, 2, …
        billable: ``tenant`` or ``platform``.
        byok: the tenant's own provider key.
        meters: the meters of the quantities, in order.
        decimals: decimals of the quantities in entries: 0 or 6.
        card: prices; None is unpriced.
        missing: what has no price, ``kind:meter`` each: of an unpriced shape, or costs of one
            that a plan charges whatever they are.
    """

    source: str
    provider: str
    model: str
    tier: str
    region: str
    batch: bool
    provider_account: str
    outcome: str
    attempt: int
    billable: str
    byok: bool
    meters: tuple[str, ...]
    decimals: int
    card: RateCard | None
    missing: tuple[str, ...] = ()


class CompiledShape:
    """A shape and what folding and rating derive from it once.

    Attributes:
        body: the shape's encoded form, its identity.
        meters: the shape's.
        unpriced: whether entries carry no amounts.
        waits: whether something has no price yet: all of it, or the cost of what a plan charges.
        stateful: whether amounts depend on history: a leaf is rounded over a session, or charged
            by a plan upon what was used so far.
        over_sessions: whether a leaf is rounded over a session.
        plain: whether amounts are quantities times rates, nothing rounded.
        tracks: what a plan charges, one a meter, None for a leaf with a rate; empty for none.
        sell_factor: what charges of leaves with a rate are multiplied with in a stateful shape.
        charge_decimals: decimals of entries' charges.
        cost_decimals: decimals of entries' costs.
    """

    __slots__ = (
        "body",
        "charge_decimals",
        "charge_factor",
        "cost_currency",
        "cost_decimals",
        "cost_factor",
        "cost_rates",
        "meters",
        "over_sessions",
        "plain",
        "quantity_factor",
        "sell_factor",
        "sell_rates",
        "shape",
        "stateful",
        "tracks",
        "unpriced",
        "waits",
    )

    def __init__(self, shape: Shape, body: bytes) -> None:
        self.shape = shape
        self.meters = shape.meters
        self.body = body
        self.quantity_factor = 10 ** (QUANTITY_DECIMALS - shape.decimals)
        card = shape.card
        self.unpriced = card is None
        sell = card.sell if card else ()
        cost = card.cost if card else ()
        rates = (*sell, *cost)
        self.waits = bool(shape.missing)
        self.tracks = _tracks(card)
        self.plain = not self.tracks and all(rate.exact for rate in rates)
        self.over_sessions = any(
            not rate.exact and rate.scope is RoundingScope.SESSION for rate in rates
        )
        self.stateful = bool(self.tracks) or self.over_sessions
        # Amounts of rounded quantities have the decimals of billed quantities, always six.
        quantity_decimals = shape.decimals if self.plain else QUANTITY_DECIMALS
        rated_decimals = quantity_decimals + (card.sell_decimals if card else 0)
        planned = (track.decimals for track in self.tracks if track is not None)
        self.charge_decimals = max([rated_decimals, *planned])
        self.sell_factor = 10 ** (self.charge_decimals - rated_decimals)
        self.cost_decimals = quantity_decimals + (card.cost_decimals if card else 0)
        self.charge_factor = 10 ** (AMOUNT_DECIMALS - self.charge_decimals)
        self.cost_factor = 10 ** (AMOUNT_DECIMALS - self.cost_decimals)
        self.cost_currency = card.cost_currency if card else ""
        self.sell_rates = tuple(rate.rate for rate in sell)
        self.cost_rates = tuple(rate.rate for rate in cost)


def _tracks(card: RateCard | None) -> tuple[Track | None, ...]:
    if card is None or not card.by_plan:
        return ()
    tracks = [track_of(rate) for rate in card.plans]
    return tuple(None if place < 0 else tracks[place] for place in card.by_plan)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Shape)


class _CardWithoutPlans(msgspec.Struct, frozen=True, array_like=True):
    """A `RateCard` as it is stored where no plan charges anything: without the last members."""

    currency: str
    sell: tuple[LeafRate, ...]
    sell_decimals: int
    cost_currency: str
    cost: tuple[LeafRate, ...]
    cost_decimals: int


def compile_shape(shape: Shape) -> CompiledShape:
    """Return the compiled form of a shape; equal shapes have equal bodies."""
    card = shape.card
    if card is None or card.plans:
        return _from_body(_encoder.encode(shape))
    members = [getattr(card, name) for name in _CardWithoutPlans.__struct_fields__]
    stored = {name: getattr(shape, name) for name in shape.__struct_fields__}
    stored["card"] = _CardWithoutPlans(*members)
    return _from_body(_encoder.encode(tuple(stored.values())))


@lru_cache(maxsize=65536)
def _from_body(body: bytes) -> CompiledShape:
    return CompiledShape(_decoder.decode(body), body)


def shape_from_body(body: bytes) -> CompiledShape:
    """Return the compiled shape of an encoded one."""
    return _from_body(body)


def rate_decimal(rate: int, decimals: int) -> Decimal:
    """Return a compiled rate as the decimal price of one unit."""
    return Decimal(rate).scaleb(-decimals)
