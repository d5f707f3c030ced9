"""Heartbeats: how a supervisor tells a worker that hangs from one that has nothing to do.

A worker's event loop says every second that it turns. One that is stopped, or that waits where it
must not, stays silent: its connections are open and nobody answers on them.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import select
import signal
from multiprocessing.connection import Connection

BEAT_S = 1.0
"""Time between two beats."""
BEAT = b"beat"
_MOST_AT_ONCE_S = 2 * BEAT_S


class Pulse:
    """How long a worker has been silent, by the count of the one that listens.

    Time in which the listener itself did not run is not held against the worker: a machine that
    was suspended, or a job that was stopped, leaves all of them silent.

    Args:
        limit_s: longest silence of one that is well.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._silent_s = 0.0

    def beat(self) -> None:
        """Take note that it was heard."""
        self._silent_s = 0.0

    def pass_by(self, seconds: float) -> bool:
        """Count time since the listener listened last; return whether the silence is too long."""
        self._silent_s += min(seconds, _MOST_AT_ONCE_S)
        return self._silent_s > self.limit_s


def begin(pipe: Connection, loop: asyncio.AbstractEventLoop) -> None:
    """Let an event loop tell every second, through a pipe, that it turns; on that loop."""
    room = select.poll()
    room.register(pipe.fileno(), select.POLLOUT)

    def beat() -> None:
        # A supervisor that does not listen must not make its workers wait.
        with contextlib.suppress(OSError):
            if any(events & select.POLLOUT for _, events in room.poll(0)):
                pipe.send_bytes(BEAT)
        loop.call_later(BEAT_S, beat)

    beat()


def listen_for_questions() -> None:
    """Let this process write where all of its threads are, to standard error, when asked.

    It is written by the signal's handler itself, so also by a process that hangs; frames only, no
    values. A core dump would hold every secret of the process.
    """
    faulthandler.register(signal.SIGUSR1, all_threads=True, chain=False)
