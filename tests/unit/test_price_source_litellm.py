"""Prices that a LiteLLM price map file proposes."""

import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import msgspec
import pytest
from genai_prices.types import ClauseEquals, ModelInfo, ModelPrice, Provider

from adapters.price_sources import genai, litellm
from ledger.domain.errors import InvalidInput, Unavailable
from ledger.domain.meters import STANDARD_METERS
from ledger.domain.prices import PriceKey

IMPORTED = datetime(2026, 11, 1, 12, tzinfo=UTC)

GPT_4O = """{
    "litellm_provider": "openai", "mode": "chat", "max_tokens": 16384,
    "input_cost_per_token": 2.5e-06, "output_cost_per_token": 1e-05,
    "cache_read_input_token_cost": 1.25e-06,
    "input_cost_per_token_batches": 1.25e-06, "output_cost_per_token_batches": 5e-06,
    "input_cost_per_token_priority": 4.25e-06, "output_cost_per_token_priority": 1.7e-05,
    "supports_vision": true
}"""


def parse(*entries, effective_from=IMPORTED):
    """Return the list of a file with these (key, JSON text or dict) entries."""
    members = (
        f"{json.dumps(key)}: {entry if isinstance(entry, str) else json.dumps(entry)}"
        for key, entry in entries
    )
    data = "{" + ", ".join(members) + "}"
    return litellm.parse(data=data.encode(), effective_from=effective_from)


def entry(mode="chat", provider="openai", **prices):
    """Return an entry."""
    return {"litellm_provider": provider, "mode": mode, **prices}


def rates(prices):
    """Return unit rates by meter, threshold, tier and batch."""
    return {
        (row.key.meter, row.key.context_over, row.key.tier, row.key.batch): row.unit_rate()
        for row in prices.rows
    }


def standard(prices):
    """Return unit rates of the standard tier by meter, thresholds left out."""
    return {meter: rate for (meter, over, *rest), rate in rates(prices).items() if not over}


def test_token_prices_batches_and_tiers_become_rows():
    """Suffixes of a field's name are the batch and the tier; a tier keeps what it does not list."""
    prices = parse(("gpt-4o", GPT_4O))
    found = rates(prices)
    assert found["tokens.input", 0, "", False] == Decimal("0.0000025")
    assert found["tokens.output", 0, "", False] == Decimal("0.00001")
    assert found["tokens.input.cache_read", 0, "", False] == Decimal("0.00000125")
    assert found["tokens.input", 0, "", True] == Decimal("0.00000125")
    assert found["tokens.output", 0, "", True] == Decimal("0.000005")
    assert found["tokens.input", 0, "priority", False] == Decimal("0.00000425")
    assert found["tokens.output.reasoning", 0, "priority", False] == Decimal("0.000017")
    assert found["tokens.input.cache_read", 0, "priority", False] == Decimal("0.00000125")
    assert ("tokens.input.cache_read", 0, "", True) not in found
    notes = {row.key: row.note for row in prices.rows}
    kept = PriceKey("openai", "gpt-4o", "tokens.input.cache_read", tier="priority")
    assert notes[kept] == "standard rate: none of its own is listed"
    assert prices.skipped == ()


def test_every_row_is_valid_named_and_dated_by_the_import():
    """Rows pass their check and hold from the given time, in UTC."""
    berlin = datetime(2026, 11, 1, 13, tzinfo=timezone(timedelta(hours=1)))
    prices = parse(("gpt-4o", GPT_4O), effective_from=berlin)
    for row in prices.rows:
        row.check()
        assert row.key.meter in STANDARD_METERS
        assert (row.effective_from, row.effective_from.tzinfo) == (IMPORTED, UTC)
        assert (row.source, row.source_digest) == ("litellm", prices.digest)


