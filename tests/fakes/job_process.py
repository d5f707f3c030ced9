"""Runs due jobs in a process of its own, as a server does: run as a program.

    python -m fakes.job_process URL FOLDER

Its one job is due. Each run of it writes a line to the file ``begun`` of the folder, then waits
until there is a file ``go``.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from adapters.postgres.database import Database
from adapters.postgres.jobs import PostgresJobs
from adapters.postgres.leader import PostgresLeader
from adapters.scheduler import ApTicker
from ledger.application import leading, scheduling
from ledger.application.jobs import Check, Job, Jobs
from ledger.application.scheduling import Scheduling
from ledger.domain.jobs import HOUR_US, Schedule

NAME = "slow"
SCHEDULE = Schedule(HOUR_US)


def jobs(store: PostgresJobs, folder: Path) -> Jobs:
    """Return the job, over a store."""

    def work(check: Check) -> Mapping[str, int]:
        with (folder / "begun").open("a") as file:
            file.write(f"{os.getpid()}\n")
        while not (folder / "go").exists():
            check()
            time.sleep(0.02)
        return {"steps": 1}

    return Jobs(store, [Job(NAME, "waits", SCHEDULE, work)], by=str(os.getpid()))


def main(url: str, folder: Path) -> None:
    """Schedule until standard input ends."""
    scheduling.EVERY_S, scheduling.BEAT_S, leading.CANDIDATE_S = 0.2, 0.1, 0.1
    with Database(url) as database, closing(PostgresJobs(database)) as store:
        made = Scheduling(
            leader=PostgresLeader(database, "jobs"), ticker=ApTicker, jobs=jobs(store, folder)
        )
        made.start()
        sys.stdin.read()
        made.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
