"""A server as a user runs it: ``tallybook up`` in a process of its own, and clients that count."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120
"""Longest wait for anything; machines are slow at times."""


class ServerProcess:
    """A running ``tallybook up``.

    Args:
        url: of the database; None for the embedded one of ``home``.
        options: of the command.
        home: TALLYBOOK_HOME of the process.

    Attributes:
        process: its process.
        ready: what it printed when it answered.
    """

    def __init__(self, url: str | None, *options: str, home: Path | None = None) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", "adapters.bootstrap", "up", "--port", "0", "--json", *options],
            env=self.environment(url, home),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.ready: dict[str, Any] = {}

    @staticmethod
    def environment(url: str | None, home: Path | None = None) -> dict[str, str]:
        """Return the environment of a server's process."""
        made = {**os.environ, "COLUMNS": "200"}
        made.pop("TALLYBOOK_DATABASE_URL", None)
        if url is not None:
            made["TALLYBOOK_DATABASE_URL"] = url
        if home is not None:
            made["TALLYBOOK_HOME"] = str(home)
        return made

    def wait_ready(self) -> None:
        """Wait until it answers."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"it did not start: {self.log()}"
        self.ready = json.loads(line)

    @property
    def port(self) -> int:
        """Return its port."""
        return int(self.ready["port"])

    def log(self) -> str:
        """Return what it wrote to standard error so far."""
        self._log.flush()
        return os.pread(self._log.fileno(), 10_000_000, 0).decode()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end and return the exit code."""
        return self.process.wait(PATIENCE_S)

    def stop(self) -> int:
        """End it as an operator does, and return the exit code."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait()

    def close(self) -> None:
        """Leave nothing of it."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._log.close()

    def sequencer(self) -> int:
        """Return the process id of the last sequencer that came up."""
        return self.sequencers()[-1]

    def sequencers(self) -> list[int]:
        """Return the process ids of all sequencers that came up, in order."""
        return [int(found) for found in re.findall(r"process (\d+) commits", self.log())]

    def workers(self) -> list[int]:
        """Return the process ids of its workers."""
        beside = set(self.sequencers())
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
                command = (folder / "cmdline").read_bytes()
                if parent == self.process.pid and b"spawn_main" in command:
                    found.append(int(folder.name))
        return sorted(set(found) - beside)

    def call(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        token: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """Call it once on a connection of its own; return status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            return _call(connection, method, path, document, token, headers or {})
        finally:
            connection.close()


def _call(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    document: Any,
    token: str | None,
    headers: dict[str, str],
) -> tuple[int, dict[str, str], bytes]:
    sent = dict(headers)
    if token is not None:
        sent["Authorization"] = f"Bearer {token}"
    body = None
    if document is not None:
        sent["Content-Type"] = "application/json"
        body = json.dumps(document)
    connection.request(method, path, body, sent)
    answer = connection.getresponse()
    return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()


@contextlib.contextmanager
def running(url: str | None, *options: str, home: Path | None = None) -> Iterator[ServerProcess]:
    """Run a server until the block is left."""
    server = ServerProcess(url, *options, home=home)
    try:
        server.wait_ready()
        yield server
    finally:
        server.close()


class Gunner(threading.Thread):
    """A client that asks for a hold, posts an event, and so on, until nobody answers any more.

    Args:
        server: whom it asks.
        token: of a key of the platform.
        name: begins its holds' and events' ids.
        keep: whether it keeps its connection.
        again: whether a connection that was cut is no end, but sent again, as clients do.

    Attributes:
        answered: ids of holds that were created, and of events that were accepted, in order.
        others: other answers than that.
        lost: what cut a request off that had been sent.
    """

    def __init__(
        self, server: ServerProcess, token: str, name: str, *, keep: bool, again: bool = False
    ) -> None:
        super().__init__(daemon=True)
        self._address = urlsplit(str(server.ready["url"]))
        self._token = token
        self._prefix = name
        self._keep = keep
        self._again = again
        self._ended = threading.Event()
        self.answered: list[str] = []
        self.others: list[tuple[int, bytes]] = []
        self.lost: list[BaseException] = []

    def finish(self) -> None:
        """Stop after the request at hand."""
        self._ended.set()
        self.join(PATIENCE_S)
        assert not self.is_alive()

    def run(self) -> None:
        """Ask, until the server refuses a connection."""
        connection: http.client.HTTPConnection | None = None
        number = 0
        while not self._ended.is_set():
            id = f"{'event' if number % 2 else 'hold'}-{self._prefix}-{number}"
            try:
                connection = connection or self._connect()
            except ConnectionRefusedError:
                return
            try:
                keep = self._ask(connection, id)
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(error)
                connection.close()
                connection = None
                if not self._again:
                    return
                continue
            number += 1
            if not keep:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        made = http.client.HTTPConnection(
            self._address.hostname or "", self._address.port, timeout=PATIENCE_S
        )
        made.connect()
        return made

    def _ask(self, connection: http.client.HTTPConnection, id: str) -> bool:
        if id.startswith("hold"):
            path, document = "/v2/holds", {"hold": id, "tenant": "acme", "amount": "0.000001"}
        else:
            path, document = "/v2/events", event(id)
        status, headers, body = _call(connection, "POST", path, document, self._token, {})
        if status == 200 and json.loads(body)["status"] in GOOD:
            self.answered.append(id)
        else:
            self.others.append((status, body))
            self._ended.set()
        return self._keep and headers.get("connection") != "close"


GOOD = ("created", "exists", "accepted", "duplicate")
"""Statuses of holds and events that are in the ledger."""


def event(id: str) -> dict[str, Any]:
    """Return a usage event of acme's."""
    return {
        "specversion": "1.0",
        "type": "tallybook.usage.v2",
        "source": "gunner",
        "id": id,
        "subject": "acme",
        "time": "2026-11-20T12:00:00Z",
        "data": {"provider": "openai", "model": "gpt-4o", "quantities": {"tokens.input": "10"}},
    }


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)
