"""Prices that the genai-prices data proposes.

The installed data is its own oracle: figures are compared with what the package resolves for the
same model and moment, so that a new release of the data breaks no test.
"""

import re
from bisect import bisect_right
from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pytest
from genai_prices.data import providers as installed
from genai_prices.data_units import unit_data
from genai_prices.types import (
    ClauseContains,
    ClauseEquals,
    ClauseRegex,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)

from adapters.price_sources import genai
from ledger.domain.errors import InvariantViolation
from ledger.domain.meters import STANDARD_METERS
from ledger.domain.money import RoundingMode
from ledger.domain.prices import PriceKey, RoundingScope

UNITS = {unit["price_key"]: unit["per"] for unit in unit_data.values()}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LITERAL = {
    "input_mtok": "tokens.input",
    "output_mtok": "tokens.output",
    "cache_read_mtok": "tokens.input.cache_read",
    "cache_write_mtok": "tokens.input.cache_write",
    "cache_write_1h_mtok": "tokens.input.cache_write.1h",
    "input_audio_mtok": "tokens.input.audio",
    "output_audio_mtok": "tokens.output.audio",
    "output_image_mtok": "tokens.output.image",
    "web_searches_kcount": "search.web",
    "storage_searches_kcount": "search.file",
    "input_document_kpages": "pages",
    "input_mchars": "tts.characters",
}


@pytest.fixture(scope="module")
def loaded():
    """Return the price list of the installed data."""
    return genai.load()


@pytest.fixture(scope="module")
def history(loaded):
    """Return the rows of the installed data by key, in order of time."""
    return by_key(loaded)


def by_key(prices):
    """Return a list's rows by key, in order of time."""
    result = defaultdict(list)
    for row in prices.rows:
        result[row.key].append(row)
    return {key: sorted(rows, key=lambda row: row.effective_from) for key, rows in result.items()}


def standing(history, key, at):
    """Return the row that holds at a moment, or None."""
    rows = history.get(key, [])
    index = bisect_right([row.effective_from for row in rows], at)
    return rows[index - 1] if index else None


def propose(*models, provider="openai", **more):
    """Return the price list of one provider with these models."""
    one = Provider(id=provider, name=provider, api_pattern="x", models=list(models), **more)
    return genai.price_list(providers=[one], units=UNITS)


def model(prices, name="m", **more):
    """Return a model that is matched by its own name."""
    return ModelInfo(id=name, match=ClauseEquals(equals=name), prices=prices, **more)


def rates(prices):
    """Return the rates of a list by meter and threshold, each key's last one."""
    return {(row.key.meter, row.key.context_over): row.rate for row in prices.rows}


def moments(info):
    """Return moments around every change of a model's prices."""
    lists = info.prices if isinstance(info.prices, list) else []
    items = [*lists, *(info.price_variants or [])]
    starts = {
        datetime.combine(item.constraint.start_date, time(), UTC)
        for item in items
        if isinstance(item.constraint, StartDateConstraint)
    }
    edges = {moment - timedelta(seconds=1) for moment in starts} | starts
    return sorted(edges | {EPOCH, datetime(2100, 1, 1, tzinfo=UTC)})


def test_every_row_is_valid_and_on_a_standard_meter(loaded):
    """Each row passes its own check, names a meter we know and carries source and digest."""
    for row in loaded.rows:
        row.check()
        assert row.key.meter in STANDARD_METERS
        assert (row.source, row.source_digest) == ("genai-prices", loaded.digest)
    assert len(loaded.rows) > 5000
    assert re.fullmatch("[0-9a-f]{64}", loaded.digest)


