"""Replay = state, order is nothing, and deciding changes nothing: for whatever commands come."""

from __future__ import annotations

from typing import Any

from fakes.desk import Desk, snapshot
from fakes.folding import assert_replay_is_state, memory_rows
from fakes.oracle import Totals, rows, shown
from fakes.strategies import CATALOGS, commands, scenes
from fakes.worlds import House, PostgresWorld
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.memory import MemoryPrices, MemoryStore
from ledger.application.engine import Ledger
from ledger.application.sequencer import Sequencer
from ledger.domain.catalog import Catalog
from ledger.domain.commands import Command
from ledger.domain.usage import AdjustUsage, RecordUsage, VoidUsage

Scene = tuple[list[RecordUsage], list[VoidUsage | AdjustUsage]]
BATCHES = st.lists(
    st.tuples(st.sampled_from(CATALOGS), st.lists(commands(), min_size=1, max_size=5)),
    min_size=1,
    max_size=6,
)


def _run(store: MemoryStore, batches: list[tuple[Catalog, list[Command]]]) -> None:
    """Run batches with their catalogs, alternating between two processes."""
    prices = MemoryPrices(store)
    ledgers = [Ledger(Sequencer(store, prices, retry_delays_s=())) for _ in range(2)]
    try:
        for number, (catalog, batch) in enumerate(batches):
            if catalog is not prices.load():
                prices.change(catalog)
            ledgers[number % 2].run(batch)
    finally:
        for ledger in ledgers:
            ledger.close()


@given(BATCHES)
@settings(max_examples=150)
def test_folding_the_log_gives_the_state_rows(
    batches: list[tuple[Catalog, list[Command]]],
) -> None:
    """Whatever is recorded, corrected and re-rated: the log says what the rows say."""
    store = MemoryStore()
    _run(store, batches)
    assert_replay_is_state(store.commits(), memory_rows(store))


@given(BATCHES)
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_folding_the_log_gives_the_state_rows_on_postgres(
    postgres_run: Any, batches: list[tuple[Catalog, list[Command]]]
) -> None:
    """The same on PostgreSQL, whose rows have been through SQL and back."""
    with postgres_run.database(migrated=True) as url:
        world = PostgresWorld(url)
        house = House(world)
        ledgers = [house.ledger(), house.ledger()]
        try:
            for number, (catalog, batch) in enumerate(batches):
                if catalog is not world.prices.load():
                    world.prices.change(catalog)
                ledgers[number % 2].run(batch)
            house.close_ledgers()
            assert_replay_is_state(world.commits(), world.rows())
        finally:
            house.close_ledgers()
            world.close()


@given(scenes(), st.data())
@settings(max_examples=200)
def test_neither_order_nor_repetition_changes_what_is_owed(
    scene: Scene, data: st.DataObject
) -> None:
    """Any order of events, voids and adjustments, each any number of times, in any batches."""
    recorded, corrections = scene
    listed: list[Command] = [*recorded, *corrections]
    repeated = data.draw(st.lists(st.sampled_from(listed), max_size=6))
    shuffled = data.draw(st.permutations([*listed, *repeated]))
    store = MemoryStore()
    prices = Catalog(rows())
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=len(shuffled), max_size=len(shuffled)))
    batches: list[tuple[Catalog, list[Command]]] = []
    while shuffled:
        size = sizes.pop()
        batches.append((prices, shuffled[:size]))
        shuffled = shuffled[size:]
    _run(store, batches)
    balances = {one.period: shown(one) for one in store.balances("acme")}
    assert balances == Totals(recorded, corrections).periods()
    assert [row.pending for row in store.tenants()] == [0]
    assert_replay_is_state(store.commits(), memory_rows(store))


@given(st.lists(st.tuples(st.sampled_from(CATALOGS), commands()), min_size=1, max_size=12))
def test_deciding_twice_gives_the_same_and_changes_nothing(
    steps: list[tuple[Catalog, Command]],
) -> None:
    """Decide is a function of its arguments: no clock, no chance, no trace in the state."""
    desk = Desk()
    for catalog, command in steps:
        desk.prices = catalog
        before, keys, log = snapshot(desk.state), dict(desk.keys), dict(desk.log)
        first, second = desk.decide(command), desk.decide(command)
        assert first == second
        assert (snapshot(desk.state), desk.keys, desk.log) == (before, keys, log)
        desk.do(command)


@given(st.lists(commands(), min_size=1, max_size=12))
def test_a_repeated_command_changes_nothing(steps: list[Command]) -> None:
    """The answer to a repetition is a duplicate, the same conflict, or the same refusal."""
    desk = Desk()
    for command in steps:
        desk.do(command)
        before = snapshot(desk.state)
        [again] = desk.do(command)
        assert again.status in ("duplicate", "conflict", "rejected", "unchanged")
        assert snapshot(desk.state) == before
