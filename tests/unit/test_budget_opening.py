"""A budget that is set late says the same as one that was there from the beginning."""

from __future__ import annotations

import pytest
from fakes.building import adjust, sell, us, usage, void
from fakes.building import catalog as prices_of
from fakes.desk import Desk

from ledger.domain.budget_opening import (
    earliest_that_matters,
    fold_opening,
    opening_of,
    opening_parts,
)
from ledger.domain.budgets import Budget, BudgetTerms, Filter, terms_body
from ledger.domain.commands import RerateUsage
from ledger.domain.entries import Commit, CorrectionApplied, Entry, LedgerOpened, ShapeDefined
from ledger.domain.ledger import LedgerState, evolve
from ledger.domain.protection_entries import BudgetSet, ChargeReversed
from ledger.domain.shapes import CompiledShape
from ledger.domain.windows import window_at

NOW = us("2026-11-20T10:00:00Z")
OCTOBER, NOVEMBER = us("2026-10-01T00:00:00Z"), us("2026-11-01T00:00:00Z")
UNIT = 10**18

TERMS = (
    BudgetTerms("charge", UNIT, currency="USD"),
    BudgetTerms("cost", UNIT, measure="cost", currency="USD"),
    BudgetTerms("other money", UNIT, measure="cost", currency="EUR"),
    BudgetTerms("tokens", 100, measure="tokens.output", window="day"),
    BudgetTerms("share", UNIT, filter=Filter(meters=("tokens.input*",)), currency="USD"),
    BudgetTerms("user", UNIT, scope="user", value="u1", currency="USD", window="week"),
    BudgetTerms("label", UNIT, scope="label", value="team=a", currency="USD", window="lifetime"),
    BudgetTerms("sessions", UNIT, filter=Filter(models=("live",)), currency="USD"),
    BudgetTerms("rolling", UNIT, currency="USD", window="rolling:30d"),
)


def entries_of_a_busy_ledger() -> list[list[Entry]]:
    """Return commits with every kind of entry that changes what is spent."""
    desk = Desk()
    desk.do(
        usage("a", user="u1"),
        usage("b", user="u2", labels={"team": "a"}),
        usage("old", time="2026-10-30T12:00:00Z", user="u1"),
        usage("future", time="2026-12-02T12:00:00Z"),
        usage("today", time="2026-11-20T08:00:00Z", user="u1", labels={"team": "a"}),
        usage("unpriced", model="new", user="u1"),
        usage("s1", model="live", quantities={"audio.session.seconds": 16}, session="s"),
        usage("s2", model="live", quantities={"audio.session.seconds": 20}, session="s"),
        void("b"),
        adjust("a", quantities={"tokens.input": 10, "tokens.output": 7}),
        void("early", id="v-2"),
        usage("early"),
        void("s1", id="v-3"),
    )
    desk.prices = prices_of(sell("tokens.input", "5", model="new"), sell("tokens.output", "1"))
    desk.do(RerateUsage("acme", "gateway", "unpriced", "price_approved"))
    commits: dict[int, list[Entry]] = {}
    for (version, _), entry in desk.log.items():
        commits.setdefault(version, []).append(entry)
    reversal = ChargeReversed(
        "r-1", "gateway", "old", 7, NOW, "", us("2026-10-30T12:00:00Z"), 0, None, ("", ""), b""
    )
    return [*commits.values(), [reversal]]


def stored(commits: list[list[Entry]]) -> list[Commit]:
    """Return commits as the log has them."""
    return [Commit(b"", 0, tuple(entries)) for entries in commits]


def counted_from_the_beginning(terms: BudgetTerms, commits: list[list[Entry]]) -> dict[int, int]:
    """Return what the budget has spent by window, had it been set first."""
    state = LedgerState(1, "acme")
    evolve(state, LedgerOpened("acme", "USD", "UTC", "default"), (1, 0))
    evolve(state, BudgetSet(0, terms_body(terms)), (1, 1))
    for version, entries in enumerate(commits, start=2):
        for index, entry in enumerate(entries):
            if not isinstance(entry, LedgerOpened):
                evolve(state, entry, (version, index))
    counters = state.protection().counters
    return {start: one.spent for (_, start), one in counters.items() if one.spent}


