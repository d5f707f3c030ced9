"""Price books on PostgreSQL: pull, approve, contradict, mark up, rate later."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from adapters.bootstrap import Tallybook
from adapters.postgres.database import Database
from adapters.postgres.price_books import PostgresPriceBooks
from adapters.price_sources import genai, litellm
from ledger.application.price_lookup import PriceFilter
from ledger.application.price_shelf import PriceLibrary, PricesChanged
from ledger.application.prices import PriceBooks, PriceSources
from ledger.domain.entries import UsageRecorded, UsageRerated
from ledger.domain.errors import NotFound, Refused
from ledger.domain.prices import (
    ModelMatch,
    PriceKey,
    PriceKind,
    PriceList,
    PriceRow,
    PriceStatus,
)
from ledger.domain.shapes import shape_from_body

REPOSITORY = Path(__file__).resolve().parents[2]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Y25 = datetime(2025, 1, 1, tzinfo=UTC)
Y26 = datetime(2026, 1, 1, tzinfo=UTC)
TOPIC = re.compile(r"tb\.[a-z.-]{1,30}:[1-9][0-9]?")


@pytest.fixture(scope="module")
def genai_list() -> PriceList:
    """Return the installed genai-prices data."""
    return genai.load()


@pytest.fixture
def tallybook(database_url: str) -> Iterator[Tallybook]:
    """Give the use cases over a fresh database."""
    opened = Tallybook(Database(database_url))
    yield opened
    opened.close()


def row(
    rate: str,
    *,
    provider: str = "openai",
    model: str = "m1",
    meter: str = "tokens.input",
    start: datetime = EPOCH,
    source: str = "one",
    **others: object,
) -> PriceRow:
    """Return a row with a price per million tokens."""
    return PriceRow(
        key=PriceKey(provider, model, meter),
        effective_from=start,
        rate=Decimal(rate),
        unit_size=Decimal(1_000_000),
        source=source,
        **others,  # type: ignore[arg-type] # members of a row
    )


def listed(*rows: PriceRow, source: str = "one", matches: tuple[ModelMatch, ...] = ()) -> PriceList:
    """Return what a source proposes."""
    return PriceList(source=source, digest=f"digest-{source}", rows=rows, matches=matches)


def usage(id: str, quantities: dict[str, int], *, model: str = "m1", **data: object) -> bytes:
    """Return a usage event of tenant t1."""
    return json.dumps(
        {
            "specversion": "1.0",
            "type": "tallybook.usage.v2",
            "id": id,
            "source": "gw",
            "subject": "t1",
            "time": "2026-02-01T12:00:00Z",
            "data": {"provider": "openai", "model": model, "quantities": quantities, **data},
        }
    ).encode()


def versions(tallybook: Tallybook, id: str) -> list[str]:
    """Return the price versions that rate an event now: sell, then cost."""
    located = tallybook.reads.history(tenant="t1", source="gw", id=id)[-1]
    entry = located.commit.entries[located.index]
    posting = entry.posted if isinstance(entry, UsageRerated) else entry
    assert isinstance(entry, UsageRecorded | UsageRerated)
    shape = shape_from_body(tallybook.reads.shapes("t1")[posting.shape])  # type: ignore[union-attr] # one of the two
    card = shape.shape.card
    return [] if card is None else [leaf.version for leaf in (*card.sell, *card.cost)]


def log(tallybook: Tallybook) -> list[tuple[str, int, str]]:
    """Return stream, version and topic of everything in the log."""
    with tallybook.database.connect(purpose="test") as connection:
        return connection.execute(
            "SELECT originator_id, originator_version, topic FROM ledger_log"
            " ORDER BY notification_id"
        ).fetchall()


def test_pulling_the_installed_prices_twice_is_pulling_once(
    tallybook: Tallybook, genai_list: PriceList
) -> None:
    """All rows are approved and sold at cost; the second pull stores nothing."""
    count = len(genai_list.rows)
    first = tallybook.prices.pull([genai_list], approve=True, by="ann")
    before = log(tallybook)

    second = tallybook.prices.pull([genai_list], approve=True, by="ann")

    assert (first.proposed, first.approved, first.held, first.published) == (count, count, 0, count)
    assert (second.proposed, second.approved, second.known) == (0, 0, count)
    assert log(tallybook) == before
    assert tallybook.prices.list(PriceFilter(kind=PriceKind.COST)).total == count
    assert {one.row for one in _approved(tallybook)} == set(genai_list.rows)


def _approved(tallybook: Tallybook) -> list[object]:
    only = PriceFilter(kind=PriceKind.COST, status=PriceStatus.APPROVED)
    return list(tallybook.prices.list(only, limit=100_000).records)


def test_topics_in_the_log_are_short_and_versioned(tallybook: Tallybook) -> None:
    """Moving a class must not change what is stored."""
    match = ModelMatch(provider="openai", model="m1", clause={"starts_with": "m1"})
    tallybook.prices.pull([listed(row("1"), matches=(match,))], approve=True, by="ann")
    tallybook.prices.markup(Decimal(20), by="ann")
    tallybook.prices.retire(["cost/openai@2.0"], by="ann")

    topics = {topic for _, _, topic in log(tallybook)}

    assert len(topics) == 6
    assert all(TOPIC.fullmatch(topic) for topic in topics)
    assert {stream for stream, _, _ in log(tallybook)} == {
        "prices-cost-openai",
        "prices-sell:default-openai",
        "prices-sell:default-*",
    }


def test_a_proposal_rates_nothing_before_its_approval(tallybook: Tallybook) -> None:
    """Pulled prices are proposals; approving one rates the usage that waited."""
    tallybook.prices.pull([listed(row("2"))], by="ann")
    [recorded] = tallybook.ledger.record([usage("a", {"tokens.input": 1_000_000})])
    assert recorded.flags == ("unpriced",)

    result = tallybook.prices.approve(["cost/openai@2.0"], by="ann")

    assert result.rating is not None
    assert (result.rating.rated, result.rating.unpriced) == (1, 0)
    assert versions(tallybook, "a") == ["default/openai@2.0", "cost/openai@2.0"]
    [balance] = tallybook.reads.balances("t1")
    assert (balance.unpriced, balance.decimal_charge()) == (0, Decimal(2))


def test_a_version_leads_back_to_source_approver_and_status(tallybook: Tallybook) -> None:
    """Whatever rated an entry can be explained, even after it was superseded."""
    tallybook.prices.pull([listed(row("2"))], approve=True, by="ann")
    tallybook.prices.pull([listed(row("3"))], approve=True, by="bob")

    old = tallybook.prices.find("cost/openai@2.0")
    sold = tallybook.prices.find("default/openai@4.0")

    assert (old.row.rate, old.status, old.approver, old.digest) == (
        Decimal(2),
        "retired",
        "ann",
        "digest-one",
    )
    assert (old.retired_by, old.reason) == ("bob", "superseded")
    assert (sold.row.rate, sold.source, sold.approver) == (Decimal(3), "markup", "bob")
    assert re.fullmatch(r"cost cost/openai@\d+\.0 \+ 0 %", sold.note)
    with pytest.raises(NotFound):
        tallybook.prices.find("cost/openai@99.0")


def test_model_names_of_an_approved_source_rate(tallybook: Tallybook) -> None:
    """A dated model name of a response finds the priced model."""
    match = ModelMatch(provider="openai", model="m1", clause={"starts_with": "m1-"})
    tallybook.prices.pull([listed(row("2"), matches=(match,))], approve=True, by="ann")

    [outcome] = tallybook.ledger.record([usage("a", {"tokens.input": 5}, model="m1-2026")])

    assert outcome.flags == ()
    [cost, sell] = tallybook.prices.at(provider="openai", model="m1-2026", meter="tokens.input")
    assert cost.record is not None
    assert cost.record.version == "cost/openai@2.0"
    assert sell.record is not None
    assert "means 'm1'" in " ".join(cost.why)


def test_prices_that_others_approve_reach_an_open_ledger(
    tallybook: Tallybook, database_url: str
) -> None:
    """The next batch rates with what another process approved."""
    assert tallybook.ledger.record([usage("a", {"tokens.input": 1})])[0].flags == ("unpriced",)
    with Database(database_url) as other:
        books(other).pull([listed(row("2"))], approve=True, by="ann")

    assert tallybook.ledger.record([usage("b", {"tokens.input": 1})])[0].flags == ()


def books(database: Database) -> PriceBooks:
    """Return the use cases without a ledger."""
    library = PriceLibrary(PostgresPriceBooks(database))
    return PriceBooks(library, PriceSources(pulled=(), litellm=litellm.load))


def test_rows_that_sources_contradict_are_held_for_a_person(
    tallybook: Tallybook, tmp_path: Path
) -> None:
    """Approving everything leaves them; a person approves one, and the other is not asked again."""
    prices = tallybook.prices
    both = listed(row("2"), row("7", model="m2"))
    prices.pull([both], approve=True, by="ann")
    file = tmp_path / "map.json"
    entry = {"litellm_provider": "openai", "mode": "chat"}
    file.write_text(
        json.dumps(
            {
                "m1": {**entry, "input_cost_per_token": 3e-06},
                "m2": {**entry, "input_cost_per_token": 7e-06},
                "m3": {**entry, "input_cost_per_token": 4e-06},
            }
        )
    )

    imported = prices.import_litellm(file, effective_from=Y26, approve=True, by="ann")
    only_m1 = [one for one in prices.diff() if one.held.row.key.meter == "tokens.input"]
    [held] = only_m1

    assert imported.held == len(prices.diff()) >= 1
    assert held.held.row.unit_rate() == Decimal("0.000003")
    assert [(one.source, one.row.rate) for one in held.rivals] == [("one", Decimal(2))]
    assert prices.approve_all(by="ann").approved == 0
    approved = {one.row.key.model for one in _approved(tallybook)}  # type: ignore[attr-defined] # records
    assert approved == {"m1", "m2", "m3"}

    prices.approve([held.held.version], by="ann")
    assert [one for one in prices.diff() if one.held.row.key.meter == "tokens.input"] == []
    assert prices.find("cost/openai@2.0").status is PriceStatus.APPROVED
    [cost, _] = prices.at(provider="openai", model="m1", meter="tokens.input")
    assert cost.record is not None
    assert cost.record.version == held.held.version


def test_dropping_a_held_row_asks_no_second_time(tallybook: Tallybook) -> None:
    """The same source's same row is not proposed again."""
    prices = tallybook.prices
    prices.pull([listed(row("2"))], approve=True, by="ann")
    other = listed(row("3", source="two"), source="two")
    assert prices.pull([other], approve=True, by="ann").held == 1

    prices.retire([prices.diff()[0].held.version], by="ann")

    again = prices.pull([other], approve=True, by="ann")
    assert (again.proposed, again.held, again.decided) == (0, 0, 1)


