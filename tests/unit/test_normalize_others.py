"""Bedrock, Cohere and OpenAI-compatible providers; names, detection, event streams."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from adapters.providers import PROVIDERS, detect, normalize, parse_sse
from ledger.domain.errors import InvalidInput
from ledger.domain.responses import NormalizedCall


def one(provider: str, response: Any) -> NormalizedCall:
    """Return the only call of a response."""
    (call,) = normalize(provider=provider, response=response)
    return call


def rejected(provider: str, response: Any) -> tuple[str, str]:
    """Return the code and pointer of the rejection."""
    with pytest.raises(InvalidInput) as caught:
        normalize(provider=provider, response=response)
    return caught.value.code, caught.value.pointer


def chat(**usage: Any) -> dict[str, Any]:
    """Return a chat completion with this usage."""
    return {"object": "chat.completion", "id": "c", "model": "m", "choices": [], "usage": usage}


CONVERSE_USAGE: dict[str, Any] = {
    "inputTokens": 30,
    "outputTokens": 628,
    "totalTokens": 4754,
    "cacheReadInputTokens": 1024,
    "cacheWriteInputTokens": 3072,
    "cacheDetails": [{"ttl": "1h", "inputTokens": 2048}, {"ttl": "5m", "inputTokens": 1024}],
}
CONVERSE_LEAVES = {
    "tokens.input": 30,
    "tokens.input.cache_read": 1024,
    "tokens.input.cache_write.1h": 2048,
    "tokens.input.cache_write.5m": 1024,
    "tokens.output": 628,
}


def converse(usage: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a Converse response."""
    return {
        "output": {"message": {"role": "assistant", "content": []}},
        "stopReason": "end_turn",
        "usage": usage,
        "metrics": {"latencyMs": 1275},
        **more,
    }


def test_converse_input_excludes_the_cache_and_details_are_parts() -> None:
    """Cache writes are counted by lifetime and not a second time as a sum."""
    call = one("bedrock", converse(CONVERSE_USAGE, serviceTier={"type": "flex"}))
    assert call.quantities == CONVERSE_LEAVES
    assert (call.provider, call.model, call.tier) == ("aws", "", "flex")


def test_converse_stream_usage_is_in_the_metadata_event() -> None:
    """The other events state nothing; the caller may add the model."""
    events = [
        {"messageStart": {"role": "assistant"}, "modelId": "anthropic.claude-opus-4-8"},
        {"contentBlockDelta": {"delta": {"text": "Hi"}, "contentBlockIndex": 0}},
        {"messageStop": {"stopReason": "end_turn"}},
        {"metadata": {"usage": CONVERSE_USAGE, "serviceTier": {"type": "priority"}}},
    ]
    call = one("aws", events)
    assert call.quantities == CONVERSE_LEAVES
    assert (call.model, call.tier, call.outcome) == (
        "anthropic.claude-opus-4-8",
        "priority",
        "ok",
    )
    cut = one("aws", events[:2])
    assert (cut.quantities, cut.outcome, cut.flags) == ({}, "aborted", ("no_usage_in_stream",))
    failed = one("aws", [*events[:2], {"throttlingException": {"message": "slow down"}}])
    assert failed.outcome == "error"


def test_converse_without_details_keeps_the_sum_of_cache_writes() -> None:
    """There is a leaf for writes whose lifetime is not stated; totals may leave the cache out."""
    usage = {
        "inputTokens": 1,
        "outputTokens": 2,
        "totalTokens": 3,
        "cacheReadInputTokens": 0,
        "cacheWriteInputTokens": 9,
        "cacheDetails": [],
    }
    assert one("aws", converse(usage)).quantities == {
        "tokens.input": 1,
        "tokens.input.cache_read": 0,
        "tokens.input.cache_write": 9,
        "tokens.output": 2,
    }


@pytest.mark.parametrize(
    ("change", "code", "pointer"),
    [
        ({"cacheWriteInputTokens": 3073}, "inconsistent_usage", "/usage/cacheDetails"),
        ({"totalTokens": 4755}, "inconsistent_usage", "/usage/totalTokens"),
        (
            {"cacheDetails": [{"ttl": "24h", "inputTokens": 3072}]},
            "unknown_response_shape",
            "/usage/cacheDetails/0/ttl",
        ),
        ({"outputTokens": None}, "missing_usage", "/usage/outputTokens"),
    ],
)
def test_converse_usage_that_does_not_add_up_is_rejected(
    change: dict[str, Any], code: str, pointer: str
) -> None:
    """The parts equal their sum or the response is refused."""
    assert rejected("aws", converse(CONVERSE_USAGE | change)) == (code, pointer)


