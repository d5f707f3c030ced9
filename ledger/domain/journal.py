"""The journal: balanced bookings by tenant, currency, day and account. See docs/spec/journal.md.

Nothing is stored: facts (`journal_facts`) become bookings by the rules of `journal_rules`, the
same facts the same bookings. A booking whose lines do not sum to zero cannot be made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from decimal import Decimal, localcontext
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256

import msgspec

from ledger.domain.errors import InvariantViolation
from ledger.domain.money import EXACT, RoundingMode, minor_units, plain, round_to
from ledger.domain.tiers import ZERO

UNBILLED = "assets:receivable:unbilled"
BILLED = "assets:receivable:billed"
CASH = "assets:cash"
DEFERRED_CREDIT = "liabilities:deferred-credit"
PROMOTIONAL_CREDIT = "liabilities:promotional-credit"
TAX = "liabilities:tax"
PROVIDER_PAYABLE = "liabilities:provider-payable"
"""With the provider's name after it."""
CREDIT_TRANSFERS = "equity:credit-transfers"
"""Sums to zero over the tenants that credit went between."""
USAGE_INCOME = "income:usage"
"""With the meter's family after it: the first word of its name."""
PLAN_INCOME = "income:plan"
"""With the kind of an invoice's line after it."""
ROUNDING = "income:rounding"
BREAKAGE = "income:breakage"
PROMOTION = "expenses:promotion"
PROVIDER_COST = "expenses:provider-cost"
"""With the provider's name after it."""
WRITE_OFFS = "expenses:write-offs"

_UNSAFE = re.compile(r"[^a-z0-9]+")
_EXTERNAL_DIGITS = 18


class Rule(StrEnum):
    """Why something is booked; see docs/spec/journal.md for what each books."""

    USAGE_ACCRUED = "usage_accrued"
    PROVIDER_COST_ACCRUED = "provider_cost_accrued"
    CREDIT_GRANTED = "credit_granted"
    PROMOTION_GRANTED = "promotion_granted"
    CREDIT_BURNED = "credit_burned"
    PROMOTION_BURNED = "promotion_burned"
    CREDIT_EXPIRED = "credit_expired"
    PROMOTION_EXPIRED = "promotion_expired"
    CREDIT_REFUNDED = "credit_refunded"
    PROMOTION_WITHDRAWN = "promotion_withdrawn"
    CREDIT_TRANSFERRED_OUT = "credit_transferred_out"
    CREDIT_TRANSFERRED_IN = "credit_transferred_in"
    PROMOTION_TRANSFERRED_OUT = "promotion_transferred_out"
    PROMOTION_TRANSFERRED_IN = "promotion_transferred_in"
    INVOICE_FINALIZED = "invoice_finalized"
    INVOICE_VOIDED = "invoice_voided"
    INVOICE_PAID = "invoice_paid"
    INVOICE_UNCOLLECTIBLE = "invoice_uncollectible"
    UNCOLLECTIBLE_PAID = "uncollectible_paid"
    CREDIT_NOTE_ISSUED = "credit_note_issued"
    CREDIT_NOTE_OF_UNCOLLECTIBLE = "credit_note_of_uncollectible"


class JournalLine(msgspec.Struct, frozen=True, order=True):
    """An account and what is booked on it.

    Attributes:
        account: words with colons between them.
        amount: unrounded; a debit is above zero, a credit below.
    """

    account: str
    amount: Decimal


class Booking(msgspec.Struct, frozen=True, order=True):
    """Lines that sum to zero.

    Attributes:
        tenant: whose.
        currency: of every line.
        day: local to the tenant.
        rule: why.
        reference: number of the document; "" for what is summed by day.
        lines: one an account, in order of accounts.
    """

    tenant: str
    currency: str
    day: date
    rule: Rule
    reference: str
    lines: tuple[JournalLine, ...]

    @property
    def name(self) -> str:
        """Return what names it, the same whenever the journal is made again."""
        parts = (self.tenant, self.currency, self.day.isoformat(), self.rule.value, self.reference)
        return "/".join(part for part in parts if part)

    @property
    def external_id(self) -> str:
        """Return 20 letters and digits that stand for the name in other programs."""
        return f"tb{sha256(self.name.encode()).hexdigest()[:_EXTERNAL_DIGITS]}"


