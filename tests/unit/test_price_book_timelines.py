"""Rows along time: news of a list, contradictions of sources, mark-ups."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.domain.price_book import MANUAL, PriceBook
from ledger.domain.price_records import RetireReason
from ledger.domain.price_timelines import contradictions, marked_up, news, percent_at, publish
from ledger.domain.prices import PriceKey, PriceKind, PriceRow

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Y24, Y25, Y26 = (datetime(year, 1, 1, tzinfo=UTC) for year in (2024, 2025, 2026))
NOW = datetime(2026, 6, 1, tzinfo=UTC)
KEY = PriceKey("openai", "gpt-4o", "tokens.input")


def row(rate, start=EPOCH, source="genai-prices", key=KEY, size=1_000_000):
    """Return a row with a price per million."""
    return PriceRow(
        key=key,
        effective_from=start,
        rate=Decimal(rate),
        unit_size=Decimal(size),
        source=source,
    )


def costs(*rows, approved=()):
    """Return openai's costs with rows proposed one by one; ``approved`` are those to approve."""
    book = PriceBook.open(kind=PriceKind.COST, book="", provider="openai", at=NOW)
    for index, one in enumerate(rows):
        refs = book.propose([one], source=one.source, digest="", at=NOW)
        if index in approved:
            book.approve(refs, by="ann", at=NOW)
    return book


def sells():
    """Return openai's rows in the default book."""
    return PriceBook.open(kind=PriceKind.SELL, book="default", provider="openai", at=NOW)


def markups(*pairs):
    """Return the mark-ups of a book, set in this order."""
    book = PriceBook.open(kind=PriceKind.SELL, book="default", provider="*", at=NOW)
    for percent, start in pairs:
        book.set_markup(Decimal(percent), effective_from=start, by="ann", at=NOW)
    return book.markups


def prices(book):
    """Return approved unit prices per million by date."""
    return {
        one.row.effective_from: one.row.unit_rate() * 1_000_000 for one in book.approved.values()
    }


def test_a_list_that_is_in_force_is_no_news():
    """The second pull proposes nothing, whatever unit size the list uses."""
    book = costs(row("2.5"), approved=[0])
    found = news(book, [row("0.0025", size=1000)], source="genai-prices", complete=True)

    assert (found.rows, found.known, found.replaced) == ((), 1, ())


def test_an_open_proposal_is_not_proposed_twice():
    """A pull without approval repeated is no news either."""
    found = news(costs(row("2.5")), [row("2.5")], source="genai-prices", complete=True)

    assert (found.rows, found.known) == ((), 1)


def test_a_changed_proposal_replaces_the_open_one():
    """Of one source, key and date one proposal is open."""
    found = news(costs(row("2.5")), [row("3")], source="genai-prices", complete=True)

    assert ([one.rate for one in found.rows], found.replaced) == ([Decimal(3)], ((2, 0),))


def test_a_proposal_that_the_source_no_longer_makes_is_dropped():
    """A whole list takes back what it does not say any more; approved rows are only reported."""
    book = costs(row("2.5"), row("3", Y25), approved=[0])
    found = news(book, [], source="genai-prices", complete=True)

    assert found.replaced == ((4, 0),)
    assert found.gone == ((2, 0),)


def test_a_list_without_history_takes_nothing_back():
    """An import adds to what its source said before."""
    book = costs(row("2.5", Y25, "litellm"))
    found = news(book, [], source="litellm", complete=False)

    assert (found.replaced, found.gone) == ((), ())


def test_importing_unchanged_prices_later_is_no_news():
    """A list without dates begins at each import; only what changed is proposed."""
    other = PriceKey("openai", "o3", "tokens.input")
    book = costs(row("2", Y25, "litellm"), row("5", Y25, "litellm", other), approved=[0, 1])
    later = [row("2", Y26, "litellm"), row("6", Y26, "litellm", other)]
    found = news(book, later, source="litellm", complete=False)

    assert [one.key.model for one in found.rows] == ["o3"]


def test_where_two_sources_agree_one_row_is_proposed():
    """A row that another source's row covers with the same price is no news."""
    book = costs(row("2.5"))
    assert news(book, [row("2.5", Y25, "litellm")], source="litellm", complete=False).rows == ()


