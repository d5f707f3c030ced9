"""The role that tenants' reads run as: made once for a server, by whoever may, or said how.

Roles belong to a whole server, so these tests have servers of their own.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from adapters.bootstrap import open_ledger
from adapters.postgres import embedded, migrate, schema


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Give the URL of a server on which nothing of ours was migrated."""
    home = Path(tempfile.mkdtemp(prefix="tb-roles-", dir="/tmp"))
    home.chmod(0o711)
    try:
        yield embedded.start(home=home).url
    finally:
        embedded.stop(home=home)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def bare(server: str) -> Iterator[str]:
    """Give that server without our role, and leave it without any database or role of the test."""
    yield server
    with psycopg.connect(server, autocommit=True) as connection:
        for (name,) in connection.execute(
            "SELECT datname FROM pg_database WHERE datname LIKE 't\\_%'"
        ).fetchall():
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        for (name,) in connection.execute(
            "SELECT rolname FROM pg_roles WHERE rolname LIKE 't\\_%'"
            " OR rolname = 'tallybook_tenant'"
        ).fetchall():
            connection.execute(f"DROP ROLE {name}")


def databases(server: str, role: str, *names: str, rights: str = "") -> list[str]:
    """Make a role and databases that it owns; return their URLs for it."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'p' {rights}")
        for name in names:
            connection.execute(f"CREATE DATABASE {name} OWNER {role}")
    return [make_conninfo(server, dbname=name, user=role, password="p") for name in names]


def run(server: str, sql: str) -> None:
    """Run what an administrator would."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql)


def works(url: str) -> None:
    """Check that the ledger works through this role, keeps tenants apart, and its audit log."""
    with open_ledger(url) as tallybook:
        tallybook.tenants.open("acme")
        tallybook.tenants.open("globex")
        assert [one.tenant for one in tallybook.reads.tenants()] == ["acme", "globex"]
        assert [one.tenant for one in tallybook.reads.for_tenant("acme").tenants()] == ["acme"]
        with tallybook.database.connect(purpose="test") as connection:
            [(power,)] = connection.execute(
                "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
            ).fetchall()
            tallybook.audit_log.write(act="test.done", who="ann", via="cli")
            for statement in ("UPDATE audit_log SET who = 'bob'", "DELETE FROM audit_log"):
                assert connection.execute(statement.encode()).rowcount == 0
        assert [line.who for line in tallybook.audit_log.list()] == ["ann"]
    assert not power


def test_a_role_that_may_create_roles_needs_no_administrator(bare: str) -> None:
    """It makes the role, may become it, and the schema is the documented one."""
    [url] = databases(bare, "t_maker", "t_one", rights="CREATEROLE")
    migrate.migrate(url)
    works(url)
    with psycopg.connect(url) as connection:
        shown = schema.describe(connection, schema=migrate.SCHEMA)
    assert shown == schema.expected().split("\n\n", 1)[1]


def test_a_role_that_may_not_says_what_an_administrator_must_run(bare: str) -> None:
    """Exactly that, run once, is enough; nothing was half migrated before."""
    [url] = databases(bare, "t_plain", "t_one")
    with pytest.raises(migrate.MigrationError) as caught:
        migrate.migrate(url)
    assert caught.value.code == "missing_privilege"
    said = caught.value.message.partition("must run this once: ")[2]
    assert said == "CREATE ROLE tallybook_tenant NOLOGIN; GRANT tallybook_tenant TO t_plain;"
    assert migrate.check(url).pending[0] == "0003_isolation.sql"
    run(bare, said)
    migrate.migrate(url)
    works(url)


def test_where_the_role_is_there_already_only_the_grant_is_missing(bare: str) -> None:
    """As when another database of the server was migrated by somebody else."""
    run(bare, "CREATE ROLE tallybook_tenant NOLOGIN")
    [url] = databases(bare, "t_plain", "t_one")
    with pytest.raises(migrate.MigrationError) as caught:
        migrate.migrate(url)
    said = caught.value.message.partition("must run this once: ")[2]
    assert said == "GRANT tallybook_tenant TO t_plain;"
    run(bare, said)
    migrate.migrate(url)
    works(url)


def test_a_role_of_that_name_with_rights_is_refused(bare: str) -> None:
    """Reading as it would keep nothing apart."""
    run(bare, "CREATE ROLE tallybook_tenant NOLOGIN BYPASSRLS")
    [url] = databases(bare, "t_maker", "t_one", rights="CREATEROLE")
    with pytest.raises(migrate.MigrationError, match="NOBYPASSRLS") as caught:
        migrate.migrate(url)
    assert caught.value.code == "missing_privilege"


@pytest.mark.parametrize("rights", ["CREATEROLE", "SUPERUSER"])
def test_databases_that_are_migrated_at_once_make_the_role_once(bare: str, rights: str) -> None:
    """Whoever comes second finds it there."""
    names = [f"t_{number}" for number in range(6)]
    urls = databases(bare, "t_maker", *names, rights=rights)
    with ThreadPoolExecutor(len(urls)) as pool:
        results = list(pool.map(migrate.migrate, urls))
    assert all(not result.pending for result in results)


def test_a_role_that_is_not_the_owner_is_told_so_and_not_shown_an_empty_ledger(bare: str) -> None:
    """Being granted the owner's role helps."""
    [url] = databases(bare, "t_maker", "t_one", rights="CREATEROLE")
    migrate.migrate(url)
    databases(bare, "t_other")
    run(make_conninfo(bare, dbname="t_one"), "GRANT USAGE ON SCHEMA tallybook TO t_other")
    run(
        make_conninfo(bare, dbname="t_one"),
        "GRANT SELECT ON ALL TABLES IN SCHEMA tallybook TO t_other",
    )
    other = make_conninfo(url, user="t_other")
    with pytest.raises(migrate.MigrationError) as caught:
        migrate.check(other)
    assert caught.value.code == "wrong_role"
    assert 'GRANT "t_maker" TO "t_other";' in caught.value.message
    run(bare, 'GRANT "t_maker" TO "t_other";')
    assert not migrate.check(other).pending
