"""The examples of docs/spec/prices.md are true."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from adapters.bootstrap import Tallybook
from adapters.cli import prices
from adapters.postgres.database import Database
from ledger.domain.money import RoundingMode, from_scaled, to_scaled
from ledger.domain.shapes import LeafRate

SPEC = Path(__file__).resolve().parents[2] / "docs" / "spec" / "prices.md"


def billed_examples() -> list[list[str]]:
    """Return the rows of the table of quantity rules."""
    lines = SPEC.read_text(encoding="utf-8").splitlines()
    first = lines.index("| rule | increment | minimum | mode | used | billed |") + 2
    rows = []
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def commands() -> list[str]:
    """Return the commands of the spec."""
    _, _, rest = SPEC.read_text(encoding="utf-8").partition("```console\n")
    return rest.partition("```")[0].splitlines()


@pytest.mark.parametrize("example", billed_examples(), ids=lambda row: f"{row[0]} {row[4]}")
def test_the_specified_quantities_are_billed(example: list[str]) -> None:
    """The table says what a rule bills."""
    _, increment, minimum, mode, used, billed = example
    rate = LeafRate(
        "v",
        1,
        to_scaled(Decimal(increment), 6),
        to_scaled(Decimal(minimum), 6),
        RoundingMode(mode),
    )

    assert from_scaled(rate.billed(to_scaled(Decimal(used), 6)), 6) == Decimal(billed)


def test_the_specified_commands_run(database_url: str) -> None:
    """In their order, on a fresh database, each succeeds."""
    tallybook = Tallybook(Database(database_url))

    @contextmanager
    def open_services() -> Iterator[Tallybook]:
        yield tallybook

    app = typer.Typer()
    prices.register(app, open_services)
    app.callback()(lambda: None)
    try:
        for command in commands():
            done = CliRunner().invoke(app, shlex.split(command)[1:], catch_exceptions=False)
            assert done.exit_code == 0, (command, done.output)
    finally:
        tallybook.close()
    assert len(commands()) == 12
