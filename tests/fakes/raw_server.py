"""A server's outermost layer on a real socket, without a ledger, and clients that send any bytes.

Behind it ``POST /echo`` answers the body, ``/wait`` waits until it is let go, ``/large`` answers
more than a socket holds, ``/injected`` with a header that holds a line's end; these in one piece,
as hot routes do. Anything else is answered with an empty object, by messages.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import ref

import uvloop
from fakes.http_world import FixedKeyring, Watching

from adapters.http.bodies import Bodies
from adapters.http.exchange import KEY, Answer
from adapters.http.gate import Gate
from adapters.http.hot import give
from adapters.http.lifecycle import Lifecycle
from adapters.http.protocol import Limits
from adapters.http.server import Server, ServerSettings, Serving, config_of
from adapters.http.whole import WHOLE

PATIENCE_S = 30.0
"""Longest time that a test waits."""
LARGE = b"x" * (16 * 1024 * 1024)


class Answered(NamedTuple):
    """An answer as it came.

    Attributes:
        status: of it.
        headers: lower case.
        body: of it.
    """

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """Return the code of a problem document."""
        assert self.headers["content-type"] == "application/problem+json"
        document = json.loads(self.body)
        assert document["status"] == self.status
        assert document["request_id"] == self.headers["x-request-id"]
        return str(document["code"])


class Mark:
    """Lives as long as the ASGI scope that it is put into."""


class RawServer:
    """The server, in a thread.

    Args:
        loop: ``uvloop`` or ``asyncio``.
        limits: of its connections.
        body_timeout_s: for a whole body.

    Attributes:
        port: where it listens.
        refused: codes of what never came to the application.
        seen: paths of requests that did.
        marks: of the scopes of those requests, as long as these are there.
        server: itself.
    """

    def __init__(self, loop: str, limits: Limits, *, body_timeout_s: float = PATIENCE_S) -> None:
        self.refused: list[str] = []
        self.seen: list[str] = []
        self.marks: list[ref[Mark]] = []
        self._go = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        keyring = FixedKeyring()
        keyring.add("key", tenant="acme")
        app = Gate(
            self._app,
            keyring=keyring,
            observer=Watching(),
            bodies=Bodies(timeout_s=body_timeout_s),
        )
        lifecycle = Lifecycle()
        config = config_of(
            Serving(app, refused=self.refused.append, end_sessions=_nothing),
            ServerSettings(limits=limits),
            lifecycle,
        )
        self.server = Server(
            config,
            lifecycle=lifecycle,
            end_sessions=_nothing,
            drain_timeout_s=PATIENCE_S,
            on_ready=lambda: None,
        )
        self._factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()
        until(lambda: self.server.started)

    def drain(self) -> None:
        """Tell it to end."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self.server.drain)

    def stop(self) -> None:
        """End it, whoever is connected."""
        self._go.set()
        if self._thread.is_alive():
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self.server.cut)
        self.ended()

    def ended(self) -> None:
        """Wait until it has ended."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def let_go(self) -> None:
        """Let ``/wait`` answer."""
        self._go.set()

    @property
    def connections(self) -> int:
        """Return how many connections are open."""
        return len(self.server.server_state.connections)

    def _run(self) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            await self.server.serve([self._socket])

        with asyncio.Runner(loop_factory=self._factory) as runner:
            runner.run(serve())

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await receive()
            return
        self.seen.append(scope["path"])
        mark = scope["mark"] = Mark()
        self.marks.append(ref(mark))
        body = b"{}"
        if scope["path"] == "/wait":
            while not self._go.is_set():
                await asyncio.sleep(0.005)
        elif scope["path"] == "/large":
            body = LARGE
        elif scope["method"] == "POST":
            body = (await receive())["body"]
        if scope["path"] in ("/echo", "/large", "/injected"):
            more = ((b"x-more", b"a\r\nx-injected: b"),) if scope["path"] == "/injected" else ()
            answer = Answer(body, content_type=b"text/plain", headers=more)
            await give(scope[KEY], answer, scope[WHOLE], send)
            return
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def _nothing() -> None:
    return


class RawClient:
    """A connection that sends any bytes.

    Args:
        port: of the server.
        small: whether it takes little at a time.
    """

    def __init__(self, port: int, *, small: bool = False) -> None:
        self.socket = socket.socket()
        try:
            if small:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            self.socket.settimeout(PATIENCE_S)
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise
        self._rest = b""

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def trickle(self, data: bytes, *, every_s: float) -> None:
        """Send a byte now and then, until all are sent or the server has closed."""
        for place in range(len(data)):
            try:
                self.socket.sendall(data[place : place + 1])
            except OSError:
                return
            time.sleep(every_s)

    def end(self) -> None:
        """Close the sending half."""
        self.socket.shutdown(socket.SHUT_WR)

    def answer(self, *, of_head: bool = False) -> Answered:
        """Read one answer; one to ``HEAD`` has no body, whatever its length is said to be."""
        while b"\r\n\r\n" not in self._rest:
            self._more()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
        parts = [self._rest]
        end = 0 if of_head else int(headers["content-length"])
        left = end - len(self._rest)
        while left > 0:
            parts.append(self._part())
            left -= len(parts[-1])
        whole = b"".join(parts)
        self._rest = whole[end:]
        return Answered(int(first.split()[1]), headers, whole[:end])

    def closed(self) -> bool:
        """Wait for the server's end of the connection; True if nothing more came before it."""
        found = self._rest
        while part := self.socket.recv(65536):
            found += part
        return not found

    def quiet(self, seconds: float) -> bool:
        """Return whether nothing comes for a while, the end of the connection included."""
        self.socket.settimeout(seconds)
        try:
            self.socket.recv(1)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(PATIENCE_S)
        return False

    def _more(self) -> None:
        self._rest += self._part()

    def _part(self) -> bytes:
        part = self.socket.recv(65536)
        if not part:
            raise EOFError("the connection ended")
        return part


def request(
    path: str = "/healthz", *, method: str = "GET", body: bytes = b"", headers: str = ""
) -> bytes:
    """Return the bytes of a request; ``headers`` are lines that end in CRLF."""
    length = f"Content-Length: {len(body)}\r\n" if body or method == "POST" else ""
    key = "Authorization: Bearer key\r\n"
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{key}{length}{headers}\r\n".encode() + body


def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.005)
