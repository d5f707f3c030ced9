"""What commands print: tables for people, JSON for programs; and how they end.

Data goes to standard output, everything else (progress, notes, errors) to standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from enum import IntEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ledger.application.documents.encoding import as_json
from ledger.domain.money import text

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
TenantOption = Annotated[str, typer.Option("--tenant", "-t", help="Whose ledger.")]


class ExitCode(IntEnum):
    """How a command ends."""

    OK = 0
    FAILED = 1
    USAGE = 2
    DENIED = 3
    VARIANCE = 4
    INTEGRITY = 5


def out() -> Console:
    """Return the console for data."""
    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def err() -> Console:
    """Return the console for notes, progress and errors."""
    return Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """Print a value as one line of JSON on standard output."""
    sys.stdout.write(as_json(value) + "\n")
    sys.stdout.flush()


def table(
    columns: Sequence[tuple[str, bool]], rows: Iterable[Sequence[str]], *, title: str | None = None
) -> Table:
    """Return a table; ``columns`` are headings and whether the column is of numbers."""
    made = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for heading, number in columns:
        # Folded, not cut: what stands in a cell is often an id that somebody wants to copy.
        made.add_column(
            heading,
            justify="right" if number else "left",
            no_wrap=number,
            overflow="ellipsis" if number else "fold",
        )
    for row in rows:
        # Cells hold ids from outside: as Text, brackets in them are no markup.
        made.add_row(*(Text(cell) for cell in row))
    return made


def number(value: Decimal | int | None, decimals: int | None = None) -> str:
    """Return a number for people: thousands set apart, ``-`` for None."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    if decimals is None:
        whole, _, rest = text(value).partition(".")
        grouped = f"{int(whole):,}"
        if whole == "-0":
            grouped = "-0"
        return f"{grouped}.{rest}" if rest else grouped
    return f"{value:,.{decimals}f}"