def test_the_busy_ledger_has_what_it_should() -> None:
    """The comparison below is worth nothing if its entries never come about."""
    kinds = {type(entry).__name__ for entries in entries_of_a_busy_ledger() for entry in entries}
    assert {
        "UsageRecorded",
        "UsageVoided",
        "UsageAdjusted",
        "UsageRerated",
        CorrectionApplied.__name__,
        "ChargeReversed",
    } <= kinds


@pytest.mark.parametrize("terms", TERMS, ids=lambda terms: terms.name)
def test_an_opening_is_what_the_budget_would_have_counted(terms: BudgetTerms) -> None:
    """Every measure, scope and window: the fold and the write path agree."""
    commits = entries_of_a_busy_ledger()
    budget = Budget(0, terms_body(terms))
    opening, counted = opening_of(budget, timezone="UTC", commits=stored(commits), now=NOW)

    earliest = earliest_that_matters(budget, "UTC", NOW)
    expected = counted_from_the_beginning(terms, commits)
    assert dict(opening) == {start: one for start, one in expected.items() if start >= earliest}
    assert counted == len(commits)
    assert bool(opening) == (terms.name != "other money")


@pytest.mark.parametrize("split", range(0, 18, 3))
def test_folding_in_two_parts_is_folding_at_once(split: int) -> None:
    """What came while nobody held the lock is added to what was folded before."""
    commits = entries_of_a_busy_ledger()
    budget = Budget(0, terms_body(TERMS[0]))
    whole, _ = opening_of(budget, timezone="UTC", commits=stored(commits), now=NOW)

    shapes: list[CompiledShape] = []
    spent: dict[int, int] = {}
    for part in (commits[:split], commits[split:]):
        fold_opening(budget, "UTC", shapes, [e for one in part for e in one], spent, NOW)
    assert opening_parts(spent) == whole


def test_shapes_that_are_known_already_are_not_taken_again() -> None:
    """Whoever has the ledger's shapes at hand may give all of them at once."""
    commits = entries_of_a_busy_ledger()
    entries = [entry for one in commits for entry in one]
    budget = Budget(0, terms_body(TERMS[0]))
    shapes: list[CompiledShape] = []
    first: dict[int, int] = {}
    fold_opening(budget, "UTC", shapes, entries, first, NOW)
    defined = sum(isinstance(entry, ShapeDefined) for entry in entries)

    again: dict[int, int] = {}
    fold_opening(budget, "UTC", shapes, entries, again, NOW)
    assert (len(shapes), again) == (defined, first)


@pytest.mark.parametrize(
    ("window", "earliest"),
    [
        ("month", OCTOBER),
        ("day", us("2026-11-19T00:00:00Z")),
        ("week", us("2026-11-09T00:00:00Z")),
        ("hour", us("2026-11-20T09:00:00Z")),
        ("rolling:24h", us("2026-11-18T10:00:00Z")),
        ("rolling:30d", us("2026-09-21T00:00:00Z")),
        ("lifetime", 0),
    ],
)
def test_windows_that_cannot_matter_are_left_out(window: str, earliest: int) -> None:
    """The one before the current still gets late usage; a rolling one looks back twice."""
    budget = Budget(0, terms_body(BudgetTerms("b", 1, currency="USD", window=window)))
    assert earliest_that_matters(budget, "UTC", NOW) == earliest


def test_the_window_before_a_month_is_the_local_one() -> None:
    """Months begin at the tenant's midnight."""
    budget = Budget(0, terms_body(BudgetTerms("b", 1, currency="USD")))
    assert earliest_that_matters(budget, "Asia/Kolkata", NOW) == us("2026-10-01T00:00:00+05:30")


def test_what_adds_up_to_nothing_is_left_out() -> None:
    """An opening has no zeros and is in order of the windows."""
    assert opening_parts({NOVEMBER: 5, 7: 0, OCTOBER: 3}) == ((OCTOBER, 3), (NOVEMBER, 5))
    assert window_at("UTC", "month", NOW)[0] == NOVEMBER
