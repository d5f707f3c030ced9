"""Runs of jobs, in memory and in PostgreSQL alike."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from adapters.memory import MemoryJobs
from adapters.postgres.database import Database
from adapters.postgres.jobs import PostgresJobs
from ledger.application.job_ports import JobStore
from ledger.domain.jobs import HOUR_US, JobRun, RunState


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest) -> Iterator[JobStore]:
    """Give an empty store of each kind."""
    if request.param == "memory":
        yield MemoryJobs(lambda: time.time_ns() // 1000)
        return
    with Database(request.getfixturevalue("database_url")) as database:
        made = PostgresJobs(database)
        try:
            yield made
        finally:
            made.close()


def begin(store: JobStore, period: int, attempt: int, by: str = "here") -> JobRun:
    """Begin an attempt that can be begun."""
    run = store.begin("sweep", period, attempt=attempt, by=by)
    assert run is not None
    return run


def test_a_period_has_one_run_and_an_attempt_one_process(store: JobStore) -> None:
    """Only the successor of the last attempt can be begun, and only the last one ended."""
    now = store.now() // HOUR_US * HOUR_US
    first = begin(store, now, 1, "here")
    assert store.begin("sweep", now, attempt=1, by="there") is None
    assert store.begin("sweep", now, attempt=3, by="there") is None
    second = begin(store, now, 2, "there")
    assert (second.by, second.state) == ("there", RunState.RUNNING)
    assert second.reason.startswith("died")
    assert not store.end(first, RunState.DONE, result={"late": 1})
    assert store.end(second, RunState.FAILED, result={}, reason="no: it broke")
    assert not store.end(second, RunState.DONE, result={})
    third = begin(store, now, 3)
    assert third.reason == "no: it broke"
    assert store.end(third, RunState.DONE, result={"swept": 4})
    [run] = store.runs("sweep", limit=9)
    assert (run.attempt, run.state, run.result) == (3, RunState.DONE, {"swept": 4})
    assert run.reason == "no: it broke"
    [standing] = store.standings()
    assert (standing.last, standing.succeeded_at) == (run, run.ended_at)
    assert standing.failed_at is not None
    assert standing.failed_at <= run.started_at


def test_the_latest_run_is_that_of_a_period_up_to_one(store: JobStore) -> None:
    """Later ones are not looked at; unfinished ones of earlier periods died with their process."""
    now = store.now() // HOUR_US * HOUR_US
    assert store.last("sweep", upto=now) is None
    begin(store, now - HOUR_US, 1)
    other = store.begin("other", now - HOUR_US, attempt=1, by="here")
    current, ahead = begin(store, now, 1), begin(store, now + HOUR_US, 1)
    assert store.last("sweep", upto=now + HOUR_US) == ahead
    found = store.last("sweep", upto=now)
    assert found is not None
    assert (found.period, found.state) == (current.period, RunState.DIED)
    assert store.last("other", upto=now) == other
    states = [(one.period, one.state) for one in store.runs("sweep", limit=2)]
    assert states == [(now + HOUR_US, RunState.RUNNING), (now, RunState.DIED)]


def test_a_job_s_lock_is_one_s_until_it_is_left(store: JobStore) -> None:
    """Another job's is another lock."""
    with store.lock("sweep") as first, store.lock("sweep") as second, store.lock("other") as other:
        assert (first, second, other) == (True, False, True)
        with store.lock("sweep") as third:
            assert not third
    with store.lock("sweep") as again:
        assert again
