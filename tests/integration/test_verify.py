"""The audit finds and names every kind of damage, and nothing on a database without any."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import psycopg
import pytest
from fixtures_postgres import Run
from projections_world import ZONES, World, catalog, correction, traffic, usage, world

from adapters.postgres import arrays
from adapters.postgres.audit import PostgresAudit, open_audit
from ledger.application.replay import DIFFERENCES_KEPT, Difference, replay
from ledger.application.runner import BillingDailyRunner
from ledger.application.verify import Progress, VerifyReport, verify
from ledger.domain.entries import (
    Commit,
    UsageRecorded,
    commit_digest,
    decode_commit,
    encode_commit,
    stream_of,
)
from ledger.domain.errors import NotFound


def record_everything(one: World) -> None:
    """Record usage and corrections of all kinds, conflicts, usage without time, re-ratings."""
    events = traffic(count=150, seed=7)
    while batch := list(islice(events, 12)):
        one.use(*batch)
    timeless = usage("acme", "timeless", labels={"a": "ü", "b": ""}, raw={"x": [1.5, None]})
    del timeless["time"]
    one.use(timeless, usage("birch", "fraction", quantities={"audio.stt.seconds": "1.250000"}))
    refused = [
        usage("acme", "req-fixed", request_id="chatcmpl-1"),
        correction("acme", "fix", "req-fixed", {"tokens.output": "3.5"}),
        usage("acme", "req-fixed", user="somebody else"),
        correction("acme", "fix", "req-fixed", {"tokens.output": 4}),
        correction("acme", "never", "not-there"),
        correction("acme", "never", "req-fixed"),
    ]
    assert [one.use(event)[0].status for event in refused] == [
        "accepted",
        "accepted",
        "conflict",
        "conflict",
        "accepted",
        "conflict",
    ]
    one.use(usage("cobalt", "late", model="late", session="s9"))
    one.price(catalog("chat", "request", "session", "mystery", factor=3))
    for number in range(0, 150, 5):
        for tenant in ZONES:
            one.rerate(tenant, f"req-{number}")


@pytest.fixture(scope="module")
def full(postgres_run: Run) -> Iterator[World]:
    """Give a ledger with everything in it; tests roll back what they change."""
    with postgres_run.database(migrated=True) as url, world(url) as one:
        record_everything(one)
        one.runner().catch_up()
        yield one


@contextmanager
def damaged(one: World) -> Iterator[psycopg.Connection[Any]]:
    """Give a transaction to do damage in; it is rolled back."""
    with one.database.connect(purpose="damage", autocommit=False) as connection:
        arrays.register(connection)
        yield connection
        connection.rollback()


def audit(connection: psycopg.Connection[Any], **options: Any) -> VerifyReport:
    """Verify what a transaction sees."""
    return verify(view=PostgresAudit(connection), **options)


def found(one: World, sql: str, *values: object, deep: bool = False) -> list[Difference]:
    """Return what the audit finds after one statement that changes exactly one row."""
    with damaged(one) as connection:
        assert connection.execute(sql, values).rowcount == 1
        report = audit(connection, deep=deep)
    assert not report.clean
    return list(report.differences)


def codes(differences: list[Difference]) -> set[str]:
    """Return the codes of differences."""
    return {one.code for one in differences}


def first(one: World, sql: str) -> Any:
    """Return the first value of a query."""
    with one.database.connect(purpose="test") as connection:
        row = connection.execute(sql).fetchone()
    assert row is not None
    return row[0]


ACME = "(SELECT tenant_id FROM tenants WHERE tenant = 'acme')"
COMMIT = f"originator_id = 'ledger-' || {ACME} AND originator_version"


@pytest.mark.parametrize("deep", [False, True])
def test_a_ledger_with_everything_in_it_is_clean(full: World, deep: bool) -> None:
    """Corrections, conflicts, unpriced usage, rounding, missing times: all compared, all equal."""
    with open_audit(full.database) as view:
        report = verify(view=view, deep=deep)
    assert report.differences == []
    assert report.clean
    assert report.tenants == len(ZONES)
    assert report.commits == first(
        full, "SELECT count(*) FROM ledger_log WHERE topic = 'tb.commit:1'"
    )
    assert report.entries > report.commits > 10
    assert report.rollup_position == report.head > 0


def test_the_world_has_what_the_audit_must_cope_with(full: World) -> None:
    """Every table that is compared has rows, else a clean audit would prove nothing."""
    for table in (
        "shapes",
        "balances",
        "corrections",
        "accumulators",
        "unpriced_usage",
        "conflicts",
        "usage_daily",
    ):
        assert first(full, f"SELECT count(*) FROM {table}") > 0, table
    assert first(full, "SELECT sum(pending) FROM tenants") > 0


def test_an_empty_database_is_clean(database_url: str) -> None:
    """Nothing recorded, nothing wrong."""
    with world(database_url, opened=False) as one, open_audit(one.database) as view:
        report = verify(view=view)
    assert (report.clean, report.tenants, report.entries) == (True, 0, 0)


def test_rollups_are_compared_up_to_their_position_only(database_url: str) -> None:
    """A projection that is behind is no damage; what it counted so far must be right."""
    with world(database_url) as one:
        one.use(*traffic(count=20, seed=1))
        one.runner().catch_up()
        before = one.position()
        one.use(*traffic(count=20, seed=2, first=100))
        with open_audit(one.database) as view:
            report = verify(view=view)
        assert report.clean
        assert before == report.rollup_position < report.head
        with damaged(one) as connection:
            connection.execute("UPDATE projection_tracking SET notification_id = %s", [report.head])
            assert codes(list(audit(connection).differences)) == {"rollup"}


@pytest.mark.parametrize("ahead", ["billing_daily", "usage_daily"])
def test_each_rollup_is_compared_up_to_its_own_position(database_url: str, ahead: str) -> None:
    """Whichever is further on is compared with the log, also where the other counted nothing."""
    with world(database_url) as one:
        runners = {"usage_daily": one.runner(), "billing_daily": BillingDailyRunner(one.store)}
        ahead_runner = runners.pop(ahead)
        [(other, other_runner)] = runners.items()
        one.use(*traffic(count=20, seed=1))
        ahead_runner.catch_up()
        with open_audit(one.database) as view:
            report = verify(view=view)
        assert report.clean, report.differences
        assert report.not_compared == [other]
        other_runner.catch_up()
        one.use(*traffic(count=20, seed=2, first=100))
        ahead_runner.catch_up()
        code = {"billing_daily": "billing_rollup", "usage_daily": "rollup"}
        with damaged(one) as connection:
            report = audit(connection)
            assert report.clean, report.differences
            assert report.not_compared == []
            assert report.rollup_position != report.billing_position
            connection.execute(
                f"UPDATE {ahead} SET charge = charge + 1 WHERE quantity > 0".encode()
            )
            assert codes(list(audit(connection).differences)) == {code[ahead]}
            connection.execute(f"DELETE FROM {other} WHERE quantity > 0".encode())
            assert codes(list(audit(connection).differences)) == {"rollup", "billing_rollup"}


def test_an_audit_while_writers_write_is_clean(database_url: str) -> None:
    """The snapshot holds log, rows and rollups of one moment, whatever is committed meanwhile."""
    with world(database_url) as one:
        stop = threading.Event()

        def write() -> None:
            number = 0
            while not stop.is_set():
                one.use(*traffic(count=5, seed=number, first=number))
                one.runner().step()
                number += 5

        writer = threading.Thread(target=write)
        writer.start()
        try:
            reports = []
            for _ in range(8):
                with open_audit(one.database) as view:
                    reports.append(verify(view=view, deep=True))
        finally:
            stop.set()
            writer.join()
    assert all(report.clean for report in reports), reports[-1].differences
    assert reports[-1].head > reports[0].head


def test_every_changed_byte_of_a_commit_is_found(full: World) -> None:
    """The digest in the next commit, or the tenant's row, tells of any byte."""
    size = first(full, f"SELECT length(state) FROM ledger_log WHERE {COMMIT} = 3")
    for byte in range(0, size, max(1, size // 12)):
        differences = found(
            full,
            "UPDATE ledger_log SET state = set_byte(state, %s, get_byte(state, %s) # 1)"
            f" WHERE {COMMIT} = 3",
            byte,
            byte,
        )
        chain = [one for one in differences if one.code == "chain_broken"]
        assert any(one.what == "digest of commit 3 in commit 4" for one in chain), byte
        assert {one.tenant for one in differences} == {"acme"}


def test_a_changed_amount_in_the_last_commit_is_found(full: World) -> None:
    """No commit follows to tell, but the tenant's digest and balance do."""
    last = first(full, "SELECT version FROM tenants WHERE tenant = 'birch'")
    tenant = first(full, "SELECT tenant_id FROM tenants WHERE tenant = 'birch'")
    differences = found(
        full,
        "UPDATE ledger_log SET state = set_byte(state, length(state) - 1, 1)"
        " WHERE originator_id = %s AND originator_version = %s",
        stream_of(tenant),
        last,
    )
    assert "tenant_row" in codes(differences)
    assert any(one.what == "tenants.digest" for one in differences)


def test_a_commit_that_cannot_be_read_is_named_and_the_audit_goes_on(full: World) -> None:
    """Garbage in one ledger hides no damage in another."""
    with damaged(full) as connection:
        connection.execute(f"UPDATE ledger_log SET state = '\\x00' WHERE {COMMIT} = 2")
        connection.execute(
            "UPDATE balances SET events = events + 1 WHERE (tenant_id, period) ="
            " (SELECT tenant_id, min(period) FROM balances JOIN tenants USING (tenant_id)"
            " WHERE tenant = 'cobalt' GROUP BY tenant_id)"
        )
        differences = list(audit(connection).differences)
    unreadable = [one for one in differences if one.code == "commit_unreadable"]
    assert [(one.tenant, one.what) for one in unreadable] == [("acme", "commit 2")]
    assert {(one.tenant, one.code) for one in differences} == {
        ("acme", "commit_unreadable"),
        ("acme", "chain_broken"),
        ("cobalt", "balance"),
    }


def test_a_missing_commit_is_named(full: World) -> None:
    """Numbers are gapless: the commit after the gap tells."""
    differences = found(full, f"DELETE FROM ledger_log WHERE {COMMIT} = 4")
    gap = next(one for one in differences if one.code == "commit_gap")
    assert (gap.tenant, gap.what, gap.expected, gap.found) == ("acme", "commit after 3", "4", "5")


def test_a_missing_last_commit_is_named(full: World) -> None:
    """The tenant's row knows how many commits there were."""
    differences = found(
        full,
        f"DELETE FROM ledger_log WHERE {COMMIT} ="
        " (SELECT version FROM tenants WHERE tenant = 'acme')",
    )
    tail = next(one for one in differences if one.code == "tail_missing")
    assert tail.tenant == "acme"
    assert int(tail.found) == int(tail.expected) + 1


def test_a_ledger_without_any_commit_left_is_named(full: World) -> None:
    """A tenant whose log is gone is not simply passed over."""
    with damaged(full) as connection:
        connection.execute(f"DELETE FROM ledger_log WHERE originator_id = 'ledger-' || {ACME}")
        differences = list(audit(connection).differences)
    assert ("acme", "ledger_missing") in {(one.tenant, one.code) for one in differences}


def test_two_swapped_commits_are_named(full: World) -> None:
    """Each carries the digest of the one before it, so neither fits in the other's place."""
    with damaged(full) as connection:
        for source, target in ((3, -3), (4, 3), (-3, 4)):
            connection.execute(
                f"UPDATE ledger_log SET originator_version = {target} WHERE {COMMIT} = {source}"
            )
        by_tenant = list(audit(connection, tenant="acme").differences)
        everywhere = list(audit(connection).differences)
    assert {"chain_broken", "commit_order"} <= codes(by_tenant)
    assert {"chain_broken", "commit_gap"} <= codes(everywhere)


def test_a_commit_moved_to_another_ledger_is_named(full: World) -> None:
    """A digest is of stream and number too."""
    with damaged(full) as connection:
        last = connection.execute("SELECT max(version) FROM tenants").fetchone()
        assert last is not None
        connection.execute(
            "UPDATE ledger_log SET originator_id = 'ledger-' ||"
            " (SELECT tenant_id FROM tenants WHERE tenant = 'birch'), originator_version = %s"
            f" WHERE {COMMIT} = 3",
            [last[0] + 1],
        )
        differences = audit(connection).differences
    assert {"acme", "birch"} <= {one.tenant for one in differences if one.code == "commit_gap"}


def test_a_commit_with_another_topic_is_named(full: World) -> None:
    """What the fold passes over in a ledger's stream is told."""
    differences = found(full, f"UPDATE ledger_log SET topic = 'other:1' WHERE {COMMIT} = 3")
    stranger = next(one for one in differences if one.code == "log_stranger")
    assert "topic other:1" in stranger.what


ROWS = [
    ("UPDATE balances SET charge = charge + 1e-18 WHERE {one}", "balance", "charge"),
    ("UPDATE balances SET events = events - 1 WHERE {one}", "balance", "events"),
    (
        "UPDATE balances SET quantities = jsonb_set(quantities, '{{tokens.input}}', '\"1\"')"
        " WHERE {one}",
        "balance",
        "quantity tokens.input",
    ),
    (
        "UPDATE balances SET costs = jsonb_set(costs, '{{GBP}}', '\"0.1\"') WHERE {one}",
        "balance",
        "cost GBP",
    ),
    ("UPDATE balances SET charge = 'NaN' WHERE {one}", "row_unreadable", "balances"),
    ("UPDATE balances SET costs = '[]' WHERE {one}", "row_unreadable", "balances"),
    ("DELETE FROM balances WHERE {one}", "balance", "balances"),
    ("UPDATE tenants SET digest = '\\x00' WHERE {one}", "tenant_row", "tenants.digest"),
    ("UPDATE tenants SET version = version - 1 WHERE {one}", "tenant_row", "tenants.version"),
    ("UPDATE tenants SET timezone = 'UTC' WHERE {one}", "tenant_row", "tenants.timezone"),
    ("UPDATE tenants SET currency = 'EUR' WHERE {one}", "tenant_row", "tenants.currency"),
    ("UPDATE tenants SET book = 'vip' WHERE {one}", "tenant_row", "tenants.book"),
    ("UPDATE tenants SET tenant = 'acne' WHERE {one}", "tenant_row", "tenants.tenant"),
    ("UPDATE tenants SET pending = pending + 1 WHERE {one}", "tenant_row", "tenants.pending"),
    ("UPDATE tenants SET conflicts = 0 WHERE {one}", "tenant_row", "tenants.conflicts"),
    ("UPDATE tenants SET shapes = shapes + 1 WHERE {one}", "tenant_row", "tenants.shapes"),
    ("DELETE FROM tenants WHERE {one}", "tenant_missing", "tenants"),
    ("UPDATE shapes SET body = set_byte(body, 9, 1) WHERE {one}", "shape", "shapes"),
    ("DELETE FROM shapes WHERE {one}", "shape", "shapes"),
    ("UPDATE corrections SET standing_index = 99 WHERE {one}", "correction", "corrections"),
    ("DELETE FROM corrections WHERE {one}", "correction", "corrections"),
    ("UPDATE accumulators SET quantity = quantity + 1 WHERE {one}", "accumulator", "accumulator"),
    ("UPDATE accumulators SET quantity = 'NaN' WHERE {one}", "row_unreadable", "accumulators"),
    ("DELETE FROM accumulators WHERE {one}", "accumulator", "accumulator"),
    ("UPDATE unpriced_usage SET id = 'x' WHERE {one}", "unpriced", "unpriced_usage"),
    (
        "UPDATE unpriced_usage SET occurred_at = occurred_at + interval '1 us' WHERE {one}",
        "unpriced",
        "unpriced_usage",
    ),
    ("DELETE FROM unpriced_usage WHERE {one}", "unpriced", "unpriced_usage"),
    ("DELETE FROM conflicts WHERE {one}", "conflict", "conflicts"),
    ("UPDATE conflicts SET index = index + 50 WHERE {one}", "conflict", "conflicts"),
    ("UPDATE usage_keys SET version = version + 1 WHERE {one}", "key_wrong", "usage_keys"),
    ("UPDATE usage_keys SET index = index + 1 WHERE {one}", "key_wrong", "usage_keys"),
    ("UPDATE usage_keys SET key = gen_random_uuid() WHERE {one}", "key_missing", "usage_keys"),
    ("UPDATE usage_keys SET key = gen_random_uuid() WHERE {one}", "key_stray", "usage_keys"),
    ("DELETE FROM usage_keys WHERE {one}", "key_missing", "usage_keys"),
    ("UPDATE usage_daily SET charge = charge + 1e-18 WHERE {one}", "rollup", "usage_daily"),
    ("UPDATE usage_daily SET quantity = quantity + 1e-7 WHERE {one}", "rollup", "usage_daily"),
    ("UPDATE usage_daily SET cost = 'NaN' WHERE {one}", "rollup", "usage_daily"),
    ("UPDATE usage_daily SET project = 'px' WHERE {one}", "rollup", "usage_daily"),
    ("UPDATE usage_daily SET unpriced = unpriced + 1 WHERE {one}", "rollup", "usage_daily"),
    ("DELETE FROM usage_daily WHERE {one} AND quantity <> 0", "rollup", "usage_daily"),
]


@pytest.mark.parametrize(("sql", "code", "what"), ROWS)
def test_a_changed_row_is_named(full: World, sql: str, code: str, what: str) -> None:
    """Each kind of row is compared, column by column."""
    table = sql.split()[2] if sql.startswith("DELETE") else sql.split()[1]
    condition = " AND quantity <> 0" if table == "usage_daily" else ""
    one = (
        f"ctid = (SELECT min(ctid) FROM {table} WHERE tenant_id = {{tenant}}{condition})"
    ).format(tenant=first(full, f"SELECT {ACME}"))
    if table == "unpriced_usage":
        one = "ctid = (SELECT min(ctid) FROM unpriced_usage)"
    if table == "accumulators":
        one = "ctid = (SELECT min(ctid) FROM accumulators WHERE quantity <> 0)"
    differences = found(full, sql.format(one=one))
    named = [difference for difference in differences if difference.code == code]
    assert named, differences
    assert what in named[0].what


def test_a_stray_key_is_named_with_the_place_that_it_claims(full: World) -> None:
    """A key that no entry takes would swallow usage that is still to come."""
    differences = found(
        full,
        "INSERT INTO usage_keys (tenant_id, key, version, index, fingerprint)"
        f" VALUES ({ACME}, '00000000-0000-0000-0000-0000000000ff', 3, 1, gen_random_uuid())",
    )
    assert [(one.tenant, one.code, one.found) for one in differences] == [
        ("acme", "key_stray", "3.1")
    ]
    assert differences[0].what.endswith("ff")


def test_rows_of_a_tenant_that_never_was_are_named(full: World) -> None:
    """Nobody else's rows are in the tables."""
    differences = found(
        full, "INSERT INTO usage_keys VALUES (1, 999, 1, gen_random_uuid(), gen_random_uuid())"
    )
    assert [(one.tenant, one.code) for one in differences] == [("#999", "ledger_missing")]


def test_changed_fingerprints_are_found_by_a_deep_audit(full: World) -> None:
    """Usage, corrections and refused payloads are digested again; the plain audit does not."""
    changed = first(full, "SELECT count(*) FROM usage_keys")
    with damaged(full) as connection:
        connection.execute("UPDATE usage_keys SET fingerprint = gen_random_uuid()")
        assert audit(connection).clean
        report = audit(connection, deep=True)
    assert codes(list(report.differences)) == {"fingerprint"}
    assert report.total == changed
    assert len(report.differences) == min(DIFFERENCES_KEPT, changed)


def test_a_charge_that_does_not_follow_from_its_rates_is_found_by_a_deep_audit(
    full: World,
) -> None:
    """A last commit rewritten together with digest, balance and rollup is wrong all the same."""
    one = full
    with damaged(one) as connection:
        row = connection.execute(
            "SELECT tenant_id, version, state FROM tenants JOIN ledger_log"
            " ON originator_id = 'ledger-' || tenant_id AND originator_version = version"
            " WHERE tenant = 'cobalt'"
        ).fetchone()
        assert row is not None
        tenant_id, version, state = row
        [entry] = _last_usage(decode_commit(state))
        commit = decode_commit(state)
        cheaper = UsageRecorded(
            "new", entry.occurred_at, entry.shape, entry.quantities, 12345, 0, None
        )
        body = encode_commit(
            commit_digest(stream_of(tenant_id), version, state), commit.recorded_at, [cheaper]
        )
        connection.execute(
            "INSERT INTO ledger_log"
            " (notification_id, originator_id, originator_version, topic, state)"
            " SELECT max(notification_id) + 1, %s, %s, 'tb.commit:1', %s FROM ledger_log",
            [stream_of(tenant_id), version + 1, body],
        )
        differences = list(audit(connection, deep=True).differences)
    amount = next(one for one in differences if one.code == "amount")
    assert amount.what == f"amounts of entry {version + 1}.0, by its rates"


def _last_usage(commit: Commit) -> list[UsageRecorded]:
    """Return some usage of a shape that has prices."""
    posted = getattr(commit.entries[-1], "posted", None)
    assert posted is not None
    return [
        UsageRecorded(
            "-", posted.occurred_at, posted.shape, posted.quantities, posted.charge, 0, None
        )
    ]


def test_one_tenant_alone_can_be_audited(full: World) -> None:
    """Damage elsewhere does not show, damage here does; an unknown name is an error."""
    with damaged(full) as connection:
        connection.execute(f"UPDATE balances SET events = 0 WHERE tenant_id = {ACME}")
        other = audit(connection, tenant="birch", deep=True)
        here = audit(connection, tenant="acme", deep=True)
        with pytest.raises(NotFound) as caught:
            audit(connection, tenant="nobody")
    assert (other.clean, other.tenants) == (True, 1)
    assert codes(list(here.differences)) == {"balance"}
    assert caught.value.code == "unknown_tenant"


def test_replay_folds_the_log_alone(full: World) -> None:
    """The bare fold gives every ledger's state without looking at a row."""
    with open_audit(full.database) as view:
        result = replay(view.commits())
        tenants = {row.tenant_id: row for row in view.tenants()}
    assert result.differences.total == 0
    assert {number: state.digest for number, state in result.states.items()} == {
        number: row.digest for number, row in tenants.items()
    }


def test_progress_is_told_up_to_the_end(full: World) -> None:
    """Whoever waits learns how far the audit is."""
    told: list[Progress] = []
    with open_audit(full.database) as view:
        report = verify(view=view, progress=told.append)
    assert told[-1].commits == report.commits
    assert told[-1].position <= told[-1].head == report.head
