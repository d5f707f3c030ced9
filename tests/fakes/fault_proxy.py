"""A proxy that does to a connection what networks do, on demand.

It reads one request at a time, so it knows where a request and its answer end.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

Fault = Literal["none", "refuse", "cut_request", "cut_answer", "slow", "half_answer"]
FAULTS: tuple[Fault, ...] = ("refuse", "cut_request", "cut_answer", "slow", "half_answer")
"""``refuse`` closes at once; ``cut_request`` in mid-request, so nothing arrives; ``cut_answer``
after the server has answered, so it is done and nobody knows; ``half_answer`` in the middle of the
answer; ``slow`` answers after a delay."""
SLOW_S = 0.3


class FaultProxy:
    """Stands before a server on 127.0.0.1, in a thread of its own.

    Args:
        upstream: port of the server.

    Attributes:
        port: of the proxy.
        plan: what happens to the next requests, in order; after them nothing does.
        done: what happened.
    """

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.plan: list[Fault] = []
        self.done: list[Fault] = []
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._ended = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._handle, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._ended.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                while await self._one(reader, writer):
                    pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Carry one request; return whether the connection goes on."""
        head = await reader.readuntil(b"\r\n\r\n")
        fault: Fault = self.plan.pop(0) if self.plan else "none"
        self.done.append(fault)
        if fault == "refuse":
            return False
        body = await reader.readexactly(_length(head))
        to_server = await asyncio.open_connection("127.0.0.1", self.upstream)
        try:
            if fault == "cut_request":
                to_server[1].write(head + body[: len(body) // 2])
                await to_server[1].drain()
                return False
            to_server[1].write(head + body)
            answer = await to_server[0].readuntil(b"\r\n\r\n")
            answer += await to_server[0].readexactly(_length(answer))
        finally:
            to_server[1].close()
        if fault == "cut_answer":
            return False
        if fault == "half_answer":
            writer.write(answer[: len(answer) - 10])
            await writer.drain()
            return False
        if fault == "slow":
            await asyncio.sleep(SLOW_S)
        writer.write(answer)
        await writer.drain()
        return True


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


@contextmanager
def fault_proxy(upstream: int) -> Iterator[FaultProxy]:
    """Run a proxy while a test needs it."""
    proxy = FaultProxy(upstream)
    try:
        yield proxy
    finally:
        proxy.stop()
