"""The batched runner on PostgreSQL: exact, resumable, rebuildable, and awake."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from decimal import Decimal
from itertools import islice
from typing import Any

import pytest
from projections_world import ZONES, World, catalog, correction, traffic, usage, world

from adapters.postgres import schema
from adapters.postgres.projections import PostgresProjections, _PostgresBatch
from ledger.application.ports import ConnectionLost
from ledger.application.runner import Projections, UsageDailyRunner
from ledger.domain.errors import NotFound, Refused
from ledger.domain.meters import QUANTITY_DECIMALS
from ledger.domain.money import AMOUNT_DECIMALS, to_scaled
from ledger.projections.usage_daily import Rows


class Killed(Exception):
    """Stands for whatever ends a process."""


@pytest.fixture
def ledger(database_url: str) -> Iterator[World]:
    """Give a ledger with three tenants."""
    with world(database_url) as one:
        yield one


def record(one: World, *, count: int, seed: int = 1, first: int = 0) -> None:
    """Record mixed traffic in commits of 25 commands, with re-ratings in between."""
    events = traffic(count=count, seed=seed, first=first)
    while batch := list(islice(events, 25)):
        one.use(*batch)
    one.price(catalog("chat", "request", "session", "mystery", factor=3))
    for number in range(first, first + count, 7):
        for tenant in ZONES:
            one.rerate(tenant, f"req-{number}")


def wait_until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    """Wait until a condition holds; fail after the timeout."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_rows_of_every_tenant_and_month_add_up_to_the_balances(ledger: World) -> None:
    """Corrections, unpriced usage, rounding by request and session: charge, costs, quantities."""
    record(ledger, count=300)
    ledger.runner(batch_notifications=7).catch_up()
    sums: dict[Any, Any] = defaultdict(lambda: [0, defaultdict(int), defaultdict(int)])
    for row in ledger.rows():
        total = sums[row[0], row[1].strftime("%Y-%m")]
        total[0] += to_scaled(row[9], AMOUNT_DECIMALS)
        total[1][row[7]] += to_scaled(row[10], AMOUNT_DECIMALS)
        total[2][row[4]] += to_scaled(row[8], QUANTITY_DECIMALS)
    kept = {}
    for tenant in ledger.reads.tenants():
        for balance in ledger.reads.balances(tenant.tenant):
            kept[tenant.tenant_id, balance.period] = _nonzero(
                balance.charge, balance.costs, balance.quantities
            )
    assert {key: _nonzero(*total) for key, total in sums.items()} == kept
    assert len(kept) == 6
    assert all(charge for charge, _, _ in kept.values())


def _nonzero(charge: int, costs: dict[str, int], quantities: dict[str, int]) -> Any:
    return (
        charge,
        {name: cost for name, cost in costs.items() if cost},
        {name: quantity for name, quantity in quantities.items() if quantity},
    )


def test_batch_sizes_make_no_difference(ledger: World) -> None:
    """One notification a batch, or a few bytes, or everything at once: the same rows."""
    record(ledger, count=60)
    ledger.runner().catch_up()
    rows = ledger.rows()
    with closing(PostgresProjections(ledger.database, window_bytes=1000)) as small:
        for store, limit in ((ledger.store, 1), (small, 500)):
            with ledger.database.connect(purpose="test") as connection:
                connection.execute("TRUNCATE usage_daily, projection_tracking")
            UsageDailyRunner(store, batch_notifications=limit).catch_up()
            assert ledger.rows() == rows


def test_a_batch_takes_no_more_bytes_than_it_may_but_always_a_commit(ledger: World) -> None:
    """Memory is bounded by bytes too, and a commit above the bound does not stop everything."""
    ledger.use(*(usage("acme", f"a{n}", labels={"x": "y" * 200}) for n in range(20)))
    ledger.use(usage("acme", "last"))
    ledger.use(usage("acme", "after"))
    windows = []
    with (
        closing(PostgresProjections(ledger.database, window_bytes=1000)) as store,
        store.batch(name="usage_daily") as batch,
    ):
        while (window := batch.window(limit=500, upto=None)).last != batch.position:
            windows.append([len(one.state) for one in window.commits])
            batch.advance(window.last)
    assert [sizes for sizes in windows if sum(sizes) > 1000 and len(sizes) > 1] == []
    assert max(map(sum, windows)) > 4000
    assert max(map(len, windows)) > 1


