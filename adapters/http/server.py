"""One server process: uvicorn with limits, and an end that leaves nobody without an answer.

The end, on a signal: readiness says ``draining``; no new connection is taken, but those that wait
are; requests in flight are answered, and so is one more on every open connection; then the
application is closed, which answers what the sequencer still has. A second signal, or the drain's
time limit, cuts the connections instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import partial
from types import FrameType
from typing import Any

import msgspec
import uvicorn

from adapters.http import listening
from adapters.http.lifecycle import Lifecycle
from adapters.http.protocol import Limits, Protocol
from adapters.http.stream.protocol import StreamProtocol

DRAIN_TIMEOUT_S = 30.0
"""How long a drain may take."""
HANG_TIMEOUT_S = 30.0
"""How long a worker may give no sign of life."""
FORCED_END_S = 5.0
"""How long the rest may take once the connections were cut."""
MAX_FRAME_BYTES = 1024 * 1024
"""Of a WebSocket message."""
_FILES_BESIDE = 128
"""Files that a process has open beside its connections."""

END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a server."""

_log = logging.getLogger(__name__)


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a server runs.

    Attributes:
        host: name or address that it listens on.
        port: 0 takes a free one.
        workers: processes that answer.
        drain_timeout_s: for what is in flight when the server is told to end.
        hang_timeout_s: silence after which a worker is replaced; its end has as long too.
        limits: of a connection.
        log_format: ``console`` or ``json``.
        log_level: ``debug``, ``info``, ``warning`` or ``error``.
        access_log: whether every request is logged.
        upkeep: whether it keeps rollups near and expires holds.
        jobs: whether it runs the jobs that are due.
        open_metrics: whether ``/metrics`` needs no key.
        metrics_dir: where several processes count together; "" where there is one.
        slot: which of the workers this process is; "" for one that is none.
        sequencer: path of the socket of the process that commits.
    """

    host: str = "127.0.0.1"
    port: int = 8787
    workers: int = 1
    drain_timeout_s: float = DRAIN_TIMEOUT_S
    hang_timeout_s: float = HANG_TIMEOUT_S
    limits: Limits = Limits()
    log_format: str = "console"
    log_level: str = "info"
    access_log: bool = False
    upkeep: bool = True
    jobs: bool = True
    open_metrics: bool = False
    metrics_dir: str = ""
    slot: str = ""
    sequencer: str = ""


class Serving(msgspec.Struct, frozen=True):
    """An open application.

    Attributes:
        app: ASGI.
        refused: told the code of a request that never got to it.
        end_sessions: ends WebSocket sessions in their own words, once the process drains.
        around: entered on the event loop before anything is answered, left once all is.
    """

    app: Any
    refused: Callable[[str], None]
    end_sessions: Callable[[], Coroutine[Any, Any, None]]
    around: Callable[[], AbstractAsyncContextManager[None]] = contextlib.nullcontext


OpenApp = Callable[[ServerSettings, Lifecycle], AbstractContextManager[Serving]]
"""Opens what a process serves; leaving it answers what waits, and closes it."""


class Server(uvicorn.Server):
    """Serves until it is told to drain.

    Args:
        config: of uvicorn.
        lifecycle: of the process.
        end_sessions: awaited when the drain begins.
        drain_timeout_s: for what is in flight.
        on_ready: called once requests are answered.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        lifecycle: Lifecycle,
        end_sessions: Callable[[], Coroutine[Any, Any, None]],
        drain_timeout_s: float,
        on_ready: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._end_sessions = end_sessions
        self._drain_timeout_s = drain_timeout_s
        self._on_ready = on_ready
        self._last = True

    def drain(self, *, last: bool = True) -> None:
        """Begin to end; on the event loop.

        Args:
            last: nobody else listens on the same sockets.
        """
        if not self.should_exit:
            self._last = last
            self.should_exit = True
            self._lifecycle.draining = True
            self._tell_connections()

    def cut(self) -> None:
        """End now: connections are cut; on the event loop."""
        self.drain()
        self.force_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever runs the process."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, or cut off what does not come to its end."""
        try:
            async with asyncio.timeout(self._drain_timeout_s):
                await self._drained(sockets or [])
        except TimeoutError:
            end_at_last()
            _log.warning(
                "the drain's %g s are over with %d requests in flight; they are cut off",
                self._drain_timeout_s,
                len(self.server_state.tasks),
            )
            self.force_exit = True
        if self.force_exit:
            await self._cut_off(sockets or [])
        await self.lifespan.shutdown()

    async def _drained(self, sockets: Sequence[socket.socket]) -> None:
        await self._stop_accepting(sockets)
        self._tell_connections()
        state = self.server_state
        ending = asyncio.create_task(self._end_sessions())
        try:
            while (state.connections or state.tasks) and not self.force_exit:
                await asyncio.sleep(0.02)
                if ending.done():
                    # What is left by now is no session of ours.
                    for one in list(state.connections):
                        if not isinstance(one, Protocol):
                            one.shutdown()
            if not self.force_exit:
                await ending
        finally:
            ending.cancel()

    def _tell_connections(self) -> None:
        for connection in list(self.server_state.connections):
            if isinstance(connection, Protocol):
                connection.shutdown()

    async def _stop_accepting(self, sockets: Sequence[socket.socket]) -> None:
        if self._last:
            listening.turn_away(sockets)
            while listening.has_waiting(sockets) and not self.force_exit:
                await asyncio.sleep(0.001)
        self._close_listeners(sockets)
        # What was accepted last gets its protocol in the loop's next turn.
        await asyncio.sleep(0.01)

    def _close_listeners(self, sockets: Sequence[socket.socket]) -> None:
        for server in self.servers:
            server.close()
        listening.close(sockets)

    async def _cut_off(self, sockets: Sequence[socket.socket]) -> None:
        # From here on uvicorn's words would be about requests that are cut off on purpose.
        logging.getLogger("uvicorn.error").disabled = True
        self._close_listeners(sockets)
        for connection in list(self.server_state.connections):
            wire = connection.wire if isinstance(connection, Protocol) else connection.transport
            wire.abort()
        await asyncio.sleep(0)
        for task in list(self.server_state.tasks):
            task.cancel()
        await asyncio.sleep(0)


