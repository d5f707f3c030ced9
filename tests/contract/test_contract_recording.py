"""Recording: one key, one entry, forever; every answer a receipt; nobody fails for a neighbor."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from fakes.building import NOON, catalog, cost, document, sell, us, usage, wire
from fakes.worlds import House

from ledger.domain.commands import OpenLedger, RerateUsage
from ledger.domain.entries import (
    ConflictKept,
    LedgerOpened,
    ShapeDefined,
    UsageRecorded,
    UsageRerated,
    decode_commit,
)
from ledger.domain.errors import InvalidInput

MONTH = "2026-11"


def test_recorded_usage_moves_the_period_s_balance(house: House) -> None:
    """An accepted event adds its quantities, its charge and its cost."""
    [outcome] = house.ledger().record([wire()])
    assert (outcome.status, outcome.flags) == ("accepted", ())
    balance = house.balances()[MONTH]
    assert balance.decimal_quantities() == {
        "tokens.input": Decimal(1000),
        "tokens.output": Decimal(200),
    }
    assert balance.decimal_charge() == Decimal("0.0054")
    assert balance.decimal_costs() == {"USD": Decimal("0.0045")}
    assert (balance.events, balance.voided, balance.unpriced) == (1, 0, 0)


def test_a_receipt_names_the_commit_and_the_place_of_the_entry(house: House) -> None:
    """The entry at a receipt is the event that was recorded."""
    ledger = house.ledger()
    first, second = ledger.record([wire("a"), wire("b")])
    [third] = ledger.record([wire("c")])
    commits = [decode_commit(stored.state) for stored in house.world.commits()]
    found = [commits[one.version - 1].entries[one.index] for one in (first, second, third)]
    assert [entry.id for entry in found if isinstance(entry, UsageRecorded)] == ["a", "b", "c"]
    assert (first.version, third.version) == (1, 2)


def test_the_first_entry_of_a_ledger_opens_it_with_the_defaults(house: House) -> None:
    """Usage for an unknown tenant opens its ledger with the sequencer's defaults."""
    house.ledger(timezone="Asia/Kolkata").record([wire()])
    assert house.entries()[0] == LedgerOpened("acme", "USD", "Asia/Kolkata", "default")


def test_a_shape_is_defined_once_and_shared_by_its_entries(house: House) -> None:
    """Two commits of like events hold one definition."""
    ledger = house.ledger()
    ledger.record([wire("a"), wire("b")])
    ledger.record([wire("c"), wire("d", data={"user": "u"})])
    entries = house.entries()
    assert sum(isinstance(entry, ShapeDefined) for entry in entries) == 1
    assert {entry.shape for entry in entries if isinstance(entry, UsageRecorded)} == {0}


@pytest.mark.parametrize("later", ["same batch", "next batch", "another process"])
def test_a_repeated_event_is_a_duplicate_with_the_original_receipt(
    house: House, later: str
) -> None:
    """Repetition, whenever and wherever, answers the first receipt and moves nothing."""
    ledger = house.ledger()
    if later == "same batch":
        first, again = ledger.record([wire(), wire()])
    else:
        [first] = ledger.record([wire()])
        other = ledger if later == "next batch" else house.ledger()
        [again] = other.record([wire()])
    assert (first.status, again.status) == ("accepted", "duplicate")
    assert (first.version, first.index) == (again.version, again.index)
    assert house.balances()[MONTH].events == 1
    assert len(house.world.commits()) == 1


def test_a_duplicate_is_recognized_however_its_numbers_are_spelled(house: House) -> None:
    """1000, 1000.0, 1e3 and "1000" are one quantity; member order is nothing."""
    ledger = house.ledger()
    ledger.record([wire()])
    spelled = ["1000", "1000.0", "1e3", '"1000"', '"1000.000"', "10E2"]
    text = json.dumps(document())
    again = [text.replace("1000", number, 1).encode() for number in spelled]
    backwards = json.dumps(dict(reversed(document().items()))).encode()
    outcomes = ledger.record([*again, backwards])
    assert {outcome.status for outcome in outcomes} == {"duplicate"}


