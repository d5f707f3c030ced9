"""Invoices, periods and evidence as documents; an invoice's own document is `document_tree`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ledger.application.billing_close import CloseReport
from ledger.application.billing_ports import InvoiceRow
from ledger.application.billing_warnings import BillingWarning
from ledger.application.documents.amounts import utc_text
from ledger.application.documents.encoding import to_plain
from ledger.application.evidence import EvidenceReport
from ledger.application.invoice_rows import StoredInvoice
from ledger.application.invoicing import SeriesReport
from ledger.application.period_lists import PeriodStatus
from ledger.domain.billing_evidence import postings_in
from ledger.domain.entries import UsageRecorded
from ledger.domain.invoice_parts import document_tree
from ledger.domain.invoices import Invoice, from_document
from ledger.domain.protection_entries import ChargeReversed


def invoice_document(stored: StoredInvoice) -> dict[str, Any]:
    """Return an invoice or credit note and its status."""
    return {
        "status": stored.status.value,
        "invoice": document_tree(stored.invoice),
        "warnings": warnings_document(stored.warnings),
    }


def warnings_document(warnings: Sequence[BillingWarning]) -> list[dict[str, Any]]:
    """Return what people have to look at."""
    return [
        {
            "code": one.code,
            "tenant": one.tenant,
            "first_day": one.first_day.isoformat(),
            "invoice": one.invoice,
            "number": one.number or None,
            "amount": None if one.amount is None else to_plain(one.amount),
            "currency": one.currency or None,
            "names": list(one.names),
            "detail": one.detail,
        }
        for one in warnings
    ]


def preview_document(
    draft: Invoice | None, warnings: Sequence[BillingWarning] = ()
) -> dict[str, Any]:
    """Return what an invoice would be now; null where nothing is owed."""
    return {
        "invoice": None if draft is None else document_tree(draft),
        "warnings": warnings_document(warnings),
    }


def invoices_document(
    rows: Sequence[InvoiceRow],
    *,
    more: bool = False,
    warnings: Sequence[BillingWarning] = (),
) -> dict[str, Any]:
    """Return heads of invoices and credit notes; ``more`` says that there are others."""
    return {
        "invoices": [_head(row) for row in rows],
        "more": more,
        "warnings": warnings_document(warnings),
    }


def _head(row: InvoiceRow) -> dict[str, Any]:
    invoice = from_document(row.document)
    return {
        "tenant": invoice.tenant,
        "id": row.id,
        "kind": row.kind,
        "status": row.status.value,
        "number": row.number or None,
        "first_day": row.first_day.isoformat(),
        "after_day": row.after_day.isoformat(),
        "currency": invoice.currency,
        "total": to_plain(invoice.total),
        "due": to_plain(invoice.due),
        "cites": row.cites or None,
        "digest": invoice.digest or None,
    }


def period_document(status: PeriodStatus) -> dict[str, Any]:
    """Return a billing period."""
    return {
        "tenant": status.tenant,
        "first_day": status.first_day.isoformat(),
        "after_day": status.after_day.isoformat(),
        "state": status.state.value,
        "invoice": status.invoice or None,
        "closes_at": utc_text(status.closes_at),
        "overdue": status.overdue,
    }


def periods_document(
    statuses: Sequence[PeriodStatus],
    warnings: Sequence[BillingWarning] = (),
    *,
    more: bool = False,
) -> dict[str, Any]:
    """Return billing periods; ``more`` says that there are others."""
    return {
        "periods": [period_document(status) for status in statuses],
        "more": more,
        "warnings": warnings_document(warnings),
    }


def close_document(report: CloseReport, *, finalized: int = 0) -> dict[str, Any]:
    """Return what a close did."""
    return {
        "tenants": report.tenants,
        "periods": report.periods,
        "drafts": [{"tenant": tenant, "id": id} for tenant, id in report.drafts],
        "finalized": finalized,
        "warnings": warnings_document(report.warnings),
    }


def series_document(reports: Sequence[SeriesReport]) -> dict[str, Any]:
    """Return each series of numbers and what is missing in it."""
    return {
        "series": [
            {"series": one.series, "last": one.last, "missing": list(one.missing)}
            for one in reports
        ]
    }


def evidence_document(report: EvidenceReport) -> dict[str, Any]:
    """Return the entries behind a line, each at its place in the ledger."""
    entries = []
    for one in report.entries:
        entry = one.entry
        shown: dict[str, Any] = {
            "commit": one.commit,
            "index": one.index,
            "kind": type(entry).__name__,
            "recorded_at": utc_text(one.recorded_at),
        }
        if isinstance(entry, UsageRecorded):
            shown["source"] = report.shapes[entry.shape].shape.source
            shown["id"] = entry.id
        else:
            shown["source"] = getattr(entry, "target_source", "")
            shown["id"] = getattr(entry, "target_id", "")
        instants = [posting.occurred_at for posting in postings_in(entry)]
        if isinstance(entry, ChargeReversed):
            instants.append(entry.occurred_at)
        shown["occurred_at"] = utc_text(instants[0]) if instants else None
        entries.append(shown)
    return {
        "line": report.line,
        "entries": entries,
        "digest": report.digest,
        "chain_holds": report.chain_holds,
    }
