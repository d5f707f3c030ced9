"""Large batches whose keys nobody looked up: a key that is taken counts as it does otherwise."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fakes.building import usage, void
from fakes.stores import FailingStore, lost
from fakes.worlds import House

from ledger.application import sequencer
from ledger.application.engine import Ledger
from ledger.application.ports import Batch, TenantKey
from ledger.domain.commands import KeyRow
from ledger.domain.usage import RecordUsage

MONTH = "2026-11"
LARGE = 3
AFTER = 2


class _Asked(FailingStore):
    """Counts the keys that were looked up, batch by batch."""

    def __init__(self, house: House) -> None:
        super().__init__(house.world.store())
        self.asked: list[int] = []

    @contextmanager
    def batch(
        self, *, since: int, keys: Collection[TenantKey], holds: Collection[TenantKey] = ()
    ) -> Iterator[Batch]:
        """Open a batch of the other store."""
        self.asked.append(len(keys))
        with super().batch(since=since, keys=keys, holds=holds) as batch:
            yield _AskedBatch(batch, self.asked)  # type: ignore[misc] # the rest is the other's


class _AskedBatch:
    def __init__(self, batch: Batch, asked: list[int]) -> None:
        self._batch = batch
        self._asked = asked

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def keys(self, keys: Collection[TenantKey]) -> dict[TenantKey, KeyRow]:
        """Look keys up while the batch is open."""
        self._asked[-1] += len(keys)
        return self._batch.keys(keys)


def _events(name: str, count: int = LARGE) -> list[RecordUsage]:
    """Return events of two tenants."""
    return [usage(f"{name}-{n}", tenant=("acme", "globex")[n % 2]) for n in range(count)]


@pytest.fixture
def store(house: House, monkeypatch: pytest.MonkeyPatch) -> _Asked:
    """Count what is asked for; few commands make a large batch."""
    monkeypatch.setattr(sequencer, "UNLOOKED_COMMANDS", LARGE)
    monkeypatch.setattr(sequencer, "UNLOOKED_AFTER", AFTER)
    return _Asked(house)


def _unlooked(house: House, store: _Asked) -> Ledger:
    """Return a ledger whose next large batch looks no key up."""
    ledger = house.ledger(store=store)
    for number in range(AFTER + 1):
        ledger.run(_events(f"free{number}"))
    assert store.asked == [0, LARGE, 0]  # before the first there was no ledger
    store.asked.clear()
    return ledger


def test_keys_that_are_taken_though_nobody_looked_are_answered_as_ever(
    house: House, store: _Asked
) -> None:
    """The original receipt for a repetition, evidence for a conflict, an entry for what is new."""
    ledger = _unlooked(house, store)
    first = ledger.run(_events("late", 2))
    before = house.balances()[MONTH]
    repeated, other = _events("late", 2)
    outcomes = ledger.run([usage("new", attempt=7), repeated, usage(other.event.id, attempt=2)])
    assert [one.status for one in outcomes] == ["accepted", "duplicate", "accepted"]
    assert (outcomes[1].version, outcomes[1].index) == (first[0].version, first[0].index)
    conflict = ledger.run([usage("late-0", attempt=3), *_events("more")])
    assert [one.status for one in conflict] == ["conflict", *["accepted"] * LARGE]
    assert house.balances()[MONTH].events == before.events + 2 + 2
    assert store.asked == [2, 0, LARGE, LARGE + 1 + 1]  # and whether evidence is kept already


def test_after_a_taken_key_batches_look_again_for_a_while(house: House, store: _Asked) -> None:
    """Who repeats does not fail every batch."""
    ledger = _unlooked(house, store)
    ledger.run(_events("free0"))
    for number in range(AFTER + 1):
        ledger.run(_events(f"again{number}"))
    assert store.asked == [0, LARGE, LARGE, LARGE, 0]


def test_a_lost_answer_to_an_unlooked_batch_is_found_again(house: House, store: _Asked) -> None:
    """What did commit comes back as ``duplicate``; nothing is recorded twice."""
    ledger = _unlooked(house, store)
    events = house.balances()[MONTH].events
    store.after_write = lost(1)
    assert [one.status for one in ledger.run(_events("once"))] == ["duplicate"] * LARGE
    assert house.balances()[MONTH].events == events + 2
    assert store.asked == [0, LARGE]  # whoever lost the connection knows no ledger any more


def test_small_batches_and_corrections_always_look(house: House, store: _Asked) -> None:
    """There the look costs little, or the answer depends on it."""
    ledger = _unlooked(house, store)
    ledger.run(_events("few", 2))
    outcomes = ledger.run([*_events("many"), void("few-0", tenant="acme")])
    assert [one.status for one in outcomes] == ["accepted"] * (LARGE + 1)
    assert store.asked == [2, LARGE + 2]
