"""Two schedulers on one database, one of which is killed in the middle of a job."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from fakes.job_process import NAME, SCHEDULE, jobs
from fakes.server_process import wait_until

from adapters.postgres.database import Database
from adapters.postgres.jobs import PostgresJobs
from ledger.domain.errors import Refused
from ledger.domain.jobs import HOUR_US, RunState

ROOT = Path(__file__).parents[2]


@contextmanager
def scheduler(url: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a scheduler; end it by the end of its input."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fakes.job_process", url, str(folder)],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
    )
    try:
        yield process
    finally:
        process.communicate(timeout=60)


def begun(folder: Path) -> list[str]:
    """Return the processes that began the job, in order."""
    file = folder / "begun"
    return file.read_text().split() if file.exists() else []


def test_a_job_runs_once_and_whoever_dies_with_it_is_taken_over(
    database_url: str, tmp_path: Path
) -> None:
    """Neither a second scheduler nor a command runs it beside; after a kill the other one does."""
    with ExitStack() as stack:
        database = stack.enter_context(Database(database_url))
        store = stack.enter_context(closing(PostgresJobs(database)))
        here = jobs(store, tmp_path)
        period = SCHEDULE.period(store.now())
        # Seen an hour ago, so it is due now.
        seen = store.begin(NAME, period - HOUR_US, attempt=1, by="before")
        assert seen is not None
        assert store.end(seen, RunState.SKIPPED, result={})
        both = [stack.enter_context(scheduler(database_url, tmp_path)) for _ in range(2)]
        wait_until(lambda: bool(begun(tmp_path)))
        with pytest.raises(Refused) as caught:
            here.run(NAME)
        assert caught.value.code == "job_running"
        assert here.tick(NAME, lambda: None) is None
        [first] = begun(tmp_path)
        next(one for one in both if str(one.pid) == first).kill()
        wait_until(lambda: len(begun(tmp_path)) == 2)
        (tmp_path / "go").touch()
        wait_until(lambda: store.runs(NAME, limit=1)[0].state is RunState.DONE)
        [run, before] = store.runs(NAME, limit=2)
        [other] = [str(one.pid) for one in both if str(one.pid) != first]
        assert begun(tmp_path) == [first, other]
        # A run that crossed the hour is another period's; there is no third in either case.
        if run.period == period:
            assert (run.attempt, run.by, run.result) == (2, other, {"steps": 1})
            assert run.reason.startswith("died")
        assert before.state in (RunState.SKIPPED, RunState.DIED)
        assert here.tick(NAME, lambda: None) is None
        [standing] = here.standings().values()
        assert standing.succeeded_at == run.ended_at
        assert standing.failed_at is not None


def test_a_scheduler_that_is_told_to_end_leaves_its_run_to_the_next(
    database_url: str, tmp_path: Path
) -> None:
    """It stops at the next step, which is no failure."""
    with Database(database_url) as database, closing(PostgresJobs(database)) as store:
        seen = store.begin(NAME, SCHEDULE.period(store.now()) - HOUR_US, attempt=1, by="before")
        assert seen is not None
        assert store.end(seen, RunState.SKIPPED, result={})
        with scheduler(database_url, tmp_path):
            wait_until(lambda: bool(begun(tmp_path)))
        assert store.runs(NAME, limit=1)[0].state is RunState.STOPPED
        (tmp_path / "go").touch()
        run = jobs(store, tmp_path).tick(NAME, lambda: None)
        assert run is not None
        assert (run.state, run.attempt, run.reason) == (RunState.DONE, 2, "")
