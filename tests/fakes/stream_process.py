"""A server of streams as a process of its own, to be killed.

``python -m fakes.stream_process URL`` prints its port and serves until its input ends.
"""

from __future__ import annotations

import sys

from fakes.stream_world import stream_server


def main(url: str) -> None:
    """Serve streams over a database."""
    with stream_server(url) as server:
        print(server.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
