"""``tallybook entitlements``: what a tenant may use: providers, models, meters, plugins, tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from adapters.cli.output import JsonOption, TenantOption, out, print_json, table
from adapters.cli.protection_output import ByOption, document, say, user
from adapters.cli.services import OpenServices
from ledger.application import asks
from ledger.application.documents.entitlements import entitlements_document
from ledger.domain.entitlements import KINDS, Entitlements
from ledger.domain.errors import InvalidInput

_NOTHING = "nothing"
"""Stands for an empty list, which allows nothing of its kind."""
PatternsOption = list[str] | None


def register(app: typer.Typer, open_services: OpenServices) -> None:
    """Add the commands to the command line."""
    entitlements = typer.Typer(help="What a tenant may use at all.", no_args_is_help=True)
    app.add_typer(entitlements, name="entitlements")
    _register_set(entitlements, open_services)
    _register_others(entitlements, open_services)


def _register_set(entitlements: typer.Typer, open_services: OpenServices) -> None:
    @entitlements.command(name="set")
    def set_(
        tenant: TenantOption,
        *,
        default: Annotated[str, typer.Option(help="Of kinds without a list: allow or deny.")] = "",
        provider: Annotated[
            PatternsOption, typer.Option("--provider", help="PATTERN*, or: nothing.")
        ] = None,
        model: Annotated[PatternsOption, typer.Option("--model", help="Likewise.")] = None,
        meter: Annotated[PatternsOption, typer.Option("--meter", help="Likewise.")] = None,
        plugin: Annotated[PatternsOption, typer.Option("--plugin", help="Likewise.")] = None,
        tool: Annotated[PatternsOption, typer.Option("--tool", help="Likewise.")] = None,
        file: Annotated[
            Path | None, typer.Option("--file", help="JSON document, instead of options.")
        ] = None,
        by: ByOption = "",
        json: JsonOption = False,
    ) -> None:
        """Say what a tenant may use; replaces what was said before."""
        given: dict[str, Any] = document(
            default=default,
            providers=provider,
            models=model,
            meters=meter,
            plugins=plugin,
            tools=tool,
        )
        if bool(given) == (file is not None):
            raise InvalidInput(
                "give --default or lists such as --model 'gpt-*', or a document with --file,"
                " and not both",
                code="invalid_arguments",
            )
        for kind in KINDS:
            if given.get(kind) == [_NOTHING]:
                given[kind] = []
        wanted = asks.entitlements(_read(file) if file is not None else given)
        _set(open_services, tenant, wanted, by)
        _show(tenant, wanted, json=json)


def _read(file: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error}", code="unreadable_file") from error
    except msgspec.MsgspecError as error:
        raise InvalidInput(
            f"{file} is no JSON object of entitlements: {error}", code="invalid_json"
        ) from error


def _set(open_services: OpenServices, tenant: str, wanted: Entitlements, by: str) -> None:
    with open_services() as services:
        services.entitlements.set(wanted, tenant=tenant, by=user(by))


def _register_others(entitlements: typer.Typer, open_services: OpenServices) -> None:
    @entitlements.command()
    def show(tenant: TenantOption, *, json: JsonOption = False) -> None:
        """Show what a tenant may use."""
        with open_services() as services:
            found = services.protection_reads.entitlements(tenant)
        _show(tenant, found or Entitlements(), json=json)

    @entitlements.command()
    def clear(tenant: TenantOption, *, by: ByOption = "", json: JsonOption = False) -> None:
        """Let a tenant use everything."""
        _set(open_services, tenant, Entitlements(), by)
        _show(tenant, Entitlements(), json=json)


def _show(tenant: str, found: Entitlements, *, json: bool) -> None:
    if json:
        print_json(entitlements_document(tenant, found))
        return
    if found == Entitlements():
        say(f"{tenant} may use everything")
        return
    otherwise = "everything" if found.default == "allow" else _NOTHING
    lists: dict[str, tuple[str, ...] | None] = {kind: getattr(found, kind) for kind in KINDS}
    rows = [
        (kind, otherwise if names is None else "\n".join(names) or _NOTHING)
        for kind, names in lists.items()
    ]
    out().print(table((("kind", False), (f"{tenant} may use", False)), rows))
