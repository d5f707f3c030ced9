"""``tallybook holds``: the life of a hold by hand, and what was decided.

tallybook holds authorize h-1 -t acme --provider openai --model gpt -q tokens.input=1000
tallybook holds capture h-1 -t acme -q tokens.input=900
"""

from __future__ import annotations

from typing import Annotated
from uuid import uuid4

import typer

from adapters.cli.call_options import EXAMPLE, AmountOption, with_call_options
from adapters.cli.hold_output import (
    decisions_table,
    holds_table,
    say_hold,
)
from adapters.cli.output import JsonOption, TenantOption, err, number, out, print_json
from adapters.cli.protection_output import (
    AnyTenantOption,
    LimitOption,
    QuantityOption,
    ReasonOption,
    SinceOption,
    document,
    pairs,
    say,
    show_outcome,
    since_us,
)
from adapters.cli.services import OpenServices
from ledger.application.documents.protection import (
    decision_document,
    hold_document,
    read_outcome,
)
from ledger.application.services import Services
from ledger.domain.errors import InvalidInput
from ledger.domain.holds import ExpireHolds

MAX_SWEEPS = 100
"""How often one tenant is swept at most; a batch expires a bounded number of holds."""

HoldArgument = Annotated[str, typer.Argument(help="Id of the hold.", metavar="HOLD")]
TtlOption = Annotated[str, typer.Option("--ttl", help="Seconds, from now.")]
StepOption = Annotated[int, typer.Option("--step", min=1, help="Rising, from 1.")]


def register(app: typer.Typer, open_services: OpenServices) -> typer.Typer:
    """Add the commands to the command line, and return their group."""
    holds = typer.Typer(
        help="Holds: authorize, extend, capture, void, expire.", no_args_is_help=True
    )
    app.add_typer(holds, name="holds")
    _register_questions(holds, open_services)
    _register_authorize(holds, open_services)
    _register_streams(holds, open_services)
    _register_capture(holds, open_services)
    _register_ends(holds, open_services)
    _register_expire(holds, open_services)
    return holds


def _register_questions(holds: typer.Typer, open_services: OpenServices) -> None:
    @holds.command(name="list")
    def list_(
        *,
        tenant: AnyTenantOption = None,
        open_: Annotated[bool, typer.Option("--open", help="Only open ones.")] = False,
        expired: Annotated[bool, typer.Option("--expired", help="Only expired ones.")] = False,
        overrun: Annotated[
            bool, typer.Option("--overrun", help="Only those that took more than was reserved.")
        ] = False,
        limit: LimitOption = 50,
        json: JsonOption = False,
    ) -> None:
        """List holds, the one that expires last first."""
        chosen = [
            name
            for name, given in (("open", open_), ("expired", expired), ("overrun", overrun))
            if given
        ]
        if len(chosen) > 1:
            raise InvalidInput(
                f"give one of {', '.join(f'--{name}' for name in chosen)}, not all of them",
                code="invalid_arguments",
            )
        only = chosen[0] if chosen else None
        with open_services() as services:
            found = services.protection_reads.holds(tenant=tenant, only=only, limit=limit)
        if json:
            print_json([hold_document(one) for one in found])
        elif found:
            out().print(holds_table(found))
        else:
            err().print(f"no {only} holds" if only else "no holds", markup=False)

    @holds.command()
    def show(hold: HoldArgument, tenant: TenantOption, *, json: JsonOption = False) -> None:
        """Show all that is known of a hold."""
        with open_services() as services:
            found = services.protection_reads.hold(hold, tenant=tenant)
        if json:
            print_json(hold_document(found))
        else:
            say_hold(found)

    @holds.command()
    def decisions(
        tenant: TenantOption,
        *,
        decision: Annotated[
            str,
            typer.Option(
                "--decision", help="allow, allow_partial, allow_downgraded, confirm or deny."
            ),
        ] = "",
        hold: Annotated[str, typer.Option("--hold", help="Only of this hold.")] = "",
        since: SinceOption = "",
        limit: LimitOption = 50,
        json: JsonOption = False,
    ) -> None:
        """List what authorizations were answered and why, newest first."""
        start = since_us(since)
        with open_services() as services:
            found = services.protection_reads.decisions(
                tenant=tenant,
                decision=decision or None,
                hold=hold or None,
                since=start,
                limit=limit,
            )
        if json:
            print_json([decision_document(one) for one in found])
        elif found:
            out().print(decisions_table(found))
        else:
            err().print("no decisions")


def _register_authorize(holds: typer.Typer, open_services: OpenServices) -> None:
    @holds.command()
    @with_call_options
    def authorize(
        hold: HoldArgument,
        tenant: TenantOption,
        *,
        call: dict[str, object],
        ttl: TtlOption = "",
        on_expiry: Annotated[
            str, typer.Option(help="capture_progress, void or capture_full.")
        ] = "",
        json: JsonOption = False,
    ) -> None:
        """Ask whether a call may be made, and reserve what it may cost; exit 3 if not."""
        ask = call | document(hold=hold, ttl=ttl, on_expiry=on_expiry)
        with open_services() as services:
            outcome = read_outcome(services.holds.authorize(ask, tenant=tenant))
        show_outcome(outcome, json=json)


