"""``tallybook journal``: double entry for other programs, and the trial balance."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from adapters.cli.output import JsonOption, number, out, print_json, table
from adapters.cli.plans import read_day, read_text
from adapters.cli.protection_output import AnyTenantOption, say
from adapters.cli.services import OpenServices
from adapters.cli.writing import OutputOption, write_output
from ledger.application.documents.journals import (
    JournalForm,
    export_files,
    export_pieces,
    trial_balance_document,
)
from ledger.domain.errors import InvalidInput
from ledger.domain.journal import trial_balance
from ledger.domain.money import round_money

MIN_LINES = 100
"""Fewest lines of a file, so that few entries have more."""
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
        lines: Annotated[
            int | None,
            typer.Option(
                min=MIN_LINES,
                help="Write files of so many lines at most, NAME-1.csv and on, for programs that"
                " import no more; no entry is in two of them.",
            ),
        ] = None,
        output: OutputOption = "-",
    ) -> None:
        """Write the journal: the same days, the same ids, whenever it is written."""
        names = _names(accounts)
        if lines is not None and output == "-":
            raise InvalidInput(
                "several files need a name: give --output, or leave --lines out",
                code="invalid_parameter",
                pointer="/output",
            )
        first, after = read_day(start, "/from"), read_day(end, "/to")
        with open_services() as services:
            booked = services.journals.bookings(tenant=tenant, first_day=first, after_day=after)
        if lines is None:
            write_output(output, export_pieces(form, booked, accounts=names))
            return
        path = Path(output)
        files = list(export_files(form, booked, accounts=names, lines=lines))
        for number_, body in enumerate(files, start=1):
            write_output(str(path.with_stem(f"{path.stem}-{number_}")), [body])
        say(f"{len(files)} files, {path.stem}-1{path.suffix} and on")


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
