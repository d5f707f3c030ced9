"""Refuse a server that may lose what it has acknowledged, or that is too old."""

from __future__ import annotations

import os
from collections.abc import Mapping

import psycopg
from psycopg.conninfo import conninfo_to_dict

from adapters.postgres.embedded_binaries import MINIMUM_MAJOR
from adapters.postgres.embedded_errors import DatabaseUnavailable

CONSENT_VARIABLE = "TALLYBOOK_ALLOW_FSYNC_OFF"
"""Environment variable that, with the value `CONSENT`, accepts an unsafe server."""
CONSENT = "yes-i-accept-data-loss"
"""The only value that is accepted; anything shorter is said too easily."""

CONNECT_TIMEOUT_S = 10
"""Seconds after which a connection attempt is given up."""

_MUST_BE_ON = ("fsync", "full_page_writes")


def refuse_unsafe_settings(conninfo: str, *, environ: Mapping[str, str] | None = None) -> str:
    """Connect, check the server's age and durability, and return its version.

    Args:
        conninfo: URL or keyword string, as libpq takes it.
        environ: environment to read; the process's own when left out.

    Raises:
        DatabaseUnavailable: ``cannot_connect``, ``postgres_too_old``, or
            ``unsafe_server_settings`` if ``fsync`` or ``full_page_writes`` is off.
    """
    environment = os.environ if environ is None else environ
    read_conninfo(conninfo)
    try:
        with psycopg.connect(conninfo, connect_timeout=CONNECT_TIMEOUT_S) as connection:
            version = _show(connection, "server_version")
            number = int(_show(connection, "server_version_num"))
            off = [name for name in _MUST_BE_ON if _show(connection, name) != "on"]
    except psycopg.Error as error:
        raise DatabaseUnavailable(
            f"cannot connect to the database server: {str(error).strip()}", code="cannot_connect"
        ) from error
    if number < MINIMUM_MAJOR * 10_000:
        raise DatabaseUnavailable(
            f"the server runs PostgreSQL {version}; {MINIMUM_MAJOR} or newer is needed",
            code="postgres_too_old",
        )
    if off and environment.get(CONSENT_VARIABLE) != CONSENT:
        raise DatabaseUnavailable(
            f"the server runs with {' and '.join(f'{name}=off' for name in off)} and may lose or "
            f"corrupt the ledger in a crash; turn it on, or set {CONSENT_VARIABLE}={CONSENT}",
            code="unsafe_server_settings",
        )
    return version.split()[0]


def read_conninfo(conninfo: str) -> dict[str, str]:
    """Return the parameters that a connection URL or keyword string sets.

    Raises:
        DatabaseUnavailable: ``cannot_connect`` if it cannot be read.
    """
    try:
        parts = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        # libpq's message would quote the string, and with it the password.
        raise DatabaseUnavailable(
            "the database URL cannot be read; it should look like "
            "postgresql://name:password@host:5432/database",
            code="cannot_connect",
        ) from None
    return {name: str(value) for name, value in parts.items() if value is not None}


def _show(connection: psycopg.Connection, name: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    return "" if row is None else str(row[0])
