"""``tallybook credits``: prepaid credit of tenants."""

from __future__ import annotations

from typing import Annotated
from uuid import uuid4

import typer

from adapters.cli.budget_output import grants_table
from adapters.cli.output import JsonOption, TenantOption, err, out, print_json
from adapters.cli.protection_output import (
    ByOption,
    ReasonOption,
    document,
    measured,
    say,
    user,
)
from adapters.cli.services import OpenServices
from ledger.application.documents.credits import (
    credit_document,
    grant_document,
    policy_document,
    withdrawal_document,
)
from ledger.domain.commands import Outcome
from ledger.domain.protection_entries import CreditWithdrawn

IdOption = Annotated[str, typer.Option("--id", help="The same again is once; default: a new one.")]
GrantOption = Annotated[str, typer.Option("--grant", help="Id of the grant.")]


def register(app: typer.Typer, open_services: OpenServices) -> None:
    """Add the commands to the command line."""
    credits = typer.Typer(help="Prepaid credit.", no_args_is_help=True)
    app.add_typer(credits, name="credits")
    _register_grant(credits, open_services)
    _register_withdrawals(credits, open_services)
    _register_policy(credits, open_services)
    _register_list(credits, open_services)


def _register_grant(credits: typer.Typer, open_services: OpenServices) -> None:
    @credits.command()
    def grant(
        amount: Annotated[str, typer.Argument(help="In the tenant's currency.")],
        tenant: TenantOption,
        *,
        id: IdOption = "",
        currency: Annotated[str, typer.Option(help="Checked against the tenant's.")] = "",
        kind: Annotated[str, typer.Option(help="paid or promotional.")] = "paid",
        priority: Annotated[int, typer.Option(min=0, help="Lower burns first.")] = 100,
        expires: Annotated[str, typer.Option("--expires", help="Time with an offset.")] = "",
        provider: Annotated[
            list[str] | None, typer.Option("--provider", help="Pays only these; PATTERN*.")
        ] = None,
        model: Annotated[list[str] | None, typer.Option("--model", help="Likewise.")] = None,
        meter: Annotated[list[str] | None, typer.Option("--meter", help="Likewise.")] = None,
        by: ByOption = "",
        reason: ReasonOption = "",
        json: JsonOption = False,
    ) -> None:
        """Give a tenant credit."""
        given = document(
            id=id or f"cli-{uuid4()}",
            amount=amount,
            currency=currency,
            kind=kind,
            expires_at=expires,
            filter=document(providers=provider, models=model, meters=meter),
            by=user(by),
            reason=reason,
        )
        given["priority"] = priority
        with open_services() as services:
            outcome = services.credits.grant(given, tenant=tenant)
            standing = services.credits.list(tenant=tenant)
        if json:
            print_json(grant_document(outcome, given["id"], standing))
            return
        again = " already" if outcome.status == "duplicate" else ""
        say(
            f"granted{again} as {given['id']};"
            f" {measured(standing.free, 'charge', standing.tenant.currency)} free"
        )


def _register_withdrawals(credits: typer.Typer, open_services: OpenServices) -> None:
    @credits.command()
    def refund(
        amount: Annotated[str, typer.Argument(help="Or: available.")],
        tenant: TenantOption,
        grant: GrantOption,
        *,
        id: IdOption = "",
        by: ByOption = "",
        reason: ReasonOption = "",
        json: JsonOption = False,
    ) -> None:
        """Take free credit out of a paid grant."""
        asked = document(
            id=id or f"cli-{uuid4()}", grant=grant, amount=amount, by=user(by), reason=reason
        )
        with open_services() as services:
            done = services.credits.refund(asked, tenant=tenant)
            currency = services.reads.tenant(tenant).currency
        _show_withdrawal(done, f"refunded to {tenant}", currency, json=json)

    @credits.command()
    def transfer(
        amount: Annotated[str, typer.Argument(help="Or: available.")],
        tenant: TenantOption,
        grant: GrantOption,
        to: Annotated[str, typer.Option("--to", help="Tenant that gets it.")],
        *,
        id: IdOption = "",
        by: ByOption = "",
        reason: ReasonOption = "",
        json: JsonOption = False,
    ) -> None:
        """Pass free credit on to another tenant; with its --id again completes a broken one."""
        asked = document(
            id=id or f"cli-{uuid4()}",
            grant=grant,
            amount=amount,
            by=user(by),
            reason=reason,
        )
        asked["to"] = to
        # Said before it runs: whoever is interrupted needs the id to complete it.
        err().print(f"transfer {asked['id']}", markup=False, style="dim")
        with open_services() as services:
            done = services.credits.transfer(asked, tenant=tenant)
            currency = services.reads.tenant(tenant).currency
        _show_withdrawal(done, f"passed from {tenant} to {to}", currency, json=json)


def _show_withdrawal(done: CreditWithdrawn, what: str, currency: str, *, json: bool) -> None:
    if json:
        print_json(withdrawal_document(done, currency))
    else:
        say(f"{measured(done.amount, 'charge', currency)} {what}, as {done.id}")


def _register_policy(credits: typer.Typer, open_services: OpenServices) -> None:
    @credits.command()
    def require(tenant: TenantOption, *, by: ByOption = "", json: JsonOption = False) -> None:
        """Let holds need credit for their whole amount."""
        with open_services() as services:
            outcome = services.credits.policy(tenant=tenant, required=True, by=user(by))
        _show_policy(tenant, outcome, required=True, json=json)

    @credits.command()
    def optional(tenant: TenantOption, *, by: ByOption = "", json: JsonOption = False) -> None:
        """Let holds reserve what credit there is, and pass without."""
        with open_services() as services:
            outcome = services.credits.policy(tenant=tenant, required=False, by=user(by))
        _show_policy(tenant, outcome, required=False, json=json)


def _show_policy(tenant: str, outcome: Outcome, *, required: bool, json: bool) -> None:
    if json:
        print_json(policy_document(tenant, outcome, required=required))
    else:
        again = " already" if outcome.status == "unchanged" else ""
        say(f"credit of {tenant} is {'required' if required else 'optional'}{again}")


def _register_list(credits: typer.Typer, open_services: OpenServices) -> None:
    @credits.command(name="list")
    def list_(tenant: TenantOption, *, json: JsonOption = False) -> None:
        """List a tenant's grants, what is free and what is owed."""
        with open_services() as services:
            standing = services.credits.list(tenant=tenant)
        if json:
            print_json(credit_document(standing))
            return
        if standing.grants:
            out().print(grants_table(standing))
        currency = standing.tenant.currency
        owed = f", {measured(standing.owed, 'charge', currency)} owed" if standing.owed else ""
        say(
            f"{measured(standing.free, 'charge', currency)} free,"
            f" {measured(standing.held, 'charge', currency)} held{owed};"
            f" credit is {'required' if standing.required else 'optional'}"
        )
