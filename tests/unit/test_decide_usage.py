"""Deciding recordings: duplicate, conflict, accepted, in that order; and what is written down."""

from __future__ import annotations

import json

import msgspec
import pytest
from fakes.building import catalog, cost, document, sell, us, usage, void
from fakes.desk import NOW, Desk

from ledger.domain.commands import Command, OpenLedger, RerateUsage
from ledger.domain.decide import decide
from ledger.domain.entries import ConflictKept, Entry, ShapeDefined, UsageRecorded
from ledger.domain.errors import InvariantViolation
from ledger.domain.usage import canonical_payload


def _types(entries: tuple[Entry, ...]) -> list[type]:
    return [type(entry) for entry in entries]


def test_a_new_event_is_accepted_with_its_shape_defined_before_it() -> None:
    """The definition comes first, the key belongs to the recording."""
    decision = Desk().decide(usage())
    assert _types(decision.entries) == [ShapeDefined, UsageRecorded]
    assert decision.outcome.status == "accepted"
    assert (decision.at, decision.key) == (1, usage().key)


def test_an_event_of_a_known_shape_is_one_entry() -> None:
    """Its shape is referred to by number; id, time, quantities and amounts are its own."""
    desk = Desk()
    desk.do(usage("first"))
    [entry] = desk.decide(usage("second")).entries
    # 1000 x 0.000003 + 200 x 0.000012, in the six decimals of the rates
    assert entry == UsageRecorded(
        "second", us("2026-11-03T12:00:00Z"), 0, (1000, 200), 5400, 45000, None
    )


def test_what_is_not_in_the_shape_is_in_the_entry() -> None:
    """Attribution and evidence are kept with the event."""
    command = usage(
        user="u",
        project="p",
        request_id="r",
        session="s",
        api_key="k",
        conversation="c",
        plugin="g",
        hold="h",
        labels={"team": "blue"},
        raw='{"a":1}',
    )
    entry = Desk().decide(command).entries[-1]
    assert isinstance(entry, UsageRecorded)
    extra = entry.extra
    assert extra is not None
    assert (extra.user, extra.project, extra.request_id, extra.session) == ("u", "p", "r", "s")
    assert (extra.api_key, extra.conversation, extra.plugin, extra.hold) == ("k", "c", "g", "h")
    assert (extra.labels, extra.raw) == ({"team": "blue"}, b'{"a":1}')


def test_an_event_without_a_time_takes_the_time_it_is_decided_at() -> None:
    """The answer and the entry say that the time was defaulted."""
    decision = Desk().decide(usage(time=None))
    entry = decision.entries[-1]
    assert isinstance(entry, UsageRecorded)
    assert entry.occurred_at == NOW
    assert entry.extra is not None
    assert entry.extra.time_defaulted
    assert decision.outcome.flags == ("time_defaulted",)


def test_an_event_without_a_price_is_accepted_and_flagged() -> None:
    """Recording a fact never refuses."""
    decision = Desk().decide(usage(model="new", time=None))
    assert decision.outcome.status == "accepted"
    assert decision.outcome.flags == ("time_defaulted", "unpriced")
    entry = decision.entries[-1]
    assert isinstance(entry, UsageRecorded)
    assert (entry.charge, entry.cost) == (0, 0)


def test_a_taken_key_with_the_same_payload_is_a_duplicate_before_anything_else() -> None:
    """Nothing is written; prices may have changed or gone since."""
    desk = Desk()
    desk.do(usage("filler"), usage())
    desk.prices = catalog(sell("images", 1))
    decision = desk.decide(usage())
    assert decision.entries == ()
    assert (decision.outcome.status, decision.outcome.version, decision.outcome.index) == (
        "duplicate",
        3,
        0,
    )


def test_a_taken_key_with_another_payload_is_a_conflict_with_evidence() -> None:
    """The evidence holds the refused payload and names who has the key."""
    desk = Desk()
    desk.do(usage())
    other = usage(quantities={"tokens.input": 1})
    decision = desk.decide(other)
    assert decision.outcome.status == "conflict"
    assert decision.entries == (
        ConflictKept("gateway", "e-1", other.fingerprint, canonical_payload(other.event), 2, 1),
    )


