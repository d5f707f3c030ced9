"""``tallybook demo``: three invented companies, a month of their calls, and what they owe.

Everything is computed by the real engine on the real database, from responses in the providers'
own formats; only the traffic is invented. A second run records nothing twice and says so.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from adapters.cli import demo_run as run
from adapters.cli.db import DatabaseControl, StartedDatabase
from adapters.cli.demo_statement import Statement, clip, render
from adapters.cli.demo_traffic import Traffic, generate, month_before
from adapters.cli.output import JsonOption, err, number, out, print_json
from adapters.cli.services import OpenServices
from adapters.cli.setup import MigrationStatus
from ledger.application.importing.run import ImportReport
from ledger.application.responses import Detect
from ledger.application.services import Services
from ledger.domain.catalog import DEFAULT_BOOK
from ledger.domain.money import round_money
from ledger.domain.responses import Normalizer

SEED = 1
WIDEST = 120
"""Columns beyond which the statements do not grow."""
_COUNTS = ("accepted", "duplicate", "conflict", "rejected", "unpriced")


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What the composition root gives the demonstration beside the use cases.

    Attributes:
        database: finds or starts the server.
        migrate: brings the schema up to date.
        normalizer: turns provider responses into quantities.
        detect: tells whose response one is.
        folder: returns where the traffic is written, a directory that exists.
    """

    database: DatabaseControl
    migrate: Callable[[], MigrationStatus]
    normalizer: Normalizer
    detect: Detect
    folder: Callable[[], Path]


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """What a run of the demonstration did and found.

    Attributes:
        month: ``YYYY-MM``.
        seed: of the traffic.
        server: the database server.
        prices: the price book.
        files: the traffic and its corrections.
        report: what became of them.
        unchanged: whether there were balances before, and all are still the same.
        statements: one a tenant.
        unpriced: calls without a price.
        example: tenant and id of a call worth explaining.
    """

    month: str
    seed: int
    server: StartedDatabase
    prices: run.PricesReady
    files: tuple[Path, Path]
    report: ImportReport
    unchanged: bool
    statements: list[Statement]
    unpriced: list[run.Unpriced]
    example: tuple[str, str]


Say = Callable[[str, str], None]
"""Tells a step of the demonstration and how it went."""


def register(app: typer.Typer, open_services: OpenServices, parts: Parts) -> None:
    """Add ``demo``."""

    @app.command("demo")
    def command(
        *,
        month: Annotated[
            str, typer.Option(help="Month to invent, YYYY-MM; else the last complete one.")
        ] = "",
        seed: Annotated[int, typer.Option(help="Another number invents other traffic.")] = SEED,
        json: JsonOption = False,
    ) -> None:
        """Play a month of three invented companies through the real ledger, and show the bill."""
        wanted = month or month_before(datetime.now(UTC).date())
        traffic = generate(rng=Random(f"{wanted}/{seed}"), month=wanted)  # noqa: S311 (no secret)
        console = out()
        if json:
            print_json(document(_play(traffic, seed, open_services, parts, _silent)))
            return
        shown = _Screen(console)
        shown.title(wanted)
        played = _play(traffic, seed, open_services, parts, shown.step)
        shown.result(played)


def _silent(label: str, text: str) -> None:
    del label, text


def _play(
    traffic: Traffic, seed: int, open_services: OpenServices, parts: Parts, say: Say
) -> Played:
    notes = err()
    server = parts.database.start(progress=lambda line: notes.print(Text(line, style="dim")))
    say("database", _server(server))
    applied = len(parts.migrate().applied)
    say("schema", f"{applied} migration{'s' if applied != 1 else ''} applied")
    with open_services() as services:
        return _record(services, traffic, seed, server, parts, say)


