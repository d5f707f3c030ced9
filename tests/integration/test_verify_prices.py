"""Verify, the prices: a price book that was changed, or cannot be read, is found."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import psycopg
import pytest

from adapters.bootstrap import open_ledger
from ledger.application.replay import Difference
from ledger.application.verify_prices import price_differences
from ledger.domain.prices import PriceKey, PriceKind, PriceRow

EVENT = {
    "specversion": "1.0",
    "type": "tallybook.usage.v2",
    "source": "s",
    "id": "e-1",
    "subject": "acme",
    "time": "2026-10-01T00:00:00Z",
    "data": {"provider": "px", "model": "m1", "quantities": {"tokens.output": 7}},
}


def _priced(url: str) -> None:
    with open_ledger(url) as tallybook:
        row = PriceRow(
            key=PriceKey("px", "m1", "tokens.output"),
            effective_from=datetime(2020, 1, 1, tzinfo=UTC),
            rate=Decimal("0.003"),
        )
        tallybook.prices.set(row, kind=PriceKind.COST, book="", effective_from=None, by="test")
        [outcome] = tallybook.ledger.record([json.dumps(EVENT).encode()])
        assert (outcome.status, outcome.flags) == ("accepted", ())


def _differences(url: str) -> list[Difference]:
    with open_ledger(url) as tallybook:
        return price_differences(
            reads=tallybook.reads, prices=tallybook.prices, plans=tallybook.plans
        )


def _tamper(url: str, change: Callable[[bytes], bytes]) -> int:
    """Change the cost book's events that have the rate; return how many."""
    changed = 0
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT originator_version, state FROM tallybook.ledger_log"
            " WHERE originator_id = 'prices-cost-px'"
        ).fetchall()
        for version, state in rows:
            if b"0.003" in zlib.decompress(state):
                changed += 1
                connection.execute(
                    "UPDATE tallybook.ledger_log SET state = %s"
                    " WHERE originator_id = 'prices-cost-px' AND originator_version = %s",
                    (change(state), version),
                )
    return changed


def test_books_that_say_what_rated_the_entries_differ_in_nothing(database_url: str) -> None:
    """Every rate in use is the rate of the row that it cites."""
    _priced(database_url)
    assert _differences(database_url) == []


def test_a_price_that_was_changed_in_its_book_is_found(database_url: str) -> None:
    """The entry's shape still has the rate that was approved."""
    _priced(database_url)
    assert _tamper(
        database_url,
        lambda state: zlib.compress(zlib.decompress(state).replace(b"0.003", b"0.001")),
    )
    [found] = [one for one in _differences(database_url) if one.what.startswith("cost/")]
    assert (found.tenant, found.code, found.expected, found.found) == (
        "acme",
        "price",
        "0.003",
        "0.001",
    )


@pytest.mark.parametrize("cut", [1, 9])
def test_a_price_book_that_cannot_be_read_is_found(database_url: str, cut: int) -> None:
    """A damaged event ends the comparison with a difference, not with a crash."""
    _priced(database_url)
    assert _tamper(database_url, lambda state: state[:-cut])
    assert _differences(database_url)[-1].code == "price_unreadable"
