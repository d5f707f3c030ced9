"""Keeping a sequencer's process going: it is started, replaced when it dies, and ended last."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Self

from adapters.sequencing.host import END_SIGNALS, OpenSequencer, live
from adapters.sequencing.place import Place

RESTART_DELAYS_S = (0.0, 0.5, 1.0, 2.0, 5.0)
"""Waits before a process is replaced that died young; the last one repeats."""
YOUNG_S = 10.0
"""A process that lives so long is not young any more."""
LOOK_EVERY_S = 2.0
"""Time between two looks at whether the socket is still there."""
END_TIMEOUT_S = 20.0
"""How long the last batch may take when all is over; then the process is killed."""

_log = logging.getLogger(__name__)
_spawn = multiprocessing.get_context("spawn")


class SequencerProcess:
    """A sequencer's process and its successors, behind one socket; a context manager.

    The socket belongs to this process, so clients that come while there is no host wait for the
    next one. Should this process die, the host ends with its last client.

    Args:
        open_sequencer: opens the sequencer there.
        prepare: called there first; can be sent to another process.

    Attributes:
        path: of the socket, in a directory that only this user can enter.
        pid: of the process that runs now.

    Raises:
        NoPlace: ``socket_unavailable``, on entering.
    """

    def __init__(self, open_sequencer: OpenSequencer, prepare: Callable[[], None]) -> None:
        self._open_sequencer = open_sequencer
        self._prepare = prepare
        self._ending, self._end = _spawn.Pipe(duplex=False)
        self._keeper = threading.Thread(target=self._keep, name="tallybook-keeper", daemon=True)

    def __enter__(self) -> Self:
        self._place = Place()
        self.path = self._place.path
        try:
            self._start()
        except BaseException:
            self._place.close()
            raise
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.send_bytes(b"!")
        self._keeper.join()
        self._orders.close()
        self._process.join(END_TIMEOUT_S)
        if self._process.exitcode is None:
            _log.error("the sequencer's process %d does not end; it is killed", self.pid)
            self._process.kill()
            self._process.join()
        self._place.close()

    @property
    def pid(self) -> int:
        """Return the number of the process that runs now."""
        return self._process.pid or 0

    def _start(self) -> None:
        if not self._place.keep():
            self._place.renew()
        theirs: Connection
        theirs, self._orders = _spawn.Pipe(duplex=False)
        process: BaseProcess = _spawn.Process(
            target=live,
            args=(self._open_sequencer, self._prepare, self._place.listener, theirs),
            name="tallybook-sequencer",
        )
        # Only the process holds its end, so that each side sees the other one's death.
        with theirs, _end_signals_wait():
            process.start()
        self._process = process
        self._started_s = time.monotonic()

    def _keep(self) -> None:
        young_deaths = 0
        while not self._over():
            self._process.join()
            young = time.monotonic() - self._started_s < YOUNG_S
            young_deaths = young_deaths + 1 if young else 0
            _log.warning(
                "the sequencer's process %d has ended with code %s; another one takes its place"
                " in %g s",
                self.pid,
                self._process.exitcode,
                _delay_s(young_deaths),
            )
            with suppress(OSError):
                self._orders.close()
            while not self._ending.poll(_delay_s(young_deaths)):
                try:
                    self._start()
                    break
                except OSError as error:
                    young_deaths += 1
                    _log.error(
                        "another sequencer cannot be started: %s; it is tried again in %g s",
                        error,
                        _delay_s(young_deaths),
                    )
            else:
                return

    def _over(self) -> bool:
        """Wait until the process has ended; return whether the end of all came first."""
        while True:
            happened = wait([self._process.sentinel, self._ending], LOOK_EVERY_S)
            if happened:
                return self._ending in happened
            if not self._place.keep():
                _log.warning(
                    "somebody has removed %s, by which the server's processes reach the"
                    " sequencer; it is made again for another process",
                    self.path,
                )
                self._process.kill()


def _delay_s(young_deaths: int) -> float:
    return RESTART_DELAYS_S[min(young_deaths, len(RESTART_DELAYS_S) - 1)]


@contextmanager
def _end_signals_wait() -> Iterator[None]:
    """Let a process be started that no signal of a terminal or service manager ends on its way."""
    # Its own start would let the signals through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, END_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
