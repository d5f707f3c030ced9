"""The examples of docs/spec/charges.md are true, and its list of refusals is the code's."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from ledger.domain.billing_periods import BillingCycle, CycleUnit
from ledger.domain.charge_models import ChargeModel
from ledger.domain.tiers import Tier, TierTable

ROOT = Path(__file__).parents[2]
SPEC = (ROOT / "docs" / "spec" / "charges.md").read_text("utf-8")
MODULES = ("tiers", "charge_models", "charge_lines", "transactions", "capacity", "proration")
EXAMPLES = re.findall(
    r"```json\n(.*?)```\n\n\| Q \| F\(Q\) \| total \|\n\|---\|---\|---\|\n((?:\|[^\n]*\n)+)",
    SPEC,
    flags=re.DOTALL,
)


def _table(title: str) -> dict[str, str]:
    """Return the first two columns of the table with this head: name and default."""
    rows = SPEC.split(f"\n{title}\n", 1)[1].split("\n\n", 1)[0]
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", rows, flags=re.MULTILINE))


def test_the_spec_has_an_example_for_each_json_block() -> None:
    """None is left out because its table is written another way."""
    assert len(EXAMPLES) == SPEC.count("```json") == 8


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: str(example[0])[:60].strip())
def test_the_specified_charges_are_charged(example: tuple[str, str]) -> None:
    """Each row of the table under a model says F(Q) and what the closed period owes."""
    model = msgspec.json.decode(example[0].encode(), type=ChargeModel)
    rows = [
        [Decimal(cell) for cell in line.strip("|").split("|")]
        for line in example[1].strip().split("\n")
    ]
    for quantity, charge, total in rows:
        assert (model.charge(quantity), model.total(quantity)) == (charge, total)


def test_the_spec_lists_every_member_with_its_default() -> None:
    """Tiers and tables as the code defines them."""
    tier = _table("| member | default | meaning |")
    assert set(tier) == set(Tier.__struct_fields__)
    empty = Tier()
    for name, default in tier.items():
        value = getattr(empty, name)
        assert default.strip() == ("none" if value is None else str(value))
    table = _table("| member of the table | default | meaning |")
    assert set(table) | {"tiers"} == set(TierTable.__struct_fields__)
    plain = TierTable(tiers=(empty,))
    for name, default in table.items():
        assert default.strip().strip("`") == str(getattr(plain, name)).lower()


def test_the_spec_lists_every_code() -> None:
    """What the charge modules refuse stands in the table of refusals, and nothing else."""
    raised: set[str] = set()
    for module in (*MODULES, "taxes", "billing_periods"):
        source = (ROOT / "ledger" / "domain" / f"{module}.py").read_text("utf-8")
        raised |= set(
            re.findall(r'"((?:invalid|overlapping|tier|rate|conversion|amount)_\w+)"', source)
        )
    raised -= {"rate_pct"}
    section = SPEC.split("## Refused", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| ((?:`\w+` ?)+)\|", section, flags=re.MULTILINE)
    assert {code for row in rows for code in re.findall(r"`(\w+)`", row)} == raised


def test_the_specified_boundaries_are_boundaries() -> None:
    """Each row says the three that follow the anchor."""
    rows = re.findall(r"^\| (\d{4}-[\d-]+) \| (\w+) \| (\d[^|]+) \|", SPEC, flags=re.MULTILINE)
    assert len(rows) == 4
    for anchor, unit, boundaries in rows:
        cycle = BillingCycle(
            anchor=date.fromisoformat(anchor), timezone="UTC", unit=CycleUnit(unit)
        )
        days = [cycle.boundary(number).isoformat() for number in (1, 2, 3)]
        assert days == boundaries.strip().split(", ")
