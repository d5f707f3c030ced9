"""Upkeep: who leads does it, and nothing that goes wrong ends it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from ledger.application import leading, upkeep
from ledger.application.protection_reads import DueTenant
from ledger.application.runner import ProjectionStatus
from ledger.domain.errors import InvariantViolation, Unavailable
from ledger.domain.holds import ExpireHolds

PATIENCE_S = 30


class World:
    """Stand-ins for all that upkeep needs, which say when they were used."""

    def __init__(self) -> None:
        self.leads = True
        self.names = ("rollups",)
        self.left = 3
        self.trouble: list[Exception] = []
        self.expired: list[Any] = []
        self.rounds = threading.Semaphore(0)
        self.failures = threading.Semaphore(0)
        self.waiting: Sequence[DueTenant] = (DueTenant("acme", 2), DueTenant("quiet", 0))

    @contextlib.contextmanager
    def try_lead(self) -> Iterator[World | None]:
        """Lead, or do not."""
        yield self if self.leads else None

    def held(self) -> bool:
        """Say whether it still leads."""
        return self.leads

    def runner(self, name: str) -> World:
        """Return the runner of a projection."""
        assert name == "rollups"
        return self

    def step(self) -> bool:
        """Do a batch, or fail."""
        if self.trouble:
            self.failures.release()
            raise self.trouble.pop()
        self.left = max(0, self.left - 1)
        return self.left > 0

    def status(self) -> ProjectionStatus:
        """Say how far it is."""
        return ProjectionStatus("rollups", position=10 - self.left, head=10)

    def due(self) -> Sequence[DueTenant]:
        """Return who is due."""
        return self.waiting

    def run(self, commands: Sequence[Any]) -> list[Any]:
        """Take commands."""
        self.expired += commands
        return []

    def told(self, statuses: Sequence[ProjectionStatus]) -> None:
        """Take note of a round."""
        self.lags = [one.lag for one in statuses]
        self.rounds.release()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Give the stand-ins, and an upkeep that does not wait."""
    monkeypatch.setattr(upkeep, "TICK_S", 0.005)
    for name in ("CANDIDATE_S", "RETRY_S"):
        monkeypatch.setattr(leading, name, 0.005)
    return World()


@contextlib.contextmanager
def keeping(world: Any) -> Iterator[upkeep.Upkeep]:
    """Run upkeep."""
    made = upkeep.Upkeep(
        leader=world, projections=world, ledger=world, protection=world, told=world.told
    )
    made.start()
    try:
        yield made
    finally:
        made.close()


def test_rollups_are_brought_to_the_end_and_due_holds_expired(world: World) -> None:
    """Only ledgers with a hold that is due get a command."""
    with keeping(world):
        for _ in range(3):
            assert world.rounds.acquire(timeout=PATIENCE_S)
    assert world.left == 0
    assert world.lags == [0]
    assert world.expired == [ExpireHolds("acme")]


def test_who_does_not_lead_does_nothing_and_takes_over(world: World) -> None:
    """It looks again until the other one is gone."""
    world.leads = False
    with keeping(world):
        assert not world.rounds.acquire(timeout=0.05)
        world.leads = True
        assert world.rounds.acquire(timeout=PATIENCE_S)


@pytest.mark.parametrize(
    "error",
    [Unavailable("the database is away"), InvariantViolation("it does not add up"), OSError("?")],
)
def test_what_goes_wrong_is_tried_again(
    world: World, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, whatever it is."""
    world.trouble = [error]
    with keeping(world):
        assert world.failures.acquire(timeout=PATIENCE_S)
        assert world.rounds.acquire(timeout=PATIENCE_S)
    assert str(error) in caplog.text


def test_a_sweep_that_fails_does_not_stop_rollups(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """They have nothing to do with each other."""
    world.waiting = None  # type: ignore[assignment] # what a defect may be
    with keeping(world):
        assert world.rounds.acquire(timeout=PATIENCE_S)
    assert "due holds could not be expired" in caplog.text