@pytest.mark.parametrize("literal", ["2.5e-06", "3.083e-05", "1e-07", "5.46875e-07", "0.1"])
def test_a_number_is_the_decimal_of_its_text(literal):
    """Decoding the text gives what Decimal(repr(float)) gives: no binary fraction gets in."""
    decoded = msgspec.json.Decoder(float_hook=Decimal).decode(literal)
    assert decoded == Decimal(literal) == Decimal(repr(float(literal)))
    text = f'{{"litellm_provider": "x", "mode": "chat", "input_cost_per_token": {literal}}}'
    assert standard(parse(("m", text)))["tokens.input"] == Decimal(literal)


def test_equal_prices_of_both_sources_have_equal_unit_rates():
    """A price a token and the same price per million tokens can be told to agree."""
    gpt = ModelInfo(
        id="gpt-4o",
        match=ClauseEquals(equals="gpt-4o"),
        prices=ModelPrice(
            input_mtok=Decimal("2.5"), output_mtok=Decimal(10), cache_read_mtok=Decimal("1.25")
        ),
    )
    provider = Provider(id="openai", name="o", api_pattern="x", models=[gpt])
    units = {"input_mtok": 10**6, "output_mtok": 10**6, "cache_read_mtok": 10**6}
    theirs = genai.price_list(providers=[provider], units=units)
    ours = parse(
        (
            "gpt-4o",
            entry(
                input_cost_per_token=2.5e-06,
                output_cost_per_token=1e-05,
                cache_read_input_token_cost=1.25e-06,
            ),
        )
    )
    assert rates(ours) == rates(theirs)


def test_thresholds_hold_past_the_named_number_and_for_xai_from_it_on():
    """_above_200k_tokens is more than 200,000 tokens; xAI's threshold is inclusive."""
    fields = {"input_cost_per_token": 3e-06, "input_cost_per_token_above_200k_tokens": 6e-06}
    found = rates(parse(("claude-x", entry(provider="anthropic", **fields))))
    assert found["tokens.input", 200_000, "", False] == Decimal("0.000006")
    found = rates(parse(("xai/grok", entry(provider="xai", **fields))))
    assert found["tokens.input", 199_999, "", False] == Decimal("0.000006")


def test_a_threshold_and_a_tier_combine_and_missing_ones_are_reported():
    """A tier can have its own long-context rate; a meter without the threshold is pointed out."""
    prices = parse(
        (
            "m",
            entry(
                input_cost_per_token=1e-06,
                output_cost_per_token=4e-06,
                input_cost_per_token_above_272k_tokens=2e-06,
                input_cost_per_token_above_272k_tokens_priority=5e-06,
                input_cost_per_token_priority=3e-06,
            ),
        )
    )
    found = rates(prices)
    assert found["tokens.input", 272_000, "priority", False] == Decimal("0.000005")
    assert found["tokens.input", 272_000, "", False] == Decimal("0.000002")
    assert any("tokens.output: no rate over 272000" in line for line in prices.skipped)


def test_a_threshold_without_a_base_rate_is_skipped():
    """A long-context rate alone would leave short requests to nothing; it is named instead."""
    prices = parse(("m", entry(output_cost_per_token_above_128k_tokens=2e-06)))
    assert prices.rows == ()
    assert prices.skipped == (
        "openai/m: tokens.output over 128000: no rate below that threshold is listed",
    )


def test_anthropic_cache_writes_of_5_minutes_and_1_hour():
    """The listed write price is the 5 minute one; 1 hour is listed, or twice the input rate."""
    fields = {"input_cost_per_token": 3e-06, "cache_creation_input_token_cost": 3.75e-06}
    found = standard(parse(("claude-x", entry(provider="anthropic", **fields))))
    assert found["tokens.input.cache_write"] == Decimal("0.00000375")
    assert found["tokens.input.cache_write.5m"] == Decimal("0.00000375")
    assert found["tokens.input.cache_write.1h"] == Decimal("0.000006")
    fields["cache_creation_input_token_cost_above_1hr"] = 7e-06
    found = standard(parse(("claude-x", entry(provider="anthropic", **fields))))
    assert found["tokens.input.cache_write.1h"] == Decimal("0.000007")