def test_agreement_for_a_part_of_the_time_is_not_agreement():
    """A row is news if the other source has another price later."""
    book = costs(row("2"), row("5", Y26), approved=[0, 1])
    found = news(book, [row("2", Y25, "litellm")], source="litellm", complete=False)

    assert [one.effective_from for one in found.rows] == [Y25]


def test_a_source_may_go_back_to_its_old_rate():
    """2, then 3, then 2 again are three rows."""
    rows = [row("2"), row("3", Y24), row("2", Y25)]
    book = costs(*rows[:2], approved=[0, 1])

    assert news(book, rows, source="genai-prices", complete=True).rows == (rows[2],)


def test_what_a_person_dropped_is_not_proposed_again():
    """A decision is asked for once."""
    book = costs(row("2.5", Y25, "litellm"))
    book.retire([(2, 0)], by="ann", reason=RetireReason.PERSON, at=NOW)
    found = news(book, [row("2.5", Y26, "litellm")], source="litellm", complete=False)

    assert (found.rows, found.decided) == ((), 1)


def test_a_proposal_that_another_sources_approved_row_contradicts_is_held():
    """Both rates are known to the book; a person has to choose."""
    book = costs(row("2.5"), row("3", Y25, "litellm"), approved=[0])

    held = contradictions(book)

    assert {ref: [one.row.rate for one in rivals] for ref, rivals in held.items()} == {
        (4, 0): [Decimal("2.5")]
    }


def test_two_proposals_that_contradict_each_other_are_both_held():
    """Whichever source came first has no advantage before an approval."""
    assert set(contradictions(costs(row("2.5"), row("3", Y25, "litellm")))) == {(2, 0), (3, 0)}


def test_rows_that_never_hold_at_the_same_time_do_not_contradict():
    """A row is compared with what is in force while it would be."""
    book = costs(row("2"), row("3", Y25), row("3", Y26, "litellm"), approved=[0, 1])
    assert contradictions(book) == {}


def test_a_source_does_not_contradict_itself():
    """An update of a source's own row is not held."""
    assert contradictions(costs(row("2"), row("3"), approved=[0])) == {}


def test_a_manual_price_holds_off_the_source_that_differs():
    """What a person set is another source, too."""
    book = costs(row("2"), row("1.5", Y25, MANUAL), row("4", Y26), approved=[0, 1])
    assert set(contradictions(book)) == {(6, 0)}


@pytest.mark.parametrize(
    ("rate", "percent", "sold"),
    [("2.5", "20", "3"), ("2.5", "0", "2.5"), ("2.5", "-100", "0"), ("0.15", "12.5", "0.16875")],
)
def test_a_mark_up_is_exact_where_it_can_be(rate, percent, sold):
    """Sell = cost x (1 + percent / 100), and the note says which cost."""
    made = marked_up(row(rate), version="cost/openai@2.0", percent=Decimal(percent), start=Y25)

    assert made.rate == Decimal(sold)
    assert made.note == f"cost cost/openai@2.0 + {percent} %"
    assert (made.source, made.effective_from, made.currency) == ("markup", Y25, "USD")


def test_a_mark_up_that_is_not_exact_is_rounded_half_even_and_says_so():
    """A unit rate has 12 decimals; 0.000000000125 becomes 0.000000000124 or 0.000000000126."""
    made = marked_up(row("0.0001", size=1_000_000), version="v", percent=Decimal("0.5"), start=Y25)
    tie = marked_up(row("0.000000000001", size=1), version="v", percent=Decimal(50), start=Y25)

    assert made.unit_rate() == Decimal("0.0000000001") + 0
    assert "0.0000000001005 a unit, rounded half-even to 12 decimals" in made.note
    assert tie.unit_rate() == Decimal("0.000000000002")


@given(
    st.decimals("0", "1000", places=6),
    st.decimals("-100", "1000", places=6),
)
def test_a_mark_up_is_never_off_by_more_than_half_a_last_digit(rate, percent):
    """Rounding is the only loss."""
    made = marked_up(row(rate), version="v", percent=percent, start=Y25)
    exact = rate / 1_000_000 * (1 + percent / 100)

    assert abs(made.unit_rate() - exact) <= Decimal("0.5e-12")
    made.check()


