"""The database server that the ledger runs on: the user's own, or one launched from here.

    url      = database_url()           # starts the embedded server if nothing else is named
    server   = start(progress=print)
    status() -> Status(running=True, pid=4711, port=23456, version="18.6", ...)
    stop()   -> True

The server outlives the process that started it. The runbook embedded-database.md says where
binaries and data are looked for, and what to do when something fails.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import msgspec
from psycopg.conninfo import make_conninfo

from adapters.postgres.embedded_binaries import (
    MINIMUM_MAJOR,
    PG_BIN_VARIABLE,
    Binaries,
    Source,
    find_binaries,
)
from adapters.postgres.embedded_cluster import ROLE
from adapters.postgres.embedded_errors import DatabaseUnavailable
from adapters.postgres.embedded_home import HOME_VARIABLE, DatabaseHome, Progress, default_home
from adapters.postgres.embedded_launch import find_running, launch, wait_until_ready
from adapters.postgres.embedded_process import Postmaster, shut_down
from adapters.postgres.embedded_safety import (
    CONSENT,
    CONSENT_VARIABLE,
    read_conninfo,
    refuse_unsafe_settings,
)
from ledger.domain.errors import InvariantViolation

__all__ = [
    "CONSENT",
    "CONSENT_VARIABLE",
    "HOME_VARIABLE",
    "MINIMUM_MAJOR",
    "PG_BIN_VARIABLE",
    "URL_VARIABLE",
    "Binaries",
    "DatabaseHome",
    "DatabaseUnavailable",
    "EmbeddedDatabase",
    "Server",
    "Source",
    "Status",
    "database_url",
    "default_home",
    "find_binaries",
    "refuse_unsafe_settings",
    "start",
    "status",
    "stop",
    "url",
]

URL_VARIABLE = "TALLYBOOK_DATABASE_URL"
"""Environment variable that names a server of the user's; then nothing is launched."""
_ATTEMPTS = 5


class Status(msgspec.Struct, frozen=True):
    """What is known about the server, without starting it.

    Attributes:
        running: whether it is there; with a user's own server, whether it answers.
        pid: process id of the postmaster, if it is ours and runs.
        port: TCP port, if it runs.
        version: such as ``18.6``; only the major version if it is not running.
        bin_dir: directory of its programs, if known.
        data_dir: its data directory; None before the first start and for a user's own server.
        source: where it or its programs come from, a `Source`, if known.
    """

    running: bool
    pid: int | None
    port: int | None
    version: str | None
    bin_dir: str | None
    data_dir: str | None
    source: str | None


class Server(msgspec.Struct, frozen=True):
    """A server that answers.

    Attributes:
        url: connection URL, with the password.
        status: what it is.
        started: whether this call has started it.
    """

    url: str
    status: Status
    started: bool

    def __repr__(self) -> str:
        return f"Server(status={self.status!r}, started={self.started!r})"


def database_url(*, start: bool = True, progress: Progress | None = None) -> str:
    """Return the URL of the database: TALLYBOOK_DATABASE_URL as it is, or the embedded server's.

    Args:
        start: start the embedded server if it is not running, and check whichever server it is
            with `refuse_unsafe_settings`.
        progress: takes lines for people while this waits.

    Raises:
        DatabaseUnavailable: any of its codes.
    """
    if start:
        return _start(home=None, progress=progress).url
    return url()


def url(*, home: Path | None = None) -> str:
    """Return the URL of the database without starting or checking anything.

    Raises:
        DatabaseUnavailable: ``cannot_connect`` if the embedded server is not running.
    """
    named = os.environ.get(URL_VARIABLE)
    if named and home is None:
        return named
    place = DatabaseHome(home or default_home())
    found = find_running(place)
    if found is None or found[1].port is None:
        raise DatabaseUnavailable(
            f"the embedded server of {place.root} is not running; `tallybook db start` starts it",
            code="cannot_connect",
        )
    return _url(place, found[1].port)


def start(*, home: Path | None = None, progress: Progress | None = None) -> Server:
    """Start the embedded server unless it runs already; idempotent, safe against itself.

    It waits for crash recovery as long as the server lives. With TALLYBOOK_DATABASE_URL and
    without ``home`` nothing is launched: the named server is checked.

    Args:
        home: home directory; see `default_home` when left out.
        progress: takes lines for people while this waits.

    Raises:
        DatabaseUnavailable: any of its codes but ``stop_failed``.
    """
    return _start(home=home, progress=progress)


def stop(*, home: Path | None = None) -> bool:
    """Shut the embedded server down fast and wait for its end; False if none was running.

    A server that TALLYBOOK_DATABASE_URL names is never stopped.

    Raises:
        DatabaseUnavailable: ``stop_failed`` or ``home_not_writable``.
    """
    place = DatabaseHome(home or default_home())
    if find_running(place) is None:
        return False
    with place.locked(progress=_ignore):
        found = find_running(place)
        if found is None:
            return False
        shut_down(found[1].pid, found[0])
    return True


