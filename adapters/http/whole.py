"""Requests that are there entirely, and answers in one piece: past the detours of ASGI.

ASGI reads a body by messages and answers in two, each with checks of its own, and a server writes
each to the socket by itself. Where the body came with the head, and the answer is there at once,
both can be had in one step. What does not fit is read and answered by ASGI's messages, so an
application works on any server; only ours offers this, in the scope under `WHOLE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import ref

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

WHOLE = "tallybook.whole"
"""Name in an ASGI scope under which the `Whole` of a request is."""


class Whole:
    """One request and its answer; of no use any more once uvicorn is done with the request.

    Args:
        cycle: uvicorn's part for the request.
    """

    __slots__ = ("_cycle",)

    def __init__(self, cycle: RequestResponseCycle) -> None:
        # The cycle has the scope that this is in. Were it kept here, every request would leave a
        # circle of a dozen objects to the collector, which stops the process to take them away.
        self._cycle = ref(cycle)

    def body(self) -> bytes | None:
        """Take the body, if it is all there; None where it has to be received."""
        cycle = self._cycle()
        if cycle is None or cycle.more_body or cycle.disconnected or cycle.waiting_for_100_continue:
            return None
        cycle.flow.resume_reading()
        cycle.message_event.clear()
        body = bytes(cycle.body)
        cycle.body = bytearray()
        return body

    def answer(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        """Answer, unless only messages can do it.

        Args:
            status: HTTP status.
            headers: all but those of the server, lower case; ``content-length`` among them if
                there is a body.
            body: whole.

        Returns:
            Whether it was answered.

        Raises:
            ValueError: a header would begin another one; nothing was sent.
        """
        cycle = self._cycle()
        if (
            cycle is None
            or cycle.response_started
            or cycle.disconnected
            or cycle.flow.write_paused
            or cycle.scope["method"] == "HEAD"
        ):
            return False
        every = (*cycle.default_headers, *headers)
        head = b"".join([b"%b: %b\r\n" % pair for pair in every])
        if head.count(b"\n") != len(every) or head.count(b"\r") != len(every):
            raise ValueError("a header of the answer holds an end of a line")
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        last = b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"
        cycle.transport.write(b"".join((STATUS_LINE[status], head, last, body)))
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
        return True
