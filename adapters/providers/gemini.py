"""Gemini ``generateContent``, whole or streamed.

Sources: Gemini API and Vertex AI references, "UsageMetadata" (cached content is inside the
prompt; the total is prompt + tool-use prompt + candidates + thoughts), Gemini API "Pricing"
(input has one rate for text, image and video and another for audio; grounding with Google Search
is billed by the grounded prompt up to Gemini 2.5 and by the search query, empty and repeated
ones not counted, from Gemini 3 on), Vertex AI "TrafficType".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from adapters.providers.reading import (
    NO_USAGE,
    Node,
    Response,
    events_of,
    flagged,
    leaves,
    reject,
    tier_and_batch,
    unknown_token_fields,
    whole_of,
)
from ledger.domain.responses import NormalizedCall

_MODALITIES = frozenset({"TEXT", "IMAGE", "VIDEO", "AUDIO", "DOCUMENT", "MODALITY_UNSPECIFIED"})
_TIERS = {
    "ON_DEMAND": "",
    "TRAFFIC_TYPE_UNSPECIFIED": "",
    "ON_DEMAND_PRIORITY": "priority",
    "ON_DEMAND_FLEX": "flex",
    "PROVISIONED_THROUGHPUT": "provisioned",
}
_KNOWN = frozenset(
    {
        "promptTokenCount",
        "cachedContentTokenCount",
        "candidatesTokenCount",
        "toolUsePromptTokenCount",
        "thoughtsTokenCount",
        "totalTokenCount",
    }
)
_GENERATION = re.compile(r"gemini-(?:[a-z]+-)*(\d+)")


def normalize_gemini(*, provider: str, response: Response) -> tuple[NormalizedCall, ...]:
    """Return the one call of a response or of the list of a stream's chunks.

    The usage of a stream is cumulative: the last one counts.

    Raises:
        InvalidInput: see docs/spec/normalizers.md.
    """
    events = events_of(response)
    chunks = events if events is not None else [whole_of(response)]
    last: Node | None = None
    finished = failed = False
    for chunk in chunks:
        last = chunk if chunk.get("usageMetadata") is not None else last
        failed = failed or chunk.get("error") is not None
        finished = finished or _is_finished(chunk)
    if events is None:
        chunks[0].need("usageMetadata")
        finished = True
    outcome = "error" if failed else ("ok" if finished else "aborted")
    request_id = _the_one(chunks, "responseId")
    model = _the_one(chunks, "modelVersion")
    if last is None:
        empty = NormalizedCall(
            provider=provider,
            model=model,
            quantities={},
            request_id=request_id,
            outcome=outcome,
            flags=(NO_USAGE,),
        )
        return (empty,)
    usage = last.need("usageMetadata")
    flags = unknown_token_fields(usage, _KNOWN)
    counts: dict[str, int | None] = {**_input(usage, flags), **_output(usage, flags)}
    if outcome == "aborted":
        flags.add("incomplete_stream")
    searches, evidence = _grounding(chunks, model, flags)
    tier, batch = _tier(last, usage)
    call = NormalizedCall(
        provider=provider,
        model=model,
        quantities=leaves(counts | searches),
        tier=tier,
        batch=batch,
        request_id=request_id,
        outcome=outcome,
        flags=flagged(flags),
        evidence=evidence,
        raw=dict(usage.value),
    )
    return (call,)


def _is_finished(chunk: Node) -> bool:
    feedback = chunk.child("promptFeedback")
    if feedback is not None and feedback.get("blockReason") is not None:
        return True
    return any(item.get("finishReason") is not None for item in chunk.items("candidates"))


def _the_one(chunks: Sequence[Node], name: str) -> str:
    """Return the member that all chunks share."""
    found = ""
    for chunk in chunks:
        value = chunk.text(name)
        if found and value and value != found:
            raise reject(
                "unknown_response_shape",
                f"a stream holds one response; {name} changes to {value}",
                chunk.at(name),
            )
        found = found or value
    return found


def _by_modality(usage: Node, name: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for node in usage.items(name):
        modality = node.text("modality")
        if modality not in _MODALITIES:
            raise reject(
                "unknown_response_shape",
                f"modality {modality!r} is not known, nor its price",
                node.at("modality"),
            )
        counts[modality] = counts.get(modality, 0) + (node.count("tokenCount") or 0)
    return counts


def _input(usage: Node, flags: set[str]) -> dict[str, int | None]:
    prompt = usage.need_count("promptTokenCount")
    cached = usage.count("cachedContentTokenCount")
    tool = usage.count("toolUsePromptTokenCount") or 0
    if (cached or 0) > prompt:
        raise reject(
            "inconsistent_usage",
            f"{cached} tokens are cached of a prompt of {prompt}",
            usage.at("cachedContentTokenCount"),
        )
    fresh = _fresh_modalities(usage, prompt, cached or 0, flags)
    for name, count in _by_modality(usage, "toolUsePromptTokensDetails").items():
        fresh[name] = fresh.get(name, 0) + count
    audio, image = fresh.get("AUDIO"), fresh.get("IMAGE")
    rest = prompt - (cached or 0) + tool - (audio or 0) - (image or 0)
    if rest < 0:
        raise reject(
            "inconsistent_usage",
            "the modalities of the input exceed its total",
            usage.at("promptTokensDetails"),
        )
    return {
        "tokens.input": rest,
        "tokens.input.cache_read": cached,
        "tokens.input.audio": audio,
        "tokens.input.image": image,
    }


def _fresh_modalities(usage: Node, prompt: int, cached: int, flags: set[str]) -> dict[str, int]:
    """Return the prompt's tokens by modality, what was cached taken out."""
    sent = _by_modality(usage, "promptTokensDetails")
    stored = _by_modality(usage, "cacheTokensDetails")
    total = sum(sent.values())
    if total > prompt:
        raise reject(
            "inconsistent_usage",
            f"the modalities add up to {total}, more than the prompt of {prompt}",
            usage.at("promptTokensDetails"),
        )
    if sum(stored.values()) > cached:
        raise reject(
            "inconsistent_usage",
            f"the cached modalities exceed the {cached} cached",
            usage.at("cacheTokensDetails"),
        )
    if any(stored.get(name) for name in ("AUDIO", "IMAGE")):
        flags.add("cached_modalities")
    if not cached or total == prompt - cached:
        # The details leave the cached part out already, or there is none.
        return sent
    if stored:
        fresh = {name: count - stored.get(name, 0) for name, count in sent.items()}
        if min(fresh.values(), default=0) < 0:
            raise reject(
                "inconsistent_usage",
                "more is cached of a modality than was sent",
                usage.at("cacheTokensDetails"),
            )
        return fresh
    modal = sum(sent.get(name, 0) for name in ("AUDIO", "IMAGE"))
    if modal:
        flags.add("overlap")
    excess = max(0, modal + cached - prompt)
    for name in ("AUDIO", "IMAGE"):
        cut = min(sent.get(name, 0), excess)
        if cut:
            sent[name] -= cut
            excess -= cut
    return sent


