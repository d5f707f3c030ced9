"""The server's processes: which one serves a data directory, starting it, ending it.

``postmaster.pid`` is only a hint: after a crash its pid may be dead, or be somebody else's.
Format: PostgreSQL's src/include/utils/pidfile.h (pid, data directory, start time, port, socket
directory, listen address, shared memory key, status; one per line).
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psycopg

from adapters.postgres.embedded_account import Account, server_environment
from adapters.postgres.embedded_errors import DatabaseUnavailable
from adapters.postgres.embedded_home import DatabaseHome, Progress, try_lock

STOP_PATIENCE_S = 600.0
"""Seconds that a stop waits for the shutdown checkpoint."""
ORPHAN_PATIENCE_S = 60.0
"""Seconds that a start waits for the surviving children of a dead server."""

_PROC = Path("/proc")
_SERVER_NAMES = ("postgres", "postmaster")
# Children of a dead postmaster end by themselves, unless they are busy. Seconds, then signal.
_ORPHAN_SIGNALS = ((2.0, signal.SIGTERM), (10.0, signal.SIGQUIT), (20.0, signal.SIGKILL))
# The shell ends at once, so the server belongs to init and its pid is known without a race.
_DETACH = '{ exec "$@" >&2; } & echo $!'


class Postmaster(msgspec.Struct, frozen=True):
    """What ``postmaster.pid`` says.

    Attributes:
        pid: process id.
        port: TCP port; None until the server has bound it.
        state: ``starting``, ``ready``, ``stopping``, ``standby``; "" before that.
        written_ns: when the file was last written, in nanoseconds since 1970.
    """

    pid: int
    port: int | None
    state: str
    written_ns: int


def read_pid_file(data_dir: Path) -> Postmaster | None:
    """Return what ``postmaster.pid`` says, or None if it is absent or not whole."""
    path = data_dir / "postmaster.pid"
    try:
        written_ns = path.stat().st_mtime_ns
        lines = path.read_text(errors="replace").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return None
    fields = [line.strip() for line in lines] + [""] * 8
    # A postmaster writes its pid, a stand-alone backend its negated pid.
    if not fields[0].lstrip("-").isdecimal() or int(fields[0]) in (0, 1):
        return None
    port = int(fields[3]) if fields[3].isdecimal() else None
    return Postmaster(pid=abs(int(fields[0])), port=port, state=fields[7], written_ns=written_ns)


def find_postmaster(home: DatabaseHome, data_dir: Path) -> Postmaster | None:
    """Return the live server of a data directory, or None; never believe a stale pid.

    Raises:
        PermissionError: the data directory belongs to another account.
    """
    entry = read_pid_file(data_dir)
    if entry is None or not is_alive(entry.pid):
        return None
    ours = _serves(entry.pid, data_dir)
    if ours is None:
        ours = _answers(home, data_dir, entry)
    return entry if ours else None


def blocks_wrongly(data_dir: Path, pid: int) -> bool:
    """Tell whether PostgreSQL would take a pid for a live server although it certainly is none.

    It asks only whether the pid exists. A zombie does too, for as long as the first process of
    a container does not reap it, and so does a stranger with a reused pid.
    """
    if not is_alive(pid):
        return (_PROC / str(pid)).exists()
    return _serves(pid, data_dir) is False


def is_alive(pid: int) -> bool:
    """Tell whether a process exists and is more than a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    except OverflowError:
        return False
    try:
        # The state follows the command, which is in parentheses and may itself hold some.
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (OSError, IndexError):
        return True


def _serves(pid: int, data_dir: Path) -> bool | None:
    words = _command(pid)
    if words is None:
        return None
    if Path(words[0]).name not in _SERVER_NAMES:
        return False
    try:
        # A postmaster changes into its data directory.
        return (_PROC / str(pid) / "cwd").samefile(data_dir)
    except OSError:
        pass  # not Linux, or another account's process
    return True if str(data_dir) in words else None


def _command(pid: int) -> list[str] | None:
    try:
        raw = (_PROC / str(pid) / "cmdline").read_bytes()
        return raw.decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        pass
    try:
        listed = subprocess.run(  # noqa: S603 (fixed program, a number as argument)
            ["/bin/ps", "-o", "command=", "-p", str(pid)],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        ).stdout.strip()
    except OSError:
        return None
    return listed.split() or None


