"""The demonstration's traffic: repeatable, priced, and wrong only where it means to be."""

from __future__ import annotations

import json
from collections import Counter
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from adapters.cli.demo_traffic import (
    CALLS,
    COMPANIES,
    DUPLICATES,
    UNPRICED_MODEL,
    Traffic,
    generate,
    month_before,
)
from adapters.price_sources import genai
from adapters.providers import normalize
from ledger.application.intake import read_event
from ledger.domain.catalog import Catalog, PricedRow
from ledger.domain.errors import InvalidInput
from ledger.domain.prices import PriceKind
from ledger.domain.responses import NormalizedCall
from ledger.domain.usage import (
    AdjustUsage,
    UsageEvent,
    VoidUsage,
    canonical_quantities,
    record_usage,
)

MONTH = "2026-10"


@lru_cache(maxsize=1)
def traffic() -> Traffic:
    """Return one month, made once for all tests here."""
    return generate(rng=Random(7), month=MONTH)


@lru_cache(maxsize=1)
def envelopes() -> tuple[dict[str, Any], ...]:
    """Return the lines that are JSON, floats refused."""
    found = []
    for line in traffic().lines:
        try:
            found.append(json.loads(line, parse_float=Decimal))
        except ValueError:
            continue
    return tuple(found)


def calls_of(envelope: dict[str, Any]) -> tuple[NormalizedCall, ...]:
    """Return the calls of an envelope's response."""
    response = envelope["stream"] if "stream" in envelope else envelope["response"]
    return normalize(provider=envelope["provider"], response=response)


def test_the_same_seed_and_month_give_the_same_bytes() -> None:
    """Nothing but the arguments decides the traffic."""
    again = generate(rng=Random(7), month=MONTH)
    assert again == traffic()
    assert generate(rng=Random(8), month=MONTH).lines != again.lines


def test_the_month_is_about_five_thousand_calls_of_three_tenants() -> None:
    """The sizes are those that the demonstration promises."""
    assert CALLS <= len(traffic().lines) <= CALLS + 200
    by_tenant = Counter(envelope["tenant"] for envelope in envelopes())
    assert set(by_tenant) == {company.tenant for company in COMPANIES}
    assert min(by_tenant.values()) > 900


def test_every_call_lies_in_the_month_of_its_tenants_own_time_zone() -> None:
    """A period is a month of the tenant's clock, not of UTC."""
    zones = {company.tenant: ZoneInfo(company.timezone) for company in COMPANIES}
    for envelope in envelopes():
        at = datetime.fromisoformat(envelope["occurred_at"])
        assert at.utcoffset() is not None
        assert at.astimezone(zones[envelope["tenant"]]).strftime("%Y-%m") == MONTH


@pytest.mark.parametrize("company", COMPANIES, ids=lambda company: company.tenant)
def test_a_companys_rhythm_has_every_hour_and_weekday(company: Any) -> None:
    """A missing hour would silently never be busy."""
    assert (len(company.hours), len(company.weekdays)) == (24, 7)


def test_weekends_are_quieter_where_offices_close() -> None:
    """The rhythm shows in the traffic."""
    days = Counter(
        datetime.fromisoformat(envelope["occurred_at"]).weekday()
        for envelope in envelopes()
        if envelope["tenant"] == "acme-robotics"
    )
    assert days[6] * 2 < days[2]


def test_exactly_two_lines_cannot_be_read() -> None:
    """One is cut off, one counts below zero; every other line normalizes."""
    assert len(traffic().lines) - len(envelopes()) == 1
    problems = []
    for envelope in envelopes():
        try:
            calls = calls_of(envelope)
        except InvalidInput as error:
            problems.append((error.code, error.pointer))
            continue
        stated = [call for call in calls if call.quantities or envelope.get("quantities")]
        assert len(stated) == len(calls)
    assert problems == [("invalid_count", "/usage/completion_tokens")]


def test_lines_come_again_and_one_id_comes_with_other_tokens() -> None:
    """A gateway that posts twice and one that changes its mind are both there."""
    lines = Counter(traffic().lines)
    assert sum(lines.values()) - len(lines) == DUPLICATES
    versions: dict[str, set[bytes]] = {}
    for line in lines:
        try:
            id = json.loads(line)["id"]
        except ValueError:
            continue
        versions.setdefault(id, set()).add(line)
    assert Counter(map(len, versions.values()))[2] == 1
    assert max(map(len, versions.values())) == 2


