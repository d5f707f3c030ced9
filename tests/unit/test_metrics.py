"""Metrics: bounded labels, and scrapes that a database cannot hold up."""

from __future__ import annotations

import asyncio
import threading
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from adapters.http import metrics, scraping
from adapters.http.exchange import Exchange
from adapters.http.metrics import CannotCount, Metrics
from adapters.http.scraping import Scrape
from adapters.memory import MemoryAuditLog, MemoryJobs
from ledger.application import verify
from ledger.application.audit_log import AuditLog
from ledger.application.billing_warnings import BillingWarning
from ledger.application.jobs import Job, Jobs
from ledger.application.services import Services
from ledger.application.verify import VerifyReport
from ledger.application.watching import BatchDone
from ledger.application.workingset import Prepared
from ledger.domain.commands import Outcome
from ledger.domain.errors import Unavailable
from ledger.domain.holds import VoidHold
from ledger.domain.jobs import HOUR_US, RunState, Schedule


def read(counts: Metrics, name: str, **labels: str) -> float | None:
    """Return a sample of what is counted."""
    return counts.registry.get_sample_value(name, labels)


def test_no_label_has_a_value_that_a_client_chooses() -> None:
    """A path without a route, and a method that is none, are one series for all of them."""
    counts = Metrics()
    for method, path in (("BREW", "/tea/1"), ("SMOKE", "/tea/2")):
        exchange = Exchange(method, {}, b"", path)
        exchange.path = {"hold": path}
        exchange.status = 404
        counts.finished(exchange, seconds=0.004, error=None)
    labels = {"method": "other", "route": "-"}
    assert read(counts, "tallybook_http_requests_total", status="404", **labels) == 2
    assert read(counts, "tallybook_http_request_seconds_bucket", le="0.005", **labels) == 2
    assert read(counts, "tallybook_http_request_seconds_bucket", le="0.0025", **labels) == 0


def test_codes_that_name_a_member_are_one_series() -> None:
    """There are as many of them as documents have members."""
    counts = Metrics()
    codes = ["exists_with_different_amount", "exists_with_different_ttl", "voided"]
    command = VoidHold("acme", "h", "v")
    counts.done(
        BatchDone(
            [Prepared("acme", command)] * 3,
            [Outcome(code) for code in codes],
            [None],
            queued_s=1.0,
            begun_s=1.5,
            done_s=2.0,
            size=3,
        )
    )
    name = "tallybook_holds_total"
    assert read(counts, name, operation="void", code="exists_with_different") == 2
    assert read(counts, name, operation="void", code="voided") == 1
    assert read(counts, "tallybook_batch_commands_sum") == 3
    assert read(counts, "tallybook_ingest_lag_seconds_sum") == 1.0
    assert read(counts, "tallybook_batch_seconds_sum") == 0.5


def test_room_is_made_before_anything_is_counted_in_it(tmp_path: Path) -> None:
    """A page that is first written on a full disk would be the end of the process."""
    metrics.reserve(str(tmp_path), "0")
    sizes = {path.name: path.stat() for path in tmp_path.iterdir()}
    assert sorted(sizes) == ["counter_0.db", "gauge_livesum_0.db", "histogram_0.db"]
    assert all(one.st_blocks * 512 >= metrics.FILE_BYTES for one in sizes.values())
    with pytest.raises(CannotCount) as refused:
        metrics.reserve(str(tmp_path / "nowhere"), "0")
    assert refused.value.code == "metrics_unavailable"


NO_JOBS = Jobs(MemoryJobs(lambda: 0), (), by="here")


class Database:
    """Reads that answer, fail or hang, as a test says."""

    def __init__(self) -> None:
        self.asked = 0
        self.down = False
        self.free = threading.Event()
        self.free.set()

    def rollup_lag(self) -> int:
        """Return a lag."""
        self.asked += 1
        self.free.wait(30)
        if self.down:
            raise Unavailable("away", code="connection_lost")
        return 7

    def unpriced(self, *, limit: int) -> list[Any]:
        """Return two events."""
        assert limit == scraping.MOST_UNPRICED
        return [None, None]