@pytest.mark.parametrize("moment", ["add", "advance"])
def test_a_runner_killed_inside_a_batch_goes_on_exactly(
    ledger: World, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Rows and position go together: after any number of deaths every commit counts once."""
    record(ledger, count=80)
    with monkeypatch.context() as patched:
        original = getattr(_PostgresBatch, moment)
        calls = iter(range(10_000))

        def dying(self: Any, argument: Any) -> None:
            original(self, argument)
            if next(calls) % 3 == 1:
                raise Killed

        patched.setattr(_PostgresBatch, moment, dying)
        deaths = 0
        while True:
            try:
                ledger.runner(batch_notifications=2).catch_up()
                break
            except Killed:
                deaths += 1
    assert deaths > 3
    rows = ledger.rows()
    assert ledger.runner().rebuild().changed == 0
    assert ledger.rows() == rows


def test_two_runners_at_once_count_everything_once(ledger: World) -> None:
    """The projection's lock makes them take turns."""
    record(ledger, count=120)
    stores = [PostgresProjections(ledger.database) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        runners = [UsageDailyRunner(store, batch_notifications=2) for store in stores]
        for status in pool.map(lambda runner: runner.catch_up(), runners):
            assert status.lag == 0
    for store in stores:
        store.close()
    report = ledger.runner().rebuild()
    assert (report.changed, report.removed) == (0, 0)
    assert report.rows == len(ledger.rows()) > 50


def test_a_runner_waits_for_the_one_that_has_a_batch_open(ledger: World) -> None:
    """Nobody reads a position that somebody else is about to move."""
    ledger.use(usage("acme", "one"))
    other = PostgresProjections(ledger.database)
    with ThreadPoolExecutor(1) as pool:
        with ledger.store.batch(name="usage_daily") as batch:
            waiting = pool.submit(UsageDailyRunner(other).step)
            wait_until(lambda: _waiting_for_advisory_lock(ledger) == 1)
            batch.advance(batch.window(limit=500, upto=None).last)
        assert waiting.result() is False
    other.close()


def _waiting_for_advisory_lock(one: World) -> int:
    with one.database.connect(purpose="test") as connection:
        [(count,)] = connection.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ).fetchall()
    return int(count)


def test_streams_that_are_no_ledgers_are_passed_over(ledger: World) -> None:
    """Price books are in the same log; the position moves beyond them."""
    ledger.use(usage("acme", "one"))
    for _ in range(3):
        ledger.price(catalog("chat"))
    status = ledger.runner(batch_notifications=1).catch_up()
    assert status.lag == 0
    assert len(ledger.rows()) == 1


def test_an_empty_log_is_caught_up_with(database_url: str) -> None:
    """There is nothing to count and nothing behind."""
    with world(database_url, opened=False) as one:
        status = one.runner().catch_up()
        assert (status.position, status.head, status.lag) == (0, 0, 0)
        assert one.runner().rebuild().rows == 0


def test_a_day_begins_at_the_tenants_midnight(ledger: World) -> None:
    """One instant is two days for two tenants, and summer time ends where the tenant is."""
    for tenant in ("acme", "birch"):
        ledger.use(
            usage(tenant, "before", time="2026-10-25T22:59:59Z"),
            usage(tenant, "after", time="2026-10-25T23:00:00Z"),
        )
    ledger.runner().catch_up()
    days = {
        tenant: {
            row.group[0]: row.quantity
            for row in ledger.reads.usage(tenant=tenant, start=None, end=None, by=["day"])
        }
        for tenant in ("acme", "birch")
    }
    thousand = Decimal(1000)
    assert days == {
        "acme": {"2026-10-25": thousand, "2026-10-26": thousand},
        "birch": {"2026-10-25": 2 * thousand},
    }


@contextmanager
def following(one: World, *, poll_s: float) -> Iterator[None]:
    """Run a follower in a thread and end it."""
    stop = threading.Event()
    store = PostgresProjections(one.database)
    failures: list[BaseException] = []

    def follow() -> None:
        try:
            UsageDailyRunner(store).follow(stop=stop, poll_s=poll_s, retry_delays_s=(0.05,))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)
        store.close()
    assert not thread.is_alive()
    assert failures == []


