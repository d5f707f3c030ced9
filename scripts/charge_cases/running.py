"""Runs a case through the charge models and says where the result is another than expected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, localcontext
from typing import Any

from ledger.domain.capacity import CapacityModel, CapacityTier
from ledger.domain.charge_lines import ChargeLine, rate_line
from ledger.domain.charge_models import ChargeModel, Rounding, dynamic, rate_windows
from ledger.domain.errors import InvalidInput
from ledger.domain.money import EXACT, RoundingMode, decimals_of, minor_units, plain, round_to
from ledger.domain.proration import LevelMove, rate_levels, share_of
from ledger.domain.taxes import tax_on
from ledger.domain.tiers import ZERO, Tier
from ledger.domain.transactions import TransactionModel
from scripts.charge_cases.building import MODES, conversion, model_of
from scripts.charge_cases.params import CaseError, Params, number

Got = dict[str, Any]
Runner = Callable[[str, Params, Params], Got]
QUOTIENTS = ("unit_amount", "effective_unit_amount")
"""Figures that are a quotient, which may have no end."""


def run_case(case: Any) -> list[str]:
    """Return what is wrong with a case's result, one line each; nothing if it is as expected."""
    try:
        whole = Params(case, "case")
        name = whole.raw("model")
        if not isinstance(name, str):
            raise CaseError("the case names no model")
        params = Params(whole.raw("params"), "params")
        expected = Params(whole.raw("expected"), "expected")
        with localcontext(EXACT):
            got = _runner(name)(name, params, whole)
            params.check_all_read()
            return _differences(whole.raw("expected"), got, expected.whole("rounded_to"))
    except InvalidInput as error:
        return [f"refused: {error.code} at {error.pointer or '/'}: {error.message}"]
    except CaseError as error:
        return [f"cannot be read: {error}"]


def _runner(name: str) -> Runner:
    for prefix, runner in RUNNERS.items():
        if name == prefix or (prefix.endswith("_") and name.startswith(prefix)):
            return runner
    return _by_quantity


def _differences(expected: Mapping[str, Any], got: Got, rounded_to: int | None) -> list[str]:
    problems = []
    for name, value in expected.items():
        if name == "rounded_to":
            continue
        if name not in got:
            problems.append(f"{name}: expected {value}, got nothing")
            continue
        found = got[name]
        if isinstance(value, list):
            wanted = [number(item, name) for item in value]
            same = wanted == list(found)
            found = [str(plain(item)) for item in found]
        else:
            same = _same(name, number(value, name), found, rounded_to)
            found = f"{plain(found):f}"
        if not same:
            problems.append(f"{name}: expected {value}, got {found}")
    return problems


def _same(name: str, wanted: Decimal, found: Decimal, rounded_to: int | None) -> bool:
    if rounded_to is not None:
        found = round_to(found, rounded_to, RoundingMode.HALF_UP)
    if name in QUOTIENTS and decimals_of(found) > 50:
        # A quotient without end can only be stated rounded; few digits would prove nothing.
        decimals = decimals_of(wanted)
        return decimals >= 4 and round_to(found, decimals, RoundingMode.HALF_UP) == wanted
    return wanted == found


def _quantity(case: Params) -> Decimal:
    return case.needed("quantity")


def _events(case: Params) -> list[Decimal]:
    found = case.raw("events")
    if not isinstance(found, list):
        raise CaseError("the case has no list of events")
    return [number(item, "events") for item in found]


def _unit_amount(amount: Decimal, quantity: Decimal) -> Got:
    unit = amount / quantity if quantity else ZERO
    return dict.fromkeys(QUOTIENTS, unit)


def _cents(amount: Decimal, decimals: int = 2) -> Decimal:
    return round_to(amount, decimals, RoundingMode.HALF_UP).scaleb(decimals)


