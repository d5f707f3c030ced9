"""uvicorn's WebSocket connection, for clients that may not read.

Its own waits for such a client: with a goodbye until what was sent before is taken, with closing
until all is. Who never reads would keep a socket and its buffers for as long as it likes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

GOODBYE_S = 5.0
"""Longest time in which a client may take what is left to be sent to it."""


class StreamProtocol(WebSocketsSansIOProtocol):
    """One WebSocket; see the module.

    Attributes:
        goodbye_s: after it the connection is cut, taken or not.
    """

    goodbye_s = GOODBYE_S

    def __init__(self, *args: Any, **members: Any) -> None:
        super().__init__(*args, **members)
        self._cut: asyncio.TimerHandle | None = None

    async def send(self, message: ASGISendEvent) -> None:
        """Send a message of ASGI; a close is put behind what waits, and waits for nobody."""
        if message["type"] == "websocket.close":
            self.writable.set()
        await super().send(message)

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """Give the client its time to take what is left, then cut the connection."""
        super().on_task_complete(task)
        if not self.disconnected:
            self._cut = self.loop.call_later(self.goodbye_s, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        if self._cut is not None:
            self._cut.cancel()