def test_a_retry_is_a_second_attempt_with_an_id_of_its_own() -> None:
    """The attempt that broke off is an error, its output the gateway's own count."""
    second = {envelope["id"] for envelope in envelopes() if envelope.get("attempt") == 2}
    first = {e["id"]: e for e in envelopes() if e.get("attempt") == 1}
    assert len(second) == len(first) > 5
    assert not second & first.keys()
    for envelope in first.values():
        [call] = calls_of(envelope)
        assert (call.outcome, call.flags) == ("error", ("incomplete_stream",))
        assert set(envelope["quantities"]) == {"tokens.output"} - call.quantities.keys()


def test_the_corrections_are_a_void_and_an_adjustment_of_calls_that_were_made() -> None:
    """They are CloudEvents that the ledger reads."""
    void, adjust = (read_event(line) for line in traffic().corrections)
    assert isinstance(void, VoidUsage)
    assert isinstance(adjust, AdjustUsage)
    made = {(envelope["tenant"], envelope["source"], envelope["id"]) for envelope in envelopes()}
    for correction in (void, adjust):
        assert (correction.tenant, correction.target_source, correction.target_id) in made


def test_the_example_is_a_call_with_many_leaves() -> None:
    """What is shown to be explained has something to explain."""
    tenant, id = traffic().example
    [found] = {json.dumps(e, default=str): e for e in envelopes() if e["id"] == id}.values()
    [call] = calls_of(found)
    assert found["tenant"] == tenant
    assert sum(1 for quantity in call.quantities.values() if quantity) == 6


def test_every_shape_and_provider_that_is_promised_occurs() -> None:
    """A workload that never happens would be a promise not kept."""
    made = {(envelope["provider"], envelope["project"]) for envelope in envelopes()}
    assert made == {
        (work.provider, work.project) for company in COMPANIES for work in company.works
    }
    meters = {
        meter
        for envelope in envelopes()
        if envelope["response" if "response" in envelope else "stream"]
        and "completion_tokens" not in str(envelope.get("response", {}).get("usage", ""))
        for call in calls_of(envelope)
        for meter, quantity in call.quantities.items()
        if quantity
    }
    assert {
        "tokens.input.cache_write.5m",
        "tokens.input.cache_write.1h",
        "tokens.input.image",
        "tokens.input.audio",
        "tokens.output.audio",
        "tokens.output.reasoning",
        "audio.stt.seconds",
        "tts.characters",
        "search.web",
    } <= meters


def test_the_price_source_prices_every_call_but_the_one_model_that_nobody_has() -> None:
    """What the demonstration shows is priced from the data that comes with the package."""
    prices = genai.load()
    rows = [PricedRow(PriceKind.COST, "", row, "v") for row in prices.rows]
    catalog = Catalog(rows, prices.matches)
    missing = set()
    for envelope in envelopes():
        try:
            calls = calls_of(envelope)
        except InvalidInput:
            continue
        for call in calls:
            quantities = canonical_quantities(call.quantities, pointer="")
            event = UsageEvent(
                id="x",
                source="s",
                tenant=envelope["tenant"],
                provider=call.provider,
                model=call.model,
                tier=call.tier,
                batch=call.batch,
                billable="platform",
                quantities=quantities,
            )
            command = record_usage(event)
            at = datetime.fromisoformat(envelope["occurred_at"])
            rated = catalog.rate(
                event,
                numbers=command.numbers,
                decimals=command.decimals,
                occurred_at=int(at.timestamp()) * 1_000_000,
                book="default",
                currency="USD",
            )
            if rated.shape.unpriced:
                missing.add((call.provider, call.model, rated.shape.shape.missing))
    assert {model for _, model, _ in missing} == {UNPRICED_MODEL}, missing


@pytest.mark.parametrize(
    ("day", "month"),
    [
        (date(2026, 11, 23), "2026-10"),
        (date(2026, 1, 1), "2025-12"),
        (date(2024, 3, 31), "2024-02"),
    ],
)
def test_the_default_month_is_the_last_complete_one(day: date, month: str) -> None:
    """A month that is still running would show half a bill."""
    assert month_before(day) == month


@pytest.mark.parametrize("month", ["2024-02", "2025-12"])
def test_any_month_can_be_played(month: str) -> None:
    """Leap days and year ends are months like others."""
    lines = generate(rng=Random(1), month=month, calls=1000).lines
    stamp = b'"occurred_at":"' + month.encode()
    assert all(stamp in line for line in lines)


@pytest.mark.parametrize("month", ["2026-13", "October", "2000-12", "2099-01"])
def test_what_is_no_month_is_refused(month: str) -> None:
    """The error says what would be right."""
    with pytest.raises(InvalidInput, match="YYYY-MM") as caught:
        generate(rng=Random(1), month=month)
    assert caught.value.code == "invalid_period"
