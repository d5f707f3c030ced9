"""Budgets, the steps that fired and the default cap as documents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ledger.application.documents.amounts import amount_text, measured_text, utc_text
from ledger.application.protection_reads import BudgetStanding, StepRow
from ledger.domain.budgets import BudgetTerms, Filter, Step
from ledger.domain.commands import Outcome
from ledger.domain.default_cap import BUILT_IN, DefaultCap
from ledger.domain.windows import window_text


def kind_of(terms: BudgetTerms) -> str:
    """Return whether a budget stops or only tells: ``cap`` or ``alert``."""
    return "cap" if terms.cap else "alert"


def scope_text(terms: BudgetTerms) -> str:
    """Return a scope as it is written: ``tenant``, ``user=u1``, ``label:team=blue``."""
    if terms.scope == "tenant":
        return terms.scope
    return f"{terms.scope}{':' if terms.scope == 'label' else '='}{terms.value}"


def filter_text(filter_: Filter) -> str:
    """Return a filter for people; "" where everything counts."""
    lists = (
        ("provider", filter_.providers),
        ("model", filter_.models),
        ("meter", filter_.meters),
    )
    parts = [f"{name} {' or '.join(patterns)}" for name, patterns in lists if patterns]
    if not filter_.byok:
        parts.append("without own keys")
    return ", ".join(parts)


def step_text(step: Step, terms: BudgetTerms) -> str:
    """Return a step as it is written: ``warn@80%``, ``downgrade@95%=MODEL``, ``stop@50``."""
    if step.amount is None:
        whole, rest = divmod(step.percent, 100)
        at = f"{whole}.{rest:02}".rstrip("0") + "%" if rest else f"{whole}%"
    else:
        at = measured_text(step.amount, terms.measure)
    return f"{step.kind}@{at}" + (f"={step.model}" if step.model else "")


def budget_document(one: BudgetStanding) -> dict[str, Any]:
    """Return a budget for programs; its numbers are in its measure."""
    terms = one.terms
    forecast = one.forecast
    amounts = {
        "limit": terms.limit,
        "ceiling": one.ceiling,
        "spent": one.spent,
        "held": one.held,
        "available": one.available,
    }
    return {
        "tenant": one.tenant.tenant,
        "budget": terms.name,
        "number": one.number,
        "kind": kind_of(terms),
        "state": terms.state,
        "scope": scope_text(terms),
        "filter": {
            "providers": list(terms.filter.providers),
            "models": list(terms.filter.models),
            "meters": list(terms.filter.meters),
            "byok": "include" if terms.filter.byok else "exclude",
        },
        "measure": terms.measure,
        "currency": terms.currency,
        "window": terms.window,
        "window_text": window_text(one.tenant.timezone, terms.window, one.window),
        "window_start": utc_text(one.window),
        "window_end": utc_text(one.ends) if terms.window != "lifetime" else None,
        **{name: measured_text(amount, terms.measure) for name, amount in amounts.items()},
        "confirmed": one.confirmed,
        "steps": [
            {
                "step": step_text(step, terms),
                "kind": step.kind,
                "threshold": measured_text(step.threshold(terms.limit), terms.measure),
                "fired": place in one.fired,
                **({"model": step.model} if step.model else {}),
            }
            for place, step in enumerate(terms.steps)
        ],
        "forecast": None
        if forecast is None
        else {
            "total": measured_text(forecast.total, terms.measure),
            "limit_at": utc_text(forecast.limit_at),
        },
        "on_unpriced": terms.on_unpriced,
        "on_outage": f"lease:{amount_text(terms.lease)}" if terms.lease else "fail_closed",
    }


def step_document(row: StepRow) -> dict[str, Any]:
    """Return a step that fired for programs."""
    measure = row.terms.measure
    return {
        "tenant": row.tenant.tenant,
        "receipt": f"{row.version}.{row.index}",
        "at": utc_text(row.at),
        "budget": row.terms.name,
        "kind": row.kind,
        "step": row.step,
        "window": window_text(row.tenant.timezone, row.terms.window, row.window),
        "threshold": measured_text(row.threshold, measure),
        "used": measured_text(row.used, measure),
        "measure": measure,
        "currency": row.terms.currency,
        "limit_at": utc_text(row.limit_at),
        "forecast": measured_text(row.forecast, measure) if row.forecast else None,
    }


def default_cap_document(said: DefaultCap) -> dict[str, Any]:
    """Return the default cap: limits by currency, and what holds where none was said."""
    return {
        "waived": said.waived,
        "limits": {name: amount_text(limit) for name, limit in sorted(said.limits.items())},
        "otherwise": str(BUILT_IN),
        "window": "month",
        "by": said.by,
    }


def waiver_document(
    tenant: str, outcome: Outcome, left: Iterable[BudgetStanding]
) -> dict[str, Any]:
    """Return that a tenant has no default cap, with the names of the caps that stay."""
    return {
        "tenant": tenant,
        "status": outcome.status,
        "caps": [one.terms.name for one in left if one.terms.cap],
    }
