"""``tallybook plan`` and ``tallybook subscription``: what tenants are charged for, from when on."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from adapters.cli.output import JsonOption, TenantOption, err, number, out, print_json, table
from adapters.cli.protection_output import ByOption, LimitOption, say, user
from adapters.cli.services import OpenServices
from ledger.application.documents.plans import (
    details_from_json,
    plan_document,
    plans_document,
    subscription_document,
    subscriptions_document,
)
from ledger.application.plans import PlanView
from ledger.application.subscriptions import SubscriptionView
from ledger.domain.billing_account import BillingDetails
from ledger.domain.billing_calendar import Holding
from ledger.domain.errors import InvalidInput
from ledger.domain.plans import plan_to_json

FileArgument = Annotated[str, typer.Argument(help="File of JSON; - reads standard input.")]
NameArgument = Annotated[str, typer.Argument(help="Name of the plan.")]
VersionOption = Annotated[
    int | None, typer.Option("--version", min=1, help="Default: the latest one.")
]
FromOption = Annotated[str, typer.Option("--from", help="First local day; default: today.")]


def register(app: typer.Typer, open_services: OpenServices) -> None:
    """Add the commands to the command line."""
    plan = typer.Typer(help="Plans: what subscribers are charged.", no_args_is_help=True)
    app.add_typer(plan, name="plan")
    _register_plan_changes(plan, open_services)
    _register_plan_reads(plan, open_services)
    subscription = typer.Typer(help="Who is on which plan.", no_args_is_help=True)
    app.add_typer(subscription, name="subscription")
    _register_subscription_changes(subscription, open_services)
    _register_subscription_reads(subscription, open_services)


def _register_plan_changes(plan: typer.Typer, open_services: OpenServices) -> None:
    @plan.command()
    def publish(file: FileArgument, *, by: ByOption = "", json: JsonOption = False) -> None:
        """Publish a plan, or its next version; the same content again is no new version."""
        document = read_text(file)
        with open_services() as services:
            view = services.plans.publish(document, by=user(by))
        if json:
            print_json(plan_document(view))
        else:
            say(f"{view.name} is at version {view.latest}")

    @plan.command()
    def retire(name: NameArgument, *, by: ByOption = "", json: JsonOption = False) -> None:
        """Keep new subscriptions away from a plan; publishing it opens it again."""
        with open_services() as services:
            view = services.plans.retire(name, by=user(by))
        if json:
            print_json(plan_document(view))
        else:
            say(f"{view.name} is retired; who has it keeps it")


def _register_plan_reads(plan: typer.Typer, open_services: OpenServices) -> None:
    @plan.command("list")
    def list_plans(*, json: JsonOption = False) -> None:
        """List plans."""
        with open_services() as services:
            views = services.plans.list()
        if json:
            print_json(plans_document(views))
            return
        columns = (
            ("plan", False),
            ("version", True),
            ("currency", False),
            ("charges", True),
            ("fees", True),
            ("", False),
        )
        out().print(table(columns, map(_cells, views)))

    @plan.command()
    def show(
        name: NameArgument, *, version: VersionOption = None, json: JsonOption = False
    ) -> None:
        """Show a plan's document; `plan publish` takes it again."""
        with open_services() as services:
            view = services.plans.plan(name, version=version)
        if json:
            print_json(plan_document(view))
        else:
            sys.stdout.write(plan_to_json(view.plan).decode() + "\n")


def _cells(view: PlanView) -> tuple[str, ...]:
    plan = view.plan
    return (
        view.name,
        number(view.latest),
        plan.currency,
        number(len(plan.charges)),
        number(len(plan.fees)),
        "retired" if view.retired else "",
    )


def _register_subscription_changes(subscription: typer.Typer, open_services: OpenServices) -> None:
    @subscription.command("set")
    def set_plan(
        plan: NameArgument,
        tenant: TenantOption,
        *,
        version: VersionOption = None,
        from_day: FromOption = "",
        anchor: Annotated[
            str, typer.Option(help="A day on which a period starts; default: the cycle stays.")
        ] = "",
        by: ByOption = "",
        json: JsonOption = False,
    ) -> None:
        """Put a tenant on a plan from a day on; a change in mid-period is prorated by days."""
        first, anchored = read_day(from_day, "/from_day"), read_day(anchor, "/anchor")
        with open_services() as services:
            view = services.subscriptions.subscribe(
                tenant, plan, version=version, from_day=first, anchor=anchored, by=user(by)
            )
        _show(view, json=json)

    @subscription.command()
    def end(
        tenant: TenantOption,
        *,
        from_day: FromOption = "",
        by: ByOption = "",
        json: JsonOption = False,
    ) -> None:
        """Put a tenant at list prices from a day on."""
        first = read_day(from_day, "/from_day")
        with open_services() as services:
            view = services.subscriptions.end(tenant, from_day=first, by=user(by))
        _show(view, json=json)

    @subscription.command()
    def details(
        file: FileArgument, tenant: TenantOption, *, by: ByOption = "", json: JsonOption = False
    ) -> None:
        """Say how a tenant's invoices are made out: buyer, tax, series, payment days."""
        said = details_from_json(read_text(file))
        with open_services() as services:
            view = services.subscriptions.set_details(tenant, said, by=user(by))
        if json:
            print_json(subscription_document(view))
            return
        say_details(view.details)
        _warn(view)


