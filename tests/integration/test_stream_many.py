"""Many sessions on one process, and clients that never read, on real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import ExitStack, suppress

import pytest
from fakes.stream_process import stream_process
from fakes.stream_world import PATIENCE_S, stream_server, wait_for
from websockets.asyncio.client import connect
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from adapters.bootstrap import open_ledger
from adapters.http.stream.protocol import StreamProtocol
from adapters.http.stream.session import Code

MIB = 1024 * 1024
SESSIONS = 500
MICRO = 10**6
FRAMES = 6_000
"""More than the server answers before it waits for its client."""
SPEECH = {"provider": "deepgram", "model": "nova-3"}


class Silent:
    """A client that writes and does not read, with as little room as the system gives.

    Args:
        port: of the server.
        session: its id.
    """

    def __init__(self, port: int, session: str) -> None:
        self._protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}/v2/stream"))
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(("127.0.0.1", port))
        request = self._protocol.connect()
        request.headers["Authorization"] = "Bearer acme"
        self._protocol.send_request(request)
        self._flush()
        while self._protocol.state.name != "OPEN":
            self._protocol.receive_data(self.socket.recv(4096))
        self._protocol.events_received()
        self.say({"type": "hello", "session": session})
        self.socket.settimeout(0.05)

    def say(self, frame: object) -> None:
        """Send a frame."""
        self._protocol.send_text(json.dumps(frame).encode())
        self._flush()

    def chatter(self, count: int) -> None:
        """Send frames that are answered with errors, until nobody takes any more."""
        with suppress(TimeoutError, ConnectionError):
            for seq in range(1, count + 1):
                self.say({"type": "nonsense", "id": f"i-{seq}", "seq": seq})

    def read_close(self) -> int:
        """Read what is there after all, to the end; return the close code."""
        self.socket.settimeout(PATIENCE_S)
        with suppress(ConnectionError):
            while data := self.socket.recv(65536):
                self._protocol.receive_data(data)
                for event in self._protocol.events_received():
                    if isinstance(event, Frame) and event.opcode is Opcode.CLOSE:
                        return int.from_bytes(bytes(event.data)[:2], "big")
        return 1006

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            self.socket.sendall(data)


def test_a_client_that_never_reads_is_closed_and_others_are_not_delayed(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds 4413 behind what it left unread; meanwhile another session is acked."""
    monkeypatch.setattr(StreamProtocol, "goodbye_s", PATIENCE_S)
    with stream_server(database_url) as server:
        server.narrow()
        server.limit(stall_ms=200)
        with server.hello("other") as other:
            silent = Silent(server.port, "silent")
            silent.chatter(FRAMES)
            other.send(type="voice.segment", id="v-1", seq=1, direction="in", ms=10, **SPEECH)
            other.wait_ack(1)
            wait_for(lambda: len(server.streams) == 1, "the end of the silent client")
            other.send(type="voice.segment", id="v-2", seq=2, direction="in", ms=10, **SPEECH)
            other.wait_ack(2)
            assert silent.read_close() == Code.SLOW
            silent.socket.close()


def test_clients_that_never_read_leave_neither_memory_nor_sockets_behind(
    database_url: str,
) -> None:
    """Wave after wave of them, none of which goes away by itself."""
    with stream_process(database_url, "200", "0.2") as process, ExitStack() as silent:
        memory: list[int] = []
        for wave in range(3):
            came = [Silent(process.port, f"s-{wave}-{number}") for number in range(3)]
            for client in came:
                silent.enter_context(client.socket)
            assert process.connections == len(came)
            for client in came:
                client.chatter(FRAMES)
            wait_for(lambda: process.connections == 0, "the end of a wave")
            memory.append(process.memory)
        # The first wave loads what the process keeps.
        assert memory[-1] - memory[1] < 4 * MIB, [size // 1024 for size in memory]


def test_five_hundred_sessions_are_served_by_one_process(database_url: str) -> None:
    """All open at once; each frame of each is acked, recorded once, and the rest are not closed."""

    async def session(port: int, number: int, opened: asyncio.Barrier) -> list[str]:
        async with connect(
            f"ws://127.0.0.1:{port}/v2/stream",
            additional_headers={"Authorization": "Bearer acme"},
            compression=None,
            open_timeout=PATIENCE_S,
        ) as client:
            await client.send(json.dumps({"type": "hello", "session": f"s-{number}"}))
            kinds = [json.loads(await client.recv())["type"]]
            await opened.wait()
            for seq in (1, 2, 3):
                frame = {"type": "voice.segment", "id": f"v-{seq}", "seq": seq, **SPEECH}
                await client.send(json.dumps(frame | {"direction": "in", "ms": 1000}))
            while True:
                frame = json.loads(await client.recv())
                if frame["type"] == "ack" and frame["seq"] == 3:
                    break
            await opened.wait()
            return kinds

    async def all_sessions(port: int) -> list[list[str]]:
        opened = asyncio.Barrier(SESSIONS)
        return await asyncio.gather(*(session(port, n, opened) for n in range(SESSIONS)))

    with stream_process(database_url) as process:
        kinds = asyncio.run(all_sessions(process.port))
    assert kinds == [["hello"]] * SESSIONS
    with open_ledger(database_url) as tallybook:
        [balance] = tallybook.reads.balances("acme")
        assert balance.events == 3 * SESSIONS
        assert balance.quantities == {"audio.stt.seconds": 3 * SESSIONS * MICRO}