def test_an_event_without_a_time_gets_the_database_s_and_stays_a_duplicate(house: House) -> None:
    """The server's time is no part of the fingerprint, so a later retry is the same event."""
    ledger = house.ledger()
    [first] = ledger.record([wire(time=None)])
    [again] = ledger.record([wire(time=None)])
    assert first.flags == ("time_defaulted",)
    assert again.status == "duplicate"
    [stored] = house.world.commits()
    commit = decode_commit(stored.state)
    entry = commit.entries[first.index]
    assert isinstance(entry, UsageRecorded)
    assert entry.occurred_at == commit.recorded_at
    assert entry.extra is not None
    assert entry.extra.time_defaulted


def test_another_payload_under_a_key_is_a_conflict_and_charges_nothing(house: House) -> None:
    """The refused payload is kept as evidence; the answer names the entry that holds the key."""
    ledger = house.ledger()
    [first] = ledger.record([wire()])
    [other] = ledger.record([wire(data={"quantities": {"tokens.input": 5}})])
    assert other.status == "conflict"
    assert other.problem is not None
    assert (other.problem.code, other.problem.pointer) == ("conflict", "/id")
    assert (other.version, other.index) == (first.version, first.index)
    [kept] = [entry for entry in house.entries() if isinstance(entry, ConflictKept)]
    assert json.loads(kept.payload)["quantities"] == {"tokens.input": "5"}
    assert house.balances()[MONTH].events == 1
    assert house.world.rows()["acme"].tenant.conflicts == 1


@pytest.mark.parametrize("later", ["same batch", "next batch", "another process"])
def test_the_evidence_of_a_conflict_is_kept_once(house: House, later: str) -> None:
    """The same wrong payload again answers conflict again and stores nothing more."""
    ledger = house.ledger()
    ledger.record([wire()])
    wrong = wire(data={"user": "somebody else"})
    if later == "same batch":
        outcomes = ledger.record([wrong, wrong])
    else:
        other = ledger if later == "next batch" else house.ledger()
        outcomes = [*ledger.record([wrong]), *other.record([wrong])]
    assert [one.status for one in outcomes] == ["conflict", "conflict"]
    assert len(house.world.rows()["acme"].conflicts) == 1
    assert sum(isinstance(entry, ConflictKept) for entry in house.entries()) == 1


def test_two_wrong_payloads_are_two_pieces_of_evidence(house: House) -> None:
    """Each different payload under a taken key is kept."""
    ledger = house.ledger()
    ledger.record([wire(), wire(data={"user": "b"}), wire(data={"user": "c"})])
    assert len(house.world.rows()["acme"].conflicts) == 2


def test_a_key_is_unique_per_tenant_and_source(house: House) -> None:
    """The same id of another tenant or source is another event."""
    outcomes = house.ledger().record(
        [wire(), wire(tenant="other"), wire(source="second"), wire("gateway", source="e-1")]
    )
    assert [one.status for one in outcomes] == ["accepted"] * 4
    assert house.balances()[MONTH].events == 3
    assert house.balances("other")[MONTH].events == 1


def test_a_bad_item_is_rejected_and_its_neighbors_are_recorded(house: House) -> None:
    """Answers stand in the order of the items."""
    outcomes = house.ledger().record([wire("a"), b"{", wire("b"), wire("c", subject="")])
    assert [one.status for one in outcomes] == ["accepted", "rejected", "accepted", "rejected"]
    assert [one.problem.code for one in outcomes if one.problem] == [
        "malformed_json",
        "invalid_subject",
    ]
    assert house.balances()[MONTH].events == 2


def test_a_period_begins_at_midnight_of_the_tenant_s_time_zone(house: House) -> None:
    """Los Angeles' December begins at 08:00 UTC, to the microsecond."""
    ledger = house.ledger()
    ledger.run([OpenLedger("acme", "USD", "America/Los_Angeles", "default")])
    ledger.record(
        [
            wire("a", time="2026-12-01T07:59:59.999999Z"),
            wire("b", time="2026-12-01T08:00:00Z"),
            wire("c", time="2026-11-30T23:59:59.999999-08:00"),
        ]
    )
    ledger.record([wire("d", time="2026-12-01T08:00:00Z")])
    counts = {name: balance.events for name, balance in house.balances().items()}
    assert counts == {"2026-11": 2, "2026-12": 2}


def test_a_balance_that_was_not_loaded_lately_goes_on_where_it_was(house: House) -> None:
    """A new process adds to the stored balances of every period it touches."""
    house.ledger().record([wire("a"), wire("b", time="2026-10-01T00:00:00Z")])
    house.ledger().record([wire("c", time="2026-10-31T00:00:00Z"), wire("d")])
    assert {name: one.events for name, one in house.balances().items()} == {
        "2026-10": 2,
        "2026-11": 2,
    }


