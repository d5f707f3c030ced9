"""kill -9 of a server in the middle of a session."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

from fakes.stream_world import Client
from websockets.sync.client import connect

from adapters.bootstrap import open_ledger
from ledger.application.verify import verify

TESTS = Path(__file__).resolve().parents[1]
FRAMES = 120
KILLS = 2
SEGMENT = {"type": "voice.segment", "direction": "in", "provider": "deepgram", "model": "nova-3"}


class Server:
    """A process that serves streams."""

    def __init__(self, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fakes.stream_process", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def connect(self) -> Client:
        """Open a WebSocket."""
        url = f"ws://127.0.0.1:{self.port}/v2/stream"
        headers = {"Authorization": "Bearer acme"}
        return Client(connect(url, additional_headers=headers, compression=None))

    def kill(self) -> None:
        """End it without a word."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


def test_killed_servers_lose_nothing_that_was_acked_and_count_nothing_twice(
    database_url: str,
) -> None:
    """Segments stream in while one server after the other dies; the sum is exact."""
    chance = random.Random(20_261_127)
    with open_ledger(database_url) as tallybook:
        tallybook.tenants.open("acme")
        epoch = acked = 0
        for round in range(KILLS + 1):
            server = Server(database_url)
            try:
                client = server.connect()
                if not epoch:
                    client.send(type="hello", session="s-1")
                else:
                    client.send(type="resume", session="s-1", epoch=epoch, last_seq=acked)
                client.opened = client.receive("hello", "resumed")
                epoch = client.epoch
                last = FRAMES if round == KILLS else acked + chance.randrange(30, 50)
                for seq in range(client.opened["from"], min(last, FRAMES) + 1):
                    client.send(**SEGMENT, id=f"v-{seq}", seq=seq, ms=1000 + seq)
                if round == KILLS:
                    client.wait_ack(FRAMES)
                else:
                    # Somewhere in the middle of the answers.
                    client.wait_ack(acked + chance.randrange(1, 25))
            finally:
                server.kill()
            acked = client.acked
            heard = sum(Decimal(1000 + seq) / 1000 for seq in range(1, acked + 1))
            assert seconds(tallybook) >= heard
        assert seconds(tallybook) == sum(Decimal(1000 + n) / 1000 for n in range(1, FRAMES + 1))
        [balance] = tallybook.reads.balances("acme")
        assert balance.events == FRAMES
        with tallybook.audit() as view:
            report = verify(view=view, deep=True)
        assert report.clean, report.differences


def seconds(tallybook: object) -> Decimal:
    """Return what was heard so far."""
    balances = tallybook.reads.balances("acme")  # type: ignore[attr-defined] # a Tallybook
    return sum(
        (Decimal(one.quantities.get("audio.stt.seconds", 0)) / 10**6 for one in balances),
        Decimal(0),
    )


def test_a_process_that_ends_by_itself_leaves_nothing_behind(database_url: str) -> None:
    """Its listener's connection ends with it."""
    server = Server(database_url)
    try:
        client = server.connect()
        client.send(type="hello", session="s-1")
        client.receive("hello")
        assert server.process.stdin is not None
        server.process.stdin.close()
        assert server.process.wait(30) == 0
    finally:
        server.process.kill()
        server.process.wait()
        assert server.process.stdout is not None
        server.process.stdout.close()
