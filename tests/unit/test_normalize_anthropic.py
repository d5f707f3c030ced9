"""Anthropic messages: exclusive input, cumulative streams, iterations beside the top level."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from adapters.providers import normalize
from ledger.domain.errors import InvalidInput
from ledger.domain.responses import NormalizedCall

USAGE: dict[str, Any] = {
    "input_tokens": 2095,
    "cache_creation_input_tokens": 2051,
    "cache_read_input_tokens": 18000,
    "cache_creation": {"ephemeral_5m_input_tokens": 51, "ephemeral_1h_input_tokens": 2000},
    "output_tokens": 503,
    "output_tokens_details": {"thinking_tokens": 300},
    "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
    "service_tier": "standard",
    "inference_geo": "us",
}
LEAVES = {
    "tokens.input": 2095,
    "tokens.input.cache_read": 18000,
    "tokens.input.cache_write.5m": 51,
    "tokens.input.cache_write.1h": 2000,
    "tokens.output": 203,
    "tokens.output.reasoning": 300,
    "search.web": 2,
}


def message(usage: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a message with this usage."""
    return {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-4-8",
        "content": [],
        "stop_reason": "end_turn",
        "usage": usage,
        **more,
    }


def calls(response: Any, provider: str = "anthropic") -> tuple[NormalizedCall, ...]:
    """Return the calls of a response."""
    return normalize(provider=provider, response=response)


def rejected(response: Any) -> tuple[str, str]:
    """Return the code and pointer of the rejection."""
    with pytest.raises(InvalidInput) as caught:
        calls(response)
    return caught.value.code, caught.value.pointer


def test_input_is_exclusive_and_cache_writes_are_their_parts() -> None:
    """The parts by lifetime replace their sum; nothing is subtracted from the input."""
    (call,) = calls(message(USAGE))
    assert call.quantities == LEAVES
    assert (call.provider, call.model, call.request_id) == (
        "anthropic",
        "claude-opus-4-8",
        "msg_01",
    )
    assert (call.region, call.tier, call.batch, call.part) == ("us", "", False, "")
    assert call.evidence == {"server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1}}


def test_thinking_is_part_of_the_output_when_nothing_counts_it() -> None:
    """No reasoning count is invented, and a sum of cache writes without parts has a leaf."""
    usage = {"input_tokens": 3, "output_tokens": 9, "cache_creation_input_tokens": 4}
    (call,) = calls(message(usage))
    assert call.quantities == {
        "tokens.input": 3,
        "tokens.input.cache_write": 4,
        "tokens.output": 9,
    }


@pytest.mark.parametrize(
    ("stated", "tier", "batch"),
    [
        ({"service_tier": "priority"}, "priority", False),
        ({"service_tier": "batch"}, "", True),
        ({"service_tier": "standard", "speed": "fast"}, "fast", False),
        ({"service_tier": "standard", "speed": "standard"}, "", False),
    ],
)
def test_tier_batch_and_speed_come_from_the_usage(
    stated: dict[str, str], tier: str, batch: bool
) -> None:
    """Fast mode has its own prices and so its own tier."""
    (call,) = calls(message({"input_tokens": 1, "output_tokens": 1, **stated}))
    assert (call.tier, call.batch) == (tier, batch)


def stream(*deltas: dict[str, Any], stop: bool = True) -> list[dict[str, Any]]:
    """Return a message stream with these cumulative usages."""
    opening = USAGE | {"output_tokens": 3, "output_tokens_details": None, "server_tool_use": None}
    events: list[dict[str, Any]] = [
        {"type": "ping"},
        {"type": "message_start", "message": message(opening, stop_reason=None)},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}
            for usage in deltas
        ),
    ]
    return [*events, {"type": "message_stop"}] if stop else events


def test_stream_usage_is_cumulative_and_the_last_wins_field_by_field() -> None:
    """The opening gives the base, each delta replaces what it states."""
    last = {
        "output_tokens": 503,
        "input_tokens": None,
        "output_tokens_details": USAGE["output_tokens_details"],
        "server_tool_use": USAGE["server_tool_use"],
    }
    (call,) = calls(stream({"output_tokens": 250}, last))
    assert call.quantities == LEAVES
    assert (call.outcome, call.flags) == ("ok", ())


def test_an_aborted_stream_states_its_input_and_no_output() -> None:
    """The opening output count is not the output's; it is left to the caller."""
    (call,) = calls(stream(stop=False))
    assert call.quantities == {
        name: count for name, count in LEAVES.items() if name.startswith("tokens.input")
    }
    assert (call.outcome, call.flags) == ("aborted", ("incomplete_stream",))
    assert call.raw is not None
    assert call.raw["output_tokens"] == 3


