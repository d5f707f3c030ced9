"""Routes as plain Starlette routes: an operation's handler behind its checks, as an ASGI endpoint.

FastAPI costs about three times as much a request, and what stands before and behind every provider
call should not pay that.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from starlette.routing import Route

from adapters.http.exchange import KEY, Answer, Exchange
from adapters.http.operations import Operation
from adapters.http.whole import WHOLE, Whole
from ledger.application.access import require

NO_CONTENT = 204
"""Status of an answer that has neither a body nor headers about one (RFC 9110, 8.6)."""


class Endpoint:
    """An operation as an ASGI application.

    Args:
        operation: what it answers.
    """

    def __init__(self, operation: Operation) -> None:
        self._handler = operation.handler
        self._scopes = operation.scopes
        self._template = operation.template
        self._deprecation = deprecation_headers(operation)
        self._known = {one.name for one in operation.parameters if one.place == "query"}
        if operation.tenant_in != "none":
            self._known.add("tenant")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Check, handle, answer."""
        exchange: Exchange = scope[KEY]
        exchange.route = self._template
        exchange.path = scope["path_params"]
        if self._deprecation:
            exchange.extra += self._deprecation
        if self._scopes:
            require(exchange.who, *self._scopes)
            # What is public is asked by programs with habits of their own, such as load balancers.
            if exchange.query_string:
                exchange.check_query(self._known)
        await give(exchange, await self._handler(exchange), scope.get(WHOLE), send)


async def give(exchange: Exchange, answer: Answer, whole: Whole | None, send: Any) -> None:
    """Send an answer.

    Args:
        exchange: that it ends.
        answer: to send.
        whole: sends it in one piece, where the server can.
        send: of ASGI.
    """
    headers = list(answer.headers)
    if answer.status != NO_CONTENT:
        headers += (
            (b"content-type", answer.content_type),
            (b"content-length", b"%d" % len(answer.body)),
        )
    if whole is not None and whole.answer(
        answer.status, [*headers, *exchange.every_answer()], answer.body
    ):
        exchange.status = answer.status
        return
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def routes(operations: Iterable[Operation]) -> list[Route]:
    """Return routes of operations, in their order: the first that matches a path answers."""
    return [
        Route(operation.path, Endpoint(operation), methods=[operation.method])
        for operation in operations
    ]


def deprecation_headers(operation: Operation) -> list[tuple[bytes, bytes]]:
    """Return ``Deprecation`` (RFC 9745) and ``Sunset`` (RFC 8594) of an operation that will go."""
    if operation.deprecated is None:
        return []
    since, until = (datetime.fromisoformat(day).replace(tzinfo=UTC) for day in operation.deprecated)
    return [
        (b"deprecation", b"@%d" % int(since.timestamp())),
        (b"sunset", until.strftime("%a, %d %b %Y %H:%M:%S GMT").encode()),
    ]
