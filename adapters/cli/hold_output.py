"""How holds, and the decisions that were kept, are shown."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from adapters.cli.output import number, out, table
from adapters.cli.protection_output import measured, moment
from ledger.application.documents.protection import hold_document
from ledger.application.protection_reads import DecisionRow, HoldRow
from ledger.domain.protection_entries import Reason


def holds_table(rows: Iterable[HoldRow]) -> Any:
    """Return holds as a table."""
    columns = (
        ("tenant", False),
        ("hold", False),
        ("status", False),
        ("model", False),
        ("reserved", True),
        ("overrun", True),
        ("authorized", False),
        ("expires", False),
    )
    return table(columns, map(_hold_cells, rows))


def _hold_cells(row: HoldRow) -> tuple[str, ...]:
    hold, zone_name, shape = row.hold, row.tenant.timezone, row.shape
    return (
        row.tenant.tenant,
        hold.id,
        f"{row.status}{' (due)' if row.due else ''}{', late' if hold.late else ''}",
        f"{shape.shape.provider}/{shape.shape.model}" if shape is not None else "-",
        measured(hold.amount, "charge", row.tenant.currency),
        measured(hold.overrun, "charge", row.tenant.currency) if hold.overrun else "-",
        moment(hold.at, zone_name),
        moment(hold.expires_at, zone_name),
    )


_QUANTITIES = ("progress", "captured")


def say_hold(row: HoldRow) -> None:
    """Show everything that is known of a hold."""
    shown = hold_document(row)
    lines = []
    for name, value in shown.items():
        if isinstance(value, dict):
            value = ", ".join(  # noqa: PLW2901 - the same value, as text
                f"{key} {number(Decimal(part)) if name in _QUANTITIES else part}"
                for key, part in value.items()
            )
        elif name == "budgets":
            value = ", ".join(str(one["number"]) for one in value)  # noqa: PLW2901 - as above
        if value not in ("", None, 0, False):
            lines.append((name.replace("_", " "), str(value)))
    out().print(table((("", False), ("", False)), lines))


def decisions_table(rows: Iterable[DecisionRow]) -> Any:
    """Return kept answers as a table."""
    columns = (
        ("when", False),
        ("hold", False),
        ("decision", False),
        ("code", False),
        ("model", False),
        ("asked", True),
        ("reserved", True),
        ("why", False),
    )
    return table(columns, map(_decision_cells, rows))


def _decision_cells(row: DecisionRow) -> tuple[str, ...]:
    called = row.shape.shape.model
    model = row.model if called == row.model else f"{row.model} -> {called}"
    return (
        moment(row.at, row.tenant.timezone),
        row.hold,
        row.decision,
        row.code,
        f"{row.shape.shape.provider}/{model}",
        measured(row.asked, "charge", row.tenant.currency),
        measured(row.amount, "charge", row.tenant.currency),
        "; ".join(reason_text(one) for one in row.reasons),
    )


def reason_text(reason: Reason) -> str:
    """Return a reason in one line."""
    if not reason.measure or reason.code == "downgrade":
        return " ".join(part for part in (reason.code, reason.name, reason.detail) if part)
    parts = (
        ("limit", reason.limit),
        ("spent", reason.spent),
        ("held", reason.held),
        ("asked", reason.asked),
    )
    numbers = ", ".join(f"{name} {measured(one, reason.measure, '')}" for name, one in parts)
    return f"{reason.code} {reason.name}: {numbers}"
