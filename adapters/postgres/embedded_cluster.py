"""The data directory: choosing it, making it with `initdb`, and its settings."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import msgspec

from adapters.postgres.embedded_account import Account, choose_account
from adapters.postgres.embedded_binaries import PG_BIN_VARIABLE, Binaries, find_binaries
from adapters.postgres.embedded_errors import (
    DatabaseUnavailable,
    disk_full,
    says_disk_full,
    telling_os_errors,
)
from adapters.postgres.embedded_home import DatabaseHome, Progress, sync_directory, write_file

ROLE = "tallybook"
"""Name of the superuser role and of the database that it owns."""
SETTINGS_FILE = "tallybook.conf"
"""Name of our settings file in the data directory, rewritten at each start."""

_SEGMENT_MIB = 1
"""Size of a segment of the write-ahead log.

The commit that needs a new one waits until it is filled with zeros and on disk: 3 ms, where the
usual 16 MiB take 40.
"""
_SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "wal_compression": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "min_wal_size": "80MB",
    # Otherwise one segment.
    "wal_buffers": "8MB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "max_connections": "100",
    "huge_pages": "off",
    "jit": "off",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "logging_collector": "off",
    "log_destination": "stderr",
    "cluster_name": ROLE,
}


class Cluster(msgspec.Struct, frozen=True):
    """A data directory, the binaries for it and the account that owns it.

    Attributes:
        data_dir: absolute path; it need not exist.
        binaries: of the major version that the directory needs.
        account: whom the server runs as.
        exists: whether the directory has been initialised.
    """

    data_dir: Path
    binaries: Binaries
    account: Account
    exists: bool


def choose_cluster(home: DatabaseHome, *, environ: Mapping[str, str] | None = None) -> Cluster:
    """Choose the data directory and binaries for the next start.

    An existing directory decides the version: newer binaries must not silently begin an empty
    ledger beside a full one. Of several, the newest counts, unless TALLYBOOK_PG_BIN names
    binaries for another one.

    Raises:
        DatabaseUnavailable: ``no_postgres_found``, ``postgres_too_old``, ``home_not_writable``,
            ``data_directory_mismatch``.
    """
    existing = home.data_directories()
    if not existing:
        account = choose_account()
        binaries = find_binaries(account=account, environ=environ)
        data_dir = home.root / f"pg{binaries.major}"
        with telling_os_errors(home.root):
            if data_dir.exists() and any(data_dir.iterdir()):
                raise DatabaseUnavailable(
                    f"{data_dir} has files but no PG_VERSION, so it is no data directory; restore "
                    "it from a backup, or move it away",
                    code="data_directory_mismatch",
                )
        return Cluster(data_dir=data_dir, binaries=binaries, account=account, exists=False)
    environment = os.environ if environ is None else environ
    if environment.get(PG_BIN_VARIABLE):
        wanted = find_binaries(environ=environment).major
        existing = [pair for pair in existing if pair[0] == wanted] or existing
    major, data_dir = existing[0]
    account = choose_account(data_dir=data_dir)
    try:
        binaries = find_binaries(major=major, account=account, environ=environ)
    except DatabaseUnavailable as error:
        if error.code != "data_directory_mismatch":
            raise
        raise DatabaseUnavailable(
            f"{data_dir} was made by PostgreSQL {major}: {error.message}; install version {major}, "
            "or follow the upgrade in the runbook embedded-database.md",
            code="data_directory_mismatch",
        ) from error
    return Cluster(data_dir=data_dir, binaries=binaries, account=account, exists=True)


def initialise(home: DatabaseHome, cluster: Cluster, *, progress: Progress) -> None:
    """Make the data directory, whole or not at all.

    `initdb` works in a sibling that is renamed at the end, so one that is killed blocks nothing.

    Raises:
        DatabaseUnavailable: ``disk_full``, ``home_not_writable``, or ``start_failed`` with the
            last lines that `initdb` printed.
    """
    progress(f"creating the data directory {cluster.data_dir}")
    home.ensure_password(account=cluster.account)
    scratch = home.root / f".{cluster.data_dir.name}.{secrets.token_hex(4)}"
    try:
        with telling_os_errors(home.root):
            scratch.mkdir(mode=0o700)
            cluster.account.own(scratch)
            _initdb(home, cluster, scratch)
            _append(scratch / "postgresql.conf", f"\ninclude_if_exists = '{SETTINGS_FILE}'\n")
            _create_database(home, cluster, scratch)
            scratch.rename(cluster.data_dir)
            sync_directory(home.root)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _initdb(home: DatabaseHome, cluster: Cluster, scratch: Path) -> None:
    # From 17 on the locale is the server's own, so no system update can change the sort order.
    built_in = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    locale = built_in if cluster.binaries.major >= 17 else ["--locale=C.UTF-8"]
    done = cluster.account.run(
        [
            cluster.binaries.bin_dir / "initdb",
            f"--pgdata={scratch}",
            f"--username={ROLE}",
            f"--pwfile={home.password_file}",
            "--auth=scram-sha-256",
            "--data-checksums",
            f"--wal-segsize={_SEGMENT_MIB}",
            "--encoding=UTF8",
            *locale,
            "--lc-messages=C",
            "--text-search-config=simple",
            "--no-instructions",
        ],
        home=home.root,
    )
    _require_success(done, "initdb", home)


def _create_database(home: DatabaseHome, cluster: Cluster, scratch: Path) -> None:
    # A stand-alone backend: the database is there before anyone can connect, or nothing is.
    done = cluster.account.run(
        [cluster.binaries.bin_dir / "postgres", "--single", "-D", scratch, "postgres"],
        home=home.root,
        stdin=f"CREATE DATABASE {ROLE} OWNER {ROLE}\n",
    )
    if "ERROR:" in done.stdout:
        done.returncode = 1
    _require_success(done, "postgres --single", home)


def _require_success(
    done: subprocess.CompletedProcess[str], program: str, home: DatabaseHome
) -> None:
    if done.returncode == 0:
        return
    last_lines = "\n".join(done.stdout.strip().splitlines()[-10:])
    if says_disk_full(done.stdout):
        raise disk_full(home.root, f"{program} says {last_lines!r}")
    raise DatabaseUnavailable(
        f"{program} failed with status {done.returncode} in {home.root}:\n{last_lines}",
        code="start_failed",
    )


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_settings(home: DatabaseHome, cluster: Cluster) -> None:
    """Write the settings of this release into the data directory.

    ``ALTER SYSTEM`` still wins over them, so that an operator's tuning survives an upgrade.

    Raises:
        DatabaseUnavailable: ``disk_full`` or ``home_not_writable``.
    """
    settings = dict(_SETTINGS)
    if _builds_lz4(home, cluster):
        settings["wal_compression"] = "lz4"
    lines = [
        "# Rewritten at each start of tallybook; to change a setting, use ALTER SYSTEM.",
        *(f"{name} = '{value}'" for name, value in settings.items()),
        "",
    ]
    with telling_os_errors(home.root):
        write_file(
            cluster.data_dir / SETTINGS_FILE, "\n".join(lines).encode(), account=cluster.account
        )


def _builds_lz4(home: DatabaseHome, cluster: Cluster) -> bool:
    asked = cluster.account.run(
        [
            cluster.binaries.bin_dir / "postgres",
            *("-D", cluster.data_dir, "-C", "wal_compression", "-c", "wal_compression=lz4"),
        ],
        home=home.root,
    )
    return asked.returncode == 0
