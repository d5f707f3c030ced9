"""``tallybook audit``: who did what."""

from __future__ import annotations

from typing import Annotated

import typer

from adapters.cli.output import JsonOption, err, out, print_json, table
from adapters.cli.protection_output import AnyTenantOption, LimitOption, moment
from adapters.cli.services import OpenServices
from ledger.application.audit_log import AuditLine
from ledger.application.documents.audit import audit_document
from ledger.application.documents.encoding import as_json
from ledger.domain.errors import InvalidInput


def register(app: typer.Typer, open_services: OpenServices) -> None:
    """Add the commands to the command line."""
    audit = typer.Typer(help="Who did what.", no_args_is_help=True)
    app.add_typer(audit, name="audit")

    @audit.command(name="list")
    def list_(
        *,
        tenant: AnyTenantOption = None,
        platform: Annotated[
            bool, typer.Option("--platform", help="Only what is about no tenant.")
        ] = False,
        act: Annotated[
            str, typer.Option("--act", help="Such as key.revoked, or key for all of them.")
        ] = "",
        who: Annotated[str, typer.Option("--who", help="Such as key:ID or a user's name.")] = "",
        before: Annotated[
            int | None, typer.Option("--before", help="Only lines with a smaller number.")
        ] = None,
        limit: LimitOption = 50,
        json: JsonOption = False,
    ) -> None:
        """List acts, the newest first."""
        if tenant is not None and platform:
            raise InvalidInput("give --tenant or --platform, not both", code="invalid_arguments")
        with open_services() as services:
            found = services.audit_log.list(
                tenant="" if platform else tenant,
                before=before,
                limit=limit,
                act=act or None,
                who=who or None,
            )
        if json:
            print_json([audit_document(one) for one in found])
        elif found:
            columns = [
                ("number", True),
                ("at", False),
                ("who", False),
                ("act", False),
                ("tenant", False),
                ("target", False),
                ("outcome", False),
                ("detail", False),
            ]
            out().print(table(columns, map(_cells, found)))
        else:
            err().print("nothing was done")


def _cells(line: AuditLine) -> tuple[str, ...]:
    return (
        str(line.number),
        moment(line.at, "UTC"),
        f"{line.who} ({line.via})",
        line.act,
        line.tenant or "-",
        line.target or "-",
        line.outcome,
        as_json(line.detail) if line.detail else "",
    )