Orders = Callable[[Server, asyncio.AbstractEventLoop], None]
"""Has a server told when to drain and when to cut; called on its event loop before it serves."""


def serve(
    open_app: OpenApp,
    settings: ServerSettings,
    sockets: Sequence[socket.socket],
    *,
    on_ready: Callable[[], None],
    orders: Orders,
) -> bool:
    """Serve in this process until the end; return whether nobody was cut off.

    Args:
        open_app: opens the application.
        settings: how.
        sockets: listened on; closed on the way.
        on_ready: called once requests are answered.
        orders: who says when it ends.
    """
    lifecycle = Lifecycle()
    with open_app(settings, lifecycle) as serving:
        config = config_of(serving, settings, lifecycle)
        server = Server(
            config,
            lifecycle=lifecycle,
            end_sessions=serving.end_sessions,
            drain_timeout_s=settings.drain_timeout_s,
            on_ready=on_ready,
        )

        async def run() -> None:
            orders(server, asyncio.get_running_loop())
            async with serving.around():
                await server.serve(list(sockets))

        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(run())
    return not server.force_exit


def obey_signals(server: Server, loop: asyncio.AbstractEventLoop) -> None:
    """Drain on the first signal and cut on the second: for a process that is its own master."""
    told = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal told
        del number, frame
        if told:
            end_at_last()
            with contextlib.suppress(RuntimeError):
                # The loop is closed where the end has come as far as the ledger.
                loop.call_soon_threadsafe(server.cut)
        else:
            told = True
            loop.call_soon_threadsafe(_begin_to_end, server)

    for number in END_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handle)


def _begin_to_end(server: Server) -> None:
    _log.info("ending: what is in flight is answered first; a second signal cuts it off")
    server.drain()


def end_at_last() -> None:
    """End the process soon, even if a thread of it waits for something that does not come."""
    timer = threading.Timer(FORCED_END_S, os._exit, (1,))
    timer.daemon = True
    timer.start()


def allow_files(connections: int) -> int:
    """Let this process have files open for so many connections; return for how many it may."""
    import resource  # noqa: PLC0415 - there is none on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections + _FILES_BESIDE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
            soft = allowed
    if soft == resource.RLIM_INFINITY:
        return connections
    return max(1, min(connections, (soft - _FILES_BESIDE) // 2))


def config_of(serving: Serving, settings: ServerSettings, lifecycle: Lifecycle) -> uvicorn.Config:
    """Return uvicorn's settings for a server of ours.

    Args:
        serving: what it serves.
        settings: how.
        lifecycle: of the process.
    """
    limits = msgspec.structs.replace(
        settings.limits, connections=allow_files(settings.limits.connections)
    )
    protocol = partial(Protocol, limits=limits, lifecycle=lifecycle, refused=serving.refused)
    return uvicorn.Config(
        serving.app,
        interface="asgi3",
        http=protocol,  # type: ignore[arg-type] # called like the class
        loop="auto",
        ws=StreamProtocol,
        # Sessions have heartbeats of their own, which know when a client is not read on purpose.
        ws_ping_interval=None,
        ws_max_size=MAX_FRAME_BYTES,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        # Who calls is who connects: an allow list of addresses must not believe a header.
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=int(limits.idle_timeout_s),
        backlog=listening.BACKLOG,
    )