def test_a_mark_up_publishes_frozen_sell_rows(tallybook: Tallybook) -> None:
    """New prices from its date on; what was published before stays, and so does what it rated."""
    prices = tallybook.prices
    prices.pull([listed(row("2.5"))], approve=True, by="ann")
    tallybook.ledger.record([usage("a", {"tokens.input": 1_000_000})])

    result = prices.markup(Decimal(20), effective_from=Y26, by="ann")

    sold = prices.list(PriceFilter(kind=PriceKind.SELL, status=PriceStatus.APPROVED)).records
    assert result.published == 1
    assert [(one.row.effective_from, one.row.rate) for one in sold] == [
        (EPOCH, Decimal("2.5")),
        (Y26, Decimal(3)),
    ]
    assert sold[1].note == "cost cost/openai@2.0 + 20 %"
    assert tallybook.reads.balances("t1")[0].decimal_charge() == Decimal("2.5")
    assert prices.rerate(tenant="t1", start=Y25, end=datetime(2027, 1, 1, tzinfo=UTC)).changed == 1
    assert tallybook.reads.balances("t1")[0].decimal_charge() == Decimal(3)
    again = prices.rerate(tenant="t1", start=Y25, end=datetime(2027, 1, 1, tzinfo=UTC))
    assert (again.changed, again.unchanged) == (0, 1)


