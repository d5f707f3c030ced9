"""OpenAI realtime sessions, transcriptions and speech: billed by token, by time, by character."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from adapters.providers import normalize
from ledger.domain.errors import InvalidInput
from ledger.domain.responses import NormalizedCall


def one(response: Any) -> NormalizedCall:
    """Return the only call of a response."""
    (call,) = normalize(provider="openai", response=response)
    return call


SESSION = {
    "type": "session.created",
    "session": {
        "model": "gpt-realtime",
        "audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}},
    },
}
REALTIME_DONE = {
    "type": "response.done",
    "response": {
        "object": "realtime.response",
        "id": "resp_rt1",
        "status": "completed",
        "usage": {
            "total_tokens": 1253,
            "input_tokens": 1132,
            "output_tokens": 121,
            "input_token_details": {
                "text_tokens": 832,
                "audio_tokens": 300,
                "image_tokens": 0,
                "cached_tokens": 896,
                "cached_tokens_details": {"text_tokens": 704, "audio_tokens": 192},
            },
            "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
        },
    },
}


def test_realtime_takes_the_cached_part_out_of_each_modality() -> None:
    """Text 832-704, audio 300-192, and 896 cached of both."""
    call = one([SESSION, REALTIME_DONE])
    assert call.quantities == {
        "tokens.input": 128,
        "tokens.input.audio": 108,
        "tokens.input.image": 0,
        "tokens.input.cache_read": 896,
        "tokens.output": 30,
        "tokens.output.audio": 91,
    }
    assert (call.model, call.request_id, call.part) == ("gpt-realtime", "resp_rt1", "")
    assert call.flags == ("cached_modalities",)


def test_realtime_transcription_is_a_charge_of_its_own() -> None:
    """A session gives one call a response and one a transcription, under its own model."""
    spoken = {
        "type": "conversation.item.input_audio_transcription.completed",
        "item_id": "item_9",
        "content_index": 0,
        "usage": {
            "type": "tokens",
            "total_tokens": 60,
            "input_tokens": 45,
            "input_token_details": {"text_tokens": 5, "audio_tokens": 40},
            "output_tokens": 15,
        },
    }
    timed = spoken | {
        "item_id": "item_10",
        "usage": {"type": "duration", "seconds": Decimal("3.5")},
    }
    calls = normalize(
        provider="openai",
        response=[SESSION, {"type": "input_audio_buffer.committed"}, spoken, REALTIME_DONE, timed],
    )
    assert [(call.model, call.part, call.request_id) for call in calls] == [
        ("gpt-4o-transcribe", "transcription", "item_9"),
        ("gpt-realtime", "", "resp_rt1"),
        ("gpt-4o-transcribe", "transcription", "item_10"),
    ]
    assert calls[0].quantities == {
        "tokens.input": 5,
        "tokens.input.audio": 40,
        "tokens.output": 15,
    }
    assert calls[2].quantities == {"audio.stt.seconds": Decimal("3.5")}


def test_a_cancelled_realtime_response_keeps_its_usage() -> None:
    """What was said before the interruption is billed."""
    response = REALTIME_DONE["response"] | {"status": "cancelled"}  # type: ignore[operator]  # a dict
    call = one({"type": "response.done", "response": response})
    assert (call.outcome, call.quantities["tokens.output.audio"]) == ("aborted", 91)


@pytest.mark.parametrize(
    ("usage", "leaves"),
    [
        ({"type": "duration", "seconds": 9}, {"audio.stt.seconds": 9}),
        (
            {"type": "duration", "seconds": Decimal("9.123456")},
            {"audio.stt.seconds": Decimal("9.123456")},
        ),
        (
            {
                "type": "tokens",
                "input_tokens": 14,
                "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
                "output_tokens": 45,
                "total_tokens": 59,
            },
            {"tokens.input": 4, "tokens.input.audio": 10, "tokens.output": 45},
        ),
    ],
)
def test_a_transcription_is_billed_by_time_or_by_tokens(
    usage: dict[str, Any], leaves: dict[str, Any]
) -> None:
    """Whole and streamed transcriptions carry the same usage."""
    assert one({"text": "Hello", "usage": usage}).quantities == leaves
    events = [
        {"type": "transcript.text.delta", "delta": "Hello"},
        {"type": "transcript.text.done", "text": "Hello", "usage": usage},
    ]
    assert one(events).quantities == leaves


def test_speech_counts_the_characters_that_the_caller_states() -> None:
    """Bytes carry no usage, so the caller wraps the count."""
    call = one({"characters": 1200, "model": "tts-1"})
    assert (call.quantities, call.model) == ({"tts.characters": 1200}, "tts-1")


def test_streamed_speech_has_text_in_and_audio_out() -> None:
    """The output tokens of speech are audio."""
    usage = {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}
    call = one([{"type": "speech.audio.delta"}, {"type": "speech.audio.done", "usage": usage}])
    assert call.quantities == {"tokens.input": 14, "tokens.output.audio": 101}


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (Decimal("1.1234567"), "too_precise"),
        (Decimal(-1), "invalid_count"),
        (Decimal("Infinity"), "invalid_count"),
        (1.5, "invalid_count"),
        (True, "invalid_count"),
        (None, "missing_usage"),
    ],
)
def test_a_duration_is_an_exact_decimal_of_at_most_six_places(seconds: Any, code: str) -> None:
    """Durations are neither rounded nor read from floats."""
    with pytest.raises(InvalidInput) as caught:
        one({"text": "", "usage": {"type": "duration", "seconds": seconds}})
    assert (caught.value.code, caught.value.pointer) == (code, "/usage/seconds")


def test_more_cached_audio_than_audio_is_inconsistent() -> None:
    """The joint figures of a realtime response have to fit its totals."""
    response = {
        "id": "r",
        "status": "completed",
        "usage": {
            "input_tokens": 10,
            "output_tokens": 1,
            "input_token_details": {
                "audio_tokens": 2,
                "cached_tokens": 5,
                "cached_tokens_details": {"audio_tokens": 3},
            },
        },
    }
    with pytest.raises(InvalidInput) as caught:
        one({"type": "response.done", "response": response})
    assert caught.value.code == "inconsistent_usage"
    assert caught.value.pointer == "/response/usage/input_token_details/cached_tokens_details"
