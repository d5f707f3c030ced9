"""``tallybook subscription`` says what was set, and which taxes count for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import typer
from fakes.billing_world import Clock, memory_world
from typer.testing import CliRunner

from adapters.cli import plans


def test_details_are_shown_and_a_tax_of_nothing_is_told() -> None:
    """The answer to setting them is what was set, and a name that no plan has."""
    with memory_world(Clock()) as world:
        world.open("acme")

        @contextmanager
        def open_services() -> Iterator[Any]:
            yield SimpleNamespace(subscriptions=world.subscriptions, plans=world.plans)

        app = typer.Typer()
        plans.register(app, open_services)
        said = (
            '{"party": {"name": "Acme [GmbH]", "country": "DE"}, "series": "DE",'
            ' "tax": {"category": "S", "percent": "19"}, "payment_days": 30,'
            ' "line_taxes": {"bsae": {"category": "E"}}}'
        )
        run = ["subscription", "details", "-", "--tenant", "acme"]
        answer = CliRunner().invoke(app, run, input=said)
        shown = CliRunner().invoke(app, ["subscription", "show", "--tenant", "acme"])
    assert (answer.exit_code, shown.exit_code) == (0, 0), answer.output + shown.output
    for result in (answer, shown):
        for words in ("Acme [GmbH], DE", "tax: S 19 %", "series DE", "within 30 days"):
            assert words in result.stdout
        assert "no plan of acme has a charge or fee 'bsae'" in " ".join(result.stderr.split())