def test_a_new_sell_book_sells_everything_from_the_beginning(tallybook: Tallybook) -> None:
    """A book of another plan has every approved cost, with its own mark-up."""
    prices = tallybook.prices
    prices.pull([listed(row("2"), row("4", model="m2"))], approve=True, by="ann")

    prices.markup(Decimal(50), book="plan-b", by="ann")

    only = PriceFilter(book="plan-b", status=PriceStatus.APPROVED)
    sold = prices.list(only).records
    assert [(one.row.effective_from, one.row.rate) for one in sold] == [
        (EPOCH, Decimal(3)),
        (EPOCH, Decimal(6)),
    ]
    prices.pull(
        [listed(row("2"), row("4", model="m2"), row("8", model="m3"))], approve=True, by="a"
    )
    assert [one.row.rate for one in prices.list(only).records] == [3, 6, 12]
    tallybook.tenants.open("t1", book="plan-b")
    tallybook.ledger.record([usage("a", {"tokens.input": 1_000_000})])
    assert tallybook.reads.balances("t1")[0].decimal_charge() == Decimal(3)


def test_a_manual_price_begins_where_it_is_needed(tallybook: Tallybook) -> None:
    """The first price of a key holds from the beginning, a later one from now on."""
    tallybook.ledger.record([usage("a", {"tokens.input": 1_000_000})])
    first = tallybook.prices.set(row("2"), kind=PriceKind.COST, by="ann")
    same = tallybook.prices.set(row("2"), kind=PriceKind.COST, by="ann")
    second = tallybook.prices.set(row("3"), kind=PriceKind.COST, by="ann")

    assert first.records[0].row.effective_from == EPOCH
    assert first.rating is not None
    assert first.rating.rated == 1
    assert same.records == first.records
    assert second.records[0].row.effective_from > Y26
    assert tallybook.prices.find(first.records[0].version).status is PriceStatus.APPROVED


