"""``tallybook invoice``: preview, list, show, finalize, settle, credit, export, evidence."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer
from rich.table import Table

from adapters.cli.output import ExitCode, JsonOption, TenantOption, number, out, print_json, table
from adapters.cli.plans import FileArgument, read_day, read_text
from adapters.cli.protection_output import (
    AnyTenantOption,
    ByOption,
    NeededReasonOption,
    ReasonOption,
    say,
    user,
    warn,
)
from adapters.cli.services import OpenServices
from adapters.cli.writing import OutputOption, write_output
from ledger.application.documents.invoices import (
    evidence_document,
    invoice_document,
    invoices_document,
    preview_document,
    series_document,
)
from ledger.application.documents.plans import details_document, details_from_json
from ledger.domain.errors import InvalidInput
from ledger.domain.invoices import Invoice, InvoiceStatus, to_document
from ledger.domain.money import minor_units

IdArgument = Annotated[str, typer.Argument(help="Id of the invoice, such as 2026-11-01.")]


def register(app: typer.Typer, open_services: OpenServices) -> typer.Typer:
    """Add the commands to the command line; return the group, for more forms of export."""
    invoice = typer.Typer(help="Invoices and credit notes.", no_args_is_help=True)
    app.add_typer(invoice, name="invoice")
    _register_reads(invoice, open_services)
    _register_final(invoice, open_services)
    _register_moves(invoice, open_services)
    _register_credit(invoice, open_services)
    _register_proof(invoice, open_services)
    _register_settings(invoice, open_services)
    return invoice


def _register_reads(invoice: typer.Typer, open_services: OpenServices) -> None:
    @invoice.command()
    def preview(
        tenant: TenantOption,
        *,
        day: Annotated[str, typer.Option(help="A day of the period; default: today.")] = "",
        json: JsonOption = False,
    ) -> None:
        """Show what a tenant's invoice would be now."""
        on = read_day(day, "/day")
        with open_services() as services:
            draft = services.periods.preview(tenant, day=on)
            warnings = services.periods.preview_warnings(draft)
        if json:
            print_json(preview_document(draft, warnings))
        elif draft is None:
            say("nothing is owed")
        else:
            _show(draft, "preview")
            warn(warnings)

    @invoice.command("list")
    def list_invoices(
        *,
        tenant: AnyTenantOption = None,
        status: Annotated[InvoiceStatus | None, typer.Option(help="Only those there.")] = None,
        limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most rows.")] = 50,
        json: JsonOption = False,
    ) -> None:
        """List invoices and credit notes."""
        with open_services() as services:
            rows = services.invoicing.list(tenant=tenant, status=status, limit=limit + 1)
            warnings = services.invoicing.warnings(rows[:limit])
        document = invoices_document(rows[:limit], more=len(rows) > limit, warnings=warnings)
        if json:
            print_json(document)
            return
        columns = (
            ("tenant", False),
            ("id", False),
            ("number", False),
            ("status", False),
            ("total", True),
            ("", False),
        )
        cells = (
            (
                one["tenant"],
                one["id"],
                one["number"] or "-",
                one["status"] if one["kind"] == "invoice" else "credit note",
                number(Decimal(one["total"]), minor_units(one["currency"])),
                one["currency"],
            )
            for one in document["invoices"]
        )
        out().print(table(columns, cells))
        if document["more"]:
            say("there are more; see --limit")
        warn(warnings)

    @invoice.command()
    def show(id: IdArgument, tenant: TenantOption, *, json: JsonOption = False) -> None:
        """Show an invoice or credit note."""
        with open_services() as services:
            stored = services.invoicing.invoice(tenant, id)
        if json:
            print_json(invoice_document(stored))
        else:
            _show(stored.invoice, stored.status.value)
            warn(stored.warnings)

    @invoice.command()
    def export(
        id: IdArgument,
        tenant: TenantOption,
        *,
        output: OutputOption = "-",
    ) -> None:
        """Write the canonical JSON document, whose digest it holds."""
        with open_services() as services:
            document = to_document(services.invoicing.invoice(tenant, id).invoice)
        write_output(output, [document, *([b"\n"] if output == "-" else [])])


