"""Price books: given events, when a command, then rows, statuses and events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from adapters.postgres.price_books import PriceMapper
from ledger.domain.errors import InvalidInput, NotFound, Refused
from ledger.domain.money import RoundingMode
from ledger.domain.price_book import PriceBook, parse_version, stream_id
from ledger.domain.price_records import RetireReason
from ledger.domain.prices import (
    ModelMatch,
    PriceKey,
    PriceKind,
    PriceRow,
    PriceStatus,
    QuantityRule,
    RoundingScope,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 1, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
KEY = PriceKey("openai", "gpt-4o", "tokens.input")


def row(rate="2.5", *, key=KEY, start=EPOCH, source="genai-prices", **others):
    """Return a row with a price per million."""
    return PriceRow(
        key=key,
        effective_from=start,
        rate=Decimal(rate),
        unit_size=Decimal(1_000_000),
        source=source,
        source_digest="d1",
        **others,
    )


def open_book(*rows, source="genai-prices", kind=PriceKind.COST, book=""):
    """Return a book of openai in which a source proposed rows."""
    opened = PriceBook.open(kind=kind, book=book, provider="openai", at=NOW)
    opened.propose(rows, source=source, digest="d1", at=NOW)
    return opened


def statuses(book):
    """Return the status of every row by ref."""
    return {ref: one.status.value for ref, one in book.rows.items()}


def replayed(book):
    """Return the book that its events make, each by way of its stored form."""
    mapper, again = PriceMapper(), None
    for event in book.pending_events:
        stored = mapper.to_stored_event(event)
        again = mapper.to_domain_event(stored).mutate(again)
    return again


def test_a_row_is_named_by_the_event_that_proposed_it():
    """The version says book, provider, revision and place, and leads back to the row."""
    book = open_book(row("1"), row("2", key=PriceKey("openai", "o3", "tokens.output")))

    assert [book.version_of(ref) for ref in book.rows] == ["cost/openai@2.0", "cost/openai@2.1"]
    assert parse_version("cost/openai@2.1") == ("prices-cost-openai", (2, 1))


def test_a_sell_row_is_named_by_its_book():
    """A sell book's name stands where cost rows have `cost`."""
    book = open_book(row(), kind=PriceKind.SELL, book="default")

    assert book.id == "prices-sell:default-openai"
    assert book.version_of((2, 0)) == "default/openai@2.0"


@pytest.mark.parametrize(
    "version", ["", "cost/openai", "cost/openai@3", "openai@3.1", "cost/openai@-1.0", "a/@1.2"]
)
def test_what_is_no_version_is_rejected(version):
    """A version that cannot be read is the caller's mistake, never a missing price."""
    with pytest.raises(InvalidInput) as caught:
        parse_version(version)
    assert caught.value.code == "invalid_version"


def test_books_with_dashes_never_share_a_stream():
    """Book `a` of provider `b-c` and book `a-b` of provider `c` are two streams."""
    one = stream_id(kind=PriceKind.SELL, book="a", provider="b-c")
    other = stream_id(kind=PriceKind.SELL, book="a-b", provider="c")

    assert one != other


def test_a_proposed_row_counts_only_once_approved():
    """A proposal is not among the approved rows; after its approval it is, with the approver."""
    book = open_book(row())
    assert not book.approved

    book.approve([(2, 0)], by="ann", at=LATER)

    record = book.record(book.standing((2, 0)))
    assert (record.status, record.approver, record.approved_at) == ("approved", "ann", LATER)
    assert (record.proposed_at, record.source, record.digest) == (NOW, "genai-prices", "d1")
    assert [one.row.rate for one in book.approved.values()] == [Decimal("2.5")]


def test_approving_the_same_key_and_date_again_retires_the_older():
    """Of one key and date one row is approved: the last."""
    book = open_book(row("2.5"))
    book.approve([(2, 0)], by="ann", at=NOW)
    [ref] = book.propose([row("3")], source="genai-prices", digest="d2", at=LATER)

    book.approve([ref], by="bob", at=LATER)

    assert statuses(book) == {(2, 0): "retired", ref: "approved"}
    older = book.record(book.standing((2, 0)))
    assert (older.reason, older.retired_by) == (RetireReason.SUPERSEDED, "bob")


def test_another_date_of_the_same_key_retires_nothing():
    """History is several approved rows."""
    book = open_book(row("2.5"), row("3", start=NOW))
    book.approve([(2, 0), (2, 1)], by="ann", at=NOW)

    assert statuses(book) == {(2, 0): "approved", (2, 1): "approved"}
    assert book.in_force(KEY, NOW - timedelta(days=1)).row.rate == Decimal("2.5")
    assert book.in_force(KEY, NOW).row.rate == Decimal(3)


def test_an_approved_row_cannot_be_approved_again():
    """Only proposed rows can be approved, and nothing is half-done."""
    book = open_book(row("1"), row("2", start=NOW))
    book.approve([(2, 0)], by="ann", at=NOW)
    before = book.version

    with pytest.raises(Refused, match=r"cost/openai@2\.0 is approved"):
        book.approve([(2, 1), (2, 0)], by="bob", at=LATER)

    assert book.version == before
    assert statuses(book)[2, 1] == "proposed"


def test_a_row_that_does_not_exist_cannot_be_approved():
    """An unknown version is not found."""
    with pytest.raises(NotFound) as caught:
        open_book(row()).approve([(9, 9)], by="ann", at=NOW)
    assert caught.value.code == "unknown_price"


