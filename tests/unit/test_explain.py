"""Explaining an event: figures that add up, a history in order, and ids that mean one event."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import count

import pytest
from fakes.building import STANDARD, adjust, both, catalog, sell, us, usage, void

from adapters.memory import MemoryPrices, MemoryStore
from ledger.application.engine import Ledger
from ledger.application.explain import Explanation, explain
from ledger.application.explain_find import MAX_CANDIDATES, AmbiguousId
from ledger.application.ports import StoredCommit, TenantRow
from ledger.application.reads import Located, UsageRow
from ledger.application.sequencer import Sequencer
from ledger.domain.balance import Balance
from ledger.domain.decide import RerateUsage
from ledger.domain.entries import (
    Commit,
    ConflictKept,
    CorrectionApplied,
    UsageAdjusted,
    UsageRecorded,
    UsageRerated,
    UsageVoided,
    commit_digest,
    decode_commit,
    stream_of,
)
from ledger.domain.errors import NotFound
from ledger.domain.ledger import UnpricedUsage
from ledger.domain.price_records import PriceRecord
from ledger.domain.prices import PriceKind, PriceStatus
from ledger.domain.shapes import shape_from_body
from ledger.domain.usage import Correction, RecordUsage

AT = us("2026-11-04T08:00:00Z")
TARGETED = UsageVoided | UsageAdjusted | UsageRerated | CorrectionApplied


class MemoryReads:
    """As much of `Reads` over a store in memory as explaining needs."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store

    def tenants(self) -> Sequence[TenantRow]:
        """Return all tenants."""
        return self.store.tenants()

    def tenant(self, name: str) -> TenantRow:
        """Return a tenant."""
        for row in self.store.tenants():
            if row.tenant == name:
                return row
        raise NotFound(f"no tenant {name}", code="unknown_tenant")

    def _commits(self, tenant_id: int) -> list[StoredCommit]:
        return [one for one in self.store.commits() if one.tenant_id == tenant_id]

    def place(self, *, tenant: str, version: int, index: int) -> Located:
        """Return an entry by its receipt."""
        row = self.tenant(tenant)
        for one in self._commits(row.tenant_id):
            commit = decode_commit(one.state)
            if one.version == version and index < len(commit.entries):
                digest = commit_digest(stream_of(row.tenant_id), version, one.state).hex()
                return Located(row, version, index, commit, digest, one.position)
        raise NotFound("no such entry", code="unknown_event")

    def _all(self, row: TenantRow) -> Iterator[tuple[Located, str]]:
        """Yield usage, corrections and conflicts with the source of usage."""
        for one in self._commits(row.tenant_id):
            for index, entry in enumerate(decode_commit(one.state).entries):
                located = self.place(tenant=row.tenant, version=one.version, index=index)
                source = ""
                if isinstance(entry, UsageRecorded):
                    shape = shape_from_body(self.store.shapes(row.tenant)[entry.shape])
                    source = shape.shape.source
                yield located, source

    def locate(self, *, tenant: str, source: str, id: str) -> Located:
        """Return where the entry of a key is."""
        for located, of in self._all(self.tenant(tenant)):
            entry = located.commit.entries[located.index]
            corrects = isinstance(entry, UsageVoided | UsageAdjusted)
            if (entry.source if corrects else of) == source and getattr(entry, "id", None) == id:
                return located
        raise NotFound("no such event", code="unknown_event")

    def find_id(self, id: str, *, tenant: str | None = None) -> Sequence[Located]:
        """Return the entries whose id or request id it is."""
        rows = self.tenants() if tenant is None else [self.tenant(tenant)]
        found = []
        for row in rows:
            for located, _ in self._all(row):
                entry = located.commit.entries[located.index]
                extra = getattr(entry, "extra", None)
                if getattr(entry, "id", None) == id or (extra and extra.request_id == id):
                    found.append(located)
        return found

    def history(self, *, tenant: str, source: str, id: str) -> Sequence[Located]:
        """Return every entry about an event."""
        found = []
        for located, of in self._all(self.tenant(tenant)):
            entry = located.commit.entries[located.index]
            if isinstance(entry, TARGETED) and (entry.target_source, entry.target_id) == (
                source,
                id,
            ):
                found.append(located)
            elif isinstance(entry, ConflictKept | UsageVoided | UsageAdjusted):
                if (entry.source, entry.id) == (source, id):
                    found.append(located)
            elif of == source and getattr(entry, "id", None) == id:
                found.append(located)
        return found

    def shapes(self, tenant: str) -> Sequence[bytes]:
        """Return a tenant's shapes."""
        return self.store.shapes(tenant)

    def balances(self, tenant: str) -> Sequence[Balance]:
        """Return a tenant's balances."""
        return self.store.balances(tenant)

    def usage(
        self, *, tenant: str, start: date | None, end: date | None, by: Sequence[str]
    ) -> Sequence[UsageRow]:
        """Explaining asks for no rollups."""
        raise NotImplementedError

    def rollup_lag(self) -> int:
        """Explaining asks for no rollups."""
        raise NotImplementedError

    def commits(
        self, *, tenant: str, before: int | None, limit: int
    ) -> Sequence[tuple[int, Commit]]:
        """Explaining looks entries up, it does not list them."""
        raise NotImplementedError

    def unpriced(
        self, *, tenant: str | None = None, limit: int
    ) -> Sequence[tuple[str, UnpricedUsage]]:
        """Explaining asks for one event."""
        raise NotImplementedError

    def now(self) -> datetime:
        """Explaining needs no clock."""
        raise NotImplementedError


