"""Deciding corrections: duplicate, conflict, rejected, accepted; and what stands afterwards."""

from __future__ import annotations

from decimal import Decimal

import pytest
from fakes.building import adjust, both, catalog, usage, void
from fakes.desk import Desk

from ledger.domain.commands import Command, RerateUsage
from ledger.domain.entries import (
    ConflictKept,
    CorrectionApplied,
    ShapeDefined,
    UsageAdjusted,
    UsageRecorded,
    UsageRerated,
    UsageVoided,
)

TEN = {"tokens.input": 10}
NEW = catalog(*both("tokens.input", 2, 1, model="new"))


def test_a_void_carries_the_posting_that_it_takes_back() -> None:
    """Folding it needs no look-up."""
    desk = Desk()
    desk.do(usage(user="u", raw="{}"))
    recorded = desk.last()[-1]
    [entry] = desk.decide(void()).entries
    assert isinstance(recorded, UsageRecorded)
    assert isinstance(entry, UsageVoided)
    assert entry.reversed is not None
    assert entry.reversed.quantities == recorded.quantities
    assert (entry.reversed.charge, entry.reversed.cost) == (recorded.charge, recorded.cost)
    assert entry.reversed.extra is not None
    assert (entry.reversed.extra.user, entry.reversed.extra.raw) == ("u", b"")


def test_a_void_of_an_adjusted_event_takes_back_the_adjustment() -> None:
    """What stands is taken back, not what was sent first."""
    desk = Desk()
    desk.do(usage(), adjust(quantities=TEN))
    [entry] = desk.decide(void()).entries
    assert isinstance(entry, UsageVoided)
    assert entry.reversed is not None
    assert entry.reversed.quantities == (10,)


def test_an_adjustment_defines_the_shape_of_its_quantities_first() -> None:
    """The key belongs to the adjustment, behind the definition."""
    desk = Desk()
    desk.do(usage())
    decision = desk.decide(adjust(quantities=TEN))
    assert [type(entry) for entry in decision.entries] == [ShapeDefined, UsageAdjusted]
    assert decision.at == 1
    adjusted = decision.entries[1]
    assert isinstance(adjusted, UsageAdjusted)
    assert (adjusted.meters, adjusted.quantities) == (("tokens.input",), (10_000_000,))
    assert adjusted.posted is not None
    assert adjusted.posted.shape == 1


def test_an_adjustment_keeps_who_and_when() -> None:
    """Time and attribution of the event stay; only quantities and amounts are others."""
    desk = Desk()
    desk.do(usage(user="u", project="p"), adjust(quantities=TEN))
    entry = desk.last()[-1]
    assert isinstance(entry, UsageAdjusted)
    assert entry.posted is not None
    assert entry.reversed is not None
    assert entry.posted.occurred_at == entry.reversed.occurred_at
    assert entry.posted.extra == entry.reversed.extra


@pytest.mark.parametrize("correction", [void(), adjust()])
def test_a_correction_before_its_event_posts_nothing_and_says_unmatched(
    correction: Command,
) -> None:
    """It waits for its event."""
    desk = Desk()
    [outcome] = desk.do(correction)
    [entry] = desk.last()
    assert outcome.flags == ("unmatched",)
    assert isinstance(entry, UsageVoided | UsageAdjusted)
    assert entry.reversed is None
    assert desk.state.pending == 1


def test_the_event_that_was_waited_for_is_recorded_and_corrected_at_once() -> None:
    """The recording is an entry of its own; the correction that was applied is cited."""
    desk = Desk()
    desk.do(void())
    [outcome] = desk.do(usage())
    shape, recorded, applied = desk.last()
    assert isinstance(shape, ShapeDefined)
    assert isinstance(recorded, UsageRecorded)
    assert isinstance(applied, CorrectionApplied)
    assert (applied.correction_version, applied.correction_index) == (2, 0)
    assert (applied.posted, outcome.status) == (None, "accepted")


def test_an_early_adjustment_defines_both_shapes_of_one_commit() -> None:
    """Numbers stay gapless though both definitions are new; equal ones are defined once."""
    desk = Desk()
    desk.do(adjust(quantities=TEN), usage())
    numbers = [entry.number for entry in desk.last() if isinstance(entry, ShapeDefined)]
    assert numbers == [0, 1]
    same = Desk()
    same.do(adjust(), usage())
    assert len([entry for entry in same.last() if isinstance(entry, ShapeDefined)]) == 1


def test_an_event_nobody_waited_for_is_left_alone_while_another_is_waited_for() -> None:
    """Pending corrections concern their own events only."""
    desk = Desk()
    desk.do(void("other"), usage())
    assert [type(entry) for entry in desk.last()] == [ShapeDefined, UsageRecorded]
    assert desk.state.pending == 1


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        (void(), void(id="v-2"), "already_voided"),
        (adjust(), adjust(id="a-2"), "already_adjusted"),
    ],
)
@pytest.mark.parametrize("before", [True, False])
def test_a_second_correction_of_a_kind_is_rejected(
    first: Command, second: Command, code: str, before: bool
) -> None:
    """Before or after the event: once each."""
    desk = Desk()
    desk.do(*([first, usage()] if before else [usage(), first]))
    decision = desk.decide(second)
    assert decision.entries == ()
    assert decision.outcome.problem is not None
    assert (decision.outcome.status, decision.outcome.problem.code) == ("rejected", code)
    assert decision.outcome.problem.pointer == "/data/id"