def _register_streams(holds: typer.Typer, open_services: OpenServices) -> None:
    @holds.command()
    def extend(
        hold: HoldArgument,
        tenant: TenantOption,
        step: StepOption,
        *,
        quantity: QuantityOption = None,
        amount: AmountOption = "",
        ttl: TtlOption = "",
        json: JsonOption = False,
    ) -> None:
        """Reserve up to a target as a stream grows; exit 3 where the stream must stop."""
        ask = document(
            step=step,
            quantities=pairs(quantity, "--quantity", EXAMPLE),
            amount=amount,
            ttl=ttl,
        )
        with open_services() as services:
            outcome = read_outcome(services.holds.extend(ask, tenant=tenant, hold=hold))
        show_outcome(outcome, json=json)

    @holds.command()
    def progress(
        hold: HoldArgument,
        tenant: TenantOption,
        step: StepOption,
        *,
        quantity: QuantityOption = None,
        json: JsonOption = False,
    ) -> None:
        """Keep a checkpoint of cumulative quantities; moves no money."""
        ask = document(step=step, quantities=pairs(quantity, "--quantity", EXAMPLE))
        with open_services() as services:
            outcome = read_outcome(services.holds.progress(ask, tenant=tenant, hold=hold))
        show_outcome(outcome, json=json)


def _register_capture(holds: typer.Typer, open_services: OpenServices) -> None:
    @holds.command()
    def capture(
        hold: HoldArgument,
        tenant: TenantOption,
        *,
        quantity: QuantityOption = None,
        id: Annotated[str, typer.Option("--id", help="Of the capture; default: the hold's.")] = "",
        source: Annotated[str, typer.Option(help="Who sends it.")] = "",
        partial: Annotated[bool, typer.Option("--partial", help="More is to come.")] = False,
        provider: Annotated[str, typer.Option(help="As the response says.")] = "",
        model: Annotated[str, typer.Option(help="As the response says.")] = "",
        tier: Annotated[str, typer.Option(help="As the response says.")] = "",
        region: Annotated[str, typer.Option(help="As the response says.")] = "",
        occurred_at: Annotated[str, typer.Option(help="Time with an offset.")] = "",
        request_id: Annotated[str, typer.Option(help="The provider's.")] = "",
        outcome: Annotated[str, typer.Option(help="ok, error or aborted.")] = "",
        json: JsonOption = False,
    ) -> None:
        """Post what a call took: cumulative quantities."""
        sent = document(
            capture=id or hold,
            quantities=pairs(quantity, "--quantity", EXAMPLE),
            source=source,
            provider=provider,
            model=model,
            tier=tier,
            region=region,
            occurred_at=occurred_at,
            request_id=request_id,
            outcome=outcome,
        )
        if partial:
            sent["final"] = False
        with open_services() as services:
            answer = read_outcome(services.holds.capture(sent, tenant=tenant, hold=hold))
        show_outcome(answer, json=json)


def _register_ends(holds: typer.Typer, open_services: OpenServices) -> None:
    @holds.command()
    def void(
        hold: HoldArgument,
        tenant: TenantOption,
        *,
        id: Annotated[str, typer.Option("--id", help="Of the void; default: the hold's.")] = "",
        reason: ReasonOption = "",
        force: Annotated[
            bool, typer.Option("--force", help="Although a checkpoint says it was called.")
        ] = False,
        json: JsonOption = False,
    ) -> None:
        """Give a hold up: all that it reserved is free."""
        sent = document(void=id or hold, reason=reason, force=force)
        with open_services() as services:
            outcome = read_outcome(services.holds.void(sent, tenant=tenant, hold=hold))
        show_outcome(outcome, json=json)

    @holds.command()
    def reverse(
        capture: Annotated[
            str, typer.Argument(help="Id of the capture, or of any usage.", metavar="CAPTURE")
        ],
        tenant: TenantOption,
        amount: Annotated[str, typer.Option("--amount", help="Charge to take back.")],
        *,
        source: Annotated[str, typer.Option(help="Of the capture.")] = "",
        id: Annotated[
            str, typer.Option("--id", help="Of the reversal; the same again is once.")
        ] = "",
        reason: ReasonOption = "",
        json: JsonOption = False,
    ) -> None:
        """Take part of a captured charge back; its quantities stand."""
        sent = document(
            reversal=id or f"cli-{uuid4()}",
            capture=capture,
            source=source,
            amount=amount,
            reason=reason,
        )
        with open_services() as services:
            outcome = read_outcome(services.holds.reverse(sent, tenant=tenant))
        show_outcome(outcome, json=json)


def _register_expire(holds: typer.Typer, open_services: OpenServices) -> None:
    @holds.command()
    def expire(*, json: JsonOption = False) -> None:
        """Expire what is due, in all ledgers; may run anywhere, twice, or never."""
        with open_services() as services:
            found = {one.tenant: one.holds for one in services.protection_reads.due()}
            for tenant in found:
                _sweep(services, tenant)
            left = {one.tenant: one.holds for one in services.protection_reads.due()}
        done = {name: count - left.get(name, 0) for name, count in found.items()}
        expired = sum(max(0, count) for count in done.values())
        if json:
            shown = [{"tenant": name, "holds": max(0, count)} for name, count in done.items()]
            print_json({"expired": expired, "tenants": shown})
            return
        ledgers = "ledger" if len(found) == 1 else "ledgers"
        say(f"{number(expired)} holds expired; {number(len(found))} {ledgers} looked at")


def _sweep(services: Services, tenant: str) -> None:
    """Expire what is due in one ledger, batch by batch."""
    for _ in range(MAX_SWEEPS):
        services.ledger.run([ExpireHolds(tenant)])
        due = {one.tenant: one.holds for one in services.protection_reads.due()}
        if not due.get(tenant):
            return