def test_rows_agree_with_the_package_at_every_change_of_every_model(loaded, history):
    """The row standing at a moment has the rate the package resolves, or a reason says why not."""
    excused = defaultdict(str)
    for line in loaded.skipped:
        name, _, reason = line.partition(": ")
        excused[name] += reason
    compared = 0
    for provider in installed:
        ours = genai.PROVIDERS.get(provider.id, provider.id)
        for info in provider.models:
            for at in moments(info):
                prices = vars(info.get_prices(at))
                for key, meter in LITERAL.items():
                    price = prices.get(key)
                    base = price.base if isinstance(price, TieredPrices) else price
                    row = standing(history, PriceKey(ours, info.id, meter), at)
                    if row is not None and base is not None:
                        assert row.rate == base, (ours, info.id, meter, at)
                        assert row.unit_size == UNITS[key]
                        compared += 1
                    elif base is not None:
                        reason = excused[f"{ours}/{info.id}"]
                        assert meter in reason or "time of day" in reason, (ours, info.id, meter)
                    elif row is not None:
                        assert row.note, (ours, info.id, meter)
    assert compared > 5000


def test_batch_and_service_tiers_agree_with_the_package(history):
    """Variants become batch and tier rows with the rates that the package resolves for them."""
    compared = 0
    for provider in installed:
        ours = genai.PROVIDERS.get(provider.id, provider.id)
        for info in provider.models:
            for variant in info.price_variants or []:
                [(name, value)] = variant.when.items()
                if value == "default" or name not in {"processing", "service_tier", "speed"}:
                    continue
                where = {"batch": True} if name == "processing" else {"tier": value}
                at = datetime(2100, 1, 1, tzinfo=UTC)
                for key, price in vars(info.get_prices(at, variant.when)).items():
                    if key not in LITERAL or price is None:
                        continue
                    base = price.base if isinstance(price, TieredPrices) else price
                    row = standing(history, PriceKey(ours, info.id, LITERAL[key], **where), at)
                    assert row is not None
                    assert row.rate == base
                    compared += 1
    assert compared > 200


def test_tiers_of_the_data_become_context_thresholds(history):
    """Every tier of a price without history has a row with its start and its rate."""
    compared = 0
    for provider in installed:
        ours = genai.PROVIDERS.get(provider.id, provider.id)
        for info in provider.models:
            price = vars(info.prices).get("input_mtok") if not isinstance(info.prices, list) else 0
            if isinstance(price, TieredPrices):
                for tier in price.tiers:
                    key = PriceKey(ours, info.id, "tokens.input", context_over=tier.start)
                    assert [row.rate for row in history[key]] == [tier.price]
                    compared += 1
    assert compared > 20


def test_no_row_is_free_unless_the_data_lists_zero(loaded):
    """A model without prices gets no row; nothing unknown is priced at 0."""
    listed = {
        (genai.PROVIDERS.get(provider.id, provider.id), info.id)
        for provider in installed
        for info in provider.models
        if "Decimal('0')" in repr(info.prices) + repr(info.price_variants)
    }
    free = {(row.key.provider, row.key.model) for row in loaded.rows if row.rate == 0}
    assert free <= listed
    empty = propose(model(ModelPrice()))
    assert empty.rows == ()
    assert empty.skipped == ("openai/m: no price is listed",)


def test_models_priced_by_time_of_day_are_skipped_with_that_reason(loaded):
    """A model with a time-of-day price gets no rows and is listed as skipped."""
    for provider in installed:
        for info in provider.models:
            conditions = info.prices if isinstance(info.prices, list) else []
            if conditions and isinstance(conditions[-1].constraint, TimeOfDateConstraint):
                assert not any(
                    (row.key.provider, row.key.model) == (provider.id, info.id)
                    for row in loaded.rows
                )
                reason = f"{provider.id}/{info.id}: the price depends on the time of day"
                assert any(line.startswith(reason) for line in loaded.skipped)
    night = TimeOfDateConstraint(start_time=time(0, 30), end_time=time(16, 30))
    cheap, dear = ModelPrice(input_mtok=Decimal(1)), ModelPrice(input_mtok=Decimal(2))
    conditions = [ConditionalPrice(prices=cheap), ConditionalPrice(constraint=night, prices=dear)]
    assert propose(model(conditions)).rows == ()


