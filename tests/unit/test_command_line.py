"""The command line itself, before any command."""

from __future__ import annotations

from typer.testing import CliRunner

from adapters.bootstrap import build


def test_the_version_is_told_without_a_command() -> None:
    """It needs no database and no command."""
    done = CliRunner().invoke(build(), ["--version"])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("tallybook ")
