"""Folding entries: what each adds, and what cannot follow in a stream."""

from __future__ import annotations

from decimal import Decimal

import pytest
from fakes.building import Amount, adjust, usage, void
from fakes.desk import Desk

from ledger.domain.balance import Balance
from ledger.domain.entries import (
    ConflictKept,
    LedgerOpened,
    ShapeDefined,
    UsageAdjusted,
    UsageRecorded,
    UsageVoided,
)
from ledger.domain.errors import InvariantViolation
from ledger.domain.ledger import CorrectionState, LedgerState, evolve, standing_posting
from ledger.domain.usage import key_digest

KEY = key_digest("gateway", "e-1")


def test_opening_sets_the_ledger_s_settings() -> None:
    """Name, currency, time zone and book come from the first entry."""
    state = evolve(LedgerState(7, ""), LedgerOpened("acme", "EUR", "Asia/Kolkata", "gold"), (1, 0))
    assert (state.tenant, state.currency, state.timezone, state.book) == (
        "acme",
        "EUR",
        "Asia/Kolkata",
        "gold",
    )


@pytest.mark.parametrize("ref", [(1, 1), (2, 0)])
def test_a_ledger_opens_at_its_very_first_place_only(ref: tuple[int, int]) -> None:
    """Anywhere else opening is a violation."""
    with pytest.raises(InvariantViolation, match="opens again"):
        evolve(LedgerState(1, ""), LedgerOpened("acme", "USD", "UTC", "default"), ref)


@pytest.mark.parametrize("number", [-1, 0, 2])
def test_shape_numbers_are_gapless(number: int) -> None:
    """A number that is taken or skips one is a violation."""
    desk = Desk()
    desk.do(usage())
    body = desk.state.shapes[0].body
    with pytest.raises(InvariantViolation, match="expected 1"):
        evolve(desk.state, ShapeDefined(number, body), (3, 0))
    evolve(desk.state, ShapeDefined(1, body), (3, 0))
    assert len(desk.state.shapes) == 2


def test_usage_counts_in_the_period_of_its_time() -> None:
    """The time zone is the ledger's; each period has a balance of its own."""
    desk = Desk(timezone="Pacific/Auckland")
    desk.do(usage("a", time="2026-11-30T10:59:59Z"), usage("b", time="2026-11-30T11:00:00Z"))
    assert {name: one.events for name, one in desk.state.balances.items()} == {
        "2026-11": 1,
        "2026-12": 1,
    }


def test_a_commit_touches_the_periods_it_changes_and_no_others() -> None:
    """The write path writes just these."""
    desk = Desk()
    desk.do(usage("a", time="2026-10-01T00:00:00Z"))
    desk.state.start_commit()
    desk.do(usage("b"), usage("c"))
    assert desk.state.touched == {"2026-11"}
    assert set(desk.state.balances) == {"2026-10", "2026-11"}


def test_balances_are_exact_at_eighteen_decimals() -> None:
    """Amounts of different shapes add up in one scale."""
    desk = Desk()
    desk.do(usage("a"), usage("b", model="tool", quantities={"tool.calls": 3}))
    assert desk.balance().charge == 5_400_000_000_000_000 + 30_000_000_000_000_000
    assert desk.balance().decimal_costs() == {"USD": Decimal("0.0255")}


def test_an_unpriced_event_waits_until_nothing_of_it_stands_unpriced() -> None:
    """It is listed with what finding its price needs."""
    desk = Desk()
    desk.do(usage(model="new"))
    waiting = desk.state.unpriced[KEY]
    assert waiting is not None
    assert (waiting.source, waiting.id, waiting.provider, waiting.model) == (
        "gateway",
        "e-1",
        "openai",
        "new",
    )
    desk.do(void())
    assert desk.state.unpriced[KEY] is None
    assert desk.balance().unpriced == 0


def test_pending_counts_events_that_are_waited_for() -> None:
    """Two corrections of one event wait for one event."""
    desk = Desk()
    desk.do(void(), adjust())
    assert desk.state.pending == 1
    desk.do(void("other", id="v-2"))
    assert desk.state.pending == 2
    desk.do(usage())
    assert desk.state.pending == 1


def test_corrections_say_where_they_are_and_what_stands() -> None:
    """Places are commit and index."""
    desk = Desk()
    desk.do(usage(), adjust(), void())
    assert desk.state.corrections == {
        KEY: CorrectionState(void=(4, 0), adjust=(3, 0), standing=(4, 0))
    }


def test_kept_conflicts_are_counted_and_move_nothing() -> None:
    """They are evidence, not usage."""
    desk = Desk()
    desk.do(usage())
    before = desk.balance().as_tuple()
    desk.do(usage(user="x"), usage(user="y"), usage(user="y"))
    assert desk.state.conflicts == 2
    assert desk.balance().as_tuple() == before


def test_sessions_run_on_by_price_and_meter() -> None:
    """The running quantity is what stands of the session."""
    desk = Desk()
    segments: tuple[Amount, ...] = (4, "8.5")
    for number, seconds in enumerate(segments):
        desk.do(
            usage(
                f"e-{number}",
                model="live",
                session="s",
                quantities={"audio.session.seconds": seconds},
            )
        )
    assert sorted(set(desk.state.accumulators.values())) == [12_500_000]
    assert all(key.startswith("s\t") for key in desk.state.accumulators)
    desk.do(void("e-0"))
    assert set(desk.state.accumulators.values()) == {8_500_000}


def test_forgotten_balances_are_not_used_again() -> None:
    """After forgetting, the next posting starts from what is loaded."""
    desk = Desk()
    desk.do(usage())
    desk.state.forget_balances()
    assert not desk.state.loaded.start <= usage().event.occurred_at < desk.state.loaded.end  # type: ignore[operator] # it has a time
    loaded = Balance("2026-11")
    loaded.events = 41
    desk.state.balances["2026-11"] = loaded
    desk.do(usage("next"))
    assert desk.balance().events == 42


def test_what_stands_after_an_entry() -> None:
    """Recordings and adjustments leave a posting, voids none, and other entries have none."""
    desk = Desk()
    desk.do(usage(), adjust(), void())
    entries = {type(entry): entry for entry in desk.log.values()}
    recorded = entries[UsageRecorded]
    assert isinstance(recorded, UsageRecorded)
    posting = standing_posting(recorded)
    assert posting is not None
    assert (posting.quantities, posting.charge) == (recorded.quantities, recorded.charge)
    adjusted = entries[UsageAdjusted]
    assert isinstance(adjusted, UsageAdjusted)
    assert standing_posting(adjusted) == adjusted.posted
    assert standing_posting(entries[UsageVoided]) is None
    with pytest.raises(InvariantViolation, match="posts nothing"):
        standing_posting(ConflictKept("s", "i", b"", b"", 1, 0))


def test_an_entry_of_an_undefined_shape_is_a_violation() -> None:
    """A stream can be read on its own: shapes come before their use."""
    with pytest.raises(InvariantViolation):
        evolve(LedgerState(1, ""), UsageRecorded("x", 0, 0, (1,), 0, 0, None), (1, 1))
