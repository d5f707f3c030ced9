"""How amounts of plan lines come about, in words and numbers that a customer can check.

A line whose amount is what it shows, quantity times price or the sum of its parts, has no formula.
"""

from __future__ import annotations

from decimal import Decimal, localcontext

from ledger.domain.billing_periods import ProratedAmount
from ledger.domain.charge_lines import ChargeLine
from ledger.domain.money import EXACT, text
from ledger.domain.tiers import ZERO


def charge_formula(line: ChargeLine, single: tuple[Decimal, Decimal] | None) -> str:
    """Return how a charge's amount came about; empty where the line shows it.

    Args:
        line: the charge.
        single: its one price and that price's unit size; None where it shows parts.
    """
    with localcontext(EXACT):
        if single is None:
            plainly = line.gross == line.amount
            gross = f"{text(line.gross)} for its parts"
        else:
            rate, size = single
            priced = line.billed * rate == line.gross * size
            plainly = priced and line.gross == line.amount and line.billed == line.quantity
            gross = f"{text(line.billed)} x {text(rate)} / {text(size)}"
            if not priced:
                gross = f"{text(line.gross)} ({gross}, rounded)"
    if plainly:
        return ""
    used = ""
    if single is not None and line.billed != line.quantity:
        used = (
            f"{text(line.quantity)} used, {text(line.billed)} billed after conversion, rounding"
            " and free units; "
        )
    terms = (
        (EXACT.minus(line.discount), "for discount, maximum and overage"),
        (line.close.true_up, "up to the commitment"),
        (line.close.minimum, "up to the minimum"),
    )
    said = "".join(_term(amount, what) for amount, what in terms)
    return f"{used}{gross}{said} = {text(line.amount)}"


def overage_formula(
    amount: Decimal, *, charged: Decimal, promised: ProratedAmount, factor: Decimal
) -> str:
    """Return how use beyond a commitment came to cost something besides the charges."""
    return (
        f"(charges {text(charged)} - commitment {text(promised.amount)}) x ({text(factor)} - 1)"
        f" = {text(amount)}{_shared('commitment', promised)}"
    )


def true_up_formula(amount: Decimal, *, charged: Decimal, promised: ProratedAmount) -> str:
    """Return how much of a commitment was not used up."""
    return (
        f"commitment {text(promised.amount)} - charges {text(charged)}"
        f" = {text(amount)}{_shared('commitment', promised)}"
    )


def minimum_formula(
    amount: Decimal, *, charged: Decimal, overage: Decimal, true_up: Decimal, least: ProratedAmount
) -> str:
    """Return what is missing to a minimum after what else is charged."""
    others = _term(EXACT.minus(overage), "overage") + _term(EXACT.minus(true_up), "true-up")
    return (
        f"minimum {text(least.amount)} - charges {text(charged)}{others}"
        f" = {text(amount)}{_shared('minimum', least)}"
    )


def _term(amount: Decimal, what: str) -> str:
    if not amount:
        return ""
    return f" {'-' if amount < ZERO else '+'} {text(abs(amount))} {what}"


def _shared(what: str, share: ProratedAmount) -> str:
    return f"; {what}: {share.formula}" if share.amount != share.full else ""
