"""Migrations: numbered ``.sql`` files, forward only, each applied once under an advisory lock.

A file's SHA-256 is kept when it is applied; a file that was changed afterwards is an error, not
a second application. Everything lives in one schema.
"""

from __future__ import annotations

import re
from hashlib import sha256
from importlib.resources import files

import msgspec
import psycopg
from psycopg.sql import SQL, Identifier

from ledger.domain.errors import Unavailable

SCHEMA = "tallybook"
_LOCK = 7_461_626_279_002
# For whom the engine's policy is, if the connected role is none of them.
_HIDDEN = """
SELECT current_user, r.rolname
FROM pg_policy AS p
JOIN pg_class AS c ON c.oid = p.polrelid
JOIN pg_roles AS r ON r.oid = ANY (p.polroles)
WHERE c.relnamespace = to_regnamespace(%(schema)s) AND p.polname = 'engine'
    AND NOT pg_has_role(current_user, r.oid, 'USAGE')
LIMIT 1
"""
_FILE = re.compile(r"(\d{4})_(\w+)\.sql")


class MigrationError(Unavailable):
    """The schema is not what this version of the code needs."""

    default_code = "schema_mismatch"


class Migration(msgspec.Struct, frozen=True):
    """One migration file.

    Attributes:
        number: from 1, gapless.
        name: what it does.
        sql: its statements.
        digest: SHA-256 of the file, hex.
    """

    number: int
    name: str
    sql: str
    digest: str


class MigrationStatus(msgspec.Struct, frozen=True):
    """Which migrations a database has and lacks, by file name."""

    applied: tuple[str, ...]
    pending: tuple[str, ...]


def migrations() -> list[Migration]:
    """Return the migrations that this version ships, in order."""
    found = []
    for file in files(__package__).joinpath("sql", "migrations").iterdir():
        match = _FILE.fullmatch(file.name)
        if match:
            text = file.read_text(encoding="utf-8")
            digest = sha256(text.encode()).hexdigest()
            found.append(Migration(int(match[1]), file.name, text, digest))
    found.sort(key=lambda migration: migration.number)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationError("the migration files are not numbered from 0001 without gaps")
    return found


def migrate(conninfo: str, *, schema: str = SCHEMA) -> MigrationStatus:
    """Apply every migration that is pending, each in its own transaction; idempotent.

    Args:
        conninfo: of a role that may create the schema.
        schema: where the tables go.

    Raises:
        MigrationError: ``schema_mismatch`` if an applied file was changed or is unknown here;
            ``missing_privilege`` if the role may not do it, and what an administrator must run.
    """
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        try:
            _prepare(connection, schema)
            applied = _applied(connection, schema)
            _check_known(applied)
            pending = [m for m in migrations() if m.number not in applied]
            for migration in pending:
                _apply(connection, migration, schema)
        finally:
            connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))
    return check(conninfo, schema=schema)


def check(conninfo: str, *, schema: str = SCHEMA) -> MigrationStatus:
    """Return what is applied and what is pending; change nothing.

    Raises:
        MigrationError: ``schema_mismatch`` if an applied file was changed or is unknown here;
            ``wrong_role`` if row-level security hides the tables' rows from this role.
    """
    with psycopg.connect(conninfo, autocommit=True) as connection:
        [exists] = connection.execute(
            "SELECT to_regclass(%s) IS NOT NULL", (f"{schema}.schema_migrations",)
        ).fetchall()
        applied = _applied(connection, schema) if exists[0] else {}
        hidden = connection.execute(_HIDDEN, {"schema": schema}).fetchone()
    if hidden is not None:
        raise MigrationError(
            f"role {hidden[0]} sees no rows in this database, whose tables {hidden[1]} migrated;"
            f" connect as {hidden[1]}, or let an administrator run:"
            f' GRANT "{hidden[1]}" TO "{hidden[0]}";',
            code="wrong_role",
        )
    _check_known(applied)
    ours = migrations()
    return MigrationStatus(
        applied=tuple(m.name for m in ours if m.number in applied),
        pending=tuple(m.name for m in ours if m.number not in applied),
    )


def _apply(
    connection: psycopg.Connection[tuple[object, ...]], migration: Migration, schema: str
) -> None:
    try:
        with connection.transaction():
            connection.execute(SQL("SET LOCAL search_path = {}").format(Identifier(schema)))
            connection.execute(migration.sql.encode())
            connection.execute(
                "INSERT INTO schema_migrations (number, name, digest) VALUES (%s, %s, %s)",
                (migration.number, migration.name, migration.digest),
            )
    except psycopg.errors.InsufficientPrivilege as error:
        message, hint = error.diag.message_primary or str(error), error.diag.message_hint
        what = f"; an administrator must run this once: {hint}" if hint else ""
        raise MigrationError(
            f"migration {migration.name}: {message}{what}", code="missing_privilege"
        ) from error


def _prepare(connection: psycopg.Connection[tuple[object, ...]], schema: str) -> None:
    connection.execute(SQL("CREATE SCHEMA IF NOT EXISTS {}").format(Identifier(schema)))
    connection.execute(
        SQL(
            "CREATE TABLE IF NOT EXISTS {}.schema_migrations ("
            " number integer NOT NULL PRIMARY KEY,"
            " name text NOT NULL,"
            " digest text NOT NULL,"
            " applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        ).format(Identifier(schema))
    )


def _applied(
    connection: psycopg.Connection[tuple[object, ...]], schema: str
) -> dict[int, tuple[str, str]]:
    rows = connection.execute(
        SQL("SELECT number, name, digest FROM {}.schema_migrations").format(Identifier(schema))
    ).fetchall()
    return {int(str(number)): (str(name), str(digest)) for number, name, digest in rows}


def _check_known(applied: dict[int, tuple[str, str]]) -> None:
    ours = {migration.number: migration for migration in migrations()}
    for number, (name, digest) in sorted(applied.items()):
        known = ours.get(number)
        if known is None:
            raise MigrationError(
                f"the database has migration {name}, which this version does not know;"
                " run a version of tallybook at least as new as the one that made it"
            )
        if known.digest != digest:
            raise MigrationError(
                f"migration {name} was applied with other contents than this version ships;"
                " the schema cannot be trusted to match"
            )
