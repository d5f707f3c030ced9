"""``tallybook prices`` on a real database."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal

import pytest
import typer
from typer.testing import CliRunner, Result

from adapters.bootstrap import Tallybook
from adapters.cli import prices
from adapters.postgres.database import Database
from ledger.domain.errors import InvalidInput
from ledger.domain.prices import PriceKey, PriceList, PriceRow

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Run = Callable[..., Result]


@pytest.fixture
def tallybook(database_url: str) -> Iterator[Tallybook]:
    """Give the use cases over a fresh database."""
    opened = Tallybook(Database(database_url))
    yield opened
    opened.close()


@pytest.fixture
def run(tallybook: Tallybook) -> Run:
    """Run a command; what it raises reaches the test."""
    app = typer.Typer()

    @contextmanager
    def open_services() -> Iterator[Tallybook]:
        yield tallybook

    prices.register(app, open_services)

    @app.callback()
    def main() -> None:
        """Keep `prices` a sub-command."""

    def run(*arguments: str) -> Result:
        return CliRunner(env={"COLUMNS": "200"}).invoke(
            app, ["prices", *arguments], catch_exceptions=False
        )

    return run


def propose(tallybook: Tallybook, rate: str, source: str, *, approve: bool) -> None:
    """Let a source list one row."""
    row = PriceRow(
        key=PriceKey("openai", "m1", "tokens.input"),
        effective_from=EPOCH,
        rate=Decimal(rate),
        source=source,
    )
    tallybook.prices.pull(
        [PriceList(source=source, digest="d", rows=(row,))], approve=approve, by="ann"
    )


def test_pull_says_what_happened(run: Run) -> None:
    """One line tells what was proposed and approved; the second time there is nothing new."""
    first = run("pull", "--approve", "--provider", "anthropic", "--by", "ann")
    second = run("pull", "--approve", "--provider", "anthropic")
    shown = run("list", "--provider", "anthropic", "--limit", "3", "--kind", "cost", "--json")

    assert "rows proposed" in first.stdout
    assert "sell rows published by mark-up" in first.stdout
    assert second.stdout == "nothing new\n"
    page = json.loads(shown.stdout)
    assert len(page["rows"]) == 3 < page["total"]
    assert page["rows"][0]["approver"] == "ann"


def test_pulling_an_unknown_provider_is_refused(run: Run) -> None:
    """A misspelt provider is no empty success."""
    with pytest.raises(InvalidInput) as caught:
        run("pull", "--provider", "opanai")
    assert caught.value.code == "unknown_provider"


def test_set_list_at_and_retire_a_price(run: Run) -> None:
    """A price set by hand is listed, found with the reason, and retired."""
    rule = ("--increment", "1", "--minimum", "15", "--mode", "half_up")
    done = run(
        "set", "openai", "whisper-1", "audio.stt.seconds", "0.006", "--per", "60", *rule, "--json"
    )
    version = json.loads(done.stdout)["rows"][0]["version"]
    listed = run("list", "--model", "whisper")
    found = json.loads(run("at", "openai", "whisper-1", "--json").stdout)
    retired = run("retire", version)
    nothing = run("at", "openai", "whisper-1", "audio.stt.seconds")

    assert version == "cost/openai@2.0"
    assert "steps of 1, minimum 15, half_up" in " ".join(listed.stdout.split())
    assert [one["record"]["version"] for one in found] == [version, "default/openai@2.0"]
    assert found[0]["record"]["row"]["quantity_rule"] == {
        "increment": "1",
        "minimum": "15",
        "mode": "half_up",
        "scope": "request",
    }
    assert version in retired.stdout
    assert "none: unpriced" in nothing.stdout


def test_diff_shows_both_sides_and_approve_settles_it(run: Run, tallybook: Tallybook) -> None:
    """A held row is shown with the row that contradicts it, and can be approved by version."""
    propose(tallybook, "2", "one", approve=True)
    propose(tallybook, "3", "two", approve=True)

    shown = run("diff")
    [held] = json.loads(run("diff", "--json").stdout)["held"]
    approved = run("approve", held["held"]["version"], "--by", "bob")

    assert "2 USD per unit" in shown.stdout
    assert "3 USD per unit" in shown.stdout
    assert [rival["source"] for rival in held["rivals"]] == ["one"]
    assert held["held"]["version"] in approved.stdout
    assert "nothing is held" in run("diff").stdout


def test_approve_wants_versions_or_all(run: Run) -> None:
    """Neither and both are mistakes."""
    for arguments in ((), ("cost/openai@2.0", "--all")):
        with pytest.raises(InvalidInput):
            run("approve", *arguments)


def test_markup_says_what_it_publishes(run: Run, tallybook: Tallybook) -> None:
    """The book's mark-up is said in so many words."""
    propose(tallybook, "2", "one", approve=True)

    said = run("markup", "12.5", "--effective-from", "2026-01-01")

    assert (
        said.stdout == "default: sell = cost + 12.5 % from 2026-01-01 on; 1 sell rows published\n"
    )


def test_a_long_list_says_that_it_was_cut(run: Run) -> None:
    """Fifty rows are shown, and how to see more."""
    run("pull", "--provider", "groq", "--provider", "anthropic")
    shown = run("list")

    assert "50 of " in shown.stderr
    assert "--limit" in shown.stderr


def test_rerate_commands_count(run: Run) -> None:
    """Without usage there is nothing to rate, and that is said."""
    assert run("rerate-unpriced").stdout == "0 events rated, 0 still unpriced\n"
    assert json.loads(run("rerate-unpriced", "--json").stdout)["rated"] == 0


@pytest.mark.parametrize("value", ["2026", "yesterday", "2026-01-01T10:00:00", "2026-13-01"])
def test_a_date_without_meaning_is_refused(run: Run, value: str) -> None:
    """A time needs an offset; a date is 00:00 UTC."""
    with pytest.raises(InvalidInput) as caught:
        run("at", "openai", "m1", "--at", value)
    assert caught.value.code == "invalid_time"
