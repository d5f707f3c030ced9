"""``tallybook journal``: double entry for other programs, and the trial balance."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated

import msgspec
import typer

from adapters.cli.output import JsonOption, number, out, print_json, table
from adapters.cli.plans import read_day, read_text
from adapters.cli.protection_output import AnyTenantOption
from adapters.cli.services import OpenServices
from adapters.cli.writing import OutputOption, write_output
from ledger.application.documents.journals import (
    JournalForm,
    export_pieces,
    trial_balance_document,
)
from ledger.domain.errors import InvalidInput
from ledger.domain.journal import trial_balance
from ledger.domain.money import round_money

FromOption = Annotated[str, typer.Option("--from", help="First local day.")]
ToOption = Annotated[str, typer.Option("--to", help="First local day no longer included.")]


def register(app: typer.Typer, open_services: OpenServices) -> None:
    """Add the commands to the command line."""
    journal = typer.Typer(help="Double entry, by rule.", no_args_is_help=True)
    app.add_typer(journal, name="journal")
    _register_export(journal, open_services)
    _register_balance(journal, open_services)


def _register_export(journal: typer.Typer, open_services: OpenServices) -> None:
    @journal.command()
    def export(
        form: Annotated[JournalForm, typer.Option("--form", "-f", help="Who is to read it.")],
        *,
        tenant: AnyTenantOption = None,
        start: FromOption = "",
        end: ToOption = "",
        accounts: Annotated[
            str,
            typer.Option(help="JSON file: names there by names here, for netsuite and quickbooks."),
        ] = "",
        output: OutputOption = "-",
    ) -> None:
        """Write the journal: the same days, the same ids, whenever it is written."""
        names = _names(accounts)
        first, after = read_day(start, "/from"), read_day(end, "/to")
        with open_services() as services:
            booked = services.journals.bookings(tenant=tenant, first_day=first, after_day=after)
        write_output(output, export_pieces(form, booked, accounts=names))


def _register_balance(journal: typer.Typer, open_services: OpenServices) -> None:
    @journal.command()
    def balance(
        *,
        tenant: AnyTenantOption = None,
        through: Annotated[str, typer.Option(help="Last local day that counts.")] = "",
        json: JsonOption = False,
    ) -> None:
        """Show the trial balance: debits and credits of each account."""
        last = read_day(through, "/through")
        after = None if last is None else last + timedelta(days=1)
        with open_services() as services:
            booked = services.journals.bookings(tenant=tenant, after_day=after)
        rows = trial_balance(booked)
        if json:
            print_json(trial_balance_document(rows))
            return
        columns = (("account", False), ("debits", True), ("credits", True), ("balance", True))
        cells = (
            (
                one.account,
                *(
                    number(round_money(amount, one.currency))
                    for amount in (one.debits, one.credits, one.balance)
                ),
                one.currency,
            )
            for one in rows
        )
        out().print(table((*columns, ("", False)), cells))


def _names(file: str) -> Mapping[str, str]:
    if not file:
        return {}
    try:
        return msgspec.json.decode(read_text(file), type=dict[str, str])
    except msgspec.DecodeError as error:
        raise InvalidInput(
            f"{file} is no JSON object of texts by accounts, such as"
            f' {{"assets:cash": "Bank"}}: {error}',
            code="invalid_document",
        ) from None
