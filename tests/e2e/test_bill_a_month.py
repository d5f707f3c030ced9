"""A month from the first event to a credit note, through the command line alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.billing_world import TEAM
from typer.testing import CliRunner

from adapters import bootstrap
from ledger.domain.errors import Refused
from ledger.domain.invoices import from_document

Run = Callable[..., str]


@pytest.fixture
def run(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Give the command line over a fresh database; it returns what is printed."""
    monkeypatch.setenv("TALLYBOOK_DATABASE_URL", database_url)
    monkeypatch.setenv("COLUMNS", "100")
    app = bootstrap.build()

    def call(*arguments: str, exits: int = 0, input: str | None = None) -> str:
        result = CliRunner().invoke(app, arguments, input=input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == exits, result.output
        return result.stdout

    return call


def event(id: str, time: str, **quantities: int) -> str:
    """Return one event as a line."""
    named = {name.replace("_", "."): number for name, number in quantities.items()}
    return json.dumps(
        {
            "specversion": "1.0",
            "type": "tallybook.usage.v2",
            "source": "gateway",
            "id": id,
            "subject": "acme",
            "time": time,
            "data": {"provider": "openai", "model": "chat", "quantities": named},
        }
    )


def test_a_month_is_billed_explained_and_credited(run: Run, tmp_path: Path) -> None:
    """Plan, usage, preview, close, invoice, evidence, late usage, credit note."""

    def answer(*arguments: str, **more: Any) -> Any:
        return json.loads(run(*arguments, "--json", **more))

    def record(*lines: str) -> None:
        file = tmp_path / "events.ndjson"
        file.write_text("\n".join(lines))
        run("import", str(file))

    run("tenants", "open", "acme", "--currency", "EUR", "--timezone", "Europe/Berlin")
    price = ("openai", "chat", "tool.calls", "2", "--currency", "EUR", "--per", "1000")
    run("prices", "set", *price, "--kind", "sell")
    run("prices", "set", *price)
    run("plan", "publish", "-", input=json.dumps(TEAM))
    run("subscription", "set", "team", "-t", "acme", "--from", "2026-01-01")
    run("subscription", "end", "-t", "acme", "--from", "2026-02-01")
    seller = {"party": {"name": "Gateway Ltd"}, "tax": {"category": "S", "percent": "20"}}
    run("invoice", "settings", "-", input=json.dumps(seller))
    buyer = json.dumps({"party": {"name": "Acme"}, "payment_days": 30})
    run("subscription", "details", "-", "-t", "acme", input=buyer)
    record(
        # What a plan takes needs no list price.
        event("one", "2026-01-05T10:00:00Z", tokens_input=3_000),
        event("calls", "2026-01-05T10:00:00Z", tool_calls=10),
        event("two", "2026-01-31T22:59:59Z", tokens_input=2_000),
        event("next", "2026-01-31T23:00:00Z", tool_calls=500),
    )
    # 30 for the plan, (5,000 - 1,000 included) x 0.01, 10 calls at list prices; 20 % tax.
    preview = answer("invoice", "preview", "-t", "acme", "--day", "2026-01-31")["invoice"]
    assert (preview["net"], preview["total"]) == ("70.02", "84.02")
    [period] = answer("period", "status", "-t", "acme")["periods"]
    assert (period["after_day"], period["state"], period["invoice"]) == ("2026-02-01", "due", None)
    closed = answer("period", "close", "--finalize")
    assert [one["id"] for one in closed["drafts"]] == ["2026-01-01", "2026-02-01"]
    assert closed["finalized"] == 2
    shown = answer("invoice", "show", "2026-01-01", "-t", "acme")
    invoice = shown["invoice"]
    assert (shown["status"], invoice["number"], invoice["total"]) == (
        "finalized",
        "INV-000001",
        "84.02",
    )
    people = run("invoice", "show", "2026-01-01", "-t", "acme")
    assert all(word in people for word in ("INV-000001", "tokens", "84.02", "tax S 20 %"))
    charge = answer("invoice", "evidence", "2026-01-01", "-t", "acme", "--line", "2")
    assert [one["id"] for one in charge["entries"]] == ["one", "two"]
    assert charge["chain_holds"]

    file = tmp_path / "invoice.json"
    run("invoice", "export", "2026-01-01", "-t", "acme", "--output", str(file))
    assert from_document(file.read_bytes()).digest == invoice["digest"]

    record(event("late", "2026-01-20T10:00:00Z", tokens_input=100))
    late = answer("invoice", "preview", "-t", "acme")["invoice"]
    assert [(line["late"], line["quantity"], line["unrounded"]) for line in late["lines"]] == [
        (True, "100", "1")
    ]
    credit = ("invoice", "credit", "2026-01-01", "-t", "acme", "--reason", "outage")
    note = answer(*credit, "--total", "10", "--id", "cr-1")["invoice"]
    assert answer(*credit, "--total", "10", "--id", "cr-1")["invoice"] == note
    assert "its id is cr-1" in run(*credit, "--total", "10", "--id", "cr-1")
    assert (note["number"], note["total"], note["cites"]["number"]) == (
        "INV-CN-000001",
        "10",
        "INV-000001",
    )
    with pytest.raises(Refused) as caught:
        run(*credit, "--total", "1000")
    assert caught.value.code == "credit_exceeds_invoice"
    assert "INV-CN" in run("invoice", "numbers")
    assert answer("invoice", "pay", "2026-01-01", "-t", "acme")["status"] == "paid"
    acts = {line["act"] for line in answer("audit", "list", "--limit", "100")}
    [told] = answer("invoice", "void", "2026-02-01", "-t", "acme")["warnings"]
    assert (told["code"], told["number"]) == ("unbilled_voided_invoice", "INV-000002")
    verified = answer("verify")
    assert (verified["clean"], verified["warnings"]) == (True, [told])
    assert "clean" in run("verify")
    assert {"plan.published", "period.closed", "invoice.credited", "invoice.moved"} <= acts
