"""A sequencer in another process: whoever asked is answered once, whatever happens to it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from typing import Any, cast

import pytest
from fakes.building import catalog, usage
from fakes.remote import Remote
from fakes.server_process import wait_until
from fakes.stores import FailingStore

from adapters.memory import MemoryPrices, MemoryStore
from adapters.sequencing import client as client_module
from adapters.sequencing.client import MAX_SENDS
from adapters.sequencing.frames import GREETING, Frames, frame
from ledger.application.command_wire import Answered, decode_outcomes
from ledger.application.ports import ConnectionLost
from ledger.application.sequencer import Sequencer, SequencerClosed
from ledger.application.watching import BatchDone, Unwatched, Watch
from ledger.domain.commands import Outcome

PATIENCE_S = 30.0


class Told(Unwatched):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.batches: list[BatchDone] = []
        self.repeats = 0

    def done(self, batch: BatchDone) -> None:
        """Keep it."""
        self.batches.append(batch)

    def repeated(self) -> None:
        """Count it."""
        self.repeats += 1


@contextmanager
def remote(
    store: FailingStore, watch: Watch | None = None, *, patience_s: float = PATIENCE_S
) -> Iterator[Remote]:
    """Give a client, whose hosts share a store."""
    memory = store._store
    assert isinstance(memory, MemoryStore)
    prices = MemoryPrices(memory, catalog())
    made = Remote(
        lambda watch: Sequencer(store, prices, watch=watch, retry_delays_s=()),
        watch=watch,
        patience_s=patience_s,
    )
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def store() -> FailingStore:
    """Give a store in memory that can be made to fail."""
    return FailingStore(MemoryStore())


def test_what_is_not_answered_is_sent_to_the_next_host(store: FailingStore) -> None:
    """What the first one committed and did not say is a duplicate; nothing is there twice."""
    committed, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        committed.set()
        assert go_on.wait(PATIENCE_S)

    told = Told()
    with remote(store, told) as client:
        [warm] = client.submit([client.prepare(usage("warm-up"))]).result(PATIENCE_S)
        assert warm.status == "accepted"
        store.after_write = hold
        first = client.submit([client.prepare(usage("first"))])
        assert committed.wait(PATIENCE_S)
        waiting = [client.submit([client.prepare(usage(f"w-{n}"))]) for n in range(50)]
        host = client.host
        assert host is not None
        # It dies with the batch under way: its answer comes to nobody.
        host.host.die()
        store.after_write = lambda: None
        go_on.set()
        client.replace_host()
        done, left = wait([first, *waiting], timeout=PATIENCE_S)
        assert not left
        assert {one.result()[0].status for one in done} <= {"accepted", "duplicate"}
    entries = sum(len(one.commands) for one in told.batches)
    assert entries == 52
    assert len(store._store.commits()) >= 2


def test_commands_under_which_hosts_die_are_given_back(store: FailingStore) -> None:
    """After some hosts it is told to the caller, and what comes later is taken."""
    with remote(store) as client:
        inside = threading.Event()
        go_on = threading.Event()

        def die() -> None:
            inside.set()
            assert go_on.wait(PATIENCE_S)
            raise ConnectionLost("the host is dying")

        store.before_open = die
        poison = client.submit([client.prepare(usage("poison"))])
        for _ in range(MAX_SENDS):
            assert inside.wait(PATIENCE_S)
            host = client.host
            assert host is not None
            host.host.die()
            inside.clear()
            go_on.set()
            host.die()
            go_on.clear()
            client.replace_host()
        with pytest.raises(ConnectionLost, match="died under this several times") as lost:
            poison.result(PATIENCE_S)
        assert lost.value.code == "sequencer_unreachable"
        store.before_open = lambda: None
        [outcome] = client.submit([client.prepare(usage("good"))]).result(PATIENCE_S)
        assert outcome.status == "accepted"


@pytest.mark.parametrize("refused", [True, False])
def test_without_a_host_callers_are_told_after_a_while(
    store: FailingStore, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    """And those that come then at once; with the next host all is well by itself."""
    # A connection that nobody accepts waits longer than callers do.
    monkeypatch.setattr(client_module, "GREETING_TIMEOUT_S", 2 * PATIENCE_S)
    with remote(store, patience_s=0.1) as client:
        host = client.host
        assert host is not None
        if refused:
            client.listener.close()
        host.die()
        client.host = None
        for id in ("a", "b"):
            with pytest.raises(ConnectionLost) as lost:
                client.submit([client.prepare(usage(id))]).result(PATIENCE_S)
            assert lost.value.code == "sequencer_unreachable"
        if not refused:
            client.replace_host()
            wait_until(lambda: client.reachable)
            [outcome] = client.submit([client.prepare(usage("c"))]).result(PATIENCE_S)
            assert outcome.status == "accepted"


def test_the_end_answers_what_waits_and_takes_nothing_more(store: FailingStore) -> None:
    """Nobody waits for ever."""
    with remote(store) as client:
        waiting = [client.submit([client.prepare(usage(f"e-{n}"))]) for n in range(20)]
        client.close()
        assert [one.result(0)[0].status for one in waiting] == ["accepted"] * 20
        with pytest.raises(SequencerClosed):
            client.submit([client.prepare(usage("late"))])


def test_a_batch_is_counted_by_one_of_its_clients(store: FailingStore) -> None:
    """Each is told of its own commands and of the size of the whole."""
    told = Told()
    with remote(store, told) as client:
        client.submit([client.prepare(usage("one")), client.prepare(usage("two"))]).result(
            PATIENCE_S
        )
    [batch] = told.batches
    assert (batch.size, batch.counted, len(batch.outcomes)) == (2, False, 2)
    assert batch.queued_s <= batch.begun_s <= batch.done_s


def test_a_host_that_is_gone_after_its_greeting_is_none(
    store: FailingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent on a connection that ended before its use: it would wait for ever."""

    class Ended:
        def is_closing(self) -> bool:
            return True

    async def find(client: Remote) -> object:
        async def connected(make: Callable[[], asyncio.Protocol], _: str) -> object:
            link = make()
            link.connection_made(cast(Any, Ended()))
            link.data_received(frame(GREETING))
            link.connection_lost(None)
            return Ended(), link

        loop = asyncio.get_running_loop()
        with monkeypatch.context() as changed:
            changed.setattr(loop, "create_unix_connection", connected)
            return await client._greeted()

    with remote(store) as client:
        found = asyncio.run_coroutine_threadsafe(find(client), client.loop).result(PATIENCE_S)
        assert found is None


def test_an_answer_that_cannot_be_read_is_asked_for_again(
    store: FailingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that makes no sense is not the end of who waits for it."""
    broken = [b"\xc1"]

    def decode(answered: Answered) -> list[Outcome]:
        if broken:
            raise ValueError(broken.pop())
        return decode_outcomes(answered)

    monkeypatch.setattr(client_module, "decode_outcomes", decode)
    with remote(store) as client:
        [outcome] = client.submit([client.prepare(usage("read"))]).result(PATIENCE_S)
        assert outcome.status == "duplicate"


def test_messages_are_put_together_again_however_they_come() -> None:
    """A byte at a time, and several at once."""
    messages = [b"", b"a", b"b" * 70_000, b"c"]
    data = b"".join(map(frame, messages))
    frames = Frames()
    found = [one for at in range(len(data)) for one in frames.feed(data[at : at + 1])]
    assert found == messages
    assert Frames().feed(data) == messages
