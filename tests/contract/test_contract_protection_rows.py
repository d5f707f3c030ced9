"""Rows of cost protection: what a commit changed is what the next batch, of anybody, reads."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import pytest
from fakes.stores import Broken
from fakes.worlds import House

from ledger.application.ports import Batch, LedgerStore, LedgerWrite, NewKey
from ledger.application.prefetch_holds import DUE_AT_ONCE
from ledger.application.recorded import taken_key
from ledger.application.replay import replay
from ledger.domain.budgets import BudgetTerms, Step, terms_body
from ledger.domain.entries import (
    Entry,
    LedgerOpened,
    ShapeDefined,
    UsageRecorded,
    commit_digest,
    encode_commit,
    stream_of,
)
from ledger.domain.entry_parts import Extra
from ledger.domain.holds import hold_digest
from ledger.domain.ledger import LedgerState, evolve
from ledger.domain.plan_rates import promised_key, reserved_key
from ledger.domain.protection import Protection
from ledger.domain.protection_entries import (
    Allocation,
    Binding,
    BudgetConfirmed,
    BudgetSet,
    BudgetStepReached,
    CapWaived,
    ChargeReversed,
    CreditExpired,
    CreditGranted,
    CreditPolicySet,
    CreditWithdrawn,
    EntitlementsSet,
    HoldAuthorized,
    HoldCaptured,
    HoldExpired,
    HoldExtended,
    HoldProgressed,
    HoldPromised,
    HoldRefused,
    HoldVoided,
)
from ledger.domain.shapes import LeafRate, RateCard, Shape, compile_shape
from ledger.domain.usage import key_digest

MONEY = 10**18
MINUTE = 60_000_000
AT = 1_793_707_200_000_000
WINDOW = 1_793_491_200_000_000
"""Start of the month that holds ``AT``, in UTC."""
FAR = AT + 10**15
"""Decades later: what expires then is open whatever the clock says."""
USER = Extra(user="ann")
CHARGES = [f"\tplan/team@1#{name}:2026-11-01/2026-12-01\t" for name in ("tokens", "calls")]
RUNNING = [key(charge) for charge in CHARGES for key in (promised_key, reserved_key)]
"""Accumulator keys of what holds promise, and reserve, of two of a plan's charges."""
SHAPE = Shape(
    *("gateway", "openai", "gpt", "", "", False, "", "ok", 1, "tenant", False),
    meters=("tokens.input",),
    decimals=0,
    card=RateCard(
        currency="USD",
        sell=(LeafRate("v1", 2),),
        sell_decimals=0,
        cost_currency="USD",
        cost=(LeafRate("v2", 1),),
        cost_decimals=0,
    ),
    missing=(),
)


def terms(name: str = "team", *, limit: int = 100 * MONEY, **more: object) -> bytes:
    """Return the stored terms of a monthly cap."""
    steps = (Step("inform", 5000), Step("confirm", 8000), Step("stop", 10000))
    return terms_body(BudgetTerms(name=name, limit=limit, currency="USD", steps=steps, **more))  # type: ignore[arg-type] # members by name


def authorized(
    id: str = "h-1",
    *,
    expires_at: int = FAR,
    bindings: tuple[Binding, ...] = (),
    allocations: tuple[Allocation, ...] = (),
) -> HoldAuthorized:
    """Return the entry of a hold that reserves what it says."""
    amount = sum(part for _, _, part in bindings[:1])
    return HoldAuthorized(
        *(id, bytes(16), "allow", AT, expires_at, "capture_progress", "call", 0, (10,)),
        *(amount, amount, bindings, allocations, "", (), b"{}", USER),
    )


def granted(number: int, *, amount: int = 50 * MONEY, expires_at: int = 0) -> CreditGranted:
    """Return the entry of a grant."""
    return CreditGranted(
        *(number, f"g-{number}", "paid", amount, number, AT, expires_at),
        *(b'{"models":["gpt*"]}' if number else b"", "ann", "", bytes(16)),
    )


def wanted(entries: Iterable[Entry]) -> tuple[set[bytes], set[tuple[int, int]]]:
    """Return the holds and the counters of this month that entries may be about."""
    digests = {hold_digest(id) for one in entries if (id := getattr(one, "id", ""))}
    return digests, {(number, start) for number in range(3) for start in (0, WINDOW)}