def _register_final(invoice: typer.Typer, open_services: OpenServices) -> None:
    @invoice.command()
    def finalize(
        id: Annotated[str, typer.Argument(help="Id; with --all none.")] = "",
        *,
        tenant: AnyTenantOption = None,
        all: Annotated[bool, typer.Option("--all", help="Every draft.")] = False,
        by: ByOption = "",
        json: JsonOption = False,
    ) -> None:
        """Give a draft its number, date and digest; nothing changes it afterwards."""
        if bool(id) is all or (id and tenant is None):
            raise InvalidInput(
                "give the id of an invoice and its --tenant, or --all", code="invalid_arguments"
            )
        with open_services() as services:
            if all:
                count = services.invoicing.finalize_all(by=user(by), tenant=tenant)
                stored = None
            else:
                stored = services.invoicing.finalize(tenant or "", id, by=user(by))
        if stored is None:
            if json:
                print_json({"finalized": count})
            else:
                say(f"{number(count)} invoices made final")
        elif json:
            print_json(invoice_document(stored))
        else:
            say(f"{id} is {stored.invoice.number}, {stored.status}")


def _register_moves(invoice: typer.Typer, open_services: OpenServices) -> None:
    def move(
        status: InvoiceStatus, id: str, tenant: str, by: str, reason: str, *, json: bool
    ) -> None:
        with open_services() as services:
            stored = services.invoicing.move(tenant, id, status=status, by=user(by), reason=reason)
        if json:
            print_json(invoice_document(stored))
        else:
            say(f"{stored.invoice.number} is {stored.status}")
            warn(stored.warnings)

    @invoice.command()
    def pay(
        id: IdArgument,
        tenant: TenantOption,
        *,
        reason: ReasonOption = "",
        by: ByOption = "",
        json: JsonOption = False,
    ) -> None:
        """Say that an invoice is settled, in whatever way."""
        move(InvoiceStatus.PAID, id, tenant, by, reason, json=json)

    @invoice.command()
    def uncollectible(
        id: IdArgument,
        tenant: TenantOption,
        *,
        reason: ReasonOption = "",
        by: ByOption = "",
        json: JsonOption = False,
    ) -> None:
        """Say that nobody expects an invoice's money any more."""
        move(InvoiceStatus.UNCOLLECTIBLE, id, tenant, by, reason, json=json)

    @invoice.command()
    def void(
        id: IdArgument,
        tenant: TenantOption,
        *,
        reason: ReasonOption = "",
        by: ByOption = "",
        json: JsonOption = False,
    ) -> None:
        """Take a final invoice back; it keeps its number, and its period is to be reopened."""
        move(InvoiceStatus.VOID, id, tenant, by, reason, json=json)


def _register_credit(invoice: typer.Typer, open_services: OpenServices) -> None:
    @invoice.command()
    def credit(
        id: IdArgument,
        tenant: TenantOption,
        *,
        total: Annotated[str, typer.Option(help="To give back, with tax; default: all.")] = "",
        line: Annotated[
            list[str] | None,
            typer.Option("--line", help="NUMBER=NET AMOUNT; may be repeated.", metavar="N=A"),
        ] = None,
        note: Annotated[
            str, typer.Option("--id", help="Of the note; the same again is once; default: a new.")
        ] = "",
        reason: NeededReasonOption = "",
        by: ByOption = "",
        json: JsonOption = False,
    ) -> None:
        """Issue a credit note: for all that is left, a total, or lines."""
        lines = None if line is None else _line_amounts(line)
        with open_services() as services:
            stored = services.invoicing.credit(
                tenant,
                id,
                total=_amount(total, "/total") if total else None,
                lines=lines,
                note=note,
                reason=reason,
                by=user(by),
            )
        if json:
            print_json(invoice_document(stored))
        else:
            _show(stored.invoice, "credit note")
            say(f"its id is {stored.invoice.id}")