def test_a_follower_is_woken_by_a_commit(ledger: World) -> None:
    """It does not wait for the poll, which is an hour away."""
    with following(ledger, poll_s=3600):
        wait_until(lambda: ledger.runner().status().lag == 0)
        for number in range(3):
            ledger.use(usage("acme", f"one-{number}"))
            wait_until(lambda: ledger.runner().status().lag == 0, 5)


def test_a_follower_polls_where_no_signal_comes(
    ledger: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost wake-up costs one poll, no more."""
    monkeypatch.setattr(ledger.database.recorder, "_notify_channel", lambda cursor: None)
    with following(ledger, poll_s=0.2):
        wait_until(lambda: ledger.runner().status().lag == 0)
        ledger.use(usage("acme", "one"))
        wait_until(lambda: ledger.runner().status().lag == 0, 5)


def test_a_follower_goes_on_after_its_connections_died(ledger: World) -> None:
    """Both its connections are ended from outside, twice; it listens again and counts on."""
    with following(ledger, poll_s=3600):
        for number in range(2):
            wait_until(lambda: ledger.runner().status().lag == 0)
            with ledger.database.connect(purpose="test") as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name LIKE 'tallybook projections%'"
                    " AND datname = current_database()"
                )
            ledger.store.close()
            ledger.use(usage("acme", f"one-{number}"))
            wait_until(lambda: ledger.runner().status().lag == 0)
    assert ledger.runner().rebuild().changed == 0


def test_a_connection_that_dies_in_a_batch_loses_the_batch_only(
    ledger: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller is told, nothing counted, and the next call opens a new connection."""
    ledger.use(usage("acme", "one"))

    def end_the_connection(self: _PostgresBatch, rows: Rows) -> None:
        with ledger.database.connect(purpose="test") as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'tallybook projections'"
                " AND datname = current_database()"
            )
        add(self, rows)

    add = _PostgresBatch.add
    with monkeypatch.context() as patched:
        patched.setattr(_PostgresBatch, "add", end_the_connection)
        with pytest.raises(ConnectionLost):
            ledger.runner().step()
    assert ledger.position() == 0
    assert ledger.runner().catch_up().lag == 0
    assert len(ledger.rows()) == 1


def test_a_rebuild_while_usage_goes_on_equals_the_live_rows(ledger: World) -> None:
    """Writers, a follower and readers go on; nothing changes, and no read sees fewer rows."""
    record(ledger, count=150)
    ledger.runner().catch_up()
    stop = threading.Event()
    before = len(ledger.rows())
    seen: list[int] = []

    def write() -> None:
        number = 1000
        while not stop.is_set():
            ledger.use(*traffic(count=5, seed=number, first=number))
            number += 5

    def read() -> None:
        while not stop.is_set():
            seen.append(len(ledger.rows()))

    with following(ledger, poll_s=0.1), ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(write), pool.submit(read)]
        try:
            for _ in range(3):
                report = ledger.runner(batch_notifications=3).rebuild()
                assert (report.changed, report.removed) == (0, 0)
        finally:
            stop.set()
        for job in jobs:
            job.result()
    assert min(seen) >= before
    ledger.runner().catch_up()
    rows = ledger.rows()
    assert ledger.runner().rebuild().changed == 0
    assert ledger.rows() == rows


def test_a_rebuild_mends_rows_that_are_wrong_missing_or_too_many(ledger: World) -> None:
    """It says how many, and the live table keeps its form and what was granted on it."""
    record(ledger, count=60)
    ledger.runner().catch_up()
    rows = ledger.rows()
    with ledger.database.connect(purpose="test") as connection:
        before = schema.describe(connection, schema="tallybook")
        connection.execute("GRANT SELECT ON usage_daily TO pg_monitor")
        connection.execute(
            "UPDATE usage_daily SET charge = charge + 0.000000000000000001"
            " WHERE (tenant_id, day) = (SELECT tenant_id, min(day) FROM usage_daily"
            " WHERE tenant_id = 1 GROUP BY tenant_id)"
        )
        connection.execute(
            "DELETE FROM usage_daily WHERE ctid = (SELECT max(ctid) FROM usage_daily)"
        )
        connection.execute(
            "INSERT INTO usage_daily VALUES (9, '2026-01-01', '', '', '', '', '', '', 1, 1, 1, 0)"
        )
    report = ledger.runner().rebuild()
    assert ledger.rows() == rows
    assert report.removed == 1
    assert report.changed >= 2
    with ledger.database.connect(purpose="test") as connection:
        [(granted,)] = connection.execute(
            "SELECT has_table_privilege('pg_monitor', 'usage_daily', 'SELECT')"
        ).fetchall()
        connection.execute("REVOKE SELECT ON usage_daily FROM pg_monitor")
        assert schema.describe(connection, schema="tallybook") == before
    assert granted


