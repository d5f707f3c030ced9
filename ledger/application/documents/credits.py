"""Prepaid credit as documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ledger.application.documents.amounts import amount_text, utc_text
from ledger.application.documents.budgets import filter_text
from ledger.application.protection_reads import CreditStanding
from ledger.domain.commands import Outcome
from ledger.domain.credits import Grant
from ledger.domain.protection_entries import CreditWithdrawn


def credit_document(
    standing: CreditStanding, grants: Sequence[Grant] | None = None
) -> dict[str, Any]:
    """Return a tenant's credit for programs; amounts are in its currency.

    Args:
        standing: of the tenant.
        grants: those that are shown; None for all.
    """
    return {
        "tenant": standing.tenant.tenant,
        "currency": standing.tenant.currency,
        "required": standing.required,
        "free": amount_text(standing.free),
        "held": amount_text(standing.held),
        "owed": amount_text(standing.owed),
        "grants": [
            {
                "id": one.id,
                "kind": one.kind,
                "priority": one.priority,
                "given_at": utc_text(one.at),
                "expires_at": utc_text(one.expires_at),
                "expired": standing.over(one),
                "amount": amount_text(one.amount),
                "burned": amount_text(one.burned),
                "withdrawn": amount_text(one.withdrawn),
                "lapsed": amount_text(one.lapsed),
                "held": amount_text(one.held),
                "free": amount_text(free_of(standing, one)),
                "filter": filter_text(one.filter),
            }
            for one in (standing.grants if grants is None else grants)
        ],
    }


def free_of(standing: CreditStanding, grant: Grant) -> int:
    """Return what is free of a grant; nothing once its time is over."""
    return 0 if standing.over(grant) else grant.free


def grant_document(
    outcome: Outcome,
    id: object,
    standing: CreditStanding,
    grants: Sequence[Grant] | None = None,
) -> dict[str, Any]:
    """Return what became of a grant, and the tenant's credit after it; see `credit_document`."""
    return {"status": outcome.status, "grant": id, **credit_document(standing, grants)}


def withdrawal_document(done: CreditWithdrawn, currency: str) -> dict[str, Any]:
    """Return a refund or a transfer."""
    return {
        "id": done.id,
        "amount": amount_text(done.amount),
        "currency": currency,
        "why": done.why,
        "to": done.to or None,
    }


def policy_document(tenant: str, outcome: Outcome, *, required: bool) -> dict[str, Any]:
    """Return whether a tenant's holds need credit."""
    return {"tenant": tenant, "status": outcome.status, "required": required}