def load(store: LedgerStore, digests: Collection[bytes], tenant: str = "acme") -> LedgerState:
    """Return a ledger with these holds and all counters, read in a batch that writes nothing."""
    with store.batch(since=0, keys=()) as batch:
        [state] = batch.tenants([tenant])
        guard = state.guard
        if guard is not None:
            number = state.tenant_id
            places = [(number, place) for place in wanted(())[1]]
            holds = batch.holds([(number, digest) for digest in digests])
            guard.holds = {digest: hold for (_, digest), hold in holds.items()}
            counters = batch.counters(places)
            guard.counters = {place: counter for (_, place), counter in counters.items()}
        _load_running(state, batch)
        return state


def _load_running(state: LedgerState, batch: Batch) -> None:
    found = batch.running([(state.tenant_id, key) for key in RUNNING])
    state.running.update((key, number) for (_, key), number in found.items())


def commit(store: LedgerStore, *entries: Entry, tenant: str = "acme") -> LedgerState:
    """Fold entries into a ledger as the database has it, opened if it is not there; write it."""
    with store.batch(since=0, keys=()) as batch:
        found = batch.tenants([tenant])
        if found:
            [state] = found
            written = list(entries)
        else:
            state = batch.open_tenant(tenant, currency="USD", timezone="UTC", book="default")
            written = [LedgerOpened(tenant, "USD", "UTC", "default"), *entries]
        state.start_commit()
        if state.guard is not None:
            digests, places = wanted(entries)
            number = state.tenant_id
            for (_, digest), hold in batch.holds([(number, one) for one in digests]).items():
                state.guard.holds[digest] = hold
            for (_, place), counter in batch.counters([(number, one) for one in places]).items():
                state.guard.counters[place] = counter
        _load_running(state, batch)
        for (_, period), balance in batch.balances([(state.tenant_id, "2026-11")]).items():
            state.balances[period] = balance
        keys, shapes = _folded(state, written)
        body = encode_commit(state.digest, AT, written)
        state.version += 1
        state.digest = commit_digest(stream_of(state.tenant_id), state.version, body)
        batch.write([LedgerWrite(state, body, keys, shapes, ())])
    return state


def _folded(
    state: LedgerState, entries: Sequence[Entry]
) -> tuple[list[NewKey], list[tuple[int, bytes]]]:
    """Fold entries; return the keys that they take, and the shapes they define."""
    keys, shapes = [], []
    for index, entry in enumerate(entries):
        evolve(state, entry, (state.version + 1, index))
        if isinstance(entry, UsageRecorded):
            keys.append(NewKey(key_digest("gateway", entry.id), bytes(16), index))
        elif (digest := taken_key(entry)) is not None:
            keys.append(NewKey(digest, bytes(16), index))
        elif isinstance(entry, ShapeDefined):
            shapes.append((entry.number, entry.body))
    return keys, shapes


def folded(house: House, tenant: str = "acme") -> LedgerState:
    """Return the ledger as its log folds from the first commit."""
    result = replay([house.world.commits()])
    assert result.differences.kept == []
    [state] = [one for one in result.states.values() if one.tenant == tenant]
    return state


def said(guard: Protection | None) -> dict[str, object]:
    """Return everything that must be equal in two protections that say the same."""
    assert guard is not None
    grants = guard.credit.grants
    return {
        "capped": guard.capped,
        "next_expiry": guard.next_expiry,
        "entitlements": guard.entitlements_body,
        "required": guard.credit.required,
        "owed": guard.credit.owed,
        "budgets": [(one.number, one.body, one.ladder) for one in guard.budgets],
        "grants": [
            (*(getattr(grants[number], name) for name in _GIVEN), *grants[number].counters())
            for number in sorted(grants)
        ],
        "counters": {
            place: values
            for place, counter in guard.counters.items()
            if any(values := counter.as_tuple())
        },
        "holds": guard.holds,
    }


_GIVEN = ("number", "id", "kind", "amount", "priority", "at", "expires_at", "filter_body")


def assert_read_as_folded(house: House, tenant: str = "acme") -> Protection:
    """Assert that another process reads what the log folds to, and return that."""
    state = folded(house, tenant)
    assert state.guard is not None
    there = load(house.world.store(), state.guard.holds, tenant)
    assert said(there.guard) == said(state.guard)
    assert _numbers(there) == _numbers(state)
    return state.guard