def _by_quantity(name: str, params: Params, case: Params) -> Got:
    """Rate one line of a period: its first and last one, unless something was billed before it."""
    model = model_of(name, params)
    quantity = _quantity(case)
    before = params.number("pre_line_quantity") or ZERO
    line: ChargeLine = rate_line(
        model,
        quantity,
        before=before,
        last=True,
        billed_before=params.number("previous_billed"),
    )
    return {
        "amount": line.amount,
        "gross": line.gross,
        "discount": line.discount,
        "lines": [part.amount for part in line.parts],
        "billable_quantity": line.billed,
        "units": line.billed,
        **_unit_amount(line.amount, quantity),
    }


def _units(name: str, params: Params, case: Params) -> Got:
    """Convert or round a quantity without pricing it."""
    quantity = _quantity(case)
    if name == "unit_rounding":
        mode = params.choice("function", MODES, None)
        decimals = params.whole("precision") or 0
        return {"units": Rounding(decimals=decimals, mode=mode).applied(quantity)}
    if name == "usage_discount":
        free, before = params.needed("free_quantity"), params.number("pre_line_quantity") or ZERO
        model = ChargeModel(tiers=(Tier(),), free_quantity=free)
        return {"billable_quantity": rate_line(model, quantity, before=before).billed}
    converted = conversion(params)
    if converted is None:
        raise CaseError("params says no conversion")
    return {"units": converted.converted(quantity)}


def _windows(name: str, params: Params, case: Params) -> Got:
    """Rate each event's quantity as a window of its own."""
    model = model_of(name.replace("windowed_commitment", "unit"), params)
    amounts = rate_windows(model, _events(case))
    return {"amount": sum(amounts, ZERO), "lines": list(amounts)}


def _levels(name: str, params: Params, case: Params) -> Got:
    model = model_of(name, params)
    moves = [
        LevelMove(units=move.needed("full"), weighted=move.needed("prorated"))
        for move in case.objects("events")
    ]
    exact = Rounding(decimals=12, mode=RoundingMode.HALF_UP)
    return {"amount": rate_levels(model, moves, rounding=exact)}


def _transactions(params: Params, *, first_limit: bool) -> TransactionModel:
    """Read prices by transaction.

    Args:
        params: of the case.
        first_limit: whether the first of two free allowances to end counts; else the free amount
            alone does where there is one.
    """
    free_amount = params.number("free_amount") or None
    free_events = params.whole("free_events") or None
    if free_amount is not None and not first_limit:
        free_events = None
    return TransactionModel(
        percent=params.needed("rate_pct"),
        fee=params.number("fixed_amount") or ZERO,
        min_amount=params.number("per_transaction_min"),
        max_amount=params.number("per_transaction_max"),
        free_events=free_events,
        free_amount=free_amount,
    )


def _percentage(_: str, params: Params, case: Params) -> Got:
    """Rate totals of transactions, or their amounts where the case has them."""
    model = _transactions(params, first_limit=True)
    if "events" in case:
        events = _events(case)
        amount, quantity = model.charge(events), sum(events, ZERO)
    else:
        quantity = _quantity(case)
        totals = [
            number(total, "totals") for total in _list(params, "running_total_of_free_events")
        ]
        count = params.whole("events_count")
        amount = model.charge_totals(
            quantity, events=1 if count is None else count, free_totals=totals
        )
    return {"amount": amount, **_unit_amount(amount, quantity)}


def _list(params: Params, name: str) -> Sequence[Any]:
    found = params.raw(name)
    if found is None:
        return []
    if not isinstance(found, list):
        raise CaseError(f"params.{name} is {found!r}; a list would be right")
    return found


def _by_transaction(_: str, params: Params, case: Params) -> Got:
    events = _events(case)
    amount = _transactions(params, first_limit=False).charge(events)
    return {"amount": amount, **_unit_amount(amount, sum(events, ZERO))}


