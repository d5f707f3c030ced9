"""How price rows and what became of them are shown."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.text import Text

from adapters.cli.output import err, number, out, print_json, table
from ledger.application.documents.prices import tree, tree_of_change
from ledger.application.price_results import ChangeResult, PullResult
from ledger.application.rerating import RatingCounts
from ledger.domain.money import text
from ledger.domain.periods import EPOCH
from ledger.domain.price_book import shown_rate
from ledger.domain.price_records import PriceRecord
from ledger.domain.prices import EXACT_QUANTITY

COLUMNS = (
    ("version", False),
    ("price of", False),
    ("rate", False),
    ("from", False),
    ("status", False),
    ("note", False),
)


def cells(record: PriceRecord, mark: str = "") -> tuple[str, ...]:
    """Return a row's cells of a table; ``mark`` goes before its version."""
    row, key = record.row, record.row.key
    what = [f"{key.provider}/{key.model} {key.meter}"]
    what += [f"tier {key.tier}"] if key.tier else []
    what += [f"region {key.region}"] if key.region else []
    what += ["batch"] if key.batch else []
    what += [f"over {key.context_over:,} input tokens"] if key.context_over else []
    rule = row.quantity_rule
    notes = [record.note] if record.note else []
    if rule != EXACT_QUANTITY:
        notes.append(
            f"steps of {text(rule.increment)}, minimum {text(rule.minimum)}, {rule.mode} a"
            f" {rule.scope}"
        )
    return (
        f"{mark}{record.version}",
        ", ".join(what),
        shown_rate(row),
        "always" if row.effective_from == EPOCH else shown_time(row.effective_from),
        f"{record.status}, {record.source}",
        "; ".join(notes),
    )


def show_records(records: Sequence[PriceRecord]) -> None:
    """Print rows as a table."""
    out().print(table(COLUMNS, map(cells, records)))


def show_pull(result: PullResult, *, approve: bool, json: bool) -> None:
    """Print what came of a pull, an import or an approval of everything."""
    if json:
        print_json(tree(result))
        return
    parts = [f"{number(result.proposed)} rows proposed"]
    if approve:
        parts.append(f"{number(result.approved)} approved")
    elif result.waiting:
        parts.append(f"{number(result.waiting)} wait for `tallybook prices approve --all`")
    if result.dropped:
        parts.append(f"{number(result.dropped)} earlier proposals dropped")
    if result.held:
        parts.append(f"{number(result.held)} held: see `tallybook prices diff`")
    if result.proposed or result.approved or result.dropped or result.renamed:
        say(", ".join(parts))
    else:
        say(", ".join(["nothing new", *parts[1:]]) if result.held else "nothing new")
    if result.published:
        say(f"{number(result.published)} sell rows published by mark-up")
    if result.decided:
        remark(f"{number(result.decided)} rows were decided against before")
    if result.gone:
        shown = ", ".join(result.gone[:5])
        remark(
            f"{number(len(result.gone))} approved rows are no longer in their source and stay in"
            f" force until you retire them: {shown}{' …' if len(result.gone) > 5 else ''}"
        )
    if result.unsaid:
        remark(f"{number(result.unsaid)} prices of the source have no row: see price-sources.md")
    say_rating(result.rating)


def show_change(result: ChangeResult, done: str, *, json: bool) -> None:
    """Print what came of a person's decision."""
    if json:
        print_json(tree_of_change(result))
        return
    for record in result.records:
        shown = cells(record)
        since = "the beginning" if shown[3] == "always" else shown[3]
        say(f"{done}: {shown[0]}  {shown[1]}  {shown[2]}, from {since}")
    if result.dropped:
        say(f"dropped: {', '.join(result.dropped)}")
    if result.published:
        say(f"{number(result.published)} sell rows published by mark-up")
    say_rating(result.rating)


def say_rating(rating: RatingCounts | None) -> None:
    """Print what was rated afterwards, if anything waited."""
    if rating is not None and (rating.rated or rating.unpriced):
        say(
            f"{number(rating.rated)} events that waited are rated,"
            f" {number(rating.unpriced)} still unpriced"
        )


def say_more(shown: int, total: int) -> None:
    """Say on standard error that a list was cut, and how to see more."""
    if shown < total:
        remark(f"{number(shown)} of {number(total)}; see more with --limit, or narrow the list")


def say(line: str) -> None:
    """Print a line of the result."""
    out().print(Text(line))


def remark(line: str) -> None:
    """Print a remark on standard error."""
    err().print(Text(line, style="dim"))


def shown_time(at: datetime) -> str:
    """Return a time for people: the day alone at 00:00 UTC."""
    return (
        f"{at:%Y-%m-%d}"
        if at == datetime(at.year, at.month, at.day, tzinfo=UTC)
        else (f"{at:%Y-%m-%d %H:%M:%S} UTC")
    )
