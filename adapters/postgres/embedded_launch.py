"""Launch the embedded server and wait until it answers, whatever a crash has left behind."""

from __future__ import annotations

import os
import secrets
import socket
import time
from pathlib import Path

import msgspec

from adapters.postgres.embedded_binaries import runnable
from adapters.postgres.embedded_cluster import Cluster, choose_cluster, initialise, write_settings
from adapters.postgres.embedded_errors import (
    DatabaseUnavailable,
    disk_full,
    says_disk_full,
    telling_os_errors,
)
from adapters.postgres.embedded_home import DatabaseHome, LastStart, Progress
from adapters.postgres.embedded_process import (
    Postmaster,
    blocks_wrongly,
    find_postmaster,
    is_alive,
    read_pid_file,
    spawn,
    take_lease,
)

_ATTEMPTS = 5
_POLL_S = 0.05
_TELL_EVERY_S = 2.0
_FULL_BELOW_BYTES = 1024 * 1024


def find_running(home: DatabaseHome) -> tuple[Path, Postmaster] | None:
    """Return the data directory and the postmaster of the server that runs now, or None.

    Raises:
        DatabaseUnavailable: ``home_not_writable`` if this account may not look into the home.
    """
    for _, data_dir in home.data_directories():
        with telling_os_errors(home.root):
            entry = find_postmaster(home, data_dir)
        if entry is not None:
            return data_dir, entry
    return None


def launch(home: DatabaseHome, *, progress: Progress) -> tuple[Path, Postmaster, int]:
    """Start a server, making the data directory if there is none.

    Call it with the home's lock held, while no server of the home is running. The server may
    still be recovering when this returns; see `wait_until_ready`.

    Returns:
        The data directory, the postmaster, and where in the log this start begins.

    Raises:
        DatabaseUnavailable: any of its codes that come before ``stop_failed``.
    """
    cluster = choose_cluster(home)
    home.prepare(account=cluster.account)
    binaries = runnable(cluster.binaries, account=cluster.account, home=home.root)
    cluster = msgspec.structs.replace(cluster, binaries=binaries)
    if not cluster.exists:
        initialise(home, cluster, progress=progress)
    last = home.last_start()
    port = _free_port(last.port if last else None)
    for _ in range(_ATTEMPTS):
        offset = home.log_size()
        progress(f"starting PostgreSQL {binaries.version} on port {port}")
        try:
            entry = _attempt(home, cluster, port, offset, progress)
        except DatabaseUnavailable as error:
            failure = error
            if not _passes_by_itself(home.log_since(offset), progress):
                break
            port = _free_port(port)
        else:
            _remember(home, cluster, entry, port)
            return cluster.data_dir, entry, offset
    raise failure


def _attempt(
    home: DatabaseHome, cluster: Cluster, port: int, offset: int, progress: Progress
) -> Postmaster:
    with telling_os_errors(home.root):
        lease = take_lease(home, cluster.data_dir, progress=progress)
        try:
            _clear_stale_locks(home, cluster.data_dir)
            stale = read_pid_file(cluster.data_dir)
            write_settings(home, cluster)
            pid = _spawn(home, cluster, port, lease)
        finally:
            os.close(lease)
    # From "starting" on the port and the shared memory are its own.
    states = ("starting", "ready", "stopping", "standby")
    return _wait_until(
        home, cluster.data_dir, pid, states=states, offset=offset, progress=progress, stale=stale
    )


def wait_until_ready(
    home: DatabaseHome, data_dir: Path, pid: int, *, offset: int, progress: Progress
) -> Postmaster:
    """Wait until a live server accepts connections, however long its crash recovery takes.

    Args:
        home: the server's home.
        data_dir: the server's data directory.
        pid: the postmaster's process id.
        offset: where in the log, in bytes, to look for the reason if it ends.
        progress: takes the last line of the log now and then.

    Raises:
        DatabaseUnavailable: ``start_failed`` or ``disk_full`` if it ends.
    """
    return _wait_until(
        home, data_dir, pid, states=("ready",), offset=offset, progress=progress, stale=None
    )


