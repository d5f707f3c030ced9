"""Invoices on paper: what is shown, how numbers are written, and bytes that never differ."""

from __future__ import annotations

import os
import subprocess
import sys
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from fakes import invoice_samples as samples

from adapters.paper import TypstPrinter
from adapters.paper.texts import amount, clean, days, number
from adapters.paper.view import view_of
from ledger.domain.credit_notes import credit_note_of
from ledger.domain.errors import Unavailable
from ledger.domain.invoices import Invoice, InvoiceStatus

_DIGESTS = """
from hashlib import sha256
from adapters.paper import TypstPrinter
from fakes import invoice_samples as samples
printer = TypstPrinter()
printer.pdf(samples.hostile())
print(sha256(printer.pdf(samples.usual())).hexdigest())
"""


@pytest.fixture(scope="module")
def printer() -> TypstPrinter:
    """One for all tests; its fonts are read once."""
    return TypstPrinter()


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for one in value.values() for text in _texts(one)]
    if isinstance(value, list | tuple):
        return [text for one in value for text in _texts(one)]
    return [value] if isinstance(value, str) else []


def test_another_process_at_another_place_prints_the_same_bytes(printer: TypstPrinter) -> None:
    """Neither time zone, locale, hash seed, clock nor what was printed before is in them."""
    made = printer.pdf(samples.usual())
    assert made.startswith(b"%PDF-")
    environment = os.environ | {
        "TZ": "Pacific/Auckland",
        "LC_ALL": "C",
        "PYTHONHASHSEED": "7",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "SOURCE_DATE_EPOCH": "1",
    }
    command = [sys.executable, "-c", _DIGESTS]
    other = subprocess.run(
        command, env=environment, cwd="/", capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == sha256(made).hexdigest()


@pytest.mark.parametrize(
    "invoice",
    [
        samples.hostile(),
        samples.draft([samples.line("\ud800 lone", "1")]),
        samples.draft([]),
        samples.long_invoice(12, currency="JPY"),
    ],
    ids=["hostile", "surrogate", "empty", "yen"],
)
def test_any_text_can_be_printed(printer: TypstPrinter, invoice: Invoice) -> None:
    """Markup, quotes, control characters, words without end and any script are only text."""
    assert printer.pdf(invoice).startswith(b"%PDF-")


def test_long_invoices_run_over_pages(printer: TypstPrinter) -> None:
    """With the head of the table on each, so each is told apart from an empty one."""
    pages = printer.pages(samples.long_invoice(40))
    assert len(pages) == 3
    assert all(page.startswith(b"\x89PNG") for page in pages)


def test_a_page_shows_what_the_document_says() -> None:
    """Parties, VAT ids, days, prices, taxes, totals, other currencies, and the digests."""
    invoice = samples.usual()
    view = view_of(invoice)
    shown = _texts(view)
    for text in (
        "Gateway Ltd",
        "VAT ID IE0000000XX",
        "VAT ID DE000000000",
        "PO 4711",
        "2026-000123",
        "3 Dec 2026",
        "15 Dec 2026",
        "1 Nov 2026 \u2013 30 Nov 2026",
        "1 Oct 2026 \u2013 31 Oct 2026, which came after that period had closed",
        "tier 2: 4,345,678 at 2.50 per 1,000,000 = 10.864195",
        "Tax 19 % on 126.76",
        "USD 163.60 (1.0842 USD for 1 EUR, ECB, 2 Dec)",
        "JPY 24,800 (164.35 JPY for 1 EUR, ECB, 2 Dec)",
        "KWD 50.325 (0.3335 KWD for 1 EUR, ECB, 2 Dec)",
        "openai gpt-new tokens.input: 5,120",
        f"SHA-256 {invoice.digest}",
        f"{samples.EVIDENCE.digest[:16]}  commits 1\u2013812",
    ):
        assert text in shown
    assert view["mark"] == ""
    assert [row[:2] for row in view["totals"]] == [
        ("Net", "126.76"),
        ("Tax 19 % on 126.76", "24.08"),
        ("Total EUR", "150.84"),
        ("Paid from prepaid credit", "\u221220.00"),
        ("Amount due EUR", "130.84"),
    ]
    third = view["lines"][2]
    assert (third["quantity"], third["quantity_notes"], third["price"], third["amount"]) == (
        "12,345,678",
        ["token"],
        "0.15",
        "1.85",
    )


def test_what_all_lines_say_of_a_column_its_head_says_once() -> None:
    """Of those that have a price or a quantity; others and a lone line keep their notes."""
    view = view_of(samples.usual())
    assert (view["quantity_head"], view["price_head"]) == ("", "per 1,000,000")
    assert [line["price_notes"] for line in view["lines"]] == [[]] * 4
    lone = view_of(samples.draft([samples.line("a", "1")]))
    assert (lone["price_head"], lone["lines"][0]["price_notes"]) == ("", ["per 1,000,000"])


def test_a_draft_is_marked_and_says_that_it_is_none() -> None:
    """Whatever status is claimed for it."""
    view = view_of(samples.draft(samples.usual_lines()), status=InvoiceStatus.PAID)
    assert (view["mark"], view["heading"], view["issued"]) == ("DRAFT", "Draft invoice", None)
    assert "SHA-256" not in view["digest"]


def test_a_void_invoice_is_marked_and_a_credit_note_says_what_it_corrects() -> None:
    """Nobody pays the one, and the other is no invoice."""
    invoice = samples.usual()
    assert view_of(invoice, status=InvoiceStatus.VOID)["mark"] == "VOID"
    note = samples.final(
        credit_note_of(invoice, id="cn1", reason="Calls that failed", total=Decimal("12.34"))
    )
    view = view_of(note)
    assert (view["heading"], view["counted"]) == ("Credit note", False)
    assert ["Corrects invoice", "2026-000123"] in view["meta"]
    assert view["totals"][-1] == ("Total credited EUR", "12.34", True)
    assert "Calls that failed" in _texts(view)


def test_reverse_charge_is_noted() -> None:
    """The sentence, the word on the line, and a tax of nothing."""
    view = view_of(samples.final(samples.draft([samples.line("a", "10", tax=samples.REVERSE)])))
    assert "Reverse charge: the recipient accounts for the tax." in _texts(view["sections"])
    assert view["lines"][0]["tax"] == "reverse charge"
    assert ("Tax reverse charge on 10.00", "0.00", False) in view["totals"]


@pytest.mark.parametrize(
    ("value", "currency", "shown"),
    [
        ("1234567.5", "EUR", "1,234,567.50"),
        ("-0.95", "EUR", "\u22120.95"),
        ("24800", "JPY", "24,800"),
        ("50.3", "KWD", "50.300"),
        ("0.000000000001", "USD", "0.000000000001"),
        ("1E+6", "USD", "1,000,000.00"),
    ],
)
def test_amounts_are_written_in_full(value: str, currency: str, shown: str) -> None:
    """With the decimals of the currency at least, and never rounded."""
    assert amount(Decimal(value), currency) == shown


def test_numbers_are_grouped_and_days_include_their_last() -> None:
    """People read both."""
    assert (
        number(Decimal("9999999999999999999999.000001")) == "9,999,999,999,999,999,999,999.000001"
    )
    one = samples.NOVEMBER.__class__(
        first_day=samples.NOVEMBER.first_day, after_day=samples.NOVEMBER.first_day.replace(day=2)
    )
    assert days(one) == "1 Nov 2026"


def test_texts_are_of_one_line_and_hide_nothing() -> None:
    """Controls become blanks, marks that reorder text go, long words get places to break."""
    assert clean("a\x00b\r\nc\u202ed\u2066\ufeff") == "a b cd"
    assert clean("x" * 36) == "\u200b".join(["x" * 12] * 3)
    assert clean("W" * 17) == "W" * 12 + "\u200b" + "W" * 5
    for name in ("tokens.input.cache_write.1h", "gemini-2.5-flash-native-audio-dialog-2026-09"):
        assert clean(name) == name


def test_a_folder_of_fonts_that_is_not_there_is_said(tmp_path: Path) -> None:
    """Instead of boxes for its characters; one that has nothing needed changes no byte."""
    with pytest.raises(Unavailable) as refused:
        TypstPrinter(font_folders=[tmp_path / "none"]).pdf(samples.usual())
    assert refused.value.code == "fonts_unavailable"
    made = TypstPrinter(font_folders=[tmp_path]).pdf(samples.usual())
    assert made == TypstPrinter().pdf(samples.usual())


def test_without_typst_the_reason_and_the_remedy_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is optional."""
    monkeypatch.setitem(sys.modules, "typst", None)
    with pytest.raises(Unavailable, match="extra pdf") as refused:
        TypstPrinter().pdf(samples.usual())
    assert refused.value.code == "pdf_unavailable"
