"""Lines of the audit log, and uses of keys, as documents."""

from __future__ import annotations

from typing import Any

from ledger.application.audit_log import AuditLine
from ledger.application.documents.amounts import utc_text
from ledger.application.key_uses import KeyUseSum


def audit_document(line: AuditLine) -> dict[str, Any]:
    """Return a line of the audit log."""
    return {
        "number": line.number,
        "at": utc_text(line.at),
        "tenant": line.tenant or None,
        "act": line.act,
        "who": line.who,
        "via": line.via,
        "target": line.target or None,
        "request_id": line.request_id or None,
        "address": line.address or None,
        "outcome": line.outcome,
        "detail": line.detail,
    }


def uses_document(row: KeyUseSum) -> dict[str, Any]:
    """Return how often a key called a route."""
    return {
        "tenant": row.tenant or None,
        "key": row.key,
        "day": None if row.day is None else row.day.isoformat(),
        "route": row.route,
        "status": f"{row.status}xx",
        "uses": row.uses,
        "first_at": utc_text(row.first_at),
        "last_at": utc_text(row.last_at),
    }