def test_a_rebuild_that_was_killed_goes_on_where_it_was(
    ledger: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second call reads only what the first had not, and the live rows were never touched."""
    record(ledger, count=60)
    ledger.runner().catch_up()
    rows = ledger.rows()
    advanced: list[int] = []
    original = _PostgresBatch.advance

    def dying(self: Any, position: int) -> None:
        original(self, position)
        advanced.append(position)
        if len(advanced) == 4:
            raise Killed

    monkeypatch.setattr(_PostgresBatch, "advance", dying)
    with pytest.raises(Killed):
        ledger.runner(batch_notifications=2).rebuild()
    left = ledger.runner().status().rebuilding
    assert left == advanced[2]
    assert ledger.rows() == rows
    assert ledger.runner(batch_notifications=2).rebuild().changed == 0
    assert advanced[4] > advanced[2]
    assert advanced.count(advanced[0]) == 1
    assert ledger.runner().status().rebuilding is None
    assert ledger.rows() == rows


def test_a_rebuild_of_another_fold_version_starts_anew(
    ledger: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of two folds are never mixed."""
    ledger.use(usage("acme", "one"))
    with ledger.store.rebuild(name="usage_daily", version=0) as rebuild, rebuild.batch() as batch:
        batch.add({(9, "2026-01-01", "", "", "", "", "", ""): [1, 1, 1, 0]})
        batch.advance(1)
    assert ledger.runner().rebuild().rows == 1


def test_a_rebuild_takes_its_place_only_between_two_live_batches(ledger: World) -> None:
    """What a live batch that is open adds is not lost, nor counted twice."""
    ledger.use(usage("acme", "one"))
    with (
        closing(PostgresProjections(ledger.database)) as other,
        closing(PostgresProjections(ledger.database)) as live,
        ThreadPoolExecutor(1) as pool,
    ):
        live_runner = UsageDailyRunner(live)
        with live.batch(name="usage_daily") as batch:
            job = pool.submit(UsageDailyRunner(other).rebuild)
            wait_until(lambda: _waiting_for_advisory_lock(ledger) == 1)
            live_runner._project(batch, upto=None)
        assert job.result().changed == 0
    [row] = ledger.rows()
    assert row[8] == 1000


def test_a_second_rebuild_at_the_same_time_is_refused(ledger: World) -> None:
    """Whoever comes second is told at once."""
    with (
        ledger.store.rebuild(name="usage_daily", version=1),
        pytest.raises(Refused, match="already") as caught,
    ):
        ledger.runner().rebuild()
    assert caught.value.code == "rebuild_running"


def test_projections_know_their_names(ledger: World) -> None:
    """Status and catching up cover all; an unknown name is told from a known one."""
    projections = Projections.over(ledger.store)
    ledger.use(usage("acme", "one"), correction("acme", "v", "one"))
    assert [one.name for one in projections.status() if one.lag] == ["billing_daily", "usage_daily"]
    assert [one.lag for one in projections.catch_up()] == [0, 0]
    with pytest.raises(NotFound) as caught:
        projections.rebuild("usage_weekly")
    assert caught.value.code == "unknown_projection"


def test_following_all_projections_ends_when_told(ledger: World) -> None:
    """Stopping is heard within a second, though the poll is far away."""
    stop = threading.Event()
    projections = Projections.over(ledger.store)
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(projections.follow, stop=stop, poll_s=3600)
        wait_until(lambda: ledger.runner().status().lag == 0)
        stop.set()
        job.result(timeout=5)


def test_the_writer_is_not_made_to_wait_by_an_open_batch(ledger: World) -> None:
    """A projection takes no lock that recording needs."""
    with ledger.store.batch(name="usage_daily") as batch:
        batch.add({(1, "2026-01-01", "", "", "", "", "", ""): [1, 1, 1, 0]})
        with ThreadPoolExecutor(1) as pool:
            [outcome] = pool.submit(ledger.use, usage("acme", "one")).result(timeout=10)
    assert outcome.status == "accepted"
