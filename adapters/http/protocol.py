"""HTTP/1.1 within limits, under the ASGI application: before anything is parsed or kept.

uvicorn's protocol knows no limit of a head's size or time, closes a connection under a client that
still sends, and cuts off whoever has closed only their half. Here

- a request line with its headers has a size, a count and a time, and so has what frames a body;
- what is refused is answered with a problem document, in its turn, and the client is let finish
  sending, so that it reads the answer instead of a reset;
- a client that does not read its answer, or that keeps a connection open without a request, is
  given up after a while;
- while the process drains, whoever has a connection is answered once more and told to close it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from adapters.http.lifecycle import Lifecycle
from adapters.http.problems import CONTENT_TYPE, STATUS_BY_CODE, problem
from adapters.http.whole import WHOLE, Whole

DRAIN_IDLE_S = 1.0
"""How long an idle connection stays open once the process drains: a request may be under way."""
_FRAMING_BYTES = 64 * 1024
"""What frames a body (sizes of chunks, trailers) may have this many bytes, and eight times as many
as the body itself."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Of one connection, and of how many there are.

    Attributes:
        head_bytes: of a request line with its headers.
        headers: how many of them.
        head_timeout_s: for a head, from its first byte or, of the first one, from the connection.
        idle_timeout_s: between two requests.
        write_timeout_s: for a client to take an answer that waits to be sent.
        linger_s: for a client to read the last answer and close.
        linger_bytes: that are read and thrown away meanwhile.
        connections: at once, in one process.
    """

    head_bytes: int = 32 * 1024
    headers: int = 128
    head_timeout_s: float = 10.0
    idle_timeout_s: float = 75.0
    write_timeout_s: float = 30.0
    linger_s: float = 2.0
    linger_bytes: int = 32 * 1024 * 1024
    connections: int = 2000


class _Refused(Exception):
    """Ends the parser; the reason is kept by the protocol."""


class _Wire:
    """A transport whose `close` is the protocol's: uvicorn's parts close it where they are done."""

    __slots__ = ("_transport", "close", "get_extra_info", "is_closing", "write")

    def __init__(self, transport: asyncio.Transport, protocol: Protocol) -> None:
        self._transport = transport
        self.write = transport.write
        self.get_extra_info = transport.get_extra_info
        self.close = protocol.finish
        self.is_closing = protocol.is_finishing


class Protocol(HttpToolsProtocol):
    """One connection.

    Args:
        limits: see `Limits`.
        lifecycle: of the process.
        refused: told the code of every request that is refused here.
        **members: of uvicorn's protocol.

    Attributes:
        wire: the connection itself.
    """

    def __init__(
        self,
        *,
        limits: Limits,
        lifecycle: Lifecycle,
        refused: Callable[[str], None],
        **members: Any,
    ) -> None:
        super().__init__(**members)
        self._limits = limits
        self._lifecycle = lifecycle
        self._tell_refused = refused
        self.wire: asyncio.Transport = None  # type: ignore[assignment] # comes with the connection
        self.timeout_keep_alive = limits.idle_timeout_s  # type: ignore[assignment] # a timer's time
        self._superfluous = False
        self._asks_upgrade = False
        self._in_head = False
        self._head_size = 0
        self._head_raw = 0
        self._header_count = 0
        self._body_size = 0
        self._framing = 0
        # Counts beginnings and ends of heads and bodies, to tell whose bytes a piece was.
        self._steps = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._end_timer: asyncio.TimerHandle | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._reason: tuple[str, str] | None = None
        self._last_words: bytes | None = None
        self._deaf = False
        self._finishing = False
        self._discarded = 0

    # -- the connection ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn does
        """Begin."""
        super().connection_made(transport)
        self.wire = transport
        self.transport = _Wire(transport, self)  # type: ignore[assignment] # as much of one as is used
        if len(self.connections) > 2 * self._limits.connections:
            # There are too many even to be told so.
            self._tell_refused("server_busy")
            transport.abort()
            return
        self._superfluous = len(self.connections) > self._limits.connections
        self._arm_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._finishing = True
        for timer in (self._head_timer, self._end_timer, self._idle_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._end_timer = self._idle_timer = self._write_timer = None
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override] # uvicorn's says nothing
        """Go on with what a client waits for that has closed its half."""
        cycle = self.cycle
        if self._finishing or cycle is None or cycle.response_complete or cycle.more_body:
            return False
        if not cycle.response_started:
            cycle.keep_alive = False
        return True

    def data_received(self, data: bytes) -> None:
        """Parse what came, within limits."""
        if self._deaf:
            self._discard(len(data))
            return
        self._unset_keepalive_if_required()
        steps, body_size = self._steps, self._body_size
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self._upgrade()
            else:
                self._pass_over_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            self.refuse(*(self._reason or ("invalid_request", "this is no HTTP/1.1")))
            return
        if steps == self._steps and self._too_much(len(data), self._body_size - body_size):
            return
        self._watch(stray=steps == self._steps)

    def _too_much(self, size: int, of_body: int) -> bool:
        """Count a piece that was all of one head or of one body; refuse what is past its limit."""
        if self._in_head:
            self._head_raw += size
            if self._head_raw <= self._limits.head_bytes:
                return False
        else:
            self._framing += size - of_body
            if self._framing <= _FRAMING_BYTES + 8 * self._body_size:
                return False
        self.refuse("headers_too_large", self._size_text())
        return True

    def _watch(self, *, stray: bool) -> None:
        """Let time run for a client that owes the rest of a head, or of a body nobody waits for.

        Args:
            stray: the last piece belonged to no request.
        """
        cycle = self.cycle
        if self._in_head or cycle is None or (cycle.response_complete and cycle.more_body):
            self._arm_head()
        elif not cycle.response_complete:
            self._disarm_head()
        elif stray:
            self._arm_head()
        else:
            self._disarm_head()
            self._arm_idle()

    def _upgrade(self) -> None:
        if self._lifecycle.draining:
            self.refuse("draining", "the server is ending; connect again")
        else:
            self._disarm_head()
            self.transport = self.wire
            self.handle_websocket_upgrade()

    def _pass_over_upgrade(self, rest: bytes) -> None:
        """Take a request that would rather change the protocol as if it had not said so.

        The parser ends a message where an upgrade is asked for, and its body would be lost. Java's
        client asks so with every first request.
        """
        head = [self.scope["method"].encode(), b" ", self.url, b" HTTP/1.1\r\n"]
        for name, value in self.headers:
            if name == b"connection" and b"close" in value.lower():
                head += [b"connection: close\r\n"]
            elif name not in (b"connection", b"upgrade", b"http2-settings"):
                head += [name, b": ", value, b"\r\n"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(b"".join((*head, b"\r\n", rest)))

    # -- the parser's callbacks ---------------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._steps += 1
        self._in_head = True
        self._asks_upgrade = False
        self._head_size = self._head_raw = self._header_count = 0
        self._body_size = self._framing = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer."""
        self._header_count += 1
        if self._header_count > self._limits.headers:
            self._stop("headers_too_large", f"more than {self._limits.headers} headers")
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """End a head; its request begins."""
        self._steps += 1
        self._in_head = False
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._asks_upgrade = True
            if not self._should_upgrade():
                self.scope["method"] = self.parser.get_method().decode()
                return
        if self._superfluous:
            self._stop("server_busy", "the server has as many connections as it can; try again")
        super().on_headers_complete()
        if self._asks_upgrade:
            return
        self.scope[WHOLE] = Whole(self.cycle)  # type: ignore[literal-required] # ours
        if self._lifecycle.draining:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._body_size += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._steps += 1
        if self._asks_upgrade:
            return
        super().on_message_complete()
        if self.cycle is not None:
            self.cycle.more_body = False

    def on_response_complete(self) -> None:
        """Go on with the next request, or say what is left to say."""
        super().on_response_complete()
        if self._finishing or not self.cycle.response_complete:
            return
        if self._last_words is not None:
            self._say_last()
        elif self._lifecycle.draining:
            self._end_soon()

    def _count(self, size: int) -> None:
        self._head_size += size
        if self._head_size > self._limits.head_bytes:
            self._stop("headers_too_large", self._size_text())

    def _stop(self, code: str, detail: str) -> None:
        self._reason = code, detail
        raise _Refused

    def _size_text(self) -> str:
        return f"the request line and headers have more than {self._limits.head_bytes} bytes"

    # -- refusing and closing -------------------------------------------------------------

    def refuse(self, code: str, detail: str) -> None:
        """Answer a problem when it is its turn, read no further request, and close.

        Args:
            code: of the problem.
            detail: for people.
        """
        self._deaf = True
        self._disarm_head()
        self._tell_refused(code)
        status = STATUS_BY_CODE.get(code, 400)
        request_id = secrets.token_hex(10)
        body = problem(status=status, code=code, detail=detail, request_id=request_id)
        headers = [
            *self.server_state.default_headers,
            (b"content-type", CONTENT_TYPE),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
        ]
        if status == 503:
            headers.append((b"retry-after", b"1"))
        head = b"".join(b"%b: %b\r\n" % pair for pair in headers)
        self._last_words = b"".join((STATUS_LINE[status], head, b"\r\n", body))
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self._say_last()
        elif cycle.more_body:
            # It is this request's own body that is broken: nobody needs to wait for the rest.
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.finish()
            elif not self.pipeline:
                self._say_last()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if cycle.disconnected:
            self._say_last()
        else:
            super()._start_asgi_task(cycle, app)

    def _say_last(self) -> None:
        if self._last_words is not None and not self.wire.is_closing():
            self.wire.write(self._last_words)
        self._last_words = None
        self.finish()

    def is_finishing(self) -> bool:
        """Return whether nothing will be answered on this connection any more."""
        return self._finishing or self.wire.is_closing()

    def finish(self) -> None:
        """Close, without a reset where the client may still be sending."""
        if self._finishing:
            return
        self._finishing = self._deaf = True
        self._unset_keepalive_if_required()
        self._disarm_head()
        wire = self.wire
        if wire.is_closing():
            return
        self._end_timer = self.loop.call_later(self._limits.linger_s, self._give_up, False)
        done = self.cycle is not None and not self.cycle.more_body and not self._in_head
        if done and not self._lifecycle.draining:
            wire.close()
            return
        self.flow.resume_reading()
        wire.write_eof()

    def _give_up(self, last: bool) -> None:
        if not last and self.wire.get_write_buffer_size():
            # It still takes its answer, slowly.
            self._end_timer = self.loop.call_later(
                self._limits.write_timeout_s, self._give_up, True
            )
            return
        self.wire.abort()

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > self._limits.linger_bytes:
            self.wire.abort()

    def shutdown(self) -> None:
        """Take part in the process's end: answer what is under way, then close."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self._end_soon()
        elif not cycle.response_started:
            # One whose answer has begun was not told that the connection ends; the next one is.
            cycle.keep_alive = False

    def _end_soon(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._idle_timer = self.loop.call_later(DRAIN_IDLE_S, self._end_idle)

    def _end_idle(self) -> None:
        self._idle_timer = None
        if not self._in_head and (self.cycle is None or self.cycle.response_complete):
            self.finish()

    # -- time -----------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """Let time run for a client that does not read."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self._limits.write_timeout_s, self.wire.abort)

    def resume_writing(self) -> None:
        """Go on: it reads."""
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        super().resume_writing()

    def _arm_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self._limits.head_timeout_s, self._late)

    def _disarm_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _arm_idle(self) -> None:
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def _late(self) -> None:
        self._head_timer = None
        if self.flow.read_paused:
            # It is this side that does not read.
            self._arm_head()
        elif self._in_head:
            seconds = self._limits.head_timeout_s
            self.refuse("request_timeout", f"the headers were not complete after {seconds:g} s")
        else:
            self.finish()
