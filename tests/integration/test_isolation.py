"""Row-level security: a query that forgets its predicate sees nothing foreign.

The tables come from the catalog, with rows made up for each, so a table that a later migration
adds is tested here too, and fails if nothing keeps its rows apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from fixtures_postgres import Run
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Composed, Identifier

from adapters.bootstrap import Tallybook, open_ledger
from adapters.postgres.protection_reads import PostgresProtectionReads
from adapters.postgres.readmodels import PostgresReads
from adapters.postgres.snapshots import CannotIsolate, Snapshots
from ledger.domain.errors import NotFound

NO_TENANTS = {"schema_migrations", "projection_tracking", "repeats", "invoice_series", "job_run"}
"""Tables in which nothing is of any tenant, or which the tenants' role cannot read at all."""
BY_NAME = {"stream_sessions", "audit_log", "key_uses"}
"""Tables that know tenants by name."""
STREAMS = ("ledger-1", "ledger-2", "ledger-12", "prices-cost", "key-0123456789abc", "policy-x")
VALUES = {
    "integer": "7",
    "bigint": "7",
    "smallint": "0",
    "numeric": "7",
    "boolean": "true",
    "text": "'x'",
    "bytea": "'\\x00'",
    "uuid": "'00000000-0000-0000-0000-000000000007'",
    "jsonb": "'{}'",
    "date": "'2026-01-01'",
    "timestamp with time zone": "'2026-01-01T00:00:00Z'",
}


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection[Any]]:
    """Give the engine's connection to a database with rows of tenants 1, 2 and 12 in each table."""
    with psycopg.connect(
        database_url, autocommit=True, options="-c search_path=tallybook"
    ) as opened:
        fill(opened)
        yield opened


def columns(connection: Connection[Any]) -> dict[str, dict[str, str]]:
    """Return the types of all columns of our tables."""
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in connection.execute(
        "SELECT c.relname, a.attname, format_type(a.atttypid, NULL)"
        " FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid"
        " WHERE c.relnamespace = 'tallybook'::regnamespace AND c.relkind IN ('r', 'p')"
        " AND a.attnum > 0 AND NOT a.attisdropped"
    ):
        found.setdefault(table, {})[column] = kind
    return found


def fill(connection: Connection[Any]) -> None:
    """Insert a row of each tenant into each table."""
    for table, kinds in columns(connection).items():
        if table in NO_TENANTS:
            continue
        names = SQL(", ").join(map(Identifier, kinds))
        for number in (1, 2, 12):
            values = dict(kinds)
            for column, kind in kinds.items():
                values[column] = VALUES[kind]
            if "tenant_id" in kinds:
                values["tenant_id"] = str(number)
            if table == "tenants" or table in BY_NAME:
                values["tenant"] = f"'tenant-{number}'"
            if table != "ledger_log":
                row = SQL(", ".join(values.values()))
                connection.execute(
                    SQL("INSERT INTO {} ({}) VALUES ({})").format(Identifier(table), names, row)
                )
    for place, stream in enumerate(STREAMS, 1):
        connection.execute("INSERT INTO ledger_log VALUES (1, %s, %s, 't', '')", (place, stream))


def visible(connection: Connection[Any], table: str, tenants: str | None) -> list[Any]:
    """Return whose rows a query without any predicate returns to a tenant's transaction."""
    column = "originator_id" if table == "ledger_log" else "tenant_id"
    if table in BY_NAME:
        column = "tenant"
    with connection.transaction():
        if tenants is not None:
            connection.execute("SELECT set_config('tallybook.tenants', %s, true)", (tenants,))
        connection.execute("SET LOCAL ROLE tallybook_tenant")
        rows = connection.execute(
            SQL("SELECT {} FROM {}").format(Identifier(column), Identifier(table))
        ).fetchall()
    return sorted(row[0] for row in rows)


def test_every_table_keeps_its_rows_apart_or_has_no_tenants(connection: Connection[Any]) -> None:
    """A table that a migration adds must call `isolate`, or be named here with its reason."""
    secured = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'tallybook'::regnamespace"
        " AND relkind IN ('r', 'p') AND relrowsecurity AND relforcerowsecurity"
    ).fetchall()
    assert {name for (name,) in secured} == set(columns(connection)) - NO_TENANTS
    assert not [t for t in NO_TENANTS if "tenant_id" in columns(connection)[t]]


