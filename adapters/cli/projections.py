"""``tallybook projections``: how far the read models are, running them, rebuilding them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from adapters.cli.output import JsonOption, err, number, out, print_json, table
from adapters.cli.services import OpenServices
from ledger.application.runner import ProjectionStatus


def register(app: typer.Typer, open_services: OpenServices) -> None:
    """Add ``projections status``, ``projections run`` and ``projections rebuild``."""
    group = typer.Typer(
        name="projections", help="Read models and how far they are.", invoke_without_command=True
    )
    app.add_typer(group)

    @group.callback()
    def default(context: typer.Context, *, json: JsonOption = False) -> None:
        if context.invoked_subcommand is None:
            status(json=json)

    @group.command("status")
    def status(*, json: JsonOption = False) -> None:
        """Show how far each projection is."""
        with open_services() as services:
            _report(services.projections.status(), json)

    @group.command("run")
    def run(
        *,
        follow: Annotated[
            bool, typer.Option("--follow", "-f", help="Go on until interrupted.")
        ] = False,
        json: JsonOption = False,
    ) -> None:
        """Count everything that is in the log."""
        with open_services() as services:
            if follow:
                with _stopped_by_signals() as stop:
                    err().print("following the log; Ctrl-C ends it")
                    services.projections.follow(stop=stop)
                _report(services.projections.status(), json)
            else:
                _report(services.projections.catch_up(), json)

    @group.command("rebuild")
    def rebuild(
        name: Annotated[str, typer.Argument(help="The projection, such as usage_daily.")],
        *,
        json: JsonOption = False,
    ) -> None:
        """Make a projection anew from the whole log, beside the live one; resumable."""
        notes = err()

        def progress(at: ProjectionStatus) -> None:
            if at.rebuilding is not None and notes.is_terminal:
                notes.print(f"{at.rebuilding:,} of {at.head:,}", end="\r")

        with open_services() as services:
            report = services.projections.rebuild(name, progress=progress)
        if json:
            print_json(
                {
                    "name": report.name,
                    "position": report.position,
                    "rows": report.rows,
                    "changed": report.changed,
                    "removed": report.removed,
                }
            )
            return
        out().print(
            f"rebuilt {report.name} up to position {report.position:,}: {report.rows:,} rows,"
            f" {report.changed:,} of them changed, {report.removed:,} removed",
            markup=False,
        )


def _report(statuses: list[ProjectionStatus], json: bool) -> None:
    if json:
        print_json([_document(one) for one in statuses])
        return
    columns = [
        ("projection", False),
        ("position", True),
        ("head", True),
        ("behind", True),
        ("rebuild", True),
    ]
    out().print(
        table(
            columns,
            (
                (
                    one.name,
                    number(one.position),
                    number(one.head),
                    number(one.lag),
                    number(one.rebuilding),
                )
                for one in statuses
            ),
        )
    )


def _document(status: ProjectionStatus) -> dict[str, Any]:
    return {
        "name": status.name,
        "position": status.position,
        "head": status.head,
        "lag": status.lag,
        "rebuilding": status.rebuilding,
    }


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """Set an event on SIGINT and SIGTERM, so that the batch at hand is finished first."""
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
