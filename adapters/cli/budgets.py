"""``tallybook budgets``: caps that stop, alerts that tell, and where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated
from uuid import uuid4

import typer

from adapters.cli.budget_output import (
    budgets_table,
    ladder_table,
    steps_table,
)
from adapters.cli.output import JsonOption, TenantOption, err, out, print_json
from adapters.cli.protection_output import (
    AnyTenantOption,
    ByOption,
    LimitOption,
    ReasonOption,
    SinceOption,
    document,
    measured,
    moment,
    money,
    say,
    since_us,
    user,
)
from adapters.cli.services import OpenServices
from ledger.application.documents.amounts import amount_text
from ledger.application.documents.budgets import (
    budget_document,
    default_cap_document,
    kind_of,
    step_document,
    waiver_document,
)
from ledger.application.protection_reads import BudgetStanding
from ledger.domain.budgets import STEP_KINDS
from ledger.domain.default_cap import BUILT_IN, DefaultCap
from ledger.domain.errors import InvalidInput

NameArgument = Annotated[str, typer.Argument(help="Name of the budget.", metavar="NAME")]
_STOPS = ("confirm", "stop")


def register(app: typer.Typer, open_services: OpenServices) -> None:
    """Add the commands to the command line."""
    budgets = typer.Typer(
        help="Caps, which stop calls, and alerts, which tell.", no_args_is_help=True
    )
    app.add_typer(budgets, name="budgets")
    _register_set(budgets, open_services)
    _register_questions(budgets, open_services)
    _register_states(budgets, open_services)
    _register_confirm(budgets, open_services)
    _register_steps(budgets, open_services)
    _register_default(budgets, open_services)


def _register_set(budgets: typer.Typer, open_services: OpenServices) -> None:
    @budgets.command(name="set")
    def set_(
        name: NameArgument,
        tenant: TenantOption,
        *,
        cap: Annotated[str, typer.Option("--cap", help="Limit that stops calls.")] = "",
        alert: Annotated[str, typer.Option("--alert", help="Limit that only tells.")] = "",
        scope: Annotated[
            str, typer.Option(help="tenant, or such as user=u1, project=p, label:team=blue.")
        ] = "",
        window: Annotated[
            str, typer.Option(help="hour, day, week, month, rolling:24h, lifetime.")
        ] = "",
        measure: Annotated[
            str, typer.Option(help="charge, cost, or a meter such as tokens.output.")
        ] = "",
        currency: Annotated[str, typer.Option(help="Of a cost.")] = "",
        provider: Annotated[
            list[str] | None, typer.Option("--provider", help="Count only these; PATTERN*.")
        ] = None,
        model: Annotated[list[str] | None, typer.Option("--model", help="Likewise.")] = None,
        meter: Annotated[list[str] | None, typer.Option("--meter", help="Likewise.")] = None,
        byok: Annotated[
            str, typer.Option(help="Calls with own provider keys: include or exclude.")
        ] = "",
        step: Annotated[
            list[str] | None,
            typer.Option(
                "--step",
                help="inform@50%, warn, projected, downgrade@95%=MODEL, confirm@80, stop.",
            ),
        ] = None,
        on_unpriced: Annotated[
            str, typer.Option(help="Calls without a price: deny or allow.")
        ] = "",
        on_outage: Annotated[str, typer.Option(help="fail_closed or lease:AMOUNT.")] = "",
        by: ByOption = "",
        json: JsonOption = False,
    ) -> None:
        """Set a cap or an alert; limits and steps change at once, counters stay."""
        filter_ = document(providers=provider, models=model, meters=meter, byok=byok)
        terms = document(
            scope=scope,
            window=window,
            measure=measure,
            currency=currency,
            filter=filter_,
            on_unpriced=on_unpriced,
            on_outage=on_outage,
        )
        with open_services() as services:
            standing = services.budgets.set(
                {**terms, **_ladder(cap, alert, step or ())},
                tenant=tenant,
                name=name,
                by=user(by),
            )
        _show_one(standing, json=json)


def _ladder(cap: str, alert: str, steps: Sequence[str]) -> dict[str, object]:
    """Return limit and steps as a document.

    Raises:
        InvalidInput: ``invalid_arguments``, ``invalid_steps``.
    """
    if bool(cap) == bool(alert):
        raise InvalidInput(
            "give --cap AMOUNT to stop calls or --alert AMOUNT to be told, and not both",
            code="invalid_arguments",
        )
    if not steps:
        return {"cap": cap} if cap else {"alert": alert}
    read = [read_step(one) for one in steps]
    stops = [one["kind"] for one in read if one["kind"] in _STOPS]
    if cap and not stops:
        raise InvalidInput(
            "a cap has a step that stops; add --step stop or --step confirm, or say --alert",
            code="invalid_steps",
        )
    if alert and stops:
        raise InvalidInput(
            f"an alert only tells, and {stops[0]} is a step of caps; say --cap",
            code="invalid_steps",
        )
    return {"limit": cap or alert, "steps": read}


def read_step(text: str) -> dict[str, object]:
    """Return a step as a document: ``kind[@80%|@AMOUNT][=MODEL]``.

    Raises:
        InvalidInput: ``invalid_steps``: no step is of that kind, or the threshold is empty.
    """
    place, equals, model = text.partition("=")
    kind, sign, at = place.partition("@")
    if kind not in STEP_KINDS or (sign and not at) or (equals and not model):
        raise InvalidInput(
            f"{text[:80]!r} is no step; give KIND, KIND@80% or KIND@AMOUNT, with =MODEL for"
            f" downgrade, where KIND is one of {', '.join(STEP_KINDS)}",
            code="invalid_steps",
        )
    step: dict[str, object] = {"kind": kind}
    if at.endswith("%"):
        step["percent"] = at[:-1]
    elif at:
        step["amount"] = at
    if model:
        step["model"] = model
    return step


def _register_questions(budgets: typer.Typer, open_services: OpenServices) -> None:
    @budgets.command(name="list")
    def list_(
        *,
        tenant: AnyTenantOption = None,
        ended: Annotated[bool, typer.Option("--ended", help="Also those that ended.")] = False,
        json: JsonOption = False,
    ) -> None:
        """List budgets with what is spent, held and available in their current windows."""
        with open_services() as services:
            found = services.budgets.list(tenant=tenant, ended=ended)
        if json:
            print_json([budget_document(one) for one in found])
        elif found:
            out().print(budgets_table(found))
        else:
            err().print(
                "no budgets: `tallybook budgets set` makes one, and the first authorization of a"
                " tenant that never had a cap makes the default one"
            )

    @budgets.command()
    def show(name: NameArgument, tenant: TenantOption, *, json: JsonOption = False) -> None:
        """Show one budget and its ladder."""
        with open_services() as services:
            found = services.budgets.show(name, tenant=tenant)
        _show_one(found, json=json)


def _show_one(standing: BudgetStanding, *, json: bool) -> None:
    if json:
        print_json(budget_document(standing))
        return
    out().print(budgets_table([standing]))
    out().print()
    out().print(ladder_table(standing))
    terms = standing.terms
    if terms.cap:
        outage = f"lease {money(terms.lease)}" if terms.lease else "fail closed"
        say(f"\nwithout a price: {terms.on_unpriced}; while the ledger is out: {outage}")


def _register_states(budgets: typer.Typer, open_services: OpenServices) -> None:
    @budgets.command()
    def close(
        name: NameArgument, tenant: TenantOption, *, by: ByOption = "", json: JsonOption = False
    ) -> None:
        """Close a cap: it refuses every call that it applies to."""
        with open_services() as services:
            standing = services.budgets.close(name, tenant=tenant, by=user(by))
        _show_state(standing, "is closed and refuses every call that it applies to", json=json)

    @budgets.command()
    def reopen(
        name: NameArgument, tenant: TenantOption, *, by: ByOption = "", json: JsonOption = False
    ) -> None:
        """Open a closed cap; its counters went on meanwhile."""
        with open_services() as services:
            standing = services.budgets.reopen(name, tenant=tenant, by=user(by))
        _show_state(standing, "is open", json=json)

    @budgets.command()
    def end(
        name: NameArgument, tenant: TenantOption, *, by: ByOption = "", json: JsonOption = False
    ) -> None:
        """End a budget: it applies to nothing from now on."""
        with open_services() as services:
            standing = services.budgets.end(name, tenant=tenant, by=user(by))
        _show_state(standing, "is ended and applies to nothing", json=json)

    @budgets.command()
    def none(tenant: TenantOption, *, by: ByOption = "", json: JsonOption = False) -> None:
        """Say that a tenant has no default cap; one that it got is ended."""
        with open_services() as services:
            outcome = services.budgets.waive(tenant=tenant, by=user(by))
            left = services.budgets.list(tenant=tenant)
        if json:
            print_json(waiver_document(tenant, outcome, left))
            return
        caps = [one.terms.name for one in left if one.terms.cap]
        again = " already" if outcome.status == "unchanged" else ""
        say(f"{tenant} has no default cap{again}")
        if caps:
            say(f"its own caps stay: {', '.join(caps)}; `tallybook budgets end` ends one")


def _show_state(standing: BudgetStanding, what: str, *, json: bool) -> None:
    if json:
        print_json(budget_document(standing))
    else:
        say(f"{kind_of(standing.terms)} {standing.terms.name} of {standing.tenant.tenant} {what}")


def _register_confirm(budgets: typer.Typer, open_services: OpenServices) -> None:
    @budgets.command()
    def confirm(
        name: NameArgument,
        tenant: TenantOption,
        ceiling: Annotated[
            str, typer.Option("--ceiling", help="New ceiling of the current window.")
        ],
        *,
        id: Annotated[
            str, typer.Option("--id", help="Of the confirmation; the same again is once.")
        ] = "",
        until: Annotated[
            str, typer.Option("--until", help="Time with an offset; default: the window's end.")
        ] = "",
        by: ByOption = "",
        reason: ReasonOption = "",
        json: JsonOption = False,
    ) -> None:
        """Let a budget's current window pass its confirm step, up to a ceiling."""
        asked = document(
            id=id or f"cli-{uuid4()}", ceiling=ceiling, until=until, by=user(by), reason=reason
        )
        with open_services() as services:
            standing = services.budgets.confirm(asked, tenant=tenant, name=name)
        if json:
            print_json(budget_document(standing))
            return
        terms = standing.terms
        say(
            f"{terms.name} lets pass up to"
            f" {measured(standing.ceiling, terms.measure, terms.currency)} until"
            f" {until or moment(standing.ends, standing.tenant.timezone)};"
            f" {measured(standing.available, terms.measure, terms.currency)} available"
        )


