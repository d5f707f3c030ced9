"""The home directory of the embedded database: what lies in it, and who may touch it.

    <home>/                0711 of root, or 0700 of the user
      lock                 held while a server is being started or stopped
      password             of the role tallybook; 0600 of the server's account
      server.json          the last start: pid, port, version, binaries
      pg<major>/           the data directory; 0700 of the server's account
      pg<major>.lease      locked by every process of a running server
      log/postgresql.log   the server's log, and .log.1, the one before
      run/                 the server's Unix socket
      pgsql-<version>/     a copy of the wheel's binaries, if one is needed

Only directories made here are given another mode or owner.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from adapters.postgres.embedded_account import Account
from adapters.postgres.embedded_errors import DatabaseUnavailable, telling_os_errors

HOME_VARIABLE = "TALLYBOOK_HOME"
"""Environment variable that names the home directory."""
LOG_LIMIT = 16 * 1024 * 1024
"""A log larger than this many bytes is set aside at the next start."""
LOCK_PATIENCE_S = 600.0
"""Seconds that a start or stop waits for another one."""

_DATA_DIRECTORY = re.compile(r"pg[0-9]+")
_SOCKET_PATH_LIMIT = 100
_PLAIN_PATH = re.compile(r"[\w./-]+", re.ASCII)

Progress = Callable[[str], None]
"""Takes one line for people about what is being done."""


class LastStart(msgspec.Struct, frozen=True):
    """What the last start wrote down, to be believed only for a server with that pid.

    Attributes:
        pid: process id of the postmaster.
        port: TCP port on 127.0.0.1; the next start tries it first.
        version: such as ``18.6``.
        bin_dir: directory of the binaries.
        source: which rule found the binaries, a `Source`.
    """

    pid: int
    port: int
    version: str
    bin_dir: str
    source: str


def default_home(*, environ: Mapping[str, str] | None = None) -> Path:
    """Return the home directory that the environment and the account imply."""
    environment = os.environ if environ is None else environ
    named = environment.get(HOME_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/tallybook")
    data_home = environment.get("XDG_DATA_HOME", "")
    # The XDG specification has relative values ignored.
    base = Path(data_home) if os.path.isabs(data_home) else Path.home() / ".local" / "share"
    return base / "tallybook"


class DatabaseHome:
    """The files of one embedded database.

    Args:
        root: the home directory; it need not exist.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.realpath(root))
        self.password_file = self.root / "password"
        self.state_file = self.root / "server.json"
        self.log_file = self.root / "log" / "postgresql.log"
        self.run_dir = self.root / "run"

    def prepare(self, *, account: Account) -> None:
        """Make the home and its fixed directories, and clear what a killed start has left.

        Call it with the lock held, while no server of this home is running.

        Raises:
            DatabaseUnavailable: ``home_not_writable`` or ``disk_full``.
        """
        account.require_passage(self.root)
        with telling_os_errors(self.root):
            _make(self.log_file.parent, 0o700)
            if _make(self.run_dir, 0o700):
                account.own(self.run_dir)
            for left_over in (*self.root.glob(".pg*"), *self.root.glob(".new-*")):
                if left_over.is_dir() and not left_over.is_symlink():
                    shutil.rmtree(left_over, ignore_errors=True)
                else:
                    left_over.unlink(missing_ok=True)

    @contextmanager
    def locked(self, *, progress: Progress) -> Iterator[None]:
        """Hold the home's lock, making the home if need be; one start or stop at a time.

        Raises:
            DatabaseUnavailable: ``home_not_writable``, ``disk_full``, or ``start_failed`` if
                another holds the lock for longer than `LOCK_PATIENCE_S`.
        """
        with telling_os_errors(self.root):
            self._make_root()
            handle = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with telling_os_errors(self.root):
                self._wait_for(handle, progress)
            yield
        finally:
            os.close(handle)

    def _wait_for(self, handle: int, progress: Progress) -> None:
        deadline = time.monotonic() + LOCK_PATIENCE_S
        told = False
        while not try_lock(handle):
            if not told:
                progress("waiting for another start or stop of this database")
                told = True
            if time.monotonic() > deadline:
                raise DatabaseUnavailable(
                    f"another process has held {self.root / 'lock'} for {LOCK_PATIENCE_S:.0f} "
                    "seconds; end it and try again",
                    code="start_failed",
                )
            time.sleep(0.05)

    def _make_root(self) -> None:
        for parent in reversed(self.root.parents):
            _make(parent, 0o755)
        # The server's account must pass through root's home, but need not list it.
        _make(self.root, 0o711 if os.geteuid() == 0 else 0o700)

    def data_directories(self) -> list[tuple[int, Path]]:
        """Return the data directories with their major versions, the newest first.

        Raises:
            DatabaseUnavailable: ``home_not_writable`` if one cannot be read, or
                ``data_directory_mismatch`` if one has an unreadable version.
        """
        found = []
        with telling_os_errors(self.root):
            if not self.root.exists():
                return []
            for entry in os.scandir(self.root):
                if _DATA_DIRECTORY.fullmatch(entry.name) and entry.is_dir():
                    major = _major_of(Path(entry.path))
                    if major is not None:
                        found.append((major, Path(entry.path)))
        return sorted(found, reverse=True)

    def lease(self, data_dir: Path) -> int:
        """Open the lease file of a data directory and return its descriptor, not yet locked."""
        with telling_os_errors(self.root):
            return os.open(
                data_dir.with_name(f"{data_dir.name}.lease"),
                os.O_RDWR | os.O_CREAT | os.O_CLOEXEC,
                0o600,
            )

    def password(self) -> str:
        """Return the password of the role tallybook.

        Raises:
            DatabaseUnavailable: ``cannot_connect`` if there is none, ``home_not_writable`` if
                this account may not read it.
        """
        with telling_os_errors(self.root):
            try:
                return self.password_file.read_text(encoding="ascii").strip()
            except FileNotFoundError:
                raise DatabaseUnavailable(
                    f"{self.password_file} is missing; the runbook embedded-database.md says "
                    "how to set a new password",
                    code="cannot_connect",
                ) from None

    def ensure_password(self, *, account: Account) -> None:
        """Make a password if there is none; an existing one is kept."""
        with telling_os_errors(self.root):
            if not self.password_file.exists():
                content = f"{secrets.token_urlsafe(24)}\n".encode("ascii")
                write_file(self.password_file, content, account=account)

    def last_start(self) -> LastStart | None:
        """Return what the last start wrote down, or None if that cannot be read."""
        try:
            return msgspec.json.decode(self.state_file.read_bytes(), type=LastStart)
        except (OSError, msgspec.DecodeError):
            return None

    def remember(self, start: LastStart) -> None:
        """Write down what has been started."""
        with telling_os_errors(self.root):
            write_file(self.state_file, msgspec.json.encode(start), account=None)

    def socket_directory(self, port: int) -> str:
        """Return the value of ``unix_socket_directories``: `run_dir`, or "" if it cannot serve.

        The path of a Unix socket is limited to about 100 bytes.
        """
        path = str(self.run_dir)
        fits = len(f"{path}/.s.PGSQL.{port}.lock") <= _SOCKET_PATH_LIMIT
        return path if fits and _PLAIN_PATH.fullmatch(path) else ""

    def open_log(self) -> int:
        """Open the server's log for appending, after setting a large one aside."""
        with telling_os_errors(self.root):
            if self.log_file.exists() and self.log_file.stat().st_size > LOG_LIMIT:
                self.log_file.replace(self.log_file.with_name("postgresql.log.1"))
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            return os.open(self.log_file, flags, 0o600)

    def log_size(self) -> int:
        """Return the log's size in bytes, 0 if there is none."""
        try:
            return self.log_file.stat().st_size
        except OSError:
            return 0

    def log_since(self, offset: int) -> str:
        """Return the log from byte ``offset`` on, at most its last 64 KiB."""
        try:
            with self.log_file.open("rb") as log:
                log.seek(max(offset, self.log_size() - 65_536))
                return log.read(65_536).decode("utf-8", errors="replace")
        except OSError:
            return ""