def test_rating_later_ends_though_some_stay_unpriced(tallybook: Tallybook) -> None:
    """Events with a leaf that has no price yet, or of an unknown model, are counted and left."""
    tallybook.ledger.record(
        [
            *(usage(f"a{n}", {"tokens.input": 1}) for n in range(2_500)),
            *(usage(f"b{n}", {"tokens.input": 1, "tokens.output": 1}) for n in range(3)),
            usage("c", {"tokens.input": 1}, model="unheard-of"),
        ]
    )

    first = tallybook.prices.set(row("2"), kind=PriceKind.COST, by="ann").rating
    again = tallybook.prices.rate_unpriced()
    rest = tallybook.prices.set(row("8", meter="tokens.output"), kind=PriceKind.COST, by="ann")

    assert first is not None
    assert (first.rated, first.unpriced) == (2_500, 4)
    assert (again.rated, again.unpriced) == (0, 4)
    assert rest.rating is not None
    assert (rest.rating.rated, rest.rating.unpriced) == (3, 1)


def test_a_change_decided_on_old_prices_is_decided_again(database_url: str) -> None:
    """Somebody else's commit in between makes the decision run on the newer shelf."""
    with Database(database_url) as one, Database(database_url) as two:
        library = PriceLibrary(PostgresPriceBooks(one))
        other = books(two)
        heads = []

        def decide(shelf: object, now: datetime) -> None:
            heads.append(shelf.head)  # type: ignore[attr-defined] # a shelf
            if len(heads) == 1:
                other.pull([listed(row("2"))], approve=True, by="bob")
            shelf.open(kind=PriceKind.COST, book="", provider="x", at=now)  # type: ignore[attr-defined] # a shelf

        library.change(decide)  # type: ignore[arg-type] # a shelf

        assert len(heads) == 2
        assert heads[1] > heads[0] == 0
        assert other.find("cost/openai@2.0").status is PriceStatus.APPROVED


def test_a_change_that_is_always_overtaken_is_refused(database_url: str) -> None:
    """It ends, and nothing of it is saved."""
    with Database(database_url) as one, Database(database_url) as two:
        library = PriceLibrary(PostgresPriceBooks(one))
        other = books(two)
        tries = iter(range(1, 100))

        def decide(shelf: object, now: datetime) -> None:
            other.pull([listed(row(str(next(tries))))], by="bob")
            shelf.open(kind=PriceKind.COST, book="", provider="x", at=now)  # type: ignore[attr-defined] # a shelf

        with pytest.raises(Refused) as caught:
            library.change(decide)  # type: ignore[arg-type] # a shelf

        assert caught.value.code == "prices_busy"
        assert not library.read(lambda shelf: "prices-cost-x" in shelf.books)


def test_a_stale_save_appends_nothing(tallybook: Tallybook) -> None:
    """Books of many providers are saved all or none."""
    store = PostgresPriceBooks(tallybook.database)
    tallybook.prices.pull([listed(row("2"))], approve=True, by="ann")
    before = log(tallybook)
    library = PriceLibrary(store)
    changed = library.read(
        lambda shelf: [
            shelf.open(kind=PriceKind.COST, book="", provider=name, at=Y26) for name in "ab"
        ]
    )

    with pytest.raises(PricesChanged):
        store.save(changed, head=1)

    assert log(tallybook) == before


APPROVE = """
import sys
from adapters.postgres.database import Database
from adapters.postgres.price_books import PostgresPriceBooks
from adapters.price_sources import litellm
from ledger.application.price_shelf import PriceLibrary
from ledger.application.prices import PriceBooks, PriceSources
with Database(sys.argv[1]) as database:
    sources = PriceSources(pulled=(), litellm=litellm.load)
    books = PriceBooks(PriceLibrary(PostgresPriceBooks(database)), sources)
    print("ready", flush=True)
    sys.stdin.readline()
    print(books.approve_all(by=sys.argv[2]).approved)
"""


def test_two_processes_that_approve_at_once_approve_each_row_once(
    tallybook: Tallybook, database_url: str
) -> None:
    """Whoever comes second finds nothing left to approve; no row is approved or sold twice."""
    rows = [row("2", provider=f"p{n % 5}", model=f"m{n}") for n in range(500)]
    tallybook.prices.pull([listed(*rows)], by="ann")
    command = [sys.executable, "-c", APPROVE, database_url]
    running = [
        subprocess.Popen(
            [*command, name],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("ann", "bob")
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    counts = []
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in running:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        counts.append(int(out))

    assert sorted(counts) == [0, 500]
    approved = [topic for _, _, topic in log(tallybook) if topic == "tb.prices.approved:1"]
    assert len(approved) == 5 + 5
    assert len(_approved(tallybook)) == 500
