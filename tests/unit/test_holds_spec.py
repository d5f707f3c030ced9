"""The tables of docs/spec/holds.md are the code's outcome codes, in the same order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ledger.domain.budgets import DEFAULT_PERCENT, STEP_KINDS
from ledger.domain.hold_codes import CODES

SPEC = (Path(__file__).parents[2] / "docs" / "spec" / "holds.md").read_text("utf-8")


def _table(title: str) -> list[str]:
    section = SPEC.split(f"\n**{title}**\n", 1)[1].split("\n**", 1)[0].split("\n### ", 1)[0]
    return re.findall(r"^\| `([^`]+)` \|", section, flags=re.MULTILINE)


@pytest.mark.parametrize("operation", sorted(CODES))
def test_the_spec_lists_every_code_in_its_order(operation: str) -> None:
    """Precedence is a promise: the page and the code say the same."""
    assert tuple(_table(operation)) == CODES[operation]


def test_the_spec_lists_every_step_with_its_default() -> None:
    """A ladder's steps stand in the spec at the percentage that the code gives them."""
    section = SPEC.split("| step | at |", 1)[1].split("\n\n", 1)[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d+) % \|", section, flags=re.MULTILINE))
    assert {name: 100 * int(percent) for name, percent in rows.items()} == DEFAULT_PERCENT
    assert tuple(rows) == STEP_KINDS
