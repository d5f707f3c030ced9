"""A load generator: keep-alive connections that each send a request when the last is answered.

It does as little as it can, because it shares the processors with what it measures: requests are
bytes made beforehand, answers are cut by their Content-Length and only their status is looked at.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

Requests = Callable[[int], Iterator[bytes]]
"""Gives a connection's requests, by the number of the connection."""


class Load(NamedTuple):
    """What one measurement found.

    Attributes:
        per_s: answers a second.
        latencies_ms: of every answer, in order of arrival.
        statuses: how many answers had which status.
    """

    per_s: float
    latencies_ms: list[float]
    statuses: dict[int, int]

    def percentile_ms(self, percent: float) -> float:
        """Return a percentile of the latencies."""
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


class _Connection(asyncio.Protocol):
    """One connection; closed-loop, or paced where it is given an interval."""

    def __init__(self, requests: Iterator[bytes], run: _Run, interval_s: float) -> None:
        self._requests = requests
        self._run = run
        self._interval_s = interval_s
        self._due_s = 0.0
        self._sent_s = 0.0
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request; a paced one when its turn is there."""
        self._transport = transport  # type: ignore[assignment] # TCP has a whole transport
        if self._interval_s:
            return
        self._send()

    def pace(self, due_s: float) -> None:
        """Send the first request at a time, and the others after that."""
        self._due_s = due_s
        wait_s = due_s - time.perf_counter()
        asyncio.get_running_loop().call_later(max(wait_s, 0), self._send)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the run that this connection is over."""
        self._run.ended(error)

    def data_received(self, data: bytes) -> None:
        """Take an answer, and go on when it is whole."""
        self._buffer = self._buffer + data if self._buffer else data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._buffer.find(b"content-length: ", 0, head)
        length = int(self._buffer[at + 16 : self._buffer.find(b"\r", at)])
        if len(self._buffer) < head + 4 + length:
            return
        now_s = time.perf_counter()
        # Paced requests are timed from when they were due: waiting in line counts too.
        start_s = self._due_s if self._interval_s else self._sent_s
        self._run.answered(int(self._buffer[9:12]), (now_s - start_s) * 1000, now_s)
        self._buffer = b""
        if self._run.over(now_s):
            if self._transport is not None:
                self._transport.close()
            return
        self._due_s += self._interval_s
        wait_s = self._due_s - now_s
        if self._interval_s and wait_s > 0:
            asyncio.get_running_loop().call_later(wait_s, self._send)
        else:
            self._send()

    def _send(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._sent_s = time.perf_counter()
        self._transport.write(next(self._requests))


class _Run:
    def __init__(self, connections: int, warm_up_s: float, seconds: float) -> None:
        self._left = connections
        self.start_s = time.perf_counter() + warm_up_s
        self.end_s = self.start_s + seconds
        self.latencies_ms: list[float] = []
        self.statuses: dict[int, int] = {}
        self.error: Exception | None = None
        self.done = asyncio.Event()

    def answered(self, status: int, ms: float, now_s: float) -> None:
        if self.start_s <= now_s < self.end_s:
            self.latencies_ms.append(ms)
            self.statuses[status] = self.statuses.get(status, 0) + 1

    def over(self, now_s: float) -> bool:
        return now_s >= self.end_s

    def ended(self, error: Exception | None) -> None:
        self._left -= 1
        self.error = self.error or error
        if not self._left:
            self.done.set()


async def load(
    port: int,
    requests: Requests,
    *,
    connections: int,
    seconds: float,
    warm_up_s: float = 0.5,
    rate_per_s: float = 0.0,
) -> Load:
    """Send requests to a server on 127.0.0.1 for a while.

    Args:
        port: of the server.
        requests: of each connection; endless.
        connections: that are open at once.
        seconds: that are measured.
        warm_up_s: before them, not counted.
        rate_per_s: of all connections together; 0 sends as fast as answers come.
    """
    loop = asyncio.get_running_loop()
    run = _Run(connections, warm_up_s, seconds)
    interval_s = connections / rate_per_s if rate_per_s else 0.0
    made = [_Connection(requests(number), run, interval_s) for number in range(connections)]
    for one in made:
        await loop.create_connection(lambda one=one: one, "127.0.0.1", port)  # type: ignore[misc] # the default binds it
    if interval_s:
        begin_s = time.perf_counter()
        for number, one in enumerate(made):
            one.pace(begin_s + number * interval_s / connections)
    async with asyncio.timeout(warm_up_s + seconds + 60):
        await run.done.wait()
    if run.error is not None:
        raise run.error
    return Load(len(run.latencies_ms) / seconds, run.latencies_ms, run.statuses)


def request(method: str, path: str, body: bytes, *, token: str, kind: str) -> bytes:
    """Return a request as bytes."""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
