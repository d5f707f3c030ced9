"""A server of streams on a real socket, over a database of a test, and clients of it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn
from fakes.http_world import FixedKeyring, Watching
from msgspec.structs import replace
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from adapters.bootstrap import Tallybook, http_app, open_ledger
from adapters.http.gate import Gate
from adapters.http.stream.endpoint import Stream
from adapters.http.stream.frames import PATH
from adapters.http.stream.protocol import StreamProtocol

PATIENCE_S = 30.0
"""Longest time that a test waits for a frame; shared machines stall."""
Frame = dict[str, Any]


class Server:
    """A process's worth of server: its own ledger, application and sockets, in a thread.

    Attributes:
        tallybook: the use cases behind it.
        app: the application.
        keyring: of the application: platform, acme, globex.
        path: that clients ask for.
    """

    def __init__(self, tallybook: Tallybook) -> None:
        self.path = PATH
        self.tallybook = tallybook
        self.keyring = FixedKeyring()
        self.keyring.add("platform", tenant=None)
        self.keyring.add("acme", tenant="acme")
        self.keyring.add("globex", tenant="globex")
        self.app: Gate = http_app(tallybook, keyring=self.keyring, observer=Watching())
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            self.app,
            log_config=None,
            lifespan="off",
            http="h11",
            ws=StreamProtocol,
            ws_per_message_deflate=False,
            ws_ping_interval=None,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run)
        self._loop: asyncio.AbstractEventLoop | None = None

    def _run(self) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            await self._server.serve([self._socket])

        asyncio.run(serve())

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()
        wait_for(lambda: self._server.started)

    def stop(self) -> None:
        """End, whoever is connected."""
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join()
        self._socket.close()

    @property
    def streams(self) -> Stream:
        """Return the endpoint of the streams."""
        if self.app.streams is None:
            raise RuntimeError("the application has no streams")
        return self.app.streams

    def limit(self, **members: Any) -> None:
        """Change bounds of the connections that are opened from now on."""
        self.streams.limits = replace(self.streams.limits, **members)

    def narrow(self) -> None:
        """Give connections to come little room in the kernel, so that little goes unread."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)

    def drain(self) -> None:
        """Drain the streams, on the loop that serves them."""
        loop = self._loop
        if loop is None:
            raise RuntimeError("the server has not begun")
        asyncio.run_coroutine_threadsafe(self.streams.close_all(), loop).result(PATIENCE_S)

    def connect(self, *, key: str | None = "acme", query: str = "", **members: Any) -> Client:
        """Open a WebSocket."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return Client(
            connect(
                f"ws://127.0.0.1:{self.port}{self.path}{query}",
                additional_headers=headers,
                compression=None,
                **members,
            )
        )

    def hello(self, session: str, *, key: str = "acme", **members: Any) -> Client:
        """Open a WebSocket and begin a session; the answer is `Client.opened`."""
        client = self.connect(key=key)
        client.send(type="hello", session=session, **members)
        client.opened = client.receive("hello")
        return client

    def resume(
        self, session: str, epoch: int, last_seq: int | None, *, key: str = "acme"
    ) -> Client:
        """Open a WebSocket and go on with a session; the answer is `Client.opened`."""
        client = self.connect(key=key)
        more = {} if last_seq is None else {"last_seq": last_seq}
        client.send(type="resume", session=session, epoch=epoch, **more)
        client.opened = client.receive("resumed", "resume_failed")
        return client


class Client:
    """A client of a stream.

    Attributes:
        socket: the WebSocket.
        opened: the answer to the first frame.
        seen: all frames that came, but for heartbeats.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.opened: Frame = {}
        self.seen: list[Frame] = []

    @property
    def epoch(self) -> int:
        """Return the session's epoch."""
        return int(self.opened["epoch"])

    @property
    def acked(self) -> int:
        """Return the last ack that came."""
        return max((one["seq"] for one in self.seen if one["type"] == "ack"), default=0)

    def send(self, **frame: Any) -> None:
        """Send a frame."""
        self.socket.send(json.dumps(frame))

    def next(self) -> Frame:
        """Return the next frame that is no heartbeat."""
        while True:
            frame: Frame = json.loads(self.socket.recv(timeout=PATIENCE_S))
            if frame["type"] != "heartbeat":
                self.seen.append(frame)
                return frame

    def receive(self, *types: str) -> Frame:
        """Return the next frame of some types; what comes before is only in `seen`."""
        while True:
            frame = self.next()
            if frame["type"] in types:
                return frame

    def wait_ack(self, seq: int) -> None:
        """Receive until a frame is acked."""
        while self.acked < seq:
            self.next()

    def of(self, kind: str) -> list[Frame]:
        """Return the frames of a type that came."""
        return [one for one in self.seen if one["type"] == kind]

    def closed(self) -> int:
        """Receive until the server closes; return its code."""
        try:
            while True:
                self.next()
        except ConnectionClosed as error:
            return error.rcvd.code if error.rcvd is not None else 1006

    def cut(self) -> None:
        """Cut the connection as a network does: no goodbye, and what is under way is lost."""
        raw = self.socket.socket
        # After the last frame the server may have been quicker, and there is nothing left to cut.
        with suppress(OSError):
            # Closing with this option resets the connection instead of ending it.
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            raw.shutdown(socket.SHUT_RDWR)
        self.socket.close_socket()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()


@contextmanager
def stream_server(url: str) -> Iterator[Server]:
    """Open a database and serve streams over it."""
    with open_ledger(url) as tallybook:
        server = Server(tallybook)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def wait_for(true: Callable[[], object], what: str = "it") -> None:
    """Wait until something is so."""
    end_s = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > end_s:
            raise TimeoutError(f"{what} did not come to be")
        time.sleep(0.01)
