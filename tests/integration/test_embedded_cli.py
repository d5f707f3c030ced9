"""``tallybook db``, on a stand-in for the server."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapters.cli import db
from adapters.postgres.embedded import DatabaseUnavailable, EmbeddedDatabase, Server, Status
from ledger.domain.errors import Unavailable

RUNNING = Status(
    running=True,
    pid=4711,
    port=23456,
    version="18.6",
    bin_dir="/opt/pg/bin",
    data_dir="/a/rather/long/path/that/is/there/to/be/copied/from/the/terminal/by/someone/pg18",
    source="wheel",
)
URL = "postgresql://tallybook:secret@127.0.0.1:23456/tallybook"


class FakeDatabase:
    """A server that exists in memory."""

    def __init__(self) -> None:
        self.runs = False

    def start(self, *, progress: Callable[[str], None] | None = None) -> Server:
        """Start."""
        if progress is not None:
            progress("starting [bold]PostgreSQL")
        started, self.runs = not self.runs, True
        return Server(url=URL, status=RUNNING, started=started)

    def stop(self) -> bool:
        """Stop."""
        stopped, self.runs = self.runs, False
        return stopped

    def status(self) -> Status:
        """Return the status."""
        return RUNNING

    def url(self) -> str:
        """Return the URL while running."""
        if not self.runs:
            raise DatabaseUnavailable("not running", code="cannot_connect")
        return URL

    def psql(self) -> tuple[list[str], dict[str, str]]:
        """Return a program that does not exist."""
        return ["/nowhere/psql", "host=127.0.0.1"], {"PGPASSWORD": "secret"}


def call(database: FakeDatabase, *arguments: str):
    """Run one command."""
    return CliRunner().invoke(db.build(database), list(arguments))


def test_start_and_stop_tell_whether_they_did_anything() -> None:
    """Both succeed either way, and say which it was."""
    database = FakeDatabase()
    assert json.loads(call(database, "start", "--json").stdout)["started"] is True
    assert json.loads(call(database, "start", "--json").stdout)["started"] is False
    assert "already running" in call(database, "start").stdout
    assert json.loads(call(database, "stop", "--json").stdout) == {"stopped": True}
    result = call(database, "stop")
    assert (result.exit_code, result.stdout) == (0, "no embedded server was running\n")


def test_progress_goes_to_the_error_stream() -> None:
    """Standard output holds the answer alone, so that it can be piped."""
    result = call(FakeDatabase(), "start", "--json")
    assert result.stderr == "starting [bold]PostgreSQL\n"
    assert json.loads(result.stdout)["port"] == 23456


def test_status_has_the_same_facts_for_people_and_programs() -> None:
    """JSON has every field; the table has every known one, and cuts none."""
    facts = json.loads(call(FakeDatabase(), "status", "--json").stdout)
    assert facts == {name: getattr(RUNNING, name) for name in RUNNING.__struct_fields__}
    shown = "".join(call(FakeDatabase(), "status").stdout.split())
    for value in (RUNNING.data_dir, RUNNING.version, "4711", "23456", "yes"):
        assert str(value) in shown


def test_url_prints_the_url_and_nothing_else() -> None:
    """It is for scripts."""
    database = FakeDatabase()
    database.start()
    assert call(database, "url").stdout == f"{URL}\n"
    assert json.loads(call(database, "url", "--json").stdout) == {"url": URL}


def test_errors_reach_the_top_level_as_they_are() -> None:
    """Rendering them is not this module's work."""
    result = call(FakeDatabase(), "url")
    assert isinstance(result.exception, DatabaseUnavailable)


def test_psql_gets_its_password_through_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Command lines can be read by every user of the machine."""
    seen: list[tuple[str, list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execvpe", lambda *arguments: seen.append(arguments))
    assert call(FakeDatabase(), "psql", "--", "-c", "SELECT 1").exit_code == 0
    (program, command, environment) = seen[0]
    assert program == "/nowhere/psql"
    assert command == ["/nowhere/psql", "host=127.0.0.1", "-c", "SELECT 1"]
    assert environment["PGPASSWORD"] == "secret"
    assert environment["PATH"] == os.environ["PATH"]


def test_a_psql_that_is_missing_is_told() -> None:
    """An error with a way out, not a traceback."""
    result = call(FakeDatabase(), "psql")
    assert isinstance(result.exception, Unavailable)
    assert "/nowhere/psql" in result.exception.message


def test_psql_follows_the_named_server_without_its_password_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """TALLYBOOK_DATABASE_URL is taken apart; everything but the secrets is an argument."""
    psql = tmp_path / "psql"
    psql.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(
        "TALLYBOOK_DATABASE_URL", "postgresql://me:s3cret@db.example:6000/books?sslmode=require"
    )
    command, environment = EmbeddedDatabase().psql()
    assert command[0] == str(psql)
    assert "s3cret" not in " ".join(command)
    for part in ("user=me", "host=db.example", "port=6000", "dbname=books", "sslmode=require"):
        assert part in command[1]
    assert environment == {"PGPASSWORD": "s3cret"}


def test_a_server_does_not_show_its_password() -> None:
    """Its repr may end up in a log."""
    assert "secret" not in repr(Server(url=URL, status=RUNNING, started=True))
