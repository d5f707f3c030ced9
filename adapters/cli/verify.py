"""``tallybook verify``: fold the log again and compare it with every row."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from adapters.cli.output import ExitCode, JsonOption, err, number, out, print_json
from adapters.cli.protection_output import user, warn
from adapters.cli.services import OpenServices
from ledger.application.audit_log import AuditLog
from ledger.application.documents.invoices import warnings_document
from ledger.application.replay import Difference
from ledger.application.verify import Progress, VerifyReport, keep
from ledger.application.verify_all import verify_all
from ledger.domain.errors import Unavailable

PROGRESS_EVERY_S = 5.0
"""Seconds between two lines of progress where they cannot overwrite each other."""


def register(app: typer.Typer, open_services: OpenServices) -> None:
    """Add ``verify``."""

    @app.command("verify")
    def command(
        *,
        tenant: Annotated[
            str | None, typer.Option("--tenant", "-t", help="Only this tenant's ledger.")
        ] = None,
        deep: Annotated[
            bool,
            typer.Option("--deep", help="Compute fingerprints and amounts again too; slower."),
        ] = False,
        json: JsonOption = False,
    ) -> None:
        """Fold the whole log again and compare it with every row; exits 5 if they differ."""
        with open_services() as services:
            report = verify_all(services, tenant=tenant, deep=deep, progress=_progress())
            _keep(services.audit_log, report, tenant)
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
        if json:
            print_json(_document(report))
        else:
            _show(report)
        if not report.clean:
            raise typer.Exit(ExitCode.INTEGRITY)


def _keep(log: AuditLog, report: VerifyReport, tenant: str | None) -> None:
    try:
        keep(log, report, tenant=tenant, who=user(""))
    except Unavailable as error:
        # What was found is worth more than that it is written down.
        err().print(f"the result is not in the audit log: {error}", markup=False)


def _progress() -> Callable[[Progress], None]:
    """Return what tells progress: one line that changes, or a line now and then."""
    terminal = sys.stderr.isatty()
    next_s = 0.2 if terminal else PROGRESS_EVERY_S

    def tell(progress: Progress) -> None:
        nonlocal next_s
        if progress.seconds < next_s:
            return
        next_s = progress.seconds + (0.2 if terminal else PROGRESS_EVERY_S)
        rate = round(progress.entries / progress.seconds)
        line = (
            f"read up to {progress.position:,} of {progress.head:,}:"
            f" {progress.entries:,} entries, {rate:,}/s"
        )
        sys.stderr.write(f"\r\x1b[K{line}" if terminal else f"{line}\n")
        sys.stderr.flush()

    return tell


def _document(report: VerifyReport) -> dict[str, object]:
    return {
        "clean": report.clean,
        "tenants": report.tenants,
        "commits": report.commits,
        "entries": report.entries,
        "seconds": report.seconds,
        "entries_per_s": report.entries_per_s,
        "head": report.head,
        "rollup_position": report.rollup_position,
        "billing_position": report.billing_position,
        "not_compared": list(report.not_compared),
        "deep": report.deep,
        "difference_count": report.total,
        "differences": [msgspec.structs.asdict(one) for one in report.differences],
        "warnings": warnings_document(report.warnings),
    }


def _show(report: VerifyReport) -> None:
    console = out()
    warn(report.warnings)
    console.print(
        f"{number(report.tenants)} tenants, {number(report.commits)} commits,"
        f" {number(report.entries)} entries in {report.seconds:.1f} s"
        f" ({number(report.entries_per_s)} entries/s)"
    )
    for name, position in (
        ("usage_daily", report.rollup_position),
        ("billing_daily", report.billing_position),
    ):
        behind = report.head - position
        if position and behind > 0:
            err().print(
                f"{name} counted up to log position {position:,}, {behind:,} behind: compared up to"
                " there"
            )
    missing = " and ".join(report.not_compared)
    if missing:
        err().print(
            f"{missing} counted nothing of the log yet, so nothing there was compared;"
            " `tallybook projections run` lets rollups catch up"
        )
    if report.clean:
        rest = f", nothing of {missing} compared" if missing else ""
        console.print(f"clean{rest}: the {'other ' if missing else ''}rows say what the log says")
        return
    for one in report.differences:
        console.print(_lines(one))
    shown = len(report.differences)
    more = f", the first {shown} of them shown" if report.total > shown else ""
    console.print(f"{number(report.total)} differences{more}")
    err().print("docs/runbooks/integrity-alert.md says what to do")


def _lines(one: Difference) -> Text:
    # Names come from outside: as Text, brackets in them are no markup.
    line = Text(f"{one.tenant or '-'}  [{one.code}] {one.what}\n")
    line.append(f"    expected  {one.expected}\n    found     {one.found}")
    return line