def test_a_retired_row_counts_no_more_and_is_remembered():
    """What a person retires is not proposed again by the same source, at that date."""
    book = open_book(row())
    book.approve([(2, 0)], by="ann", at=NOW)

    book.retire([(2, 0)], by="ann", reason=RetireReason.PERSON, at=LATER)

    assert not book.approved
    assert book.was_decided_against(row(), whenever=False)
    assert not book.was_decided_against(row(start=NOW), whenever=False)
    assert book.was_decided_against(row(start=NOW), whenever=True)
    assert not book.was_decided_against(row(source="litellm"), whenever=True)
    with pytest.raises(Refused, match="retired already"):
        book.retire([(2, 0)], by="ann", reason=RetireReason.PERSON, at=LATER)


def test_what_a_source_replaced_itself_is_not_remembered():
    """A source may come back to a rate that it had before."""
    book = open_book(row())
    book.retire([(2, 0)], by="genai-prices", reason=RetireReason.REPLACED, at=NOW)

    assert not book.was_decided_against(row(), whenever=True)


def test_model_names_count_once_a_row_of_their_source_is_approved():
    """Names that a source proposes mean nothing before an approval."""
    book = open_book(row())
    match = ModelMatch(provider="openai", model="gpt-4o", clause={"starts_with": "gpt-4o"})
    assert book.replace_matches([match], source="genai-prices", digest="d1", at=NOW)
    assert list(book.model_matches()) == []

    book.approve([(2, 0)], by="ann", at=NOW)

    assert list(book.model_matches()) == [match]
    assert not book.replace_matches([match], source="genai-prices", digest="d2", at=NOW)


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (row(key=PriceKey("openai", "gpt-4o", "tokens.nonsense")), "unknown_meter"),
        (row(key=PriceKey("other", "gpt-4o", "tokens.input")), "invalid_provider"),
        (row(key=PriceKey("openai", "*", "tokens.input")), "invalid_provider"),
        (row("-1"), "invalid_rate"),
        (row("0.0000000000001"), "rate_not_exact"),
        (row(currency="XXX"), "unknown_currency"),
    ],
)
def test_a_row_that_breaks_a_rule_is_not_proposed(bad, code):
    """A list with one bad row proposes nothing."""
    book = PriceBook.open(kind=PriceKind.COST, book="", provider="openai", at=NOW)

    with pytest.raises(InvalidInput) as caught:
        book.propose([row(), bad], source="x", digest="", at=NOW)

    assert caught.value.code == code
    assert not book.rows


def test_one_list_says_one_thing_about_a_key_and_date():
    """Two rows of one list for the same key and date are refused."""
    with pytest.raises(InvalidInput) as caught:
        open_book(row("1"), row("2"))
    assert caught.value.code == "duplicate_row"


@pytest.mark.parametrize("name", ["", "cost", "a/b", "x" * 65, "tab\tname"])
def test_a_sell_book_needs_a_usable_name(name):
    """A book's name is part of versions, so it has no slash and is not `cost`."""
    with pytest.raises(InvalidInput) as caught:
        PriceBook.open(kind=PriceKind.SELL, book=name, provider="openai", at=NOW)
    assert caught.value.code == "invalid_book"


@pytest.mark.parametrize("percent", ["-100.01", "NaN", "100001", "0.0000001"])
def test_a_mark_up_lies_between_its_bounds(percent):
    """A sell price is never negative, and a percentage has at most 6 decimals."""
    book = PriceBook.open(kind=PriceKind.SELL, book="default", provider="*", at=NOW)
    with pytest.raises(InvalidInput) as caught:
        book.set_markup(Decimal(percent), effective_from=NOW, by="ann", at=NOW)
    assert caught.value.code == "invalid_markup"


def test_the_stored_events_replay_to_the_same_book():
    """Every event goes through its stored form without loss, decimals to the last digit."""
    rule = QuantityRule(Decimal(1), Decimal(15), RoundingMode.HALF_UP, RoundingScope.REQUEST)
    odd = PriceKey("openai", "whisper-1", "audio.stt.seconds", "eu", "priority", True, 200_000)
    book = open_book(row("2.50"), row("0.006", key=odd, quantity_rule=rule, note="n"))
    match = ModelMatch(provider="openai", model="gpt-4o", clause={"or": [{"equals": "x"}]})
    book.replace_matches([match], source="genai-prices", digest="d", at=NOW)
    book.approve([(2, 0), (2, 1)], by="ann", at=NOW)
    book.retire([(2, 1)], by="ann", reason=RetireReason.PERSON, at=LATER)
    book.set_markup(Decimal("12.5"), effective_from=NOW, by="ann", at=NOW)

    again = replayed(book)

    assert [again.record(one) for one in again.rows.values()] == [
        book.record(one) for one in book.rows.values()
    ]
    assert again.rows[2, 0].row.rate.as_tuple() == Decimal("2.50").as_tuple()
    assert list(again.model_matches()) == [match]
    assert (again.markups, again.decided, again.version) == (
        book.markups,
        book.decided,
        book.version,
    )


def test_events_carry_the_time_they_are_given():
    """No event reads the system's clock."""
    book = open_book(row())
    book.approve([(2, 0)], by="ann", at=LATER)

    assert [event.timestamp for event in book.pending_events] == [NOW, NOW, LATER]


def test_only_proposed_rows_are_waiting():
    """Approved and retired rows wait for nobody."""
    book = open_book(row("1"), row("2", start=NOW), row("3", start=LATER))
    book.approve([(2, 0)], by="ann", at=NOW)
    book.retire([(2, 1)], by="ann", reason=RetireReason.PERSON, at=NOW)

    assert [one.ref for one in book.proposed()] == [(2, 2)]
    assert book.rows[2, 1].status is PriceStatus.RETIRED
