"""The WebSocket endpoint: who may open a stream, how many there are, how they are drained."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

from adapters.http.gate import GATE, Gate
from adapters.http.logs import REQUEST_ID
from adapters.http.problems import CONTENT_TYPE, HttpProblem, headers_of, problem_of
from adapters.http.stream.connection import CLOSE_TIMEOUT_S, Connection, Receive, Send
from adapters.http.stream.entrance import Entrance
from adapters.http.stream.frames import KEY_SUBPROTOCOL, PATH, SUBPROTOCOL
from adapters.http.stream.live import Hub
from adapters.http.stream.session import Limits
from ledger.application.access import Caller, KeyRefused, require
from ledger.application.services import Services
from ledger.domain.errors import LedgerError

SCOPES = ("events:write", "holds:write")
MAX_CONNECTIONS = 10_000
"""Most streams of a process."""
DRAIN_S = 15.0

_log = logging.getLogger(__name__)


class Stream:
    """Serves the streams of a process, as an ASGI application behind the gate.

    Args:
        services: the use cases.
        limits: bounds of each session.
        max_connections: most at once.
        counted: told 1 when one is opened and -1 when it is closed.

    Attributes:
        hub: the connections that have a session.
        limits: of the connections to come.
    """

    def __init__(
        self,
        services: Services,
        *,
        limits: Limits | None = None,
        max_connections: int = MAX_CONNECTIONS,
        counted: Callable[[int], None] = lambda change: None,
    ) -> None:
        self._services = services
        self.limits = limits or Limits()
        self._max_connections = max_connections
        self._counted = counted
        self._connections: dict[Connection, asyncio.Task[Any] | None] = {}
        self._draining = False
        self.hub = Hub(
            feed=services.live_feed,
            sessions=services.stream_sessions,
            protection=services.protection_reads,
        )

    def __len__(self) -> int:
        return len(self._connections)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one WebSocket."""
        gate: Gate = scope[GATE]
        message = await receive()
        if message["type"] != "websocket.connect":
            return
        try:
            entrance, subprotocol = await self._admit(scope, gate)
        except LedgerError as error:
            await _refuse(scope, send, error)
            return
        accept: dict[str, Any] = {"type": "websocket.accept"}
        if subprotocol:
            accept["subprotocol"] = subprotocol
        await send(accept)
        gate.used(entrance.caller, route=PATH, status=101)
        connection = Connection(
            receive,
            send,
            services=self._services,
            hub=self.hub,
            limits=self.limits,
            entrance=entrance,
        )
        self._connections[connection] = asyncio.current_task()
        self._counted(1)
        try:
            await connection.run()
        finally:
            del self._connections[connection]
            self._counted(-1)

    async def _admit(self, scope: Any, gate: Gate) -> tuple[Entrance, str]:
        """Return who comes in, and the subprotocol that is chosen.

        Raises:
            LedgerError: nobody does.
        """
        if scope["path"] != PATH:
            raise HttpProblem(f"there is no stream at {scope['path']}", code="unknown_path")
        if self._draining:
            raise HttpProblem("the server is about to end; try again", code="draining")
        if len(self._connections) >= self._max_connections:
            raise HttpProblem(
                "the server has as many streams as it takes; try again",
                code="server_busy",
                headers=((b"retry-after", b"1"),),
            )
        headers: Mapping[bytes, bytes] = dict(scope["headers"])
        authorization, subprotocol = _key_of(headers, scope.get("subprotocols", ()))
        client = scope.get("client")
        address = client[0] if client else ""
        caller = await gate.caller(authorization, address)
        require(caller, *SCOPES)
        gate.rates.take(caller)
        tenants = parse_qs(scope["query_string"].decode("utf-8", "replace")).get("tenant", [])
        if len(tenants) > 1:
            raise HttpProblem("the address names two tenants; name one", code="invalid_tenant")

        async def again() -> Caller:
            return await gate.caller(authorization, address)

        entrance = Entrance(
            caller=caller,
            tenant=tenants[0] if tenants else None,
            again=again,
            wait_s=gate.rates.wait_s,
        )
        return entrance, subprotocol

    async def close_all(self, *, timeout_s: float = DRAIN_S) -> None:
        """Let no stream begin any more; answer what came, then close each resumably.

        To be awaited on the event loop that serves, before the server closes its sockets.

        Args:
            timeout_s: after it, what is left is closed as it is: nothing acked is lost by that.
        """
        self._draining = True
        for connection in list(self._connections):
            connection.drain()
        tasks = [task for task in self._connections.values() if task is not None]
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=timeout_s)
            for task in left:
                task.cancel()
            if left:
                _log.warning("%d streams were not drained in %s s", len(left), timeout_s)
                await asyncio.wait(left, timeout=CLOSE_TIMEOUT_S)
        await asyncio.to_thread(self.hub.close)


def _key_of(headers: Mapping[bytes, bytes], offered: Any) -> tuple[bytes | None, str]:
    """Return the authorization and the subprotocol to choose, "" for none.

    Raises:
        KeyRefused: ``invalid_key``: the key comes twice.
    """
    authorization = headers.get(b"authorization")
    keys = [one for one in offered if one.startswith(KEY_SUBPROTOCOL)]
    subprotocol = SUBPROTOCOL if SUBPROTOCOL in offered else ""
    if not keys:
        return authorization, subprotocol
    if authorization is not None or len(keys) > 1:
        raise KeyRefused("send one key: as a header or as a subprotocol", code="invalid_key")
    if not subprotocol:
        # A client whose offers are all passed over ends the connection itself.
        raise KeyRefused(f"offer the subprotocol {SUBPROTOCOL} beside the key", code="invalid_key")
    return b"Bearer " + keys[0].removeprefix(KEY_SUBPROTOCOL).encode(), subprotocol


async def _refuse(scope: Any, send: Send, error: LedgerError) -> None:
    """Answer a handshake with a problem document."""
    request_id = REQUEST_ID.get()
    status, body = problem_of(error, request_id)
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 4403, "reason": error.code})
        return
    await send(
        {
            "type": "websocket.http.response.start",
            "status": status,
            "headers": [
                (b"content-type", CONTENT_TYPE),
                (b"content-length", b"%d" % len(body)),
                (b"x-request-id", request_id.encode()),
                *headers_of(error),
            ],
        }
    )
    await send({"type": "websocket.http.response.body", "body": body})
