"""Ports of jobs: where their runs are kept, and what tells the time to look."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from ledger.domain.jobs import JobRun, RunState


class JobStanding(msgspec.Struct, frozen=True):
    """What is known of a job's past.

    Attributes:
        job: its name.
        last: its latest run.
        succeeded_at: when a run was last done; None if none ever was.
        failed_at: when an attempt last failed, or was found dead; None if none ever was.
    """

    job: str
    last: JobRun
    succeeded_at: int | None
    failed_at: int | None


class JobStore(Protocol):
    """Where runs are kept; all methods block and may raise `Unavailable`."""

    def now(self) -> int:
        """Return the database's time, microseconds since the epoch."""
        ...

    def last(self, job: str, *, upto: int) -> JobRun | None:
        """Return the run of the latest period that is not after one."""
        ...

    def lock(self, job: str) -> AbstractContextManager[bool]:
        """Take a job's lock, or learn that another has it; it is gone with its process."""
        ...

    def begin(self, job: str, period: int, *, attempt: int, by: str) -> JobRun | None:
        """Note that an attempt begins; None if another one was noted meanwhile.

        Runs of earlier periods that are still ``running`` are noted as ``died``: whoever calls
        holds the job's lock.

        Args:
            job: its name.
            period: begin of it.
            attempt: one more than the last one of this period, or 1.
            by: the process.
        """
        ...

    def end(
        self, run: JobRun, state: RunState, *, result: Mapping[str, int], reason: str = ""
    ) -> bool:
        """Note how an attempt ended; False if it was taken over meanwhile, and nothing is noted."""
        ...

    def standings(self) -> Sequence[JobStanding]:
        """Return what is known of each job that ever ran, by name."""
        ...

    def runs(self, job: str, *, limit: int) -> Sequence[JobRun]:
        """Return a job's runs, the latest period first."""
        ...


class Ticker(Protocol):
    """Calls something again and again, on threads of its own; what it calls returns quickly."""

    def start(self, ticks: Mapping[str, Callable[[], None]], *, every_s: float) -> None:
        """Begin to call each of them, at once and then every so many seconds."""
        ...

    def stop(self) -> None:
        """Call nothing any more; what is being called may go on."""
        ...
