"""The operating-system account that the server runs under.

PostgreSQL refuses to run as root. Started by root, the server runs as the owner of its data
directory if there is one, else as ``postgres``, else as ``nobody``; started by anyone else it
runs as that one.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import msgspec

from adapters.postgres.embedded_errors import DatabaseUnavailable, telling_os_errors

_CANDIDATES = ("postgres", "nobody")
_FIRST_MISSING = 'for p in "$@"; do test {test} "$p" || {{ printf %s "$p"; exit 1; }}; done'


class SpawnOptions(TypedDict, total=False):
    """The arguments of `subprocess.Popen` that change the account."""

    user: int
    group: int
    extra_groups: list[int]


class Account(msgspec.Struct, frozen=True):
    """An account, and whether becoming it means giving up root.

    Attributes:
        name: login name, or the number where there is none.
        uid: user id.
        gid: primary group id.
        groups: all group ids, the primary one included.
        dropped: whether this process is root and the account is not.
    """

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    dropped: bool

    def spawn_options(self) -> SpawnOptions:
        """Return what `subprocess.Popen` needs to become this account."""
        if not self.dropped:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": list(self.groups)}

    def own(self, path: Path) -> None:
        """Give ``path``, which this process has just made, to the account."""
        if self.dropped:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def run(
        self, argv: Sequence[str | Path], *, home: Path, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a program as this account and return its merged output.

        Args:
            argv: program and arguments; no shell is involved.
            home: value of HOME; also the working directory if it exists.
            stdin: text that the program reads.
        """
        return subprocess.run(  # noqa: S603 (argv comes from this package, without a shell)
            [os.fspath(part) for part in argv],
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            cwd=home if home.is_dir() else "/",
            env=server_environment(home),
            umask=0o077,
            **self.spawn_options(),
        )

    def first_denied(self, paths: Sequence[Path], *, test: str) -> Path | None:
        """Return the first of ``paths`` that fails ``test`` (``-x``, ``-r``) for the account."""
        if not self.dropped or not paths:
            return None
        found = subprocess.run(  # noqa: S603 (fixed script; the paths are arguments, not code)
            ["/bin/sh", "-c", _FIRST_MISSING.format(test=test), "sh", *map(str, paths)],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            cwd="/",
            **self.spawn_options(),
        )
        return Path(found.stdout) if found.returncode else None

    def require_passage(self, path: Path) -> None:
        """Make sure that the account can enter ``path`` and everything above it.

        Raises:
            DatabaseUnavailable: ``home_not_writable``, naming the first closed directory.
        """
        chain = [*reversed(path.parents), path]
        closed = self.first_denied(chain, test="-x")
        if closed is not None:
            raise DatabaseUnavailable(
                f"the server runs as {self.name}, who cannot enter {closed}; allow it "
                f"(chmod o+x {closed}) or name another home with TALLYBOOK_HOME",
                code="home_not_writable",
            )


def server_environment(home: Path) -> dict[str, str]:
    """Return the whole environment of the server and of `initdb`: nothing of the caller's.

    Messages stay in English, because their text decides what is told and done.
    """
    environment = {
        "HOME": str(home),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C",
        "LC_ALL": "C",
        "TZ": "UTC",
    }
    library_path = os.environ.get("LD_LIBRARY_PATH")
    if library_path and os.geteuid() != 0:
        environment["LD_LIBRARY_PATH"] = library_path
    return environment


def choose_account(*, data_dir: Path | None = None) -> Account:
    """Choose the account for a server on ``data_dir``, which need not exist.

    Raises:
        DatabaseUnavailable: ``start_failed`` if root has no unprivileged account to become.
    """
    if os.geteuid() != 0:
        gid = os.getegid()
        return Account(
            name=_name(os.geteuid()), uid=os.geteuid(), gid=gid, groups=(), dropped=False
        )
    if data_dir is not None:
        with telling_os_errors(data_dir.parent):
            owner = data_dir.stat() if data_dir.is_dir() else None
        if owner is not None and owner.st_uid != 0:
            return _unprivileged(_name(owner.st_uid), owner.st_uid, owner.st_gid)
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return _unprivileged(name, entry.pw_uid, entry.pw_gid)
    raise DatabaseUnavailable(
        "PostgreSQL does not run as root, and there is no account named postgres or nobody; "
        "make one, or run tallybook as another user",
        code="start_failed",
    )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _unprivileged(name: str, uid: int, gid: int) -> Account:
    try:
        groups = tuple(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid))
    except KeyError:
        groups = (gid,)
    kept = tuple(group for group in groups if group != 0)
    return Account(name=name, uid=uid, gid=gid, groups=kept, dropped=True)