@pytest.mark.parametrize("correction", [void(), adjust()])
def test_a_repeated_correction_is_a_duplicate_before_it_is_a_second_one(
    correction: Command,
) -> None:
    """The key is looked at first."""
    desk = Desk()
    desk.do(usage(), correction)
    [again] = desk.do(correction)
    assert (again.status, again.version) == ("duplicate", 3)


@pytest.mark.parametrize(
    ("first", "other"),
    [
        (void(), void(reason="another")),
        (adjust(), adjust(quantities=TEN)),
        (void(id="c"), adjust(id="c")),
    ],
)
def test_another_correction_under_a_taken_key_is_a_conflict_before_it_is_rejected(
    first: Command, other: Command
) -> None:
    """The refused correction is kept as evidence, once."""
    desk = Desk()
    desk.do(usage(), first)
    [outcome] = desk.do(other)
    [kept] = desk.last()
    assert outcome.status == "conflict"
    assert isinstance(kept, ConflictKept)
    assert desk.decide(other).entries == ()


def test_an_adjustment_after_a_void_is_kept_without_effect() -> None:
    """It is flagged; nothing is posted."""
    desk = Desk()
    desk.do(usage(), void())
    [outcome] = desk.do(adjust())
    [entry] = desk.last()
    assert outcome.flags == ("superseded_by_void",)
    assert isinstance(entry, UsageAdjusted)
    assert (entry.reversed, entry.posted) == (None, None)


def test_an_adjustment_to_something_unpriced_is_flagged() -> None:
    """A meter without a price makes the whole event unpriced."""
    desk = Desk()
    desk.do(usage())
    [outcome] = desk.do(adjust(quantities={"pages": 3}))
    assert outcome.flags == ("unpriced",)
    assert (desk.balance().charge, desk.balance().unpriced) == (0, 1)


def test_a_rerating_posts_the_difference_and_becomes_what_stands() -> None:
    """A void afterwards takes back the re-rated amount."""
    desk = Desk()
    desk.do(usage(model="new", quantities=TEN))
    desk.prices = NEW
    [outcome] = desk.do(RerateUsage("acme", "gateway", "e-1", "price_approved"))
    entry = desk.last()[-1]
    assert isinstance(entry, UsageRerated)
    assert (outcome.status, entry.reason) == ("accepted", "price_approved")
    assert desk.balance().decimal_charge() == Decimal(20)
    desk.do(void())
    assert desk.balance().charge == 0
    assert desk.balance().voided == 1


def test_a_rerating_to_no_price_at_all_says_so() -> None:
    """Prices that were withdrawn leave the event unpriced, visibly."""
    desk = Desk(NEW)
    desk.do(usage(model="new", quantities=TEN))
    desk.prices = catalog()
    [outcome] = desk.do(RerateUsage("acme", "gateway", "e-1", "price_changed"))
    assert outcome.flags == ("unpriced",)
    assert (desk.balance().charge, desk.balance().unpriced) == (0, 1)


def test_a_voided_event_is_not_rated_again() -> None:
    """Nothing stands, so nothing changes."""
    desk = Desk()
    desk.do(usage(), void())
    desk.prices = NEW
    [outcome] = desk.do(RerateUsage("acme", "gateway", "e-1", "price_changed"))
    assert outcome.status == "unchanged"


def test_an_adjusted_event_is_rated_again_with_its_adjusted_quantities() -> None:
    """And the period is still the event's."""
    desk = Desk()
    desk.do(usage(model="new", quantities={"tokens.input": 99}), adjust(quantities=TEN))
    desk.prices = NEW
    desk.do(RerateUsage("acme", "gateway", "e-1", "price_approved"))
    assert desk.balance().decimal_charge() == Decimal(20)
    assert desk.balance().decimal_quantities()["tokens.input"] == 10


@pytest.mark.parametrize("target", [void(id="c"), adjust(id="c")])
@pytest.mark.parametrize("second", [void("c", id="d"), adjust("c", id="d")])
def test_a_correction_s_key_names_no_event(target: Command, second: Command) -> None:
    """Corrections of corrections are refused, whatever the first one did."""
    desk = Desk()
    desk.do(usage(), target)
    [outcome] = desk.do(second)
    assert outcome.problem is not None
    assert outcome.problem.code == "not_usage"


def test_a_correction_s_key_is_not_rated_again() -> None:
    """Only events are re-rated."""
    desk = Desk()
    desk.do(usage(model="new"), adjust(id="c", quantities=TEN))
    desk.prices = NEW
    [outcome] = desk.do(RerateUsage("acme", "gateway", "c", "price_changed"))
    assert outcome.status == "rejected"