def test_deepseek_hits_and_misses_make_up_the_prompt() -> None:
    """The hit is stated twice and counted once."""
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 10,
        "total_tokens": 110,
        "prompt_cache_hit_tokens": 64,
        "prompt_cache_miss_tokens": 36,
        "prompt_tokens_details": {"cached_tokens": 64},
    }
    assert one("deepseek", chat(**usage)).quantities == {
        "tokens.input": 36,
        "tokens.input.cache_read": 64,
        "tokens.output": 10,
    }
    assert rejected("deepseek", chat(**{**usage, "prompt_cache_miss_tokens": 37})) == (
        "inconsistent_usage",
        "/usage/prompt_cache_miss_tokens",
    )
    assert rejected(
        "deepseek", chat(**{**usage, "prompt_tokens_details": {"cached_tokens": 63}})
    ) == ("inconsistent_usage", "/usage/prompt_cache_hit_tokens")


XAI = {
    "prompt_tokens": 10120,
    "completion_tokens": 1499,
    "total_tokens": 14428,
    "prompt_tokens_details": {"text_tokens": 10120, "cached_tokens": 128},
    "completion_tokens_details": {"reasoning_tokens": 2809},
    "num_sources_used": 0,
    "cost_in_usd_ticks": 232856000,
}


def test_xai_reasoning_is_outside_the_completion() -> None:
    """The stated total says so; the stated cost is evidence and never a quantity."""
    call = one("x-ai", chat(**XAI))
    assert call.quantities == {
        "tokens.input": 9992,
        "tokens.input.cache_read": 128,
        "tokens.output": 1499,
        "tokens.output.reasoning": 2809,
    }
    assert call.provider == "xai"
    assert call.evidence == {"cost_in_usd_ticks": 232856000, "num_sources_used": 0}


def test_the_stated_total_decides_where_reasoning_is() -> None:
    """Inside, outside, undecided for xAI alone, and never for OpenAI itself."""
    inside = XAI | {"completion_tokens": 4308}
    assert one("xai", chat(**inside)).quantities["tokens.output"] == 1499
    assert one("vllm", chat(**XAI)).quantities["tokens.output"] == 1499
    untotalled = {name: value for name, value in XAI.items() if name != "total_tokens"}
    assert one("xai", chat(**untotalled)).quantities["tokens.output"] == 1499
    assert rejected("vllm", chat(**untotalled))[0] == "inconsistent_usage"
    assert rejected("openai", chat(**XAI)) == ("inconsistent_usage", "/usage/total_tokens")


def test_openrouter_cost_is_evidence() -> None:
    """A cost that the provider states is kept and never added."""
    usage = {
        "prompt_tokens": 194,
        "completion_tokens": 2,
        "total_tokens": 196,
        "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 100},
        "cost": Decimal("0.00095"),
        "cost_details": {"upstream_inference_cost": Decimal("0.0009")},
        "is_byok": False,
    }
    call = one("openrouter", chat(**usage) | {"provider": "Azure"})
    assert call.quantities == {
        "tokens.input": 94,
        "tokens.input.cache_read": 0,
        "tokens.input.cache_write": 100,
        "tokens.output": 2,
    }
    assert call.evidence == {
        "cost": Decimal("0.00095"),
        "cost_details": {"upstream_inference_cost": Decimal("0.0009")},
        "is_byok": False,
        "upstream_provider": "Azure",
    }