def _numbers(state: LedgerState) -> dict[str, int]:
    return {key: number for key, number in state.running.items() if number}


BOUND = ((0, WINDOW, 5 * MONEY), (1, 0, 2 * MONEY))
TERMS: tuple[Entry, ...] = (
    ShapeDefined(0, compile_shape(SHAPE).body),
    BudgetSet(0, terms(), ((WINDOW, 3 * MONEY), (0, 0)), "ann"),
    BudgetSet(1, terms("ever", window="lifetime")),
    granted(0),
    granted(1, expires_at=FAR - 1),
)


def test_a_ledger_without_protection_reads_without(house: House) -> None:
    """Nothing of it is loaded, and nothing is written for it."""
    store = house.world.store()
    commit(store, ShapeDefined(0, compile_shape(SHAPE).body))
    assert load(house.world.store(), ()).guard is None


@pytest.mark.parametrize(
    "entry",
    [
        CapWaived("ann"),
        CreditPolicySet(True, "ann"),
        EntitlementsSet(b'{"default":"deny","tools":["a*"]}', "ann"),
        BudgetSet(0, terms(), ((WINDOW, -(2**70)),)),
        granted(0, amount=2**80, expires_at=FAR),
        authorized(),
        HoldVoided("h-9", "v-1", AT, "", False, bytes(16)),
        HoldRefused("h-9", bytes(16), "denied_unpriced", AT, 0, (3,), 0, (), b"{}", USER),
        HoldRefused("h-9", bytes(16), "confirmation_required", AT, 0, (3,), 0, (), b"{}", USER),
    ],
    ids=lambda entry: type(entry).__name__,
)
def test_the_first_entry_of_any_kind_begins_a_ledger_s_protection(
    house: House, entry: Entry
) -> None:
    """From then on it is read, with everything in it, even where there is nothing in it yet."""
    store = house.world.store()
    commit(store, TERMS[0])
    commit(store, entry)
    assert_read_as_folded(house)


def test_every_change_is_read_as_it_was_written(house: House) -> None:
    """Commit by commit: holds, counters, steps, confirmations, grants, entitlements, terms."""
    store = house.world.store()
    commit(store, *TERMS)
    assert_read_as_folded(house)
    life: list[list[Entry]] = [
        [
            authorized(bindings=BOUND, allocations=((0, 4 * MONEY), (1, MONEY))),
            HoldPromised("h-1", ((CHARGES[0], 2**66, 4 * MONEY), (CHARGES[1], 0, -(2**70)))),
            authorized("h-2", expires_at=FAR - 2, bindings=((0, WINDOW, 1),)),
            HoldPromised("h-2", ((CHARGES[0], 5, MONEY),)),
            BudgetStepReached(0, WINDOW, 2, "stop", 100 * MONEY, 101 * MONEY, AT),
        ],
        [
            HoldExtended(
                *("h-1", 1, bytes(16), AT, FAR + 1, 6 * MONEY, (12,)),
                *(((0, WINDOW, 2**70), (1, 0, 3 * MONEY)), ((0, 6 * MONEY),)),
            ),
            HoldProgressed("h-2", 1, AT, ("tokens.input",), (2**66,)),
            HoldPromised("h-1", ((CHARGES[1], 3, 2**70 + 1),)),
            BudgetConfirmed("c-1", 0, WINDOW, 2**70, FAR, "ann", "", bytes(16)),
        ],
        [BudgetSet(0, terms(limit=200 * MONEY)), EntitlementsSet(b'{"default":"deny"}', "ann")],
        [
            HoldCaptured(
                *("h-1", "", "", b"", AT, True, ("tokens.input",), (7_000_000,)),
                *(0, (), (), 2**67, ("gateway", "k-1"), True, ("late",)),
            ),
            UsageRecorded(
                "k-1", AT, 0, (7,), 14, 7, Extra(user="ann", credit=((0, 9 * MONEY),), owed=2**69)
            ),
        ],
        [BudgetStepReached(0, WINDOW, 1, "confirm", 160 * MONEY, 2**70, AT)],
        [HoldExpired("h-2", AT), CreditPolicySet(True, "ann")],
        [CreditExpired(1, AT, 50 * MONEY), granted(2, amount=2**71)],
        [CreditWithdrawn("w-1", 2, MONEY, AT, "refund", "", "ann", "", bytes(16))],
    ]
    for entries in life:
        commit(house.world.store(), *entries)
        assert_read_as_folded(house)
    guard = assert_read_as_folded(house)
    assert sum(grant.burned for grant in guard.credit.grants.values()) == 9 * MONEY + 2**69
    assert guard.credit.grants[1].lapsed == 50 * MONEY
    assert guard.counters[0, WINDOW].spent == 3 * MONEY + 14 * MONEY
    assert guard.counters[0, WINDOW].ceiling == 2**70
    counter = guard.counters[0, WINDOW]
    assert (counter.fired, counter.ladder) == (0b10, 1)
    assert guard.budgets[0].ladder == 1