def try_lock(handle: int) -> bool:
    """Try to lock an open file; the lock lasts until its last inheritor has closed it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_file(path: Path, content: bytes, *, account: Account | None) -> None:
    """Replace a file durably and at once, mode 0600, owned by ``account`` if one is given."""
    scratch = path.with_name(f".new-{path.name}-{secrets.token_hex(4)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        with open(os.open(scratch, flags, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if account is not None:
            account.own(scratch)
        scratch.replace(path)
        sync_directory(path.parent)
    finally:
        scratch.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Make a rename in a directory durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _make(path: Path, mode: int) -> bool:
    try:
        path.mkdir()
    except FileExistsError:
        if not path.is_dir():
            raise
        return False
    except OSError:
        # mkdir of an existing directory on a read-only file system reports EROFS.
        if not path.is_dir():
            raise
        return False
    path.chmod(mode)
    return True


def _major_of(data_dir: Path) -> int | None:
    try:
        text = (data_dir / "PG_VERSION").read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    if not text.isdecimal():
        raise DatabaseUnavailable(
            f"{data_dir / 'PG_VERSION'} says {text!r}, which is no PostgreSQL version from 15 on; "
            "restore the data directory from a backup, or move it away",
            code="data_directory_mismatch",
        )
    return int(text)
