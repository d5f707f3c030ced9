"""Plain responses give the totals that the extractors of genai-prices give."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import genai_prices
import pytest

from adapters.providers import normalize

CHAT: dict[str, Any] = {
    "object": "chat.completion",
    "id": "c",
    "model": "gpt-5",
    "choices": [],
    "usage": {
        "prompt_tokens": 1200,
        "completion_tokens": 300,
        "total_tokens": 1500,
        "prompt_tokens_details": {"cached_tokens": 1000, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 200, "audio_tokens": 0},
    },
}
MESSAGE: dict[str, Any] = {
    "type": "message",
    "id": "m",
    "model": "claude-sonnet-4-5",
    "usage": {
        "input_tokens": 504,
        "cache_creation_input_tokens": 123,
        "cache_read_input_tokens": 1000,
        "output_tokens": 97,
    },
}
GEMINI: dict[str, Any] = {
    "modelVersion": "gemini-2.5-flash",
    "candidates": [{"finishReason": "STOP"}],
    "usageMetadata": {
        "promptTokenCount": 75,
        "cachedContentTokenCount": 12,
        "candidatesTokenCount": 18,
        "thoughtsTokenCount": 144,
        "totalTokenCount": 237,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 75}],
    },
}


def totals(provider: str, response: dict[str, Any]) -> dict[str, Decimal]:
    """Return our leaves added up to the totals that the library gives."""
    (call,) = normalize(provider=provider, response=response)

    def under(prefix: str) -> Decimal:
        return sum(
            (count for name, count in call.quantities.items() if name.startswith(prefix)),
            Decimal(0),
        )

    return {
        "input_tokens": under("tokens.input"),
        "cache_read_tokens": under("tokens.input.cache_read"),
        "cache_write_tokens": under("tokens.input.cache_write"),
        "output_tokens": under("tokens.output"),
        "output_reasoning_tokens": under("tokens.output.reasoning"),
    }


@pytest.mark.parametrize(
    ("provider", "flavor", "response"),
    [("openai", "chat", CHAT), ("anthropic", "default", MESSAGE), ("google", "default", GEMINI)],
)
def test_plain_responses_agree_with_genai_prices(
    provider: str, flavor: str, response: dict[str, Any]
) -> None:
    """Where the library is right our leaves add up to its totals."""
    usage = genai_prices.extract_usage(response, provider_id=provider, api_flavor=flavor).usage
    ours = totals(provider, response)
    theirs = {name: Decimal(getattr(usage, name) or 0) for name in ours}
    assert ours == theirs


def test_genai_prices_leaves_iterations_out() -> None:
    """The reason not to use it for Anthropic: a billed compaction is not in its totals."""
    usage = MESSAGE["usage"] | {
        "iterations": [
            {"type": "compaction", "input_tokens": 180000, "output_tokens": 3500},
            {"type": "message", "input_tokens": 504, "output_tokens": 97},
        ]
    }
    response = MESSAGE | {"usage": usage}
    theirs = genai_prices.extract_usage(response, provider_id="anthropic").usage.output_tokens
    calls = normalize(provider="anthropic", response=response)
    assert theirs == 97
    assert sum(call.quantities["tokens.output"] for call in calls) == 97 + 3500
