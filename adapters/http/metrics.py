"""Metrics: what a server counts of its requests, its streams and its ledger, for Prometheus.

No label has a value that a client chooses: routes are templates, codes and statuses are ours, and
no tenant, key or model is named. So the number of series is bounded by the code.

With several workers each counts in a file of its own in a directory that all share, as
`prometheus_client` does for servers with several processes, and any of them answers for all. The
files are named after the worker's slot and not its process: the one that takes a dead one's place
goes on counting where that stopped, and there are never more files than slots.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter as Tally
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    values,
)

from adapters.http.exchange import Exchange
from ledger.application.watching import BatchDone
from ledger.domain.commands import Outcome, RerateUsage
from ledger.domain.errors import Unavailable
from ledger.domain.holds import AuthorizeHold, CaptureHold, ExtendHold, ProgressHold, VoidHold
from ledger.domain.holds import ReverseCharge as Reverse
from ledger.domain.usage import AdjustUsage, RecordUsage, VoidUsage

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Where `prometheus_client` looks for the directory of several processes' files."""
SUPERVISOR = "supervisor"
"""Slot of the process that looks after workers."""
FILE_BYTES = 1 << 20
"""Size of a file to count in, several times what all series take."""
KINDS = ("counter", "histogram", "gauge_livesum")
"""Files of a process, by the names that `prometheus_client` gives them."""
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
_EVENTS: dict[type, str] = {RecordUsage: "usage", VoidUsage: "void", AdjustUsage: "adjust"}
_HOLDS: dict[type, str] = {
    AuthorizeHold: "authorize",
    ExtendHold: "extend",
    ProgressHold: "progress",
    CaptureHold: "capture",
    VoidHold: "void",
    Reverse: "reverse",
}
_FAMILIES = ("invalid_", "exists_with_different_")
"""Begin of codes that end in the name of a member."""


class CannotCount(Unavailable):
    """There is no room for what workers count."""

    default_code = "metrics_unavailable"


def reserve(directory: str, slot: str, *, kinds: Sequence[str] = KINDS) -> None:
    """Make a process's files new and with all the room that they will need.

    They are mapped into memory: should the disk be full when a page of them is first written, the
    system would kill the process. Whoever reads meanwhile sees the old file or the new one.

    Args:
        directory: of all processes.
        slot: whose.
        kinds: which of its files.

    Raises:
        CannotCount: ``metrics_unavailable``: there is no room.
    """
    for kind in kinds:
        path = Path(directory) / f"{kind}_{slot}.db"
        new = path.with_suffix(".new")
        try:
            with new.open("wb") as file:
                file.truncate(FILE_BYTES)
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, FILE_BYTES)
            new.replace(path)
        except OSError as error:
            raise CannotCount(
                f"there is no room in {directory} for what workers count: {error.strerror}; make"
                " some, or let TMPDIR name another place"
            ) from None


def share(directory: str, slot: str) -> None:
    """Let this process count in a file beside those of others; before it makes its `Metrics`.

    Args:
        directory: of all of them.
        slot: its name among them; a process that takes the place of another takes its name too.
    """
    os.environ[DIRECTORY_VARIABLE] = directory
    values.ValueClass = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call] # it has no types


def forget_dead(directory: str, slot: str) -> None:
    """Count a process as gone, whose counters stay."""
    with contextlib.suppress(CannotCount):
        reserve(directory, slot, kinds=("gauge_livesum",))


