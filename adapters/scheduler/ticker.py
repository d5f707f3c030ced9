"""A ticker by APScheduler: intervals in UTC, in memory, on threads of its own."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from apscheduler.schedulers import SchedulerNotRunningError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from ledger.application.job_ports import Ticker


class ApTicker:
    """Ticks from `start` to `stop`, once."""

    def __init__(self) -> None:
        # That a tick was late, or left out for the one before, is nothing that anybody must know.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )

    def start(self, ticks: Mapping[str, Callable[[], None]], *, every_s: float) -> None:
        """Begin; see `Ticker`."""
        for name, tick in ticks.items():
            self._scheduler.add_job(
                tick,
                IntervalTrigger(seconds=every_s, timezone=UTC),
                id=name,
                next_run_time=datetime.now(UTC),
            )
        self._scheduler.start()

    def stop(self) -> None:
        """End; see `Ticker`."""
        with contextlib.suppress(SchedulerNotRunningError):
            self._scheduler.shutdown(wait=False)


def _check_protocol(ticker: ApTicker) -> Ticker:
    return ticker
