"""Moves of prepaid credit: from entries by day, and from grants what no entry says."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from ledger.domain.credits import Grant
from ledger.domain.entries import Commit, Entry, Posting, UsageRecorded, UsageVoided
from ledger.domain.entry_parts import Extra
from ledger.domain.journal_facts import CreditMove
from ledger.domain.periods import to_us
from ledger.domain.protection_entries import (
    ChargeReversed,
    CreditExpired,
    CreditGranted,
    CreditWithdrawn,
)
from ledger.projections.credit_moves import credit_moves

ONE = 10**18


def at(day: int, hour: int = 12) -> int:
    """Return an instant of November."""
    return to_us(datetime(2026, 11, day, hour, tzinfo=UTC))


def granted(number: int, kind: str, amount: int, day: int, *, came_from: str = "") -> CreditGranted:
    """Return a grant's entry."""
    source = (came_from, "x") if came_from else ("", "")
    return CreditGranted(
        number, f"g{number}", kind, amount * ONE, 1, at(day), 0, b"", "", "", b"", source
    )


def grant(entry: CreditGranted, **counters: int) -> Grant:
    """Return the grant as it is after everything."""
    made = Grant.given(entry)
    for name, amount in counters.items():
        setattr(made, name, amount * ONE)
    return made


def used(id: str, moment: int, *credit: tuple[int, int]) -> UsageRecorded:
    """Return usage that grants paid."""
    extra = Extra(credit=tuple((number, amount * ONE) for number, amount in credit))
    return UsageRecorded(id, moment, 0, (1,), 0, 0, extra)


def moves_of(entries: list[Entry], *grants: Grant, timezone: str = "UTC") -> dict[Any, Decimal]:
    """Return amounts by day of the month, move, and whether it is promotional."""
    commits = [Commit(b"", 0, (entry,)) for entry in entries]
    facts = credit_moves(commits, grants, tenant="acme", currency="EUR", timezone=timezone)
    assert all((one.tenant, one.currency) == ("acme", "EUR") for one in facts)
    return {(one.day.day, one.move, one.promotional): one.amount for one in facts}


def test_burns_are_on_the_usages_day_and_a_void_takes_them_back_there() -> None:
    """By kind of grant; a reversal gives back, and its compensation takes again."""
    paid, free = granted(0, "paid", 50, 1), granted(1, "promotional", 5, 2)
    first = used("a", at(3), (1, 5), (0, 7))
    second = used("b", at(4), (0, 20))
    posting = Posting(0, at(4), (1,), 0, 0, second.extra)
    back = Extra(credit=((0, 2 * ONE),))
    reversal = ChargeReversed("r", "s", "a", 2 * ONE, at(9), "", at(3), 0, back, ("", ""), b"")
    again = ChargeReversed("", "s", "a", -ONE, at(9), "", at(3), 0, back, ("", ""), b"")
    entries: list[Entry] = [
        paid,
        free,
        first,
        second,
        UsageVoided("s", "v", "s", "b", "", posting),
        reversal,
        again,
    ]
    found = moves_of(entries, grant(paid, burned=7), grant(free, burned=5))
    assert found == {
        (1, CreditMove.GRANTED, False): Decimal(50),
        (2, CreditMove.GRANTED, True): Decimal(5),
        (3, CreditMove.BURNED, False): Decimal(7),
        (3, CreditMove.BURNED, True): Decimal(5),
    }


def test_days_are_the_tenants() -> None:
    """23:30 UTC is the next day in Auckland."""
    paid = granted(0, "paid", 50, 1)
    found = moves_of(
        [paid, used("a", at(3, 23), (0, 1))], grant(paid, burned=1), timezone="Pacific/Auckland"
    )
    assert set(found) == {(2, CreditMove.GRANTED, False), (4, CreditMove.BURNED, False)}


def test_what_lapsed_is_the_grants_own_number_on_the_day_of_its_expiry() -> None:
    """A hold that released to an expired grant added to it without an entry."""
    free = granted(0, "promotional", 10, 1)
    found = moves_of([free, CreditExpired(0, at(20), 6 * ONE)], grant(free, lapsed=9, burned=0))
    assert found[20, CreditMove.EXPIRED, True] == Decimal(9)


@pytest.mark.parametrize("kind", ["paid", "promotional"])
def test_what_is_owed_burns_paid_credit_with_its_usage_and_a_promotion_gives_it_back(
    kind: str,
) -> None:
    """Who pays it is said by the grant alone; of 5 that were owed it paid 4."""
    late = granted(0, kind, 4, 7)
    owing = UsageRecorded("a", at(3), 0, (1,), 0, 0, Extra(owed=5 * ONE))
    found = moves_of([owing, late], grant(late, burned=4))
    promotion = {
        (7, CreditMove.GRANTED, True): Decimal(4),
        (7, CreditMove.BURNED, True): Decimal(4),
        (7, CreditMove.BURNED, False): Decimal(-4),
    }
    more = {(7, CreditMove.GRANTED, False): Decimal(4)} if kind == "paid" else promotion
    assert found == {(3, CreditMove.BURNED, False): Decimal(5), **more}


def test_transfers_and_refunds_are_told_apart() -> None:
    """And a transfer that came from what somebody paid for."""
    paid, came = granted(0, "paid", 10, 1), granted(1, "paid", 3, 2, came_from="blue")
    entries: list[Entry] = [
        paid,
        came,
        CreditWithdrawn("w", 0, 2 * ONE, at(5), "refund", "", "", "", b""),
        CreditWithdrawn("x", 0, 3 * ONE, at(5), "transfer", "green", "", "", b""),
    ]
    found = moves_of(entries, grant(paid, withdrawn=5), grant(came))
    assert found == {
        (1, CreditMove.GRANTED, False): Decimal(10),
        (2, CreditMove.TRANSFERRED_IN, False): Decimal(3),
        (5, CreditMove.REFUNDED, False): Decimal(2),
        (5, CreditMove.TRANSFERRED_OUT, False): Decimal(3),
    }
