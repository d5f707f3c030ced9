"""Several server processes on the same sockets, and the one that keeps them going.

Each worker is a server of its own with a ledger of its own; they share nothing but the listening
sockets and the database. A worker that dies is replaced, and so is one that hangs. The supervisor
tells them through a pipe when to end, and hears there that they live; should it die itself, the
pipe's end tells them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Protocol

import msgspec

from adapters.http import heartbeat, listening
from adapters.http.heartbeat import BEAT_S, Pulse
from adapters.http.server import (
    END_SIGNALS,
    FORCED_END_S,
    OpenApp,
    Server,
    ServerSettings,
    end_at_last,
    serve,
)
from ledger.domain.errors import Unavailable

START_TIMEOUT_S = 60.0
"""How long a worker may take until it answers."""
RESTART_DELAYS_S = (0.0, 0.5, 1.0, 2.0, 5.0)
"""Waits before a worker is replaced that died young; the last one repeats."""
YOUNG_S = 10.0
"""A worker that lives so long is not young any more."""
LAST_WORDS_S = 2.0
"""How long a worker that hangs has to write where it is, before it is killed."""
READY, DRAIN, CUT = b"ready", b"drain", b"cut"

_log = logging.getLogger(__name__)
_spawn = multiprocessing.get_context("spawn")


class WorkersFailed(Unavailable):
    """The workers cannot be started."""

    default_code = "workers_failed"


class Prepare(Protocol):
    """What a new process does before anything else; a function of a module, so it can be sent."""

    def __call__(self, settings: ServerSettings) -> None:
        """Set logging up, tune the interpreter."""
        ...


class Worker:
    """A server process.

    Args:
        slot: which of the workers it is, from 0.
        open_app: opens what it serves; can be sent to another process.
        prepare: called there first.
        settings: how.
        sockets: listened on.
    """

    def __init__(
        self,
        slot: int,
        open_app: OpenApp,
        prepare: Prepare,
        settings: ServerSettings,
        sockets: Sequence[socket.socket],
    ) -> None:
        self.slot = slot
        self.ready = False
        self.deaf = False
        self.killed_at: float | None = None
        self.pulse = Pulse(START_TIMEOUT_S)
        self._hang_timeout_s = settings.hang_timeout_s
        self.started_at = time.monotonic()
        self.pipe, theirs = _spawn.Pipe()
        self.process: BaseProcess = _spawn.Process(
            target=work,
            args=(
                open_app,
                prepare,
                msgspec.structs.replace(settings, slot=str(slot)),
                list(sockets),
                theirs,
            ),
            name=f"tallybook-worker-{slot}",
        )
        self.process.start()
        # Only the worker holds its end, so that each side sees the other one's death.
        theirs.close()

    def tell(self, order: bytes) -> None:
        """Tell it something, if it still hears."""
        with contextlib.suppress(OSError):
            self.pipe.send_bytes(order)

    def hear(self) -> None:
        """Take note of what it said."""
        try:
            while self.pipe.poll():
                if self.pipe.recv_bytes() == READY:
                    self.ready = True
                    self.pulse = Pulse(self._hang_timeout_s)
                self.pulse.beat()
        except (OSError, EOFError):
            self.deaf = True

    def end_hanging(self) -> None:
        """Ask it where it is, and kill it a little later; to be called until it is gone."""
        now = time.monotonic()
        if self.killed_at is None:
            self.killed_at = now + LAST_WORDS_S
            _log.error(
                "worker %d (process %d) has given no sign of life for %g s: it is killed, and"
                " another one takes its place; what follows says where its threads are",
                self.slot,
                self.process.pid,
                self.pulse.limit_s,
            )
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid or 0, signal.SIGUSR1)
        elif now >= self.killed_at:
            self.process.kill()

    def bury(self) -> int:
        """Return the exit code of one that has ended."""
        self.process.join()
        self.pipe.close()
        return self.process.exitcode or 0


class Supervisor:
    """Keeps workers going until it is told to end them.

    Args:
        open_app: opens what a worker serves; can be sent to another process.
        prepare: called in each worker first.
        settings: how.
        sockets: listened on; closed when the end begins.
        on_ready: called once all workers answer.
        on_death: called with the slot of a worker that is gone.
    """

    def __init__(
        self,
        open_app: OpenApp,
        prepare: Prepare,
        settings: ServerSettings,
        sockets: Sequence[socket.socket],
        *,
        on_ready: Callable[[], None],
        on_death: Callable[[int], None],
    ) -> None:
        self._open_app = open_app
        self._prepare = prepare
        self._settings = settings
        self._sockets = sockets
        self._on_ready = on_ready
        self._on_death = on_death
        self._workers: dict[int, Worker] = {}
        self._young_deaths = 0
        self._due: dict[int, float] = {}
        self._signals = 0
        self._looked_at = time.monotonic()
        self._bell, self._rung = _spawn.Pipe(duplex=False)

    def run(self) -> bool:
        """Run until the end; return whether nobody was cut off.

        Raises:
            WorkersFailed: they do not come up in the first place.
        """
        before = {
            number: signal.signal(number, self._ring)
            for number in END_SIGNALS
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        try:
            return self._run()
        finally:
            for worker in self._workers.values():
                worker.process.kill()
                worker.bury()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _run(self) -> bool:
        for slot in range(self._settings.workers):
            self._start(slot)
        self._await_first()
        if not self._signals:
            self._on_ready()
        while not self._signals:
            self._look(timeout_s=self._until_due())
            self._end_hanging()
            self._replace()
        return self._end()

    def _ring(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._signals += 1
        self._rung.send_bytes(b"!")

    def _start(self, slot: int) -> None:
        self._workers[slot] = Worker(
            slot, self._open_app, self._prepare, self._settings, self._sockets
        )

    def _await_first(self) -> None:
        """Wait until all answer; one that dies now would die again."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._signals and not all(one.ready for one in self._workers.values()):
            dead = self._look(timeout_s=max(0.0, deadline - time.monotonic()))
            if dead:
                raise WorkersFailed(
                    "a worker ended before it answered; its log lines above say why"
                )
            if time.monotonic() >= deadline:
                raise WorkersFailed(f"the workers do not answer after {START_TIMEOUT_S:g} s")

    def _look(self, *, timeout_s: float | None) -> list[Worker]:
        """Wait for something to happen; return the workers that have ended."""
        by_sentinel = {one.process.sentinel: one for one in self._workers.values()}
        by_pipe = {one.pipe: one for one in self._workers.values() if not one.deaf}
        happened = wait([self._bell, *by_sentinel, *by_pipe], timeout=timeout_s)
        if self._bell in happened:
            self._bell.recv_bytes()
        dead = []
        for one in happened:
            if isinstance(one, int) and one in by_sentinel:
                dead.append(by_sentinel[one])
            elif isinstance(one, Connection) and one in by_pipe:
                by_pipe[one].hear()
        for worker in dead:
            self._note_death(worker)
        return dead

    def _note_death(self, worker: Worker) -> None:
        pid = worker.process.pid or 0
        code = worker.bury()
        del self._workers[worker.slot]
        self._on_death(worker.slot)
        if self._signals:
            return
        young = time.monotonic() - worker.started_at < YOUNG_S
        self._young_deaths = self._young_deaths + 1 if young else 0
        delay_s = RESTART_DELAYS_S[min(self._young_deaths, len(RESTART_DELAYS_S) - 1)]
        self._due[worker.slot] = time.monotonic() + delay_s
        _log.warning(
            "worker %d (process %d) has ended with code %d; another one takes its place in %g s",
            worker.slot,
            pid,
            code,
            delay_s,
        )

    def _end_hanging(self) -> None:
        """Kill workers that have been silent for too long."""
        now = time.monotonic()
        passed_s, self._looked_at = now - self._looked_at, now
        for worker in self._workers.values():
            if worker.pulse.pass_by(passed_s):
                worker.end_hanging()

    def _until_due(self) -> float:
        """Return the seconds until there is something to do, heard or not."""
        if not self._due:
            return BEAT_S
        return min(BEAT_S, max(0.0, min(self._due.values()) - time.monotonic()))

    def _replace(self) -> None:
        for slot, due in list(self._due.items()):
            if due <= time.monotonic() and not self._signals:
                del self._due[slot]
                self._start(slot)

    def _end(self) -> bool:
        _log.info("ending: what is in flight is answered first; a second signal cuts it off")
        # Their hold on the sockets must be the last one, for they take in who waits there.
        listening.turn_away(self._sockets)
        listening.close(self._sockets)
        ending = list(self._workers.values())
        self._tell(DRAIN)
        clean = self._wait_for_end(self._settings.drain_timeout_s + FORCED_END_S, signals=1)
        if not clean:
            end_at_last()
            self._tell(CUT)
            self._wait_for_end(FORCED_END_S - 1, signals=2**31)
            for worker in self._workers.values():
                worker.process.kill()
        return clean and all(one.process.exitcode == 0 for one in ending)

    def _tell(self, order: bytes) -> None:
        for worker in self._workers.values():
            worker.tell(order)

    def _wait_for_end(self, seconds: float, *, signals: int) -> bool:
        """Wait until all workers have ended; False if time or patience is over."""
        deadline = time.monotonic() + seconds
        while self._workers:
            if self._signals > signals or time.monotonic() >= deadline:
                return False
            self._look(timeout_s=max(0.0, deadline - time.monotonic()))
        return True


