"""Split inclusive token totals into disjoint leaves (OpenAI and everything shaped like it).

Sources: OpenAI API reference, "Chat completion object", "Response object", "response.done"
(Realtime) and "Prompt caching" (cached and cache-write tokens are inside the input total);
xAI, "Consumption and rate limits" (Chat: reasoning is counted outside ``completion_tokens`` but
inside ``total_tokens``); DeepSeek, "Context caching" (hit and miss make up the prompt).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from adapters.providers.reading import Node, leaves, picked, reject, unknown_token_fields


class Names(NamedTuple):
    """How one API names its two totals."""

    input: str
    output: str


CHAT = Names("prompt_tokens", "completion_tokens")
RESPONSES = Names("input_tokens", "output_tokens")

_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details", "output_token_details")
_EVIDENCE = (
    "cost",
    "cost_details",
    "cost_in_usd_ticks",
    "is_byok",
    "num_search_queries",
    "num_server_side_tools_used",
    "num_sources_used",
    "server_side_tool_usage_details",
    "server_tool_use",
)
# Predicted-output tokens are inside the output total and billed at its rate.
_KNOWN = frozenset(
    {
        "accepted_prediction_tokens",
        "audio_tokens",
        "cache_write_tokens",
        "cached_tokens",
        "completion_tokens",
        "image_tokens",
        "input_tokens",
        "output_tokens",
        "prompt_cache_hit_tokens",
        "prompt_cache_miss_tokens",
        "prompt_tokens",
        "reasoning_tokens",
        "rejected_prediction_tokens",
        "text_tokens",
        "total_tokens",
    }
)


@dataclass(frozen=True, slots=True)
class Split:
    """What one usage object says.

    Attributes:
        quantities: disjoint leaves.
        flags: remarks.
        evidence: provider-stated figures that are never added up.
    """

    quantities: dict[str, Decimal]
    flags: set[str]
    evidence: dict[str, Any]


def split(*, usage: Node, names: Names, provider: str) -> Split:
    """Return the leaves of an inclusive usage object.

    Args:
        usage: the usage object.
        names: how this API names the totals.
        provider: ``openai`` holds reasoning inside the output total, always; for others the
            stated total decides, and without one xAI's Chat documentation.

    Raises:
        InvalidInput: ``missing_usage``, ``invalid_count``, ``inconsistent_usage``.
    """
    flags: set[str] = set()
    counts: dict[str, int | None] = {}
    counts.update(_input(usage, names, flags))
    counts.update(_output(usage, names, provider))
    flags |= unknown_token_fields(usage, _KNOWN)
    return Split(leaves(counts), flags, picked(usage, _EVIDENCE))


def _details(usage: Node, spellings: tuple[str, ...]) -> Node:
    for name in spellings:
        node = usage.child(name)
        if node is not None:
            return node
    return Node({}, usage.at(spellings[0]))


def _cached(usage: Node, details: Node, total: int) -> int | None:
    """Return the cached input, stated in up to three places that must agree."""
    hit = usage.count("prompt_cache_hit_tokens")
    miss = usage.count("prompt_cache_miss_tokens")
    if hit is not None and miss is not None and hit + miss != total:
        raise reject(
            "inconsistent_usage",
            f"cache hits {hit} and misses {miss} do not make up the prompt of {total}",
            usage.at("prompt_cache_miss_tokens"),
        )
    cached = details.count("cached_tokens")
    for name, other in (
        ("prompt_cache_hit_tokens", hit),
        ("cached_tokens", usage.count("cached_tokens")),
    ):
        if other is None:
            continue
        if cached is not None and cached != other:
            raise reject(
                "inconsistent_usage", f"cached tokens are {cached} and {other}", usage.at(name)
            )
        cached = other
    return cached


def _input(usage: Node, names: Names, flags: set[str]) -> dict[str, int | None]:
    total = usage.need_count(names.input)
    details = _details(usage, _INPUT_DETAILS)
    cached = _cached(usage, details, total)
    written = details.count("cache_write_tokens")
    audio, image = details.count("audio_tokens"), details.count("image_tokens")
    caching, modal = (cached or 0) + (written or 0), (audio or 0) + (image or 0)
    if caching > total:
        raise reject(
            "inconsistent_usage", f"{caching} tokens are cached of {total}", details.pointer
        )
    text = (details.count("text_tokens") or 0) if modal else 0
    if modal + text > total:
        raise reject(
            "inconsistent_usage",
            f"the modalities add up to more than the input of {total}",
            details.pointer,
        )
    joint = details.child("cached_tokens_details")
    if joint is None:
        if caching and modal:
            flags.add("overlap")
        audio, image = _cut(audio, image, max(0, caching + modal - total))
    else:
        audio, image = _take_out_cached(joint, audio, image, cached or 0, flags)
    rest = total - caching - (audio or 0) - (image or 0)
    if rest < 0:
        raise reject(
            "inconsistent_usage", f"the parts of the input exceed {total}", details.pointer
        )
    return {
        "tokens.input": rest,
        "tokens.input.cache_read": cached,
        "tokens.input.cache_write": written,
        "tokens.input.audio": audio,
        "tokens.input.image": image,
    }


def _cut(audio: int | None, image: int | None, excess: int) -> tuple[int | None, int | None]:
    """Take a proven overlap out of the modalities: those tokens are counted as cached."""
    from_audio = min(audio or 0, excess)
    from_image = excess - from_audio
    return (
        audio if audio is None else audio - from_audio,
        image if image is None else image - from_image,
    )


def _take_out_cached(
    joint: Node, audio: int | None, image: int | None, cached: int, flags: set[str]
) -> tuple[int | None, int | None]:
    """Return audio and image without their cached parts, which count as cached."""
    cached_audio = joint.count("audio_tokens") or 0
    cached_image = joint.count("image_tokens") or 0
    cached_text = joint.count("text_tokens") or 0
    if cached_audio > (audio or 0) or cached_image > (image or 0):
        raise reject(
            "inconsistent_usage", "more is cached of a modality than was sent", joint.pointer
        )
    if cached_audio + cached_image + cached_text > cached:
        raise reject(
            "inconsistent_usage", f"the cached parts exceed the {cached} cached", joint.pointer
        )
    if cached_audio or cached_image:
        flags.add("cached_modalities")
    return (
        audio if audio is None else audio - cached_audio,
        image if image is None else image - cached_image,
    )


def _output(usage: Node, names: Names, provider: str) -> dict[str, int | None]:
    stated = usage.count(names.output)
    total = usage.count("total_tokens")
    if stated is None and names is CHAT and total is not None:
        # Embeddings have no output and do not say so.
        if total != usage.need_count(names.input):
            raise reject("missing_usage", f"there is no {names.output}", usage.at(names.output))
        return {}
    output = usage.need_count(names.output)
    details = _details(usage, _OUTPUT_DETAILS)
    reasoning = details.count("reasoning_tokens")
    if reasoning is None:
        reasoning = usage.count("reasoning_tokens")
    audio, image = details.count("audio_tokens"), details.count("image_tokens")
    outside = _reasoning_is_outside(usage, names, provider, output, reasoning or 0)
    parts = (0 if outside else reasoning or 0) + (audio or 0) + (image or 0)
    if parts > output:
        raise reject(
            "inconsistent_usage",
            f"the parts of the output add up to {parts}, more than {output}",
            details.pointer,
        )
    return {
        "tokens.output": output - parts,
        "tokens.output.reasoning": reasoning,
        "tokens.output.audio": audio,
        "tokens.output.image": image,
    }


def _reasoning_is_outside(
    usage: Node, names: Names, provider: str, output: int, reasoning: int
) -> bool:
    """Return whether the output total leaves reasoning out; the stated sum decides."""
    total, sent = usage.count("total_tokens"), usage.need_count(names.input)
    if total is None:
        return provider == "xai" and names is CHAT
    if total == sent + output:
        return False
    if provider != "openai" and total == sent + output + reasoning:
        return True
    raise reject(
        "inconsistent_usage",
        f"total_tokens is {total}, input {sent} and output {output} with {reasoning} of reasoning",
        usage.at("total_tokens"),
    )
