"""A durable queue of what the server has not answered for yet: SQLite in WAL mode, one file.

`append` returns after the local commit, so what it took survives a crash of the process, and with
``fsync`` (the default) the loss of power. Several processes may share a file: any may append, and
whoever holds the file's lock empties it. Entries leave only by `settle`.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ledger.domain.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENT = ""
"""Path of an entry that is a usage event; of others it is that of a request."""
MAX_BYTES = 1024 * 1024 * 1024
"""Most bytes of bodies that wait, unless said otherwise."""
_BUSY_S = 30.0
_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS pending (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, path TEXT NOT NULL, body BLOB NOT NULL, at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS refused (
    seq INTEGER PRIMARY KEY, path TEXT NOT NULL, body BLOB NOT NULL, at REAL NOT NULL,
    status TEXT NOT NULL, code TEXT NOT NULL, detail TEXT NOT NULL, refused_at REAL NOT NULL
);
"""


class SpoolFull(Unavailable):
    """As much waits as the spool may hold; the entry was not taken."""

    default_code = "spool_full"


class SpoolBroken(Unavailable):
    """The file cannot be read or written; the entry was not taken."""

    default_code = "spool_unavailable"


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that waits.

    Attributes:
        seq: its place in line.
        path: of the request; `EVENT` for an event.
        body: to be sent.
    """

    seq: int
    path: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that the server did not take, kept for people.

    Attributes:
        entry: what it was.
        status: ``rejected``, ``conflict``, or ``refused`` for a request.
        code: why.
        detail: the same for people.
    """

    entry: Entry
    status: str
    code: str
    detail: str


class Spool:
    """The queue; thread-safe.

    Args:
        path: of the file; made with access for its owner alone.
        max_bytes: most bytes of bodies that wait.
        fsync: whether an entry survives the loss of power too, which costs each `append` a sync.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES, fsync: bool = True
    ) -> None:
        self.path = Path(path)
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        try:
            # Bodies say who used what: the file is its owner's alone.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self._db = sqlite3.connect(
                self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute(f"PRAGMA synchronous = {'FULL' if fsync else 'NORMAL'}")
            self._db.execute("PRAGMA journal_size_limit = 67108864")
            [(version,)] = self._db.execute("PRAGMA user_version").fetchall()
            if version not in (0, _VERSION):
                raise SpoolBroken(f"{self.path} is of a later version of this client")
            self._db.executescript(_SCHEMA)
            self._db.execute(f"PRAGMA user_version = {_VERSION}")
            self._bytes = self._count()
        except (OSError, sqlite3.Error) as error:
            raise SpoolBroken(f"{self.path} is no spool that can be used: {error}") from error

    def append(self, entries: Iterable[tuple[str, bytes]]) -> int:
        """Take entries, all or none, and return how many wait in front of the first, about.

        Args:
            entries: path and body of each.

        Raises:
            SpoolFull: they do not fit; nothing was taken.
            SpoolBroken: the file cannot be written; nothing was taken.
        """
        rows = [(path, body, time.time()) for path, body in entries]
        size = sum(len(body) for _, body, _ in rows)
        with self._transaction() as db:
            if self._bytes + size > self._max_bytes:
                # Another process may have emptied it meanwhile.
                self._bytes = self._count()
            if self._bytes + size > self._max_bytes:
                raise SpoolFull(
                    f"{self._bytes} bytes wait in {self.path}, and {self._max_bytes} is the most"
                )
            db.executemany("INSERT INTO pending (path, body, at) VALUES (?, ?, ?)", rows)
        self._bytes += size
        return len(rows)

    def first(self, *, limit: int, max_bytes: int) -> list[Entry]:
        """Return the entries that are next: one request, or as many events as are in line.

        Args:
            limit: most entries.
            max_bytes: most bytes of their bodies together, but for the first.
        """
        found: list[Entry] = []
        size = 0
        with self._reading() as db:
            rows = db.execute("SELECT seq, path, body FROM pending ORDER BY seq LIMIT ?", (limit,))
            for seq, path, body in rows:
                size += len(body)
                if found and (path != EVENT or size > max_bytes):
                    break
                found.append(Entry(seq, path, body))
                if path != EVENT:
                    break
        return found

    def settle(self, entries: Sequence[Entry], refused: Sequence[Refusal] = ()) -> None:
        """Let entries go that the server answered for; keep those that it refused apart.

        Args:
            entries: all that go, the refused ones included.
            refused: those of them that the server did not take.
        """
        with self._transaction() as db:
            db.executemany(
                "INSERT OR IGNORE INTO refused"
                " SELECT seq, path, body, at, ?, ?, ?, ? FROM pending WHERE seq = ?",
                [(one.status, one.code, one.detail, time.time(), one.entry.seq) for one in refused],
            )
            db.executemany("DELETE FROM pending WHERE seq = ?", [(entry.seq,) for entry in entries])
        self._bytes = max(0, self._bytes - sum(len(entry.body) for entry in entries))

    def waiting(self) -> int:
        """Return how many entries wait."""
        with self._reading() as db:
            [(count,)] = db.execute("SELECT count(*) FROM pending").fetchall()
        return int(count)

    def oldest_s(self) -> float:
        """Return for how many seconds the first entry has waited; 0 if none does."""
        with self._reading() as db:
            rows = db.execute("SELECT at FROM pending ORDER BY seq LIMIT 1").fetchall()
        return max(0.0, time.time() - rows[0][0]) if rows else 0.0

    def refused(self, *, limit: int = 100) -> list[Refusal]:
        """Return what the server did not take, oldest first."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT seq, path, body, status, code, detail FROM refused ORDER BY seq LIMIT ?",
                (limit,),
            ).fetchall()
        return [
            Refusal(Entry(seq, path, body), status, code, detail)
            for seq, path, body, status, code, detail in rows
        ]

    def forget(self, refused: Sequence[Refusal]) -> None:
        """Delete refusals that somebody has dealt with."""
        with self._transaction() as db:
            db.executemany(
                "DELETE FROM refused WHERE seq = ?", [(one.entry.seq,) for one in refused]
            )

    def try_lock(self) -> IO[bytes] | None:
        """Return the lock of whoever empties the spool; None while another process has it.

        Closing what is returned gives it back, and so does the end of the process.
        """
        file = Path(f"{self.path}.lock").open("wb")  # noqa: SIM115 # the caller closes it
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return None
        return file

    def close(self) -> None:
        """Close the file; what waits is there when it is opened again."""
        with self._lock:
            self._db.close()

    def _count(self) -> int:
        [(size,)] = self._db.execute(
            "SELECT coalesce(sum(length(body)), 0) FROM pending"
        ).fetchall()
        return int(size)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as error:
                raise SpoolBroken(f"{self.path} cannot be read: {error}") from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                raise SpoolBroken(f"{self.path} cannot be written: {error}") from error
