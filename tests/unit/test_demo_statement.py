"""The demonstration's statement: fits the terminal, says what the figures say."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from adapters.cli.demo_statement import CHART_ROWS, Statement, clip, render

METERS = (
    "tokens.input",
    "tokens.input.cache_read",
    "tokens.input.cache_write.1h",
    "tokens.input.cache_write.5m",
    "tokens.output",
    "audio.stt.seconds",
)


def statement(**changes: Any) -> Statement:
    """Return a statement with long names and large figures."""
    members: dict[str, Any] = {
        "tenant": "acme-robotics",
        "timezone": "America/Argentina/ComodRivadavia",
        "currency": "USD",
        "period": "2026-10",
        "events": 1_234_567,
        "voided": 1,
        "unpriced": 2,
        "charge": Decimal("12.005"),
        "costs": {"USD": Decimal("10.004166666666")},
        "quantities": {meter: (Decimal("98765432.5"), Decimal("1.5")) for meter in METERS},
        "models": {
            "us.anthropic.claude-sonnet-4-20250514-v1:0": Decimal(9),
            **{f"model-{number}": Decimal(number) / 10 for number in range(8)},
        },
        "days": {date(2026, 10, day): Decimal(day) / 4 for day in range(1, 32)},
    }
    return Statement(**(members | changes))


@pytest.mark.parametrize("width", [80, 100, 120, 200])
@pytest.mark.parametrize("unicode", [True, False])
def test_no_line_is_longer_than_the_terminal_is_wide(width: int, unicode: bool) -> None:
    """Wrapped lines would tear the table and the chart apart."""
    lines = render(statement(), width=width, unicode=unicode)
    assert max(len(line) for line in lines) <= width
    assert any(len(line) > width - 12 for line in lines)


def test_a_terminal_without_unicode_gets_ascii() -> None:
    """Nothing that an old terminal cannot encode."""
    assert all(line.plain.isascii() for line in render(statement(), width=80, unicode=False))
    assert not all(line.plain.isascii() for line in render(statement(), width=80, unicode=True))


def test_amounts_are_shown_rounded_and_exact() -> None:
    """Rounding is half to even at the cent, and what it was made from stands beside it."""
    lines = [line.plain for line in render(statement(), width=80)]
    assert lines[1].split() == ["charge", "USD", "12.00", "exactly", "12.005"]
    assert lines[2].split() == ["provider", "cost", "USD", "10.00", "exactly", "10.004166666666"]
    assert lines[3].split()[:5] == ["margin", "USD", "2.00", "exactly", "2.000833333334"]
    assert "16.7 % of the charge" in lines[3]
    assert lines[4].strip() == ("1,234,567 events, 1 taken back, 2 without a price")


def test_a_cost_in_another_currency_is_shown_and_no_margin_is_made_of_it() -> None:
    """Currencies are never subtracted from each other."""
    lines = [line.plain for line in render(statement(costs={"EUR": Decimal("9.5")}), width=80)]
    assert lines[2].split() == ["provider", "cost", "EUR", "9.50", "exactly", "9.5"]
    assert not any(line.strip().startswith("margin") for line in lines)


def test_the_bars_are_as_high_as_the_days_are_dear() -> None:
    """The dearest day reaches the top, a day without charge is blank, a small one still shows."""
    days = {
        date(2026, 10, 1): Decimal(100),
        date(2026, 10, 2): Decimal(50),
        date(2026, 10, 3): Decimal("0.01"),
    }
    lines = [line.plain for line in render(statement(days=days), width=120, unicode=True)]
    rows = [line.rpartition("│")[2].ljust(4) for line in lines if "│" in line]
    assert len(rows) == CHART_ROWS
    columns = ["".join(row[day] for row in reversed(rows)) for day in range(4)]
    assert columns == ["█████", "██▄  ", "▁    ", "     "]
    assert "100.00│" in next(line for line in lines if "│" in line)


def test_a_month_without_charge_has_an_empty_chart() -> None:
    """Nothing is divided by the nothing that was charged."""
    empty = statement(days={}, charge=Decimal(0), costs={}, models={}, quantities={})
    lines = [line.plain for line in render(empty, width=80)]
    assert sum("│" in line for line in lines) == CHART_ROWS
    assert "%" not in "".join(lines)


def test_models_beyond_the_top_are_one_line_with_their_sum() -> None:
    """The list of models adds up to the charge."""
    lines = [line.plain for line in render(statement(), width=80)]
    assert any(line.endswith("4 others                       0.60") for line in lines), lines


def test_a_narrow_terminal_gets_the_parts_under_each_other() -> None:
    """Nothing stands beside the table where there is no room for it."""
    lines = [line.plain for line in render(statement(), width=60)]
    assert not any("tokens.input " in line and "model" in line for line in lines)
    assert any(line.startswith("top models") for line in lines)


@pytest.mark.parametrize(
    ("value", "unicode", "shown"),
    [("abcdef", True, "abcdef"), ("abcdefg", True, "abcde…"), ("abcdefg", False, "abcde~")],
)
def test_what_is_cut_is_marked(value: str, unicode: bool, shown: str) -> None:
    """A shortened name never looks like a whole one."""
    assert clip(value, 6, unicode=unicode) == shown