def test_groq_streams_state_their_usage_under_x_groq() -> None:
    """The last chunk carries it outside the usual place."""
    chunks = [
        {"object": "chat.completion.chunk", "model": "m", "choices": [{"finish_reason": None}]},
        {
            "object": "chat.completion.chunk",
            "choices": [{"finish_reason": "stop"}],
            "x_groq": {"usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}},
        },
    ]
    call = one("groq", chunks)
    assert (call.quantities, call.outcome) == ({"tokens.input": 5, "tokens.output": 7}, "ok")


def test_a_compatible_stream_cut_off_has_no_quantities() -> None:
    """The gateway's own counts are all there is, and the flag says so."""
    chunks = [{"object": "chat.completion.chunk", "model": "m", "choices": [{"delta": {}}]}]
    call = one("openai-compatible", chunks)
    assert (call.quantities, call.outcome) == ({}, "aborted")
    assert call.flags == ("no_usage_in_stream",)


def test_mistral_audio_is_billed_beside_its_tokens() -> None:
    """Seconds of audio are a leaf of their own."""
    usage = {
        "prompt_tokens": 4,
        "completion_tokens": 6,
        "total_tokens": 10,
        "prompt_audio_seconds": 203,
    }
    assert one("mistral", chat(**usage)).quantities == {
        "tokens.input": 4,
        "tokens.output": 6,
        "audio.stt.seconds": 203,
    }


COHERE_USAGE = {
    "billed_units": {"input_tokens": 17, "output_tokens": 12},
    "tokens": {"input_tokens": 215, "output_tokens": 12},
    "cached_tokens": 64,
}


@pytest.mark.parametrize(
    "response",
    [
        {"id": "x", "finish_reason": "COMPLETE", "message": {}, "usage": COHERE_USAGE},
        {"generation_id": "x", "text": "Hi", "meta": COHERE_USAGE},
        [
            {"type": "message-start", "id": "x"},
            {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": COHERE_USAGE}},
        ],
        [
            {"event_type": "text-generation", "text": "Hi"},
            {"event_type": "stream-end", "response": {"generation_id": "x", "meta": COHERE_USAGE}},
        ],
    ],
)
def test_cohere_counts_what_it_bills_and_keeps_what_it_processed(response: Any) -> None:
    """Its own preamble is processed and not billed; both counts are evidence."""
    call = one("cohere", response)
    assert call.quantities == {"tokens.input": 17, "tokens.output": 12}
    assert (call.request_id, call.evidence) == ("x", COHERE_USAGE)


def test_cohere_rerank_counts_search_units() -> None:
    """A rerank is billed by the query."""
    response = {"id": "x", "results": [], "meta": {"billed_units": {"search_units": 1}}}
    assert one("cohere", response).quantities == {"retrieval.queries": 1}
    cut = one("cohere", [{"type": "message-start", "id": "x"}])
    assert (cut.quantities, cut.outcome) == ({}, "aborted")


def test_every_name_is_accepted_in_any_case_and_others_are_not() -> None:
    """Aliases share one provider name; an unknown name is refused and not guessed."""
    assert {PROVIDERS[name].name for name in ("google", "gemini", "vertex")} == {"google"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    assert one(" Groq ", chat(**usage)).provider == "groq"
    assert rejected("gruq", chat(**usage)) == ("unknown_provider", "")


@pytest.mark.parametrize(
    ("response", "provider"),
    [
        (chat(prompt_tokens=1, completion_tokens=1), "openai-compatible"),
        ({"object": "response", "usage": {}}, "openai"),
        ([{"type": "session.created"}, {"type": "response.created"}], "openai"),
        ({"type": "message", "usage": {}}, "anthropic"),
        ({"candidates": [], "usageMetadata": {}}, "google"),
        (converse(CONVERSE_USAGE), "aws"),
        ({"meta": {"billed_units": {}}}, "cohere"),
        ({"created": 1, "data": []}, None),
        ({"usage": {"tokens": 3}}, None),
        ([], None),
        ("{}", None),
    ],
)
def test_a_shape_is_detected_only_where_it_is_unambiguous(
    response: Any, provider: str | None
) -> None:
    """What could come from several APIs is not named."""
    assert detect(response) == provider


def test_event_streams_are_read_with_all_their_oddities() -> None:
    """Comments, names, CRLF, several data lines, the end mark, a missing last blank line."""
    text = (
        '\ufeff: keep-alive\r\nevent: message_start\r\nid: 1\r\ndata: {"type":"message_start",\r\n'
        'data: "n": 1.50}\r\n\r\nretry: 10\r\ndata:{"a":[1]}\r\n\r\ndata: [DONE]\r\n\r\n'
        'data: {"last": true}'
    )
    expected = [{"type": "message_start", "n": Decimal("1.50")}, {"a": [1]}, {"last": True}]
    assert parse_sse(text) == expected
    assert parse_sse(text.encode()) == expected
    assert parse_sse(text.replace("\r\n", "\r")) == expected
    assert parse_sse("") == []


def test_an_event_cut_off_at_the_end_is_left_out() -> None:
    """The standard discards an event without its blank line; the stream is then aborted."""
    assert parse_sse('data: {"a": 1}\n\ndata: {"b": ') == [{"a": 1}]


@pytest.mark.parametrize("text", ["data: {oops}\n\n", "data: 7\n\n", b"data: \xff\n\n"])
def test_data_that_is_not_a_json_object_is_refused(text: str | bytes) -> None:
    """A broken event in the middle is no event to pass over."""
    with pytest.raises(InvalidInput) as caught:
        parse_sse(text)
    assert caught.value.code == "invalid_sse"