@pytest.mark.parametrize(
    ("key", "litellm_provider", "expected"),
    [
        ("gpt-4o", "openai", ("openai", "gpt-4o", "")),
        ("azure/gpt-4o", "azure", ("azure", "gpt-4o", "")),
        ("azure/eu/gpt-4o", "azure", ("azure", "gpt-4o", "eu")),
        ("azure_ai/grok-3", "azure_ai", ("azure", "grok-3", "")),
        (
            "bedrock/us-east-1/anthropic.claude-v2:1",
            "bedrock",
            ("aws", "anthropic.claude-v2:1", "us-east-1"),
        ),
        ("bedrock/us-gov-west-1/x", "bedrock", ("aws", "x", "us-gov-west-1")),
        ("bedrock/*/x", "bedrock", ("aws", "x", "")),
        ("us.amazon.nova-lite-v1:0", "bedrock_converse", ("aws", "us.amazon.nova-lite-v1:0", "")),
        ("vertex_ai/claude-x", "vertex_ai-anthropic_models", ("google", "claude-x", "")),
        ("gemini/gemini-x", "gemini", ("google", "gemini-x", "")),
        ("gemini-x", "vertex_ai-language-models", ("google", "gemini-x", "")),
        ("groq/openai/gpt-oss-20b", "groq", ("groq", "openai/gpt-oss-20b", "")),
        ("openrouter/openai/gpt-4o", "openrouter", ("openrouter", "openai/gpt-4o", "")),
        ("together_ai/Qwen/Qwen3", "together_ai", ("together", "Qwen/Qwen3", "")),
        ("fireworks_ai/accounts/x", "fireworks_ai", ("fireworks", "accounts/x", "")),
        ("somebody/m", "somebody", ("somebody", "m", "")),
    ],
)
def test_a_key_is_split_into_provider_model_and_region(key, litellm_provider, expected):
    """The provider is that of the entry; its prefix and a region go from the model's name."""
    prices = parse((key, entry(provider=litellm_provider, input_cost_per_token=1e-06)))
    row = prices.rows[0]
    assert (row.key.provider, row.key.model, row.key.region) == expected
    [match] = prices.matches
    assert match.clause == {"equals": expected[1].lower()}


def test_listed_aliases_match_too():
    """Alternate names that an entry lists mean its model."""
    prices = parse(("m", entry(input_cost_per_token=1e-06, aliases=["m-20260101"])))
    assert prices.matches[0].clause == {"or": [{"equals": "m"}, {"equals": "m-20260101"}]}


@pytest.mark.parametrize(
    ("mode", "fields", "expected"),
    [
        (
            "audio_transcription",
            {"input_cost_per_second": 0.0001, "output_cost_per_second": 0.0},
            {"audio.stt.seconds": "0.0001"},
        ),
        (
            "audio_transcription",
            {"output_cost_per_second": 0.0001},
            {"audio.stt.seconds": "0.0001"},
        ),
        ("audio_speech", {"input_cost_per_character": 1.5e-05}, {"tts.characters": "0.000015"}),
        ("audio_speech", {"output_cost_per_second": 0.00025}, {"audio.tts.seconds": "0.00025"}),
        ("image_generation", {"output_cost_per_image": 0.04}, {"images": "0.04"}),
        ("image_generation", {"input_cost_per_image": 0.011}, {"images": "0.011"}),
        ("ocr", {"ocr_cost_per_page": 0.001}, {"pages": "0.001"}),
        ("search", {"input_cost_per_query": 0.005}, {"search.web": "0.005"}),
        ("chat", {"file_search_cost_per_1k_calls": 2.5}, {"search.file": "0.0025"}),
        ("chat", {"code_interpreter_cost_per_session": 0.03}, {"code.sessions": "0.03"}),
        (
            "chat",
            {"input_cost_per_token_cache_hit": 1.4e-07},
            {"tokens.input.cache_read": "0.00000014"},
        ),
        (
            "chat",
            {"input_cost_per_audio_token": 4e-05, "output_cost_per_audio_token": 8e-05},
            {"tokens.input.audio": "0.00004", "tokens.output.audio": "0.00008"},
        ),
        (
            "chat",
            {"output_cost_per_token": 1e-06, "output_cost_per_reasoning_token": 3e-06},
            {"tokens.output": "0.000001", "tokens.output.reasoning": "0.000003"},
        ),
    ],
)
def test_other_units_go_to_their_meters(mode, fields, expected):
    """Seconds, characters, images, pages and searches are priced where the mode is clear."""
    found = standard(parse(("m", entry(mode, **fields))))
    assert found == {meter: Decimal(rate) for meter, rate in expected.items()}


