"""A ledger with a priced model, and the commands of cost protection over it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import typer
from fakes.protection_wired import EPOCH, Run, Wired
from typer.testing import CliRunner, Result

from adapters.bootstrap import Tallybook
from adapters.cli import budgets, credits, entitlements, holds, leases, simulate
from adapters.postgres.database import Database
from adapters.signing import KeyFile
from ledger.domain.prices import PriceKey, PriceList, PriceRow


@pytest.fixture
def wired(database_url: str) -> Iterator[Wired]:
    """Give a fresh ledger with a priced model: input 1 and output 10 USD per thousand tokens."""
    tallybook = Tallybook(Database(database_url))
    rows = tuple(
        PriceRow(
            key=PriceKey("openai", model, meter),
            effective_from=EPOCH,
            rate=Decimal(rate),
            unit_size=Decimal(1000),
            source="one",
        )
        for model, meter, rate in (
            ("gpt", "tokens.input", "1"),
            ("gpt", "tokens.output", "10"),
            ("mini", "tokens.input", "0.1"),
        )
    )
    tallybook.prices.pull([PriceList(source="one", digest="d", rows=rows)], approve=True, by="ann")
    opened = Wired(tallybook)
    opened.tenants.open("acme")
    yield opened
    opened.protection_reads.close()
    tallybook.close()


@pytest.fixture
def run(wired: Wired, tmp_path: Path) -> Run:
    """Run a command; what it raises reaches the test."""
    app = typer.Typer()

    @contextmanager
    def open_services() -> Iterator[Wired]:
        yield wired

    for module in (budgets, credits, entitlements, simulate):
        module.register(app, open_services)  # type: ignore[arg-type] # what the commands use
    group = holds.register(app, open_services)  # type: ignore[arg-type] # as above
    leases.register(group, open_services, KeyFile(tmp_path / "key.pem"))  # type: ignore[arg-type] # as above

    def run(*arguments: str) -> Result:
        return CliRunner(env={"COLUMNS": "250"}).invoke(
            app, list(arguments), catch_exceptions=False
        )

    return run


@pytest.fixture
def ask(run: Run) -> Callable[..., Any]:
    """Run a command with --json and return what it printed."""

    def ask(*arguments: str, code: int = 0) -> Any:
        done = run(*arguments, "--json")
        assert done.exit_code == code, done.output
        return json.loads(done.stdout)

    return ask
