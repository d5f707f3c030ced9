"""``tallybook import``: record usage from files; docs/spec/import.md has the rules."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import msgspec
import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from adapters.cli.output import ExitCode, JsonOption, err, number, out, print_json, table
from adapters.cli.services import OpenServices
from ledger.application.importing.cells import TimeFormat
from ledger.application.importing.csvmapping import CsvMapping, IdFrom, parse_pairs
from ledger.application.importing.lines import Read
from ledger.application.importing.responses import ResponseReader
from ledger.application.importing.run import DryRun, Finding, Importer, ImportReport
from ledger.application.importing.sources import (
    STDIN,
    Format,
    Plan,
    Source,
    check_sources,
    choose_format,
    open_source,
)
from ledger.application.responses import Detect
from ledger.domain.errors import InvalidInput, LedgerError, Unavailable
from ledger.domain.responses import Normalizer

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
SHOWN_PROBLEMS = 10
_COUNTS = ("accepted", "duplicate", "conflict", "rejected", "unpriced")


class _Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    files: list[str]
    formats: list[tuple[str, Format]]
    plan: Plan
    rejected: str
    dry_run: bool
    strict: bool
    json: bool
    quiet: bool


class _File(msgspec.Struct, frozen=True):
    """An open file; its size in bytes, or None where it has none."""

    name: str
    read: Read
    size: int | None


def register(
    app: typer.Typer, open_services: OpenServices, normalizer: Normalizer, detect: Detect
) -> None:
    """Add ``import``.

    Args:
        app: where to.
        open_services: opens the ledger; not called by a dry run or for wrong input.
        normalizer: turns provider responses into quantities.
        detect: tells whose response one is.
    """

    @app.command("import")
    def command(
        files: Annotated[list[str], typer.Argument(metavar="FILE...", help="- reads stdin.")],
        *,
        form: Annotated[
            Format | None,
            typer.Option("--format", help="Of the lines; else by extension, else ndjson."),
        ] = None,
        provider: Annotated[
            str, typer.Option(help="Lines are responses of this provider; auto detects it.")
        ] = "",
        tenant: Annotated[str, typer.Option("--tenant", "-t", help="Where no line says.")] = "",
        source: Annotated[str, typer.Option(help="The producer, where no line says.")] = "",
        columns: Annotated[
            list[str], typer.Option("--map", help="CSV: member=COLUMN or meter=COLUMN.")
        ] = [],  # noqa: B006 (Typer copies it)
        constants: Annotated[
            list[str], typer.Option("--set", help="CSV: member=TEXT for every record.")
        ] = [],  # noqa: B006 (Typer copies it)
        id_from: Annotated[
            IdFrom, typer.Option(help="CSV: what identifies a record with no id column.")
        ] = IdFrom.LINE_NUMBER,
        timezone: Annotated[str, typer.Option(help="CSV: of times without an offset.")] = "UTC",
        time_format: Annotated[
            TimeFormat, typer.Option(help="CSV: of occurred_at.")
        ] = TimeFormat.RFC3339,
        start_line: Annotated[int, typer.Option(min=1, help="Skip the lines before it.")] = 1,
        rejected: Annotated[str, typer.Option(help="Write rejected lines here, as NDJSON.")] = "",
        dry_run: Annotated[bool, typer.Option(help="Read and report; store nothing.")] = False,
        strict: Annotated[
            bool, typer.Option(help="Exit 1 if anything was rejected or conflicts.")
        ] = False,
        json: JsonOption = False,
        quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
    ) -> None:
        """Record usage from files: CloudEvents (NDJSON), provider responses (NDJSON), or CSV.

        What was recorded before answers `duplicate`: to resume, run the same command again.
        """
        formats = [(name, choose_format(name, given=form, provider=provider)) for name in files]
        mapping = CsvMapping(
            columns=parse_pairs(columns, option="--map"),
            constants=parse_pairs(constants, option="--set"),
            tenant=tenant,
            source=source,
            id_from=id_from,
            timezone=timezone,
            time_format=time_format,
        )
        reader = None
        if provider:
            reader = ResponseReader(
                provider=provider,
                tenant=tenant,
                source=source,
                normalizer=normalizer,
                detect=detect,
            )
        wish = _Wish(
            files=files,
            formats=formats,
            plan=Plan(responses=reader, mapping=mapping, start_line=start_line),
            rejected=rejected,
            dry_run=dry_run,
            strict=strict,
            json=json,
            quiet=quiet,
        )
        _check(wish, tenant=tenant, source=source)
        raise typer.Exit(_import(wish, open_services))


def _check(wish: _Wish, *, tenant: str, source: str) -> None:
    """Refuse what cannot be meant, before any file is opened."""
    check_sources(wish.formats, wish.plan.mapping)
    if len(set(wish.files)) < len(wish.files):
        raise InvalidInput("a file is named twice", code="invalid_use")
    if wish.plan.start_line > 1 and len(wish.files) > 1:
        raise InvalidInput("--start-line is for one file at a time", code="invalid_use")
    if (tenant or source) and all(form is Format.NDJSON for _, form in wish.formats):
        raise InvalidInput(
            "CloudEvents say tenant (subject) and source themselves; "
            "--tenant and --source are for responses and CSV",
            code="invalid_use",
        )
    if wish.rejected and any(_same_file(wish.rejected, name) for name in wish.files):
        raise InvalidInput("--rejected would overwrite a file to import", code="invalid_use")


def _same_file(one: str, other: str) -> bool:
    try:
        return Path(one).samefile(other)
    except OSError:
        return False


def _import(wish: _Wish, open_services: OpenServices) -> int:
    with ExitStack() as stack:
        files = [stack.enter_context(_open(name)) for name in wish.files]
        sources = [
            open_source(name=file.name, form=form, read=file.read, plan=wish.plan)
            for file, (_, form) in zip(files, wish.formats, strict=True)
        ]
        submit = DryRun().submit
        if not wish.dry_run:
            submit = stack.enter_context(open_services()).ledger.submit
        on_rejected = stack.enter_context(_rejects(wish.rejected))
        with _progress(files, shown=not (wish.json or wish.quiet)) as on_progress:
            importer = Importer(submit, on_rejected=on_rejected, on_progress=on_progress)
            report = importer.run(sources)
    if wish.json:
        print_json(_document(report, wish))
    else:
        _show(report, wish)
    return _exit_code(report, strict=wish.strict)


@contextmanager
def _open(name: str) -> Iterator[_File]:
    if name == STDIN:
        buffered: Any = sys.stdin.buffer
        yield _File(name, buffered.read1, None)
        return
    try:
        file = Path(name).open("rb", buffering=0)  # noqa: SIM115 (closed below)
    except OSError as error:
        raise InvalidInput(
            f"{name} cannot be opened: {error.strerror}", code="unreadable_file"
        ) from None
    with file:
        yield _File(name, lambda count: file.read(count) or b"", _size(file))


def _size(file: Any) -> int | None:
    return os.fstat(file.fileno()).st_size or None


@contextmanager
def _rejects(name: str) -> Iterator[Callable[[Finding], None]]:
    """Open the file for rejected lines and give what writes to it."""
    if not name:
        yield lambda _: None
        return
    try:
        file: BinaryIO = Path(name).open("wb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise InvalidInput(
            f"{name} cannot be written: {error.strerror}", code="unwritable_file"
        ) from None

    def write(finding: Finding) -> None:
        line = {
            "file": finding.file,
            "line": finding.line,
            "code": finding.code,
            "message": finding.message,
            "pointer": finding.pointer,
            "text": finding.text.decode(errors="replace"),
        }
        try:
            file.write(msgspec.json.encode(line) + b"\n")
        except OSError as error:
            raise Unavailable(
                f"writing {name} failed: {error.strerror}", code="unwritable_file"
            ) from error

    with file:
        yield write


def _progress(
    files: list[_File], *, shown: bool
) -> AbstractContextManager[Callable[[Source], None]]:
    """Return a bar of the bytes read, on a terminal only."""
    console = err()
    if not shown or not console.is_terminal:
        return nullcontext(lambda _: None)
    return _bar(files)


@contextmanager
def _bar(files: list[_File]) -> Iterator[Callable[[Source], None]]:
    sizes = [file.size for file in files]
    total = None if None in sizes else sum(size for size in sizes if size is not None)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=err(),
        transient=True,
    )
    read: dict[str, int] = {}
    with bar:
        task = bar.add_task("importing", total=total)

        def advance(source: Source) -> None:
            read[source.name] = source.position()
            bar.update(task, completed=sum(read.values()), description=source.name)

        yield advance


def _document(report: ImportReport, wish: _Wish) -> dict[str, Any]:
    document: dict[str, Any] = {name: report.total(name) for name in _COUNTS}
    document["seconds"] = round(report.seconds, 3)
    document["complete"] = report.complete
    if wish.dry_run:
        document |= {"dry_run": True, "readable": report.total("readable")}
    if report.interrupted:
        document["interrupted"] = True
    if report.unanswered:
        document["unanswered"] = report.unanswered
    if report.failure is not None:
        document["error"] = {"code": report.failure.code, "message": report.failure.message}
    document["files"] = [msgspec.structs.asdict(file) for file in report.files]
    document["problems"] = [
        {
            "file": finding.file,
            "line": finding.line,
            "status": finding.status,
            "code": finding.code,
            "message": finding.message,
            "pointer": finding.pointer,
        }
        for finding in report.findings
    ]
    return document


def _show(report: ImportReport, wish: _Wish) -> None:
    counts = ("readable", "rejected") if wish.dry_run else _COUNTS
    rows = [
        [file.name, *(number(int(getattr(file, name))) for name in counts)] for file in report.files
    ]
    if len(rows) != 1:
        rows.append(["all", *(number(report.total(name)) for name in counts)])
    out().print(table([("file", False), *((name, True) for name in counts)], rows))
    for status, heading in (("rejected", "rejected"), ("conflict", "conflicts")):
        _list(report, status, heading)
    notes = err()
    if wish.dry_run:
        notes.print("dry run: nothing was stored")
    elif report.total("unpriced"):
        notes.print(
            "unpriced usage is kept and is rated once its price is approved", soft_wrap=True
        )
    if report.interrupted:
        notes.print(Text(_resume(report, wish)), soft_wrap=True)
    if report.failure is not None:
        _say_failure(report.failure, _resume(report, wish))


def _list(report: ImportReport, status: str, heading: str) -> None:
    found = [finding for finding in report.findings if finding.status == status]
    if not found:
        return
    shown = found[:SHOWN_PROBLEMS]
    count = report.total(status)
    more = f", the first {len(shown)}" if count > len(shown) else ""
    out().print(f"\n{heading}{more}:")
    for finding in shown:
        where = f"{finding.file}:{finding.line}"
        pointer = f" {finding.pointer}" if finding.pointer else ""
        out().print(Text(f"  {where}{pointer} [{finding.code}] {finding.message}"), soft_wrap=True)


def _resume(report: ImportReport, wish: _Wish) -> str:
    recorded = report.total("accepted") + report.total("duplicate")
    last = report.files[-1] if report.files else None
    said = f"interrupted: {recorded:,} items are recorded for certain"
    if not report.interrupted:
        said = f"{recorded:,} items are recorded for certain"
    if report.unanswered:
        said += f", {report.unanswered:,} more perhaps"
    said += "; run the same command again, what is recorded answers duplicate"
    if last is not None and last.last_line > 1 and len(wish.files) == 1:
        said += f" (--start-line {last.last_line} skips what was answered)"
    return said


def _say_failure(error: LedgerError, how: str) -> None:
    line = Text.assemble(("error", "bold red"), f" [{error.code}] {error.message}; {how}")
    err().print(line, soft_wrap=True)


def _exit_code(report: ImportReport, *, strict: bool) -> int:
    if report.interrupted:
        return INTERRUPTED
    if not report.complete:
        return ExitCode.FAILED
    if strict and report.total("rejected") + report.total("conflict"):
        return ExitCode.FAILED
    return ExitCode.OK
