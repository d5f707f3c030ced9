"""``tallybook events``: a tenant's entries, newest first, and what became of each event.

A line of usage shows what was recorded; a correction's line shows what it changed, so that the
lines of all entries add up to the balance.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

import typer

from adapters.cli.output import JsonOption, TenantOption, err, number, out, print_json, table
from adapters.cli.services import OpenServices
from adapters.cli.usage import amount, folded, note_rounding
from ledger.application.documents.events import (
    MAX_LIMIT,
    UNPRICED_LIMIT,
    Filter,
    Line,
    Listing,
    events_document,
    read_cursor,
)
from ledger.application.ports import TenantRow
from ledger.domain.periods import zone


def register(app: typer.Typer, open_services: OpenServices) -> None:
    """Add ``events``."""

    @app.command("events")
    def command(
        *,
        tenant: TenantOption,
        limit: Annotated[
            int, typer.Option("--limit", "-n", min=1, max=MAX_LIMIT, help="Most entries.")
        ] = 20,
        before: Annotated[
            str | None, typer.Option("--before", help="Cursor of the previous answer.")
        ] = None,
        id: Annotated[
            str | None, typer.Option("--id", help="Only this event or provider request id.")
        ] = None,
        outcome: Annotated[
            Literal["ok", "error", "aborted"] | None, typer.Option(help="Only this outcome.")
        ] = None,
        model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
        conflicts: Annotated[
            bool, typer.Option("--conflicts", help="Only payloads that contradict an earlier one.")
        ] = False,
        unpriced: Annotated[
            bool, typer.Option("--unpriced", help="Only usage that has no price yet.")
        ] = False,
        json: JsonOption = False,
    ) -> None:
        """List a tenant's entries, newest first, with receipts, amounts and corrections."""
        wanted = Filter(id=id, outcome=outcome, model=model, conflicts=conflicts, unpriced=unpriced)
        cursor = read_cursor(before)
        with open_services() as services:
            row = services.reads.tenant(tenant)
            listing = Listing(services.reads, row)
            lines, after = listing.page(wanted, before=cursor, limit=limit)
        if listing.cut:
            err().print(f"only the oldest {UNPRICED_LIMIT:,} unpriced events are considered")
        if json:
            print_json(events_document(row, lines, after))
            return
        if not lines:
            out().print(f"no entries of {tenant} match", markup=False)
            return
        _show(row, lines)
        if after is not None:
            err().print(f"older entries: add --before {after}", markup=False)


def _show(tenant: TenantRow, lines: Sequence[Line]) -> None:
    columns = [
        ("entry", False),
        ("meter", False),
        ("quantity", True),
        (f"charge {tenant.currency}", True),
    ]
    rows = [_cells(line, tenant.timezone) for line in lines]
    # A blank line sets entries of several lines apart.
    spaced = [(f"{first}\n", *rest) for first, *rest in rows[:-1]] + [tuple(rows[-1])]
    out().print(folded(table(columns, spaced)))
    note_rounding(line.charge for line in lines)


def _local(at: str, timezone: str) -> str:
    moment = datetime.fromisoformat(at).astimezone(zone(timezone))
    return moment.isoformat(sep=" ", timespec="seconds")


def _cells(line: Line, timezone: str) -> list[str]:
    about = f" of {line.target['id']}" if line.target else ""
    first = [f"{line.ref} {line.kind}{about}", line.id if line.kind != "applied" else ""]
    first.append(f"{line.provider}/{line.model}" if line.provider else "")
    first.append(_local(line.time or line.recorded_at, timezone))
    if line.flags:
        first.append(", ".join(line.flags))
    if line.corrections:
        first.append("see " + " ".join(line.corrections))
    shown = [(meter, quantity) for meter, quantity in line.quantities.items() if quantity]
    charge = "unpriced" if "unpriced" in line.flags and not line.charge else amount(line.charge)
    return [
        "\n".join(part for part in first if part),
        "\n".join(meter for meter, _ in shown),
        "\n".join(number(quantity) for _, quantity in shown),
        "-" if line.kind == "conflict" else charge,
    ]
