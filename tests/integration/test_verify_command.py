"""``tallybook verify``: its summary, its differences, its exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from projections_world import World, traffic, world
from typer.testing import CliRunner, Result

from adapters.cli import verify
from adapters.memory import MemoryAuditLog
from adapters.postgres.audit import open_audit
from ledger.application.audit_log import AuditLine, AuditLog
from ledger.application.ports import AuditView
from ledger.application.verify import ACT
from ledger.domain.errors import Unavailable

NO_READS = SimpleNamespace(tenants=list, shapes=lambda _: ())
DAMAGE = (
    "UPDATE balances SET events = events + 1 WHERE (tenant_id, period) ="
    " (SELECT tenant_id, min(period) FROM balances JOIN tenants USING (tenant_id)"
    " WHERE tenant = 'acme' GROUP BY tenant_id)"
)


class Away(MemoryAuditLog):
    """An audit log that cannot be written now."""

    def append(self, line: AuditLine) -> None:
        """Fail."""
        raise Unavailable("away", code="connection_lost")


def run(one: World, *arguments: str, log: MemoryAuditLog | None = None) -> Result:
    """Run the command over a world."""
    app = typer.Typer()

    @app.callback()
    def main() -> None:
        """Keep `verify` a command of its own."""

    def audit() -> AbstractContextManager[AuditView]:
        return open_audit(one.database)

    @contextmanager
    def open_services() -> Iterator[Any]:
        # These worlds rate with prices that are in no book: test_verify_prices.py has real ones.
        kept = AuditLog(log or MemoryAuditLog(lambda: 0))
        yield SimpleNamespace(
            audit=audit,
            reads=NO_READS,
            prices=None,
            plans=None,
            audit_log=kept,
            billing_differences=lambda tenant: [],
            periods=SimpleNamespace(warnings=lambda tenant: []),
        )

    verify.register(app, open_services)
    return CliRunner().invoke(app, ["verify", *arguments])


@pytest.fixture
def ledger(database_url: str) -> Iterator[World]:
    """Give a ledger with some traffic, its rollups behind."""
    with world(database_url) as one:
        one.use(*traffic(count=30, seed=1))
        one.runner().catch_up()
        one.use(*traffic(count=5, seed=2, first=50))
        yield one


def damage(one: World) -> None:
    """Change one row for good."""
    with one.database.connect(purpose="damage") as connection:
        assert connection.execute(DAMAGE).rowcount == 1


def test_a_clean_database_ends_with_0(ledger: World) -> None:
    """The summary says what was read, and that nothing differed."""
    result = run(ledger, "--deep")
    assert result.exit_code == 0, result.output
    assert "3 tenants" in result.stdout
    assert "clean" in result.stdout
    assert "compared up to there" in " ".join(result.stderr.split())
    assert "nothing of billing_daily compared" in result.stdout


def test_damage_ends_with_5_and_says_where(ledger: World) -> None:
    """A person learns the tenant, the row, and both values."""
    damage(ledger)
    result = run(ledger)
    assert result.exit_code == 5
    assert "acme  [balance] balances 2026-" in result.stdout
    assert "1 differences" in result.stdout
    assert "integrity-alert.md" in result.stderr


def test_json_has_the_same_for_programs(ledger: World) -> None:
    """Stable keys; the exit code is the same."""
    clean = run(ledger, "--json", "--tenant", "acme")
    document = json.loads(clean.stdout)
    assert clean.exit_code == 0
    assert (document["clean"], document["tenants"], document["differences"]) == (True, 1, [])
    assert document["not_compared"] == ["billing_daily"]
    assert document["commits"] > 0
    assert document["entries"] > 0
    assert document["seconds"] > 0
    damage(ledger)
    broken = run(ledger, "--json")
    document = json.loads(broken.stdout)
    assert broken.exit_code == 5
    assert document["clean"] is False
    assert document["difference_count"] == 1
    [difference] = document["differences"]
    assert difference["tenant"] == "acme"
    assert difference["code"] == "balance"
    assert difference["what"].endswith(" events")
    assert int(difference["found"]) == int(difference["expected"]) + 1


def test_what_was_found_is_in_the_audit_log_if_that_can_be_written(ledger: World) -> None:
    """One ledger's audit is that tenant's line; the result counts for more than its line."""
    log = MemoryAuditLog(lambda: 5)
    assert run(ledger, "--tenant", "acme", log=log).exit_code == 0
    damage(ledger)
    assert run(ledger, "--deep", log=log).exit_code == 5
    whole, one = AuditLog(log).list(act=ACT)
    assert (one.tenant, one.outcome, one.detail["differences"]) == ("acme", "ok", 0)
    assert (whole.tenant, whole.outcome, whole.detail["differences"]) == ("", "integrity", 1)
    assert whole.detail["deep"] is True
    result = run(ledger, log=Away(lambda: 5))
    assert result.exit_code == 5
    assert "the result is not in the audit log: away" in result.stderr