def status(*, home: Path | None = None) -> Status:
    """Return what is known about the server; nothing is started or written.

    Raises:
        DatabaseUnavailable: ``home_not_writable`` if this account may not look into the home.
    """
    named = os.environ.get(URL_VARIABLE)
    if named and home is None:
        return _status_of_url(named)
    place = DatabaseHome(home or default_home())
    found = find_running(place)
    if found is not None:
        return _status_of(place, *found)
    directories = place.data_directories()
    return Status(
        running=False,
        pid=None,
        port=None,
        version=str(directories[0][0]) if directories else None,
        bin_dir=None,
        data_dir=str(directories[0][1]) if directories else None,
        source=None,
    )


class EmbeddedDatabase:
    """The functions of this module as one object, for the command line.

    Args:
        home: home directory; see `default_home` when left out.
    """

    def __init__(self, *, home: Path | None = None) -> None:
        self._home = home

    def start(self, *, progress: Progress | None = None) -> Server:
        """Start the server unless it runs already; see the function `start`."""
        return start(home=self._home, progress=progress)

    def stop(self) -> bool:
        """Stop the server; see the function `stop`."""
        return stop(home=self._home)

    def status(self) -> Status:
        """Return what is known about the server; see the function `status`."""
        return status(home=self._home)

    def url(self) -> str:
        """Return the URL of a running server, with its password; see the function `url`."""
        return url(home=self._home)

    def psql(self) -> tuple[list[str], dict[str, str]]:
        """Return the command line of `psql` and what its environment needs beside the caller's.

        The password is in the environment, because command lines are public on a machine.

        Raises:
            DatabaseUnavailable: ``cannot_connect`` if the embedded server is not running,
                ``no_postgres_found`` if there is no psql.
        """
        named = os.environ.get(URL_VARIABLE) if self._home is None else None
        parts = read_conninfo(named or self.url())
        password = parts.pop("password", None)
        # It has no variable of its own; psql asks for it.
        parts.pop("sslpassword", None)
        bin_dir = None if named else self.status().bin_dir
        beside = Path(bin_dir, "psql") if bin_dir else None
        program = beside if beside is not None and beside.is_file() else shutil.which("psql")
        if program is None:
            raise DatabaseUnavailable(
                "there is no psql beside the server's programs or on PATH; install Debian's "
                "package `postgresql-client`",
                code="no_postgres_found",
            )
        environment = {} if password is None else {"PGPASSWORD": password}
        return [str(program), make_conninfo("", **parts)], environment


def _start(*, home: Path | None, progress: Progress | None) -> Server:
    tell = progress or _ignore
    named = os.environ.get(URL_VARIABLE)
    if named and home is None:
        refuse_unsafe_settings(named)
        return Server(url=named, status=_status_of_url(named), started=False)
    place = DatabaseHome(home or default_home())
    for attempts_left in reversed(range(_ATTEMPTS)):
        server = _start_here(place, tell, last=not attempts_left)
        if server is not None:
            return server
        time.sleep(0.2)
    raise InvariantViolation("the last attempt to start either succeeds or raises")


def _start_here(place: DatabaseHome, tell: Progress, *, last: bool) -> Server | None:
    """Find or start the server; None if one that ran went away while it was looked at."""
    with place.locked(progress=tell):
        offset = place.log_size()
        found = find_running(place)
        while found is not None and found[1].state == "stopping":
            # Somebody stops it by hand: wait for its end, then start it again.
            time.sleep(0.05)
            found = find_running(place)
        if found is None:
            data_dir, entry, offset = launch(place, progress=tell)
        else:
            data_dir, entry = found
    # The lock is free again, so that a long recovery can be watched and stopped.
    try:
        entry = wait_until_ready(place, data_dir, entry.pid, offset=offset, progress=tell)
        address = _url(place, entry.port or 0)
        refuse_unsafe_settings(address)
    except DatabaseUnavailable as error:
        if last or found is None or error.code not in ("cannot_connect", "start_failed"):
            raise
        return None
    return Server(url=address, status=_status_of(place, data_dir, entry), started=found is None)


def _status_of(home: DatabaseHome, data_dir: Path, entry: Postmaster) -> Status:
    last = home.last_start()
    if last is not None and last.pid != entry.pid:
        last = None
    return Status(
        running=True,
        pid=entry.pid,
        port=entry.port,
        version=last.version if last else _major(data_dir),
        bin_dir=last.bin_dir if last else None,
        data_dir=str(data_dir),
        source=last.source if last else None,
    )


def _major(data_dir: Path) -> str:
    return (data_dir / "PG_VERSION").read_text(encoding="ascii").strip()


def _status_of_url(named: str) -> Status:
    port = read_conninfo(named).get("port", "5432")
    try:
        version = refuse_unsafe_settings(named, environ={CONSENT_VARIABLE: CONSENT})
    except DatabaseUnavailable as error:
        if error.code != "cannot_connect":
            raise
        version = None
    return Status(
        running=version is not None,
        pid=None,
        # Several hosts have several ports.
        port=int(port) if port.isdecimal() else None,
        version=version,
        bin_dir=None,
        data_dir=None,
        source=Source.URL.value,
    )


def _url(home: DatabaseHome, port: int) -> str:
    return f"postgresql://{ROLE}:{home.password()}@127.0.0.1:{port}/{ROLE}"


def _ignore(_: str) -> None:
    return None
