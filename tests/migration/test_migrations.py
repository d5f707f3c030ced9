"""Migrations: from empty to the documented schema, once, and never from a changed file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from adapters.postgres import migrate, schema


def _described(url: str) -> str:
    with psycopg.connect(url) as connection:
        return schema.describe(connection, schema=migrate.SCHEMA)


def test_migrations_from_empty_lead_to_schema_sql(empty_database_url: str) -> None:
    """An empty database, migrated, has exactly the schema that the repository shows."""
    migrate.migrate(empty_database_url)
    shown = schema.expected().split("\n\n", 1)[1]
    assert _described(empty_database_url) == shown


def test_schema_sql_differs_when_a_column_does(empty_database_url: str) -> None:
    """A column that no migration made shows as a difference."""
    migrate.migrate(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("ALTER TABLE tallybook.balances ADD COLUMN stray text")
    assert _described(empty_database_url) != schema.expected().split("\n\n", 1)[1]


def test_check_changes_nothing_and_names_what_is_pending(empty_database_url: str) -> None:
    """Checking an empty database creates no schema and lists every migration."""
    status = migrate.check(empty_database_url)
    assert status.applied == ()
    assert status.pending == tuple(one.name for one in migrate.migrations())
    with psycopg.connect(empty_database_url) as connection:
        [(there,)] = connection.execute("SELECT to_regnamespace('tallybook')").fetchall()
    assert there is None


def test_migrating_again_applies_nothing(empty_database_url: str) -> None:
    """The second run finds everything applied."""
    first = migrate.migrate(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("INSERT INTO tallybook.conflicts VALUES (1, 1, 1)")
    assert migrate.migrate(empty_database_url) == first
    with psycopg.connect(empty_database_url) as connection:
        [(rows,)] = connection.execute("SELECT count(*) FROM tallybook.conflicts").fetchall()
    assert rows == 1


def test_four_migrators_at_once_apply_each_migration_once(empty_database_url: str) -> None:
    """The advisory lock lets one work; the others find it done."""
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(migrate.migrate, [empty_database_url] * 4))
    assert all(result.pending == () for result in results)
    with psycopg.connect(empty_database_url) as connection:
        rows = connection.execute("SELECT number FROM tallybook.schema_migrations").fetchall()
    assert sorted(row[0] for row in rows) == [one.number for one in migrate.migrations()]


def test_a_changed_migration_file_is_refused(empty_database_url: str) -> None:
    """A digest that differs from the applied one stops migrate and check alike."""
    migrate.migrate(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("UPDATE tallybook.schema_migrations SET digest = 'other'")
    for run in (migrate.migrate, migrate.check):
        with pytest.raises(migrate.MigrationError, match="other contents"):
            run(empty_database_url)


def test_a_database_from_a_newer_version_is_refused(empty_database_url: str) -> None:
    """A migration that this version does not know is not ignored."""
    migrate.migrate(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        connection.execute(
            "INSERT INTO tallybook.schema_migrations VALUES (9999, '9999_later.sql', 'x')"
        )
    with pytest.raises(migrate.MigrationError, match="does not know"):
        migrate.check(empty_database_url)
