"""The HTTP application on a real socket, in a process that a test may kill.

    python -m fakes.http_server DATABASE_URL PORT

Knows the tokens ``platform``, ``acme`` and ``globex``, as `fakes.http_world`. Prints its port when
it listens; ends with its standard input.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn


class RunningServer:
    """A server process.

    Args:
        url: of the database.
        port: to listen on; 0 takes a free one.
    """

    def __init__(self, url: str, port: int = 0) -> None:
        here = Path(__file__).parent.parent
        path = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fakes.http_server", url, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()

    def stop(self) -> None:
        """Let it end what it is doing."""
        if self._process.poll() is None:
            self._process.communicate("")


@contextmanager
def running_server(url: str, port: int = 0) -> Iterator[RunningServer]:
    """Run a server while a test needs it."""
    server = RunningServer(url, port)
    try:
        yield server
    finally:
        server.stop()


async def _serve(url: str, port: int) -> None:
    from fakes.http_world import FixedKeyring, Watching

    from adapters.bootstrap import http_app, open_ledger

    keyring = FixedKeyring()
    keyring.add("platform", tenant=None)
    keyring.add("acme", tenant="acme")
    keyring.add("globex", tenant="globex")
    with open_ledger(url) as tallybook:
        app = http_app(tallybook, keyring=keyring, observer=Watching())
        # Bound here, so that a server which comes back gets the port that it had.
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        config = uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
        server.should_exit = True
        await serving


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2])))
