"""Invoices as CSV: what sums to what, and texts that stay texts."""

from __future__ import annotations

import csv
from decimal import Decimal

import pytest
from fakes import invoice_samples as samples

from ledger.application.documents.invoice_csv import COLUMNS, invoice_csv, safe_text
from ledger.domain.invoices import Invoice


def rows_of(*invoices: Invoice) -> list[dict[str, str]]:
    """Return the rows that another program reads."""
    return list(csv.DictReader("".join(invoice_csv(invoices)).splitlines(keepends=True)))


def test_the_rows_of_a_document_sum_to_what_is_due() -> None:
    """Lines to net, taxes to tax, and what is prepaid is taken off."""
    invoice = samples.usual()
    rows = rows_of(samples.long_invoice(200), invoice)
    assert list(rows[0]) == list(COLUMNS)
    assert len(rows) == 200 + 3 + len(invoice.lines) + 1 + 1
    own = rows[203:]
    sums = {
        kind: sum(Decimal(row["amount"]) for row in own if row["row"] == kind)
        for kind in ("line", "tax", "prepaid")
    }
    assert sums == {"line": invoice.net, "tax": invoice.tax, "prepaid": -invoice.prepaid}
    assert sum(sums.values()) == invoice.due
    first, third = own[0], own[2]
    assert (first["unit_price"], first["evidence"], first["buyer"]) == ("", "", "Acme GmbH")
    assert {row["digest"] for row in own} == {invoice.digest}
    assert (third["quantity"], third["unit_price"], third["unrounded"], third["amount"]) == (
        "12345678",
        "0.15",
        "1.8518517",
        "1.85",
    )
    assert (own[3]["late"], own[3]["first_day"], own[3]["quantity"]) == (
        "true",
        "2026-10-01",
        "-95000",
    )


@pytest.mark.parametrize("name", [*samples.HOSTILE, "+1", "-1", "@x", "\tx", 'a"b,c\nd'])
def test_no_text_is_a_formula_and_every_text_comes_back(name: str) -> None:
    """Whatever a name holds, rows stay rows and columns columns."""
    text = "".join(invoice_csv([samples.draft([samples.line(name, "-1", unit=name)])]))
    [line, tax] = csv.DictReader(text.splitlines(keepends=True))
    assert line["description"] == line["unit"] == safe_text(name)
    assert line["description"].removeprefix("'") == name
    assert not line["description"].startswith(("=", "+", "-", "@", "\t"))
    assert (line["amount"], tax["amount"]) == ("-1", "-0.19")
