"""``tallybook simulate``: would this call be allowed, and why; nothing is kept or reserved."""

from __future__ import annotations

from uuid import uuid4

import typer

from adapters.cli.call_options import with_call_options
from adapters.cli.output import JsonOption, TenantOption
from adapters.cli.protection_output import show_outcome
from adapters.cli.services import OpenServices
from ledger.application.documents.protection import read_outcome
from ledger.domain.windows import window_text


def register(app: typer.Typer, open_services: OpenServices) -> None:
    """Add ``simulate``."""

    @app.command("simulate")
    @with_call_options
    def simulate(
        tenant: TenantOption, *, call: dict[str, object], json: JsonOption = False
    ) -> None:
        """Say what an authorization would answer: each budget and the price; exit 3 if denied."""
        ask = call | {"hold": f"simulate-{uuid4()}"}
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
