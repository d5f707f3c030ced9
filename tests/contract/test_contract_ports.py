"""The store's ports, used directly: what a batch reads is what was committed, and no more."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from fakes.building import catalog, usage, void, wire
from fakes.stores import Broken
from fakes.worlds import House

from ledger.application.ports import LedgerStore, LedgerWrite, NewKey
from ledger.domain.entries import LedgerOpened, commit_digest, encode_commit, stream_of
from ledger.domain.ledger import LedgerState, evolve
from ledger.domain.usage import key_digest

KEY = key_digest("gateway", "e-1")


def _opened(state: LedgerState, keys: Sequence[NewKey] = ()) -> LedgerWrite:
    """Return the first commit of a ledger, opening it."""
    entry = LedgerOpened(state.tenant, state.currency, state.timezone, state.book)
    evolve(state, entry, (1, 0))
    body = encode_commit(b"", 1, [entry])
    state.version = 1
    state.digest = commit_digest(stream_of(state.tenant_id), 1, body)
    return LedgerWrite(state, body, keys, (), ())


def _open(store: LedgerStore, name: str) -> int:
    with store.batch(since=0, keys=()) as batch:
        state = batch.open_tenant(name, currency="USD", timezone="UTC", book="default")
        return batch.write([_opened(state)])


def test_an_empty_log_has_head_zero_and_no_changes(house: House) -> None:
    """A fresh database says so."""
    with house.world.store().batch(since=0, keys=[(1, KEY)]) as batch:
        assert (batch.opening.head, batch.opening.changed, batch.opening.keys) == (0, [], {})


def test_a_batch_tells_which_streams_changed_since_a_position(house: House) -> None:
    """Each stream once, in the order of the log; nothing at the head."""
    store = house.world.store()
    first = _open(store, "a")
    _open(store, "b")
    house.prices.change(catalog())
    with store.batch(since=0, keys=()) as batch:
        head = batch.opening.head
        changed = list(batch.opening.changed or ())
    assert changed[:2] == ["ledger-1", "ledger-2"]
    assert len(changed) == 3
    with store.batch(since=first, keys=()) as batch:
        assert list(batch.opening.changed or ()) == changed[1:]
    with store.batch(since=head, keys=()) as batch:
        assert batch.opening.changed == []


def test_writing_returns_the_new_head(house: House) -> None:
    """The caller's caches are current up to it."""
    store = house.world.store()
    head = _open(store, "a")
    with store.batch(since=head, keys=()) as batch:
        assert (batch.opening.head, batch.opening.changed) == (head, [])


def test_a_batch_that_is_left_without_writing_leaves_nothing(house: House) -> None:
    """Neither after an error nor after none is a tenant there that was only opened."""
    store = house.world.store()
    with store.batch(since=0, keys=()) as batch:
        batch.open_tenant("a", currency="USD", timezone="UTC", book="default")
    with pytest.raises(Broken), store.batch(since=0, keys=()) as batch:  # noqa: PT012 # one step
        batch.open_tenant("b", currency="USD", timezone="UTC", book="default")
        raise Broken("in the middle")
    with store.batch(since=0, keys=()) as batch:
        assert batch.tenants(["a", "b"]) == []
    assert house.world.rows() == {}


def test_a_key_that_is_taken_twice_fails_the_whole_write(house: House) -> None:
    """The unique key is the last line of defense: nothing of the batch is there afterwards."""
    store = house.world.store()
    key = NewKey(KEY, bytes(16), 0)
    with pytest.raises(Exception), store.batch(since=0, keys=()) as batch:  # noqa: PT011, PT012, B017 # each store has its own
        state = batch.open_tenant("a", currency="USD", timezone="UTC", book="default")
        batch.write([_opened(state, [key, key])])
    assert house.world.rows() == {}
    assert house.world.commits() == []
    assert _open(store, "a") > 0


def test_a_commit_number_that_is_taken_fails_the_write(house: House) -> None:
    """A writer whose state is stale cannot write over another's commit."""
    store = house.world.store()
    _open(store, "a")
    with pytest.raises(Exception), store.batch(since=0, keys=()) as batch:  # noqa: PT011, PT012, B017 # each store has its own
        [state] = batch.tenants(["a"])
        batch.write([_opened(LedgerState(state.tenant_id, "a"))])
    assert len(house.world.commits()) == 1


def test_states_are_handed_out_as_copies(house: House) -> None:
    """What a caller does to what it read changes nothing that is kept."""
    house.ledger().record([wire(), wire("u", data={"model": "new"})])
    house.ledger().run(
        [usage("s", model="live", session="s", quantities={"audio.session.seconds": 3})]
    )
    before = house.world.rows()["acme"].plain()
    store = house.world.store()
    with store.batch(since=0, keys=()) as batch:
        [state] = batch.tenants(["acme"])
        number = state.tenant_id
        state.shapes.clear()
        state.pending += 1
        for balance in batch.balances([(number, "2026-11")]).values():
            balance.charge += 1
            balance.quantities.clear()
        for running in batch.accumulators([(number, "s")]).values():
            running.clear()
        for correction in batch.corrections([(number, KEY)]).values():
            correction.void = None
    assert house.world.rows()["acme"].plain() == before


def test_what_is_asked_for_and_not_there_is_left_out(house: House) -> None:
    """Look-ups return what exists; nothing is made up."""
    _open(house.world.store(), "a")
    with house.world.store().batch(since=0, keys=[(1, KEY), (9, KEY)]) as batch:
        assert batch.opening.keys == {}
        assert batch.keys([(1, KEY)]) == {}
        assert batch.balances([(1, "2026-11"), (2, "2026-11")]) == {}
        assert batch.corrections([(1, KEY)]) == {}
        assert batch.accumulators([(1, "s")]) == {}
        assert set(batch.commits([(1, 1), (1, 2), (2, 1)])) == {(1, 1)}
        assert [state.tenant for state in batch.tenants(["a", "b"])] == ["a"]


def test_rows_belong_to_their_tenant(house: House) -> None:
    """The same key, period, session or corrected event of another tenant is not found."""
    live = {"audio.session.seconds": 3}
    house.ledger().run(
        [
            usage("e-1", tenant="a", model="live", session="s", quantities=live),
            void("e-9", tenant="a"),
            usage("other", tenant="b", time="2026-10-01T00:00:00Z"),
        ]
    )
    with house.world.store().batch(since=0, keys=[(2, KEY)]) as batch:
        assert batch.opening.keys == {}
        assert batch.accumulators([(2, "s")]) == {}
        assert batch.balances([(2, "2026-11")]) == {}
        assert batch.corrections([(2, key_digest("gateway", "e-9"))]) == {}
        assert set(batch.keys([(1, KEY), (2, KEY)])) == {(1, KEY)}
        assert set(batch.accumulators([(1, "s")])) == {(1, "s")}


def test_one_batch_is_open_at_a_time(house: House) -> None:
    """The writer lock: a second process waits until the first has ended its batch."""
    one, two = house.world.store(), house.world.store()
    order: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        waiting.set()
        with two.batch(since=0, keys=()):
            order.append("second")

    with one.batch(since=0, keys=()):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(30)
        thread.join(0.3)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]


def test_the_clock_of_a_batch_is_the_database_s(house: House) -> None:
    """Time moves on from one batch to the next, in microseconds."""
    store = house.world.store()
    times = []
    for _ in range(2):
        with store.batch(since=0, keys=()) as batch:
            times.append(batch.opening.now)
    assert times[0] < times[1] < times[0] + 600_000_000
