"""Several processes on one database, and many callers of one process, see one ledger."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

from fakes.building import catalog, usage, void, wire, wire_void
from fakes.stores import FailingStore
from fakes.worlds import House

from ledger.domain.entries import ShapeDefined, UsageRecorded

MONTH = "2026-11"


def test_two_processes_add_to_one_balance(house: House) -> None:
    """Each sees what the other wrote between its own batches."""
    one, two = house.ledger(), house.ledger()
    for number in range(3):
        one.record([wire(f"one-{number}")])
        two.record([wire(f"two-{number}")])
    balance = house.balances()[MONTH]
    assert (balance.events, balance.decimal_charge()) == (6, Decimal("0.0324"))
    assert [stored.version for stored in house.world.commits()] == [1, 2, 3, 4, 5, 6]


def test_a_process_uses_the_shapes_that_another_defined(house: House) -> None:
    """A shape known to one process only is found by the other, and keeps its number."""
    one, two = house.ledger(), house.ledger()
    one.record([wire("a")])
    two.record([wire("b", data={"attempt": 2})])
    one.record([wire("c", data={"attempt": 2}), wire("d", data={"attempt": 3})])
    two.record([wire("e", data={"attempt": 3}), wire("f")])
    entries = house.entries()
    assert [entry.number for entry in entries if isinstance(entry, ShapeDefined)] == [0, 1, 2]
    shapes = {entry.id: entry.shape for entry in entries if isinstance(entry, UsageRecorded)}
    assert shapes == {"a": 0, "b": 1, "c": 1, "d": 2, "e": 2, "f": 0}


def test_a_tenant_that_another_process_opened_is_not_opened_again(house: House) -> None:
    """Numbers of tenants are unique, whoever opens them."""
    one, two = house.ledger(), house.ledger()
    one.record([wire(tenant="a")])
    two.record([wire(tenant="b"), wire("e-2", tenant="a")])
    one.record([wire(tenant="c"), wire("e-2", tenant="b")])
    rows = house.world.rows()
    numbers = {name: row.tenant.tenant_id for name, row in rows.items()}
    assert numbers == {"a": 1, "b": 2, "c": 3}


def test_a_correction_that_another_process_kept_meets_its_event(house: House) -> None:
    """A process that knew the tenant without pending corrections learns of a new one."""
    one, two = house.ledger(), house.ledger()
    one.record([wire("first")])
    two.record([wire_void("second")])
    one.record([wire("second")])
    balance = house.balances()[MONTH]
    assert (balance.events, balance.voided) == (2, 1)


def test_a_session_goes_on_in_another_process(house: House) -> None:
    """Running quantities are read again after another process changed them."""
    ledgers = [house.ledger(), house.ledger()]
    for number in range(4):
        command = usage(
            f"part-{number}",
            model="live",
            session="s",
            quantities={"audio.session.seconds": 5},
        )
        ledgers[number % 2].run([command])
    assert house.balances()[MONTH].decimal_charge() == Decimal("0.030")


def test_commits_and_events_of_different_tenants_do_not_mix(house: House) -> None:
    """One batch writes one commit per tenant, each with that tenant's entries."""
    ledger = house.ledger()
    outcomes = ledger.record([wire(str(n), tenant=f"t{n % 3}") for n in range(9)])
    assert {one.version for one in outcomes} == {1}
    assert len(house.world.commits()) == 3
    for name in ("t0", "t1", "t2"):
        assert house.balances(name)[MONTH].events == 3


def test_sixteen_threads_are_answered_each_with_their_own_receipts(house: House) -> None:
    """Concurrent submissions keep their answers apart and lose nothing."""
    ledger = house.ledger()
    start = threading.Barrier(16)

    def work(thread: int) -> list[tuple[str, int, int]]:
        start.wait(30)
        places = []
        for number in range(5):
            mine = wire(f"{thread}-{number}", data={"user": f"u{thread}"})
            shared = wire(f"shared-{number}")
            outcomes = ledger.record([mine, shared])
            assert outcomes[0].status == "accepted"
            places.append((f"{thread}-{number}", outcomes[0].version, outcomes[0].index))
        return places

    with ThreadPoolExecutor(16) as pool:
        answered = [place for places in pool.map(work, range(16)) for place in places]
    assert house.balances()[MONTH].events == 16 * 5 + 5
    assert len({(version, index) for _, version, index in answered}) == 80
    keys = set(house.world.rows()["acme"].keys.values())
    assert {(version, index) for _, version, index in answered} < keys
    assert len(keys) == 85