class Desk:
    """A ledger in memory, and questions about its events."""

    def __init__(self) -> None:
        ticks = count(AT, 1_000_000)
        self.store = MemoryStore(clock=lambda: next(ticks))
        self.prices = MemoryPrices(self.store, catalog())
        self.ledger = Ledger(Sequencer(self.store, self.prices))
        self.reads = MemoryReads(self.store)

    def run(self, *commands: RecordUsage | Correction | RerateUsage) -> list[str]:
        """Run commands, each in a commit of its own."""
        return [self.ledger.run([command])[0].status for command in commands]

    def ask(self, event: str, **options: object) -> Explanation:
        """Explain an event."""
        return explain(reads=self.reads, event=event, **options)  # type: ignore[arg-type]


@pytest.fixture
def desk() -> Iterator[Desk]:
    """Give a ledger in memory with standard prices."""
    one = Desk()
    yield one
    one.ledger.close()


def figures(found: Explanation, side: str = "sell") -> list[tuple[object, ...]]:
    """Return meter, quantity, billed, rate and amount of each leaf of one side."""
    return [
        (leaf.meter, leaf.quantity, leaf.billed, leaf.rate, leaf.amount)
        for leaf in found.rating.leaves
        if leaf.side == side
    ]


def kinds(found: Explanation) -> list[str]:
    """Return the kinds of the steps of an event's life."""
    return [change.kind for change in found.timeline]


def test_each_leaf_is_billed_quantity_times_unit_rate(desk: Desk) -> None:
    """The figures of both sides, their totals, and that they give the stored amounts."""
    desk.run(usage("e-1", quantities={"tokens.input": 1000, "tokens.output": 200}))
    found = desk.ask("e-1")
    assert figures(found) == [
        ("tokens.input", Decimal(1000), Decimal(1000), Decimal("0.000003"), Decimal("0.003")),
        ("tokens.output", Decimal(200), Decimal(200), Decimal("0.000012"), Decimal("0.0024")),
    ]
    assert found.rating.charge == sum(row[-1] for row in figures(found)) == Decimal("0.0054")  # type: ignore[misc]
    assert found.rating.cost == Decimal("0.0045")
    assert (found.charge, found.costs) == (Decimal("0.0054"), {"USD": Decimal("0.0045")})
    assert (found.recomputed, found.standing) == ("equal", "recorded")


def test_the_proof_names_commit_digest_and_the_digest_before(desk: Desk) -> None:
    """With them the log says the same to whoever holds a receipt."""
    desk.run(usage("e-1"), usage("e-2"))
    first, second = desk.ask("e-1"), desk.ask("e-2")
    assert (first.proof.before, first.proof.commit) == ("", 1)
    assert second.proof.before == first.proof.digest
    assert second.proof.receipt == "acme:2.0"
    assert second.proof.digest == desk.store.tenants()[0].digest.hex()
    assert second.proof.recorded_at == datetime(2026, 11, 4, 8, 0, 1, tzinfo=UTC)
    assert second.proof.position == 2