def test_a_conflict_whose_evidence_is_kept_writes_nothing_more() -> None:
    """It is a conflict all the same."""
    desk = Desk()
    other = usage(quantities={"tokens.input": 1})
    desk.do(usage(), other)
    decision = desk.decide(other)
    assert (decision.entries, decision.outcome.status) == ((), "conflict")


def test_a_usage_key_that_a_correction_has_is_a_conflict() -> None:
    """Corrections and events share one space of keys."""
    desk = Desk()
    desk.do(void("e-9", id="e-1"))
    [outcome] = desk.do(usage())
    assert outcome.status == "conflict"


def test_amounts_found_earlier_are_taken_only_if_made_with_this_catalog() -> None:
    """Amounts of an old catalog are found again; those of this one are not looked at twice."""
    desk = Desk()
    command = usage()
    old = catalog(sell("tokens.input", 9), sell("tokens.output", 9), cost("tokens.input", 9))
    stale = old.rate(
        command.event,
        numbers=command.numbers,
        decimals=command.decimals,
        occurred_at=command.event.occurred_at or 0,
        book="default",
        currency="USD",
    )
    fresh = desk.prices.rate(
        command.event,
        numbers=command.numbers,
        decimals=command.decimals,
        occurred_at=command.event.occurred_at or 0,
        book="default",
        currency="USD",
    )
    plain = desk.decide(command)

    def with_rated(rated: object) -> object:
        return decide(
            desk.state,
            command,
            known=desk,
            catalog=desk.prices,
            now=NOW,
            rated=rated,  # type: ignore[arg-type] # either of the two above
        )

    assert with_rated(stale) == plain
    assert with_rated(fresh) == plain
    marked = msgspec.structs.replace(fresh, charge=1)
    assert with_rated(marked) != plain
    assert with_rated(msgspec.structs.replace(marked, book="gold")) == plain
    assert with_rated(msgspec.structs.replace(marked, currency="EUR")) == plain


def test_rerating_says_unchanged_while_the_shape_is_the_same() -> None:
    """Same prices, nothing to post; unknown events are rejected."""
    desk = Desk()
    desk.do(usage())
    [same, unknown] = desk.do(
        RerateUsage("acme", "gateway", "e-1", "price_changed"),
        RerateUsage("acme", "gateway", "e-2", "price_changed"),
    )
    assert (same.status, same.version, same.index) == ("unchanged", 2, 1)
    assert unknown.problem is not None
    assert (unknown.status, unknown.problem.code) == ("rejected", "unknown_event")


def test_opening_a_ledger_again_is_a_duplicate_or_a_conflict() -> None:
    """Its settings cannot change."""
    desk = Desk()
    same, other = desk.do(
        OpenLedger("acme", "USD", "UTC", "default"), OpenLedger("acme", "EUR", "UTC", "default")
    )
    assert (same.status, same.version) == ("duplicate", 1)
    assert other.status == "conflict"
    assert other.problem is not None
    assert (other.problem.code, other.problem.pointer) == ("tenant_exists", "/tenant")


def test_a_command_that_no_rule_knows_is_a_violation() -> None:
    """A new command cannot be forgotten in silence."""

    class Strange(msgspec.Struct, frozen=True):
        tenant: str

    strange: Command = Strange("acme")  # type: ignore[assignment] # that is the point
    with pytest.raises(InvariantViolation, match="Strange"):
        Desk().decide(strange)


def test_conflict_evidence_is_the_canonical_document() -> None:
    """Support can read what was refused."""
    desk = Desk()
    desk.do(usage())
    [kept] = desk.decide(usage(user="somebody")).entries
    assert isinstance(kept, ConflictKept)
    assert json.loads(kept.payload) == {
        "id": "e-1",
        "model": "gpt",
        "occurred_at": us(document()["time"]),
        "provider": "openai",
        "quantities": {"tokens.input": "1000", "tokens.output": "200"},
        "source": "gateway",
        "tenant": "acme",
        "user": "somebody",
    }
