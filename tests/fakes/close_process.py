"""Closes billing periods in processes of its own, and kills them at a step: run as a program.

    python -m fakes.close_process URL

For each tenant ``kill-<n>`` a process closes and finalizes it and dies at its n-th step. Then two
processes at once close and finalize what is left of all tenants.
"""

from __future__ import annotations

import os
import signal
import sys

from fakes.billing_world import Clock, postgres_world

from adapters.postgres.billing import PostgresBilling

STEPS = 9
"""Steps of closing one period and finalizing its invoice: each write before and after it, and
what the close says in between."""


class Killer:
    """Kills its process at a step.

    Args:
        at: which one; 0 never does.
    """

    def __init__(self, at: int) -> None:
        self._at = at
        self._steps = 0

    def step(self, *_: object) -> None:
        """Count a step."""
        self._steps += 1
        if self._steps == self._at:
            os.kill(os.getpid(), signal.SIGKILL)


def close(url: str, *, tenant: str | None, at: int) -> None:
    """Close and finalize; die at a step."""
    killer = Killer(at)
    write = PostgresBilling._write

    def dangerous(self: PostgresBilling, cursor: object, saves: object) -> None:
        if saves:
            killer.step()
        write(self, cursor, saves)  # type: ignore[arg-type] # as it came
        if saves:
            # Before the commit, which follows.
            killer.step()

    PostgresBilling._write = dangerous  # type: ignore[assignment,method-assign] # the point of it
    clock = Clock()
    clock.set("2026-12-04")
    with postgres_world(clock, url) as world:
        world.periods.close(by="close", tenant=tenant, progress=killer.step)
        world.invoicing.finalize_all(by="close", tenant=tenant)


def _fork(url: str, *, tenant: str | None, at: int) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            close(url, tenant=tenant, at=at)
        except BaseException as error:
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
        os._exit(0)
    return pid


def main(url: str) -> None:
    """Kill, then finish; say how each process ended."""
    ends = []
    for at in range(1, STEPS + 1):
        _, status = os.waitpid(_fork(url, tenant=f"kill-{at}", at=at), 0)
        ends.append("killed" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}")
    both = [_fork(url, tenant=None, at=0) for _ in range(2)]
    for pid in both:
        _, status = os.waitpid(pid, 0)
        ends.append("killed" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}")
    sys.stdout.write(" ".join(ends).replace("exit ", "exit-"))


if __name__ == "__main__":
    main(sys.argv[1])