COMPACTION = {
    "type": "compaction",
    "input_tokens": 180000,
    "output_tokens": 3500,
    "cache_read_input_tokens": 0,
}


def test_a_compaction_is_billed_beside_the_top_level() -> None:
    """The top level sums the message iterations and leaves the compaction out."""
    usage = {
        "input_tokens": 23000,
        "output_tokens": 1000,
        "iterations": [
            COMPACTION,
            {"type": "message", "input_tokens": 23000, "output_tokens": 1000},
        ],
    }
    main, compaction = calls(message(usage))
    assert main.quantities == {"tokens.input": 23000, "tokens.output": 1000}
    assert compaction.quantities == {
        "tokens.input": 180000,
        "tokens.input.cache_read": 0,
        "tokens.output": 3500,
    }
    assert (compaction.part, compaction.model) == ("iteration-1", "claude-opus-4-8")
    assert (main.part, main.request_id, compaction.request_id) == ("", "msg_01", "msg_01")


def test_iterations_of_a_stream_come_with_its_last_delta() -> None:
    """The same rule holds for a stream."""
    usage = {
        "input_tokens": 23000,
        "cache_creation_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "cache_read_input_tokens": 0,
        "output_tokens": 1000,
        "iterations": [
            COMPACTION,
            {"type": "message", "input_tokens": 23000, "output_tokens": 1000},
        ],
    }
    main, compaction = calls(stream(usage))
    assert main.quantities["tokens.input"] == 23000
    assert compaction.quantities["tokens.input"] == 180000


ADVISOR = {
    "type": "advisor_message",
    "model": "claude-opus-4-7",
    "input_tokens": 159419,
    "output_tokens": 7805,
    "cache_read_input_tokens": 0,
    "cache_creation_input_tokens": 0,
}
EXECUTOR = [
    {
        "type": "message",
        "input_tokens": 1,
        "output_tokens": 45,
        "cache_read_input_tokens": 109696,
        "cache_creation_input_tokens": 7192,
    },
    {
        "type": "message",
        "input_tokens": 1,
        "output_tokens": 446,
        "cache_read_input_tokens": 116888,
        "cache_creation_input_tokens": 661,
    },
]


@pytest.mark.parametrize(
    ("top", "flags"),
    [
        ((2, 491, 226584, 7853), ()),
        ((1, 491, 109696, 7192), ("top_level_partial",)),
    ],
)
def test_an_advisor_is_billed_under_its_own_model(
    top: tuple[int, int, int, int], flags: tuple[str, ...]
) -> None:
    """The executor's iterations make up the main call, whether or not the top level sums them."""
    usage = {
        "input_tokens": top[0],
        "output_tokens": top[1],
        "cache_read_input_tokens": top[2],
        "cache_creation_input_tokens": top[3],
        "iterations": [EXECUTOR[0], ADVISOR, EXECUTOR[1]],
    }
    main, advisor = calls(message(usage, model="claude-sonnet-4-6"))
    assert main.quantities == {
        "tokens.input": 2,
        "tokens.input.cache_read": 226584,
        "tokens.input.cache_write": 7853,
        "tokens.output": 491,
    }
    assert main.flags == flags
    assert (advisor.model, advisor.part) == ("claude-opus-4-7", "iteration-2")
    assert advisor.quantities["tokens.input"] == 159419


def fallback(declined_output: int) -> dict[str, Any]:
    """Return a message that a fallback model answered."""
    usage = {
        "input_tokens": 2,
        "output_tokens": 13658,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 79214,
        "iterations": [
            {
                "type": "message",
                "model": "claude-fable-5",
                "input_tokens": 2,
                "output_tokens": declined_output,
                "cache_creation_input_tokens": 10421,
                "cache_read_input_tokens": 72769,
            },
            {
                "type": "fallback_message",
                "model": "claude-opus-4-8",
                "input_tokens": 2,
                "output_tokens": 13658,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 79214,
            },
        ],
    }
    return message(usage)


def test_an_attempt_declined_after_output_is_billed_at_its_own_model() -> None:
    """The top level repeats the attempt that answered and not the one that was declined."""
    main, declined = calls(fallback(578))
    assert main.quantities == {
        "tokens.input": 2,
        "tokens.input.cache_read": 79214,
        "tokens.input.cache_write": 0,
        "tokens.output": 13658,
    }
    assert declined.quantities == {
        "tokens.input": 2,
        "tokens.input.cache_read": 72769,
        "tokens.input.cache_write": 10421,
        "tokens.output": 578,
    }
    assert (declined.model, declined.part, declined.outcome) == (
        "claude-fable-5",
        "iteration-1",
        "error",
    )


