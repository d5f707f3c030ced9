"""A sequencer behind a socket, its host and its client's event loop on threads of the test."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

from adapters.sequencing.client import RemoteSequencer
from adapters.sequencing.host import Host, Replies
from ledger.application.sequencer import Sequencer
from ledger.application.watching import Watch

MakeSequencer = Callable[[Watch], Sequencer]


class _Mortal(Host):
    """A host that can die on a thread."""

    dying = False

    def die(self) -> None:
        """Lose all clients, and get no other; from any thread."""
        self.dying = True
        for client in list(self._clients):
            with suppress(OSError):
                client.wire.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        if not self.dying:
            super()._accept()


class HostThread:
    """A host on a thread; another one may take its place at the same socket.

    Args:
        make: makes its sequencer.
        listener: where clients come.
    """

    def __init__(self, make: MakeSequencer, listener: socket.socket) -> None:
        replies = Replies()
        theirs, self._orders = multiprocessing.Pipe(duplex=False)
        self.host = _Mortal(make(replies), replies, listener, theirs)
        self._thread = threading.Thread(target=self.host.run)
        self._thread.start()

    def die(self) -> None:
        """End, and answer nothing any more."""
        self.host.die()
        self.finish()

    def finish(self) -> None:
        """End with the last client."""
        self._orders.close()
        self._thread.join(30)


class Remote(RemoteSequencer):
    """A client on a loop of its own, for callers on threads; `close` ends loop and host.

    Args:
        make: makes the host's sequencer.
        watch: of the client.
        patience_s: of the client.

    Attributes:
        listener: of the hosts.
        host: the one of now; None while there is none.
    """

    def __init__(
        self,
        make: MakeSequencer,
        *,
        watch: Watch | None = None,
        patience_s: float = 30.0,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        path = str(Path(self._folder.name) / "socket")
        super().__init__(path, watch=watch, patience_s=patience_s)
        self._make = make
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.host: HostThread | None = HostThread(make, self.listener)
        self.loop = asyncio.new_event_loop()
        self._over: asyncio.Event
        self._begun: Future[None] = Future()
        self._thread = threading.Thread(target=self.loop.run_until_complete, args=[self._live()])
        self._thread.start()
        self._begun.result(30)

    async def _live(self) -> None:
        self._over = asyncio.Event()
        async with self.running():
            self._begun.set_result(None)
            await self._over.wait()

    def replace_host(self) -> None:
        """Let the host die, and another one take its place."""
        if self.host is not None:
            self.host.die()
        self.host = HostThread(self._make, self.listener)

    def close(self) -> None:
        """Answer what waits, then end."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._over.set)
            self._thread.join(30)
            self.loop.close()
            if self.host is not None:
                self.host.finish()
            self.listener.close()
            self._folder.cleanup()