def _register_steps(budgets: typer.Typer, open_services: OpenServices) -> None:
    @budgets.command()
    def steps(
        tenant: TenantOption,
        *,
        name: Annotated[str, typer.Option("--budget", help="Only of this budget.")] = "",
        since: SinceOption = "",
        limit: LimitOption = 50,
        json: JsonOption = False,
    ) -> None:
        """List the steps of budgets that fired, newest first."""
        start = since_us(since)
        with open_services() as services:
            found = services.budgets.steps(
                tenant=tenant, name=name or None, since=start, limit=limit
            )
        if json:
            print_json([step_document(one) for one in found])
        elif found:
            out().print(steps_table(found))
        else:
            err().print("no step fired")


def _register_default(budgets: typer.Typer, open_services: OpenServices) -> None:
    default = typer.Typer(
        help="The cap that a tenant gets who never had one.", no_args_is_help=True
    )
    budgets.add_typer(default, name="default")

    @default.command(name="set")
    def set_(
        amount: Annotated[str, typer.Argument(help="Charge a month.")],
        *,
        currency: Annotated[str, typer.Option(help="Of the tenants' ledgers.")] = "USD",
        by: ByOption = "",
        json: JsonOption = False,
    ) -> None:
        """Set the default cap of tenants in one currency."""
        with open_services() as services:
            said = services.policies.set_default_cap(amount, currency=currency, by=user(by))
        _show_default(said, json=json)

    @default.command()
    def none(*, by: ByOption = "", json: JsonOption = False) -> None:
        """Say that tenants get no default cap."""
        with open_services() as services:
            said = services.policies.waive_default_cap(by=user(by))
        _show_default(said, json=json)

    @default.command()
    def show(*, json: JsonOption = False) -> None:
        """Show the default cap."""
        with open_services() as services:
            said = services.policies.default_cap()
        _show_default(said, json=json)


def _show_default(said: DefaultCap, *, json: bool) -> None:
    if json:
        print_json(default_cap_document(said))
        return
    if said.waived:
        say(f"none: tenants get no default cap, said {said.by}")
        return
    for currency, limit in sorted(said.limits.items()):
        say(f"{amount_text(limit)} {currency} a month, said {said.by}")
    say(
        f"{BUILT_IN} a month in {'other' if said.limits else 'all'} currencies"
        f" ({100 * BUILT_IN} where there are no cents)"
    )
