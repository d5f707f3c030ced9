"""The batched runner: keeps read models up with the log, and rebuilds them beside it.

One batch is one transaction under the projection's lock: read the position, read the log from
there, fold, add the changes to the rows, advance the position, commit. Whatever is killed
wherever, rows and position agree, so the next runner goes on exactly there. Two runners take
turns. The writer is never waited for and never made to wait.

A rebuild folds the log from its start into rows of its own, with a position of its own, while
readers and writers go on; then, in one transaction, it makes the live rows equal to them.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, ClassVar, Protocol

import msgspec

from ledger.application.ports import StoredCommit
from ledger.domain.entries import Commit, ShapeDefined, decode_commit
from ledger.domain.errors import InvariantViolation, NotFound, Unavailable
from ledger.domain.shapes import shape_from_body
from ledger.projections import billing_daily, usage_daily
from ledger.projections.usage_daily import Plan, TenantView

BATCH_NOTIFICATIONS = 2000
"""Most notifications of one batch; the more there are, the more changes meet in one row."""
POLL_S = 2.0
"""Longest wait between two looks at the log, should a wake-up be lost."""
RETRY_DELAYS_S = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Waits before the database is tried again; the last one repeats."""
PLANS_KEPT = 50_000
"""Shapes kept between batches; beyond, all are forgotten and read again."""

RollupRows = Mapping[Any, Sequence[int]]
"""What to add by row: the key's members, and one number a column."""

_log = logging.getLogger(__name__)


class ProjectionStatus(msgspec.Struct, frozen=True):
    """How far a projection is.

    Attributes:
        name: the projection.
        position: notification id up to which its rows count.
        head: the log's last notification id.
        rebuilding: position of a rebuild that was begun and not finished; None if there is none.
    """

    name: str
    position: int
    head: int
    rebuilding: int | None = None

    @property
    def lag(self) -> int:
        """Return how many log positions it is behind."""
        return max(0, self.head - self.position)


class RebuildReport(msgspec.Struct, frozen=True):
    """What a rebuild did to the live rows.

    Attributes:
        name: the projection.
        position: notification id up to which the rows count now.
        rows: how many there are.
        changed: rows that were missing or had other numbers.
        removed: rows that should not have been there.
    """

    name: str
    position: int
    rows: int
    changed: int
    removed: int


class Window(msgspec.Struct, frozen=True):
    """A piece of the log.

    Attributes:
        commits: tenants' commits in log order; other streams' events are left out.
        last: last notification id of the piece, left-out ones included; the start if it is empty.
    """

    commits: Sequence[StoredCommit]
    last: int


class ProjectionBatch(Protocol):
    """One transaction under the projection's lock; leaving it without an error commits."""

    @property
    def position(self) -> int:
        """Notification id up to which the rows count; `advance` moves it."""
        ...

    def window(self, *, limit: int, upto: int | None) -> Window:
        """Return the log after the position: at most so many notifications, and up to an id."""
        ...

    def timezones(self, tenants: Collection[int]) -> Mapping[int, str]:
        """Return tenants' time zones."""
        ...

    def shapes(self, wanted: Collection[tuple[int, int]]) -> Mapping[tuple[int, int], bytes]:
        """Return shape bodies by tenant number and shape number."""
        ...

    def add(self, rows: RollupRows) -> None:
        """Add numbers to rows, new or there already."""
        ...

    def advance(self, position: int) -> None:
        """Move the position forward."""
        ...


class SwapBatch(ProjectionBatch, Protocol):
    """A batch over a rebuild's rows that holds the live projection's lock too."""

    @property
    def live_position(self) -> int:
        """Notification id up to which the live rows count."""
        ...

    def replace(self) -> RebuildReport:
        """Make the live rows and position equal to the rebuild's, and end the rebuild."""
        ...


class Rebuild(Protocol):
    """A rebuild in progress; nobody else rebuilds the same projection meanwhile."""

    def batch(self) -> AbstractContextManager[ProjectionBatch]:
        """Open a batch over the rebuild's rows."""
        ...

    def swap(self) -> AbstractContextManager[SwapBatch]:
        """Open the last batch."""
        ...


class LogSignal(Protocol):
    """Tells that the log may have grown."""

    def wait(self, timeout_s: float) -> bool:
        """Wait for a signal; False after the timeout.

        Raises:
            ConnectionLost: no signal can come any more; open a new one.
        """
        ...


