"""Jobs: once a period, whatever clocks, processes and failures do."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from adapters.memory import MemoryJobs
from ledger.application import scheduling
from ledger.application.jobs import Check, Job, Jobs, JobStopped
from ledger.application.scheduling import Scheduling
from ledger.domain.errors import InvalidInput, NotFound, Refused
from ledger.domain.jobs import (
    DAY_US,
    HOUR_US,
    LAST_RETRY_US,
    MINUTE_US,
    JobRun,
    RunState,
    Schedule,
    Why,
    due,
)
from ledger.domain.periods import to_us

NIGHTLY = Schedule(DAY_US, 3 * HOUR_US)
HOURLY = Schedule(HOUR_US, 5 * MINUTE_US)


def at(text: str) -> int:
    """Return an instant in UTC."""
    return to_us(datetime.fromisoformat(text).replace(tzinfo=UTC))


def done(schedule: Schedule, now: int) -> JobRun:
    """Return a run that was done at an instant."""
    return JobRun(
        job="j",
        period=schedule.period(now),
        state=RunState.DONE,
        attempt=1,
        started_at=now,
        ended_at=now,
    )


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25", "2028-02-29"])
def test_every_hour_has_one_run_on_days_when_clocks_change(day: str) -> None:
    """Looked at every minute of a local day of 23 or 25 hours, each of its hours is run once."""
    local = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo("Europe/Berlin"))
    following = datetime(local.year, local.month, local.day, 23, 59, tzinfo=local.tzinfo)
    now, end = to_us(local), to_us(following)
    last, runs = done(HOURLY, now), []
    while now <= end:
        found = due(HOURLY, now, last)
        if found is not None:
            last = done(HOURLY, now)
            runs.append(HOURLY.name(found.period))
        now += MINUTE_US
    hours = {"2026-03-29": 23, "2026-10-25": 25, "2028-02-29": 24}[day]
    assert len(runs) == len(set(runs)) == hours


def test_missed_nights_need_one_run() -> None:
    """After a week without a process the next look runs the latest night, and then nothing."""
    last = done(NIGHTLY, at("2026-11-20T03:00"))
    now = at("2026-11-27T01:00")
    found = due(NIGHTLY, now, last)
    assert found is not None
    assert (NIGHTLY.name(found.period), found.why) == ("2026-11-26", Why.PERIOD)
    assert due(NIGHTLY, now, done(NIGHTLY, now)) is None


def test_a_clock_that_is_set_back_runs_nothing_twice_and_one_that_was_ahead_stops_nothing() -> None:
    """Only the run of the period that it is now counts; one of years ahead is not looked at."""
    ran = done(HOURLY, at("2026-11-27T14:06"))
    assert due(HOURLY, at("2026-11-27T14:05"), ran) is None
    ahead = done(HOURLY, at("2036-01-01T00:10"))
    assert due(HOURLY, at("2026-11-27T14:06"), ahead) is not None


def test_a_run_is_due_at_its_time_and_not_a_microsecond_before() -> None:
    """Ends are exclusive."""
    last = done(NIGHTLY, at("2026-11-26T03:00"))
    assert due(NIGHTLY, at("2026-11-27T03:00") - 1, last) is None
    assert due(NIGHTLY, at("2026-11-27T03:00"), last) is not None


def test_names_of_periods_read_back_and_others_are_refused() -> None:
    """They are UTC days and hours."""
    for schedule, name in ((NIGHTLY, "2026-11-27"), (HOURLY, "2026-11-27T14")):
        assert schedule.name(schedule.parse(name)) == name
    for schedule, name in ((NIGHTLY, "2026-11-27T14"), (HOURLY, "2026-13-01T00"), (HOURLY, "")):
        with pytest.raises(InvalidInput, match="no period of this job"):
            schedule.parse(name)


class World:
    """Two processes with one store and a clock."""

    def __init__(self) -> None:
        self.now = at("2026-11-27T14:30")
        self.store = MemoryJobs(lambda: self.now)
        self.ran: list[str] = []
        self.work: Callable[[Check], Mapping[str, int]] = lambda check: {}
        self.here, self.there = (self.process(name) for name in ("here", "there"))

    def process(self, name: str) -> Jobs:
        """Return the jobs of another process."""

        def work(check: Check) -> Mapping[str, int]:
            self.ran.append(name)
            return self.work(check)

        return Jobs(self.store, [Job("sweep", "sweeps", HOURLY, work)], by=name)

    def tick(self, jobs: Jobs) -> JobRun | None:
        """Let a process look."""
        return jobs.tick("sweep", lambda: None)

    def an_hour_later(self) -> None:
        """Let time go by."""
        self.now += HOUR_US


@pytest.fixture
def world() -> World:
    """Give two processes, which have seen the job before."""
    made = World()
    assert made.tick(made.here) is None
    return made


def test_a_job_that_was_never_seen_begins_with_the_next_period(world: World) -> None:
    """A new server does not begin its life with everything at once."""
    assert world.ran == []
    assert [one.state for one in world.here.runs("sweep")] == [RunState.SKIPPED]
    assert not world.here.is_due("sweep")
    world.an_hour_later()
    assert world.here.is_due("sweep")
    assert world.tick(world.here) is not None
    assert world.tick(world.there) is None
    assert world.ran == ["here"]


def test_while_one_runs_it_no_other_does(world: World) -> None:
    """The lock says so, and a command is told."""

    def work(check: Check) -> Mapping[str, int]:
        assert world.tick(world.there) is None
        with pytest.raises(Refused, match="another process"):
            world.there.run("sweep")
        return {"swept": 3}

    world.an_hour_later()
    world.work = work
    run = world.tick(world.here)
    assert run is not None
    assert (run.state, run.result, run.by) == (RunState.DONE, {"swept": 3}, "here")
    assert world.ran == ["here"]


def test_a_failure_is_kept_with_its_reason_and_tried_again_later_and_later(world: World) -> None:
    """A minute, two, four, … up to an hour; when it succeeds the reason of the last one stays."""
    world.an_hour_later()

    def fail(check: Check) -> Mapping[str, int]:
        raise Refused("the disk is full", code="no_room")

    world.work = fail
    waits = []
    for _ in range(4):
        run = world.tick(world.here)
        assert run is not None
        assert (run.state, run.reason) == (RunState.FAILED, "no_room: the disk is full")
        began = world.now
        while not world.here.is_due("sweep"):
            world.now += MINUTE_US
        waits.append((world.now - began) // MINUTE_US)
    assert waits == [1, 2, 4, 8]
    world.work = lambda check: {}
    run = world.tick(world.there)
    assert run is not None
    assert (run.state, run.attempt, run.reason) == (RunState.DONE, 5, "no_room: the disk is full")
    standing = world.here.standings()["sweep"]
    assert standing.failed_at == began
    assert standing.succeeded_at == world.now
    late = JobRun(
        job="j", period=0, state=RunState.FAILED, attempt=90, started_at=0, ended_at=world.now
    )
    day = Schedule(2 * world.now)
    assert due(day, world.now + LAST_RETRY_US - 1, late) is None
    assert due(day, world.now + LAST_RETRY_US, late) is not None


def test_a_run_whose_process_died_is_taken_over_and_its_own_end_counts_no_more(
    world: World,
) -> None:
    """At once the first time; who comes back from the dead cannot say how it ended."""
    world.an_hour_later()
    period = HOURLY.period(world.now)
    dead = world.store.begin("sweep", period, attempt=1, by="there")
    assert dead is not None
    run = world.tick(world.here)
    assert run is not None
    assert (run.attempt, run.state) == (2, RunState.DONE)
    assert run.reason.startswith("died")
    assert not world.store.end(dead, RunState.FAILED, result={}, reason="late")
    assert world.here.runs("sweep")[0] == run


def test_a_job_that_ends_its_process_is_not_run_in_a_circle(world: World) -> None:
    """From the second death on takeovers wait as after a failure."""
    world.an_hour_later()
    period = HOURLY.period(world.now)
    for attempt in (1, 2):
        assert world.store.begin("sweep", period, attempt=attempt, by="there")
    assert not world.here.is_due("sweep")
    world.now += 2 * MINUTE_US
    assert world.here.is_due("sweep")


def test_a_run_that_a_later_period_finds_unfinished_has_died(world: World) -> None:
    """It shows as that, and as a failure."""
    world.an_hour_later()
    assert world.store.begin("sweep", HOURLY.period(world.now), attempt=1, by="there")
    world.an_hour_later()
    assert world.tick(world.here) is not None
    assert [one.state for one in world.here.runs("sweep", limit=2)] == [
        RunState.DONE,
        RunState.DIED,
    ]
    assert world.here.standings()["sweep"].failed_at == world.now


def test_a_run_that_is_told_to_stop_goes_on_in_another_process(world: World) -> None:
    """It is no failure and waits for nothing."""
    world.an_hour_later()

    def stop(check: Check) -> Mapping[str, int]:
        check()
        raise AssertionError

    def ending() -> None:
        raise JobStopped

    world.work = stop
    run = world.here.tick("sweep", ending)
    assert run is not None
    assert (run.state, run.reason) == (RunState.STOPPED, "")
    world.work = lambda check: {}
    taken = world.tick(world.there)
    assert taken is not None
    assert taken.state is RunState.DONE


def test_a_command_runs_a_period_once_unless_asked_again(world: World) -> None:
    """Past periods may be named, those to come may not."""
    first = world.here.run("sweep")
    assert first.state is RunState.DONE
    assert world.here.run("sweep") == first
    assert world.here.run("sweep", again=True).attempt == first.attempt + 1
    past = world.here.run("sweep", period="2026-11-01T00")
    assert HOURLY.name(past.period) == "2026-11-01T00"
    assert len(world.ran) == 3
    with pytest.raises(InvalidInput, match="not due yet"):
        world.here.run("sweep", period="2026-11-27T15")
    with pytest.raises(NotFound, match="there are sweep"):
        world.here.run("broom")


class Mute:
    """A ticker that never ticks but at its start, as one whose clock was set back."""

    def __init__(self, started: threading.Semaphore) -> None:
        self._started = started

    def start(self, ticks: Mapping[str, Callable[[], None]], *, every_s: float) -> None:
        """Tick once."""
        self._started.release()
        for tick in ticks.values():
            tick()

    def stop(self) -> None:
        """Do nothing."""


def test_a_ticker_that_has_gone_silent_is_replaced(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a clock that is set back stops no job; and what is due at a tick is run."""
    for name in ("BEAT_S", "SILENCE_S"):
        monkeypatch.setattr(scheduling, name, 0.01)
    ran, started = threading.Event(), threading.Semaphore(0)

    def work(check: Check) -> Mapping[str, int]:
        ran.set()
        return {}

    @contextlib.contextmanager
    def leads() -> Iterator[Any]:
        yield SimpleNamespace(held=lambda: True)

    world.an_hour_later()
    world.work = work
    made = Scheduling(
        leader=SimpleNamespace(try_lead=leads),
        ticker=lambda: Mute(started),
        jobs=world.here,
    )
    made.start()
    try:
        for _ in range(3):
            assert started.acquire(timeout=30)
        assert ran.wait(30)
    finally:
        made.close()
    assert world.ran == ["here"]
