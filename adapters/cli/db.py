"""``tallybook db``: start, stop and look at the database server.

The server itself is somebody else's work: `build` takes it as an object, so that this package
needs to know no other adapter.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated, Protocol

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ledger.domain.errors import Unavailable

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


class DatabaseStatus(Protocol):
    """What is known about a server; None is unknown or not applicable."""

    @property
    def running(self) -> bool:
        """Whether it is there."""

    @property
    def pid(self) -> int | None:
        """Its process id, if it is ours."""

    @property
    def port(self) -> int | None:
        """Its TCP port."""

    @property
    def version(self) -> str | None:
        """Its version."""

    @property
    def bin_dir(self) -> str | None:
        """The directory of its programs."""

    @property
    def data_dir(self) -> str | None:
        """The directory of its data."""

    @property
    def source(self) -> str | None:
        """Which rule found it."""


class StartedDatabase(Protocol):
    """A server that answers."""

    @property
    def status(self) -> DatabaseStatus:
        """What it is."""

    @property
    def started(self) -> bool:
        """Whether it was started just now."""


class DatabaseControl(Protocol):
    """What these commands need; each method raises a `LedgerError` when it cannot."""

    def start(self, *, progress: Callable[[str], None] | None = None) -> StartedDatabase:
        """Start the server unless it runs already."""

    def stop(self) -> bool:
        """Stop the server; False if none was running."""

    def status(self) -> DatabaseStatus:
        """Return what is known about the server."""

    def url(self) -> str:
        """Return the connection URL of the running server, with its password."""

    def psql(self) -> tuple[list[str], dict[str, str]]:
        """Return the command line of psql, and the variables that its environment needs."""


def build(database: DatabaseControl) -> typer.Typer:
    """Return the commands for one database."""
    app = typer.Typer(help="Start, stop and inspect the database server.", no_args_is_help=True)

    @app.command()
    def start(json: JsonOption = False) -> None:
        """Start the embedded server, unless it is running already."""
        errors = Console(stderr=True)
        server = database.start(progress=lambda line: errors.print(Text(line, style="dim")))
        if json:
            _print_json({"started": server.started, **_facts(server.status)})
        else:
            _say("started" if server.started else "already running")
            _show(server.status)

    @app.command()
    def stop(json: JsonOption = False) -> None:
        """Stop the embedded server; transactions in progress roll back."""
        stopped = database.stop()
        if json:
            _print_json({"stopped": stopped})
        else:
            _say("stopped" if stopped else "no embedded server was running")

    @app.command()
    def status(json: JsonOption = False) -> None:
        """Show where the server is, and whether it runs."""
        found = database.status()
        if json:
            _print_json(_facts(found))
        else:
            _show(found)

    @app.command()
    def url(json: JsonOption = False) -> None:
        """Print the connection URL with its password, for scripts."""
        address = database.url()
        if json:
            _print_json({"url": address})
        else:
            typer.echo(address)

    @app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
    def psql(context: typer.Context) -> None:
        """Open psql on the database; arguments after ``--`` go to psql."""
        command, variables = database.psql()
        _become([*command, *context.args], variables)

    return app


def _facts(status: DatabaseStatus) -> dict[str, object]:
    return {
        "running": status.running,
        "pid": status.pid,
        "port": status.port,
        "version": status.version,
        "bin_dir": status.bin_dir,
        "data_dir": status.data_dir,
        "source": status.source,
    }


def _print_json(value: object) -> None:
    typer.echo(msgspec.json.encode(value).decode())


def _say(line: str) -> None:
    Console().print(Text(line))


def _show(status: DatabaseStatus) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in _facts(status).items():
        if value is not None:
            shown = ("yes" if value else "no") if isinstance(value, bool) else str(value)
            # Paths are folded, never cut: they are there to be copied.
            table.add_row(Text(name.replace("_", " "), style="bold"), Text(shown, overflow="fold"))
    Console().print(table)


def _become(command: list[str], variables: dict[str, str]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvpe(command[0], command, {**os.environ, **variables})  # noqa: S606 (no shell is meant)
    except OSError as error:
        raise Unavailable(
            f"cannot run {command[0]}: {error.strerror}; install PostgreSQL's client programs"
        ) from error
