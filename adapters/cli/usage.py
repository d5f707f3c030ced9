"""``tallybook usage``: what a tenant used, grouped, from the daily rollups.

The rollups are brought up to date first, so the numbers are never silently old.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from typing import Annotated

import typer
from rich.table import Table

from adapters.cli.output import JsonOption, TenantOption, err, number, out, print_json, table
from adapters.cli.services import OpenServices
from ledger.application.documents.usage import usage_document
from ledger.application.ports import TenantRow
from ledger.application.reads import GROUPINGS, UsageRow
from ledger.domain.errors import InvalidInput
from ledger.domain.money import AMOUNT_DECIMALS, RoundingMode, round_to

_SHOWN_DECIMALS = 6


def register(app: typer.Typer, open_services: OpenServices) -> None:
    """Add ``usage``."""

    @app.command("usage")
    def command(
        *,
        tenant: TenantOption,
        first: Annotated[
            str | None, typer.Option("--from", help="First day, YYYY-MM-DD in the tenant's zone.")
        ] = None,
        to: Annotated[
            str | None, typer.Option("--to", help="The day after the last one, YYYY-MM-DD.")
        ] = None,
        by: Annotated[
            str, typer.Option("--by", help=f"Grouping, some of {','.join(GROUPINGS)}.")
        ] = "model,meter",
        catch_up: Annotated[
            bool,
            typer.Option(
                "--catch-up/--no-catch-up", help="Count everything in the log before answering."
            ),
        ] = True,
        json: JsonOption = False,
    ) -> None:
        """Show quantities, charge and provider cost by model, meter, day, user or project."""
        groups = [name for name in (part.strip() for part in by.split(",")) if name]
        start, end = _day(first, "--from"), _day(to, "--to")
        with open_services() as services:
            reads = services.reads
            row = reads.tenant(tenant)
            if catch_up:
                services.projections.catch_up()
            lag = reads.rollup_lag()
            rows = reads.usage(tenant=tenant, start=start, end=end, by=groups)
        if json:
            print_json(usage_document(row, start, end, groups, rows, lag))
            return
        if rows:
            _show(row, groups, rows)
        else:
            out().print(f"no usage of {tenant}{_range(start, end)}", markup=False)
        if lag and not catch_up:
            err().print(f"these numbers are {lag:,} log positions behind; leave out --no-catch-up")


def _day(given: str | None, option: str) -> date | None:
    if given is None:
        return None
    try:
        return date.fromisoformat(given)
    except ValueError:
        raise InvalidInput(
            f"{option} {given[:64]!r} is no day; give one as YYYY-MM-DD", code="invalid_day"
        ) from None


def _range(start: date | None, end: date | None) -> str:
    return (f" from {start}" if start else "") + (f" before {end}" if end else "")


def _show(tenant: TenantRow, groups: Sequence[str], rows: Sequence[UsageRow]) -> None:
    unpriced = any(row.unpriced for row in rows)
    currencies = {name for row in rows for name in row.costs}
    # Three columns of names and the numbers do not fit a terminal side by side.
    joined = len(groups) >= 3
    columns = [(", ".join(groups), False)] if joined else [(name, False) for name in groups]
    columns.append(("quantity", True))
    if unpriced:
        columns.append(("unpriced", True))
    cost = f"cost {currencies.copy().pop()}" if len(currencies) == 1 else "provider cost"
    columns += [(f"charge {tenant.currency}", True), (cost, True)]

    def cells(row: UsageRow) -> list[str]:
        names = [value or "-" for value in row.group]
        shown = [", ".join(names)] if joined else names
        shown.append(number(row.quantity))
        if unpriced:
            shown.append(number(row.unpriced))
        costs = costs_of(row, named=len(currencies) != 1)
        # An unknown price is not zero.
        known = not row.unpriced or row.unpriced != row.quantity
        return [*shown, amount(row.charge) if known else "unpriced", costs]

    out().print(folded(table(columns, map(cells, rows)), whole=("day",)))
    note_rounding([row.charge for row in rows] + [c for row in rows for c in row.costs.values()])


def folded(shown: Table, *, whole: Sequence[str] = ()) -> Table:
    """Return a table whose long ids continue on the next line instead of being cut.

    Args:
        shown: the table.
        whole: headings of columns that stay on one line.
    """
    for column in shown.columns:
        column.overflow = "fold"
        if column.header in whole:
            column.no_wrap = True
    return shown


def note_rounding(amounts: Iterable[Decimal]) -> None:
    """Tell what ``~`` means, where it was printed."""
    if any(amount(value).startswith("~") for value in amounts):
        err().print(f"~ is rounded to {_SHOWN_DECIMALS} decimals; --json has every digit")


def costs_of(row: UsageRow, *, named: bool) -> str:
    """Return a group's provider costs for people, a line for each currency."""
    costs = row.costs.items()
    return "\n".join(amount(cost) + (f" {name}" if named else "") for name, cost in costs) or "-"


def amount(value: Decimal) -> str:
    """Return an unrounded amount for people, cut to six decimals half-even and marked if cut."""
    shown = round_to(value, _SHOWN_DECIMALS, RoundingMode.HALF_EVEN)
    exact = shown == round_to(value, AMOUNT_DECIMALS, RoundingMode.HALF_EVEN)
    return number(shown, _SHOWN_DECIMALS) if exact else "~" + number(shown, _SHOWN_DECIMALS)
