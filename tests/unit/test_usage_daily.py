"""Daily rollups: the fold against one that is slow and obvious, and against the balances."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.application.workingset import TenantWork
from ledger.domain.amounts import leaf_amounts
from ledger.domain.catalog import Catalog, PricedRow
from ledger.domain.decide import Command, RerateUsage, decide
from ledger.domain.entries import (
    Commit,
    CorrectionApplied,
    Entry,
    Posting,
    ShapeDefined,
    UsageAdjusted,
    UsageRecorded,
    UsageRerated,
    UsageVoided,
)
from ledger.domain.entry_parts import Extra
from ledger.domain.errors import InvariantViolation
from ledger.domain.ledger import LedgerState
from ledger.domain.periods import to_us
from ledger.domain.prices import PriceKey, PriceKind, PriceRow, QuantityRule, RoundingScope
from ledger.domain.shapes import shape_from_body
from ledger.domain.usage import (
    AdjustUsage,
    UsageEvent,
    VoidUsage,
    canonical_quantities,
    record_usage,
)
from ledger.projections.usage_daily import Plan, Rows, TenantView, fold, shapes_used

NOW = to_us(datetime(2026, 11, 20, tzinfo=UTC))
BERLIN = "Europe/Berlin"
RULES = {
    "chat": QuantityRule(),
    "request": QuantityRule(Decimal(1000), Decimal(2000), scope=RoundingScope.REQUEST),
    "session": QuantityRule(Decimal(1000), scope=RoundingScope.SESSION),
}
METERS = ("tokens.input", "tokens.output")


def _rows(*models: str, factor: int = 1) -> list[PricedRow]:
    """Return cost rows in EUR or USD and sell rows in USD for models, a rule each."""
    rows = []
    for model in models:
        for place, meter in enumerate(METERS):
            for kind in PriceKind:
                currency = "EUR" if kind is PriceKind.COST and model == "request" else "USD"
                row = PriceRow(
                    key=PriceKey("openai", model, meter),
                    effective_from=datetime(2020, 1, 1, tzinfo=UTC),
                    rate=Decimal("1.25") * (place + 1) * factor,
                    unit_size=Decimal(1_000_000),
                    currency=currency,
                    quantity_rule=RULES.get(model, QuantityRule()),
                )
                book = "" if kind is PriceKind.COST else "default"
                rows.append(PricedRow(kind, book, row, f"{kind}/{model}@{factor}.{place}"))
    return rows


FIRST = Catalog(_rows("chat", "request", "session"))
SECOND = Catalog(_rows("chat", "request", "session", "mystery", factor=3))


def usage(id: str, **members: Any) -> UsageEvent:
    """Return a usage event with some members given and the others plain."""
    quantities = members.pop("quantities", {"tokens.input": Decimal(1500)})
    defaults = {
        "tenant": "acme",
        "source": "gateway",
        "provider": "openai",
        "model": "chat",
        "occurred_at": NOW,
    }
    return UsageEvent(id=id, quantities=canonical_quantities(quantities), **{**defaults, **members})


def record(*commands: tuple[Command, Catalog], timezone: str = BERLIN) -> TenantWork:
    """Return the ledger that commands lead to."""
    work = TenantWork(LedgerState(1, "acme", timezone=timezone))
    work.open()
    for command, catalog in commands:
        work.append(decide(work.state, command, known=work, catalog=catalog, now=NOW))
    return work


def project(entries: list[Entry], cuts: list[int], timezone: str = BERLIN) -> Rows:
    """Return the rows of entries that were cut into commits and folded one by one."""
    total: Rows = {}
    bodies = [entry.body for entry in entries if isinstance(entry, ShapeDefined)]
    view = TenantView(timezone)
    view.plans = {n: Plan(shape_from_body(body)) for n, body in enumerate(bodies)}
    edges = [0, *sorted(cuts), len(entries)]
    for start, end in pairwise(edges):
        commit = Commit(b"", NOW, tuple(entries[start:end]))
        for key, row in fold([(1, commit)], {1: view}).items():
            was = total.setdefault(key, [0, 0, 0, 0])
            total[key] = [a + b for a, b in zip(was, row, strict=True)]
    return total


def slow_rows(entries: list[Entry], timezone: str) -> Rows:
    """Return the rows by the book: every posting by itself, in decimals."""
    shapes = [shape_from_body(e.body) for e in entries if isinstance(e, ShapeDefined)]
    sums: dict[Any, list[Decimal]] = defaultdict(lambda: [Decimal(0)] * 4)
    for entry in entries:
        if isinstance(entry, UsageRecorded):
            sides: list[tuple[int, Any]] = [(1, entry)]
        elif isinstance(entry, UsageVoided):
            sides = [(-1, entry.reversed)]
        elif isinstance(entry, UsageAdjusted | UsageRerated | CorrectionApplied):
            sides = [(-1, entry.reversed), (1, entry.posted)]
        else:
            continue
        for sign, posting in sides:
            if posting is None:
                continue
            compiled = shapes[posting.shape]
            shape = compiled.shape
            at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=posting.occurred_at)
            day = at.astimezone(ZoneInfo(timezone)).date().isoformat()
            if compiled.stateful:
                charges, costs = posting.extra.leaf_charges, posting.extra.leaf_costs
            else:
                charges, costs = leaf_amounts(compiled, posting.quantities)
            for place, meter in enumerate(shape.meters):
                extra = posting.extra or Extra()
                currency = shape.card.cost_currency if shape.card and shape.card.cost else ""
                row = sums[
                    1, day, shape.provider, shape.model, meter, extra.user, extra.project, currency
                ]
                quantity = Decimal(posting.quantities[place]).scaleb(-shape.decimals)
                row[0] += sign * quantity
                if charges:
                    row[1] += sign * Decimal(charges[place]).scaleb(-compiled.charge_decimals)
                if costs:
                    row[2] += sign * Decimal(costs[place]).scaleb(-compiled.cost_decimals)
                if shape.card is None:
                    row[3] += sign * quantity
    scales = (6, 18, 18, 6)
    return {
        key: [int(value.scaleb(scale)) for value, scale in zip(row, scales, strict=True)]
        for key, row in sums.items()
    }


HOURS = st.integers(0, 24 * 60).map(
    # Both ends of summer time in Berlin 2026, and a month's end.
    lambda hour: (
        to_us(datetime(2026, 3, 20, tzinfo=UTC)) + hour * 900_000_000
        if hour % 2
        else to_us(datetime(2026, 10, 22, tzinfo=UTC)) + hour * 900_000_000
    )
)
AMOUNTS = st.sampled_from([Decimal(0), Decimal(1), Decimal(999), Decimal(1500), Decimal("0.5")])
QUANTITIES = st.dictionaries(st.sampled_from(METERS), AMOUNTS, min_size=1)
IDS = st.integers(0, 7).map(lambda n: f"req-{n}")


@st.composite
def commands(draw: st.DrawFn) -> tuple[Command, Catalog]:
    """Draw usage or a correction of it; events and corrections come in any order."""
    catalog = draw(st.sampled_from([FIRST, FIRST, SECOND]))
    id = draw(IDS)
    kind = draw(st.sampled_from(["use", "use", "use", "void", "adjust", "rerate"]))
    if kind == "void":
        command: Command = VoidUsage(
            tenant="acme", source="g", id=f"v-{id}", target_source="gateway", target_id=id
        )
    elif kind == "adjust":
        command = AdjustUsage(
            tenant="acme",
            source="g",
            id=f"a-{id}",
            target_source="gateway",
            target_id=id,
            quantities=canonical_quantities(draw(QUANTITIES)),
        )
    elif kind == "rerate":
        command = RerateUsage("acme", "gateway", id, "price_changed")
    else:
        command = record_usage(
            usage(
                id,
                quantities=draw(QUANTITIES),
                model=draw(st.sampled_from(["chat", "request", "session", "mystery"])),
                occurred_at=draw(HOURS),
                user=draw(st.sampled_from(["", "ann"])),
                project=draw(st.sampled_from(["", "p1"])),
                session=draw(st.sampled_from(["", "s1"])),
                byok=draw(st.booleans()),
                billable=draw(st.sampled_from(["tenant", "platform"])),
            )
        )
    return command, catalog


@settings(max_examples=150, deadline=None)
@given(st.lists(commands(), min_size=1, max_size=25), st.data())
def test_the_fold_is_the_slow_fold_however_the_log_is_cut(
    asked: list[tuple[Command, Catalog]], data: st.DataObject
) -> None:
    """Usage, corrections, unpriced, rounded and session-rounded leaves: same rows, same numbers."""
    entries = record(*asked).entries
    cuts = data.draw(st.lists(st.integers(0, len(entries)), max_size=4))
    assert project(entries, cuts) == slow_rows(entries, BERLIN)


@settings(max_examples=150, deadline=None)
@given(st.lists(commands(), min_size=1, max_size=25))
def test_the_rows_of_a_month_add_up_to_its_balance(asked: list[tuple[Command, Catalog]]) -> None:
    """Charge, costs by currency and quantities by meter equal what the write path keeps."""
    work = record(*asked)
    sums: dict[str, Any] = {}
    for key, (quantity, charge, cost, _) in project(work.entries, []).items():
        total = sums.setdefault(key[1][:7], [0, defaultdict(int), defaultdict(int)])
        total[0] += charge
        total[1][key[7]] += cost
        total[2][key[4]] += quantity
    kept = {
        name: (
            balance.charge,
            {currency: cost for currency, cost in balance.costs.items() if cost},
            {meter: quantity for meter, quantity in balance.quantities.items() if quantity},
        )
        for name, balance in work.state.balances.items()
    }
    rolled = {
        name: (
            charge,
            {currency: cost for currency, cost in costs.items() if cost},
            {meter: quantity for meter, quantity in quantities.items() if quantity},
        )
        for name, (charge, costs, quantities) in sums.items()
    }
    nothing = (0, {}, {})
    for name in kept.keys() | rolled.keys():
        assert rolled.get(name, nothing) == kept.get(name, nothing)


@pytest.mark.parametrize(
    ("at", "day"),
    [
        ("2026-10-24T21:59:59.999999+00:00", "2026-10-24"),
        ("2026-10-24T22:00:00+00:00", "2026-10-25"),
        ("2026-10-25T22:59:59.999999+00:00", "2026-10-25"),
        ("2026-10-25T23:00:00+00:00", "2026-10-26"),
    ],
)
def test_the_day_with_25_hours_ends_an_hour_later(at: str, day: str) -> None:
    """Days begin and end in the tenant's zone, also where summer time ends."""
    event = usage("one", occurred_at=to_us(datetime.fromisoformat(at)))
    [key] = project(record((record_usage(event), FIRST)).entries, [])
    assert key[1] == day