class ProjectionStore(Protocol):
    """Where projections' rows and positions are."""

    def batch(self, *, name: str) -> AbstractContextManager[ProjectionBatch]:
        """Open a batch; waits while another runner has one open.

        Raises:
            ConnectionLost: the connection broke; rows and position are as before or as after.
        """
        ...

    def status(self, *, name: str, version: int) -> ProjectionStatus:
        """Return how far a projection is."""
        ...

    def signal(self) -> AbstractContextManager[LogSignal]:
        """Listen to the log from now on."""
        ...

    def rebuild(self, *, name: str, version: int) -> AbstractContextManager[Rebuild]:
        """Begin a rebuild, or go on with one of the same version that was interrupted.

        Raises:
            Refused: ``rebuild_running`` if somebody rebuilds it now.
        """
        ...


class RollupRunner(ABC):
    """Runs one rollup; for one thread at a time.

    Args:
        store: where the rows are.
        batch_notifications: most notifications of one batch.
    """

    name: ClassVar[str]
    version: ClassVar[int]

    def __init__(
        self, store: ProjectionStore, *, batch_notifications: int = BATCH_NOTIFICATIONS
    ) -> None:
        self._store = store
        self._limit = batch_notifications
        self._views: dict[int, TenantView] = {}
        self._plans = 0

    @abstractmethod
    def fold(
        self, commits: Sequence[tuple[int, Commit]], views: Mapping[int, TenantView]
    ) -> RollupRows:
        """Return what tenants' commits add to the rows."""
        ...

    def status(self) -> ProjectionStatus:
        """Return how far the rollups are."""
        return self._store.status(name=self.name, version=self.version)

    def step(self, *, upto: int | None = None) -> bool:
        """Run one batch; False if there was nothing to read."""
        with self._store.batch(name=self.name) as batch:
            return self._project(batch, upto=upto)

    def catch_up(
        self, *, stop: threading.Event | None = None, within_s: float | None = None
    ) -> ProjectionStatus:
        """Run batches until everything counts that was in the log when this was called.

        Args:
            stop: ends it after the batch at hand.
            within_s: no batch is begun after that long.

        Raises:
            ConnectionLost: the database went away; call it again.
        """
        goal = self.status().head
        end_s = None if within_s is None else time.monotonic() + within_s
        while not (stop is not None and stop.is_set()) and self.step(upto=goal):
            if end_s is not None and time.monotonic() >= end_s:
                break
        return self.status()

    def follow(
        self,
        *,
        stop: threading.Event,
        poll_s: float = POLL_S,
        retry_delays_s: Sequence[float] = RETRY_DELAYS_S,
    ) -> None:
        """Keep up with the log until ``stop`` is set, through lost connections.

        Args:
            stop: looked at between batches and at least every half second.
            poll_s: longest time without a look at the log.
            retry_delays_s: waits before the database is tried again; the last one repeats.
        """
        failures = 0
        while not stop.is_set():
            try:
                # Listening begins before the log is read, so nothing falls between the two.
                with self._store.signal() as signal:
                    while not stop.is_set():
                        self.catch_up(stop=stop)
                        failures = 0
                        _wait(signal, stop, poll_s)
            except Unavailable as error:
                delay_s = retry_delays_s[min(failures, len(retry_delays_s) - 1)]
                failures += 1
                _log.warning("%s goes on in %s s: %s", self.name, delay_s, error)
                stop.wait(delay_s)

    def rebuild(
        self, *, progress: Callable[[ProjectionStatus], None] | None = None
    ) -> RebuildReport:
        """Fold the log from its start and make the live rows equal to that.

        Writers and readers go on. If it is interrupted the next call goes on where it stopped.

        Args:
            progress: told after every batch.

        Raises:
            Refused: ``rebuild_running`` if somebody rebuilds it now.
        """
        store = self._store
        with store.rebuild(name=self.name, version=self.version) as rebuild:
            goal = self.status().head
            more = True
            while more:
                with rebuild.batch() as batch:
                    more = self._project(batch, upto=goal)
                if progress is not None:
                    progress(self.status())
            with rebuild.swap() as last:
                # Under the live lock only what a live runner counted in the meantime is left.
                while self._project(last, upto=last.live_position):
                    pass
                return last.replace()

    def _project(self, batch: ProjectionBatch, *, upto: int | None) -> bool:
        window = batch.window(limit=self._limit, upto=upto)
        if window.last == batch.position:
            return False
        commits = [(one.tenant_id, decode_commit(one.state)) for one in window.commits]
        if commits:
            self._learn(batch, commits)
            batch.add(self.fold(commits, self._views))
        batch.advance(window.last)
        return True

    def _learn(self, batch: ProjectionBatch, commits: Sequence[tuple[int, Commit]]) -> None:
        """Load the time zones and shapes that commits refer to and that are not known yet."""
        if self._plans > PLANS_KEPT:
            self._views = {}
            self._plans = 0
        views = self._views
        unknown = {tenant_id for tenant_id, _ in commits} - views.keys()
        if unknown:
            for tenant_id, timezone in batch.timezones(unknown).items():
                views[tenant_id] = TenantView(timezone)
                # A tenant takes room even without shapes.
                self._plans += 1
            if not unknown <= views.keys():
                missing = sorted(unknown - views.keys())
                raise InvariantViolation(f"tenants {missing} have commits but no row")
        wanted: set[tuple[int, int]] = set()
        for tenant_id, commit in commits:
            plans = views[tenant_id].plans
            for number in usage_daily.shapes_used(commit) - plans.keys():
                wanted.add((tenant_id, number))
        if not wanted:
            return
        bodies = _defined(commits)
        asked = wanted - bodies.keys()
        if asked:
            bodies.update(batch.shapes(asked))
        for tenant_id, number in wanted & bodies.keys():
            views[tenant_id].plans[number] = Plan(shape_from_body(bodies[tenant_id, number]))
            self._plans += 1