def _output(usage: Node, flags: set[str]) -> dict[str, int | None]:
    stated = usage.count("candidatesTokenCount")
    thoughts = usage.count("thoughtsTokenCount")
    candidates = stated or 0
    if _thoughts_inside(usage, candidates, thoughts or 0):
        candidates -= thoughts or 0
    by_modality = _by_modality(usage, "candidatesTokensDetails")
    audio, image = by_modality.get("AUDIO"), by_modality.get("IMAGE")
    if by_modality.get("VIDEO"):
        flags.add("video_output")
    rest = candidates - (audio or 0) - (image or 0)
    if rest < 0:
        raise reject(
            "inconsistent_usage",
            "the parts of the output exceed candidatesTokenCount",
            usage.at("candidatesTokenCount"),
        )
    return {
        "tokens.output": None if stated is None else rest,
        "tokens.output.reasoning": thoughts,
        "tokens.output.audio": audio,
        "tokens.output.image": image,
    }


def _thoughts_inside(usage: Node, candidates: int, thoughts: int) -> bool:
    """Return whether the candidates include the thoughts; the stated total decides."""
    total = usage.count("totalTokenCount")
    if total is None:
        return False
    known = usage.need_count("promptTokenCount") + (usage.count("toolUsePromptTokenCount") or 0)
    if total == known + candidates + thoughts:
        return False
    if total == known + candidates:
        return True
    raise reject(
        "inconsistent_usage",
        f"totalTokenCount is {total}; prompt, tool use, candidates and thoughts add up to "
        f"{known + candidates + thoughts}, without thoughts to {known + candidates}",
        usage.at("totalTokenCount"),
    )


def _tier(chunk: Node, usage: Node) -> tuple[str, bool]:
    traffic = usage.text("trafficType") or chunk.text("trafficType")
    if traffic:
        return _TIERS.get(traffic, traffic.lower()), False
    return tier_and_batch(usage.text("serviceTier") or chunk.text("serviceTier"))


def _grounding(
    chunks: Sequence[Node], model: str, flags: set[str]
) -> tuple[dict[str, int | None], dict[str, Any]]:
    """Return the searches in the unit that the model's generation is billed by."""
    queries: dict[str, None] = {}
    for chunk in chunks:
        for candidate in chunk.items("candidates"):
            grounding = candidate.child("groundingMetadata")
            if grounding is None:
                continue
            found = grounding.get("webSearchQueries") or ()
            queries |= dict.fromkeys(query for query in found if isinstance(query, str) and query)
            if any(item.get("maps") is not None for item in grounding.items("groundingChunks")):
                flags.add("maps_grounding_unmetered")
    if not queries:
        return {}, {}
    match = _GENERATION.search(model)
    if match is None:
        flags.add("search_unit_unknown")
    per_prompt = match is not None and int(match.group(1)) < 3
    return {"search.web": 1 if per_prompt else len(queries)}, {"web_search_queries": list(queries)}