@pytest.mark.parametrize(
    ("mode", "fields"),
    [
        ("chat", {"input_cost_per_second": 0.01}),
        ("chat", {"input_cost_per_image": 0.01}),
        ("chat", {"input_cost_per_character": 1e-06}),
        ("chat", {"regional_endpoint_uplift_multiplier": 1.1}),
        ("chat", {"provider_specific_entry": {"us": 1.1}}),
        ("chat", {"never_seen_cost_per_wish": 1}),
        ("video_generation", {"output_cost_per_second": 0.1}),
        ("rerank", {"input_cost_per_query": 0.002}),
    ],
)
def test_a_price_field_without_a_meter_is_skipped_by_name(mode, fields):
    """What no row can say is listed with the field's name and leaves no row."""
    prices = parse(("m", entry(mode, **fields)))
    assert prices.rows == ()
    [reason] = prices.skipped
    assert reason.startswith(f"openai/m: {next(iter(fields))}: ")


def test_an_image_price_beside_an_image_token_price_is_not_charged_twice():
    """A price an image is left out where the same image is priced by its tokens."""
    fields = {"output_cost_per_image": 0.04, "output_cost_per_image_token": 3e-05}
    prices = parse(("m", entry("image_generation", **fields)))
    assert set(standard(prices)) == {"tokens.output.image"}
    assert prices.skipped[0].startswith("openai/m: output_cost_per_image: ")


@pytest.mark.parametrize(
    "extra",
    [
        {"tiered_pricing": [{"range": [0, 32000], "input_cost_per_token": 1e-06}]},
        {"off_peak_pricing": {"hours_utc": "16:30-00:30"}},
    ],
)
def test_an_entry_whose_token_prices_vary_otherwise_is_left_out_whole(extra):
    """Ranges and times of day overrule the plain rates, which would be wrong on their own."""
    prices = parse(("m", entry(input_cost_per_token=2e-06, **extra)))
    assert prices.rows == ()
    assert prices.skipped[0].endswith("the entry is left out as a whole")


def test_web_search_is_priced_only_where_the_context_size_makes_no_difference():
    """Three equal prices are one price; different ones cannot be a row."""
    name = "search_context_size_"
    same = {f"{name}low": 0.01, f"{name}medium": 0.01, f"{name}high": 0.01}
    found = standard(parse(("m", entry(search_context_cost_per_query=same))))
    assert found == {"search.web": Decimal("0.01")}
    for other in ({**same, f"{name}high": 0.05}, {f"{name}low": 0.01}):
        prices = parse(("m", entry(search_context_cost_per_query=other)))
        assert prices.rows == ()
        assert "search context size" in prices.skipped[0]
    by_prompt = entry(search_context_cost_per_query=same, web_search_billing_unit="per_prompt")
    assert parse(("m", by_prompt)).rows == ()


def test_a_rate_beyond_twelve_decimals_is_skipped_with_its_meter():
    """No unit size makes such a rate exact a token, so it is named and left out."""
    prices = parse(("m", entry(input_cost_per_token=8.333333333333333e-08)))
    assert prices.rows == ()
    assert prices.skipped[0].startswith("openai/m: tokens.input: ")
    assert "not exact in 12 decimals" in prices.skipped[0]