def _register_subscription_reads(subscription: typer.Typer, open_services: OpenServices) -> None:
    @subscription.command("show")
    def show_subscription(tenant: TenantOption, *, json: JsonOption = False) -> None:
        """Show a tenant's plans by day, its billing cycles and details."""
        with open_services() as services:
            view = services.subscriptions.show(tenant)
        _show(view, json=json)

    @subscription.command("list")
    def list_subscriptions(
        *,
        plan: Annotated[str | None, typer.Option(help="Only tenants that are or come on it.")] = (
            None
        ),
        limit: LimitOption = 50,
        json: JsonOption = False,
    ) -> None:
        """List tenants with the plan that they are on today, and what comes next."""
        with open_services() as services:
            page = services.subscriptions.page(plan=plan, limit=limit)
        document = subscriptions_document(page.rows, more=page.following is not None)
        if json:
            print_json(document)
            return
        columns = ("tenant", "plan", "since", "then", "closed before")
        rows = map(_row, page.rows)
        out().print(table([(name, False) for name in columns], rows))
        if document["more"]:
            say("there are more; see --limit")


def _row(view: SubscriptionView) -> tuple[str, ...]:
    current = view.current
    later = [one for one in view.holdings if current is None or one.from_day > current.from_day]
    return (
        view.tenant,
        "list prices" if current is None else _named(current),
        "-" if current is None else str(current.from_day),
        ", ".join(f"{_named(one)} from {one.from_day}" for one in later) or "-",
        "-" if view.closed_before is None else str(view.closed_before),
    )


def _named(holding: Holding) -> str:
    return f"{holding.plan} {holding.version}" if holding.plan else "list prices"


def _show(view: SubscriptionView, *, json: bool) -> None:
    document = subscription_document(view)
    if json:
        print_json(document)
        return
    if not view.holdings:
        say(f"{view.tenant} has no subscription: calendar months at list prices")
    else:
        out().print(table((("from", False), ("plan", False)), map(_holding, document["plans"])))
    for cycle in document["cycles"]:
        unit = f"{cycle.get('count', 1)} {cycle.get('unit', 'month')}"
        say(f"periods of {unit} from {cycle['from_day']} on, anchored on {cycle['anchor']}")
    if view.closed_before is not None:
        say(f"closed before {view.closed_before}")
    if view.rated_again:
        say(f"{number(view.rated_again)} events are charged otherwise now")
    say_details(view.details)
    _warn(view)


def _warn(view: SubscriptionView) -> None:
    for name in view.unknown_taxes:
        err().print(
            f"no plan of {view.tenant} has a charge or fee {name!r}: its tax in line_taxes counts"
            " for nothing yet",
            markup=False,
        )


def say_details(details: BillingDetails) -> None:
    """Print how invoices are made out, as far as anything is said."""
    party = details.party
    if party.name or party.country:
        say("party " + ", ".join(one for one in (party.name, *party.address, party.country) if one))
    taxes = [("tax", details.tax)] if details.tax is not None else []
    taxes += [(f"tax of {name}", tax) for name, tax in sorted(details.line_taxes.items())]
    for what, tax in taxes:
        say(f"{what}: {tax.category.value} {number(tax.percent)} %")
    if details.series:
        say(f"series {details.series}")
    if details.payment_days is not None:
        say(f"payment within {number(details.payment_days)} days")
    for one in details.displays:
        say(f"totals in {one.currency} too, at {number(one.rate)} {one.source}".rstrip())


def _holding(held: dict[str, Any]) -> tuple[str, str]:
    plan = f"{held['plan']} version {held['version']}" if held["plan"] else "list prices"
    return held["from_day"], plan


def read_text(file: str) -> str:
    """Return what a file or, for ``-``, standard input says.

    Raises:
        InvalidInput: ``unreadable_file``.
    """
    try:
        if file == "-":
            return sys.stdin.read()
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}", code="unreadable_file") from None


def read_day(value: str, pointer: str) -> date | None:
    """Return a day; None for "".

    Raises:
        InvalidInput: ``invalid_day``.
    """
    if not value:
        return None
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise InvalidInput(
            f"{value[:64]!r} is not a day such as 2026-12-01", code="invalid_day", pointer=pointer
        ) from None
