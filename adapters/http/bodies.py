"""Reading request bodies: whole, within limits of size and time, decompressed within limits too."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from adapters.http.problems import HttpProblem

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

MAX_BODY_BYTES = 1024 * 1024
MAX_BATCH_BYTES = 16 * 1024 * 1024
"""Of bodies of events."""
MAX_UNPACKED_BYTES = 64 * 1024 * 1024
"""Of a body after ``Content-Encoding``."""
MAX_WAITING_BYTES = 256 * 1024 * 1024
"""Of all bodies that a process holds at once."""
BOM = b"\xef\xbb\xbf"
"""A byte order mark, which some programs put before every text they write."""
BODY_TIMEOUT_S = 30.0
_CHUNK = 1024 * 1024
_INLINE_BYTES = 256 * 1024
"""What is unpacked on the event loop; more goes to a thread."""


class ClientGone(Exception):
    """The client went away before its request was whole; there is nobody to answer."""


class _Watched:
    __slots__ = ("late", "since_s", "task")

    def __init__(self, task: asyncio.Task[Any], since_s: float) -> None:
        self.task = task
        self.since_s = since_s
        self.late = False


class Watch:
    """Cancels tasks that are inside for too long; one timer for all of them.

    Args:
        timeout_s: how long a task may be inside; it is found out up to a tenth later.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        # In order of entering, so that those who have waited longest come first.
        self._inside: dict[int, _Watched] = {}
        self._looking = False

    def enter(self) -> _Watched:
        """Take note that the current task is inside."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("only a task can be watched")
        watched = _Watched(task, loop.time())
        self._inside[id(watched)] = watched
        if not self._looking:
            self._looking = True
            loop.call_later(self.timeout_s / 10, self._look, loop)
        return watched

    def leave(self, watched: _Watched) -> None:
        """Take note that a task is outside again."""
        self._inside.pop(id(watched), None)

    @staticmethod
    def late(watched: _Watched) -> bool:
        """Tell whether a task's cancellation came from here; if so it is taken back."""
        if watched.late:
            watched.task.uncancel()
        return watched.late

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        before_s = loop.time() - self.timeout_s
        for watched in list(self._inside.values()):
            if watched.since_s > before_s:
                break
            if not watched.late:
                watched.late = True
                watched.task.cancel()
        self._looking = bool(self._inside)
        if self._looking:
            loop.call_later(self.timeout_s / 10, self._look, loop)


class Bodies:
    """Reads bodies; one a process.

    Args:
        timeout_s: for a whole body.
        max_waiting_bytes: of all bodies at once.
    """

    def __init__(
        self, *, timeout_s: float = BODY_TIMEOUT_S, max_waiting_bytes: int = MAX_WAITING_BYTES
    ) -> None:
        self._watch = Watch(timeout_s)
        self._max_waiting_bytes = max_waiting_bytes
        self.waiting_bytes = 0

    async def read(
        self,
        receive: Receive,
        headers: Mapping[bytes, bytes],
        limit: int,
        came: bytes | None = None,
    ) -> bytes:
        """Return a request's body.

        The caller gives the bytes back with `release` once the request is answered.

        Args:
            receive: of the ASGI server.
            headers: of the request.
            limit: most bytes as sent.
            came: the body as sent, where it is there already.

        Raises:
            HttpProblem: ``body_too_large``, ``request_timeout``, ``server_busy``,
                ``unsupported_media_type``, ``invalid_encoding``.
            ClientGone: there is nobody to answer.
        """
        if came is None:
            _check_length(headers, limit)
            body = await self._whole(receive, limit)
        else:
            body = self.take(came, headers, limit)
        try:
            encoding = headers.get(b"content-encoding")
            if encoding is None or encoding.lower() == b"identity":
                return body
            unpacked = await self._unpacked(body, encoding)
            self._take(len(unpacked))
        except BaseException:
            self.release(body)
            raise
        self.release(body)
        return unpacked

    def take(self, came: bytes, headers: Mapping[bytes, bytes], limit: int) -> bytes:
        """Return a body that is there already, as it was sent; else as `read`."""
        _check_length(headers, limit)
        if len(came) > limit:
            raise _too_large(limit)
        self._take(len(came))
        return came

    def release(self, body: bytes) -> None:
        """Give the bytes of an answered request back."""
        self.waiting_bytes -= len(body)

    def _take(self, size: int) -> None:
        if self.waiting_bytes + size > self._max_waiting_bytes:
            raise HttpProblem(
                "the server holds as many requests as it can; try again",
                code="server_busy",
                headers=((b"retry-after", b"1"),),
                close=True,
            )
        self.waiting_bytes += size

    async def _whole(self, receive: Receive, limit: int) -> bytes:
        """Return the body as sent; its bytes are taken as they come, and given back on failure."""
        parts: list[bytes] = []
        size = 0
        more = True
        # A timer of its own would cost a request more than reading it: one watches all of them.
        watched = self._watch.enter()
        try:
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    raise ClientGone
                part: bytes = message.get("body", b"")
                if size + len(part) > limit:
                    raise _too_large(limit)
                self._take(len(part))
                size += len(part)
                parts.append(part)
                more = message.get("more_body", False)
        except asyncio.CancelledError:
            self.waiting_bytes -= size
            if self._watch.late(watched):
                raise _timed_out(self._watch.timeout_s) from None
            raise
        except BaseException:
            self.waiting_bytes -= size
            raise
        finally:
            self._watch.leave(watched)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _unpacked(self, body: bytes, encoding: bytes) -> bytes:
        kind = encoding.strip().lower()
        if kind not in (b"gzip", b"x-gzip"):
            raise HttpProblem(
                "the only Content-Encoding that is understood is gzip",
                code="unsupported_media_type",
                headers=((b"accept-encoding", b"gzip"),),
            )
        if len(body) <= _INLINE_BYTES // 4:
            return unpack(body, MAX_UNPACKED_BYTES)
        return await asyncio.to_thread(unpack, body, MAX_UNPACKED_BYTES)


def unpack(body: bytes, limit: int) -> bytes:
    """Return what gzip packed, all of it, never more than ``limit`` bytes.

    Raises:
        HttpProblem: ``invalid_encoding``, ``body_too_large``.
    """
    parts: list[bytes] = []
    size = 0
    rest = body
    try:
        while rest:
            unpacker = zlib.decompressobj(wbits=31)
            while not unpacker.eof:
                part = unpacker.decompress(rest, _CHUNK)
                if not part and not unpacker.unconsumed_tail and not unpacker.eof:
                    raise zlib.error("it ends early")
                rest = unpacker.unconsumed_tail
                size += len(part)
                if size > limit:
                    raise _too_large(limit, "unpacked")
                parts.append(part)
            rest = unpacker.unused_data
    except zlib.error as error:
        raise HttpProblem(f"the body is no gzip: {error}", code="invalid_encoding") from None
    return b"".join(parts)


def _check_length(headers: Mapping[bytes, bytes], limit: int) -> None:
    """Check what a request says of its length, before any of it is kept."""
    length = headers.get(b"content-length")
    if length is not None and (not length.isdigit() or int(length) > limit):
        raise _too_large(limit)


def _too_large(limit: int, how: str = "sent") -> HttpProblem:
    return HttpProblem(
        f"the body has more than {limit} bytes as {how}; send it in parts",
        code="body_too_large",
        close=True,
    )


def _timed_out(seconds: float) -> HttpProblem:
    return HttpProblem(
        f"the request was not complete after {seconds:g} s",
        code="request_timeout",
        close=True,
    )
