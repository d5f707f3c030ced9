"""Drafts: what is owed for the days of a billing period as an invoice, with its evidence."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from ledger.domain.billing_account import BillingAccount, BillingDetails, tax_of
from ledger.domain.billing_calendar import Span, Stretch
from ledger.domain.billing_rating import RatedLine
from ledger.domain.invoice_parts import (
    Evidence,
    EvidenceQuery,
    InvoiceLine,
    LineKind,
    PlanDays,
    ServiceDays,
    evidence_of,
    invoice_line,
)
from ledger.domain.invoices import Display, Invoice, PrepaidDays, UnpricedLine, invoice_of
from ledger.domain.money import EXACT, plain, round_money
from ledger.domain.periods import day_start, from_us


class Place(msgspec.Struct, frozen=True):
    """A tenant as billing needs it.

    Attributes:
        tenant_id: number.
        tenant: name.
        currency: of its ledger.
        timezone: likewise.
    """

    tenant_id: int
    tenant: str
    currency: str
    timezone: str


class Cut(msgspec.Struct, frozen=True):
    """Up to where a ledger is counted.

    Attributes:
        position: of the log.
        through_commit: last commit of the ledger at that position; 0 if there is none.
        chain: digest of that commit; empty if there is none.
    """

    position: int
    through_commit: int
    chain: bytes


class Owed(msgspec.Struct, frozen=True):
    """What is owed for a span beyond what was billed.

    Attributes:
        span: the days.
        lines: positions that changed.
        credit: what prepaid credit paid beyond what was taken off before.
        unpriced: usage without a price.
        settled: see `RatedSpan`.
    """

    span: Span
    lines: Sequence[RatedLine]
    credit: Decimal
    unpriced: Sequence[UnpricedLine]
    settled: bool = True


def draft_of(
    account: BillingAccount,
    place: Place,
    span: Span,
    owed: Sequence[Owed],
    *,
    id: str,
    cut: Cut,
    stretches: Sequence[Stretch],
    platform: BillingDetails,
) -> Invoice | None:
    """Return the draft of a period's invoice; None where nothing is owed and nothing given back.

    Args:
        account: of the tenant.
        place: likewise.
        span: the period.
        owed: for it and for earlier ones; the period itself first.
        id: of the invoice.
        cut: up to where usage counts.
        stretches: which plan holds when, in the period.
        platform: what holds where the tenant's details say nothing.
    """
    lines = [
        _line(line, account, place, cut, platform, late=one.span.first_day < span.first_day)
        for one in owed
        for line in one.lines
    ]
    credits = [
        PrepaidDays(service=_service(one.span), unrounded=one.credit) for one in owed if one.credit
    ]
    if not lines and not credits:
        return None
    draft = invoice_of(
        id=id,
        tenant=place.tenant,
        currency=place.currency,
        timezone=place.timezone,
        period=_service(span),
        lines=lines,
        credits=credits,
        plans=tuple(
            PlanDays(
                plan=one.plan,
                version=one.version,
                first_day=one.first_day,
                after_day=one.after_day,
            )
            for one in stretches
            if one.plan
        ),
        unpriced=tuple(one for part in owed for one in part.unpriced),
    )
    return with_displays(draft, account.details)


def with_displays(draft: Invoice, details: BillingDetails) -> Invoice:
    """Return a draft with its total in the other currencies that the tenant wants to see."""
    return msgspec.structs.replace(
        draft,
        displays=tuple(
            Display(
                currency=one.currency,
                rate=plain(one.rate),
                total=plain(round_money(EXACT.multiply(draft.total, one.rate), one.currency)),
                source=one.source,
            )
            for one in details.displays
        ),
    )


def _service(span: Span) -> ServiceDays:
    return ServiceDays(first_day=span.first_day, after_day=span.after_day)


def _line(
    line: RatedLine,
    account: BillingAccount,
    place: Place,
    cut: Cut,
    platform: BillingDetails,
    *,
    late: bool,
) -> InvoiceLine:
    key = line.key
    return invoice_line(
        kind=LineKind(key.kind),
        description=line.description,
        service=ServiceDays(first_day=key.first_day, after_day=key.after_day),
        unrounded=line.unrounded,
        currency=place.currency,
        tax=tax_of(key.name, account.details, platform),
        name=key.name,
        quantity=line.quantity,
        billed=line.billed,
        unit=line.unit,
        unit_size=line.unit_size,
        unit_price=line.unit_price,
        price_version=key.price_version,
        parts=line.parts,
        formula=line.formula,
        late=late,
        evidence=_evidence(line, account, place, cut) if line.has_entries else None,
    )


def _evidence(line: RatedLine, account: BillingAccount, place: Place, cut: Cut) -> Evidence:
    key = line.key
    last = account.last
    plan, version = line.plan or ("", 0)
    query = EvidenceQuery(
        tenant=place.tenant,
        since=from_us(day_start(place.timezone, key.first_day)),
        until=from_us(day_start(place.timezone, key.after_day)),
        # What was billed of it before counted everything up to the latest close.
        after_commit=last.through_commit if last is not None and line.continues else 0,
        through_commit=cut.through_commit,
        plan=plan,
        plan_version=version,
        charge=key.name if key.kind == LineKind.CHARGE else "",
        provider=key.provider,
        model=key.model,
        meter=key.meter,
        price_version=key.price_version if key.kind == LineKind.USAGE else "",
        byok=key.byok,
    )
    return evidence_of(query, chain=cut.chain)
