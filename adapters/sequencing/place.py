"""Where a server's processes meet: a Unix socket in a directory that only this user can enter."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ledger.domain.errors import Unavailable

TOUCH_EVERY_S = 3600.0
"""Age after which it is touched: programs that tidy temporary directories remove what is old."""
_OTHER_PARENTS = ("/tmp", "/var/tmp")  # noqa: S108 - a directory of its own is made there
_BACKLOG = 128


class NoPlace(Unavailable):
    """There is no directory that a socket can be made in."""

    default_code = "socket_unavailable"


class Place:
    """A socket that is listened on, and its path.

    Attributes:
        path: stays the same when it is made again.
        listener: the socket.

    Raises:
        NoPlace: ``socket_unavailable``: no temporary directory can be written, or has a name that
            is short enough for a socket.
    """

    def __init__(self) -> None:
        troubles = []
        for parent in _parents():
            try:
                self._folder = Path(tempfile.mkdtemp(prefix="tallybook-", dir=parent))
            except OSError as error:
                troubles.append(f"{parent}: {error.strerror}")
                continue
            self.path = str(self._folder / "sequencer")
            try:
                self._listen()
            except OSError as error:
                self._folder.rmdir()
                troubles.append(f"{parent}: {error.strerror or error}")
                continue
            return
        raise NoPlace(
            "a server's processes need a temporary directory to meet in; let TMPDIR name one that"
            f" can be written, with at most 60 characters ({'; '.join(troubles)})"
        )

    def _listen(self) -> None:
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.listener.bind(self.path)
            self.listener.listen(_BACKLOG)
            self._inode = os.stat(self.path).st_ino
        except OSError:
            self.listener.close()
            raise

    def keep(self) -> bool:
        """Let it not look forgotten; return False if somebody has removed it all the same."""
        try:
            found = os.stat(self.path)
            if found.st_ino != self._inode:
                return False
            if time.time() - found.st_mtime > TOUCH_EVERY_S:
                os.utime(self.path)
                os.utime(self._folder)
        except OSError:
            return False
        return True

    def renew(self) -> None:
        """Make it again under the same name, for those who know that.

        Raises:
            OSError: it cannot be made; to be tried again.
        """
        self.listener.close()
        with suppress(FileExistsError):
            self._folder.mkdir(mode=0o700)
        if self._folder.stat().st_uid != os.geteuid():
            raise PermissionError(f"somebody else has made {self._folder}")
        Path(self.path).unlink(missing_ok=True)
        self._listen()

    def close(self) -> None:
        """Leave nothing of it."""
        self.listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _parents() -> Iterator[str]:
    with suppress(FileNotFoundError):
        yield tempfile.gettempdir()
    yield from _OTHER_PARENTS
