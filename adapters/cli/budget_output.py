"""How budgets, the steps that fired and prepaid credit are shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from adapters.cli.output import number, table
from adapters.cli.protection_output import measured, moment, money
from ledger.application.documents.budgets import filter_text, kind_of, scope_text, step_text
from ledger.application.documents.credits import free_of
from ledger.application.protection_reads import BudgetStanding, CreditStanding, StepRow
from ledger.domain.meters import QUANTITY_DECIMALS
from ledger.domain.money import AMOUNT_DECIMALS, RoundingMode, from_scaled, minor_units, round_to
from ledger.domain.windows import window_text


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
                money(free_of(standing, one)),
                filter_text(one.filter) or "everything",
            )
            for one in standing.grants
        ),
    )
