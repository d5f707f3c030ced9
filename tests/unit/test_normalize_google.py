"""Gemini responses: cached inside the prompt, thoughts outside the candidates, the last usage."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.providers import normalize
from ledger.domain.errors import InvalidInput
from ledger.domain.responses import NormalizedCall

USAGE: dict[str, Any] = {
    "promptTokenCount": 5000,
    "cachedContentTokenCount": 3000,
    "candidatesTokenCount": 400,
    "thoughtsTokenCount": 1100,
    "toolUsePromptTokenCount": 250,
    "totalTokenCount": 6750,
    "promptTokensDetails": [
        {"modality": "TEXT", "tokenCount": 3200},
        {"modality": "AUDIO", "tokenCount": 1000},
        {"modality": "IMAGE", "tokenCount": 258},
        {"modality": "VIDEO", "tokenCount": 542},
    ],
    "cacheTokensDetails": [
        {"modality": "TEXT", "tokenCount": 2400},
        {"modality": "AUDIO", "tokenCount": 600},
    ],
    "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": 400}],
    "toolUsePromptTokensDetails": [{"modality": "TEXT", "tokenCount": 250}],
    "trafficType": "ON_DEMAND",
}
LEAVES = {
    "tokens.input": 1592,
    "tokens.input.cache_read": 3000,
    "tokens.input.audio": 400,
    "tokens.input.image": 258,
    "tokens.output": 400,
    "tokens.output.reasoning": 1100,
}


def response(usage: Any, *, finish: str | None = "STOP", **more: Any) -> dict[str, Any]:
    """Return a response, or a chunk, with this usage."""
    candidate: dict[str, Any] = {"content": {"parts": []}}
    if finish:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": "gemini-2.5-flash",
        "responseId": "r-1",
        **more,
    }


def one(value: Any, provider: str = "google") -> NormalizedCall:
    """Return the only call of a response."""
    (call,) = normalize(provider=provider, response=value)
    return call


def rejected(value: Any) -> tuple[str, str]:
    """Return the code and pointer of the rejection."""
    with pytest.raises(InvalidInput) as caught:
        one(value)
    return caught.value.code, caught.value.pointer


def test_cached_is_inside_the_prompt_tool_use_is_added_and_thoughts_are_outside() -> None:
    """The leaves add up to the stated total, and video counts at the text rate."""
    call = one(response(USAGE))
    assert call.quantities == LEAVES
    assert sum(call.quantities.values()) == USAGE["totalTokenCount"]
    assert (call.provider, call.model, call.request_id, call.tier) == (
        "google",
        "gemini-2.5-flash",
        "r-1",
        "",
    )
    assert call.flags == ("cached_modalities",)


def test_a_stream_takes_its_last_cumulative_usage() -> None:
    """Every chunk repeats the counts so far; they are not added up."""
    early = {"promptTokenCount": 5000, "totalTokenCount": 5000}
    chunks = [
        response(early, finish=None),
        response({**USAGE, "candidatesTokenCount": 1, "totalTokenCount": 6351}, finish=None),
        response(USAGE),
    ]
    call = one(chunks)
    assert (call.quantities, call.outcome) == (LEAVES, "ok")


def test_a_stream_that_was_cut_off_keeps_what_it_stated() -> None:
    """The counts so far are a fact, marked as incomplete."""
    call = one([response({"promptTokenCount": 5, "totalTokenCount": 5}, finish=None)])
    assert (call.quantities, call.outcome) == ({"tokens.input": 5}, "aborted")
    assert call.flags == ("incomplete_stream",)
    nothing = one([{"candidates": [], "modelVersion": "gemini-2.5-flash"}])
    assert (nothing.quantities, nothing.flags) == ({}, ("no_usage_in_stream",))


def test_thoughts_inside_the_candidates_are_taken_out() -> None:
    """The stated total says which way the response counts."""
    usage = {
        "promptTokenCount": 10,
        "candidatesTokenCount": 90,
        "thoughtsTokenCount": 60,
        "totalTokenCount": 100,
    }
    assert one(response(usage)).quantities == {
        "tokens.input": 10,
        "tokens.output": 30,
        "tokens.output.reasoning": 60,
    }


def test_details_that_leave_the_cached_part_out_are_not_cut_again() -> None:
    """Some responses list only the fresh prompt by modality."""
    usage = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 60,
        "candidatesTokenCount": 1,
        "totalTokenCount": 101,
        "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": 10},
            {"modality": "AUDIO", "tokenCount": 30},
        ],
    }
    call = one(response(usage))
    assert call.quantities["tokens.input.audio"] == 30
    assert (call.quantities["tokens.input"], call.flags) == (10, ())


def test_cached_audio_without_cache_details_is_flagged() -> None:
    """Nothing goes below zero where the overlap is unknown."""
    usage = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 80,
        "candidatesTokenCount": 1,
        "totalTokenCount": 101,
        "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": 50},
            {"modality": "AUDIO", "tokenCount": 50},
        ],
    }
    call = one(response(usage))
    assert call.flags == ("overlap",)
    assert call.quantities == {
        "tokens.input": 0,
        "tokens.input.cache_read": 80,
        "tokens.input.audio": 20,
        "tokens.output": 1,
    }


def test_a_proven_overlap_is_taken_out_of_audio_first_then_of_images() -> None:
    """Tokens that must be both are counted as cached."""
    usage = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 80,
        "candidatesTokenCount": 1,
        "totalTokenCount": 101,
        "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": 40},
            {"modality": "AUDIO", "tokenCount": 30},
            {"modality": "IMAGE", "tokenCount": 30},
        ],
    }
    quantities = one(response(usage)).quantities
    assert (quantities["tokens.input.audio"], quantities["tokens.input.image"]) == (0, 20)


def test_generated_images_have_their_own_leaf() -> None:
    """Image output is priced apart from text."""
    usage = {
        "promptTokenCount": 10,
        "candidatesTokenCount": 1300,
        "totalTokenCount": 1310,
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}],
    }
    quantities = one(response(usage)).quantities
    assert (quantities["tokens.output"], quantities["tokens.output.image"]) == (10, 1290)


@pytest.mark.parametrize(
    ("traffic", "tier"),
    [
        ({"trafficType": "ON_DEMAND_PRIORITY"}, "priority"),
        ({"trafficType": "ON_DEMAND_FLEX"}, "flex"),
        ({"trafficType": "PROVISIONED_THROUGHPUT"}, "provisioned"),
        ({"serviceTier": "standard"}, ""),
        ({"serviceTier": "FLEX"}, "flex"),
    ],
)
def test_the_tier_comes_from_the_traffic_type(traffic: dict[str, str], tier: str) -> None:
    """Vertex states a traffic type, the Gemini API a service tier."""
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2, **traffic}
    assert one(response(usage)).tier == tier


@pytest.mark.parametrize(
    ("model", "count", "flags"),
    [
        ("gemini-2.5-pro", 1, ()),
        ("gemini-3.1-flash-lite", 2, ()),
        ("projects/1/endpoints/7", 2, ("search_unit_unknown",)),
    ],
)
def test_grounding_counts_prompts_up_to_gemini_2_5_and_queries_after(
    model: str, count: int, flags: tuple[str, ...]
) -> None:
    """Empty and repeated queries are not billed."""
    queries = ["price of tea", "", "price of tea", "tea exports"]
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
    candidate = {"finishReason": "STOP", "groundingMetadata": {"webSearchQueries": queries}}
    call = one(response(usage, candidates=[candidate], modelVersion=model))
    assert (call.quantities["search.web"], call.flags) == (count, flags)
    assert call.evidence == {"web_search_queries": ["price of tea", "tea exports"]}


def test_no_search_gives_no_leaf() -> None:
    """A response that did not search states no search."""
    assert "search.web" not in one(response(USAGE)).quantities


@pytest.mark.parametrize(
    ("change", "code", "pointer"),
    [
        ({"totalTokenCount": 6751}, "inconsistent_usage", "/usageMetadata/totalTokenCount"),
        ({"promptTokenCount": None}, "missing_usage", "/usageMetadata/promptTokenCount"),
        (
            {"cachedContentTokenCount": 5001},
            "inconsistent_usage",
            "/usageMetadata/cachedContentTokenCount",
        ),
        (
            {"promptTokensDetails": [{"modality": "TEXT", "tokenCount": 5001}]},
            "inconsistent_usage",
            "/usageMetadata/promptTokensDetails",
        ),
        (
            {"cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 1001}]},
            "inconsistent_usage",
            "/usageMetadata/cacheTokensDetails",
        ),
        (
            {"promptTokensDetails": [{"modality": "SMELL", "tokenCount": 1}]},
            "unknown_response_shape",
            "/usageMetadata/promptTokensDetails/0/modality",
        ),
        ({"thoughtsTokenCount": -1}, "invalid_count", "/usageMetadata/thoughtsTokenCount"),
    ],
)
def test_usage_that_fits_no_rule_is_rejected(
    change: dict[str, Any], code: str, pointer: str
) -> None:
    """The total and the modalities have to add up."""
    assert rejected(response(USAGE | change)) == (code, pointer)


def test_two_responses_are_not_one_stream() -> None:
    """The chunks of a stream share their id."""
    assert rejected([response(USAGE), response(USAGE, responseId="r-2")]) == (
        "unknown_response_shape",
        "/1/responseId",
    )


def test_a_response_without_usage_is_rejected() -> None:
    """A whole response states its usage."""
    assert rejected({"candidates": []}) == ("missing_usage", "/usageMetadata")
    assert rejected({"error": {"code": 429}}) == ("provider_error_response", "/error")
