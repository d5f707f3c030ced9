"""How budgets, the steps that fired and prepaid credit are shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from adapters.cli.output import number, table
from adapters.cli.protection_output import (
    amount_text,
    measured,
    measured_text,
    moment,
    money,
    utc_text,
)
from ledger.application.protection_reads import BudgetStanding, CreditStanding, StepRow
from ledger.domain.budgets import BudgetTerms, Filter, Step
from ledger.domain.credits import Grant
from ledger.domain.meters import QUANTITY_DECIMALS
from ledger.domain.money import (
    AMOUNT_DECIMALS,
    RoundingMode,
    from_scaled,
    minor_units,
    round_to,
)
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


def budgets_table(standings: Iterable[BudgetStanding]) -> Any:
    """Return budgets as a table; spent, held and available are told apart."""
    listed = list(standings)
    many = len({one.tenant.tenant for one in listed}) > 1
    columns = (
        ("budget", False),
        ("what", False),
        ("limit", True),
        ("spent", True),
        ("held", True),
        ("available", True),
        ("state", False),
    )
    return table(columns, (_cells(one, many=many) for one in listed))


def _cells(one: BudgetStanding, *, many: bool) -> tuple[str, ...]:
    terms = one.terms
    measure = "" if terms.measure == "charge" else f" of {terms.measure}"
    window = window_text(one.tenant.timezone, terms.window, one.window)
    scope = "" if terms.scope == "tenant" else scope_text(terms)
    what = (f"{kind_of(terms)}{measure}", window, scope, filter_text(terms.filter))
    fired = ", ".join(step_text(step, terms) for step in one.steps_fired())
    # Worth a line only where the limit will be passed and is not yet.
    passes = one.forecast is not None and one.spent < terms.limit <= one.forecast.total
    forecast = _forecast(one) if passes else "-"
    state = (
        terms.state + (", confirmed" if one.confirmed else ""),
        f"fired {fired}" if fired else "",
        f"forecast {forecast}" if forecast != "-" else "",
    )
    return (
        f"{one.tenant.tenant}: {terms.name}" if many else terms.name,
        "; ".join(part for part in what if part),
        measured(terms.limit, terms.measure, terms.currency),
        measured(one.spent, terms.measure, ""),
        measured(one.held, terms.measure, ""),
        measured(one.available, terms.measure, ""),
        "; ".join(part for part in state if part),
    )


def _forecast(one: BudgetStanding) -> str:
    if one.forecast is None:
        return "-"
    total = from_scaled(
        one.forecast.total, AMOUNT_DECIMALS if one.terms.is_money else QUANTITY_DECIMALS
    )
    # An estimate needs no eighteen decimals; programs get them.
    decimals = minor_units(one.terms.currency) if one.terms.is_money else 0
    shown = number(round_to(total, decimals, RoundingMode.HALF_EVEN), decimals)
    if one.forecast.total < one.terms.limit:
        return shown
    return f"{shown}, limit {moment(one.forecast.limit_at, one.tenant.timezone)}"


def ladder_table(one: BudgetStanding) -> Any:
    """Return a budget's ladder as a table."""
    terms = one.terms
    return table(
        (("step", False), ("at", True), ("fired", False)),
        (
            (
                step_text(step, terms),
                measured(step.threshold(terms.limit), terms.measure, terms.currency),
                "yes" if place in one.fired else "",
            )
            for place, step in enumerate(terms.steps)
        ),
    )


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


def steps_table(rows: Iterable[StepRow]) -> Any:
    """Return steps that fired as a table."""
    columns = (
        ("when", False),
        ("budget", False),
        ("step", False),
        ("at", True),
        ("used", True),
        ("window", False),
        ("limit passed", False),
    )
    return table(
        columns,
        (
            (
                moment(row.at, row.tenant.timezone),
                row.terms.name,
                row.kind,
                measured(row.threshold, row.terms.measure, row.terms.currency),
                measured(row.used, row.terms.measure, ""),
                window_text(row.tenant.timezone, row.terms.window, row.window),
                moment(row.limit_at, row.tenant.timezone),
            )
            for row in rows
        ),
    )


# -- credit ---------------------------------------------------------------------------


def credit_document(standing: CreditStanding) -> dict[str, Any]:
    """Return a tenant's credit for programs; amounts are in its currency."""
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
                "free": amount_text(_free(standing, one)),
                "filter": filter_text(one.filter),
            }
            for one in standing.grants
        ],
    }


def grants_table(standing: CreditStanding) -> Any:
    """Return a tenant's grants as a table."""
    columns = (
        ("grant", False),
        ("kind", False),
        ("priority", True),
        ("expires", False),
        ("amount", True),
        ("burned", True),
        ("withdrawn", True),
        ("lapsed", True),
        ("held", True),
        ("free", True),
        ("pays", False),
    )
    return table(
        columns,
        (
            (
                one.id,
                one.kind,
                str(one.priority),
                moment(one.expires_at, standing.tenant.timezone),
                money(one.amount),
                money(one.burned),
                money(one.withdrawn),
                money(one.lapsed),
                money(one.held),
                money(_free(standing, one)),
                filter_text(one.filter) or "everything",
            )
            for one in standing.grants
        ),
    )


def _free(standing: CreditStanding, grant: Grant) -> int:
    """Return what is free of a grant; nothing once its time is over."""
    return 0 if standing.over(grant) else grant.free