def test_an_attempt_declined_before_output_is_evidence_only() -> None:
    """What the provider does not bill becomes no call, and is not lost either."""
    (main,) = calls(fallback(0))
    assert main.flags == ("unbilled_attempt",)
    assert main.evidence["unbilled_iterations"][0]["model"] == "claude-fable-5"


def test_a_refusal_without_output_is_not_billed() -> None:
    """Its counts are kept as evidence and its quantities are stated as zero."""
    usage = {"input_tokens": 412, "output_tokens": 0}
    (call,) = calls(message(usage, stop_reason="refusal"))
    assert call.quantities == {"tokens.input": 0, "tokens.output": 0}
    assert call.flags == ("unbilled_refusal",)
    assert call.evidence == {"unbilled": {"tokens.input": "412", "tokens.output": "0"}}
    (elsewhere,) = calls(message(usage, stop_reason="refusal"), provider="aws")
    assert elsewhere.quantities == {"tokens.input": 412, "tokens.output": 0}


def test_a_single_message_iteration_only_repeats_the_top_level() -> None:
    """It is checked and counted once."""
    usage = USAGE | {"iterations": [{"type": "message"} | USAGE]}
    (call,) = calls(message(usage))
    assert call.quantities == LEAVES


def test_code_execution_leaves_its_container_as_evidence() -> None:
    """Its price is by time, which the response does not state."""
    (call,) = calls(
        message({"input_tokens": 1, "output_tokens": 1}, container={"id": "container_7"})
    )
    assert call.evidence == {"containers": ["container_7"]}
    assert call.flags == ("code_execution_untimed",)


@pytest.mark.parametrize(
    ("usage", "code", "pointer"),
    [
        ({"output_tokens": 1}, "missing_usage", "/usage/input_tokens"),
        ({"input_tokens": 1}, "missing_usage", "/usage/output_tokens"),
        (
            USAGE | {"cache_creation_input_tokens": 2050},
            "inconsistent_usage",
            "/usage/cache_creation",
        ),
        (
            USAGE | {"output_tokens_details": {"thinking_tokens": 504}},
            "inconsistent_usage",
            "/usage/output_tokens_details",
        ),
        (
            {
                "input_tokens": 5,
                "output_tokens": 1,
                "iterations": [{"type": "message", "input_tokens": 4, "output_tokens": 1}],
            },
            "inconsistent_usage",
            "/usage/input_tokens",
        ),
        (
            {
                "input_tokens": 5,
                "output_tokens": 1,
                "iterations": [{"type": "séance", "input_tokens": 4, "output_tokens": 1}],
            },
            "unknown_response_shape",
            "/usage/iterations/0/type",
        ),
        (
            {
                "input_tokens": 5,
                "output_tokens": 1,
                "iterations": [{"type": "compaction", "input_tokens": 4}],
            },
            "missing_usage",
            "/usage/iterations/0/output_tokens",
        ),
        (
            {"input_tokens": 1, "output_tokens": Decimal("0.5")},
            "invalid_count",
            "/usage/output_tokens",
        ),
    ],
)
def test_usage_that_does_not_add_up_is_rejected(
    usage: dict[str, Any], code: str, pointer: str
) -> None:
    """Parts equal their totals or the response is refused, with the field."""
    assert rejected(message(usage)) == (code, pointer)


def test_only_beside_an_advisor_may_the_top_level_leave_iterations_out() -> None:
    """Without an advisor the input of all iterations is in the top level."""
    usage = {
        "input_tokens": 4,
        "output_tokens": 2,
        "iterations": [
            {"type": "message", "input_tokens": 4, "output_tokens": 1},
            {"type": "message", "input_tokens": 5, "output_tokens": 1},
        ],
    }
    assert rejected(message(usage)) == ("inconsistent_usage", "/usage/input_tokens")


def test_a_stream_holds_one_message() -> None:
    """Two messages in one list are not merged into one."""
    assert rejected([*stream({"output_tokens": 1}), *stream({"output_tokens": 1})]) == (
        "unknown_response_shape",
        "/6",
    )
    assert rejected([{"type": "message_delta", "usage": {"output_tokens": 1}}])[0] == (
        "missing_usage"
    )


def test_an_anthropic_error_is_refused() -> None:
    """An error states no usage."""
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    assert rejected(error) == ("provider_error_response", "/error")