def _answers(home: DatabaseHome, data_dir: Path, entry: Postmaster) -> bool:
    try:
        with psycopg.connect(
            host="127.0.0.1",
            port=entry.port or 0,
            user="tallybook",
            password=home.password(),
            dbname="tallybook",
            connect_timeout=5,
        ) as connection:
            row = connection.execute("SHOW data_directory").fetchone()
    except (psycopg.Error, DatabaseUnavailable):
        return False
    return row is not None and os.path.realpath(str(row[0])) == str(data_dir)


def take_lease(home: DatabaseHome, data_dir: Path, *, progress: Progress) -> int:
    """Return the locked lease of a data directory that no process uses any more.

    Every process of a server that `spawn` started keeps the lease locked, so this waits for the
    children that outlive a killed postmaster, and ends those that do not end by themselves.

    Raises:
        DatabaseUnavailable: ``start_failed`` if they are still there after `ORPHAN_PATIENCE_S`.
    """
    handle = home.lease(data_dir)
    began = time.monotonic()
    due = list(_ORPHAN_SIGNALS)
    try:
        while not try_lock(handle):
            waited = time.monotonic() - began
            if due and waited > due[0][0]:
                progress("ending the processes that a dead server has left")
                _signal_orphans(data_dir, due.pop(0)[1])
            if waited > ORPHAN_PATIENCE_S:
                raise DatabaseUnavailable(
                    f"processes of a dead server still use {data_dir} "
                    f"({_listed(orphans(data_dir))}); end them and start again",
                    code="start_failed",
                )
            time.sleep(0.05)
    except BaseException:
        os.close(handle)
        raise
    return handle


def orphans(data_dir: Path) -> list[int]:
    """Return the pids of a dead server's children, as far as they can be seen (Linux only)."""
    found = []
    for entry in _PROC.glob("[0-9]*"):
        try:
            title = (entry / "cmdline").read_bytes()
            if title.startswith(b"postgres: ") and (entry / "cwd").samefile(data_dir):
                found.append(int(entry.name))
        except OSError:
            continue
    return sorted(found)


def _signal_orphans(data_dir: Path, number: signal.Signals) -> None:
    for pid in orphans(data_dir):
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def _listed(pids: Sequence[int]) -> str:
    return "pids " + ", ".join(map(str, pids)) if pids else "pids unknown"


def spawn(argv: Sequence[str], *, account: Account, home: Path, log: int, lease: int) -> int:
    """Start a server detached from this process and its terminal, and return its pid.

    Args:
        argv: the server and its arguments.
        account: whom it runs as.
        home: its HOME and first working directory.
        log: descriptor that takes its output.
        lease: locked descriptor, inherited and thereby kept locked by the server's processes.
    """
    said = subprocess.run(  # noqa: S603 (fixed script; argv comes from this package)
        ["/bin/sh", "-c", _DETACH, "sh", *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        check=True,
        cwd=home,
        env=server_environment(home),
        umask=0o077,
        pass_fds=(lease,),
        start_new_session=True,
        **account.spawn_options(),
    )
    return int(said.stdout)


def shut_down(pid: int, data_dir: Path) -> None:
    """Shut a server down fast (running transactions roll back) and wait for its end.

    Raises:
        DatabaseUnavailable: ``stop_failed`` if it is alive after `STOP_PATIENCE_S`, or belongs
            to another account.
    """
    try:
        os.kill(pid, signal.SIGINT)
    except ProcessLookupError:
        return
    except PermissionError:
        raise DatabaseUnavailable(
            f"the server with pid {pid} belongs to another account; stop it as that one or as root",
            code="stop_failed",
        ) from None
    deadline = time.monotonic() + STOP_PATIENCE_S
    while is_alive(pid):
        if time.monotonic() > deadline:
            raise DatabaseUnavailable(
                f"the server of {data_dir} (pid {pid}) has not ended {STOP_PATIENCE_S:.0f} seconds "
                "after a fast shutdown; its log says what it waits for",
                code="stop_failed",
            )
        time.sleep(0.02)
