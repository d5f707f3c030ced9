"""Scheduling: of all servers of a database one looks, several times a minute, which jobs are due.

It only looks often enough: what is due, and that it is done once, is decided by the runs that there
are and by the jobs' locks (`ledger.application.jobs`). So two that look at once, one that looks
twice or a leader that does not know that it leads no more do no harm.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from ledger.application.job_ports import Ticker
from ledger.application.jobs import Jobs, JobStopped
from ledger.application.leading import Leader, Led
from ledger.domain.errors import Unavailable

EVERY_S = 15.0
"""How often is looked."""
BEAT_S = 5.0
"""How often the leader looks whether it leads, and whether its ticker ticks."""
SILENCE_S = 4 * EVERY_S
"""Silence after which a ticker is replaced: it waits for the time of a clock that was set back."""
CLOSE_S = 10.0
"""How long closing waits for the steps at hand of running jobs."""

_log = logging.getLogger(__name__)


class Scheduling:
    """Runs due jobs, each on a thread of its own, while this process leads.

    Args:
        leader: where leadership is to be had.
        ticker: makes what tells the time to look.
        jobs: are run.
    """

    def __init__(self, *, leader: Leader, ticker: Callable[[], Ticker], jobs: Jobs) -> None:
        self._make_ticker = ticker
        self._jobs = jobs
        self._led = Led("jobs", leader, self._schedule)
        self._lock = threading.Lock()
        self._running: dict[str, threading.Thread] = {}
        self._ticked_s = 0.0

    def start(self) -> None:
        """Begin."""
        self._led.start()

    def close(self) -> None:
        """Stop; jobs that run are told to, and those whose step takes too long are left behind.

        What is left behind ends with its process, and is taken over by another one.
        """
        self._led.close()
        end = time.monotonic() + CLOSE_S
        for thread in list(self._running.values()):
            thread.join(max(0.0, end - time.monotonic()))

    def _schedule(self, goes_on: Callable[[], bool]) -> None:
        while goes_on():
            ticker = self._make_ticker()
            self._ticked_s = time.monotonic()
            ticker.start(
                {one.name: self._look_at(one.name) for one in self._jobs.all}, every_s=EVERY_S
            )
            try:
                while goes_on() and time.monotonic() - self._ticked_s < SILENCE_S:
                    self._led.ending.wait(BEAT_S)
            finally:
                ticker.stop()

    def _look_at(self, name: str) -> Callable[[], None]:
        def look() -> None:
            self._ticked_s = time.monotonic()
            try:
                if not self._led.ending.is_set() and self._jobs.is_due(name):
                    self._begin(name)
            except Unavailable as error:
                _log.warning("whether job %s is due cannot be seen now: %s", name, error)

        return look

    def _begin(self, name: str) -> None:
        with self._lock:
            running = self._running.get(name)
            if running is not None and running.is_alive():
                return
            # A process may end while a job is at work: nobody waits for it longer than `close`.
            thread = threading.Thread(
                target=self._run, args=(name,), name=f"tallybook-job-{name}", daemon=True
            )
            self._running[name] = thread
            thread.start()

    def _run(self, name: str) -> None:
        try:
            run = self._jobs.tick(name, self._check)
        except Exception as error:
            # Its run could not be noted, for one; whatever it is, the next look tries again.
            _log.warning("job %s could not be run: %s", name, error)
        else:
            if run is not None:
                _log.info("job %s is %s: %s", name, run.state.value, run.reason or run.result)

    def _check(self) -> None:
        if self._led.ending.is_set():
            raise JobStopped