def test_batches_fill_while_a_commit_is_in_flight(house: House) -> None:
    """Whatever waits when a commit ends goes into the next one together."""
    store = FailingStore(house.world.store())
    ledger = house.ledger(store=store)
    ledger.record([wire("warm-up")])
    inside, go_on = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        inside.set()
        assert go_on.wait(30)

    store.before_write = hold
    prepare = ledger.sequencer.prepare
    first = ledger.sequencer.submit([prepare(usage("first"))])
    assert inside.wait(30)
    store.before_write = lambda writes: None
    waiting = [ledger.sequencer.submit([prepare(usage(f"w-{n}"))]) for n in range(20)]
    go_on.set()
    answers = [future.result(30) for future in (first, *waiting)]
    assert [len(answer) for answer in answers] == [1] * 21
    places = [(answer[0].version, answer[0].index) for answer in answers]
    assert places == [(2, 0)] + [(3, index) for index in range(20)]


def test_an_event_loop_is_not_blocked_while_it_waits(house: House) -> None:
    """Coroutines submit concurrently, and each gets its own answers."""
    ledger = house.ledger()

    async def work(number: int) -> list[str]:
        outcomes = await ledger.record_async([wire(f"e-{number % 10}"), b"?"])
        return [one.status for one in outcomes]

    async def main() -> list[list[str]]:
        return await asyncio.gather(*(work(number) for number in range(30)))

    answers = asyncio.run(main())
    assert [second for _, second in answers] == ["rejected"] * 30
    assert sorted(first for first, _ in answers) == ["accepted"] * 10 + ["duplicate"] * 20


def test_a_caller_that_is_cancelled_leaves_the_others_alone(house: House) -> None:
    """Cancelling one waiter neither takes back its commands nor fails its neighbors."""
    store = FailingStore(house.world.store())
    ledger = house.ledger(store=store)
    go_on = threading.Event()

    def hold(_: object) -> None:
        assert go_on.wait(30)

    store.before_write = hold

    async def main() -> list[str]:
        loser = asyncio.create_task(ledger.record_async([wire("lost")]))
        keeper = asyncio.create_task(ledger.record_async([wire("kept")]))
        await asyncio.sleep(0.05)
        loser.cancel()
        go_on.set()
        outcomes = await keeper
        return [one.status for one in outcomes]

    assert asyncio.run(main()) == ["accepted"]
    [again] = ledger.record([wire("lost")])
    assert again.status in ("accepted", "duplicate")
    assert house.balances()[MONTH].events == 2


def test_closing_answers_what_waits(house: House) -> None:
    """A ledger that is closed with work in its line finishes that work."""
    store = FailingStore(house.world.store())
    ledger = house.ledger(store=store)
    inside, go_on = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        inside.set()
        assert go_on.wait(30)

    store.before_write = hold
    prepare = ledger.sequencer.prepare
    futures = [ledger.sequencer.submit([prepare(usage(f"e-{n}"))]) for n in range(1)]
    assert inside.wait(30)
    futures += [ledger.sequencer.submit([prepare(usage(f"w-{n}"))]) for n in range(5)]
    closing = threading.Thread(target=ledger.close)
    closing.start()
    go_on.set()
    closing.join(30)
    assert not closing.is_alive()
    assert [future.result(0)[0].status for future in futures] == ["accepted"] * 6


def test_two_processes_that_void_one_event_void_it_once(house: House) -> None:
    """The later one is told that it is voided already."""
    one, two = house.ledger(), house.ledger()
    two.record([wire("other")])
    one.record([wire()])
    [first] = one.run([void(id="v-1")])
    [second] = two.run([void(id="v-2")])
    assert (first.status, second.status) == ("accepted", "rejected")


def test_a_catalog_is_loaded_once_and_again_only_after_a_change(house: House) -> None:
    """Batches do not pay for loading prices; other tenants' commits are no reason to."""
    loads = []
    load = house.prices.load
    house.prices.load = lambda: loads.append(1) or load()  # type: ignore[method-assign, func-returns-value] # counts
    one, two = house.ledger(), house.ledger()
    for number in range(3):
        one.record([wire(f"one-{number}")])
        two.record([wire(f"two-{number}", tenant="other")])
    before = len(loads)
    house.prices.change(catalog())
    one.record([wire("x")])
    one.record([wire("y")])
    assert len(loads) == before + 1
