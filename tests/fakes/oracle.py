"""What a set of events and corrections must come to, computed the obvious way with `Decimal`.

It knows nothing of entries, shapes or scaled integers: it applies each event's void or
adjustment, finds the rate, rounds, multiplies, and sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from typing import NamedTuple

from fakes.building import both, rule

from ledger.domain.balance import Balance
from ledger.domain.catalog import PricedRow
from ledger.domain.money import RoundingMode
from ledger.domain.periods import from_us
from ledger.domain.prices import RoundingScope
from ledger.domain.usage import AdjustUsage, RecordUsage, VoidUsage


class Price(NamedTuple):
    """A meter's price: what it sells for, costs, and how its quantity is rounded."""

    sell: str
    cost: str
    increment: int = 0
    minimum: int = 0
    mode: RoundingMode = RoundingMode.UP
    scope: RoundingScope = RoundingScope.NONE


_REQUEST = RoundingScope.REQUEST
_SESSION = RoundingScope.SESSION
TABLE: dict[tuple[str, str, int], Price] = {
    ("gpt", "tokens.input", 0): Price("0.000003", "0.0000025"),
    ("gpt", "tokens.output", 0): Price("0.000012", "0.00001"),
    ("long", "tokens.input", 0): Price("0.000001", "0.0000005"),
    ("long", "tokens.input", 1000): Price("0.000002", "0.000001"),
    ("long", "tokens.output", 0): Price("0.000004", "0.000003"),
    ("long", "tokens.output", 1000): Price("0.000009", "0.000007"),
    ("whisper", "audio.stt.seconds", 0): Price(
        "0.0002", "0.0001", 1, 10, scope=RoundingScope.REQUEST
    ),
    ("live", "audio.session.seconds", 0): Price("0.001", "0.0004", 15, 15, scope=_SESSION),
    ("live", "tool.calls", 0): Price("0.01", "0.005"),
    ("half", "audio.session.seconds", 0): Price(
        "0.003", "0.002", 10, 0, RoundingMode.HALF_EVEN, _SESSION
    ),
    ("half", "audio.stt.seconds", 0): Price("0.05", "0.04", 4, 0, RoundingMode.HALF_UP, _SESSION),
}
"""Prices by model, meter and the number of input tokens above which they hold."""
_MODES = {
    RoundingMode.UP: ROUND_CEILING,
    RoundingMode.HALF_EVEN: ROUND_HALF_EVEN,
    RoundingMode.HALF_UP: ROUND_HALF_UP,
}


def rows() -> list[PricedRow]:
    """Return the table as price rows."""
    return [
        row
        for (model, meter, over), price in TABLE.items()
        for row in both(
            meter,
            price.sell,
            price.cost,
            model=model,
            context_over=over,
            rule=rule(price.increment, price.minimum, price.mode, price.scope),
        )
    ]


def rounded(price: Price, quantity: Decimal) -> Decimal:
    """Return the billed quantity."""
    if not quantity:
        return quantity
    if price.increment:
        steps = quantity / price.increment
        quantity = price.increment * steps.quantize(Decimal(1), rounding=_MODES[price.mode])
    return max(quantity, Decimal(price.minimum))


def _price(model: str, meter: str, tokens: Decimal) -> Price | None:
    levels = [over for m, name, over in TABLE if (m, name) == (model, meter)]
    fitting = [over for over in levels if over == 0 or tokens > over]
    return TABLE[model, meter, max(fitting)] if fitting else None


class _Sum:
    def __init__(self) -> None:
        self.charge = self.cost = Decimal(0)
        self.quantities: dict[str, Decimal] = {}
        self.events = self.voided = self.unpriced = 0

    def shown(self) -> tuple[object, ...]:
        used = {name: quantity for name, quantity in self.quantities.items() if quantity}
        return self.charge, self.cost, used, self.events, self.voided, self.unpriced


def shown(balance: Balance) -> tuple[object, ...]:
    """Return a balance in the form in which `totals` gives what it must be."""
    quantities = balance.decimal_quantities()
    return (
        balance.decimal_charge(),
        sum(balance.decimal_costs().values(), Decimal(0)),
        {name: quantity for name, quantity in quantities.items() if quantity},
        balance.events,
        balance.voided,
        balance.unpriced,
    )


class Totals:
    """Sums events by period (UTC).

    Args:
        events: with different keys, all of source ``gateway``; a session lies in one period.
        corrections: at most one void and one adjustment an event.
    """

    def __init__(
        self, events: Iterable[RecordUsage], corrections: Iterable[VoidUsage | AdjustUsage]
    ) -> None:
        listed = list(corrections)
        self._sums: dict[str, _Sum] = {}
        self._sessions: dict[tuple[str, str, Price, str], Decimal] = {}
        voided = {one.target_id for one in listed if isinstance(one, VoidUsage)}
        adjusted = {one.target_id: one.quantities for one in listed if isinstance(one, AdjustUsage)}
        for number, command in enumerate(events):
            event = command.event
            period = from_us(event.occurred_at or 0).strftime("%Y-%m")
            one = self._sums.setdefault(period, _Sum())
            one.events += 1
            if event.id in voided:
                one.voided += 1
                continue
            quantities = adjusted.get(event.id, event.quantities)
            # An event without a session is a session of its own.
            session = event.session or f"alone {number}"
            self._stand(period, event.model, session, quantities)
        for (period, _, price, _), quantity in self._sessions.items():
            self._bill(self._sums[period], price, quantity)

    def _stand(self, period: str, model: str, session: str, quantities: Mapping[str, str]) -> None:
        one = self._sums[period]
        used = {meter: Decimal(number) for meter, number in quantities.items()}
        for meter, quantity in used.items():
            one.quantities[meter] = one.quantities.get(meter, Decimal(0)) + quantity
        tokens = sum((n for m, n in used.items() if m.startswith("tokens.input")), Decimal(0))
        prices = {meter: _price(model, meter, tokens) for meter in used}
        if any(price is None and used[meter] for meter, price in prices.items()):
            one.unpriced += 1
            return
        for meter, price in prices.items():
            if price is None:
                continue
            if price.scope is RoundingScope.SESSION:
                place = (period, session, price, meter)
                self._sessions[place] = self._sessions.get(place, Decimal(0)) + used[meter]
            else:
                self._bill(one, price, used[meter])

    @staticmethod
    def _bill(one: _Sum, price: Price, quantity: Decimal) -> None:
        billed = rounded(price, quantity)
        one.charge += billed * Decimal(price.sell)
        one.cost += billed * Decimal(price.cost)

    def periods(self) -> dict[str, tuple[object, ...]]:
        """Return what each period must come to; see `shown`."""
        return {period: one.shown() for period, one in self._sums.items()}