def test_the_last_audit_of_the_whole_ledger_is_told() -> None:
    """How much differed, and when; nothing before there was one."""
    log = AuditLog(MemoryAuditLog(lambda: 1_500_000))
    services = cast("Services", SimpleNamespace(reads=Database(), audit_log=log, jobs=NO_JOBS))

    def text() -> bytes:
        return asyncio.run(Scrape(Metrics(), services).text())

    warning = BillingWarning(
        code="c", tenant="acme", detail="d", first_day=date(2026, 11, 1), invoice="i"
    )
    report = VerifyReport(
        tenants=1,
        commits=1,
        entries=1,
        seconds=1.0,
        head=1,
        rollup_position=1,
        deep=False,
        differences=(),
        total=3,
        warnings=(warning, warning),
    )
    verify.keep(log, report, tenant="acme", who="ann")
    assert b"tallybook_verify" not in text()
    verify.keep(log, report, tenant=None, who="ann")
    assert b"tallybook_verify_differences 3.0" in text()
    assert b"tallybook_verify_warnings 2.0" in text()
    assert b"tallybook_verify_timestamp_seconds 1.5" in text()


def test_a_database_that_is_away_or_hangs_is_told_and_not_waited_for(monkeypatch: Any) -> None:
    """Counts are answered all the same, and no more than one scrape has a thread that waits."""
    monkeypatch.setattr(scraping, "PATIENCE_S", 0.01)
    now = [0.0]
    reads = Database()
    log = SimpleNamespace(list=lambda **members: [])
    services = cast("Services", SimpleNamespace(reads=reads, audit_log=log, jobs=NO_JOBS))
    scrape = Scrape(Metrics(), services, clock=lambda: now[0])

    async def run() -> None:
        monkeypatch.setattr(scraping, "PATIENCE_S", 30)
        up = await scrape.text()
        assert b"tallybook_database_up 1.0" in up
        assert b"tallybook_projection_lag 7.0" in up
        assert b"tallybook_unpriced_events 2.0" in up
        await scrape.text()
        assert reads.asked == 1
        now[0] += 10
        reads.down = True
        away = await scrape.text()
        assert b"tallybook_database_up 0.0" in away
        assert b"tallybook_projection_lag" not in away
        assert b"tallybook_workers 0.0" in away
        now[0] += 10
        reads.free.clear()
        monkeypatch.setattr(scraping, "PATIENCE_S", 0.01)
        for _ in range(3):
            assert b"tallybook_database_up 0.0" in await scrape.text()
        assert reads.asked == 3
        reads.free.set()

    asyncio.run(run())


def test_of_each_job_is_told_when_it_last_succeeded_and_failed() -> None:
    """Nothing of one that never ran; a failure that was mended stays with its time."""
    now = [3 * HOUR_US]
    store = MemoryJobs(lambda: now[0])
    made = [Job(name, "", Schedule(HOUR_US), lambda check: {}) for name in ("a", "b")]
    jobs = Jobs(store, made, by="here")
    run = store.begin("a", now[0], attempt=1, by="here")
    assert run is not None
    store.end(run, RunState.FAILED, result={}, reason="no")
    now[0] += 60_000_000
    jobs.run("a")
    log = AuditLog(MemoryAuditLog(lambda: 0))
    services = cast("Services", SimpleNamespace(reads=Database(), audit_log=log, jobs=jobs))
    text = asyncio.run(Scrape(Metrics(), services).text()).decode()
    told = [line for line in text.splitlines() if line.startswith("tallybook_job_")]
    assert told == [
        'tallybook_job_success_timestamp_seconds{job="a"} 10860.0',
        'tallybook_job_failure_timestamp_seconds{job="a"} 10800.0',
        'tallybook_job_attempts{job="a"} 2.0',
    ]
