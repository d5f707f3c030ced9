"""The command ``tallybook``: every subcommand with what it needs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from adapters.bootstrap.ledger import (
    RESPONSES,
    check_database,
    connections_told,
    lease_keys,
    migrate_database,
    open_ledger,
    tune_process,
)
from adapters.bootstrap.server import run_server
from adapters.cli import app as command_line
from adapters.cli import (
    audit,
    balance,
    billing_periods,
    budgets,
    credits,
    db,
    demo,
    entitlements,
    events,
    explain,
    holds,
    import_,
    invoice_forms,
    invoices,
    jobs,
    journal,
    keys,
    leases,
    normalize,
    plans,
    projections,
    setup,
    simulate,
    up,
    usage,
    verify,
)
from adapters.cli import prices as prices_cli
from adapters.cli.output import err
from adapters.cli.protection_output import user
from adapters.postgres import embedded
from adapters.providers import detect
from adapters.providers import normalize as normalize_response
from ledger.application.audited import Actor, audited
from ledger.application.services import Services


def _say(line: str) -> None:
    err().print(line, style="dim", markup=False)


def build() -> typer.Typer:
    """Return the command line with all commands."""
    app = command_line.build()

    @contextmanager
    def open_services() -> Iterator[Services]:
        with connections_told(), open_ledger(progress=_say) as tallybook:
            yield audited(tallybook, tallybook.audit_log, Actor(who=user(""), via="cli"))

    server = embedded.EmbeddedDatabase()
    demo.register(
        app,
        open_services,
        demo.Parts(
            database=server,
            migrate=migrate_database,
            normalizer=normalize_response,
            detect=detect,
            folder=_demo_folder,
        ),
    )
    up.register(app, run_server)
    import_.register(app, open_services, normalize_response, detect)
    balance.register(app, open_services)
    budgets.register(app, open_services)
    group = holds.register(app, open_services)
    leases.register(group, open_services, lease_keys())
    simulate.register(app, open_services)
    credits.register(app, open_services)
    entitlements.register(app, open_services)
    usage.register(app, open_services)
    events.register(app, open_services)
    explain.register(app, open_services)
    prices_cli.register(app, open_services)
    plans.register(app, open_services)
    billing_periods.register(app, open_services)
    invoice_forms.register(invoices.register(app, open_services), open_services)
    journal.register(app, open_services)
    jobs.register(app, open_services)
    setup.register_tenants(app, open_services)
    keys.register(app, open_services)
    audit.register(app, open_services)
    verify.register(app, open_services)
    projections.register(app, open_services)
    app.command("normalize")(normalize.command(RESPONSES))
    setup.register_migrate(app, migrate_database, check_database)
    app.add_typer(db.build(server), name="db")
    return app


def _demo_folder() -> Path:
    folder = embedded.default_home() / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def main() -> None:
    """Run the command line and exit with its code."""
    tune_process()
    sys.exit(command_line.run(build()))