class AccountBalance(msgspec.Struct, frozen=True, order=True):
    """A row of the trial balance.

    Attributes:
        currency: of the amounts.
        account: which.
        debits: sum of what is above zero.
        credits: sum of what is below, without its sign.
    """

    currency: str
    account: str
    debits: Decimal
    credits: Decimal

    @property
    def balance(self) -> Decimal:
        """Return debits - credits."""
        return plain(EXACT.subtract(self.debits, self.credits))


class Drawn(msgspec.Struct, frozen=True):
    """What a rule makes of a fact; lines need not be sorted, and may repeat accounts."""

    tenant: str
    currency: str
    day: date
    rule: Rule
    lines: Sequence[JournalLine]
    reference: str = ""


@lru_cache(maxsize=4096)
def account(*words: str) -> str:
    """Return an account's name: letters, digits and hyphens, with colons between words.

    Whatever else stands in a word becomes a hyphen, so two names can share an account.
    """
    first, *rest = words
    return ":".join(
        (first, *(_UNSAFE.sub("-", word.lower()).strip("-") or "other" for word in rest))
    )


def bookings(drawn: Iterable[Drawn]) -> list[Booking]:
    """Return what rules drew, summed by tenant, currency, day, rule, document and account.

    Raises:
        InvariantViolation: debits and credits of one differ.
    """
    sums: dict[tuple[str, str, date, Rule, str], dict[str, Decimal]] = {}
    for one in drawn:
        key = (one.tenant, one.currency, one.day, one.rule, one.reference)
        _add(sums.setdefault(key, {}), one.lines)
    made = (Booking(*key, _lines(accounts)) for key, accounts in sums.items())
    return sorted(_checked(one) for one in made if one.lines)


def trial_balance(
    booked: Iterable[Booking], *, through: date | None = None
) -> list[AccountBalance]:
    """Return debits and credits by currency and account.

    Args:
        booked: of any tenants.
        through: last day that counts.
    """
    sums: dict[tuple[str, str], list[Decimal]] = {}
    with localcontext(EXACT):
        for one in booked:
            if through is not None and one.day > through:
                continue
            for line in one.lines:
                both = sums.setdefault((one.currency, line.account), [ZERO, ZERO])
                both[line.amount < 0] += abs(line.amount)
    return [
        AccountBalance(*key, plain(debits), plain(credits))
        for key, (debits, credits) in sorted(sums.items())
    ]


def by_month(booked: Iterable[Booking]) -> list[Booking]:
    """Return bookings with those that are summed by day summed by month, on its last day."""
    return bookings(
        Drawn(
            one.tenant,
            one.currency,
            one.day if one.reference else _last_day(one.day),
            one.rule,
            one.lines,
            one.reference,
        )
        for one in booked
    )


def in_minor_units(booking: Booking, *, at_most: int | None = None) -> Booking | None:
    """Return a booking for programs that know no more decimals than the currency's minor unit.

    Each line is rounded half-even, and what the lines then lack goes to the account for rounding.
    None where nothing is left.

    Args:
        booking: exact.
        at_most: decimals that the program takes, where that is less than the minor unit's.
    """
    sums: dict[str, Decimal] = {}
    decimals = minor_units(booking.currency)
    if at_most is not None:
        decimals = min(decimals, at_most)
    rounded = [
        JournalLine(line.account, round_to(line.amount, decimals, RoundingMode.HALF_EVEN))
        for line in booking.lines
    ]
    _add(sums, rounded)
    with localcontext(EXACT):
        missing = -sum((line.amount for line in rounded), ZERO)
    _add(sums, [JournalLine(ROUNDING, missing)])
    lines = _lines(sums)
    return _checked(msgspec.structs.replace(booking, lines=lines)) if lines else None


def _last_day(day: date) -> date:
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)


def _add(sums: dict[str, Decimal], lines: Iterable[JournalLine]) -> None:
    for line in lines:
        sums[line.account] = EXACT.add(sums.get(line.account, ZERO), line.amount)


def _lines(sums: dict[str, Decimal]) -> tuple[JournalLine, ...]:
    return tuple(
        JournalLine(name, plain(amount)) for name, amount in sorted(sums.items()) if amount
    )


def _checked(booking: Booking) -> Booking:
    with localcontext(EXACT):
        over = sum((line.amount for line in booking.lines), ZERO)
    if over:
        raise InvariantViolation(f"debits and credits of {booking.name} differ by {over}")
    return booking
