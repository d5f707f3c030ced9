"""``tallybook simulate``: would this call be allowed, and why; nothing is kept or reserved."""

from __future__ import annotations

from typing import Annotated
from uuid import uuid4

import typer

from adapters.cli.holds import EXAMPLE, AmountOption
from adapters.cli.output import JsonOption, TenantOption
from adapters.cli.protection_output import (
    QuantityOption,
    document,
    pairs,
    show_outcome,
)
from adapters.cli.services import OpenServices
from ledger.application.documents.protection import read_outcome
from ledger.domain.windows import window_text


def register(app: typer.Typer, open_services: OpenServices) -> None:
    """Add ``simulate``."""

    @app.command("simulate")
    def simulate(
        tenant: TenantOption,
        *,
        provider: Annotated[str, typer.Option(help="To be called.")] = "",
        model: Annotated[str, typer.Option(help="To be called.")] = "",
        quantity: QuantityOption = None,
        amount: AmountOption = "",
        min_amount: Annotated[str, typer.Option(help="Least that is worth having.")] = "",
        user: Annotated[str, typer.Option(help="Who would call.")] = "",
        project: Annotated[str, typer.Option()] = "",
        api_key: Annotated[str, typer.Option(help="Alias of the caller's key.")] = "",
        session: Annotated[str, typer.Option()] = "",
        plugin: Annotated[str, typer.Option()] = "",
        label: Annotated[list[str] | None, typer.Option(help="NAME=VALUE.")] = None,
        tool: Annotated[list[str] | None, typer.Option(help="That may be used.")] = None,
        tier: Annotated[str, typer.Option(help="Service tier.")] = "",
        region: Annotated[str, typer.Option()] = "",
        batch: Annotated[bool, typer.Option("--batch", help="At the batch price.")] = False,
        byok: Annotated[bool, typer.Option("--byok", help="With the tenant's key.")] = False,
        json: JsonOption = False,
    ) -> None:
        """Say what an authorization would answer: each budget and the price; exit 3 if denied."""
        ask = document(
            hold=f"simulate-{uuid4()}",
            provider=provider,
            model=model,
            quantities=pairs(quantity, "--quantity", EXAMPLE),
            amount=amount,
            min_amount=min_amount,
            user=user,
            project=project,
            api_key=api_key,
            session=session,
            plugin=plugin,
            labels=pairs(label, "--label", "team=blue"),
            tools=tool,
            tier=tier,
            region=region,
            batch=batch,
            byok=byok,
        )
        with open_services() as services:
            # A misspelt tenant would be answered as a new one, with the default cap.
            services.reads.tenant(tenant)
            outcome = read_outcome(services.holds.simulate(ask, tenant=tenant))
            standings = services.budgets.list(tenant=tenant)
        windows = {
            one.terms.name: window_text(one.tenant.timezone, one.terms.window, one.window)
            for one in standings
        }
        show_outcome(outcome, json=json, windows=windows)