def _register_proof(invoice: typer.Typer, open_services: OpenServices) -> None:
    @invoice.command()
    def evidence(
        id: IdArgument,
        tenant: TenantOption,
        line: Annotated[int, typer.Option("--line", min=1, help="Number of the line.")],
        *,
        json: JsonOption = False,
    ) -> None:
        """Show exactly the entries behind a line; exits 5 if the ledger's chain differs."""
        with open_services() as services:
            report = services.evidence.entries(tenant, id, line=line)
        document = evidence_document(report)
        if json:
            print_json(document)
        else:
            columns = (("entry", False), ("what", False), ("event", False), ("happened", False))
            cells = (
                (
                    f"{one['commit']}.{one['index']}",
                    one["kind"],
                    f"{one['source']} {one['id']}",
                    one["occurred_at"] or "-",
                )
                for one in document["entries"]
            )
            out().print(table(columns, cells))
            say(f"{number(len(document['entries']))} entries, digest {document['digest']}")
        if not report.chain_holds:
            raise typer.Exit(ExitCode.INTEGRITY)

    @invoice.command()
    def numbers(*, json: JsonOption = False) -> None:
        """Show each series of numbers and what is missing in it; exits 5 if anything is."""
        with open_services() as services:
            reports = services.invoicing.series()
        if json:
            print_json(series_document(reports))
        else:
            columns = (("series", False), ("last", True), ("missing", False))
            cells = (
                (one.series, number(one.last), ", ".join(one.missing) or "none") for one in reports
            )
            out().print(table(columns, cells))
        if any(one.missing for one in reports):
            raise typer.Exit(ExitCode.INTEGRITY)


def _register_settings(invoice: typer.Typer, open_services: OpenServices) -> None:
    @invoice.command()
    def settings(file: FileArgument = "", *, by: ByOption = "", json: JsonOption = False) -> None:
        """Show or set who sells, and tax, series and payment days where a tenant has none."""
        said = details_from_json(read_text(file)) if file else None
        with open_services() as services:
            if said is None:
                said = services.invoicing.settings()
            else:
                services.invoicing.set_settings(said, by=user(by))
        if json:
            print_json(details_document(said))
        else:
            say(f"seller {said.party.name or '-'}, series {said.series or 'INV'}")


def _show(invoice: Invoice, status: str) -> None:
    decimals = minor_units(invoice.currency)
    period = f"{invoice.period.first_day} to before {invoice.period.after_day}"
    out().print(
        f"{invoice.number or invoice.id}, {status}: {invoice.tenant}, {period}", markup=False
    )
    out().print(_lines_table(invoice, decimals))
    totals = [("net", invoice.net)]
    totals += [
        (f"tax {one.category.value} {number(one.percent)} %", one.tax) for one in invoice.taxes
    ]
    totals.append(("total", invoice.total))
    if invoice.prepaid:
        totals += [("paid by credit", invoice.prepaid), ("due", invoice.due)]
    cells = [(name, number(amount, decimals), invoice.currency) for name, amount in totals]
    out().print(table((("", False), ("", True), ("", False)), cells))
    for note in invoice.notes:
        say(note)
    for one in invoice.unpriced:
        say(f"without a price: {number(one.quantity)} {one.meter} of {one.provider} {one.model}")


def _lines_table(invoice: Invoice, decimals: int) -> Table:
    columns: Sequence[tuple[str, bool]] = (
        ("", True),
        ("what", False),
        ("from", False),
        ("quantity", True),
        ("price", True),
        ("amount", True),
    )
    rows = []
    for line in invoice.lines:
        price = ""
        if line.unit_price is not None and line.unit_size is not None:
            price = f"{number(line.unit_price)} / {number(line.unit_size)}"
        rows.append(
            (
                str(line.number),
                line.description + (" (late)" if line.late else ""),
                str(line.service.first_day),
                "" if line.quantity is None else number(line.quantity),
                price,
                number(line.amount, decimals),
            )
        )
    return table(columns, rows)


def _amount(value: str, pointer: str) -> Decimal:
    try:
        return Decimal(value)
    except InvalidOperation:
        raise InvalidInput(
            f"{value[:64]!r} is no amount", code="invalid_credit", pointer=pointer
        ) from None


def _line_amounts(values: Sequence[str]) -> dict[int, Decimal]:
    found: dict[int, Decimal] = {}
    for place, amount in map(_line_amount, values):
        if place in found:
            raise InvalidInput(
                f"line {place} is given twice; give each line once, with all that goes back of it",
                code="invalid_credit",
                pointer=f"/lines/{place}",
            )
        found[place] = amount
    return found


def _line_amount(value: str) -> tuple[int, Decimal]:
    place, _, amount = value.partition("=")
    if not amount or not (place.isascii() and place.isdecimal()):
        raise InvalidInput(
            f"{value[:64]!r} is not NUMBER=AMOUNT", code="invalid_credit", pointer="/lines"
        )
    return int(place), _amount(amount, f"/lines/{place}")