def work(
    open_app: OpenApp,
    prepare: Prepare,
    settings: ServerSettings,
    sockets: list[socket.socket],
    pipe: Connection,
) -> None:
    """Be a worker: the whole life of its process."""
    # A terminal's Ctrl-C reaches the whole group; the supervisor says what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    heartbeat.listen_for_questions()
    prepare(settings)
    try:
        clean = serve(
            open_app,
            settings,
            sockets,
            on_ready=lambda: pipe.send_bytes(READY),
            orders=lambda server, loop: _obey(pipe, server, loop),
        )
    except Exception as error:
        _log.error("the worker cannot go on: %s", error, exc_info=error)
        os._exit(1)
    if not clean:
        raise SystemExit(1)


def _obey(pipe: Connection, server: Server, loop: asyncio.AbstractEventLoop) -> None:
    """Have a worker's server told what the supervisor says; SIGTERM ends this worker alone."""

    def alone(number: int, frame: FrameType | None) -> None:
        del number, frame
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(lambda: server.drain(last=False))

    def listen() -> None:
        order = b""
        while order != CUT:
            try:
                order = pipe.recv_bytes()
            except (OSError, EOFError):
                # Nobody looks after this worker any more, and nobody would replace it.
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(server.drain)
                return
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(server.cut if order == CUT else server.drain)
        end_at_last()

    signal.signal(signal.SIGTERM, alone)
    heartbeat.begin(pipe, loop)
    threading.Thread(target=listen, name="tallybook-orders", daemon=True).start()
