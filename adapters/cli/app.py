"""The command line: one Typer application, and how its errors end.

Exit codes: 0 ok, 1 failed (may be tried again), 2 wrong use or input, 3 denied, 4 variance,
5 integrity. A user never sees a stack trace unless TALLYBOOK_DEBUG is set.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer
from rich.text import Text

from adapters.cli.output import ExitCode, err
from ledger.domain.errors import InvalidInput, InvariantViolation, LedgerError, Unavailable

DEBUG_VARIABLE = "TALLYBOOK_DEBUG"


def _say_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"tallybook {_version()}\n")
        raise typer.Exit


def build() -> typer.Typer:
    """Return the application without its commands; the composition root adds them."""
    app = typer.Typer(
        name="tallybook",
        help="Event-sourced metering and billing ledger for AI gateways.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )

    @app.callback()
    def main(
        *,
        show_version: Annotated[
            bool,
            typer.Option(
                "--version",
                help="Print the version and exit.",
                is_eager=True,
                # A group wants a command before its body runs, so the option answers itself.
                callback=_say_version,
            ),
        ] = False,
    ) -> None:
        del show_version

    return app


def _version() -> str:
    try:
        return version("tallybook")
    except PackageNotFoundError:
        return "unknown (not installed)"


def run(app: typer.Typer) -> int:
    """Run the application on the process's arguments and return its exit code."""
    try:
        code = app(standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        err().print("interrupted")
        return 130
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except (LedgerError, InvariantViolation) as error:
        return _failed(error)
    except typer.TyperException as error:
        return _misused(error)
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        kind = type(error).__name__
        _say("internal_error", f"{kind}: {error}", f"set {DEBUG_VARIABLE}=1 for the whole trace")
        return ExitCode.FAILED
    return int(code) if isinstance(code, int) else ExitCode.OK


def _misused(error: typer.TyperException) -> int:
    """Show what was wrong with the arguments, the way Typer words it."""
    show = getattr(error, "show", None)
    if callable(show):
        show()
    else:
        _say("usage", str(error), "see --help")
    return ExitCode.USAGE


def _failed(error: LedgerError | InvariantViolation) -> int:
    if os.environ.get(DEBUG_VARIABLE):
        raise error
    if isinstance(error, InvariantViolation):
        _say("integrity", str(error), "docs/runbooks/integrity-alert.md says what to do")
        return ExitCode.INTEGRITY
    where = f"at {error.pointer}" if isinstance(error, InvalidInput) and error.pointer else ""
    _say(error.code, error.message, where)
    return ExitCode.FAILED if isinstance(error, Unavailable) else ExitCode.USAGE


def _say(code: str, message: str, note: str) -> None:
    line = Text.assemble(("error", "bold red"), f" [{code}] {message}")
    if note:
        line.append(f" ({note})")
    err().print(line, soft_wrap=True)
