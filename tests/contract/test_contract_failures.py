"""When something breaks: an error answer means nothing moved, and running again is safe."""

from __future__ import annotations

import threading

import msgspec
import pytest
from fakes.building import adjust, usage, void, wire
from fakes.stores import Broken, FailingStore, lost, times
from fakes.worlds import House

from ledger.application.command_wire import SequencerFailed
from ledger.application.ports import ConnectionLost
from ledger.application.sequencer import SequencerClosed
from ledger.application.workingset import Prepared
from ledger.domain.errors import InvariantViolation

MONTH = "2026-11"


def test_a_batch_that_fails_leaves_nothing_and_the_next_one_works(house: House) -> None:
    """Neither log nor rows nor the kept states remember a batch that was not committed."""
    store = FailingStore(house.world.store())
    ledger = house.ledger(store=store)
    ledger.record([wire("before")])
    rows = house.world.rows()["acme"].plain()
    store.before_write = times(1, Broken("in the middle"))
    with pytest.raises((Broken, SequencerFailed), match="in the middle"):
        ledger.run([usage("new"), usage("shape", attempt=9), void("before"), adjust("later")])
    assert house.world.rows()["acme"].plain() == rows
    [outcome, shape] = ledger.run([usage("new"), usage("shape", attempt=9)])
    assert (outcome.status, outcome.version) == ("accepted", 2)
    assert shape.status == "accepted"


def test_a_batch_that_opened_a_tenant_and_failed_opened_none(house: House) -> None:
    """The tenant is opened by the next batch, with the first number."""
    store = FailingStore(house.world.store())
    ledger = house.ledger(store=store)
    store.before_write = times(1, Broken("in the middle"))
    with pytest.raises((Broken, SequencerFailed), match="in the middle"):
        ledger.record([wire(tenant="ghost")])
    assert house.world.rows() == {}
    ledger.record([wire()])
    assert house.world.rows()["acme"].tenant.tenant_id == 1


def test_a_connection_lost_before_the_commit_runs_the_batch_again(house: House) -> None:
    """The callers notice nothing: their commands are accepted once."""
    store = FailingStore(house.world.store())
    ledger = house.ledger(store=store)
    ledger.record([wire("before")])
    store.before_write = lost(2)
    [outcome] = ledger.record([wire(data={"attempt": 2})])
    assert (outcome.status, outcome.version, store.writes) == ("accepted", 2, 4)
    assert house.balances()[MONTH].events == 2


def test_a_connection_lost_during_the_commit_answers_with_the_original_receipt(
    house: House,
) -> None:
    """What did commit comes back as ``duplicate``; nothing is recorded twice."""
    store = FailingStore(house.world.store())
    ledger = house.ledger(store=store)
    ledger.record([wire("before")])
    store.after_write = lost(1)
    outcomes = ledger.run([usage("a"), usage("b", attempt=2), void("before")])
    assert [one.status for one in outcomes] == ["duplicate"] * 3
    keys = house.world.rows()["acme"].keys
    assert {(one.version, one.index) for one in outcomes} < set(keys.values())
    assert {one.version for one in outcomes} == {2}
    balance = house.balances()[MONTH]
    assert (balance.events, balance.voided) == (3, 1)


def test_a_connection_that_stays_lost_is_an_error_after_the_last_attempt(house: House) -> None:
    """The error says that the outcome is unknown; repeating the call later is safe."""
    store = FailingStore(house.world.store())
    ledger = house.ledger(store=store, retry_delays_s=(0.0, 0.0))
    store.before_open = lost(3)
    with pytest.raises(ConnectionLost) as error:
        ledger.record([wire()])
    assert error.value.code == "database_connection_lost"
    assert store.batches == 3
    [outcome] = ledger.record([wire()])
    assert outcome.status == "accepted"


class _NoCommand(msgspec.Struct, frozen=True):
    """A command that no rule decides."""

    tenant: str


def test_a_poisoned_submission_does_not_fail_its_neighbors(house: House) -> None:
    """Submissions of one batch are run one by one when the batch cannot be."""
    if house.remote:
        pytest.skip("a command that nobody knows has no form in which it could be sent")
    store = FailingStore(house.world.store())
    ledger = house.ledger(store=store)
    ledger.record([wire("warm-up")])
    inside, go_on = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        inside.set()
        assert go_on.wait(30)

    store.before_write = hold
    sequencer = ledger.sequencer
    first = sequencer.submit([sequencer.prepare(usage("first"))])
    assert inside.wait(30)
    store.before_write = lambda writes: None
    good = sequencer.submit([sequencer.prepare(usage("good"))])
    poison = Prepared("acme", _NoCommand("acme"))  # type: ignore[arg-type] # that is the poison
    bad = sequencer.submit([sequencer.prepare(usage("with poison")), poison])
    also_good = sequencer.submit([sequencer.prepare(usage("also good"))])
    go_on.set()
    assert first.result(30)[0].status == "accepted"
    with pytest.raises(InvariantViolation):
        bad.result(30)
    assert [one.result(30)[0].status for one in (good, also_good)] == ["accepted", "accepted"]
    assert house.balances()[MONTH].events == 4
    [outcome] = ledger.record([wire("with poison")])
    assert outcome.status == "accepted"


def test_a_closed_ledger_takes_nothing_more(house: House) -> None:
    """It says so, and closing twice is no harm."""
    ledger = house.ledger()
    ledger.record([wire()])
    ledger.close()
    ledger.close()
    with pytest.raises(SequencerClosed) as refused:
        ledger.record([wire("late")])
    assert refused.value.code == "ledger_closed"
    assert house.balances()[MONTH].events == 1


def test_a_ledger_that_never_ran_closes_at_once(house: House) -> None:
    """There is no worker to wait for."""
    house.ledger().close()
