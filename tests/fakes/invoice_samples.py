"""Invoices of every kind to put on paper: long, foreign, hostile, in any currency."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from ledger.domain.invoice_parts import (
    EvidenceQuery,
    InvoiceLine,
    LineKind,
    LinePart,
    Party,
    PlanDays,
    ServiceDays,
    Tax,
    TaxCategory,
    evidence_of,
    invoice_line,
)
from ledger.domain.invoices import (
    Display,
    Invoice,
    PrepaidDays,
    UnpricedLine,
    finalize,
    invoice_of,
)

NOVEMBER = ServiceDays(first_day=date(2026, 11, 1), after_day=date(2026, 12, 1))
OCTOBER = ServiceDays(first_day=date(2026, 10, 1), after_day=date(2026, 11, 1))
ISSUED = datetime(2026, 12, 3, 1, tzinfo=UTC)
STANDARD = Tax(category=TaxCategory.STANDARD, percent=Decimal(19))
REDUCED = Tax(category=TaxCategory.STANDARD, percent=Decimal(7))
REVERSE = Tax(category=TaxCategory.REVERSE_CHARGE)
SELLER = Party(
    name="Gateway Ltd",
    address=("27 Harbour Row", "D02 XY45 Dublin"),
    country="IE",
    tax_id="IE0000000XX",
    email="billing@gateway.example",
)
BUYER = Party(
    name="Acme GmbH",
    address=("Beispielweg 1", "10115 Berlin"),
    country="DE",
    tax_id="DE000000000",
    email="accounts@acme.example",
    reference="PO 4711",
)
EVIDENCE = evidence_of(
    EvidenceQuery(
        tenant="acme",
        since=datetime(2026, 10, 31, 23, tzinfo=UTC),
        until=datetime(2026, 11, 30, 23, tzinfo=UTC),
        through_commit=812,
        plan="team",
        plan_version=2,
        charge="tokens",
    ),
    chain=b"\1" * 32,
)


def line(description: str, unrounded: str, *, currency: str = "EUR", **members: Any) -> InvoiceLine:
    """Return a usage line at the standard rate, with evidence."""
    members = {
        "kind": LineKind.USAGE,
        "service": NOVEMBER,
        "tax": STANDARD,
        "quantity": Decimal(12345678),
        "billed": Decimal(12345678),
        "unit": "token",
        "unit_price": Decimal("0.15"),
        "unit_size": Decimal(1_000_000),
        "price_version": "default/openai@3.0",
        "evidence": EVIDENCE,
    } | members
    return invoice_line(
        description=description, unrounded=Decimal(unrounded), currency=currency, **members
    )


def usual_lines(currency: str = "EUR") -> list[InvoiceLine]:
    """Return a fee, a tiered charge, usage and late usage that was taken back."""
    fee = invoice_line(
        kind=LineKind.FEE,
        description="Team plan, base fee",
        service=NOVEMBER,
        unrounded=Decimal(100),
        currency=currency,
        tax=STANDARD,
        name="base",
        price_version="plan/team@2",
    )
    tiers = tuple(
        LinePart(
            kind="usage",
            tier=tier,
            quantity=Decimal(quantity),
            amount=Decimal(amount),
            unit_price=Decimal(price),
            unit_size=Decimal(1_000_000),
        )
        for tier, quantity, price, amount in (
            (1, "5000000", "3", "15"),
            (2, "4345678", "2.5", "10.864195"),
        )
    )
    charge = line(
        "Tokens of all models",
        "25.864195",
        currency=currency,
        kind=LineKind.CHARGE,
        billed=Decimal(9345678),
        unit_price=None,
        unit_size=None,
        parts=tiers,
        price_version="plan/team@2",
    )
    late = line(
        "openai gpt-4o tokens.output",
        "-0.95",
        currency=currency,
        quantity=Decimal(-95000),
        billed=Decimal(-95000),
        unit_price=Decimal(10),
        late=True,
        service=OCTOBER,
    )
    return [
        fee,
        charge,
        line("openai gpt-4o-mini tokens.input", "1.8518517", currency=currency),
        late,
    ]


def draft(lines: Sequence[InvoiceLine], *, currency: str = "EUR", **members: Any) -> Invoice:
    """Return a draft of November."""
    return invoice_of(
        id="2026-11-01",
        tenant="acme",
        currency=currency,
        timezone="Europe/Berlin",
        period=NOVEMBER,
        lines=lines,
        **members,
    )


def final(invoice: Invoice, *, seller: Party = SELLER, buyer: Party = BUYER) -> Invoice:
    """Return an invoice for good."""
    return finalize(
        invoice,
        series="2026",
        number="2026-000123",
        issued_at=ISSUED,
        due_on=date(2026, 12, 15),
        seller=seller,
        buyer=buyer,
    )


def usual() -> Invoice:
    """Return what most invoices are like: a plan, some usage, a credit, two currencies to read."""
    displays = (
        Display(
            currency="USD", rate=Decimal("1.0842"), total=Decimal("163.60"), source="ECB, 2 Dec"
        ),
        Display(currency="JPY", rate=Decimal("164.35"), total=Decimal(24800), source="ECB, 2 Dec"),
        Display(
            currency="KWD", rate=Decimal("0.3335"), total=Decimal("50.325"), source="ECB, 2 Dec"
        ),
    )
    plans = (
        PlanDays(plan="team", version=2, first_day=date(2026, 11, 1), after_day=date(2026, 12, 1)),
    )
    unpriced = (
        UnpricedLine(
            provider="openai", model="gpt-new", meter="tokens.input", quantity=Decimal(5120)
        ),
    )
    return final(
        draft(
            usual_lines(),
            displays=displays,
            plans=plans,
            unpriced=unpriced,
            credits=(PrepaidDays(service=NOVEMBER, unrounded=Decimal(20)),),
        )
    )


def long_invoice(count: int, *, currency: str = "EUR") -> Invoice:
    """Return an invoice of so many usage lines, some with long names."""
    models = ("gpt-4o", "claude-sonnet-4-5", "gemini-2.5-flash-preview-native-audio-dialog-2026-09")
    return final(
        draft(
            [
                line(
                    f"provider-{number % 7} {models[number % 3]} tokens.input.cache_write.1h",
                    f"{number * 7919}.{number:03d}25",
                    currency=currency,
                    tax=(STANDARD, REDUCED, REVERSE)[number % 3],
                )
                for number in range(1, count + 1)
            ],
            currency=currency,
        )
    )


HOSTILE = (
    '#panic("x") *bold* _it_ $x^2$ `raw` <label> @ref = head - item \\ // /* */ "quotes"',
    "a\x00b\x07c\x1b[31m\r\nd\u202eevil\u2066\ufeff",
    "W" * 400 + "/" + "x" * 300,
    "漢字 한국어 العربية עברית हिन्दी ไทย Ελληνικά Кириллица 🎉👩‍👩‍👧",
    '=HYPERLINK("http://evil")',
)
"""Names that somebody could try."""


def hostile() -> Invoice:
    """Return an invoice whose every text is hostile."""
    party = Party(
        name=HOSTILE[0], address=HOSTILE, country="DE", tax_id=HOSTILE[2], email=HOSTILE[1]
    )
    lines = [line(name, "1.005", unit=name, name=name, formula=name) for name in HOSTILE]
    invoice = draft(lines, notes=HOSTILE, plans=())
    return final(invoice, seller=party, buyer=party)
