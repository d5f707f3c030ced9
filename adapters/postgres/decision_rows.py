"""Rows of decisions and of budgets' steps, made of the entries of the log."""

from __future__ import annotations

from ledger.application.ports import TenantRow
from ledger.application.protection_reads import DecisionRow, StepRow
from ledger.domain.budgets import BudgetTerms
from ledger.domain.protection_entries import BudgetStepReached, HoldAuthorized, HoldRefused
from ledger.domain.shapes import CompiledShape


def decision_of(entry: HoldAuthorized | HoldRefused) -> str:
    """Return what was decided: the entry's word, else ``confirm`` or ``deny``."""
    if isinstance(entry, HoldAuthorized):
        return entry.decision
    return "confirm" if entry.code == "confirmation_required" else "deny"


def decision_row(
    tenant: TenantRow,
    version: int,
    index: int,
    entry: HoldAuthorized | HoldRefused,
    shape: CompiledShape,
) -> DecisionRow:
    """Return the row of a decision."""
    model, amount = shape.shape.model, 0
    if isinstance(entry, HoldRefused):
        code = entry.code
    else:
        code = "created_resolved" if entry.decision == "deny" else "created"
        model = entry.model or model
        amount = entry.amount
    return DecisionRow(
        tenant=tenant,
        version=version,
        index=index,
        at=entry.at,
        hold=entry.id,
        decision=decision_of(entry),
        code=code,
        asked=entry.asked,
        amount=amount,
        shape=shape,
        model=model,
        reasons=entry.reasons,
        user=entry.extra.user if entry.extra is not None else "",
    )


def step_row(
    tenant: TenantRow, version: int, index: int, entry: BudgetStepReached, terms: BudgetTerms
) -> StepRow:
    """Return the row of a step that a budget reached."""
    return StepRow(
        tenant=tenant,
        version=version,
        index=index,
        terms=terms,
        window=entry.window,
        step=entry.step,
        kind=entry.kind,
        threshold=entry.threshold,
        used=entry.used,
        at=entry.at,
        limit_at=entry.limit_at,
        forecast=entry.forecast,
    )
