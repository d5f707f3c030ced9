"""``tallybook up``: the server, with a database, a schema and a first key if there are none."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Protocol

import msgspec
import typer
from rich.text import Text

from adapters.cli.output import ExitCode, JsonOption, err, out, print_json


class LogFormat(StrEnum):
    """How log lines look."""

    console = "console"
    json = "json"


class LogLevel(StrEnum):
    """From which level on they are written."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


class UpOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a server is started with; see the options of the command.

    Attributes:
        host: name or address to listen on.
        port: 0 takes a free one.
        workers: processes that answer.
        migrate: bring a database of the user's up to date.
        drain_timeout_s: for what is in flight at the end.
        hang_timeout_s: silence after which one of several workers is replaced.
        max_connections: at once, in each process.
        log_format: ``console`` or ``json``.
        log_level: from which on lines are written.
        access_log: whether every request is logged.
        upkeep: whether rollups are kept near and holds expired.
        jobs: whether jobs are run when they are due.
        open_metrics: whether ``/metrics`` needs no key.
    """

    host: str
    port: int
    workers: int
    migrate: bool
    drain_timeout_s: float
    hang_timeout_s: float
    max_connections: int
    log_format: str
    log_level: str
    access_log: bool
    upkeep: bool
    jobs: bool
    open_metrics: bool


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """A server that answers.

    Attributes:
        url: where.
        host: address it listens on.
        port: and port.
        pid: of the process to send signals to.
        workers: processes that answer.
        admin_key: token of the first key, made just now; None if there is one already.
    """

    url: str
    host: str
    port: int
    pid: int
    workers: int
    admin_key: str | None

    def __repr__(self) -> str:
        return f"Ready(url={self.url!r})"


class RunServer(Protocol):
    """Runs a server until it is told to end."""

    def __call__(
        self, options: UpOptions, *, ready: Callable[[Ready], None], say: Callable[[str], None]
    ) -> bool:
        """Run; return whether everything that was in flight at the end was answered.

        Args:
            options: of the server.
            ready: called once it answers.
            say: takes lines for people.

        Raises:
            LedgerError: it cannot start; the code says why.
        """
        ...


def register(app: typer.Typer, run: RunServer) -> None:
    """Add ``up``."""

    @app.command()
    def up(
        *,
        host: Annotated[str, typer.Option(help="Name or address to listen on.")] = "127.0.0.1",
        port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8787,
        workers: Annotated[int, typer.Option(help="Processes that answer.", min=1, max=64)] = 1,
        migrate: Annotated[
            bool, typer.Option("--migrate", help="Bring a database of yours up to this version.")
        ] = False,
        drain_timeout: Annotated[
            float,
            typer.Option(help="Seconds for what is in flight when it is told to end.", min=0),
        ] = 30.0,
        hang_timeout: Annotated[
            float,
            typer.Option(help="Seconds of silence after which a worker is replaced.", min=5),
        ] = 30.0,
        max_connections: Annotated[
            int, typer.Option(help="At once, in each process.", min=1)
        ] = 2000,
        log_format: Annotated[LogFormat, typer.Option(help="Of standard error.")] = (
            LogFormat.console
        ),
        log_level: Annotated[LogLevel, typer.Option(help="From which on.")] = LogLevel.info,
        access_log: Annotated[
            bool, typer.Option("--access-log", help="Log every request.")
        ] = False,
        upkeep: Annotated[
            bool,
            typer.Option(
                "--upkeep/--no-upkeep", help="Keep rollups near and expire holds, in here."
            ),
        ] = True,
        jobs: Annotated[
            bool, typer.Option("--jobs/--no-jobs", help="Run jobs when they are due, in here.")
        ] = True,
        open_metrics: Annotated[
            bool, typer.Option("--open-metrics", help="Answer /metrics to whoever asks.")
        ] = False,
        json: JsonOption = False,
    ) -> None:
        """Serve the HTTP API until SIGTERM or Ctrl-C; what is in flight then is answered first.

        Starts the embedded database if TALLYBOOK_DATABASE_URL names no other. When there is no
        key yet, one of the platform with the scope admin is made, and shown once.
        """
        options = UpOptions(
            host=host,
            port=port,
            workers=workers,
            migrate=migrate,
            drain_timeout_s=drain_timeout,
            hang_timeout_s=hang_timeout,
            max_connections=max_connections,
            log_format=log_format.value,
            log_level=log_level.value,
            access_log=access_log,
            upkeep=upkeep,
            jobs=jobs,
            open_metrics=open_metrics,
        )
        clean = run(
            options,
            ready=_print_ready if json else _show_ready,
            say=lambda line: err().print(Text(line, style="dim")),
        )
        if not clean:
            raise typer.Exit(ExitCode.FAILED)


def _print_ready(server: Ready) -> None:
    print_json({"event": "ready", **msgspec.to_builtins(server)})


def _show_ready(server: Ready) -> None:
    console = out()
    if server.admin_key is not None:
        console.print("The first key, for everything; it is not shown again:")
        console.print(Text(f"  {server.admin_key}", style="bold"), soft_wrap=True)
    several = f" with {server.workers} workers" if server.workers > 1 else ""
    console.print(
        f"Tallybook answers at {server.url}{several} (process {server.pid}); Ctrl-C ends it",
        markup=False,
        soft_wrap=True,
    )
