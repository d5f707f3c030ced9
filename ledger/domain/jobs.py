"""Jobs: what is done again and again, in which period, and whether a run of it is due.

Periods are counted in UTC from the epoch, so no day of them is longer than another, whatever
clocks do in time zones. A job does all that there is to do up to now: periods that nobody ran it in
need no runs of their own, the next one does what they missed. One run of a period is enough, so
only the period that it is now is looked at, and the run of it that there was. A clock that is set
back finds that run again; one that was ahead leaves runs that nobody looks at.

Instants are microseconds since the epoch.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from ledger.domain.errors import InvalidInput
from ledger.domain.periods import from_us, to_us

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
FIRST_RETRY_US = MINUTE_US
"""Wait after the first attempt that failed; after each further one it is twice as long."""
LAST_RETRY_US = HOUR_US
"""Longest wait between two attempts."""
_FORMS = {HOUR_US: "%Y-%m-%dT%H", DAY_US: "%Y-%m-%d"}


class Schedule(msgspec.Struct, frozen=True):
    """Once an hour, or once a day, from some time on in it.

    Attributes:
        every: length of a period, `HOUR_US` or `DAY_US`.
        after: how long after a period's begin its run is due, below ``every``.
    """

    every: int
    after: int = 0

    def period(self, now: int) -> int:
        """Return the begin of the latest period whose run is due at an instant."""
        return (now - self.after) // self.every * self.every

    def due_at(self, period: int) -> int:
        """Return when a period's run is due."""
        return period + self.after

    def name(self, period: int) -> str:
        """Return a period's name: ``2026-11-27``, or ``2026-11-27T14`` for an hour."""
        return from_us(period).strftime(_FORMS[self.every])

    def parse(self, name: str) -> int:
        """Return the begin of a period by its name.

        Raises:
            InvalidInput: ``invalid_period``.
        """
        form = _FORMS[self.every]
        try:
            found = datetime.strptime(name, form).replace(tzinfo=UTC)
        except ValueError:
            example = self.name(0).replace("1970-01-01", "2026-11-27")
            raise InvalidInput(
                f"{name[:64]!r} is no period of this job; one is named such as {example}, in UTC",
                code="invalid_period",
                pointer="/period",
            ) from None
        return to_us(found)


class RunState(StrEnum):
    """Where a run is.

    ``skipped`` stands for the period in which a job was first seen, ``stopped`` for a run whose
    process was told to end, ``died`` for one that a later period found unfinished.
    """

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    DIED = "died"
    SKIPPED = "skipped"


class JobRun(msgspec.Struct, frozen=True, kw_only=True):
    """The run of a job for a period; there is one at most.

    Attributes:
        job: its name.
        period: begin of it.
        state: where it is.
        attempt: the latest, counted from 1.
        started_at: when that began.
        ended_at: when it ended; None while it runs.
        by: the process that makes it.
        reason: of the last attempt that failed; it stays when a later one succeeds.
        result: of one that is done.
    """

    job: str
    period: int
    state: RunState
    attempt: int
    started_at: int
    ended_at: int | None = None
    by: str = ""
    reason: str = ""
    result: dict[str, int] = {}


class Why(StrEnum):
    """Why a run is due."""

    FIRST = "first"
    PERIOD = "period"
    RETRY = "retry"
    TAKEOVER = "takeover"


class Due(msgspec.Struct, frozen=True):
    """An attempt that is to be made.

    Attributes:
        period: begin of it.
        attempt: counted from 1.
        why: the reason.
    """

    period: int
    attempt: int
    why: Why


def due(schedule: Schedule, now: int, last: JobRun | None) -> Due | None:
    """Decide whether a job is to be run now.

    A run that is ``running`` is due to be taken over: whoever asks finds out by the job's lock
    whether its process lives. The first takeover may be at once, later ones wait as after a
    failure, for the job may be what ends its process.

    Args:
        schedule: of the job.
        now: the database's time.
        last: its latest run of a period that is not after the one of now; None if there is none.
    """
    period = schedule.period(now)
    if last is None:
        return Due(period, 1, Why.FIRST)
    if last.period != period:
        return Due(period, 1, Why.PERIOD)
    again = next_attempt_at(last)
    if again is None or now < again:
        return None
    why = Why.TAKEOVER if last.state is RunState.RUNNING else Why.RETRY
    return Due(period, last.attempt + 1, why)


def next_attempt_at(run: JobRun) -> int | None:
    """Return from when on a run may be tried again in its period; None if it need not be."""
    if run.state in (RunState.DONE, RunState.SKIPPED):
        return None
    wait = min(FIRST_RETRY_US << min(run.attempt - 1, 16), LAST_RETRY_US)
    if run.state is RunState.STOPPED:
        return run.started_at
    if run.state is RunState.RUNNING:
        return run.started_at if run.attempt == 1 else run.started_at + wait
    return (run.started_at if run.ended_at is None else run.ended_at) + wait