def test_a_start_date_is_midnight_utc_and_undated_prices_hold_since_1970():
    """A dated price holds from its day on, the price before it from 1970 on."""
    since = StartDateConstraint(start_date=date(2026, 4, 30))
    conditions = [
        ConditionalPrice(prices=ModelPrice(input_mtok=Decimal(2), output_mtok=Decimal(6))),
        ConditionalPrice(
            constraint=since, prices=ModelPrice(input_mtok=Decimal(1), output_mtok=Decimal(6))
        ),
    ]
    rows = by_key(propose(model(conditions)))
    changed = rows[PriceKey("openai", "m", "tokens.input")]
    assert [(row.effective_from, row.rate) for row in changed] == [
        (EPOCH, 2),
        (datetime(2026, 4, 30, tzinfo=UTC), 1),
    ]
    assert len(rows[PriceKey("openai", "m", "tokens.output")]) == 1


def test_the_last_active_price_wins_whatever_the_order_of_dates():
    """As in the package, a later list entry overrules one with a later date."""
    conditions = [
        ConditionalPrice(prices=ModelPrice(input_mtok=Decimal(1))),
        ConditionalPrice(
            constraint=StartDateConstraint(start_date=date(2026, 6, 1)),
            prices=ModelPrice(input_mtok=Decimal(2)),
        ),
        ConditionalPrice(
            constraint=StartDateConstraint(start_date=date(2026, 1, 1)),
            prices=ModelPrice(input_mtok=Decimal(3)),
        ),
    ]
    rows = by_key(propose(model(conditions)))[PriceKey("openai", "m", "tokens.input")]
    assert [row.rate for row in rows] == [1, 3]


def test_a_meter_that_is_no_longer_priced_loses_its_earlier_rows():
    """A row cannot end, so a stale rate is left out rather than applied for ever."""
    conditions = [
        ConditionalPrice(prices=ModelPrice(input_mtok=Decimal(2), cache_read_mtok=Decimal(1))),
        ConditionalPrice(
            constraint=StartDateConstraint(start_date=date(2026, 6, 1)),
            prices=ModelPrice(input_mtok=Decimal(2)),
        ),
    ]
    prices = propose(model(conditions), provider="x")
    assert ("tokens.input.cache_read", 0) not in rates(prices)
    assert any("tokens.input.cache_read: unpriced from 2026-06-01" in s for s in prices.skipped)


def test_a_context_threshold_that_ends_gets_the_rate_that_then_holds():
    """After a long-context price is dropped, its threshold carries the flat rate."""
    tiered = TieredPrices(base=Decimal(3), tiers=[Tier(start=200_000, price=Decimal(6))])
    conditions = [
        ConditionalPrice(prices=ModelPrice(input_mtok=tiered)),
        ConditionalPrice(
            constraint=StartDateConstraint(start_date=date(2026, 6, 1)),
            prices=ModelPrice(input_mtok=Decimal(4)),
        ),
    ]
    rows = by_key(propose(model(conditions)))
    over = rows[PriceKey("openai", "m", "tokens.input", context_over=200_000)]
    assert [row.rate for row in over] == [6, 4]


def test_a_variant_starts_with_its_first_date_and_keeps_standard_prices_it_does_not_list():
    """Batch rows begin when the data knows the batch; unlisted meters stay standard, noted."""
    batch = PriceVariant(
        when={"processing": "batch"},
        prices=ModelPrice(input_mtok=Decimal(1)),
        constraint=StartDateConstraint(start_date=date(2026, 10, 14)),
    )
    standard = ModelPrice(input_mtok=Decimal(2), web_searches_kcount=Decimal(10))
    rows = by_key(propose(model(standard, price_variants=[batch])))
    [tokens] = rows[PriceKey("openai", "m", "tokens.input", batch=True)]
    assert (tokens.rate, tokens.note) == (1, "")
    assert tokens.effective_from == datetime(2026, 10, 14, tzinfo=UTC)
    [search] = rows[PriceKey("openai", "m", "search.web", batch=True)]
    assert (search.rate, search.note) == (10, "standard rate: none of its own is listed")


