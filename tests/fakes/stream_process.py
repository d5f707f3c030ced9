"""A server of streams as a process of its own, to be killed.

``python -m fakes.stream_process URL [STALL_MS GOODBYE_S]`` prints its port and serves until its
input ends; each line of input is answered with how many clients' connections it holds.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fakes.stream_world import stream_server

from adapters.http.stream.protocol import StreamProtocol


class StreamProcess:
    """A running process.

    Args:
        url: of the database.
        options: see the module.

    Attributes:
        port: on 127.0.0.1.
        pid: of the process.
    """

    def __init__(self, url: str, *options: str) -> None:
        here = Path(__file__).parent.parent
        path = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fakes.stream_process", url, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.pid = self._process.pid

    @property
    def memory(self) -> int:
        """Return the bytes of memory that it has."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def connections(self) -> int:
        """Return how many of its clients' connections it holds, by its own open files.

        The system's table of connections will not do: it is read in pieces, and while others
        open and close theirs a row can be missing.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def stop(self) -> None:
        """End it."""
        self._process.communicate("")


@contextmanager
def stream_process(url: str, *options: str) -> Iterator[StreamProcess]:
    """Run a server of streams while a test needs it."""
    process = StreamProcess(url, *options)
    try:
        yield process
    finally:
        process.stop()


def held(port: int) -> int:
    """Return how many connections at a port this process holds, closed by their peer or not."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        # The listing's own file is gone, and threads close some of theirs meanwhile.
        with suppress(OSError):
            if stat.S_ISSOCK(os.stat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as one:
                    listens = one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                    mine = one.family == socket.AF_INET and one.getsockname()[1] == port
                    found += mine and not listens
    return found


def main(url: str, stall_ms: str = "30000", goodbye_s: str = "5") -> None:
    """Serve streams over a database."""
    StreamProtocol.goodbye_s = float(goodbye_s)
    with stream_server(url) as server:
        server.limit(stall_ms=int(stall_ms))
        if stall_ms != "30000":
            server.narrow()
        print(server.port, flush=True)
        for _ in sys.stdin:
            print(held(server.port), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