def test_approved_costs_are_published_with_the_standing_mark_up():
    """A cost row and a later mark-up give a sell row each."""
    cost, sell = costs(row("2", Y24), approved=[0]), sells()
    said = markups(("20", Y25))

    assert publish(cost, sell, said, keys=[KEY], by="ann", at=NOW) == 2

    assert prices(sell) == {Y24: 2, Y25: Decimal("2.4")}


def test_publishing_again_publishes_nothing():
    """What is published is frozen."""
    cost, sell = costs(row("2", Y24), approved=[0]), sells()
    publish(cost, sell, [], keys=[KEY], by="ann", at=NOW)
    before = sell.version

    assert publish(cost, sell, [], keys=[KEY], by="ann", at=NOW) == 0
    assert sell.version == before


def test_a_manual_sell_price_holds_against_mark_ups():
    """From its date on nothing is derived; before it the mark-up counts."""
    cost, sell = costs(row("2", Y24), row("3", Y26), approved=[0, 1]), sells()
    publish(cost, sell, [], keys=[KEY], by="ann", at=NOW)
    manual = sell.propose([row("9", Y25, MANUAL)], source=MANUAL, digest="", at=NOW)
    sell.approve(manual, by="ann", at=NOW)

    publish(cost, sell, markups(("20", NOW)), keys=[KEY], by="ann", at=NOW)

    assert prices(sell) == {Y24: 2, Y25: 9}


def test_a_retired_manual_price_gives_way_to_the_mark_up_again():
    """What would have been derived is published then."""
    cost, sell = costs(row("2", Y24), approved=[0]), sells()
    [ref] = sell.propose([row("9", EPOCH, MANUAL)], source=MANUAL, digest="", at=NOW)
    sell.approve([ref], by="ann", at=NOW)
    assert publish(cost, sell, [], keys=[KEY], by="ann", at=NOW) == 0

    sell.retire([ref], by="ann", reason=RetireReason.PERSON, at=NOW)
    publish(cost, sell, [], keys=[KEY], by="ann", at=NOW)

    assert prices(sell) == {Y24: 2}


def test_a_retired_cost_takes_its_derived_row_along():
    """The sell price is that of the cost that is in force."""
    cost, sell = costs(row("2", Y24), row("3", Y25), approved=[0, 1]), sells()
    publish(cost, sell, [], keys=[KEY], by="ann", at=NOW)
    cost.retire([(4, 0)], by="ann", reason=RetireReason.PERSON, at=NOW)

    publish(cost, sell, [], keys=[KEY], by="ann", at=NOW)

    assert prices(sell) == {Y24: 2}


def test_the_last_mark_up_set_for_a_date_counts():
    """Before any date it is 0 %."""
    said = markups(("20", Y25), ("30", Y24), ("25", Y25))

    assert [percent_at(said, at) for at in (EPOCH, Y24, Y25, Y26)] == [0, 30, 25, 25]


def test_a_mark_up_from_before_the_first_cost_begins_with_it():
    """There is no sell row before there is a cost."""
    cost, sell = costs(row("2", Y24), approved=[0]), sells()
    publish(cost, sell, markups(("20", EPOCH)), keys=[KEY], by="ann", at=NOW)

    assert prices(sell) == {Y24: Decimal("2.4")}


def test_a_row_from_before_another_sources_is_news():
    """It prices a time that the other source does not."""
    found = news(costs(row("2", Y26)), [row("2", Y25, "litellm")], source="litellm", complete=False)

    assert [one.effective_from for one in found.rows] == [Y25]


def test_a_row_that_gave_way_to_another_source_is_not_proposed_again():
    """Approving one source's row in place of another's is a decision against that one."""
    book = costs(row("2"), row("3", source=MANUAL), approved=[0, 1])
    found = news(book, [row("2")], source="genai-prices", complete=True)

    assert (found.rows, found.decided) == ((), 1)