def test_what_is_owed_is_read_as_it_was_written(house: House) -> None:
    """A debt changes with a posting alone, without any entry of cost protection."""
    store = house.world.store()
    commit(store, TERMS[0], CreditPolicySet(True, "ann"))
    commit(store, UsageRecorded("k-1", AT, 0, (7,), 14, 7, Extra(owed=2**70)))
    assert assert_read_as_folded(house).credit.owed == 2**70


def test_reversals_of_an_event_are_read_as_they_were_written(house: House) -> None:
    """What was taken back, what grants got of it and what was forgiven; none once it is undone."""
    store = house.world.store()
    paid = Extra(user="ann", credit=((0, 3 * MONEY),), owed=2**66)
    commit(store, *TERMS, UsageRecorded("k-1", AT, 0, (7,), 14, 7, paid))
    key = key_digest("gateway", "k-1")
    for amount in (2**70, -(2**70)):
        entry = ChargeReversed(
            *("r-1" if amount > 0 else "", "gateway", "k-1", amount, AT, "", AT, 0),
            *(Extra(user="ann", credit=((0, MONEY),), owed=2**66), ("", ""), bytes(16)),
        )
        with store.batch(since=0, keys=()) as batch:
            before = batch.corrections([(1, key)])
        assert bool(before) is (amount < 0)
        _commit_correction(store, entry, key)
        with house.world.store().batch(since=0, keys=()) as batch:
            there = batch.corrections([(1, key)])[1, key]
        assert there == folded(house).corrections[key]
        assert (there.reversed, there.returned, there.forgiven) == (
            (2**70, ((0, MONEY),), 2**66) if amount > 0 else (0, (), 0)
        )
        assert_read_as_folded(house)


def _commit_correction(store: LedgerStore, entry: Entry, key: bytes) -> None:
    """Write a commit of one entry about an event that may have been corrected before."""
    with store.batch(since=0, keys=()) as batch:
        [state] = batch.tenants(["acme"])
        state.start_commit()
        known = batch.corrections([(1, key)])
        state.corrections = {digest: one for (_, digest), one in known.items()}
        for (_, period), balance in batch.balances([(1, "2026-11")]).items():
            state.balances[period] = balance
        assert state.guard is not None
        places = [(1, place) for place in wanted(())[1]]
        for (_, place), counter in batch.counters(places).items():
            state.guard.counters[place] = counter
        keys, _ = _folded(state, [entry])
        body = encode_commit(state.digest, AT, [entry])
        state.version += 1
        state.digest = commit_digest(stream_of(1), state.version, body)
        batch.write([LedgerWrite(state, body, keys, (), ())])


def test_nothing_counts_as_changed_after_reading(house: House) -> None:
    """Else every commit would write everything again; a debt that was there is none anew."""
    debt = UsageRecorded("k-1", AT, 0, (7,), 14, 7, Extra(owed=2**70))
    commit(house.world.store(), *TERMS, CapWaived("ann"), CreditPolicySet(True, "ann"), debt)
    guard = load(house.world.store(), ()).guard
    assert guard is not None
    assert guard.credit.owed
    assert not guard.head_changed()
    assert guard.touched_budgets == guard.touched_counters == guard.credit.touched == set()
    assert guard.touched_holds == set()


