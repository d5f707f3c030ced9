"""The gate: what every request passes on its way in, and every answer on its way out.

In order: request id, version, key, rate, body. Behind it: errors as problem documents, headers of
every answer, and one report a request to the observer. It is plain ASGI and knows no route beyond
which paths are public and which may carry large bodies.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Callable, Mapping, MutableMapping, Set
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

from adapters.http.bodies import MAX_BATCH_BYTES, MAX_BODY_BYTES, Bodies, ClientGone
from adapters.http.exchange import KEY, Exchange
from adapters.http.logs import REQUEST_ID
from adapters.http.problems import CONTENT_TYPE, HttpProblem, headers_of, problem_of
from adapters.http.rates import Rates
from adapters.http.whole import WHOLE
from ledger.application.access import Caller, KeyRefused, Keyring
from ledger.domain.errors import InvalidInput, LedgerError, Unavailable

if TYPE_CHECKING:
    from adapters.http.stream.endpoint import Stream

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]

API_VERSION = "2026-11-27"
"""The only value of ``Tallybook-Version`` so far."""
PUBLIC_PATHS = frozenset(
    {"/healthz", "/readyz", "/openapi.json", "/asyncapi.json", "/docs", "/docs/stream"}
)
BATCH_PATHS = frozenset(
    {
        "/v2/events",
        "/v2/normalize",
        "/v1/usage",
    }
)
"""Paths whose bodies may have `MAX_BATCH_BYTES`."""
BATCH_PREFIX = "/compat/"
"""Begin of further ones."""
MAX_REQUEST_ID_CHARS = 128
GATE = "tallybook.gate"
"""Name in the ASGI scope of what is no request under which the gate is: a WebSocket passes it
unseen, and checks its key there itself."""

_CONTROL = re.compile(rb"%(?:[01][0-9A-Fa-f]|7[Ff])")
"""A control character of ASCII, percent-encoded."""
_log = logging.getLogger(__name__)


class Observer(Protocol):
    """Counts and logs requests."""

    def finished(self, exchange: Exchange, *, seconds: float, error: BaseException | None) -> None:
        """Take note of a request that was answered.

        Args:
            exchange: with route and status.
            seconds: from its headers to the end of its answer.
            error: what made it fail, if it was no error of the client's.
        """
        ...


class Gate:
    """Stands before an ASGI application.

    Args:
        app: gets requests that passed, with an `Exchange` in ``scope["tallybook"]``.
        keyring: knows the keys.
        observer: counts and logs.
        bodies: reads bodies.
        clock: monotonic seconds.
        public: paths that need no key.

    Attributes:
        rates: of the keys, in this process.
        streams: the sessions over WebSocket behind it; None where there are none.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        *,
        keyring: Keyring,
        observer: Observer,
        bodies: Bodies | None = None,
        clock: Callable[[], float] = time.monotonic,
        streams: Stream | None = None,
        public: Set[str] = PUBLIC_PATHS,
    ) -> None:
        self._app = app
        self.streams = streams
        self._keyring = keyring
        self._observer = observer
        self._public = public
        self._bodies = bodies or Bodies()
        self._clock = clock
        self.rates = Rates(clock)
        # Unique over processes and cheap: a random stem and a count.
        self._stem = secrets.token_hex(6)
        self._count = count(1)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Serve one connection of the ASGI server."""
        if scope["type"] != "http":
            scope[GATE] = self
            if scope["type"] == "websocket":
                REQUEST_ID.set(self._request_id(dict(scope["headers"])))
            await self._app(scope, receive, send)
            return
        start_s = self._clock()
        headers = dict(scope["headers"])
        exchange = Exchange(
            scope["method"], headers, scope["query_string"], self._request_id(headers)
        )
        REQUEST_ID.set(exchange.request_id)
        scope[KEY] = exchange
        answering = _Answering(exchange, send)
        failure: BaseException | None = None
        body = b""
        try:
            path = scope["path"]
            _check_query(exchange.query_string)
            if path not in self._public:
                client = scope.get("client")
                exchange.address = client[0] if client else ""
                # Nearly every key is known: no detour by a coroutine for it.
                caller = self._known(headers.get(b"authorization"), exchange.address)
                if isinstance(caller, str):
                    caller = await self._asked(caller, exchange.address)
                self._admit(exchange, caller, headers)
            if exchange.method not in ("GET", "HEAD"):
                large = path in BATCH_PATHS or path.startswith(BATCH_PREFIX)
                limit = MAX_BATCH_BYTES if large else MAX_BODY_BYTES
                whole = scope.get(WHOLE)
                came = None if whole is None else whole.body()
                if came is not None and b"content-encoding" not in headers:
                    body = exchange.body = self._bodies.take(came, headers, limit)
                else:
                    body = exchange.body = await self._bodies.read(receive, headers, limit, came)
            await self._app(scope, _Replay(body, receive), answering)
        except ClientGone:
            exchange.status = 499
        except Exception as error:
            # What a client caused is no failure of the server's.
            failure = None if isinstance(error, LedgerError) else error
            if isinstance(error, Unavailable):
                failure = error
                # It says itself what is away; where it was noticed tells nobody more.
                _log.error("request %s failed: %s", exchange.request_id, error)
            elif failure is not None:
                _log.error("request %s failed", exchange.request_id, exc_info=failure)
            await answering.fail(error)
        finally:
            if body:
                self._bodies.release(body)
            seconds = self._clock() - start_s
            self._observer.finished(exchange, seconds=seconds, error=failure)
            if exchange.caller is not None:
                self._keyring.used(
                    exchange.caller, route=exchange.route or "-", status=exchange.status
                )

    def _request_id(self, headers: Mapping[bytes, bytes]) -> str:
        given = headers.get(b"x-request-id")
        if given is not None and len(given) <= MAX_REQUEST_ID_CHARS:
            text = given.decode("latin-1")
            if text and text.isascii() and text.isprintable():
                return text
        return f"{self._stem}{next(self._count):08x}"

    def _admit(self, exchange: Exchange, caller: Caller, headers: Mapping[bytes, bytes]) -> None:
        exchange.caller = caller
        if caller.per_second:
            exchange.extra += self.rates.take(caller)
        version = headers.get(b"tallybook-version")
        if version is not None and version.decode("latin-1") != API_VERSION:
            raise HttpProblem(
                f"there is no such version; leave the header out, or send {API_VERSION}",
                code="unknown_version",
            )

    def used(self, caller: Caller, *, route: str, status: int) -> None:
        """Count a use of a key."""
        self._keyring.used(caller, route=route, status=status)

    async def caller(self, authorization: bytes | None, address: str) -> Caller:
        """Return who calls.

        Args:
            authorization: value of the header.
            address: of the client.

        Raises:
            KeyRefused: nobody who may.
            Unavailable: that cannot be found out now.
        """
        caller = self._known(authorization, address)
        return await self._asked(caller, address) if isinstance(caller, str) else caller

    def _known(self, authorization: bytes | None, address: str) -> Caller | str:
        """Return who calls, or the token of whom only the database may know.

        Raises:
            KeyRefused: nobody who may.
        """
        if authorization is None:
            raise KeyRefused("send a key: Authorization: Bearer tbk_…", code="missing_key")
        kind, _, token = authorization.decode("latin-1").partition(" ")
        if (kind != "Bearer" and kind.lower() != "bearer") or not token:
            raise KeyRefused("send the key as Authorization: Bearer tbk_…", code="invalid_key")
        return self._keyring.cached(token, address) or token

    async def _asked(self, token: str, address: str) -> Caller:
        return await asyncio.to_thread(self._keyring.authenticate, token, address)


def _check_query(text: bytes) -> None:
    """Check that no parameter holds control characters, which no id has and PostgreSQL no NUL of.

    Raises:
        InvalidInput: ``invalid_query``.
    """
    if b"%" in text and _CONTROL.search(text):
        raise InvalidInput("a query parameter holds control characters", code="invalid_query")


class _Replay:
    """Gives an application the body that was read, then whatever the client does next."""

    __slots__ = ("_body", "_given", "_receive")

    def __init__(self, body: bytes, receive: Any) -> None:
        self._body = body
        self._given = False
        self._receive = receive

    async def __call__(self) -> Message:
        if self._given:
            message: Message = await self._receive()
            return message
        self._given = True
        return {"type": "http.request", "body": self._body, "more_body": False}


class _Answering:
    """Adds what every answer carries, and answers with a problem where nothing was sent yet."""

    __slots__ = ("_exchange", "_send")

    def __init__(self, exchange: Exchange, send: Any) -> None:
        self._exchange = exchange
        self._send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            exchange = self._exchange
            exchange.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *exchange.every_answer()]
        await self._send(message)

    async def fail(self, error: Exception) -> None:
        if self._exchange.status:
            # The answer has begun; all that can be done is to cut it short.
            return
        status, body = problem_of(error, self._exchange.request_id)
        headers = [
            (b"content-type", CONTENT_TYPE),
            (b"content-length", b"%d" % len(body)),
            *headers_of(error),
        ]
        if status == 429:
            self._exchange.extra = []
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})
