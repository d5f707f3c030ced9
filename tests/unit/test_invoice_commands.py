"""What ``tallybook invoice`` refuses before it opens anything."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest
import typer
from typer.testing import CliRunner

from adapters.cli import invoices
from ledger.application.services import Services
from ledger.domain.errors import InvalidInput


def never() -> AbstractContextManager[Services]:
    """Open nothing: what is tested comes before."""
    raise RuntimeError("the command opened the database")


@pytest.mark.parametrize("second", ["1=6", "01=5"])
def test_a_line_named_twice_gives_nothing_back(second: str) -> None:
    """Neither amount can be meant alone, so none is taken."""
    app = typer.Typer()
    invoices.register(app, never)
    asked = ["invoice", "credit", "2026-11-01", "--tenant", "acme", "--line", "1=5"]
    done = CliRunner().invoke(app, [*asked, "--line", second, "--reason", "outage"])
    assert isinstance(done.exception, InvalidInput)
    assert (done.exception.code, done.exception.pointer) == ("invalid_credit", "/lines/1")
