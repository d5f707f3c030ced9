"""The journal's bookings and its trial balance as documents; amounts are text, in full."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ledger.domain.journal import AccountBalance, Booking
from ledger.domain.money import text


def bookings_document(bookings: Iterable[Booking]) -> dict[str, Any]:
    """Return bookings; a debit is above zero, a credit below."""
    return {
        "bookings": [
            {
                "id": one.external_id,
                "name": one.name,
                "tenant": one.tenant,
                "currency": one.currency,
                "day": one.day.isoformat(),
                "rule": one.rule.value,
                "reference": one.reference,
                "lines": [
                    {"account": line.account, "amount": text(line.amount)} for line in one.lines
                ],
            }
            for one in bookings
        ]
    }


def trial_balance_document(rows: Sequence[AccountBalance]) -> dict[str, Any]:
    """Return a trial balance."""
    return {
        "accounts": [
            {
                "account": one.account,
                "currency": one.currency,
                "debits": text(one.debits),
                "credits": text(one.credits),
                "balance": text(one.balance),
            }
            for one in rows
        ]
    }
