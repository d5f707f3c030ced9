"""OpenAI responses: inclusive totals become disjoint leaves, streamed or not."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from adapters.providers import normalize
from ledger.domain.errors import InvalidInput
from ledger.domain.responses import NormalizedCall

CHAT: dict[str, Any] = {
    "id": "chatcmpl-BxQ7",
    "object": "chat.completion",
    "created": 1760000000,
    "model": "gpt-5.6-2026-07-09",
    "service_tier": "default",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    ],
    "usage": {
        "prompt_tokens": 2600,
        "completion_tokens": 900,
        "total_tokens": 3500,
        "prompt_tokens_details": {
            "cached_tokens": 2000,
            "cache_write_tokens": 400,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": 640,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 12,
        },
    },
}
CHAT_LEAVES = {
    "tokens.input": 200,
    "tokens.input.cache_read": 2000,
    "tokens.input.cache_write": 400,
    "tokens.input.audio": 0,
    "tokens.output": 260,
    "tokens.output.reasoning": 640,
    "tokens.output.audio": 0,
}


def one(response: Any, provider: str = "openai") -> NormalizedCall:
    """Return the only call of a response."""
    (call,) = normalize(provider=provider, response=response)
    return call


def chat(**usage: Any) -> dict[str, Any]:
    """Return a chat completion with this usage."""
    return {"object": "chat.completion", "id": "c", "model": "m", "choices": [], "usage": usage}


def chunk(usage: Any = None, *, finish: str | None = None, choices: bool = True) -> dict[str, Any]:
    """Return a chunk of a chat stream."""
    return {
        "id": "chatcmpl-s",
        "object": "chat.completion.chunk",
        "created": 1760000000,
        "model": "gpt-5.6",
        "choices": [{"index": 0, "delta": {}, "finish_reason": finish}] if choices else [],
        "usage": usage,
    }


def test_chat_totals_are_inclusive_and_split_into_disjoint_leaves() -> None:
    """What is cached, written, spoken or reasoned is taken out of the totals, once."""
    call = one(CHAT)
    assert call.quantities == CHAT_LEAVES
    assert sum(call.quantities.values()) == CHAT["usage"]["total_tokens"]
    assert (call.provider, call.model, call.request_id) == (
        "openai",
        "gpt-5.6-2026-07-09",
        "chatcmpl-BxQ7",
    )
    assert (call.tier, call.batch, call.flags, call.outcome) == ("", False, (), "ok")
    assert call.occurred_at == datetime.fromtimestamp(1760000000, UTC)
    assert call.raw == CHAT["usage"]


def test_absent_details_give_no_leaf_and_null_is_absent() -> None:
    """Only what the response states becomes a quantity."""
    call = one(
        chat(
            prompt_tokens=7,
            completion_tokens=0,
            total_tokens=7,
            prompt_tokens_details=None,
            completion_tokens_details={"reasoning_tokens": None},
        )
    )
    assert call.quantities == {"tokens.input": 7, "tokens.output": 0}


def test_a_stream_takes_its_last_non_null_usage() -> None:
    """The usage chunk of include_usage has no choices and comes last."""
    early = {"prompt_tokens": 2600, "completion_tokens": 1, "total_tokens": 2601}
    call = one(
        [chunk(), chunk(early), chunk(finish="stop"), chunk(CHAT["usage"], choices=False), chunk()]
    )
    assert call.quantities == CHAT_LEAVES
    assert (call.outcome, call.request_id, call.model) == ("ok", "chatcmpl-s", "gpt-5.6")


def test_usage_on_a_chunk_with_choices_counts() -> None:
    """Some servers put the usage beside the last piece of text."""
    assert one([chunk(), chunk(CHAT["usage"], finish="stop")]).quantities == CHAT_LEAVES


def test_an_aborted_stream_states_nothing_and_says_so() -> None:
    """Without usage there is no quantity to invent; the caller counts."""
    call = one([chunk(), chunk()])
    assert (call.quantities, call.outcome) == ({}, "aborted")
    assert (call.flags, call.raw) == (("no_usage_in_stream",), None)


def test_a_finished_stream_without_usage_is_not_aborted() -> None:
    """A client that did not ask for usage still got the whole answer."""
    call = one([chunk(), chunk(finish="stop")])
    assert (call.outcome, call.flags) == ("ok", ("no_usage_in_stream",))


def test_the_closing_usage_chunk_ends_a_stream() -> None:
    """It comes without choices, after everything else."""
    assert one([chunk(), chunk(CHAT["usage"], choices=False)]).outcome == "ok"
    assert one([chunk(), chunk(CHAT["usage"])]).outcome == "aborted"


def test_a_stream_that_ends_in_an_error_is_an_error() -> None:
    """An error event after chunks marks the call."""
    assert one([chunk(), {"error": {"message": "overloaded"}}]).outcome == "error"


@pytest.mark.parametrize(
    ("cached", "audio", "leaves"),
    [
        (600, 300, {"tokens.input": 100, "tokens.input.audio": 300}),
        (900, 300, {"tokens.input": 0, "tokens.input.audio": 100}),
    ],
)
def test_cached_audio_without_a_joint_figure_is_flagged_and_never_negative(
    cached: int, audio: int, leaves: dict[str, int]
) -> None:
    """No more is subtracted than the total; the leaves still add up to it."""
    call = one(
        chat(
            prompt_tokens=1000,
            completion_tokens=5,
            total_tokens=1005,
            prompt_tokens_details={"cached_tokens": cached, "audio_tokens": audio},
        )
    )
    assert call.quantities == {**leaves, "tokens.input.cache_read": cached, "tokens.output": 5}
    assert call.flags == ("overlap",)


def test_a_proven_overlap_is_taken_out_of_audio_first_then_of_images() -> None:
    """Tokens that must be both are counted as cached."""
    call = one(
        chat(
            prompt_tokens=1000,
            completion_tokens=5,
            total_tokens=1005,
            prompt_tokens_details={
                "cached_tokens": 950,
                "audio_tokens": 20,
                "image_tokens": 100,
            },
        )
    )
    assert call.quantities["tokens.input.audio"] == 0
    assert call.quantities["tokens.input.image"] == 50
    assert call.quantities["tokens.input"] == 0


def test_spoken_output_and_image_input_have_leaves_of_their_own() -> None:
    """Audio and image tokens are priced apart."""
    call = one(
        chat(
            prompt_tokens=100,
            completion_tokens=50,
            total_tokens=150,
            prompt_tokens_details={"image_tokens": 60},
            completion_tokens_details={"audio_tokens": 30, "text_tokens": 20},
        )
    )
    assert call.quantities == {
        "tokens.input": 40,
        "tokens.input.image": 60,
        "tokens.output": 20,
        "tokens.output.audio": 30,
    }


@pytest.mark.parametrize(
    ("stated", "tier", "batch"),
    [
        ("auto", "", False),
        ("standard", "", False),
        ("priority", "priority", False),
        ("flex", "flex", False),
        ("scale", "scale", False),
        ("batch", "", True),
    ],
)
def test_the_tier_is_what_the_response_says(stated: str, tier: str, batch: bool) -> None:
    """Standard tiers are one tier; batch is a flag of its own."""
    call = one(CHAT | {"service_tier": stated})
    assert (call.tier, call.batch) == (tier, batch)


RESPONSE: dict[str, Any] = {
    "id": "resp_68",
    "object": "response",
    "created_at": Decimal("1760000000.5"),
    "status": "completed",
    "model": "gpt-5-2025-08-07",
    "service_tier": "priority",
    "error": None,
    "output": [
        {"type": "reasoning", "id": "rs_1"},
        {"type": "web_search_call", "status": "completed", "action": {"type": "search"}},
        {"type": "web_search_call", "status": "completed", "action": {"type": "open_page"}},
        {"type": "web_search_call", "status": "failed", "action": {"type": "search"}},
        {"type": "file_search_call", "status": "completed"},
        {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_a"},
        {"type": "code_interpreter_call", "id": "ci_2", "container_id": "cntr_a"},
        {"type": "message", "content": []},
    ],
    "usage": {
        "input_tokens": 1500,
        "input_tokens_details": {"cached_tokens": 1024},
        "output_tokens": 700,
        "output_tokens_details": {"reasoning_tokens": 512},
        "total_tokens": 2200,
    },
}
RESPONSE_LEAVES = {
    "tokens.input": 476,
    "tokens.input.cache_read": 1024,
    "tokens.output": 188,
    "tokens.output.reasoning": 512,
    "search.web": 1,
    "search.file": 1,
    "code.sessions": 1,
}


def test_a_response_object_counts_tokens_and_the_tools_that_are_billed() -> None:
    """Only completed searches cost; pages opened do not; a container counts once."""
    call = one(RESPONSE)
    assert call.quantities == RESPONSE_LEAVES
    assert (call.tier, call.evidence) == ("priority", {"containers": ["cntr_a"]})
    assert call.occurred_at == datetime.fromtimestamp(1760000000, UTC).replace(microsecond=500000)


@pytest.mark.parametrize(
    ("kind", "status", "outcome"),
    [
        ("response.completed", "completed", "ok"),
        ("response.incomplete", "incomplete", "ok"),
        ("response.failed", "failed", "error"),
    ],
)
def test_a_response_stream_takes_its_terminal_event(kind: str, status: str, outcome: str) -> None:
    """The finished response is inside the last event."""
    events = [
        {
            "type": "response.created",
            "response": RESPONSE | {"status": "in_progress", "usage": None},
        },
        {"type": "response.output_text.delta", "delta": "Hi"},
        {"type": kind, "response": RESPONSE | {"status": status}},
    ]
    call = one(events)
    assert call.quantities == RESPONSE_LEAVES
    assert call.outcome == outcome


def test_a_response_stream_cut_off_names_its_model_and_no_quantity() -> None:
    """The opening event knows the model and id, not the usage."""
    opening = RESPONSE | {"status": "in_progress", "usage": None, "output": []}
    call = one([{"type": "response.created", "response": opening}])
    assert (call.model, call.quantities, call.outcome) == ("gpt-5-2025-08-07", {}, "aborted")
    assert call.flags == ("no_usage_in_stream",)


def test_embeddings_have_input_only() -> None:
    """There is no output leaf to state."""
    response = {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": []}],
        "model": "text-embedding-3-small",
        "usage": {"prompt_tokens": 8, "total_tokens": 8},
    }
    assert one(response).quantities == {"tokens.input": 8}


def test_image_usage_is_tokens_and_images_count_only_without_it() -> None:
    """An image is billed by tokens or by piece, never by both."""
    usage = {
        "total_tokens": 4260,
        "input_tokens": 100,
        "output_tokens": 4160,
        "input_tokens_details": {"text_tokens": 10, "image_tokens": 90},
    }
    by_tokens = {"created": 1760000000, "data": [{"b64_json": ""}], "usage": usage}
    assert one(by_tokens).quantities == {
        "tokens.input": 10,
        "tokens.input.image": 90,
        "tokens.output.image": 4160,
    }
    by_piece = {"created": 1760000000, "data": [{"url": "a"}, {"url": "b"}]}
    assert one(by_piece).quantities == {"images": 2}
    streamed = [{"type": "image_generation.completed", "usage": usage}]
    assert one(streamed).quantities == one(by_tokens).quantities


def test_an_unknown_token_count_is_flagged_not_missed() -> None:
    """A field that looks like tokens and is read by no rule leaves a mark."""
    call = one(
        chat(
            prompt_tokens=9,
            completion_tokens=1,
            total_tokens=10,
            prompt_tokens_details={"video_tokens": 4, "haptic_tokens": 0},
        )
    )
    assert call.flags == ("unknown_usage_field:prompt_tokens_details.video_tokens",)


@pytest.mark.parametrize(
    ("usage", "code", "pointer"),
    [
        ({"completion_tokens": 1}, "missing_usage", "/usage/prompt_tokens"),
        ({"prompt_tokens": 1}, "missing_usage", "/usage/completion_tokens"),
        (
            {"prompt_tokens": -1, "completion_tokens": 1},
            "invalid_count",
            "/usage/prompt_tokens",
        ),
        (
            {"prompt_tokens": True, "completion_tokens": 1},
            "invalid_count",
            "/usage/prompt_tokens",
        ),
        (
            {"prompt_tokens": "12", "completion_tokens": 1},
            "invalid_count",
            "/usage/prompt_tokens",
        ),
        (
            {"prompt_tokens": 1.0, "completion_tokens": 1},
            "invalid_count",
            "/usage/prompt_tokens",
        ),
        (
            {"prompt_tokens": Decimal("1.5"), "completion_tokens": 1},
            "invalid_count",
            "/usage/prompt_tokens",
        ),
        (
            {"prompt_tokens": Decimal("NaN"), "completion_tokens": 1},
            "invalid_count",
            "/usage/prompt_tokens",
        ),
        (
            {"prompt_tokens": Decimal("1E+999999"), "completion_tokens": 1},
            "invalid_count",
            "/usage/prompt_tokens",
        ),
        (
            {"prompt_tokens": 10**15 + 1, "completion_tokens": 1},
            "invalid_count",
            "/usage/prompt_tokens",
        ),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 1,
                "prompt_tokens_details": {"cached_tokens": 6},
            },
            "inconsistent_usage",
            "/usage/prompt_tokens_details",
        ),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 1,
                "prompt_tokens_details": {"audio_tokens": 3, "text_tokens": 3},
            },
            "inconsistent_usage",
            "/usage/prompt_tokens_details",
        ),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 1,
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
            "inconsistent_usage",
            "/usage/completion_tokens_details",
        ),
        (
            {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 7},
            "inconsistent_usage",
            "/usage/total_tokens",
        ),
        (
            {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": [1]},
            "unknown_response_shape",
            "/usage/prompt_tokens_details",
        ),
    ],
)
def test_usage_that_fits_no_rule_is_rejected_with_its_field(
    usage: dict[str, Any], code: str, pointer: str
) -> None:
    """Nothing is guessed: the code is stable and the pointer names the field."""
    with pytest.raises(InvalidInput) as caught:
        one(chat(**usage))
    assert (caught.value.code, caught.value.pointer) == (code, pointer)


def test_an_integral_decimal_is_a_count() -> None:
    """JSON numbers such as 7.0 arrive as decimals."""
    call = one(chat(prompt_tokens=Decimal("7.0"), completion_tokens=Decimal(1)))
    assert call.quantities == {"tokens.input": 7, "tokens.output": 1}


@pytest.mark.parametrize(
    ("response", "code", "pointer"),
    [
        ([], "empty_stream", ""),
        ([chunk(), 7], "unknown_response_shape", "/1"),
        ("data: {}", "unknown_response_shape", ""),
        ({}, "unknown_response_shape", ""),
        ({"error": {"message": "no"}}, "provider_error_response", "/error"),
        ([{"error": {"message": "no"}}], "provider_error_response", "/0/error"),
        ({"object": "chat.completion", "choices": []}, "missing_usage", "/usage"),
        ([CHAT, CHAT], "unknown_response_shape", "/0/object"),
        (RESPONSE | {"usage": None}, "missing_usage", "/usage"),
        (
            [{"type": "response.completed", "response": RESPONSE | {"usage": None}}],
            "missing_usage",
            "/0/response/usage",
        ),
        ({"text": "x", "usage": {"type": "tokens"}}, "missing_usage", "/usage/input_tokens"),
        ({"usageMetadata": {"promptTokenCount": 1}}, "unknown_response_shape", ""),
    ],
)
def test_a_response_of_no_known_form_is_rejected(response: Any, code: str, pointer: str) -> None:
    """Errors, strings, whole completions in a list and other APIs' shapes are refused."""
    with pytest.raises(InvalidInput) as caught:
        normalize(provider="openai", response=response)
    assert (caught.value.code, caught.value.pointer) == (code, pointer)
