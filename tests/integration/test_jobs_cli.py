"""``tallybook jobs``, really: each job does its work, once a period."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from adapters.bootstrap import Tallybook, open_ledger
from adapters.cli import jobs
from ledger.application.audited import Actor, audited
from ledger.application.documents.amounts import utc_text
from ledger.application.standard_jobs import CLOSE, CREDIT, HOLDS, PRICES, VERIFY
from ledger.domain.errors import InvalidInput, NotFound

Run = Callable[..., Result]


@pytest.fixture
def tallybook(database_url: str) -> Iterator[Tallybook]:
    """Give a fresh ledger."""
    with open_ledger(database_url) as opened:
        yield opened


@pytest.fixture
def run(tallybook: Tallybook) -> Run:
    """Run a command as ann; what it raises reaches the test."""
    app = typer.Typer()

    @contextmanager
    def open_services() -> Iterator[Any]:
        yield audited(tallybook, tallybook.audit_log, Actor(who="ann", via="cli"))

    jobs.register(app, open_services)

    def run(*arguments: str) -> Result:
        return CliRunner(env={"COLUMNS": "250"}).invoke(
            app, ["jobs", *arguments], catch_exceptions=False
        )

    return run


def document(result: Result) -> Any:
    """Return what was printed as JSON."""
    return json.loads(result.stdout)


def test_each_job_does_its_work_and_says_how_much(
    run: Run, tallybook: Tallybook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Periods, credit, holds, prices and the audit; again in the same period does nothing."""
    listed = document(run("list", "--json"))
    assert [one["job"] for one in listed] == sorted([CLOSE, CREDIT, HOLDS, PRICES, VERIFY])
    tallybook.tenants.open("acme")
    tallybook.tenants.open("beta")
    now = tallybook.jobs._store.now()
    soon = utc_text(now + 1_500_000)
    tallybook.credits.grant({"id": "g", "amount": "5", "expires_at": soon}, tenant="acme")
    event = {
        "specversion": "1.0",
        "type": "tallybook.usage.v2",
        "source": "gw",
        "id": "e-1",
        "subject": "beta",
        "time": "2026-09-20T12:00:00Z",
        "data": {"provider": "openai", "model": "gpt-4o", "quantities": {"tokens.input": "10"}},
    }
    tallybook.ledger.record([json.dumps(event).encode()])
    while tallybook.jobs._store.now() < now + 1_600_000:
        pass
    closed = document(run("run", CLOSE, "--json"))
    assert (closed["state"], closed["attempt"]) == ("done", 1)
    assert closed["result"]["tenants"] == 2
    assert closed["result"]["periods"] >= 1
    assert document(run("run", CLOSE, "--json")) == closed
    assert document(run("run", CREDIT, "--json"))["result"] == {"tenants": 1}
    assert [one.expired for one in tallybook.credits.list(tenant="acme").grants] == [True]
    assert document(run("run", HOLDS, "--json"))["result"] == {"tenants": 0, "holds": 0}
    assert document(run("run", PRICES, "--json"))["result"]["proposed"] > 100
    audited_by = document(run("run", VERIFY, "--json"))
    assert audited_by["result"]["differences"] == 0
    [line] = tallybook.audit_log.list(act="ledger.verified")
    assert (line.who, line.via, line.outcome) == ("tallybook jobs", "jobs", "ok")
    assert tallybook.audit_log.list(act="job.run")[0].target == VERIFY
    people = run("status").stdout
    assert people.count("done") == 5
    assert document(run("status", VERIFY, "--json")) == [audited_by]


def test_a_job_that_fails_says_why_and_exits_1(run: Run, tallybook: Tallybook) -> None:
    """The reason stays with its run, and the metrics' times know of it."""
    tallybook.prices.pull = None  # type: ignore[method-assign,assignment] # what a defect may be
    result = run("run", PRICES)
    assert result.exit_code == 1
    assert "failed: TypeError" in result.stdout
    [standing] = [one for one in document(run("status", "--json")) if one["job"] == PRICES]
    assert standing["last"]["state"] == "failed"
    assert standing["succeeded_at"] is None
    assert standing["failed_at"] == standing["last"]["ended_at"]


def test_nothing_is_closed_by_itself_while_the_last_audit_found_differences(
    run: Run, tallybook: Tallybook
) -> None:
    """An audit that finds none opens the way again."""
    found = {"differences": 2, "commits": 1, "head": 1, "deep": False}
    for differences, state in ((2, "failed"), (0, "done")):
        tallybook.audit_log.write(
            act="ledger.verified",
            who="ann",
            via="cli",
            detail=found | {"differences": differences},
        )
        made = document(run("run", CLOSE, "--json"))
        assert made["state"] == state
        assert made["reason"].startswith("ledger_not_clean: the last audit")


def test_what_is_no_job_and_no_period_is_refused(run: Run) -> None:
    """With the names that there are."""
    with pytest.raises(NotFound, match="there are credit-expiry"):
        run("run", "nothing")
    with pytest.raises(InvalidInput, match="is no period of this job"):
        run("run", VERIFY, "--period", "yesterday")
    with pytest.raises(InvalidInput, match="not due yet"):
        run("run", VERIFY, "--period", "2099-01-01")
    assert run("status", VERIFY).exit_code == 0