def _spawn(home: DatabaseHome, cluster: Cluster, port: int, lease: int) -> int:
    log = home.open_log()
    try:
        return spawn(
            [
                str(cluster.binaries.bin_dir / "postgres"),
                *("-D", str(cluster.data_dir)),
                *("-c", "listen_addresses=127.0.0.1"),
                *("-c", f"port={port}"),
                *("-c", f"unix_socket_directories={home.socket_directory(port)}"),
            ],
            account=cluster.account,
            home=home.root,
            log=log,
            lease=lease,
        )
    finally:
        os.close(log)


def _remember(home: DatabaseHome, cluster: Cluster, entry: Postmaster, port: int) -> None:
    home.remember(
        LastStart(
            pid=entry.pid,
            port=port,
            version=cluster.binaries.version,
            bin_dir=str(cluster.binaries.bin_dir),
            source=cluster.binaries.source.value,
        )
    )


def _clear_stale_locks(home: DatabaseHome, data_dir: Path) -> None:
    # PostgreSQL itself clears the lock files of a pid that does not exist. We hold the lease, so
    # no process of a server of ours uses the directory any more.
    entry = read_pid_file(data_dir)
    wrongly = entry is not None and blocks_wrongly(data_dir, entry.pid)
    if wrongly:
        (data_dir / "postmaster.pid").unlink(missing_ok=True)
    if entry is None or wrongly or not is_alive(entry.pid):
        for socket_file in home.run_dir.glob(".s.PGSQL.*"):
            socket_file.unlink(missing_ok=True)


def _passes_by_itself(log: str, progress: Progress) -> bool:
    if "could not create any TCP/IP sockets" in log:
        progress("the port was taken meanwhile; trying another one")
        return True
    if "pre-existing shared memory block" in log:
        progress("waiting for the shared memory of a dead server")
        time.sleep(2)
        return True
    return False


def _wait_until(
    home: DatabaseHome,
    data_dir: Path,
    pid: int,
    *,
    states: tuple[str, ...],
    offset: int,
    progress: Progress,
    stale: Postmaster | None,
) -> Postmaster:
    told_at = time.monotonic()
    told = ""
    while True:
        # Asked before the file is read: one that ends in between is seen in the next round.
        alive = is_alive(pid)
        entry = read_pid_file(data_dir)
        # After a restart of a container a stale file may well name the new server's pid.
        fresh = entry is not None and entry.pid == pid and entry != stale
        if alive and entry is not None and fresh and entry.state in states:
            return entry
        if not alive:
            raise _start_failure(home, offset)
        if time.monotonic() - told_at > _TELL_EVERY_S:
            told_at = time.monotonic()
            lines = home.log_since(offset).strip().splitlines()
            if lines and lines[-1] != told:
                told = lines[-1]
                progress(f"waiting for the server: {told}")
        time.sleep(_POLL_S)


def _start_failure(home: DatabaseHome, offset: int) -> DatabaseUnavailable:
    log = home.log_since(offset)
    room = os.statvfs(home.root)
    # On a full disk the log line that says so may not fit either.
    if says_disk_full(log) or room.f_bavail * room.f_frsize < _FULL_BELOW_BYTES:
        return disk_full(home.root, f"the server ended while starting, see {home.log_file}")
    last_lines = "\n".join(log.strip().splitlines()[-10:]) or "(nothing was logged)"
    return DatabaseUnavailable(
        f"the server ended while starting; the last lines of {home.log_file}:\n{last_lines}",
        code="start_failed",
    )


def _free_port(preferred: int | None) -> int:
    # Below the range from which the system takes ports for outgoing connections.
    random = secrets.SystemRandom()
    for port in (preferred, *(random.randrange(15_432, 32_000) for _ in range(50)), 0):
        if port is None:
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                # A bind alone succeeds beside a listener on all addresses on some systems.
                probe.listen(1)
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DatabaseUnavailable("no free TCP port on 127.0.0.1", code="start_failed")