def test_the_event_is_shown_as_it_was_sent(desk: Desk) -> None:
    """Canonical members, defaults left out; a time that the server gave is no member."""
    desk.run(usage("e-1", time=None, user="ann", labels={"b": "2", "a": "1"}, attempt=2))
    found = desk.ask("e-1")
    assert found.event == {
        "id": "e-1",
        "tenant": "acme",
        "source": "gateway",
        "provider": "openai",
        "model": "gpt",
        "quantities": {"tokens.input": "1000", "tokens.output": "200"},
        "user": "ann",
        "labels": {"b": "2", "a": "1"},
        "attempt": 2,
    }
    assert found.time_defaulted
    assert found.occurred_at == datetime(2026, 11, 4, 8, tzinfo=UTC)
    [key] = desk.store.keys("acme").values()
    assert found.fingerprint == key.fingerprint.hex()


def test_a_rounded_leaf_shows_the_quantity_billed_and_the_rule(desk: Desk) -> None:
    """Seconds are rounded up, and billed at the minimum at least."""
    desk.run(
        usage("e-1", model="whisper", quantities={"audio.stt.seconds": "12.2"}),
        usage("e-2", model="whisper", quantities={"audio.stt.seconds": 3}),
    )
    assert figures(desk.ask("e-1"))[0][1:3] == (Decimal("12.2"), Decimal(13))
    found = desk.ask("e-2")
    assert figures(found)[0][1:3] == (Decimal(3), Decimal(10))
    assert found.rating.leaves[0].rounding == "up to steps of 1, at least 10, per request"
    assert found.recomputed == "equal"


def test_a_leaf_rounded_over_its_session_shows_the_difference_billed(desk: Desk) -> None:
    """The second segment is billed what the session's rounded total grew by."""
    for id, seconds in (("e-1", 10), ("e-2", 4), ("e-3", 7)):
        quantities = {"audio.session.seconds": seconds}
        desk.run(usage(id, model="live", quantities=quantities, session="s"))
    billed = [figures(desk.ask(id))[0][2] for id in ("e-1", "e-2", "e-3")]
    assert billed == [Decimal(15), Decimal(0), Decimal(15)]
    found = desk.ask("e-3")
    assert found.rating.leaves[0].rounding.endswith("per session: R(S+s) - R(S)")
    assert found.rating.charge == Decimal("0.015")
    assert found.recomputed == "equal"


def test_unpriced_usage_says_what_is_missing(desk: Desk) -> None:
    """No amount is shown, least of all zero."""
    desk.run(usage("e-1", model="mystery"))
    found = desk.ask("e-1")
    assert found.rating.charge is None
    assert found.charge is None
    assert found.rating.leaves == ()
    assert set(found.rating.missing) == {
        "sell:tokens.input",
        "sell:tokens.output",
        "cost:tokens.input",
        "cost:tokens.output",
    }
    assert found.rating.quantities["tokens.input"] == 1000
    assert found.recomputed == "unpriced"


def test_usage_rated_later_shows_both_states(desk: Desk) -> None:
    """Unpriced first, then the price that was approved; only the latter counts."""
    desk.run(usage("e-1", model="mystery"))
    rows = [
        *both("tokens.input", 1, 1, model="mystery"),
        *both("tokens.output", 2, 2, model="mystery"),
    ]
    desk.prices.change(catalog(*STANDARD, *rows))
    desk.run(RerateUsage("acme", "gateway", "e-1", "price_approved"))
    found = desk.ask("e-1")
    assert kinds(found) == ["recorded", "rerate"]
    assert found.timeline[1].reason == "price_approved"
    assert found.rating.charge is None
    assert found.stands is not None
    assert found.stands.charge == found.charge == Decimal(1400)
    assert (found.standing, found.recomputed) == ("rerated", "equal")


