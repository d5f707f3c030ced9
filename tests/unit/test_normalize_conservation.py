"""Whatever a response states, its leaves add up to its totals, or it is refused."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.providers import normalize
from ledger.domain.errors import InvalidInput
from ledger.domain.meters import STANDARD_METERS

COUNTS = st.none() | st.integers(0, 60)
CODES = {"inconsistent_usage", "missing_usage"}


def check(provider: str, response: dict[str, Any], total: int) -> None:
    """Check that the leaves add up to ``total``, or that the response is refused with a field."""
    try:
        (call,) = normalize(provider=provider, response=response)
    except InvalidInput as error:
        assert error.code in CODES  # noqa: PT017 - a refusal is one of two right answers
        assert error.pointer.startswith("/usage")  # noqa: PT017 - the same
        return
    assert sum(call.quantities.values()) == total
    assert all(count >= 0 for count in call.quantities.values())
    assert call.quantities.keys() <= STANDARD_METERS.keys()


@settings(deadline=None)
@given(
    sent=st.integers(0, 100),
    got=st.integers(0, 100),
    details=st.fixed_dictionaries(
        dict.fromkeys(
            ("cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens"), COUNTS
        )
    ),
    out=st.fixed_dictionaries(dict.fromkeys(("reasoning_tokens", "audio_tokens"), COUNTS)),
    outside=st.booleans(),
)
def test_chat_leaves_add_up_to_the_stated_total(
    sent: int, got: int, details: dict[str, Any], out: dict[str, Any], outside: bool
) -> None:
    """For any details, with reasoning inside the completion or outside."""
    total = sent + got + ((out["reasoning_tokens"] or 0) if outside else 0)
    usage = {
        "prompt_tokens": sent,
        "completion_tokens": got,
        "total_tokens": total,
        "prompt_tokens_details": details,
        "completion_tokens_details": out,
    }
    check("groq", {"object": "chat.completion", "choices": [], "usage": usage}, total)


@settings(deadline=None)
@given(
    prompt=st.integers(0, 100),
    cached=COUNTS,
    candidates=st.integers(0, 100),
    thoughts=COUNTS,
    tool=COUNTS,
    sent=st.lists(
        st.tuples(st.sampled_from(["TEXT", "AUDIO", "IMAGE", "VIDEO"]), st.integers(0, 60))
    ),
    stored=st.lists(st.tuples(st.sampled_from(["TEXT", "AUDIO", "IMAGE"]), st.integers(0, 30))),
    inside=st.booleans(),
)
def test_gemini_leaves_add_up_to_the_stated_total(
    prompt: int,
    cached: int | None,
    candidates: int,
    thoughts: int | None,
    tool: int | None,
    sent: list[tuple[str, int]],
    stored: list[tuple[str, int]],
    inside: bool,
) -> None:
    """For any modalities, with thoughts inside the candidates or outside."""
    total = prompt + (tool or 0) + candidates + (0 if inside else thoughts or 0)
    usage = {
        "promptTokenCount": prompt,
        "cachedContentTokenCount": cached,
        "candidatesTokenCount": candidates,
        "thoughtsTokenCount": thoughts,
        "toolUsePromptTokenCount": tool,
        "totalTokenCount": total,
        "promptTokensDetails": [{"modality": name, "tokenCount": count} for name, count in sent],
        "cacheTokensDetails": [{"modality": name, "tokenCount": count} for name, count in stored],
    }
    check("google", {"candidates": [], "usageMetadata": usage}, total)