def test_a_query_without_a_predicate_sees_the_tenants_named_and_no_others(
    connection: Connection[Any],
) -> None:
    """In every table; unset, empty and unknown mean nobody."""
    tables = set(columns(connection)) - NO_TENANTS
    assert len(tables) >= 15
    for table in tables:
        of: list[Any] = [1, 2, 12] if table != "ledger_log" else list(STREAMS[:3])
        if table in BY_NAME:
            of = [f"tenant-{number}" for number in of]
        assert visible(connection, table, "1") == of[:1], table
        assert visible(connection, table, "12") == of[2:], table
        assert visible(connection, table, "2,12") == sorted(of[1:]), table
        for nobody in (None, "", "99"):
            assert visible(connection, table, nobody) == [], table


def test_the_setting_ends_with_the_transaction(connection: Connection[Any]) -> None:
    """Whoever comes next on the connection sees nothing until it says whose."""
    assert visible(connection, "tenants", "1") == [1]
    assert visible(connection, "tenants", None) == []
    [(user,)] = connection.execute("SELECT current_user = session_user").fetchall()
    assert user


def test_what_is_no_list_of_numbers_is_an_error_not_everything(
    connection: Connection[Any],
) -> None:
    """Nobody's text ends in the setting, but if it did, nothing would come back."""
    for text in ("acme", "1 OR true", "1,,2", "1;2"):
        for table in ("tenants", "ledger_log"):
            with pytest.raises(psycopg.errors.InvalidTextRepresentation):
                visible(connection, table, text)


