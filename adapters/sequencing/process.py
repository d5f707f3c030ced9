"""Keeping a sequencer's process going: it is started, replaced when it dies, and ended last."""

from __future__ import annotations

import logging
import multiprocessing
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory

from adapters.sequencing.host import OpenSequencer, live

RESTART_DELAYS_S = (0.0, 0.5, 1.0, 2.0, 5.0)
"""Waits before a process is replaced that died young; the last one repeats."""
YOUNG_S = 10.0
"""A process that lives so long is not young any more."""
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
        on_death: called when a process ended unasked.

    Attributes:
        path: of the socket, in a directory that only this user can enter.
        pid: of the process that runs now.
    """

    def __init__(
        self,
        open_sequencer: OpenSequencer,
        prepare: Callable[[], None],
        *,
        on_death: Callable[[], None] = lambda: None,
    ) -> None:
        self._open_sequencer = open_sequencer
        self._prepare = prepare
        self._on_death = on_death
        self._ending, self._end = _spawn.Pipe(duplex=False)
        self._keeper = threading.Thread(target=self._keep, name="tallybook-keeper", daemon=True)

    def __enter__(self) -> SequencerProcess:
        self._directory = TemporaryDirectory(prefix="tallybook-", ignore_cleanup_errors=True)
        self.path = str(Path(self._directory.name) / "sequencer")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen(128)
        self._start()
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
        self._listener.close()
        self._directory.cleanup()

    @property
    def pid(self) -> int:
        """Return the number of the process that runs now."""
        return self._process.pid or 0

    def _start(self) -> None:
        theirs: Connection
        theirs, self._orders = _spawn.Pipe(duplex=False)
        self._process: BaseProcess = _spawn.Process(
            target=live,
            args=(self._open_sequencer, self._prepare, self._listener, theirs),
            name="tallybook-sequencer",
        )
        self._process.start()
        self._started_s = time.monotonic()
        # Only the process holds its end, so that each side sees the other one's death.
        theirs.close()

    def _keep(self) -> None:
        young_deaths = 0
        while True:
            if self._ending in wait([self._process.sentinel, self._ending]):
                return
            self._process.join()
            young = time.monotonic() - self._started_s < YOUNG_S
            young_deaths = young_deaths + 1 if young else 0
            delay_s = RESTART_DELAYS_S[min(young_deaths, len(RESTART_DELAYS_S) - 1)]
            _log.warning(
                "the sequencer's process %d has ended with code %s; another one takes its place"
                " in %g s",
                self.pid,
                self._process.exitcode,
                delay_s,
            )
            self._on_death()
            if self._ending.poll(delay_s):
                return
            with suppress(OSError):
                self._orders.close()
            self._start()
