"""What can go wrong with the database server, each with a stable code."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ledger.domain.errors import Unavailable

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_SPACE_TEXT = ("No space left on device", "Disk quota exceeded")


class DatabaseUnavailable(Unavailable):
    """The database server cannot be found, started or reached.

    Codes, in the order in which a start meets them:

    - ``no_postgres_found``: there are no server binaries, or the named ones are unusable;
    - ``postgres_too_old``: there are only binaries, or a server, older than PostgreSQL 15;
    - ``home_not_writable``: the home directory cannot be made, entered, read or written;
    - ``data_directory_mismatch``: the data directory needs another major version;
    - ``disk_full``: the file system of the home has no room;
    - ``start_failed``: the server ended while starting; the message has its last log lines;
    - ``stop_failed``: the server did not end in time;
    - ``cannot_connect``: nothing answers, or it refuses our name and password;
    - ``unsafe_server_settings``: the server may lose commits that it has acknowledged.
    """

    default_code = "cannot_connect"


@contextmanager
def telling_os_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` below ``path`` into what its reader can act upon.

    Raises:
        DatabaseUnavailable: ``disk_full`` or ``home_not_writable``.
    """
    try:
        yield
    except OSError as error:
        where = error.filename or path
        if error.errno in _FULL:
            raise disk_full(path, str(error.strerror)) from error
        raise DatabaseUnavailable(
            f"{where}: {error.strerror}; the database's home is {path}: make it usable for this "
            "account, or name another with TALLYBOOK_HOME",
            code="home_not_writable",
        ) from error


def says_disk_full(text: str) -> bool:
    """Tell whether a program's output reports a file system without room."""
    return any(sign in text for sign in _NO_SPACE_TEXT)


def disk_full(path: Path, detail: str) -> DatabaseUnavailable:
    """Return the error for a file system without room at ``path``."""
    return DatabaseUnavailable(
        f"no room left on the file system of {path}: {detail}; free some space and start again, "
        "no data has been touched",
        code="disk_full",
    )