def _running(_: str, params: Params, case: Params) -> Got:
    """Rate transactions one after another, and tax the last total."""
    tax = params.number("tax_pct") or ZERO
    model = _transactions(params, first_limit=True)
    events = _events(case)
    after = [_cents(model.charge(events[: end + 1])) for end in range(len(events))]
    last = after[-1] if after else ZERO
    # Cents are taxed as if they were a currency without minor units.
    taxed = last + tax_on(last, percent=tax, currency="JPY", mode=RoundingMode.HALF_UP)
    return {"after_each_cents": after, "last_total_with_tax_cents": taxed}


def _dynamic(name: str, params: Params, case: Params) -> Got:
    """Charge the amounts that events state in minor units."""
    if name == "dynamic_multiplier" or name.startswith("dynamic_max") or "multiplier" in params:
        return _by_quantity(name, params, case)
    subunit = params.whole("currency_subunit") or 1
    model = dynamic(minor_units=len(str(subunit)) - 1)
    events = case.objects("events")
    stated = [event.needed("precise_total_amount_cents") for event in events]
    units = sum((event.needed("units") for event in events), ZERO)
    totals = [model.charge(sum(stated[: end + 1], ZERO)) for end in range(len(stated))]
    amount = totals[-1] if totals else ZERO
    return {
        "amount": amount,
        "after_each_cents": [_cents(total) for total in totals],
        **_unit_amount(amount, units),
    }


def _minimum(_: str, params: Params, __: Params) -> Got:
    """Find what is missing to a minimum for part of a period, in minor units."""
    least = share_of(
        params.needed("min_amount_cents"),
        part=params.needed("days_billed"),
        whole=params.needed("days_in_period"),
    )
    missing = max(least - params.needed("used_amount_cents"), ZERO)
    return {"true_up_cents": round_to(missing, 0, RoundingMode.HALF_UP)}


def _top_up(_: str, params: Params, __: Params) -> Got:
    """Round bought credits and their price to the currency's minor unit."""
    decimals = minor_units(str(params.raw("currency")))
    credits = round_to(params.needed("paid_credits"), decimals, RoundingMode.HALF_UP)
    amount = credits * params.needed("rate_amount")
    return {"credits": credits, "amount_cents": _cents(amount, decimals)}


def _tax(_: str, params: Params, case: Params) -> Got:
    currency = str(params.raw("currency")).upper()
    decimals = params.whole("precision")
    if decimals is not None and decimals != minor_units(currency):
        raise CaseError(f"{currency} has {minor_units(currency)} decimals, not {decimals}")
    tax = tax_on(
        _quantity(case),
        percent=params.needed("tax_pct"),
        currency=currency,
        mode=params.choice("rounding", MODES, RoundingMode.HALF_UP),
    )
    return {"tax": tax}


def _capacity(_: str, params: Params, case: Params) -> Got:
    tiers = []
    for tier in params.objects("tiers"):
        limits = tier.raw("limits")
        if not isinstance(limits, Mapping):
            raise CaseError(f"limits are {limits!r}; an object would be right")
        read = {
            meter: None if limit is None or number(limit, meter) < 0 else number(limit, meter)
            for meter, limit in limits.items()
        }
        tiers.append(CapacityTier(price=tier.needed("price"), limits=read))
    used = case.raw("events")
    if not isinstance(used, Mapping):
        raise CaseError(f"events are {used!r}; an object of quantities would be right")
    quantities = {meter: number(value, meter) for meter, value in used.items()}
    return {"amount": CapacityModel(tiers=tuple(tiers)).charge(quantities)}


RUNNERS: dict[str, Runner] = {
    "unit_conversion": _units,
    "unit_rounding": _units,
    "usage_discount": _units,
    "bucketed_": _windows,
    "windowed_": _windows,
    "prorated_graduated": _levels,
    "percentage": _percentage,
    "percentage_per_transaction_": _by_transaction,
    "percentage_running": _running,
    "dynamic": _dynamic,
    "dynamic_": _dynamic,
    "minimum_spend_true_up": _minimum,
    "wallet_topup_rounding": _top_up,
    "tax_percentage": _tax,
    "capacity_tier": _capacity,
}
"""How kinds of cases are run, by name or by what the name starts with; others by their quantity."""