def _record(
    services: Services, traffic: Traffic, seed: int, server: StartedDatabase, parts: Parts, say: Say
) -> Played:
    month = traffic.month
    book = run.choose_book(services)
    opened = run.open_tenants(services, book=book)
    say("tenants", f"{'opened' if opened else 'found'} {', '.join(run.NAMES)}")
    prices = run.stock_prices(services, book=book)
    say("prices", _prices(prices))
    sent, corrections = run.write_files(parts.folder(), traffic)
    say("traffic", f"{len(traffic.lines):,} provider responses in {sent}")
    before = run.balances(services, month)
    report = run.import_files(
        services,
        sent=sent,
        corrections=corrections,
        normalizer=parts.normalizer,
        detect=parts.detect,
    )
    after = run.balances(services, month)
    say("import", _imported(report))
    return Played(
        month=month,
        seed=seed,
        server=server,
        prices=prices,
        files=(sent, corrections),
        report=report,
        unchanged=bool(before) and before == after,
        statements=run.statements(services, month),
        unpriced=run.unpriced(services, month),
        example=traffic.example,
    )


def _server(server: StartedDatabase) -> str:
    status = server.status
    how = "started" if server.started else "running"
    where = f" in {status.data_dir}" if status.data_dir else ""
    return f"PostgreSQL {status.version or 'of unknown version'}, {how}{where}"


def _prices(prices: run.PricesReady) -> str:
    if not prices.approved and prices.markup is None:
        return f"the price book {prices.book!r} has prices already, left as it is"
    said = []
    if prices.approved:
        said.append(f"{prices.approved:,} provider prices approved")
    if prices.markup is not None:
        said.append(f"book {prices.book!r} sells at cost + {number(prices.markup)} %")
    return ", ".join(said)


def _imported(report: ImportReport) -> str:
    count = sum(report.total(name) for name in _COUNTS[:-1])
    return f"{count:,} calls and corrections in {report.seconds:.1f} s"


def document(played: Played) -> dict[str, Any]:
    """Return a run as a JSON document; amounts are unrounded unless they say so."""
    status = played.server.status
    return {
        "month": played.month,
        "seed": played.seed,
        "database": {
            "version": status.version,
            "started": played.server.started,
            "data_dir": status.data_dir,
        },
        "prices": msgspec.structs.asdict(played.prices),
        "files": [str(path) for path in played.files],
        "import": {name: played.report.total(name) for name in _COUNTS},
        "problems": [
            {
                "line": finding.line,
                "status": finding.status,
                "code": finding.code,
                "pointer": finding.pointer,
                "message": finding.message,
            }
            for finding in played.report.findings
        ],
        "balances_unchanged": played.unchanged,
        "example": {"tenant": played.example[0], "id": played.example[1]},
        "tenants": [_totals(statement) for statement in played.statements],
    }


def _totals(statement: Statement) -> dict[str, Any]:
    return {
        "tenant": statement.tenant,
        "timezone": statement.timezone,
        "currency": statement.currency,
        "period": statement.period,
        "events": statement.events,
        "voided": statement.voided,
        "unpriced": statement.unpriced,
        "charge": statement.charge,
        "charge_rounded": format(statement.rounded, "f"),
        "costs": dict(statement.costs),
        "margin": statement.margin,
        "quantities": {meter: pair[0] for meter, pair in statement.quantities.items()},
        "days": {day.isoformat(): charge for day, charge in statement.days.items()},
    }