def test_usage_without_a_price_is_kept_counted_and_not_charged(house: House) -> None:
    """An unknown price is never zero: the event is unpriced, its quantities count."""
    [outcome] = house.ledger().record([wire(data={"model": "new"})])
    assert (outcome.status, outcome.flags) == ("accepted", ("unpriced",))
    balance = house.balances()[MONTH]
    assert (balance.charge, balance.costs, balance.unpriced) == (0, {}, 1)
    assert balance.decimal_quantities()["tokens.input"] == 1000
    [waiting] = house.world.rows()["acme"].unpriced.values()
    assert (waiting.source, waiting.id, waiting.model) == ("gateway", "e-1", "new")
    assert waiting.occurred_at == us(NOON)


def test_unpriced_usage_is_rated_once_its_price_is_approved(house: House) -> None:
    """A re-rating posts the amounts at the price in force when the usage occurred."""
    ledger = house.ledger()
    ledger.record([wire(data={"model": "new"}), wire("other", data={"model": "new"})])
    rerate = RerateUsage("acme", "gateway", "e-1", "price_approved")
    [before] = ledger.run([rerate])
    assert before.status == "unchanged"
    house.prices.change(
        catalog(
            *(sell(meter, "0.001", model="new") for meter in ("tokens.input", "tokens.output")),
            *(cost(meter, "0.002", model="new") for meter in ("tokens.input", "tokens.output")),
        )
    )
    [after] = ledger.run([rerate])
    [again] = ledger.run([rerate])
    assert (after.status, again.status) == ("accepted", "unchanged")
    balance = house.balances()[MONTH]
    assert balance.decimal_charge() == Decimal("1.2")
    assert balance.decimal_costs() == {"USD": Decimal("2.4")}
    assert (balance.events, balance.unpriced) == (2, 1)
    assert [one.id for one in house.world.rows()["acme"].unpriced.values()] == ["other"]
    assert sum(isinstance(entry, UsageRerated) for entry in house.entries()) == 1


def test_prices_that_changed_rate_the_next_batch_of_every_process(house: House) -> None:
    """A change in the log reaches writers that cached the catalog and rated before the lock."""
    ledgers = [house.ledger(), house.ledger()]
    for number, ledger in enumerate(ledgers):
        ledger.record([wire(f"old-{number}", data={"quantities": {"tokens.input": 1}})])
    stale = [
        ledger.sequencer.prepare(usage(f"new-{n}", quantities={"tokens.input": 1}))
        for n, ledger in enumerate(ledgers)
    ]
    house.prices.change(catalog(sell("tokens.input", "7"), cost("tokens.input", "5")))
    for ledger, prepared in zip(ledgers, stale, strict=True):
        ledger.sequencer.submit([prepared]).result()
    assert house.balances()[MONTH].decimal_charge() == Decimal("14.000006")


def test_a_ledger_is_opened_once_with_its_settings(house: House) -> None:
    """The same settings again are a duplicate, others a conflict that changes nothing."""
    ledger = house.ledger()
    settings = OpenLedger("acme", "EUR", "Europe/Berlin", "gold")
    [first] = ledger.run([settings])
    [again] = house.ledger().run([settings])
    [other] = ledger.run([OpenLedger("acme", "USD", "Europe/Berlin", "gold")])
    assert [one.status for one in (first, again, other)] == ["accepted", "duplicate", "conflict"]
    row = house.world.rows()["acme"].tenant
    assert (row.currency, row.timezone, row.book) == ("EUR", "Europe/Berlin", "gold")


def test_no_more_than_ten_thousand_commands_are_taken_at_once(house: House) -> None:
    """One more is refused as a whole, before anything is queued."""
    ledger = house.ledger()
    command = usage()
    with pytest.raises(InvalidInput) as refused:
        ledger.run([command] * 10_001)
    assert refused.value.code == "too_many_commands"
    assert house.world.commits() == []
    outcomes = ledger.run([command] * 10_000)
    assert [one.status for one in outcomes[:2]] == ["accepted", "duplicate"]


def test_nothing_asked_is_nothing_answered(house: House) -> None:
    """An empty submission answers at once and stores nothing."""
    assert house.ledger().record([]) == []
    assert house.world.commits() == []
