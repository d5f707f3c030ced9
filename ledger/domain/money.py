"""Money and exact decimals: scaled integers inside, `Decimal` outside, floats nowhere.

Quantities have at most 6 decimals and unit rates at most 12, so an unrounded amount has at most
18 and is exact. Inside entries an amount is an integer and a number of decimals: ``(120200, 7)``
is 0.01202. Rounding happens only where a rule is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, ROUND_UP, Context, Decimal
from enum import StrEnum

from ledger.domain.errors import InvalidInput

RATE_DECIMALS = 12
"""Most decimals of a unit rate."""
AMOUNT_DECIMALS = 18
"""Most decimals of an unrounded amount."""

EXACT = Context(prec=200)
"""Arithmetic context in which sums and products of this ledger's numbers are exact."""


def _codes(listed: str) -> list[str]:
    return listed.split()


_NO_DECIMALS = _codes("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF ")
_THREE_DECIMALS = _codes("BHD IQD JOD KWD LYD OMR TND ")
_TWO_DECIMALS = _codes(
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP "
    "BYN BZD CAD CDF CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP "
    "GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT "
    "LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN "
    "NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP "
    "SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VES "
    "WST XCD YER ZAR ZMW ZWG "
)
_MINOR_UNITS = (
    dict.fromkeys(_NO_DECIMALS, 0)
    | dict.fromkeys(_TWO_DECIMALS, 2)
    | dict.fromkeys(_THREE_DECIMALS, 3)
)
"""Decimals of the minor unit by currency, ISO 4217."""


class RoundingMode(StrEnum):
    """How a number between two steps is rounded; ``up`` and ``down`` are away from and to zero."""

    HALF_EVEN = "half_even"
    HALF_UP = "half_up"
    UP = "up"
    DOWN = "down"

    @property
    def decimal_name(self) -> str:
        """Return the name that `decimal` gives this mode."""
        return _DECIMAL_MODES[self]


_DECIMAL_MODES = {
    RoundingMode.HALF_EVEN: ROUND_HALF_EVEN,
    RoundingMode.HALF_UP: ROUND_HALF_UP,
    RoundingMode.UP: ROUND_UP,
    RoundingMode.DOWN: ROUND_DOWN,
}


def minor_units(currency: str) -> int:
    """Return the decimals of an ISO 4217 currency's minor unit (USD 2, JPY 0, KWD 3).

    Raises:
        InvalidInput: ``unknown_currency``.
    """
    try:
        return _MINOR_UNITS[currency]
    except KeyError:
        raise InvalidInput(
            f"{currency!r} is not an ISO 4217 currency in use, such as USD",
            code="unknown_currency",
        ) from None


def decimals_of(value: Decimal) -> int:
    """Return the decimals that a finite ``value`` needs, trailing zeros left out."""
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int) or exponent >= 0 or not any(digits):
        return 0
    zeros = 0
    while not digits[-1 - zeros]:
        zeros += 1
    return max(0, -exponent - zeros)


def to_scaled(value: Decimal, decimals: int) -> int:
    """Return ``value`` x 10^decimals as an integer.

    Raises:
        InvalidInput: ``too_precise`` if that is not whole.
    """
    scaled = value.scaleb(decimals, EXACT)
    whole = int(scaled)
    if whole != scaled:
        raise InvalidInput(
            f"{value} has more than {decimals} decimals, the most that are kept here",
            code="too_precise",
        )
    return whole


def from_scaled(value: int, decimals: int) -> Decimal:
    """Return ``value`` / 10^decimals, without trailing zeros."""
    return plain(Decimal(value).scaleb(-decimals, EXACT))


_FEW_DECIMALS = 6


def scaled_text(value: int, decimals: int) -> str:
    """Return ``value`` / 10^decimals as canonical decimal text; see `text`."""
    if not value:
        return "0"
    if 0 < decimals <= _FEW_DECIMALS:
        # Quantities, which nearly always are whole.
        whole, rest = divmod(value, 10**decimals)
        if not rest:
            return str(whole)
    digits = str(abs(value)).rjust(decimals + 1, "0")
    if decimals:
        whole, rest = digits[:-decimals], digits[-decimals:].rstrip("0")
        digits = f"{whole}.{rest}" if rest else whole
    return f"-{digits}" if value < 0 else digits


def plain(value: Decimal) -> Decimal:
    """Return ``value`` without trailing zeros and without an exponent: 1E+2 becomes 100."""
    return Decimal(text(value))


def text(value: Decimal) -> str:
    """Return the canonical text of a decimal: no exponent, no trailing zeros, no ``-0``."""
    # By their texts, which are four times as fast as arithmetic.
    shown = str(value)
    if "E" in shown:
        reduced = value.normalize(EXACT)
        if value.adjusted() > 0:
            reduced = reduced.quantize(Decimal(1), context=EXACT)
        shown = format(reduced, "f")
    if "." in shown:
        shown = shown.rstrip("0").rstrip(".")
    return "0" if shown == "-0" else shown


def round_to(value: Decimal, decimals: int, mode: RoundingMode) -> Decimal:
    """Return ``value`` rounded to ``decimals`` places by ``mode``."""
    step = Decimal(1).scaleb(-decimals)
    return value.quantize(step, rounding=mode.decimal_name, context=EXACT)


def whole_steps(value: Decimal, step: Decimal, mode: RoundingMode) -> Decimal:
    """Return how many steps of size ``step`` > 0 a ``value`` >= 0 makes, rounded by ``mode``.

    Exact for any pair, also where the quotient has no end: 100 makes 33 steps of 3, rounded down.
    """
    whole, rest = EXACT.divmod(value, step)
    if not rest or mode is RoundingMode.DOWN:
        return whole
    twice = EXACT.multiply(rest, Decimal(2))
    if mode is RoundingMode.UP or twice > step:
        return EXACT.add(whole, Decimal(1))
    if twice < step:
        return whole
    return EXACT.add(whole, Decimal(1) if mode is RoundingMode.HALF_UP else whole % 2)


def round_money(value: Decimal, currency: str) -> Decimal:
    """Return ``value`` rounded half-even to the currency's minor unit."""
    return round_to(value, minor_units(currency), RoundingMode.HALF_EVEN)


def spread(total: Decimal, weights: Sequence[Decimal], decimals: int) -> list[Decimal]:
    """Split a rounded total by weights so that the parts sum to it exactly (largest remainder).

    Args:
        total: a number with at most ``decimals`` decimals; may be negative.
        weights: one weight >= 0 a part; all zero splits evenly.
        decimals: decimals of each part.

    Returns:
        One part a weight; ties in the remainder go to the earlier part.
    """
    if not weights:
        return []
    units = to_scaled(total, decimals)
    sign = -1 if units < 0 else 1
    units = abs(units)
    if any(weight < 0 for weight in weights):
        raise InvalidInput("weights are not negative", code="invalid_weight")
    scale = max(decimals_of(weight) for weight in weights)
    whole = [to_scaled(weight, scale) for weight in weights]
    if not any(whole):
        whole = [1] * len(whole)
    denominator = sum(whole)
    shares = [divmod(units * weight, denominator) for weight in whole]
    left = units - sum(share for share, _ in shares)
    order = sorted(range(len(shares)), key=lambda index: (-shares[index][1], index))
    extra = set(order[:left])
    return [
        from_scaled(sign * (share + (index in extra)), decimals)
        for index, (share, _) in enumerate(shares)
    ]