class _Screen:
    """Prints the demonstration for people, on a console of any width and encoding."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._width = min(console.width, WIDEST)
        self._unicode = _encodes(console.encoding, "─│└█▁…·")

    def line(self, *parts: str | tuple[str, str]) -> None:
        """Print one line; paths and commands are never wrapped or cut."""
        self._console.print(Text.assemble(*parts), soft_wrap=True)

    def title(self, month: str) -> None:
        self.line(("Tallybook demo", "bold"), f": three companies, their AI calls of {month}")
        self.line()

    def step(self, label: str, text: str) -> None:
        self.line((f" {label:<9} ", "bold"), text)

    def result(self, played: Played) -> None:
        self._import(played)
        for statement in played.statements:
            self.line()
            for line in render(statement, width=self._width, unicode=self._unicode):
                self._console.print(line, soft_wrap=True)
        self.line()
        self._total(played)
        self._unpriced(played.unpriced)
        self._next(played)

    def _import(self, played: Played) -> None:
        report = played.report
        self.line()
        for name, what, style in (
            ("accepted", "recorded, each once and for good", "green"),
            ("duplicate", "sent again: the first receipt is the answer, charged once", ""),
            ("conflict", "a known id with other tokens: kept as evidence, not charged", "yellow"),
            ("rejected", "unreadable: sent back with line, code and place", "red"),
        ):
            count = report.total(name)
            self.line((f" {count:>9,} {name:<9} ", style if count else "dim"), (what, "dim"))
        for finding in report.findings:
            where = f" at {finding.pointer}" if finding.pointer else ""
            said = f" {'':>9} line {finding.line:,}: {finding.code}{where}"
            style = "red" if finding.status == "rejected" else "yellow"
            self.line((clip(said, self._width, unicode=self._unicode), style))
        if played.unchanged:
            duplicates = report.total("duplicate")
            self.line()
            self.line(
                (
                    f" found the demo already imported: {duplicates:,} duplicates,"
                    " balances unchanged",
                    "bold yellow",
                )
            )

    def _total(self, played: Played) -> None:
        currency = run.CURRENCY
        charge = sum((one.rounded for one in played.statements), Decimal(0))
        events = sum(one.events for one in played.statements)
        margins = [one.margin for one in played.statements if one.margin is not None]
        margin = round_money(sum(margins, Decimal(0)), currency)
        self.line(
            (f" All three: {currency} {number(charge, 2)}", "bold"),
            f" for {events:,} events, {number(margin, 2)} of it margin",
        )

    def _unpriced(self, found: Sequence[run.Unpriced]) -> None:
        by_model = Counter(one.model for one in found)
        for model, count in by_model.most_common(3):
            calls = "1 call" if count == 1 else f"{count:,} calls"
            first = next(one for one in found if one.model == model)
            self.line(
                (
                    f" In no amount: {calls} of {model} by {first.tenant} ({first.id});",
                    "yellow",
                )
            )
        if found:
            self.line(
                ("   there is no price for it, and an unknown price is never zero. It is", "dim")
            )
            self.line(("   kept, and will be rated once a price is approved.", "dim"))

    def _next(self, played: Played) -> None:
        tenant, id = played.example
        name = program()
        book = "" if played.prices.book == DEFAULT_BOOK else f" --book {played.prices.book}"
        tries = [
            (f" {name} {arguments}", f"  # {what}")
            for arguments, what in (
                (f"explain {id}", "how it was charged"),
                (f"usage -t {tenant} --by day,model", "or user, project"),
                (f"balance -t {tenant} --json", "for programs"),
                ("verify", "replays the log"),
                (f"prices at openai gpt-4o{book}", "prices in force"),
            )
        ]
        column = max(len(command) for command, _ in tries)
        room = self._width - column - max(len(what) for _, what in tries)
        self.line()
        self.line(("What to try next", "bold"))
        for command, what in tries:
            # Where there is no room the commands stand alone: they say enough.
            self.line(
                (f"{command:<{column}}" if room >= 0 else command, "cyan"),
                (what if room >= 0 else "", "dim"),
            )


def program() -> str:
    """Return how this program is called from here, so that printed commands work."""
    called = Path(sys.argv[0])
    found = shutil.which("tallybook")
    if found is not None and Path(found).resolve() == called.resolve():
        return "tallybook"
    if called.name != "tallybook" or not called.is_file():
        return "tallybook"
    try:
        return shlex.quote(str(called.resolve().relative_to(Path.cwd())))
    except ValueError:
        return shlex.quote(str(called.resolve()))


def _encodes(encoding: str, characters: str) -> bool:
    try:
        characters.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
