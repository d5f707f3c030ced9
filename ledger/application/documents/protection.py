"""Answers about holds, the holds themselves and the decisions that were kept, as documents."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from ledger.application.documents.amounts import (
    amount_text,
    measured_text,
    quantity_text,
    utc_text,
)
from ledger.application.protection_reads import DecisionRow, HoldRow
from ledger.domain.commands import Outcome
from ledger.domain.errors import InvalidInput
from ledger.domain.meters import QUANTITY_DECIMALS
from ledger.domain.money import AMOUNT_DECIMALS, scaled_text
from ledger.domain.protection_entries import Reason


def read_outcome(outcome: Outcome) -> Outcome:
    """Return an outcome unless the document could not be read.

    Raises:
        InvalidInput: it could not; the problem's code, message and pointer.
    """
    problem = outcome.problem
    if problem is not None and (
        outcome.status.startswith("invalid_") or outcome.status in ("unknown_member", "rejected")
    ):
        raise InvalidInput(problem.message, code=problem.code, pointer=problem.pointer)
    return outcome


def outcome_document(outcome: Outcome) -> dict[str, Any]:
    """Return an answer about a hold for programs."""
    shown: dict[str, Any] = {"status": outcome.status}
    if outcome.version:
        shown["receipt"] = f"{outcome.version}.{outcome.index}"
    if outcome.flags:
        shown["flags"] = list(outcome.flags)
    if outcome.problem is not None:
        shown["message"] = outcome.problem.message
    detail = outcome.detail
    if detail is None:
        return shown
    shown["hold"] = detail.hold
    if detail.decision:
        shown["decision"] = detail.decision
        shown["asked"] = amount_text(detail.asked)
    shown["code"] = detail.code or outcome.status
    shown["amount"] = amount_text(detail.amount)
    shown["charge"] = amount_text(detail.charge)
    shown["overrun"] = amount_text(detail.overrun)
    shown["currency"] = detail.currency
    shown["provider"] = detail.provider
    shown["model"] = detail.model
    shown["expires_at"] = utc_text(detail.expires_at)
    shown["reasons"] = [reason_document(one) for one in detail.reasons]
    shown["estimate"] = [
        {
            "meter": line.meter,
            "quantity": scaled_text(line.quantity, QUANTITY_DECIMALS),
            "rate": _rate_text(line.rate, line.rate_decimals),
            "amount": scaled_text(line.amount, AMOUNT_DECIMALS),
            "version": line.version,
        }
        for line in detail.estimate
    ]
    if detail.decision in _REFUSALS or outcome.status.startswith("denied_"):
        shown["violated_policies"] = violated_policies(detail.reasons)
    return shown


_REFUSALS = ("deny", "confirm")
_BUDGET_CODES = ("budget", "budget_closed", "confirm")


def violated_policies(reasons: Sequence[Reason]) -> list[str]:
    """Return which policies refuse something, each once, in the order of the reasons.

    ``budget:NAME``, ``credit``, ``entitlement:KIND:NAME`` or ``unpriced:WHAT``.
    """
    policies: dict[str, None] = {}
    for reason in reasons:
        if reason.code in _BUDGET_CODES:
            policies[f"budget:{reason.name}"] = None
        elif reason.code == "credit":
            policies["credit"] = None
        elif reason.code in ("entitlement", "unpriced"):
            policies[f"{reason.code}:{reason.name}"] = None
    return list(policies)


def reason_document(reason: Reason) -> dict[str, Any]:
    """Return a reason for programs; numbers are in the reason's measure."""
    shown: dict[str, Any] = {"code": reason.code, "name": reason.name}
    if reason.measure:
        measure = reason.measure
        shown |= {
            "measure": measure,
            "limit": measured_text(reason.limit, measure),
            "spent": measured_text(reason.spent, measure),
            "held": measured_text(reason.held, measure),
            "asked": measured_text(reason.asked, measure),
            "available": measured_text(reason.limit - reason.spent - reason.held, measure),
            "window": utc_text(reason.window),
        }
    if reason.detail:
        shown["detail"] = reason.detail
    return shown


_rate_text = lru_cache(maxsize=8192)(scaled_text)
"""Rates are few, and every decision names some."""


def hold_document(row: HoldRow) -> dict[str, Any]:
    """Return a hold for programs; amounts are charge in the ledger's currency."""
    hold, extra, shape = row.hold, row.hold.extra, row.shape
    return {
        "tenant": row.tenant.tenant,
        "hold": hold.id,
        "status": row.status,
        "due": row.due,
        "kind": hold.kind,
        "code": hold.code,
        "provider": shape.shape.provider if shape is not None else "",
        "model": shape.shape.model if shape is not None else "",
        "user": extra.user if extra is not None else "",
        "currency": row.tenant.currency,
        "reserved": amount_text(hold.amount),
        "reserved_at_most": amount_text(hold.reserved),
        "overrun": amount_text(hold.overrun),
        "authorized_at": utc_text(hold.at),
        "expires_at": utc_text(hold.expires_at),
        "on_expiry": hold.on_expiry,
        "step": hold.step,
        "progress": _quantities(hold.meters, hold.numbers),
        "captured": _quantities(hold.captured_meters, hold.captured),
        "final": hold.final,
        "late": hold.late,
        "usage": {"source": hold.usage[0], "id": hold.usage[1]} if hold.usage[1] else None,
        "budgets": [
            {"number": budget, "window": utc_text(start)} for budget, start, _ in hold.bindings
        ],
    }


def _quantities(meters: Sequence[str], numbers: Sequence[int]) -> dict[str, str]:
    return {meter: quantity_text(one) for meter, one in zip(meters, numbers, strict=True)}


def decision_document(row: DecisionRow) -> dict[str, Any]:
    """Return a kept answer for programs."""
    return {
        "tenant": row.tenant.tenant,
        "receipt": f"{row.version}.{row.index}",
        "at": utc_text(row.at),
        "hold": row.hold,
        "decision": row.decision,
        "code": row.code,
        "provider": row.shape.shape.provider,
        "model": row.model,
        "called_model": row.shape.shape.model,
        "user": row.user,
        "currency": row.tenant.currency,
        "asked": amount_text(row.asked),
        "amount": amount_text(row.amount),
        "reasons": [reason_document(one) for one in row.reasons],
        "violated_policies": violated_policies(row.reasons) if row.decision in _REFUSALS else [],
    }
