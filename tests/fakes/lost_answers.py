"""Runs commands over HTTP and dies with them: run as a program.

    python -m fakes.lost_answers URL < commands.json

Each command is ``[path, document, Idempotency-Key]``. It is stopped when it is done and its answer
not yet kept; where its key begins with ``early``, when its key is claimed and it is not begun. When
all of them stand there the process kills itself.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Semaphore
from typing import Any

from fakes.http_world import http_world

from adapters.postgres.repeats import PostgresRepeats

WAIT_S = 60
EARLY = "early"


def main(url: str) -> None:
    """Run the commands that standard input names, up to where they are killed."""
    commands = json.load(sys.stdin)
    there = Semaphore(0)

    def stop() -> None:
        there.release()
        time.sleep(WAIT_S)

    begin, end = PostgresRepeats._begin, PostgresRepeats._end

    def dangerous_begin(
        self: PostgresRepeats, connection: Any, asked: dict[str, Any], *, again: bool
    ) -> Any:
        attempt = begin(self, connection, asked, again=again)
        if asked["key"].startswith(EARLY):
            stop()
        return attempt

    def dangerous_end(self: PostgresRepeats, *arguments: Any, refused: bool) -> None:
        if not refused:
            stop()
        end(self, *arguments, refused=refused)

    PostgresRepeats._begin = dangerous_begin  # type: ignore[method-assign] # the point of it
    PostgresRepeats._end = dangerous_end  # type: ignore[assignment,method-assign] # likewise

    with http_world(url) as api, ThreadPoolExecutor(len(commands)) as pool:

        def run(command: tuple[str, Any, str]) -> str:
            path, document, once = command
            headers = {"Idempotency-Key": once}
            text: str = api.post(path, document, key="platform", headers=headers).text
            return text

        # One after the other, so that none is refused because of another.
        for command in commands:
            answer = pool.submit(run, command)
            while not there.acquire(timeout=0.1):
                if answer.done():
                    raise SystemExit(f"{command}: {answer.result()}")
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])
