"""``tallybook migrate`` and ``tallybook tenants``: bring a database up and tenants in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Protocol

import typer

from adapters.cli.output import ExitCode, JsonOption, err, out, print_json, table
from adapters.cli.services import OpenServices
from ledger.application.documents.tenants import opening_document, tenant_document
from ledger.domain.errors import InvalidInput


class MigrationStatus(Protocol):
    """Which migrations a database has and lacks."""

    @property
    def applied(self) -> Sequence[str]:
        """Applied, in order."""

    @property
    def pending(self) -> Sequence[str]:
        """Not applied yet."""


def register_migrate(
    app: typer.Typer, migrate: Callable[[], MigrationStatus], check: Callable[[], MigrationStatus]
) -> None:
    """Add ``migrate``; the callables start the database where it is ours."""

    @app.command("migrate")
    def command(
        *,
        check_only: Annotated[
            bool, typer.Option("--check", help="Change nothing; exit 1 if something is pending.")
        ] = False,
        json: JsonOption = False,
    ) -> None:
        """Bring the database's schema up to this version."""
        before = check()
        status = before if check_only else migrate()
        done = [name for name in before.pending if name not in status.pending]
        if json:
            print_json(
                {"applied": list(status.applied), "pending": list(status.pending), "done": done}
            )
        elif check_only:
            out().print(
                f"{len(status.applied)} migrations applied, {len(status.pending)} pending"
                + "".join(f"\n  {name}" for name in status.pending)
            )
        else:
            names = ", ".join(done) if done else "nothing to do"
            out().print(f"schema is current: {names}")
        if status.pending:
            raise typer.Exit(ExitCode.FAILED)


def register_tenants(app: typer.Typer, open_services: OpenServices) -> None:
    """Add ``tenants open`` and ``tenants list``."""
    tenants = typer.Typer(name="tenants", help="Tenants and their ledgers.", no_args_is_help=True)
    app.add_typer(tenants)

    @tenants.command("open")
    def open_(
        name: Annotated[str, typer.Argument(help="The tenant's name.")],
        *,
        currency: Annotated[str, typer.Option(help="Of its charges, ISO 4217.")] = "USD",
        timezone: Annotated[str, typer.Option(help="Of its days and months.")] = "UTC",
        book: Annotated[str, typer.Option(help="Sell price book.")] = "default",
        json: JsonOption = False,
    ) -> None:
        """Open a tenant's ledger; its settings are for good."""
        with open_services() as services:
            outcome = services.tenants.open(name, currency=currency, timezone=timezone, book=book)
        if outcome.problem is not None:
            raise InvalidInput(
                outcome.problem.message, code=outcome.problem.code, pointer="/tenant"
            )
        if json:
            print_json(
                opening_document(name, outcome, currency=currency, timezone=timezone, book=book)
            )
        elif outcome.status == "duplicate":
            out().print(f"tenant {name} is open already", markup=False)
        else:
            out().print(f"opened {name}: {currency}, {timezone}, book {book}", markup=False)

    @tenants.command("list")
    def list_(*, json: JsonOption = False) -> None:
        """List tenants."""
        with open_services() as services:
            rows = services.reads.tenants()
        if json:
            print_json([tenant_document(row) for row in rows])
            return
        if not rows:
            err().print("no tenants yet: usage opens ledgers, and so does `tallybook tenants open`")
            return
        columns = [
            ("tenant", False),
            ("currency", False),
            ("time zone", False),
            ("book", False),
            ("commits", True),
            ("conflicts", True),
        ]
        out().print(
            table(
                columns,
                (
                    (r.tenant, r.currency, r.timezone, r.book, f"{r.version:,}", f"{r.conflicts:,}")
                    for r in rows
                ),
            )
        )