def test_the_first_of_two_active_variants_wins():
    """Variants of one context are resolved first to last, each price on its own."""
    late, early = date(2027, 1, 1), date(2026, 10, 14)
    variants = [
        PriceVariant(
            when={"processing": "batch"},
            prices=ModelPrice(input_mtok=Decimal(rate)),
            constraint=StartDateConstraint(start_date=start),
        )
        for rate, start in ((3, late), (1, early))
    ]
    rows = by_key(propose(model(ModelPrice(input_mtok=Decimal(4)), price_variants=variants)))
    found = rows[PriceKey("openai", "m", "tokens.input", batch=True)]
    assert [(row.effective_from.date(), row.rate) for row in found] == [(early, 1), (late, 3)]


def test_a_condition_that_a_row_does_not_have_is_skipped():
    """Price contexts other than batch, tier and speed are named as skipped."""
    variant = PriceVariant(when={"route": "eu"}, prices=ModelPrice(input_mtok=Decimal(9)))
    prices = propose(model(ModelPrice(input_mtok=Decimal(1)), price_variants=[variant]))
    assert set(rates(prices).values()) == {1}
    assert prices.skipped == ("openai/m: route=eu: a row has no such condition",)


def test_reasoning_and_image_rates_are_derived_with_a_note():
    """Reasoning costs output and images cost input unless they are listed."""
    rows = by_key(propose(model(ModelPrice(input_mtok=Decimal(2), output_mtok=Decimal(8)))))
    [reasoning] = rows[PriceKey("openai", "m", "tokens.output.reasoning")]
    assert (reasoning.rate, reasoning.note[:12]) == (8, "output rate:")
    [image] = rows[PriceKey("openai", "m", "tokens.input.image")]
    assert (image.rate, image.note[:11]) == (2, "input rate:")
    listed = ModelPrice(
        input_mtok=Decimal(2),
        input_image_mtok=Decimal(5),
        output_mtok=Decimal(8),
        output_reasoning_mtok=Decimal(3),
    )
    found = rates(propose(model(listed)))
    assert found["tokens.output.reasoning", 0] == 3
    assert found["tokens.input.image", 0] == 5
    assert ("tokens.output.image", 0) not in found


def test_unlisted_cache_reads_and_audio_stay_unpriced():
    """What the source does not list is not derived from the input rate."""
    found = rates(propose(model(ModelPrice(input_mtok=Decimal(2), output_mtok=Decimal(8)))))
    assert {meter for meter, _ in found} == {
        "tokens.input",
        "tokens.input.image",
        "tokens.output",
        "tokens.output.reasoning",
    }


def test_anthropic_cache_writes_are_5m_and_twice_the_input_for_1h():
    """The listed write price is the 5 minute one; 1 hour is twice the input rate, by tier."""
    tiered = TieredPrices(base=Decimal(3), tiers=[Tier(start=200_000, price=Decimal(6))])
    prices = ModelPrice(input_mtok=tiered, cache_write_mtok=Decimal("3.75"))
    found = rates(propose(model(prices, name="claude-x"), provider="anthropic"))
    assert found["tokens.input.cache_write.5m", 0] == Decimal("3.75")
    assert found["tokens.input.cache_write.1h", 0] == 6
    assert found["tokens.input.cache_write.1h", 200_000] == 12
    reseller = rates(propose(model(prices, name="claude-x"), provider="openrouter"))
    assert ("tokens.input.cache_write.1h", 0) not in reseller


