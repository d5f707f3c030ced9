"""Turns a case's parameters into a charge model: any combination of them, whatever its name."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from ledger.domain.charge_models import (
    ChargeModel,
    Commitment,
    Conversion,
    Operation,
    Rounding,
)
from ledger.domain.money import RoundingMode
from ledger.domain.tiers import ZERO, Boundary, Tier, TierMode, TierRange, tiers_of
from scripts.charge_cases.params import CaseError, Params

MODES = {
    "up": RoundingMode.UP,
    "ceil": RoundingMode.UP,
    "ceiling": RoundingMode.UP,
    "down": RoundingMode.DOWN,
    "floor": RoundingMode.DOWN,
    "round": RoundingMode.HALF_UP,
    "half_up": RoundingMode.HALF_UP,
    "half_even": RoundingMode.HALF_EVEN,
    "none": None,
}
OPERATIONS = {"multiply": Operation.MULTIPLY, "divide": Operation.DIVIDE}
BOUNDARIES = {
    "up_to_inclusive": Boundary.INCLUSIVE,
    "up_to_exclusive": Boundary.EXCLUSIVE,
}
TRUTH = {True: True, False: False}


def model_of(name: str, params: Params) -> ChargeModel:
    """Return the charge model of a case.

    Raises:
        CaseError: if the parameters cannot be read.
        InvalidInput: if they make no charge model.
    """
    volume = name.startswith(("volume", "bucketed_volume")) or name.endswith("_TOP_TIER")
    members: dict[str, Any] = {
        "mode": TierMode.VOLUME if volume else TierMode.GRADUATED,
        "flat_at_zero": params.choice("flat_at_zero", TRUTH, True),
        "conversion": conversion(params),
        "free_quantity": params.number("free_units", "free_quantity", "usage_discount") or ZERO,
        "discount_percent": params.number("discount_pct") or ZERO,
        "commitment": _commitment(params),
        "max_amount": params.number("max_spend"),
        "min_amount": params.number("min_spend"),
    }
    members |= _prices(params, volume=volume)
    precision = params.whole("precision")
    if precision is not None:
        mode = params.choice("rounding", MODES, RoundingMode.HALF_UP)
        members["rounding"] = Rounding(decimals=precision, mode=mode)
    return ChargeModel(**members)


def conversion(params: Params) -> Conversion | None:
    """Return the conversion of a case, if it has one."""
    if "operation" not in params:
        return None
    mode = params.choice("rounding", MODES, None)
    decimals = params.whole("precision") or 0
    return Conversion(
        operation=params.choice("operation", OPERATIONS, None),
        factor=params.needed("factor"),
        rounding=None if mode is None else Rounding(decimals=decimals, mode=mode),
    )


def _commitment(params: Params) -> Commitment | None:
    amount = params.number("commit_amount")
    quantity = params.number("commit_quantity")
    if amount is None and quantity is None:
        return None
    factor = params.number("overage_factor")
    return Commitment(
        amount=amount,
        quantity=quantity,
        overage_factor=Decimal(1) if factor is None else factor,
        true_up=params.choice("true_up", TRUTH, False),
    )


def _prices(params: Params, *, volume: bool) -> dict[str, Any]:
    """Return tiers and what belongs to the way in which a case writes them."""
    if "ranges" in params:
        return {"tiers": _ranges(params)}
    if "tiers" not in params:
        return {"tiers": (_single(params),)}
    tiers = params.objects("tiers")
    if not tiers:
        raise CaseError("params.tiers is empty")
    if "first" in tiers[0]:
        return _first_units(tiers, volume=volume)
    if "block_size" in tiers[0]:
        return {"tiers": _blocks(tiers, volume=volume)}
    boundary = params.choice("boundary", BOUNDARIES, Boundary.INCLUSIVE)
    return {"tiers": tuple(_tier(tier, tier.number("up_to")) for tier in tiers), **_at(boundary)}


def _at(boundary: Boundary) -> dict[str, Any]:
    return {"boundary": boundary}


def _tier(tier: Params, up_to: Decimal | None) -> Tier:
    percent = tier.number("rate_pct")
    made = Tier(
        up_to=up_to,
        rate=tier.number("unit") if percent is None else percent,
        unit_size=Decimal(1 if percent is None else 100),
        flat=tier.number("flat"),
        cap=tier.number("flat_cap"),
    )
    tier.check_all_read()
    return made


def _ranges(params: Params) -> tuple[Tier, ...]:
    """Read ranges with both ends; where the style is not said, the second one's start says it."""
    rows = params.objects("ranges")
    ranges = []
    for row in rows:
        start, end = row.needed("from"), row.number("to")
        ranges.append(TierRange(start=start, end=end, tier=_tier(row, end)))
    touching = len(ranges) > 1 and ranges[1].start == ranges[0].end
    styles = {"inclusive_integer": True, "adjacent": False}
    whole_units = params.choice("range_style", styles, not touching)
    return tiers_of(ranges, whole_units=whole_units)


def _first_units(tiers: list[Params], *, volume: bool) -> dict[str, Any]:
    """Read tiers by their first unit: a whole quantity equal to it is already theirs."""
    starts = [tier.needed("first") for tier in tiers]
    if starts[0]:
        raise CaseError(f"the first tier starts at {starts[0]}; 0 would be right")
    ends = [*starts[1:], None]
    made = tuple(_tier(tier, end) for tier, end in zip(tiers, ends, strict=True))
    boundary = Boundary.EXCLUSIVE if volume else Boundary.INCLUSIVE
    return {"tiers": made, "flat_at_zero": volume, **_at(boundary)}


def _blocks(tiers: list[Params], *, volume: bool) -> tuple[Tier, ...]:
    """Read tiers of started blocks.

    The top tier of a volume price holds whatever lies beyond it; beyond the last of graduated
    tiers nothing is charged, which a tier without rate says.
    """
    made = []
    end = ZERO
    for index, tier in enumerate(tiers):
        size, most = tier.needed("block_size"), tier.needed("max_blocks")
        end += size * most
        last = most < 0 or (volume and index == len(tiers) - 1)
        price = tier.number("price")
        tier.check_all_read()
        made.append(
            Tier(up_to=None if last else end, rate=price, unit_size=size, blocks=RoundingMode.UP)
        )
    if made[-1].up_to is not None:
        made.append(Tier())
    return tuple(made)


def _single(params: Params) -> Tier:
    """Read one price for all units: by the unit, by the package, or a percentage."""
    percent = params.number("rate_pct")
    rate = params.number("amount", "unit_amount", "multiplier")
    if percent is not None:
        return Tier(rate=percent, unit_size=Decimal(100))
    if rate is None:
        raise CaseError("params has neither ranges nor tiers nor an amount")
    if "package_size" not in params:
        return Tier(rate=rate)
    return Tier(
        rate=rate,
        unit_size=params.needed("package_size"),
        blocks=params.choice("rounding", MODES, RoundingMode.UP),
    )
