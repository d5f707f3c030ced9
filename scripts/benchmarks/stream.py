"""Streams: many open sessions on one process, and how fast their frames are acked.

    scripts/bench stream                            # 500 sessions, about a minute
    scripts/bench stream --sessions 2000 --seconds 5

Clients (this process), server (one process, one worker) and PostgreSQL share the machine. Each
session is a WebSocket of its own on one of 200 tenants with budgets; its frames report whole calls,
four quantities each, which are rated and committed before they are acked.

Prints one JSON object:

    sessions               that were open at once
    opened_per_s           handshake, hello and its answer, 50 at a time
    kib_per_session        memory that the server's process took for them, before any frame
    paced                  a frame a second from every session:
      per_s, p50_ms, p99_ms   acks, from when each frame was due
      server_us            processor time of the server's process for each
    eager                  every session sends when its last frame is acked:
      per_s, p50_ms, p99_ms   acks, from when each frame was sent
      server_us            as above
    kib_per_session_after  as above, after all that
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import uvloop
from websockets.asyncio.client import ClientConnection, connect

from adapters.bootstrap import tune_process
from scripts.benchmarks._common import METERS, MODELS, database, say, server
from scripts.benchmarks.http import NAMES, Place, prepare, serving

OPENING = 50
"""Sessions that are opened at once."""
_PATIENCE_S = 60.0


class Session:
    """One open session.

    Args:
        place: the server.
        number: of the session.
    """

    def __init__(self, place: Place, number: int) -> None:
        self._place = place
        self._number = number
        self._seqs = count(1)
        self._socket: ClientConnection | None = None

    async def open(self, room: asyncio.Semaphore) -> None:
        """Connect and say hello."""
        async with room:
            self._socket = await connect(
                f"ws://127.0.0.1:{self._place.port}/v2/stream",
                additional_headers={"Authorization": f"Bearer {self._place.token}"},
                compression=None,
                open_timeout=_PATIENCE_S,
                ping_interval=None,
            )
            tenant = NAMES[self._number % len(NAMES)]
            hello = {"type": "hello", "session": f"s-{self._number}", "tenant": tenant}
            await self._socket.send(json.dumps(hello))
            await self._until("hello")

    async def close(self) -> None:
        """Leave."""
        if self._socket is not None:
            await self._socket.close()

    async def run(self, *, end_s: float, interval_s: float, found: list[float]) -> None:
        """Send frames until a time is over.

        Args:
            end_s: of `time.perf_counter`.
            interval_s: between frames; 0 sends when the last one is acked.
            found: gets the milliseconds of each.
        """
        # Spread over the first interval, as sessions that began at any time.
        due_s = time.perf_counter() + interval_s * (self._number % 100) / 100
        while True:
            now_s = time.perf_counter()
            if interval_s and due_s > now_s:
                await asyncio.sleep(due_s - now_s)
                now_s = due_s
            start_s = due_s if interval_s else now_s
            if start_s >= end_s:
                return
            await self._frame(next(self._seqs))
            found.append((time.perf_counter() - start_s) * 1000)
            due_s += interval_s

    async def _frame(self, seq: int) -> None:
        if self._socket is None:
            raise SystemExit("the session is not open")
        frame = {
            "type": "usage",
            "id": f"u-{seq}",
            "seq": seq,
            "call": f"c-{seq}",
            "provider": "openai",
            "model": MODELS[seq % len(MODELS)],
            "quantities": dict.fromkeys(METERS, 500),
        }
        await self._socket.send(json.dumps(frame))
        while (await self._until("ack"))["seq"] < seq:
            pass

    async def _until(self, kind: str) -> dict[str, Any]:
        if self._socket is None:
            raise SystemExit("the session is not open")
        while True:
            frame: dict[str, Any] = json.loads(await self._socket.recv())
            if frame["type"] == kind:
                return frame
            if frame["type"] not in ("heartbeat", "ack"):
                raise SystemExit(f"unexpected: {frame}")


def memory_kib(pid: int) -> int:
    """Return the KiB of memory that a process has."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def processor_us(pid: int) -> int:
    """Return the microseconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1_000_000 // os.sysconf("SC_CLK_TCK")


def summary(found: list[float], seconds: float, used_us: int) -> dict[str, float]:
    """Return a load's figures."""
    ordered = sorted(found)

    def percentile(percent: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))], 2)

    return {
        "per_s": round(len(found) / seconds),
        "p50_ms": percentile(50),
        "p99_ms": percentile(99),
        "server_us": round(used_us / len(found)),
    }


async def measure(place: Place, *, number: int, seconds: float) -> dict[str, Any]:
    """Open the sessions, run both loads, and return the figures."""
    room = asyncio.Semaphore(OPENING)
    first = Session(place, number)
    await first.open(room)
    await first.run(end_s=time.perf_counter() + 1, interval_s=0, found=[])
    before = memory_kib(place.pid)
    sessions = [Session(place, one) for one in range(number)]
    start_s = time.perf_counter()
    await asyncio.gather(*(session.open(room) for session in sessions))
    opened_s = time.perf_counter() - start_s
    figures: dict[str, Any] = {
        "sessions": number,
        "opened_per_s": round(number / opened_s),
        "kib_per_session": round((memory_kib(place.pid) - before) / number, 1),
    }
    say(f"{number} sessions open after {opened_s:.1f} s")
    for name, interval_s in (("paced", 1.0), ("eager", 0.0)):
        found: list[float] = []
        used_us = processor_us(place.pid)
        end_s = time.perf_counter() + seconds
        runs = (one.run(end_s=end_s, interval_s=interval_s, found=found) for one in sessions)
        await asyncio.gather(*runs)
        figures[name] = summary(found, seconds, processor_us(place.pid) - used_us)
        say(f"{name}: {figures[name]}")
    figures["kib_per_session_after"] = round((memory_kib(place.pid) - before) / number, 1)
    await asyncio.gather(*(session.close() for session in (first, *sessions)))
    return figures


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench stream")
    parser.add_argument("--sessions", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    tune_process()
    with (
        server() as url,
        database(url, "bench_stream") as place_url,
        serving(place_url, prepare(place_url)) as place,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        figures = runner.run(measure(place, number=options.sessions, seconds=options.seconds))
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
