"""The example of docs/spec/invoices.md is a valid document, and its tables are the code's."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from ledger.application.documents.plans import details_document, details_from_json
from ledger.domain.billing_account import BillingAccount
from ledger.domain.billing_decisions import set_details
from ledger.domain.errors import InvalidInput
from ledger.domain.invoice_parts import InvoiceLine, evidence_of
from ledger.domain.invoices import Invoice, digest_of, from_document, to_document

SPEC = (Path(__file__).parents[2] / "docs" / "spec" / "invoices.md").read_text("utf-8")


PERIODS = (Path(__file__).parents[2] / "docs" / "spec" / "periods.md").read_text("utf-8")


def _members(title: str) -> set[str]:
    rows = SPEC.split(f"\n{title}\n", 1)[1].split("\n\n", 1)[0].split("\n")
    return {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def test_the_example_is_a_document_with_true_sums_and_digests() -> None:
    """Digests are what the code computes from the page."""
    [example] = re.findall(r"```json\n(.*?)```", SPEC, flags=re.DOTALL)
    raw = msgspec.json.decode(example, type=Invoice)
    [evidence] = [line.evidence for line in raw.lines if line.evidence is not None]
    made = evidence_of(evidence.query, chain=bytes.fromhex(evidence.chain))
    assert (evidence.digest, raw.digest) == (made.digest, digest_of(raw))
    assert to_document(from_document(example.encode())) == to_document(raw)


def test_the_tables_list_every_member() -> None:
    """Of the document and of a line."""
    assert _members("| member | default | meaning |") == set(Invoice.__struct_fields__)
    assert _members("| member of a line | default | meaning |") == set(
        InvoiceLine.__struct_fields__
    )


def test_the_details_on_the_page_are_read() -> None:
    """As they stand there, and shown again in the same form."""
    [example] = re.findall(r"```json\n(.*?)```", PERIODS, flags=re.DOTALL)
    details = details_from_json(example)
    assert set_details(BillingAccount(), details)
    assert details_document(details) == msgspec.json.decode(example)


def test_details_say_each_member_once() -> None:
    """Two taxes of one line are a mistake, not the last one."""
    twice = '{"line_taxes": {"base": {"category": "E"}, "base": {"category": "Z"}}}'
    with pytest.raises(InvalidInput, match="'base' stands twice") as caught:
        details_from_json(twice)
    assert caught.value.code == "invalid_details"


def test_a_tax_that_is_none_is_refused_where_it_stands() -> None:
    """The pointer is of the document, and the bounds are those that hold."""
    for document, at in (
        ('{"tax": {"category": "S", "percent": 100.5}}', "/tax/percent"),
        ('{"line_taxes": {"a/b": {"category": "E", "percent": "1"}}}', "/line_taxes/a~1b/percent"),
    ):
        with pytest.raises(InvalidInput) as caught:
            details_from_json(document)
        assert (caught.value.code, caught.value.pointer) == ("invalid_tax_rate", at)
    with pytest.raises(InvalidInput, match="give 0 to 100 percent"):
        details_from_json('{"tax": {"category": "S", "percent": "100.5"}}')
    assert details_from_json('{"tax": {"category": "S", "percent": "100"}}').tax