def test_the_tenants_role_changes_nothing(connection: Connection[Any]) -> None:
    """Not even its own rows; and migrations are none of its business."""

    def run(statement: SQL | Composed) -> None:
        with connection.transaction():
            connection.execute("SELECT set_config('tallybook.tenants', '1', true)")
            connection.execute("SET LOCAL ROLE tallybook_tenant")
            connection.execute(statement)

    for table in columns(connection):
        for statement in ("DELETE FROM {}", "TRUNCATE {}", "INSERT INTO {} DEFAULT VALUES"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                run(SQL(statement).format(Identifier(table)))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        run(SQL("SELECT * FROM schema_migrations"))


def test_the_tenants_role_finds_rows_by_index(connection: Connection[Any]) -> None:
    """The policy costs a look at the setting, not a scan."""
    connection.execute(
        "INSERT INTO usage_keys (version, tenant_id, index, key, fingerprint)"
        " SELECT 1, 100 + n % 100, 1, gen_random_uuid(), gen_random_uuid()"
        " FROM generate_series(1, 20000) AS n"
    )
    connection.execute("ANALYZE usage_keys")
    with connection.transaction():
        connection.execute("SELECT set_config('tallybook.tenants', '150', true)")
        connection.execute("SET LOCAL ROLE tallybook_tenant")
        plan = connection.execute(
            "EXPLAIN SELECT * FROM usage_keys WHERE tenant_id = 150 AND key = gen_random_uuid()"
        ).fetchall()
        everything = connection.execute("EXPLAIN SELECT * FROM usage_keys").fetchall()
    assert any("Index" in line for (line,) in plan)
    assert any("Index" in line for (line,) in everything)


# -- reads ----------------------------------------------------------------------------


def usage(tenant: str, id: str) -> bytes:
    """Return an event."""
    return json.dumps(
        {
            "specversion": "1.0",
            "type": "tallybook.usage.v2",
            "id": id,
            "source": "gateway",
            "subject": tenant,
            "time": "2026-11-03T12:00:00Z",
            "data": {
                "provider": "openai",
                "model": "m",
                "quantities": {"tokens.output": 5},
                "user": f"user-of-{tenant}",
            },
        }
    ).encode()


@pytest.fixture
def tallybook(database_url: str) -> Iterator[Tallybook]:
    """Give two tenants that have the same ids of everything."""
    with open_ledger(database_url) as opened:
        for tenant in ("acme", "globex"):
            opened.tenants.open(tenant)
            opened.ledger.record([usage(tenant, "same"), usage(tenant, f"only-{tenant}")])
            opened.budgets.set({"cap": "5"}, tenant=tenant, name="monthly", by="ann")
            opened.credits.grant(
                {"id": "g", "amount": "3", "by": "ann", "priority": 1}, tenant=tenant
            )
        opened.projections.runner("usage_daily").catch_up()
        yield opened


def answers(reads: PostgresReads, protection: PostgresProtectionReads, tenant: str) -> list[Any]:
    """Return what queries that name a tenant answer, their time of asking left out."""
    version, index = 2, 0
    return [
        reads.tenant(tenant),
        [vars_of(one) for one in reads.balances(tenant)],
        reads.usage(tenant=tenant, start=None, end=None, by=("user",)),
        reads.locate(tenant=tenant, source="gateway", id="same").digest,
        reads.place(tenant=tenant, version=version, index=index).digest,
        [one.digest for one in reads.find_id("same", tenant=tenant)],
        [one.digest for one in reads.history(tenant=tenant, source="gateway", id="same")],
        reads.commits(tenant=tenant, before=None, limit=9),
        reads.shapes(tenant),
        reads.unpriced(tenant=tenant, limit=9),
        [one.terms for one in protection.budgets(tenant=tenant)],
        protection.budget(tenant=tenant, name="monthly").terms,
        protection.capped(tenant),
        protection.holds(tenant=tenant, limit=9),
        protection.decisions(tenant=tenant, limit=9),
        protection.steps(tenant=tenant, limit=9),
        [one.id for one in protection.credit(tenant).grants],
        protection.entitlements(tenant),
    ]


def vars_of(balance: Any) -> list[Any]:
    """Return a balance's members."""
    return [balance.period, balance.charge, balance.quantities, balance.events, balance.unpriced]


def test_a_tenants_view_answers_what_the_engine_does(tallybook: Tallybook) -> None:
    """Nothing of its own is hidden from a tenant."""
    reads, protection = tallybook.reads, tallybook.protection_reads
    for tenant in ("acme", "globex"):
        assert answers(reads.for_tenant(tenant), protection.for_tenant(tenant), tenant) == answers(
            reads, protection, tenant
        )


def test_a_tenants_view_does_not_know_any_other(tallybook: Tallybook) -> None:
    """A foreign name and one that does not exist answer alike, whatever is asked."""
    reads = tallybook.reads.for_tenant("acme")
    bound = tallybook.protection_reads.for_tenant("acme")
    questions: list[Callable[[str], object]] = [
        reads.tenant,
        reads.balances,
        lambda name: reads.usage(tenant=name, start=None, end=None, by=()),
        lambda name: reads.locate(tenant=name, source="gateway", id="same"),
        lambda name: reads.place(tenant=name, version=2, index=0),
        lambda name: reads.find_id("same", tenant=name),
        lambda name: reads.history(tenant=name, source="gateway", id="same"),
        lambda name: reads.commits(tenant=name, before=None, limit=9),
        reads.shapes,
        lambda name: reads.unpriced(tenant=name, limit=9),
        lambda name: bound.budgets(tenant=name),
        lambda name: bound.budget(tenant=name, name="monthly"),
        bound.capped,
        lambda name: bound.holds(tenant=name, limit=9),
        lambda name: bound.hold("h", tenant=name),
        lambda name: bound.decisions(tenant=name, limit=9),
        lambda name: bound.steps(tenant=name, limit=9),
        bound.credit,
        bound.entitlements,
    ]
    for ask in questions:
        for name in ("globex", "nobody"):
            with pytest.raises(NotFound) as caught:
                ask(name)
            assert caught.value.code == "unknown_tenant"


def test_what_names_nobody_is_about_the_views_tenant(tallybook: Tallybook) -> None:
    """Lists of everybody's become lists of one's own; a view of nobody is empty."""
    reads = tallybook.reads.for_tenant("acme")
    assert [one.tenant for one in reads.tenants()] == ["acme"]
    assert {one.tenant.tenant for one in reads.find_id("same")} == {"acme"}
    assert {name for name, _ in reads.unpriced(limit=9)} == {"acme"}
    assert reads.rollup_lag() == 0
    protection = tallybook.protection_reads.for_tenant("acme")
    assert {one.tenant.tenant for one in protection.budgets()} == {"acme"}
    nobody = tallybook.reads.for_tenant("nobody")
    assert nobody.tenants() == []
    assert nobody.find_id("same") == []
    assert len(tallybook.reads.tenants()) == 2


def test_a_query_of_the_engines_that_lost_its_predicate_shows_a_view_nothing_foreign(
    tallybook: Tallybook,
) -> None:
    """The statements themselves, with their predicates taken away."""
    view = tallybook.protection_reads.for_tenant("acme")
    for table in ("tenants", "balances", "budgets", "credit_grants", "usage_keys", "shapes"):
        rows = view._ask(lambda one, table=table: one.execute(f"SELECT tenant_id FROM {table}"))
        assert {row[0] for row in rows} == {1}, table
    rows = view._ask(lambda one: one.execute("SELECT originator_id FROM ledger_log"))
    assert {row[0] for row in rows} == {"ledger-1"}


def test_balances_of_many_are_those_of_each(tallybook: Tallybook) -> None:
    """In one statement; names that do not exist, or are not the view's, are left out."""
    found = tallybook.reads.balances_of_many(["globex", "acme", "nobody", "acme"])
    assert set(found) == {"acme", "globex"}
    for name, (row, balances) in found.items():
        assert row == tallybook.reads.tenant(name)
        assert [vars_of(one) for one in balances] == [
            vars_of(one) for one in tallybook.reads.balances(name)
        ]
        assert balances
    assert tallybook.reads.balances_of_many([]) == {}
    assert set(tallybook.reads.for_tenant("acme").balances_of_many(["acme", "globex"])) == {"acme"}
    tallybook.tenants.open("empty")
    row, balances = tallybook.reads.balances_of_many(["empty"])["empty"]
    assert (row.tenant, balances) == ("empty", [])


def test_balances_of_many_see_exactly_the_tenants_asked_for(
    tallybook: Tallybook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even when the statement forgets which ones those are."""
    sql = tallybook.reads._sql
    forgetful = SQL(
        sql["balances_of_many"].as_string().replace("t.tenant = ANY", "true OR t.tenant = ANY")
    )
    monkeypatch.setitem(sql, "balances_of_many", forgetful)
    assert set(tallybook.reads.balances_of_many(["globex"])) == {"globex"}


def test_a_views_queries_survive_a_cut_connection(tallybook: Tallybook, database_url: str) -> None:
    """A kept one that died is replaced; the new one is as isolated."""
    view = tallybook.reads.for_tenant("acme")
    view.tenants()
    tallybook.reads.balances_of_many(["acme"])
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE '%reads'"
        )
    assert [one.tenant for one in view.tenants()] == ["acme"]
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE '%reads'"
        )
    assert set(tallybook.reads.balances_of_many(["acme"])) == {"acme"}


def test_an_engine_that_may_not_become_the_tenants_role_says_what_to_run(
    tallybook: Tallybook, postgres_run: Run, database_url: str
) -> None:
    """It does not read as itself instead."""
    role = f"{postgres_run.prefix}plain"
    name = Identifier(str(conninfo_to_dict(database_url)["dbname"]))
    with psycopg.connect(postgres_run.server_url, autocommit=True) as connection:
        connection.execute(SQL("CREATE ROLE {} LOGIN PASSWORD 'p'").format(Identifier(role)))
        try:
            connection.execute(
                SQL("GRANT CONNECT ON DATABASE {} TO {}").format(name, Identifier(role))
            )
            with psycopg.connect(database_url, autocommit=True) as own:
                own.execute(SQL("GRANT USAGE ON SCHEMA tallybook TO {}").format(Identifier(role)))
                own.execute(
                    SQL("GRANT SELECT ON ALL TABLES IN SCHEMA tallybook TO {}").format(
                        Identifier(role)
                    )
                )

            class Plain:
                """Connects as a role that sees no rows and may become nobody."""

                def connect(self, *, purpose: str) -> Connection[Any]:
                    """Return a connection."""
                    return psycopg.connect(
                        database_url,
                        user=role,
                        password="p",
                        autocommit=True,
                        options="-c search_path=tallybook",
                    )

            with pytest.raises(CannotIsolate, match="GRANT tallybook_tenant TO"):
                Snapshots(Plain(), isolated=True).ask(lambda one: one, tenants=["acme"])
            plain = Snapshots(Plain(), isolated=False)
            assert plain.ask(lambda one: one.execute("SELECT * FROM tenants").fetchall()) == []
            plain.close()
            with psycopg.connect(database_url, autocommit=True) as own:
                own.execute(SQL("DROP OWNED BY {}").format(Identifier(role)))
        finally:
            connection.execute(
                SQL("REVOKE ALL ON DATABASE {} FROM {}").format(name, Identifier(role))
            )
            connection.execute(SQL("DROP ROLE {}").format(Identifier(role)))