class UsageDailyRunner(RollupRunner):
    """Runs the daily rollups."""

    name = usage_daily.NAME
    version = usage_daily.VERSION

    def fold(
        self, commits: Sequence[tuple[int, Commit]], views: Mapping[int, TenantView]
    ) -> RollupRows:
        """Return what tenants' commits add to the rows."""
        return usage_daily.fold(commits, views)


class BillingDailyRunner(RollupRunner):
    """Runs the rollups that invoices are rated from."""

    name = billing_daily.NAME
    version = billing_daily.VERSION

    def fold(
        self, commits: Sequence[tuple[int, Commit]], views: Mapping[int, TenantView]
    ) -> RollupRows:
        """Return what tenants' commits add to the rows."""
        return billing_daily.fold(commits, views)


def _defined(commits: Sequence[tuple[int, Commit]]) -> dict[tuple[int, int], bytes]:
    return {
        (tenant_id, entry.number): entry.body
        for tenant_id, commit in commits
        for entry in commit.entries
        if type(entry) is ShapeDefined
    }


def _wait(signal: LogSignal, stop: threading.Event, poll_s: float) -> None:
    left_s = poll_s
    while left_s > 0 and not stop.is_set():
        part_s = min(left_s, 0.5)
        if signal.wait(part_s):
            return
        left_s -= part_s


class Projections:
    """All projections, by name; thread-safe.

    Args:
        runners: makes a runner for each call, by the projection's name.
    """

    def __init__(self, runners: Mapping[str, Callable[[], RollupRunner]]) -> None:
        self._runners = dict(runners)

    @classmethod
    def over(cls, store: ProjectionStore) -> Projections:
        """Return the projections whose rows are in ``store``."""
        runners: tuple[type[RollupRunner], ...] = (BillingDailyRunner, UsageDailyRunner)
        return cls({runner.name: partial(runner, store) for runner in runners})

    @property
    def names(self) -> tuple[str, ...]:
        """Return their names, sorted."""
        return tuple(sorted(self._runners))

    def runner(self, name: str) -> RollupRunner:
        """Return a new runner of a projection.

        Raises:
            NotFound: ``unknown_projection``.
        """
        make = self._runners.get(name)
        if make is None:
            known = ", ".join(self.names)
            raise NotFound(
                f"there is no projection {name[:64]!r}; there is {known}", code="unknown_projection"
            )
        return make()

    def status(self) -> list[ProjectionStatus]:
        """Return how far each projection is."""
        return [self.runner(name).status() for name in self.names]

    def catch_up(self, *, within_s: float | None = None) -> list[ProjectionStatus]:
        """Make everything count that is in the log now; see `RollupRunner.catch_up`."""
        return [self.runner(name).catch_up(within_s=within_s) for name in self.names]

    def follow(self, *, stop: threading.Event, poll_s: float = POLL_S) -> None:
        """Keep all projections up with the log until ``stop`` is set."""
        runners = [self.runner(name) for name in self.names]

        def run(runner: RollupRunner) -> None:
            try:
                runner.follow(stop=stop, poll_s=poll_s)
            finally:
                # One that fails takes the others with it, or nobody would notice.
                stop.set()

        with ThreadPoolExecutor(len(runners), thread_name_prefix="tallybook-projection") as pool:
            futures = [pool.submit(run, runner) for runner in runners]
            try:
                wait(futures)
            finally:
                stop.set()
        for future in futures:
            future.result()

    def rebuild(
        self, name: str, *, progress: Callable[[ProjectionStatus], None] | None = None
    ) -> RebuildReport:
        """Rebuild a projection from the log's start; see `RollupRunner.rebuild`.

        Raises:
            NotFound: ``unknown_projection``.
            Refused: ``rebuild_running``.
        """
        return self.runner(name).rebuild(progress=progress)
