"""The books of two months: paid and free credit, a plan, invoices, a note, and the commands."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from beancount import loader
from fakes.billing_world import TEAM
from typer.testing import CliRunner

from adapters import bootstrap
from ledger.application.journals import Journals, place_of
from ledger.domain.billing_account import BillingDetails
from ledger.domain.errors import InvalidInput
from ledger.domain.invoice_parts import Party, Tax, TaxCategory
from ledger.domain.invoices import InvoiceStatus, from_document
from ledger.domain.journal import Booking, trial_balance
from ledger.domain.prices import PriceKey, PriceKind, PriceRow

PRICE = Decimal("0.0020033")
"""Of a unit of each meter, cost and sell."""


@pytest.fixture
def books(database_url: str) -> Iterator[bootstrap.Tallybook]:
    """Two ledgers, one of them on a plan in January; credit, and usage of two months."""
    with bootstrap.open_ledger(database_url) as made:
        for name in ("acme", "blue"):
            made.tenants.open(name, currency="EUR", timezone="Europe/Berlin")
        for meter in ("tokens.input", "tool.calls"):
            for kind in PriceKind:
                row = PriceRow(
                    key=PriceKey("openai", "chat", meter),
                    effective_from=datetime(2020, 1, 1, tzinfo=UTC),
                    rate=PRICE,
                    unit_size=Decimal(1),
                    currency="EUR",
                )
                book = "" if kind is PriceKind.COST else "default"
                made.prices.set(row, kind=kind, book=book, by="ann")
        made.plans.publish(json.dumps(TEAM), by="ann")
        made.subscriptions.subscribe("acme", "team", from_day=date(2026, 1, 1), by="ann")
        made.subscriptions.end("acme", from_day=date(2026, 2, 1), by="ann")
        tax = Tax(category=TaxCategory.STANDARD, percent=Decimal(20))
        made.invoicing.set_settings(
            BillingDetails(party=Party(name="Gateway Ltd"), tax=tax), by="ann"
        )
        bought = {"id": "bought", "amount": "5"}
        gift = {"id": "gift", "amount": "1", "kind": "promotional", "priority": 1}
        for grant in (bought, gift):
            made.credits.grant(grant, tenant="blue")
        outcomes = made.ledger.record(
            [
                event("acme", "one", "2026-01-05T10:00:00Z", tokens_input=3_001, tool_calls=11),
                event("acme", "two", "2026-01-31T23:00:00Z", tool_calls=503),
                event("blue", "one", "2026-01-07T10:00:00Z", tokens_input=1_234),
                event("blue", "two", "2026-02-07T10:00:00Z", tool_calls=17),
            ]
        )
        assert [one.status for one in outcomes] == ["accepted"] * 4
        yield made


def event(tenant: str, id: str, time: str, **quantities: int) -> bytes:
    """Return one event."""
    named = {name.replace("_", "."): number for name, number in quantities.items()}
    return json.dumps(
        {
            "specversion": "1.0",
            "type": "tallybook.usage.v2",
            "source": "gateway",
            "id": id,
            "subject": tenant,
            "time": time,
            "data": {"provider": "openai", "model": "chat", "quantities": named},
        }
    ).encode()


def balances(books: bootstrap.Tallybook, **asked: Any) -> dict[str, Decimal]:
    """Return balances in EUR, which sum to nothing."""
    rows = trial_balance(books.journals.bookings(**asked))
    assert {row.currency for row in rows} == {"EUR"}
    assert sum(row.balance for row in rows) == 0
    return {row.account: row.balance for row in rows}


def test_the_books_agree_with_invoices_and_credit_and_others_read_them(
    books: bootstrap.Tallybook,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Unbilled is nothing once all is billed, billed is what is due, and credit what is left."""
    before = balances(books)
    burned = PRICE * (1_234 + 17)
    # acme's calls, which its plan does not take; blue's usage is paid by credit.
    assert before["assets:receivable:unbilled"] == PRICE * (11 + 503)
    assert before["liabilities:promotional-credit"] == 0
    assert before["liabilities:deferred-credit"] == burned - 6
    assert before["expenses:provider-cost:openai"] == PRICE * (3_001 + 514 + 1_251)

    books.periods.close(by="ann")
    books.invoicing.finalize_all(by="ann")
    rows = books.invoicing.list()
    invoices = {(row.tenant, row.id): from_document(row.document) for row in rows}
    after = balances(books)
    assert after["assets:receivable:unbilled"] == 0
    assert after["assets:receivable:billed"] == sum(one.due for one in invoices.values())
    assert after["income:plan:fee"] == -30

    books.invoicing.credit("acme", "2026-01-01", total=Decimal(10), reason="outage", by="ann")
    books.invoicing.move("acme", "2026-01-01", status=InvoiceStatus.PAID, by="ann", reason="")
    acme = balances(books, tenant="acme")
    assert acme["assets:receivable:billed"] == invoices["acme", "2026-02-01"].total
    assert acme["assets:cash"] == invoices["acme", "2026-01-01"].total - 10
    january = balances(books, tenant="acme", after_day=date(2026, 2, 1))
    assert set(january) & {"assets:receivable:billed", "assets:cash"} == set()

    monkeypatch.setenv("TALLYBOOK_DATABASE_URL", database_url)
    app = bootstrap.build()

    def run(*arguments: str) -> bytes:
        result = CliRunner().invoke(app, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout_bytes

    shown = json.loads(run("journal", "balance", "-t", "acme", "--json"))["accounts"]
    assert {row["account"]: Decimal(row["balance"]) for row in shown} == acme
    assert loader.load_string(run("journal", "export", "-f", "beancount").decode())[1] == []
    _the_csv_balances(run, tmp_path)
    _the_forms_of_an_invoice_are_written(run, tmp_path, invoices["acme", "2026-01-01"].total)


def _the_csv_balances(run: Any, tmp_path: Path) -> None:
    names = tmp_path / "names.json"
    names.write_text('{"assets:cash": "Bank"}')
    text = run("journal", "export", "-f", "quickbooks", "--accounts", str(names)).decode()
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for row in csv.DictReader(io.StringIO(text, newline="")):
        sums[row["JournalNo"]] += Decimal(row["Debits"] or 0) - Decimal(row["Credits"] or 0)
    assert len(sums) > 5
    assert not any(sums.values())
    assert ",Bank," in text
    target = tmp_path / "books.csv"
    run("journal", "export", "-f", "quickbooks", "--lines", "100", "-o", str(target))
    assert (tmp_path / "books-1.csv").read_text().startswith("JournalNo,")
    with pytest.raises(InvalidInput, match="need a name"):
        run("journal", "export", "-f", "quickbooks", "--lines", "100")
    names.write_text("[]")
    with pytest.raises(InvalidInput, match="no JSON object"):
        run("journal", "export", "-f", "netsuite", "--accounts", str(names))


def _the_forms_of_an_invoice_are_written(run: Any, tmp_path: Path, total: Decimal) -> None:
    pdf = tmp_path / "invoice.pdf"
    run("invoice", "pdf", "2026-01-01", "-t", "acme", "-o", str(pdf))
    assert pdf.read_bytes() == run("invoice", "pdf", "2026-01-01", "-t", "acme", "-o", "-")
    assert pdf.read_bytes().startswith(b"%PDF-")
    text = run("invoice", "csv", "-t", "acme").decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    own = [row for row in rows if row["document"] == "2026-01-01"]
    assert sum(Decimal(row["amount"]) for row in own) == total
    assert {row["form"] for row in rows} == {"invoice", "credit_note"}


def test_days_in_the_wrong_order_are_refused(books: bootstrap.Tallybook) -> None:
    """An empty journal would say that nothing happened."""
    with pytest.raises(InvalidInput) as caught:
        books.journals.bookings(first_day=date(2026, 12, 1), after_day=date(2026, 11, 1))
    assert caught.value.code == "invalid_period"


class _Watched:
    """A store of billing that notes whose history is read."""

    def __init__(self, books: bootstrap.Tallybook) -> None:
        self._store = books.billing_store
        self.read: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def history(self, tenant_id: int) -> Any:
        names = {one.tenant_id: one.tenant for one in self._store.places(after=0, limit=9)}
        self.read.append(names[tenant_id])
        return self._store.history(tenant_id)


def test_a_page_is_made_of_the_tenants_on_it(books: bootstrap.Tallybook) -> None:
    """All pages together are the journal, in its order; those who come before it are not read."""
    # Numbered after the others and named before them: the order is that of names.
    books.tenants.open("aaron", currency="EUR", timezone="Asia/Tokyo")
    books.ledger.record([event("aaron", "one", "2026-01-05T10:00:00Z", tool_calls=7)])
    watched = _Watched(books)
    journals = Journals(
        watched,  # type: ignore[arg-type] # delegates to one
        books.plans,
        books.reads,
        books.protection_reads,
        books.audit,
        lambda: None,
    )
    whole = books.journals.bookings(after_day=date(2026, 2, 7))
    assert [*dict.fromkeys(one.tenant for one in whole)] == ["aaron", "acme", "blue"]
    seen: list[Booking] = []
    while True:
        watched.read.clear()
        after = place_of(seen[-1]) if seen else None
        found = journals.page(limit=1, after=after, after_day=date(2026, 2, 7))
        seen += found[:1]
        if len(found) < 2:
            break
        if after is not None:
            assert watched.read[0] == after.tenant
            assert len(watched.read) <= 3
    assert seen == whole
    with pytest.raises(InvalidInput):
        journals.page(limit=1, first_day=date(2026, 3, 1), after_day=date(2026, 2, 1))
