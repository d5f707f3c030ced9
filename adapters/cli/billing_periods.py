"""``tallybook period``: close billing periods, see where they are, open one again."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from adapters.cli.output import JsonOption, TenantOption, number, out, print_json, table
from adapters.cli.plans import read_day
from adapters.cli.protection_output import (
    AnyTenantOption,
    ByOption,
    LimitOption,
    NeededReasonOption,
    say,
    user,
    warn,
)
from adapters.cli.services import OpenServices
from ledger.application.billing_close import MAX_GRACE_HOURS
from ledger.application.documents.invoices import (
    close_document,
    period_document,
    periods_document,
)
from ledger.application.period_lists import GRACE_HOURS, PeriodFilter, PeriodState
from ledger.domain.errors import InvalidInput


def register(app: typer.Typer, open_services: OpenServices) -> None:
    """Add the commands to the command line."""
    period = typer.Typer(help="Billing periods and their close.", no_args_is_help=True)
    app.add_typer(period, name="period")
    _register_changes(period, open_services)
    _register_status(period, open_services)


def _register_changes(period: typer.Typer, open_services: OpenServices) -> None:
    @period.command()
    def close(
        *,
        tenant: AnyTenantOption = None,
        grace_hours: Annotated[
            int, typer.Option(min=0, max=MAX_GRACE_HOURS, help="After the end of a period.")
        ] = GRACE_HOURS,
        finalize: Annotated[
            bool, typer.Option("--finalize", help="Give all drafts their numbers too.")
        ] = False,
        by: ByOption = "",
        json: JsonOption = False,
    ) -> None:
        """Close every period whose grace is over; interrupted, run it again."""
        with open_services() as services:
            who = user(by)
            report = services.periods.close(by=who, tenant=tenant, grace_hours=grace_hours)
            finalized = services.invoicing.finalize_all(by=who, tenant=tenant) if finalize else 0
        if json:
            print_json(close_document(report, finalized=finalized))
            return
        say(
            f"{number(report.periods)} periods closed, {number(len(report.drafts))} invoices"
            f" drafted{f', {number(finalized)} made final' if finalize else ''}"
        )
        warn(report.warnings)

    @period.command()
    def reopen(
        first_day: Annotated[str, typer.Argument(help="First day of the latest closed period.")],
        tenant: TenantOption,
        *,
        reason: NeededReasonOption = "",
        by: ByOption = "",
        json: JsonOption = False,
    ) -> None:
        """Ask to open the latest closed period again; the second of two people opens it."""
        day = read_day(first_day, "/first_day")
        if day is None:
            raise InvalidInput("give the period's first day", code="invalid_day")
        with open_services() as services:
            status = services.periods.reopen(tenant, first_day=day, by=user(by), reason=reason)
        if json:
            print_json(period_document(status))
        elif status.state == "closed":
            say("asked; a second person has to say the same within 7 days")
        else:
            say(f"the period from {status.first_day} on is {status.state}")


def _register_status(period: typer.Typer, open_services: OpenServices) -> None:
    def show(only: PeriodFilter, limit: int, *, json: bool) -> None:
        with open_services() as services:
            page = services.periods.page(only, limit=limit)
        document = periods_document(page.rows, page.warnings, more=page.following is not None)
        if json:
            print_json(document)
            return
        _show(document)
        if document["more"]:
            say("there are more; see --limit")
        warn(page.warnings)

    @period.command()
    def status(
        *, tenant: AnyTenantOption = None, limit: LimitOption = 1000, json: JsonOption = False
    ) -> None:
        """Show closed periods and the one that is next, of a tenant or of all."""
        show(PeriodFilter(tenant=tenant), limit, json=json)

    @period.command("list")
    def list_periods(
        *,
        tenant: AnyTenantOption = None,
        state: Annotated[PeriodState | None, typer.Option(help="Only those there.")] = None,
        overdue: Annotated[
            bool, typer.Option("--overdue", help="Only those past their grace, not closed.")
        ] = False,
        limit: LimitOption = 50,
        json: JsonOption = False,
    ) -> None:
        """List periods of all tenants, or of one: open, due, closing, closed, reopened."""
        show(PeriodFilter(tenant=tenant, state=state, overdue=overdue), limit, json=json)


def _show(document: dict[str, Any]) -> None:
    columns = (
        ("tenant", False),
        ("from", False),
        ("to before", False),
        ("state", False),
        ("grace ends", False),
        ("invoice", False),
    )
    rows = (
        (
            one["tenant"],
            one["first_day"],
            one["after_day"],
            one["state"] + (", overdue" if one["overdue"] else ""),
            (one["closes_at"] or "-").replace(":00Z", "Z"),
            one["invoice"] or "-",
        )
        for one in document["periods"]
    )
    out().print(table(columns, rows))