def test_an_adjusted_and_then_voided_event_counts_nothing(desk: Desk) -> None:
    """What was posted and taken back is in the timeline, in order."""
    desk.run(
        usage("e-1"),
        adjust("e-1", id="a-1", quantities={"tokens.output": 5}, reason="typo"),
        void("e-1", id="v-1", source="desk", reason="refund"),
    )
    found = desk.ask("e-1")
    assert kinds(found) == ["recorded", "adjust", "void"]
    assert found.timeline[1].posted is not None
    assert found.timeline[1].posted.quantities == {"tokens.output": Decimal(5)}
    assert (found.timeline[2].source, found.timeline[2].reason) == ("desk", "refund")
    assert (found.standing, found.stands, found.charge) == ("voided", None, Decimal(0))
    assert found.costs == {"USD": Decimal(0)}


def test_a_correction_that_came_first_shows_where_it_took_effect(desk: Desk) -> None:
    """The adjustment waits, then applies right after the recording."""
    desk.run(adjust("e-1", id="a-1", quantities={"tokens.input": 1}), usage("e-1"))
    found = desk.ask("e-1")
    assert kinds(found) == ["adjust", "recorded", "applied"]
    assert found.timeline[0].note == "came before its event"
    assert found.timeline[2].note == "by acme:1.1"
    assert (found.standing, found.charge) == ("adjusted", Decimal("0.000003"))


def test_an_adjustment_of_a_voided_event_is_said_to_have_no_effect(desk: Desk) -> None:
    """A void outweighs it."""
    desk.run(usage("e-1"), void("e-1"), adjust("e-1"))
    found = desk.ask("e-1")
    assert kinds(found) == ["recorded", "void", "adjust"]
    assert found.timeline[2].note.startswith("without effect")
    assert found.standing == "voided"


def test_refused_payloads_are_shown(desk: Desk) -> None:
    """Those of the event and those of its corrections, with what they contradict."""
    desk.run(usage("e-1"), void("e-1", reason="a"))
    desk.run(usage("e-1", user="other"), void("e-1", reason="b"))
    found = desk.ask("e-1")
    assert kinds(found) == ["recorded", "void", "conflict", "conflict"]
    assert found.timeline[2].payload["user"] == "other"
    assert found.timeline[3].payload["reason"] == "b"
    assert found.timeline[2].note == "contradicts entry 1.2; charged nothing"


def test_an_event_is_found_by_receipt_request_id_and_correction(desk: Desk) -> None:
    """Whatever is at hand names the event."""
    desk.run(usage("e-1", request_id="chatcmpl-9"), void("e-1", id="v-1"))
    desk.run(usage("e-1", user="other"))
    for name in ("e-1", "chatcmpl-9", "v-1", "acme:1.2", "acme:2.0", "acme:3.0"):
        assert desk.ask(name).id == "e-1", name


def test_an_id_that_looks_like_a_receipt_is_still_an_id(desk: Desk) -> None:
    """Producers choose their ids as they like."""
    desk.run(usage("job:7.1"), usage("acme:99.1"))
    assert desk.ask("job:7.1").id == "job:7.1"
    assert desk.ask("acme:99.1").id == "acme:99.1"


def test_an_events_own_id_outweighs_a_request_of_that_name(desk: Desk) -> None:
    """An attempt may be called as another's request; the id is the stricter name."""
    desk.run(usage("x", user="own"), usage("y", request_id="x"))
    assert desk.ask("x").event["user"] == "own"


def test_an_id_of_two_events_lists_both(desk: Desk) -> None:
    """The receipts tell them apart; tenant or source do, too."""
    desk.run(usage("e-1"), usage("e-1", source="other"), usage("e-1", tenant="birch"))
    with pytest.raises(AmbiguousId) as caught:
        desk.ask("e-1")
    assert caught.value.code == "ambiguous_id"
    assert [one.receipt for one in caught.value.candidates] == ["acme:1.2", "acme:2.1", "birch:1.2"]
    assert "acme:2.1" in caught.value.message
    assert desk.ask("e-1", tenant="birch").tenant == "birch"
    assert desk.ask("e-1", source="other").source == "other"
    assert desk.ask("e-1", tenant="acme", source="gateway").proof.receipt == "acme:1.2"


def test_a_long_list_of_candidates_is_cut(desk: Desk) -> None:
    """A message is no report; the attribute holds all."""
    for number in range(MAX_CANDIDATES + 2):
        desk.run(usage(f"e-{number}", request_id="same"))
    with pytest.raises(AmbiguousId, match="and 2 more") as caught:
        desk.ask("same")
    assert len(caught.value.candidates) == MAX_CANDIDATES + 2