def test_unpriced_usage_counts_twice_and_costs_nothing() -> None:
    """Its quantity is in quantity and in unpriced; amounts and cost currency are empty."""
    rows = project(record((record_usage(usage("one", model="mystery")), FIRST)).entries, [])
    quantity = 1500 * 10**6
    assert rows == {
        (1, "2026-11-20", "openai", "mystery", "tokens.input", "", "", ""): [
            quantity,
            0,
            0,
            quantity,
        ]
    }


def test_approving_a_price_moves_usage_out_of_unpriced() -> None:
    """Re-rating takes the unpriced row to nothing and fills the one with the cost's currency."""
    work = record(
        (record_usage(usage("one", model="mystery")), FIRST),
        (RerateUsage("acme", "gateway", "one", "price_approved"), SECOND),
    )
    rows = project(work.entries, [])
    place = (1, "2026-11-20", "openai", "mystery", "tokens.input", "", "")
    amount = 1500 * 3_750_000 * 10**6
    assert rows[*place, ""] == [0, 0, 0, 0]
    assert rows[*place, "USD"] == [1500 * 10**6, amount, amount, 0]


def test_a_row_that_adds_up_to_nothing_is_there_however_the_log_is_cut() -> None:
    """A void leaves a row of zeros, whether it came in the same batch or in another."""
    work = record(
        (record_usage(usage("one")), FIRST),
        (
            VoidUsage(tenant="acme", source="g", id="v", target_source="gateway", target_id="one"),
            FIRST,
        ),
    )
    together = project(work.entries, [])
    assert list(together.values()) == [[0, 0, 0, 0]]
    assert project(work.entries, [3]) == together