class Metrics:
    """Counts; an `Observer` of requests and a `Watch` of the sequencer.

    Attributes:
        registry: of what this process counts.
        directory: of the files of all processes; None where this is the only one.
    """

    def __init__(self) -> None:
        # A series of its own for when each series began doubles them, and nothing reads it.
        disable_created_metrics()  # type: ignore[no-untyped-call] # it has no types
        self.registry = registry = CollectorRegistry()
        shared = values.ValueClass is not values.MutexValue
        self.directory = Path(os.environ[DIRECTORY_VARIABLE]) if shared else None
        self._requests = Counter(
            "tallybook_http_requests",
            "Requests answered, by route template.",
            ("method", "route", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "tallybook_http_request_seconds",
            "From a request's headers to the end of its answer.",
            ("method", "route"),
            buckets=SECONDS,
            registry=registry,
        )
        self._failures = Counter(
            "tallybook_http_failures",
            "Requests that failed for no fault of the client's.",
            registry=registry,
        )
        self._refused = Counter(
            "tallybook_http_refused",
            "Requests and connections refused before they were requests.",
            ("code",),
            registry=registry,
        )
        self._streams = Gauge(
            "tallybook_stream_connections",
            "Open WebSocket sessions.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._workers = Gauge(
            "tallybook_workers",
            "Processes that answer.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._deaths = Counter(
            "tallybook_worker_deaths",
            "Workers that ended unasked, and were replaced.",
            registry=registry,
        )
        self._events = Counter(
            "tallybook_events",
            "Usage events and corrections, by what became of them.",
            ("kind", "outcome"),
            registry=registry,
        )
        self._flags = Counter(
            "tallybook_event_flags",
            "Events recorded with a flag, such as unpriced.",
            ("flag",),
            registry=registry,
        )
        self._holds = Counter(
            "tallybook_holds",
            "Operations on holds, by outcome code.",
            ("operation", "code"),
            registry=registry,
        )
        self._decisions = Counter(
            "tallybook_hold_decisions",
            "Decisions on calls that were asked for.",
            ("decision",),
            registry=registry,
        )
        self._batch_commands = Histogram(
            "tallybook_batch_commands", "Commands of a commit.", buckets=SIZES, registry=registry
        )
        self._batch_seconds = Histogram(
            "tallybook_batch_seconds",
            "From the begin of a batch's transaction to its commit.",
            buckets=SECONDS,
            registry=registry,
        )
        self._lag_seconds = Histogram(
            "tallybook_ingest_lag_seconds",
            "From the arrival of a batch's oldest command to its commit.",
            buckets=SECONDS,
            registry=registry,
        )
        self._repeats = Counter(
            "tallybook_batch_repeats",
            "Batches run again because their connection was lost.",
            registry=registry,
        )
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    # -- requests ---------------------------------------------------------------------

    def finished(self, exchange: Exchange, *, seconds: float, error: BaseException | None) -> None:
        """Count a request; see `adapters.http.gate.Observer`."""
        key = (exchange.method, exchange.route, exchange.status)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._series(*key)
        found[0].inc()
        found[1].observe(seconds)
        if error is not None:
            self._failures.inc()

    def _series(self, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        method = method if method in _METHODS else "other"
        route = route or "-"
        return (
            self._requests.labels(method, route, str(status or 499)),
            self._seconds.labels(method, route),
        )

    def refused(self, code: str) -> None:
        """Count what was refused below the application."""
        self._refused.labels(code).inc()

    def streams(self, change: int) -> None:
        """Count a stream that was opened (1) or closed (-1)."""
        self._streams.inc(change)

    # -- processes --------------------------------------------------------------------

    def answering(self) -> None:
        """Say that this process answers requests from now on."""
        self._streams.set(0)
        self._workers.set(1)

    def died(self) -> None:
        """Count a worker that ended unasked."""
        self._deaths.inc()

    # -- the ledger -------------------------------------------------------------------

    def origin(self) -> object:
        """Return nothing: counts know no origin."""
        return None

    def done(self, batch: BatchDone) -> None:
        """Count a batch; see `ledger.application.watching.Watch`."""
        if not batch.counted:
            self._batch_commands.observe(batch.size)
            self._batch_seconds.observe(batch.done_s - batch.begun_s)
        self._lag_seconds.observe(batch.done_s - batch.queued_s)
        kinds = [type(one.command) for one in batch.commands]
        statuses = [one.status for one in batch.outcomes]
        for (kind, status), count in Tally(zip(kinds, statuses, strict=True)).items():
            if kind in _EVENTS:
                self._events.labels(_EVENTS[kind], status).inc(count)
            elif kind in _HOLDS:
                self._holds.labels(_HOLDS[kind], _family(status)).inc(count)
        self._count_details(kinds, batch.outcomes)

    def _count_details(self, kinds: Sequence[type], outcomes: Sequence[Outcome]) -> None:
        # Counted here first: a counter with labels costs as much as a good part of a decision.
        decisions: Tally[str] = Tally()
        for kind, outcome in zip(kinds, outcomes, strict=True):
            # A rating that is done again sets no flag that was not counted before.
            if outcome.flags and kind is not RerateUsage and outcome.status == "accepted":
                for flag in outcome.flags:
                    self._flags.labels(flag).inc()
            if kind is AuthorizeHold and outcome.detail is not None and outcome.detail.decision:
                decisions[outcome.detail.decision] += 1
        for decision, count in decisions.items():
            self._decisions.labels(decision).inc(count)

    def unreadable(self, items: int) -> None:
        """Count items that were rejected on reading."""
        self._events.labels("unreadable", "rejected").inc(items)

    def repeated(self) -> None:
        """Count a batch that is run again."""
        self._repeats.inc()


def _family(code: str) -> str:
    """Return a code without the name of a member, which makes many of one."""
    for begin in _FAMILIES:
        if code.startswith(begin):
            return begin.rstrip("_")
    return code