def test_listed_one_hour_writes_of_anthropic_are_twice_the_input():
    """The rule for 1 hour writes agrees with every price that the data lists."""
    checked = 0
    for info in next(p for p in installed if p.id == "anthropic").models:
        prices = vars(info.get_prices(datetime(2100, 1, 1, tzinfo=UTC)))
        listed, base = prices.get("cache_write_1h_mtok"), prices.get("input_mtok")
        if isinstance(listed, Decimal) and isinstance(base, Decimal):
            assert listed == 2 * base
            checked += 1
    assert checked


def test_openai_cache_writes_cost_input_only_where_the_model_caches():
    """An OpenAI model with cached input and no listed write price writes at the input rate."""
    caching = ModelPrice(input_mtok=Decimal(2), cache_read_mtok=Decimal(1))
    assert rates(propose(model(caching)))["tokens.input.cache_write", 0] == 2
    plain = ModelPrice(input_mtok=Decimal(2))
    assert ("tokens.input.cache_write", 0) not in rates(propose(model(plain)))
    other = rates(propose(model(caching), provider="groq"))
    assert ("tokens.input.cache_write", 0) not in other


def test_whisper_is_priced_by_the_second_and_rounded_to_whole_seconds(history):
    """whisper-1 has an exact price a second and rounds each request to the nearest second."""
    [row] = history[PriceKey("openai", "whisper-1", "audio.stt.seconds")]
    whisper = next(
        info for p in installed if p.id == "openai" for info in p.models if info.id == "whisper-1"
    )
    assert row.unit_rate() * 3600 == vars(whisper.prices)["input_audio_hours"]
    rule = row.quantity_rule
    assert (rule.increment, rule.mode, rule.scope) == (
        1,
        RoundingMode.HALF_UP,
        RoundingScope.REQUEST,
    )


def test_groq_transcription_has_its_ten_second_minimum():
    """The minimum that the package applies in code is on the row."""
    prices = ModelPrice(audio_hours=Decimal("0.36"), input_audio_hours=Decimal("0.36"))
    [row] = propose(model(prices, name="whisper-large-v3"), provider="groq").rows
    assert row.quantity_rule.minimum == 10
    assert row.quantity_rule.scope is RoundingScope.REQUEST


def test_connected_hours_are_session_seconds():
    """Hours without a direction are those of a session, unless input hours are listed too."""
    [row] = propose(model(ModelPrice(audio_hours=Decimal("3.6")))).rows
    assert (row.key.meter, row.unit_rate()) == ("audio.session.seconds", Decimal("0.001"))


def test_a_rate_that_is_not_exact_takes_its_whole_meter_along():
    """0.111 USD an hour is no exact rate a second, so it is skipped, tiers included."""
    prices = propose(model(ModelPrice(audio_hours=Decimal("0.111"))))
    assert prices.rows == ()
    assert "not exact" in prices.skipped[0]
    tiered = TieredPrices(base=Decimal(1), tiers=[Tier(start=9, price=Decimal("0.0833333"))])
    prices = propose(model(ModelPrice(input_mtok=Decimal(3), cache_write_mtok=tiered)))
    assert {meter for meter, _ in rates(prices)} == {"tokens.input", "tokens.input.image"}


def test_a_unit_without_a_meter_is_reported_unless_its_price_makes_no_difference():
    """Cached audio at the price of cached text is covered; at another price it is reported."""
    same = ModelPrice(
        input_mtok=Decimal(4), cache_read_mtok=Decimal(1), cache_audio_read_mtok=Decimal(1)
    )
    assert propose(model(same)).skipped == ()
    differs = ModelPrice(
        input_mtok=Decimal(4), cache_read_mtok=Decimal(1), cache_audio_read_mtok=Decimal(2)
    )
    [reason] = propose(model(differs)).skipped
    assert "cache_audio_read_mtok" in reason
    unknown = ModelPrice(input_mtok=Decimal(4), brain_waves=Decimal(1))
    [reason] = propose(model(unknown)).skipped
    assert reason == "openai/m: brain_waves: the unit is not in the package's registry"


