"""Import a public trace of real requests: totals to the last digit, again, and with a change.

The trace is Azure Public Dataset's LLM inference trace of a coding service (Splitwise, 2024);
it is read from where it lies beside the repository, or from ``TALLYBOOK_SHARED``.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest

from adapters.cli import import_
from adapters.cli.app import build, run
from adapters.postgres.database import Database
from adapters.providers import detect, normalize
from ledger.application.engine import Ledger
from ledger.application.sequencer import Sequencer
from ledger.application.services import Services
from ledger.domain.catalog import Catalog, PricedRow
from ledger.domain.prices import PriceKey, PriceKind, PriceRow

SHARED = Path(os.environ.get("TALLYBOOK_SHARED") or Path(__file__).resolve().parents[3] / "shared")
TRACE = SHARED / "data" / "azure_llm_trace_code.csv"
RATES = {"tokens.input": Decimal("2.50"), "tokens.output": Decimal("10.01")}
"""Per million tokens."""
OPTIONS = [
    *("--map", "occurred_at=TIMESTAMP"),
    *("--map", "tokens.input=ContextTokens"),
    *("--map", "tokens.output=GeneratedTokens"),
    *("--set", "model=gpt-4o"),
    *("--set", "provider=openai"),
    *("--tenant", "acme"),
]
Import = Callable[[Path], tuple[int, dict[str, Any]]]

pytestmark = pytest.mark.skipif(not TRACE.exists(), reason=f"there is no {TRACE.name} in {SHARED}")


class Prices:
    """A catalog of two sell and two cost rows."""

    def load(self) -> Catalog:
        """Return it."""
        return Catalog(
            PricedRow(
                kind,
                "default" if kind is PriceKind.SELL else "",
                PriceRow(
                    key=PriceKey("openai", "gpt-4o", meter),
                    effective_from=datetime(2020, 1, 1, tzinfo=UTC),
                    rate=rate,
                    unit_size=Decimal(1_000_000),
                ),
                f"{kind}@1.{meter}",
            )
            for kind in PriceKind
            for meter, rate in RATES.items()
        )


@contextmanager
def services(url: str) -> Iterator[Services]:
    """Wire the one use case that an import needs."""
    with Database(url) as database:
        ledger = Ledger(Sequencer(database.store, Prices()))
        try:
            yield cast("Services", SimpleNamespace(ledger=ledger))
        finally:
            ledger.close()


@pytest.fixture
def importing(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Import:
    """Give what imports a file and returns exit code and document."""

    def import_file(file: Path) -> tuple[int, dict[str, Any]]:
        app = build()
        import_.register(app, lambda: services(database_url), normalize, detect)
        arguments = ["tallybook", "import", str(file), *OPTIONS, "--json"]
        monkeypatch.setattr(sys, "argv", arguments)
        code = run(app)
        return code, json.loads(capsys.readouterr().out.splitlines()[-1])

    return import_file


def balance(url: str) -> list[tuple[Any, ...]]:
    """Return all balances there are."""
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT t.tenant, b.period, b.charge, b.costs, b.quantities, b.events, b.unpriced "
            "FROM tallybook.balances b JOIN tallybook.tenants t USING (tenant_id)"
        ).fetchall()


def test_a_real_trace_is_imported_once_and_to_the_last_digit(
    database_url: str, importing: Import, tmp_path: Path
) -> None:
    """Sums agree with an independent reading; again changes nothing; a change is a conflict."""
    with TRACE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    context = sum(int(row["ContextTokens"]) for row in rows)
    generated = sum(int(row["GeneratedTokens"]) for row in rows)
    per_million = context * RATES["tokens.input"] + generated * RATES["tokens.output"]
    charge = per_million / 1_000_000
    # The last line has no line end: counting those would miss one request.
    count = len(rows)
    assert count == TRACE.read_bytes().count(b"\n") > 8000

    code, first = importing(TRACE)
    assert code == 0
    assert (first["accepted"], first["rejected"], first["unpriced"]) == (count, 0, 0)
    before = balance(database_url)
    ((tenant, period, charged, costs, quantities, events, unpriced),) = before
    assert (tenant, period, events, unpriced) == ("acme", "2023-11", count, 0)
    found = {name: Decimal(quantity) for name, quantity in quantities.items()}
    assert found == {"tokens.input": context, "tokens.output": generated}
    assert charged == charge
    assert {name: Decimal(cost) for name, cost in costs.items()} == {"USD": charge}

    _, again = importing(TRACE)
    assert (again["accepted"], again["duplicate"], again["conflict"]) == (0, count, 0)
    assert balance(database_url) == before

    lines = TRACE.read_bytes().split(b"\n")
    lines[4000] = lines[4000].replace(b",", b",9", 1)
    changed = tmp_path / TRACE.name
    changed.write_bytes(b"\n".join(lines))
    _, third = importing(changed)
    assert (third["accepted"], third["duplicate"], third["conflict"]) == (0, count - 1, 1)
    assert [(one["line"], one["status"]) for one in third["problems"]] == [(4001, "conflict")]
    assert balance(database_url) == before