def test_what_was_read_and_changed_but_not_written_changes_nothing(house: House) -> None:
    """A batch that fails half-way leaves rows as they were, also those of the double."""
    store = house.world.store()
    commit(store, *TERMS)
    entries = [authorized(bindings=BOUND, allocations=((0, MONEY),))]
    commit(store, *entries)
    before = said(load(store, wanted(entries)[0]).guard)
    state = load(store, wanted(entries)[0])
    for entry in (
        HoldVoided("h-1", "v-1", AT, "", True, bytes(16)),
        BudgetSet(0, terms(limit=1)),
        CreditPolicySet(True, "ann"),
        CreditWithdrawn("w-1", 0, MONEY, AT, "refund", "", "ann", "", bytes(16)),
    ):
        evolve(state, entry, (3, 0))
    assert said(state.guard) != before
    assert said(load(store, wanted(entries)[0]).guard) == before


def test_a_batch_that_fails_writes_no_protection(house: House) -> None:
    """Not even the row that says that a ledger has any."""
    store = house.world.store()
    commit(store, TERMS[0])
    with pytest.raises(Broken), store.batch(since=0, keys=()) as batch:  # noqa: PT012 # one step
        [state] = batch.tenants(["acme"])
        evolve(state, TERMS[1], (2, 0))
        raise Broken("before it wrote")
    assert load(house.world.store(), ()).guard is None


def test_ledgers_of_one_batch_keep_their_protection_apart(house: House) -> None:
    """Same numbers, same hold ids, other tenants."""
    store = house.world.store()
    for place, name in enumerate(("acme", "birch"), start=1):
        commit(store, TERMS[0], BudgetSet(0, terms(limit=place)), granted(0), tenant=name)
        bound = ((0, WINDOW, place),)
        commit(store, authorized(bindings=bound, allocations=((0, place),)), tenant=name)
    for place, name in enumerate(("acme", "birch"), start=1):
        guard = assert_read_as_folded(house, name)
        assert guard.counters[0, WINDOW].held == place
    with store.batch(since=0, keys=()) as batch:
        digest = hold_digest("h-1")
        found = batch.holds([(1, digest), (2, digest), (3, digest), (1, hold_digest("h-2"))])
        assert {place[0]: hold.amount for place, hold in found.items()} == {1: 1, 2: 2}
        places = [(1, (0, WINDOW)), (2, (0, WINDOW)), (2, (1, WINDOW)), (1, (0, WINDOW + 1))]
        assert set(batch.counters(places)) == set(places[:2])


def test_due_holds_are_the_open_ones_whose_time_is_over_the_oldest_first(house: House) -> None:
    """Of the tenants that were asked for; what is over already is not due."""
    store = house.world.store()
    with store.batch(since=0, keys=()) as batch:
        now = batch.opening.now
    due = [authorized(f"h-{place}", expires_at=now - place * MINUTE) for place in (1, 3, 2)]
    later = [authorized(f"l-{place}", expires_at=now + place * MINUTE) for place in (60, 50)]
    over = [authorized("o", expires_at=now - 9 * MINUTE), authorized("p", expires_at=now + MINUTE)]
    commit(store, TERMS[0], *due, *later, *over)
    commit(store, *(HoldVoided(one.id, one.id, AT, "", True, bytes(16)) for one in over))
    commit(store, TERMS[0], authorized("b", expires_at=now - MINUTE), tenant="birch")
    with house.world.store().batch(since=0, keys=()) as batch:
        assert [(number, hold.id) for number, hold in batch.due_holds([1, 3])] == [
            (1, "h-3"),
            (1, "h-2"),
            (1, "h-1"),
        ]
        assert {hold.id for _, hold in batch.due_holds([1, 2])} == {"h-1", "h-2", "h-3", "b"}
        assert batch.next_expiries([1, 2, 3]) == {1: now + 50 * MINUTE}


def test_no_more_holds_are_due_at_once_than_a_batch_can_expire(house: House) -> None:
    """After an outage a commit stays small: the oldest come first, the others next time."""
    store = house.world.store()
    with store.batch(since=0, keys=()) as batch:
        now = batch.opening.now
    count = DUE_AT_ONCE + 1
    holds = [authorized(f"h-{place}", expires_at=now - place - 1) for place in range(count)]
    commit(store, TERMS[0], *holds)
    with store.batch(since=0, keys=()) as batch:
        due = batch.due_holds([1])
    assert [hold.id for _, hold in due] == [f"h-{count - place}" for place in range(1, count)]