def test_the_tenants_own_key_has_no_cost_currency() -> None:
    """Without cost rates there is no cost, so its currency is empty."""
    event = usage("one", byok=True)
    [key] = project(record((record_usage(event), FIRST)).entries, [])
    assert key[7] == ""


def test_shapes_used_are_those_of_usage_and_of_corrections() -> None:
    """The runner must load the shapes of reversed and posted postings too."""
    posting = Posting(5, NOW, (1,), 0, 0, None)
    entries: list[Entry] = [
        UsageRecorded("a", NOW, 1, (1,), 0, 0, None),
        UsageVoided("s", "v", "s", "a", "", posting),
        UsageRerated("s", "a", "", posting, Posting(7, NOW, (1,), 0, 0, None)),
        UsageVoided("s", "w", "s", "b", "", None),
    ]
    assert shapes_used(Commit(b"", NOW, tuple(entries))) == {1, 5, 7}


def test_a_shape_that_is_not_there_is_an_invariant_violation() -> None:
    """A commit cannot refer to what the ledger has not defined."""
    commit = Commit(b"", NOW, (UsageRecorded("a", NOW, 3, (1,), 0, 0, None),))
    with pytest.raises(InvariantViolation, match="3"):
        fold([(1, commit)], {1: TenantView("UTC")})


def test_session_rounded_usage_without_its_leaves_is_an_invariant_violation() -> None:
    """Amounts by leaf depend on history; the fold does not guess them."""
    work = record((record_usage(usage("one", model="session", session="s1")), FIRST))
    stripped: list[Entry] = [
        UsageRecorded(e.id, e.occurred_at, e.shape, e.quantities, e.charge, e.cost, None)
        if isinstance(e, UsageRecorded)
        else e
        for e in work.entries
    ]
    with pytest.raises(InvariantViolation, match="do not sum"):
        project(stripped, [])
