"""Tenants as documents."""

from __future__ import annotations

from typing import Any

from ledger.application.ports import TenantRow
from ledger.domain.commands import Outcome


def tenant_document(row: TenantRow) -> dict[str, Any]:
    """Return a tenant's settings and how far its ledger is."""
    return {
        "tenant": row.tenant,
        "currency": row.currency,
        "timezone": row.timezone,
        "book": row.book,
        "commits": row.version,
        "conflicts": row.conflicts,
    }


def opening_document(
    name: str, outcome: Outcome, *, currency: str, timezone: str, book: str
) -> dict[str, Any]:
    """Return what became of opening a ledger with these settings."""
    return {
        "tenant": name,
        "status": outcome.status,
        "currency": currency,
        "timezone": timezone,
        "book": book,
    }
