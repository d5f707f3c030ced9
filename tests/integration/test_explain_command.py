"""``tallybook explain`` on PostgreSQL: what people and programs read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from projections_world import World, catalog, correction, traffic, usage, world
from typer.testing import CliRunner, Result

from adapters.cli import explain
from ledger.application.explain import explain as explain_event
from ledger.domain.errors import NotFound


class NoPrices:
    """A price look-up of a ledger whose prices the test sets."""

    def find(self, version: str) -> None:
        """Know no row."""
        raise NotFound(f"no row {version}", code="unknown_price")


def run(one: World, *arguments: str) -> Result:
    """Run the command over a world."""
    app = typer.Typer()

    @app.callback()
    def main() -> None:
        """Keep `explain` a command of its own."""

    @contextmanager
    def open_services() -> Iterator[Any]:
        yield SimpleNamespace(reads=one.reads, prices=NoPrices(), plans=None)

    explain.register(app, open_services)
    return CliRunner().invoke(app, ["explain", *arguments])


def words(result: Result) -> str:
    """Return what was printed, without layout."""
    return " ".join(result.output.replace("│", " ").split())


@pytest.fixture
def ledger(database_url: str) -> Iterator[World]:
    """Give a ledger with one much-corrected event and some others."""
    with world(database_url) as one:
        one.use(
            usage(
                "acme",
                "req-1",
                model="request",
                request_id="chatcmpl-[1]",
                user="ann",
                labels={"team": "blue"},
                quantities={"audio.stt.seconds": "17.5", "tokens.input": 1000},
            )
        )
        one.use(correction("acme", "fix", "req-1", {"tokens.input": 500}))
        one.use(usage("acme", "req-1", user="bob"))
        one.use(usage("acme", "odd", model="mystery"))
        one.use(usage("acme", "free", byok=True))
        yield one


def test_the_figures_fit_a_screen_and_add_up(ledger: World) -> None:
    """Every number of the formula is there, no line of ours is wider than 100 columns."""
    result = run(ledger, "req-1")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert max(map(len, lines)) <= 100
    said = words(result)
    assert "audio.stt.seconds 17.5 30 0.00000105 0.0000315" in said
    assert "up to steps of 15, at least 30, per request" in said
    assert "tokens.input 1,000 1,005 0.00000035 0.00035175" in said
    assert "total 0.00038325" in said
    assert "cost (EUR)" in said
    assert "request_id chatcmpl-[1]" in said
    assert "label team=blue" in said
    assert "fix of desk" in said
    assert "refused payload:" in said
    assert "stands: adjusted; counts in the balance with charge 0.0001785 USD" in said
    assert "recomputed: equal" in said


def test_json_holds_everything_and_no_number_that_rounds(ledger: World) -> None:
    """Amounts are decimal text; the document names proof, rating and timeline."""
    result = run(ledger, "acme:2.1", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.output)
    assert document["rating"]["charge"] == "0.00038325"
    assert document["rating"]["leaves"][0]["rate"] == "0.00000105"
    assert document["charge"] == "0.0001785"
    assert document["costs"] == {"EUR": "0.0001785"}
    assert [step["kind"] for step in document["timeline"]] == ["recorded", "adjust", "conflict"]
    assert document["timeline"][2]["payload"]["user"] == "bob"
    assert len(document["proof"]["digest"]) == len(document["proof"]["before"]) == 64
    assert document["proof"]["receipt"] == "acme:2.1"


def test_unpriced_usage_and_the_tenants_own_key_are_told_apart(ledger: World) -> None:
    """What has no price is missing one; what costs us nothing says why."""
    odd = words(run(ledger, "odd", "--tenant", "acme"))
    assert "unpriced: no approved price for tokens.input (sell) tokens.input (cost)" in odd
    assert "stands: recorded, unpriced" in odd
    assert "cost: none, not ours, the key is the tenant's" in run(ledger, "free").output


def test_an_unknown_event_ends_with_its_code(ledger: World) -> None:
    """The command line's frame turns the error into exit 2."""
    result = run(ledger, "nobody")
    assert isinstance(result.exception, NotFound)
    assert result.exception.code == "unknown_event"


def test_rated_anew_it_shows_both_prices(ledger: World) -> None:
    """The re-rating's own figures are printed too."""
    ledger.price(catalog("chat", "request", "session", factor=2))
    ledger.rerate("acme", "req-1")
    said = words(run(ledger, "req-1"))
    assert "as rerated:" in said
    assert "tokens.input 500 510 0.0000007 0.000357" in said
    assert "counts in the balance with charge 0.000357 USD" in said


def test_explanations_of_all_events_add_up_to_the_balances(database_url: str) -> None:
    """On PostgreSQL, with traffic of all kinds: no cent is unexplained."""
    with world(database_url) as one:
        events = list(traffic(count=60, seed=3))
        for start in range(0, len(events), 9):
            one.use(*events[start : start + 9])
        sums: dict[str, Any] = {}
        for event in events:
            if event["type"] != "tallybook.usage.v2":
                continue
            found = explain_event(
                reads=one.reads, event=event["id"], tenant=event["subject"], source="gateway"
            )
            assert found.recomputed != "different"
            if found.charge is not None:
                sums[found.tenant] = sums.get(found.tenant, 0) + found.charge
        assert sums
        for tenant, charge in sums.items():
            balances = one.reads.balances(tenant)
            assert charge == sum(balance.decimal_charge() for balance in balances)
