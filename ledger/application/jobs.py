"""Jobs: each runs once a period, whoever looks and how often.

    jobs.tick("verify", check)          # runs it if it is due and nobody else does
    jobs.run("verify")                  # runs it for the current period, unless that is done

What is true is the row of a run, unique by job and period, and the job's lock, which its process
holds while it runs. Jobs do whatever there is to do and may be repeated, so a run that died is
simply made again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence

import msgspec

from ledger.application.job_ports import JobStanding, JobStore
from ledger.domain.errors import InvalidInput, LedgerError, NotFound, Refused, Unavailable
from ledger.domain.jobs import Due, JobRun, RunState, Schedule, Why, due

MAX_REASON = 500
"""Longest reason that is kept, in characters."""
MAX_RUNS = 1_000
"""Most runs that one call of `Jobs.runs` returns."""

_log = logging.getLogger(__name__)

Check = Callable[[], None]
"""Called by jobs between their steps; raises `JobStopped` when the process is to end."""


class JobStopped(Exception):
    """The process is to end; what was done so far stands."""


class Job(msgspec.Struct, frozen=True):
    """Something that is done again and again.

    Attributes:
        name: of it.
        what: it does, in a few words.
        schedule: when.
        work: does it; returns counts.
    """

    name: str
    what: str
    schedule: Schedule
    work: Callable[[Check], Mapping[str, int]]


class Jobs:
    """Runs jobs; thread-safe.

    Args:
        store: where runs are kept.
        jobs: all there are.
        by: names this process.
    """

    def __init__(self, store: JobStore, jobs: Sequence[Job], *, by: str) -> None:
        self._store = store
        self._jobs = {one.name: one for one in jobs}
        self._by = by

    @property
    def all(self) -> Sequence[Job]:
        """Return all jobs, by name."""
        return [self._jobs[name] for name in sorted(self._jobs)]

    def is_due(self, name: str) -> bool:
        """Tell whether a job should be run now; another process may be at it."""
        return self._due(self._find(name)) is not None

    def tick(self, name: str, check: Check) -> JobRun | None:
        """Run a job if it is due; None if it is not, or if another process is at it.

        A job that was never seen before begins with its next period.
        """
        job = self._find(name)
        with self._store.lock(name) as locked:
            # Looked at under the lock: what another process has just done is not due any more.
            found = self._due(job) if locked else None
            if found is None:
                return None
            if found.why is Why.FIRST:
                run = self._begin(job, found)
                self._store.end(run, RunState.SKIPPED, result={})
                return None
            if found.why is Why.TAKEOVER:
                period = job.schedule.name(found.period)
                _log.warning("job %s of %s died and is taken over", name, period)
            return self._make(job, found, check)

    def run(
        self,
        name: str,
        *,
        period: str | None = None,
        again: bool = False,
        check: Check = lambda: None,
    ) -> JobRun:
        """Run a job for a period, unless it was done for that; return its run.

        Args:
            name: of the job.
            period: by default the latest one that is due.
            again: even if it was done.
            check: called between steps.

        Raises:
            NotFound: ``unknown_job``.
            InvalidInput: ``invalid_period``.
            Refused: ``job_running``: another process is at it.
        """
        job = self._find(name)
        now = self._store.now()
        wanted = job.schedule.period(now) if period is None else job.schedule.parse(period)
        if job.schedule.due_at(wanted) > now:
            raise InvalidInput(
                f"period {job.schedule.name(wanted)} of {name!r} is not due yet; the latest that"
                f" is due is {job.schedule.name(job.schedule.period(now))}",
                code="invalid_period",
                pointer="/period",
            )
        with self._store.lock(name) as locked:
            if not locked:
                raise Refused(
                    f"job {name!r} runs in another process; see `tallybook jobs status`",
                    code="job_running",
                )
            last = self._store.last(name, upto=wanted)
            known = last if last is not None and last.period == wanted else None
            if known is not None and known.state is RunState.DONE and not again:
                return known
            attempt = 1 if known is None else known.attempt + 1
            return self._make(job, Due(wanted, attempt, Why.RETRY), check)

    def standings(self) -> Mapping[str, JobStanding]:
        """Return what is known of each job that ever ran, by its name."""
        return {one.job: one for one in self._store.standings() if one.job in self._jobs}

    def runs(self, name: str, *, limit: int = 20) -> Sequence[JobRun]:
        """Return a job's runs, the latest period first.

        Raises:
            NotFound: ``unknown_job``.
            InvalidInput: ``invalid_limit``.
        """
        if not 1 <= limit <= MAX_RUNS:
            raise InvalidInput(
                f"limit is from 1 to {MAX_RUNS}", code="invalid_limit", pointer="/limit"
            )
        return self._store.runs(self._find(name).name, limit=limit)

    def _find(self, name: str) -> Job:
        job = self._jobs.get(name)
        if job is None:
            raise NotFound(
                f"there is no job {name[:64]!r}; there are {', '.join(sorted(self._jobs))}",
                code="unknown_job",
            )
        return job

    def _due(self, job: Job) -> Due | None:
        now = self._store.now()
        last = self._store.last(job.name, upto=job.schedule.period(now))
        return due(job.schedule, now, last)

    def _begin(self, job: Job, found: Due) -> JobRun:
        run = self._store.begin(job.name, found.period, attempt=found.attempt, by=self._by)
        if run is None:
            raise Refused(
                f"job {job.name!r} was begun by another process meanwhile", code="job_running"
            )
        return run

    def _make(self, job: Job, found: Due, check: Check) -> JobRun:
        """Make an attempt, under the job's lock."""
        run = self._begin(job, found)
        result: Mapping[str, int] = {}
        state, reason = RunState.DONE, ""
        try:
            result = job.work(check)
        except JobStopped:
            state = RunState.STOPPED
        except Exception as error:
            # Whatever it is, it is kept, and tried again: it must not end a server.
            state, reason = RunState.FAILED, _reason(error)
            _log.error("job %s failed: %s", job.name, reason, exc_info=_trace(error))
        except BaseException:
            # Ctrl-C at a command, say: what was done stands, and the next one goes on.
            with contextlib.suppress(Unavailable):
                self._store.end(run, RunState.STOPPED, result={})
            raise
        if not self._store.end(run, state, result=result, reason=reason):
            _log.warning("job %s was taken over while it ran", job.name)
        ended = self._store.last(job.name, upto=run.period)
        return run if ended is None else ended


def _trace(error: Exception) -> Exception | None:
    """Return what the log needs a trace of: a refusal explains itself."""
    return None if isinstance(error, LedgerError) else error


def _reason(error: Exception) -> str:
    code = error.code if isinstance(error, LedgerError) else type(error).__name__
    return f"{code}: {error}"[:MAX_REASON]