def test_fallback_models_get_standard_rows_and_come_last_in_precedence():
    """A provider without a price takes the standard one of the provider that it falls back to."""
    own = model(ModelPrice(input_mtok=Decimal(1)), name="own")
    theirs = model(
        ModelPrice(input_mtok=Decimal(2)),
        name="theirs",
        price_variants=[
            PriceVariant(when={"processing": "batch"}, prices=ModelPrice(input_mtok=Decimal(1)))
        ],
    )
    home = Provider(
        id="openai", name="o", api_pattern="x", models=[theirs, model(ModelPrice(), name="own")]
    )
    host = Provider(
        id="azure", name="a", api_pattern="x", models=[own], fallback_model_providers=["openai"]
    )
    prices = genai.price_list(providers=[home, host], units=UNITS)
    at_host = [row for row in prices.rows if row.key.provider == "azure"]
    borrowed = [row for row in at_host if row.key.model == "theirs"]
    assert {row.key.batch for row in borrowed} == {False}
    assert all(row.note.startswith("no price of its own: that of openai") for row in borrowed)
    assert [m.model for m in prices.matches if m.provider == "azure"] == ["own", "theirs"]
    assert "azure/own: the entry of openai is left out: an earlier entry has its id" in (
        prices.skipped
    )


def matches(clause, name):
    """Evaluate a clause against a lower-cased name."""
    [(kind, value)] = clause.items()
    if kind in {"or", "and"}:
        return {"or": any, "and": all}[kind](matches(part, name) for part in value)
    if kind == "regex":
        return re.search(value, name) is not None
    compare = {
        "equals": name.__eq__,
        "starts_with": name.startswith,
        "ends_with": name.endswith,
        "contains": name.__contains__,
    }
    return compare[kind](value)


def test_clauses_find_the_model_that_the_package_finds(loaded):
    """For every seventh model id the first matching clause names the package's own choice."""
    clauses = defaultdict(list)
    for match in loaded.matches:
        clauses[match.provider].append(match)
    names = [(p, info.id.lower()) for p in installed for info in p.models][::7]
    azure = next(p for p in installed if p.id == "azure")
    names += [(azure, "gpt-4o-mini-2024-07-18"), (azure, "claude-sonnet-4-5")]
    for provider, name in names:
        ours = genai.PROVIDERS.get(provider.id, provider.id)
        first = next((m.model for m in clauses[ours] if matches(m.clause, name)), None)
        found = provider.find_model(name, all_providers=installed)
        assert first == (found.id if found else None), (ours, name)


def test_clauses_are_lower_case_and_an_unknown_kind_is_a_defect():
    """Literals are compared in lower case; a clause of a new kind does not pass unnoticed."""
    assert genai.clause(ClauseContains(contains="Qwen/Qwen3")) == {"contains": "qwen/qwen3"}
    assert genai.clause(ClauseRegex(regex=r"^gpt-\d$")) == {"regex": r"^gpt-\d$"}
    with pytest.raises(InvariantViolation):
        genai.clause(object())


def test_the_digest_follows_the_data_and_nothing_else():
    """Equal data has an equal digest; a changed rate or unit changes it."""
    one = propose(model(ModelPrice(input_mtok=Decimal("2.0"))))
    same = propose(model(ModelPrice(input_mtok=Decimal(2)), description="another text"))
    other = propose(model(ModelPrice(input_mtok=Decimal("2.1"))))
    assert one.digest == same.digest
    assert one.digest != other.digest


def test_x_ai_is_called_xai(loaded):
    """Provider names are those of normalized responses, not the package's ids."""
    providers = {match.provider for match in loaded.matches}
    assert {"xai", "openai", "anthropic", "google", "aws", "azure", "groq"} <= providers
    assert "x-ai" not in providers
