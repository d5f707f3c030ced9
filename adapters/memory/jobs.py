"""Runs of jobs in memory."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from ledger.application.job_ports import JobStanding, JobStore
from ledger.domain.jobs import JobRun, RunState

_DIED = "died: the process ended without a word"


class MemoryJobs:
    """Keeps runs of jobs; thread-safe.

    Args:
        clock: microseconds since the epoch.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        self._locked: set[str] = set()
        self._runs: dict[tuple[str, int], JobRun] = {}
        self._failed_at: dict[str, int] = {}

    def now(self) -> int:
        """Return the clock's time."""
        return self._clock()

    def last(self, job: str, *, upto: int) -> JobRun | None:
        """Return the run of the latest period that is not after one."""
        return next((one for one in self._of(job) if one.period <= upto), None)

    @contextlib.contextmanager
    def lock(self, job: str) -> Iterator[bool]:
        """Take a job's lock; see `JobStore`."""
        with self._mutex:
            taken = job not in self._locked
            self._locked.add(job)
        try:
            yield taken
        finally:
            if taken:
                with self._mutex:
                    self._locked.discard(job)

    def begin(self, job: str, period: int, *, attempt: int, by: str) -> JobRun | None:
        """Note that an attempt begins; see `JobStore`."""
        with self._mutex:
            known = self._runs.get((job, period))
            if attempt != (1 if known is None else known.attempt + 1):
                return None
            for one in self._of(job):
                if one.period < period and one.state is RunState.RUNNING:
                    self._failed_at[job] = self._clock()
                    self._runs[job, one.period] = replace(
                        one, state=RunState.DIED, ended_at=self._clock(), reason=_DIED
                    )
            reason = "" if known is None else known.reason
            if known is not None and known.state is RunState.RUNNING:
                self._failed_at[job], reason = self._clock(), _DIED
            run = self._runs[job, period] = JobRun(
                job=job,
                period=period,
                state=RunState.RUNNING,
                attempt=attempt,
                started_at=self._clock(),
                by=by,
                reason=reason,
            )
            return run

    def end(
        self, run: JobRun, state: RunState, *, result: Mapping[str, int], reason: str = ""
    ) -> bool:
        """Note how an attempt ended; see `JobStore`."""
        with self._mutex:
            known = self._runs[run.job, run.period]
            if known.attempt != run.attempt or known.state is not RunState.RUNNING:
                return False
            if state is RunState.FAILED:
                self._failed_at[run.job] = self._clock()
            self._runs[run.job, run.period] = replace(
                known,
                state=state,
                ended_at=self._clock(),
                result=dict(result),
                reason=reason or known.reason,
            )
            return True

    def standings(self) -> Sequence[JobStanding]:
        """Return what is known of each job that ever ran, by name."""
        found = []
        for job in sorted({job for job, _ in self._runs}):
            runs = self._of(job)
            done = [one.ended_at for one in runs if one.state is RunState.DONE and one.ended_at]
            found.append(
                JobStanding(job, runs[0], max(done, default=None), self._failed_at.get(job))
            )
        return found

    def runs(self, job: str, *, limit: int) -> Sequence[JobRun]:
        """Return a job's runs, the latest period first."""
        return self._of(job)[:limit]

    def _of(self, job: str) -> list[JobRun]:
        found = [one for (name, _), one in list(self._runs.items()) if name == job]
        return sorted(found, key=lambda one: one.period, reverse=True)


def _check_protocol(store: MemoryJobs) -> JobStore:
    return store
