"""Invoices: totals, taxes, digests, and credit notes that sum to the last cent."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import msgspec
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.domain.credit_notes import credit_note_of, left_to_credit, spread_signed
from ledger.domain.errors import InvalidInput, InvariantViolation, Refused
from ledger.domain.invoice_parts import (
    EvidenceQuery,
    LineKind,
    Party,
    ServiceDays,
    Tax,
    TaxCategory,
    canonical,
    evidence_of,
    invoice_line,
)
from ledger.domain.invoices import (
    Invoice,
    InvoiceStatus,
    PrepaidDays,
    allowed,
    check,
    finalize,
    from_document,
    invoice_of,
    to_document,
)

NOVEMBER = ServiceDays(first_day=date(2026, 11, 1), after_day=date(2026, 12, 1))
STANDARD = Tax(category=TaxCategory.STANDARD, percent=Decimal(19))
REDUCED = Tax(category=TaxCategory.STANDARD, percent=Decimal(7))
REVERSE = Tax(category=TaxCategory.REVERSE_CHARGE)
ISSUED = datetime(2026, 12, 3, 1, tzinfo=UTC)


def draft_of(*amounts: tuple[str, Tax], currency: str = "EUR", prepaid: str = "0") -> Invoice:
    """Return a draft with a line for each unrounded amount."""
    lines = [
        invoice_line(
            kind=LineKind.USAGE,
            description=f"line of {amount}",
            service=NOVEMBER,
            unrounded=Decimal(amount),
            currency=currency,
            tax=tax,
        )
        for amount, tax in amounts
    ]
    return invoice_of(
        id="2026-11-01",
        tenant="acme",
        currency=currency,
        timezone="Europe/Berlin",
        period=NOVEMBER,
        lines=lines,
        credits=[PrepaidDays(service=NOVEMBER, unrounded=Decimal(prepaid))],
    )


def final_of(*amounts: tuple[str, Tax], currency: str = "EUR") -> Invoice:
    """Return a final invoice with a line for each unrounded amount."""
    return finalize(
        draft_of(*amounts, currency=currency), series="2026", number="2026-000001", issued_at=ISSUED
    )


def test_lines_are_rounded_once_and_taxes_are_on_their_sum() -> None:
    """Two lines of one rate are taxed together: 0.19 on 1.00, not 0.10 and 0.10."""
    draft = draft_of(("0.504", STANDARD), ("0.496", STANDARD), ("10", REVERSE), prepaid="1.005")
    assert [line.amount for line in draft.lines] == [Decimal("0.5"), Decimal("0.5"), Decimal(10)]
    assert [(one.category, one.net, one.tax) for one in draft.taxes] == [
        (TaxCategory.REVERSE_CHARGE, Decimal(10), Decimal(0)),
        (TaxCategory.STANDARD, Decimal(1), Decimal("0.19")),
    ]
    assert (draft.net, draft.tax, draft.total) == (Decimal(11), Decimal("0.19"), Decimal("11.19"))
    assert (draft.prepaid, draft.due) == (Decimal(1), Decimal("10.19"))
    assert draft.notes == ("Reverse charge: the recipient accounts for the tax.",)


@pytest.mark.parametrize(("currency", "amount"), [("JPY", 2), ("KWD", Decimal("1.501"))])
def test_amounts_have_the_decimals_of_their_currency(currency: str, amount: Decimal) -> None:
    """No cents in yen, three decimals in dinar."""
    [line] = draft_of(("1.5005001", REVERSE), currency=currency).lines
    assert line.amount == amount


def test_a_document_keeps_its_digest_when_it_is_read_and_made_again() -> None:
    """A year later, from the stored bytes."""
    final = final_of(("28.037034", STANDARD), ("-0.95", REDUCED))
    again = from_document(to_document(final))
    assert (again, again.digest, to_document(again)) == (final, final.digest, to_document(final))


@pytest.mark.parametrize(
    "change",
    [
        {"buyer": Party(name="Somebody else")},
        {"net": Decimal("1.01")},
        {"due": Decimal(0)},
        {"number": "2026-000002"},
    ],
)
def test_no_member_of_a_final_document_can_change(change: dict[str, object]) -> None:
    """The digest is of all of it, and sums are checked whenever it is read."""
    changed = msgspec.structs.replace(final_of(("1", REVERSE)), **change)
    with pytest.raises(InvariantViolation):
        from_document(to_document(changed))


def test_a_final_invoice_is_not_finalized_again() -> None:
    """It has its number."""
    with pytest.raises(InvariantViolation, match="final already"):
        finalize(final_of(("1", REVERSE)), series="x", number="2", issued_at=ISSUED)


def test_a_status_follows_only_from_those_before_it() -> None:
    """The whole table."""
    status = InvoiceStatus
    assert {(one, to) for one in status for to in status if allowed(one, to=to)} == {
        (status.DRAFT, status.FINALIZED),
        (status.FINALIZED, status.PAID),
        (status.FINALIZED, status.UNCOLLECTIBLE),
        (status.FINALIZED, status.VOID),
        (status.UNCOLLECTIBLE, status.PAID),
    }


@pytest.mark.parametrize(("category", "percent"), [("S", "100.1"), ("S", "-1"), ("AE", "19")])
def test_a_tax_that_cannot_be_is_refused(category: str, percent: str) -> None:
    """Above 100 %, below 0 %, or a rate where there is no tax."""
    with pytest.raises(InvalidInput) as refused:
        Tax(category=TaxCategory(category), percent=Decimal(percent))
    assert refused.value.code == "invalid_tax_rate"


def test_evidence_is_pinned_by_query_and_chain() -> None:
    """Another query or another ledger has another digest."""
    query = EvidenceQuery(tenant="acme", since=ISSUED, until=ISSUED, through_commit=8)
    one = evidence_of(query, chain=b"\x01")
    later = evidence_of(msgspec.structs.replace(query, after_commit=3), chain=b"\x01")
    assert len({one.digest, later.digest, evidence_of(query, chain=b"\x02").digest}) == 3


def test_a_credit_note_for_all_gives_back_every_line_and_tax() -> None:
    """And afterwards nothing is left."""
    invoice = final_of(("10", STANDARD), ("-2.5", STANDARD), ("5.55", REDUCED))
    note = credit_note_of(invoice, id="cn", reason="wrong buyer")
    assert (note.net, note.tax, note.total) == (invoice.net, invoice.tax, invoice.total)
    assert [line.amount for line in note.lines] == [line.amount for line in invoice.lines]
    assert note.cites is not None
    assert note.cites.digest == invoice.digest
    for total in (None, Decimal(1)):
        with pytest.raises(Refused, match="nothing is left to give back of") as refused:
            credit_note_of(invoice, id="cn2", reason="again", earlier=[note], total=total)
        assert refused.value.code == "credit_exceeds_invoice"
    negative = final_of(("-10", STANDARD))
    with pytest.raises(Refused, match=r"nothing is left .*, which comes to -11\.9 "):
        credit_note_of(negative, id="cn", reason="r", total=Decimal(5))


def test_a_credit_note_of_lines_takes_the_last_cent_of_tax_with_the_last_of_them() -> None:
    """19 % of 0.03 three times is 0.03, of 0.09 it is 0.02."""
    invoice = final_of(("0.03", STANDARD), ("0.03", STANDARD), ("0.03", STANDARD))
    notes: list[Invoice] = []
    for number in (1, 2, 3):
        given = {number: Decimal("0.03")}
        notes.append(
            credit_note_of(invoice, id=f"cn{number}", reason="r", earlier=notes, lines=given)
        )
        check(notes[-1])
    assert left_to_credit(invoice, notes) == 0


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"total": Decimal("11.91")}, "credit_exceeds_invoice"),
        ({"lines": {1: Decimal("10.01")}}, "credit_exceeds_invoice"),
        ({"total": Decimal(0)}, "invalid_credit"),
        ({"total": Decimal(-5), "reason": ""}, "invalid_credit"),
        ({"total": Decimal("NaN"), "reason": ""}, "invalid_credit"),
        ({"lines": {7: Decimal(1)}, "reason": ""}, "invalid_credit"),
        ({"total": Decimal("0.001")}, "invalid_credit"),
        ({"lines": {}}, "invalid_credit"),
        ({"lines": {2: Decimal(1)}}, "invalid_credit"),
        ({"lines": {1: Decimal(1)}, "total": Decimal(1)}, "invalid_credit"),
        ({"reason": " "}, "invalid_text"),
    ],
)
def test_what_cannot_be_given_back_is_refused(given: dict[str, object], code: str) -> None:
    """More than is left, nothing, or what is no amount of the currency."""
    invoice = final_of(("10", STANDARD))
    with pytest.raises((InvalidInput, Refused)) as refused:
        credit_note_of(invoice, **{"id": "cn", "reason": "r", **given})  # type: ignore[arg-type]
    assert refused.value.code == code


@given(
    st.dictionaries(
        st.sampled_from("abcXYZ_"), st.text() | st.integers(0, 2**53 - 1) | st.booleans()
    )
)
def test_documents_are_canonical_json(tree: dict[str, object]) -> None:
    """Byte by byte as RFC 8785 has it, whatever the texts are."""
    assert canonical([tree]) == rfc8785.dumps([tree])  # type: ignore[list-item] # a tree of JSON


CENTS = st.integers(-500, 5000).map(lambda cents: str(Decimal(cents) / 100))
TAXES = st.sampled_from([STANDARD, REDUCED, REVERSE])


@settings(max_examples=150, deadline=None)
@given(
    lines=st.lists(st.tuples(CENTS, TAXES), min_size=1, max_size=8),
    shares=st.lists(st.integers(1, 99), max_size=4),
)
def test_credit_notes_in_any_pieces_sum_to_the_invoice(
    lines: list[tuple[str, Tax]], shares: list[int]
) -> None:
    """Each is exact, no line gives back more than it is, and the last leaves nothing anywhere."""
    invoice = final_of(*lines)
    notes: list[Invoice] = []
    for share in (*shares, 100):
        left = left_to_credit(invoice, notes)
        total = (left * share / 100).quantize(Decimal("0.01"))
        if total <= 0 or total > left:
            continue
        note = credit_note_of(invoice, id=f"cn{len(notes)}", reason="r", earlier=notes, total=total)
        check(note)
        assert note.total == total
        notes.append(note)
    if invoice.total > 0:
        assert left_to_credit(invoice, notes) == 0
        for line in invoice.lines:
            back = [
                one.amount for note in notes for one in note.lines if one.of_line == line.number
            ]
            assert sum(back) == line.amount
            assert all(min(line.amount, 0) <= one <= max(line.amount, 0) for one in back)


@given(weights=st.lists(st.integers(-300, 300), min_size=1, max_size=9), share=st.integers(0, 100))
def test_a_signed_spread_is_exact_and_within_its_weights(weights: list[int], share: int) -> None:
    """Whatever the signs are."""
    whole = sum(weights)
    total = Decimal(int(Decimal(whole) * share / 100))
    parts = spread_signed(total, [Decimal(weight) for weight in weights], decimals=0)
    assert sum(parts) == total
    assert all(abs(part) <= abs(weight) for part, weight in zip(parts, weights, strict=True))