def test_a_listed_zero_is_proposed_as_what_it_is():
    """A zero in the file is a row whose note says so, for a person to judge; null is no price."""
    text = """{"litellm_provider": "x", "mode": "chat",
               "input_cost_per_token": 0.0, "output_cost_per_token": null}"""
    prices = parse(("m", text))
    noted = {row.key.meter: (row.rate, row.note) for row in prices.rows}
    assert noted["tokens.input"] == (0, "the source lists 0")
    assert "tokens.output" not in noted


def test_entries_that_contradict_each_other_are_both_skipped():
    """Two keys that mean one model must agree; otherwise both rates are shown and none used."""
    first = ("gemini/g", entry(provider="gemini", input_cost_per_token=1e-06))
    agreeing = ("g", entry(provider="vertex_ai", input_cost_per_token=1e-06))
    assert standard(parse(first, agreeing))["tokens.input"] == Decimal("0.000001")
    third = ("palm/g", entry(provider="palm", input_cost_per_token=2e-06))
    prices = parse(first, agreeing, third)
    assert "tokens.input" not in standard(prices)
    said = [line for line in prices.skipped if line.startswith("google/g: tokens.input: ")]
    assert "says 0.000001 USD" in said[0]
    assert "says 0.000002 USD" in said[1]


def test_documentation_members_are_no_models():
    """The sample entry and the fallback rules are not read."""
    sample = {"input_cost_per_token": "a price", "litellm_provider": "one of …"}
    prices = parse(("sample_spec", sample), ("fallback_generalizations", {"rules": []}))
    assert (prices.rows, prices.matches, prices.skipped) == ((), (), ())


@pytest.mark.parametrize(
    ("data", "pointer"),
    [
        (b"{", ""),
        (b"\xff\xfe", ""),
        (b"[]", ""),
        (b"[" * 100_000, ""),
        (b'{"a/b": 1}', "/a~1b"),
        (b'{"a": {}}', "/a/litellm_provider"),
        (b'{"openai/": {"litellm_provider": "openai"}}', "/openai~1"),
        (
            b'{"a": {"litellm_provider": "x", "input_cost_per_token": "1"}}',
            "/a/input_cost_per_token",
        ),
        (
            b'{"a": {"litellm_provider": "x", "input_cost_per_token": true}}',
            "/a/input_cost_per_token",
        ),
        (
            b'{"a": {"litellm_provider": "x", "input_cost_per_token": -1e-6}}',
            "/a/input_cost_per_token",
        ),
        (b'{"a": {"litellm_provider": "x", "aliases": [1]}}', "/a/aliases"),
    ],
)
def test_a_malformed_file_is_refused_with_a_pointer(data, pointer):
    """The whole file is refused, and the pointer names the offending member."""
    with pytest.raises(InvalidInput) as caught:
        litellm.parse(data=data, effective_from=IMPORTED)
    assert (caught.value.code, caught.value.pointer) == ("invalid_price_file", pointer)


def test_a_date_without_an_offset_is_refused():
    """Rows cannot be dated by a local time of nobody knows where."""
    with pytest.raises(InvalidInput) as caught:
        parse(effective_from=datetime(2026, 1, 1))  # noqa: DTZ001 - the naive time is the point
    assert caught.value.code == "invalid_time"


class _Broken:
    """A path that cannot be opened."""

    def open(self, mode):
        """Fail as a missing file does."""
        raise FileNotFoundError(2, "No such file or directory")


def test_an_unreadable_file_is_unavailable():
    """Failing to read is told apart from reading nonsense."""
    with pytest.raises(Unavailable) as caught:
        litellm.load(path=_Broken(), effective_from=IMPORTED)
    assert caught.value.code == "price_file_unreadable"


def test_the_digest_is_that_of_the_file():
    """Rows can be traced to the exact bytes of the file that said so."""
    seen = defaultdict(list)
    for data in (b"{}", b"{ }", b"{}"):
        seen[litellm.parse(data=data, effective_from=IMPORTED).digest].append(data)
    assert sorted(map(len, seen.values())) == [1, 2]
