"""What ``/metrics`` answers: what all processes have counted, and where the ledger stands now.

What is asked of the database is asked at most once in some seconds, whoever scrapes how often, and
a database that does not answer is itself an answer: counts never wait for it for long.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from adapters.http.gate import API_VERSION
from adapters.http.metrics import Metrics
from ledger.application.job_ports import JobStanding
from ledger.application.services import Services
from ledger.application.verify import ACT, Verified
from ledger.domain.errors import LedgerError

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4.encode()
FRESH_S = 5.0
"""How long what the database said is good."""
PATIENCE_S = 2.0
"""How long a scrape waits for the database."""
MOST_UNPRICED = 1_000
"""Most unpriced events that are counted."""


class Standing(msgspec.Struct, frozen=True):
    """Where the ledger stands.

    Attributes:
        lag: log positions that the daily rollups are behind.
        unpriced: events without a price that wait for one; at most `MOST_UNPRICED` are counted.
        verified_at: when the whole ledger was last audited, microseconds since the epoch; None if
            it never was.
        differences: that were found then.
        warnings: likewise.
        jobs: that ever ran.
    """

    lag: int
    unpriced: int
    verified_at: int | None = None
    differences: int = 0
    jobs: tuple[JobStanding, ...] = ()
    warnings: int = 0


class Scrape:
    """Answers scrapes in this process.

    Args:
        metrics: what it counts.
        services: whose database is asked.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        metrics: Metrics,
        services: Services,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._services = services
        self._clock = clock
        self._standing: Standing | None = None
        self._asked_s = -FRESH_S
        self._asking: asyncio.Task[Standing | None] | None = None
        self._process = CollectorRegistry()
        if metrics.directory is None:
            ProcessCollector(registry=self._process)

    async def text(self) -> bytes:
        """Return the metrics in Prometheus's text form."""
        standing = await self._current()
        return await asyncio.to_thread(self._render, standing)

    async def _current(self) -> Standing | None:
        """Return where the ledger stands; None if the database does not say so in time."""
        if self._asking is None and self._clock() - self._asked_s >= FRESH_S:
            # One at a time: a database that hangs must not take a thread a scrape.
            self._asking = asyncio.create_task(asyncio.to_thread(self._ask))
            self._asking.add_done_callback(self._answered)
        if self._asking is not None:
            done, _ = await asyncio.wait([self._asking], timeout=PATIENCE_S)
            if not done:
                return None
        return self._standing

    def _ask(self) -> Standing | None:
        reads = self._services.reads
        try:
            lag, unpriced = reads.rollup_lag(), len(reads.unpriced(limit=MOST_UNPRICED))
            audits = self._services.audit_log.list(tenant="", act=ACT, limit=1)
            jobs = tuple(self._services.jobs.standings().values())
        except LedgerError:
            return None
        for line in audits:
            found = msgspec.convert(line.detail, Verified)
            return Standing(lag, unpriced, line.at, found.differences, jobs, found.warnings)
        return Standing(lag, unpriced, jobs=jobs)

    def _answered(self, asking: asyncio.Task[Standing | None]) -> None:
        self._asking = None
        self._asked_s = self._clock()
        self._standing = None if asking.cancelled() or asking.exception() else asking.result()

    def _render(self, standing: Standing | None) -> bytes:
        counted = self._metrics.registry
        if self._metrics.directory is not None:
            counted = CollectorRegistry()
            MultiProcessCollector(counted, str(self._metrics.directory))  # type: ignore[no-untyped-call] # it has no types
        facts = CollectorRegistry()
        facts.register(_Facts(standing))
        return b"".join(generate_latest(one) for one in (counted, facts, self._process))


class _Facts(Collector):
    """What is not counted but so now."""

    def __init__(self, standing: Standing | None) -> None:
        self._standing = standing

    def collect(self) -> Iterable[Metric]:
        """Return it."""
        build = GaugeMetricFamily("tallybook_info", "What answers.", labels=["api_version"])
        build.add_metric([API_VERSION], 1)
        yield build
        standing = self._standing
        yield GaugeMetricFamily(
            "tallybook_database_up",
            "Whether the database answers.",
            value=0 if standing is None else 1,
        )
        if standing is None:
            return
        yield GaugeMetricFamily(
            "tallybook_projection_lag",
            "Log positions that the daily rollups are behind.",
            value=standing.lag,
        )
        yield GaugeMetricFamily(
            "tallybook_unpriced_events",
            f"Events that wait for a price, up to {MOST_UNPRICED}.",
            value=standing.unpriced,
        )
        yield from _of_jobs(standing.jobs)
        if standing.verified_at is None:
            return
        yield GaugeMetricFamily(
            "tallybook_verify_differences",
            "What the last audit of the whole ledger found.",
            value=standing.differences,
        )
        yield GaugeMetricFamily(
            "tallybook_verify_warnings",
            "What it found right and worth a look, such as void invoices that nobody billed anew.",
            value=standing.warnings,
        )
        yield GaugeMetricFamily(
            "tallybook_verify_timestamp_seconds",
            "When that was.",
            value=standing.verified_at / 1_000_000,
        )


def _of_jobs(standings: Iterable[JobStanding]) -> Iterable[Metric]:
    """Return when jobs last succeeded and failed; the latest period's attempts say how it goes."""
    succeeded = GaugeMetricFamily(
        "tallybook_job_success_timestamp_seconds", "When a job was last done.", labels=["job"]
    )
    failed = GaugeMetricFamily(
        "tallybook_job_failure_timestamp_seconds",
        "When an attempt at a job last failed, or was found dead.",
        labels=["job"],
    )
    attempts = GaugeMetricFamily(
        "tallybook_job_attempts", "Attempts at a job's latest period.", labels=["job"]
    )
    for one in standings:
        attempts.add_metric([one.job], one.last.attempt)
        if one.succeeded_at is not None:
            succeeded.add_metric([one.job], one.succeeded_at / 1_000_000)
        if one.failed_at is not None:
            failed.add_metric([one.job], one.failed_at / 1_000_000)
    return succeeded, failed, attempts