@pytest.mark.parametrize("name", ["nothing", "acme:1.9", "acme:9.0", "acme:1.0"])
def test_what_names_no_event_is_unknown(desk: Desk, name: str) -> None:
    """A receipt of the ledger's opening is no event either."""
    desk.run(usage("e-1"))
    with pytest.raises(NotFound) as caught:
        desk.ask(name)
    assert caught.value.code == "unknown_event"


def test_a_correction_without_its_event_says_that_it_waits(desk: Desk) -> None:
    """Nothing to explain yet, and why."""
    desk.run(void("not-there", id="v-1"))
    with pytest.raises(NotFound, match="has not arrived") as caught:
        desk.ask("v-1")
    assert caught.value.code == "unknown_event"


class Records:
    """A price look-up that knows some rows and refuses the others."""

    def __init__(self, known: str) -> None:
        self.known = known
        self.asked: list[str] = []

    def find(self, version: str) -> PriceRecord | None:
        """Return what is known of a row."""
        self.asked.append(version)
        if version.startswith("cost"):
            return None
        if self.known not in version:
            raise NotFound("no such row", code="unknown_price")
        return PriceRecord(
            version=version,
            kind=PriceKind.SELL,
            book="default",
            row=sell("tokens.input", 3).row,
            status=PriceStatus.APPROVED,
            proposed_at=datetime(2026, 1, 1, tzinfo=UTC),
            source="genai-prices",
            digest="ab" * 32,
            approver="ann",
        )


def test_rates_name_their_origin_where_it_is_known(desk: Desk) -> None:
    """An unknown row hides nothing else, and each row is looked up once."""
    desk.run(usage("e-1"), adjust("e-1", quantities={"tokens.input": 1}))
    records = Records("tokens.input")
    found = desk.ask("e-1", prices=records)
    sold, other = found.rating.leaves[:2]
    assert sold.origin is not None
    assert (sold.origin.source, sold.origin.approver) == ("genai-prices", "ann")
    assert other.origin is None
    assert len(records.asked) == len(set(records.asked)) == 4


def test_amounts_that_do_not_follow_from_the_rates_are_called_different(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stored charge is not simply repeated."""
    desk.run(usage("e-1"))
    place = desk.reads.place

    def tampered(*, tenant: str, version: int, index: int) -> Located:
        located = place(tenant=tenant, version=version, index=index)
        entries = tuple(
            UsageRecorded(e.id, e.occurred_at, e.shape, e.quantities, e.charge + 1, e.cost, e.extra)
            if isinstance(e, UsageRecorded)
            else e
            for e in located.commit.entries
        )
        commit = Commit(located.commit.before, located.commit.recorded_at, entries)
        return Located(located.tenant, version, index, commit, located.digest, located.position)

    monkeypatch.setattr(desk.reads, "place", tampered)
    assert desk.ask("e-1").recomputed == "different"


def test_what_events_count_for_adds_up_to_the_balance(desk: Desk) -> None:
    """Over corrections of every kind and all rounding, explanations leave nothing out."""
    chance = random.Random(5)
    calls = {
        "gpt": {"tokens.input": 700, "tokens.output": 3},
        "whisper": {"audio.stt.seconds": "11.5"},
        "live": {"audio.session.seconds": 20},
    }
    ids = [f"e-{number}" for number in range(40)]
    for id in ids:
        model = chance.choice(tuple(calls))
        commands: list[RecordUsage | Correction] = [
            usage(id, model=model, quantities=calls[model], session=chance.choice(("", "s")))
        ]
        if chance.random() < 0.4:
            commands.append(void(id, id=f"v-{id}"))
        if chance.random() < 0.4:
            [meter] = list(calls[model])[:1]
            commands.append(adjust(id, id=f"a-{id}", quantities={meter: 33}))
        chance.shuffle(commands)
        desk.run(*commands)
    found = [desk.ask(id) for id in ids]
    [balance] = desk.store.balances("acme")
    assert sum(one.charge for one in found if one.charge is not None) == balance.decimal_charge()
    assert sum(one.costs["USD"] for one in found) == balance.decimal_costs()["USD"]
    assert {one.recomputed for one in found} == {"equal"}
    assert sum(one.standing == "voided" for one in found) == balance.voided
