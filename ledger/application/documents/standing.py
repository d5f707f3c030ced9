"""Where a tenant stands, as a document."""

from __future__ import annotations

from typing import Any

from ledger.application.documents.amounts import amount_text, utc_text
from ledger.application.documents.usage import balance_document
from ledger.application.protection_reads import BudgetStanding
from ledger.application.standing import Standing


def standing_document(one: Standing) -> dict[str, Any]:
    """Return balances with spent, held and available apart; charge in the ledger's currency."""
    bound = one.bound
    credit = one.credit
    months = balance_document(one.tenant, one.balances)
    return {
        "tenant": one.tenant.tenant,
        "currency": one.tenant.currency,
        "timezone": one.tenant.timezone,
        "version": one.tenant.version,
        "month": one.month,
        "spent": amount_text(one.spent),
        "held": amount_text(one.held),
        "available": None if bound is None else amount_text(bound[0]),
        "bounded_by": None if bound is None else bound[1],
        "open_holds": one.holds,
        "caps": [_cap_document(cap) for cap in one.caps],
        "credit": {
            "required": credit.required,
            "free": amount_text(credit.free),
            "held": amount_text(credit.held),
            "owed": amount_text(credit.owed),
        },
        "periods": months["periods"],
        "total": months["total"],
    }


def _cap_document(cap: BudgetStanding) -> dict[str, Any]:
    return {
        "budget": cap.terms.name,
        "state": cap.terms.state,
        "window": cap.terms.window,
        "window_start": utc_text(cap.window),
        "window_end": utc_text(cap.ends),
        "limit": amount_text(cap.terms.limit),
        "ceiling": amount_text(cap.ceiling),
        "spent": amount_text(cap.spent),
        "held": amount_text(cap.held),
        "available": amount_text(cap.available),
    }
