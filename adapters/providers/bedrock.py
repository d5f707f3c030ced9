"""Amazon Bedrock Converse and ConverseStream.

Sources: Amazon Bedrock API reference, "TokenUsage", "CacheDetail", "ServiceTier"; Bedrock user
guide, "Prompt caching" (``inputTokens`` holds only what was neither read from nor written to the
cache).
"""

from __future__ import annotations

from typing import Any

from adapters.providers.reading import (
    NO_USAGE,
    Node,
    Response,
    events_of,
    flagged,
    leaves,
    picked,
    reject,
    tier_and_batch,
    unknown_token_fields,
    whole_of,
)
from ledger.domain.responses import NormalizedCall

_KNOWN = frozenset(
    {
        "inputTokens",
        "outputTokens",
        "totalTokens",
        "cacheReadInputTokens",
        "cacheWriteInputTokens",
    }
)
_LIFETIMES = {"5m": "tokens.input.cache_write.5m", "1h": "tokens.input.cache_write.1h"}


def normalize_converse(*, provider: str, response: Response) -> tuple[NormalizedCall, ...]:
    """Return the one call of a Converse response or of the list of its stream's events.

    The response does not name the model; a ``modelId`` that the caller adds to it, or to any
    event, is taken, and so is the model that a prompt router says it invoked.

    Raises:
        InvalidInput: see docs/spec/normalizers.md.
    """
    events = events_of(response)
    if events is None:
        node = whole_of(response)
        if node.get("metadata") is None:
            return (_call(provider, node, node.need("usage"), _model(node), "ok"),)
        events = [node]
    model = ""
    metadata: Node | None = None
    stopped = failed = False
    for event in events:
        model = _model(event) or model
        stopped = stopped or event.get("messageStop") is not None
        failed = failed or any(name.endswith("Exception") for name in event.value)
        metadata = event.child("metadata") or metadata
    usage = metadata.child("usage") if metadata is not None else None
    outcome = "ok" if usage is not None or stopped else "aborted"
    if failed:
        outcome = "error"
    return (_call(provider, metadata or Node({}), usage, model, outcome),)


def _model(node: Node) -> str:
    trace = (node.child("metadata") or node).child("trace")
    router = trace.child("promptRouter") if trace is not None else None
    invoked = router.text("invokedModelId") if router is not None else ""
    return invoked or node.text("modelId")


def _call(
    provider: str, node: Node, usage: Node | None, model: str, outcome: str
) -> NormalizedCall:
    flags: set[str] = set()
    quantities = {}
    if usage is None:
        flags.add(NO_USAGE)
    else:
        quantities = leaves(_split(usage))
        flags |= unknown_token_fields(usage, _KNOWN)
    performance = node.child("performanceConfig")
    evidence: dict[str, Any] = {}
    if performance is not None and performance.text("latency") == "optimized":
        flags.add("latency_optimized")
        evidence = picked(node, ("performanceConfig",))
    service = node.get("serviceTier")
    stated = service if isinstance(service, str) else (node.child("serviceTier") or Node({}))
    tier, batch = tier_and_batch(stated if isinstance(stated, str) else stated.text("type"))
    return NormalizedCall(
        provider=provider,
        model=model,
        quantities=quantities,
        tier=tier,
        batch=batch,
        outcome=outcome,
        flags=flagged(flags),
        evidence=evidence,
        raw=None if usage is None else dict(usage.value),
    )


def _split(usage: Node) -> dict[str, int | None]:
    fresh, output = usage.need_count("inputTokens"), usage.need_count("outputTokens")
    read, written = usage.count("cacheReadInputTokens"), usage.count("cacheWriteInputTokens")
    parts = _lifetimes(usage, written)
    total = usage.count("totalTokens")
    plain = fresh + output
    caching = (read or 0) + (sum(parts.values()) if parts else written or 0)
    if total is not None and total not in {plain, plain + caching}:
        raise reject(
            "inconsistent_usage",
            f"totalTokens is {total}; input and output are {plain}, with the cache "
            f"{plain + caching}",
            usage.at("totalTokens"),
        )
    return {
        "tokens.input": fresh,
        "tokens.input.cache_read": read,
        **(parts or {"tokens.input.cache_write": written}),
        "tokens.output": output,
    }


def _lifetimes(usage: Node, written: int | None) -> dict[str, int]:
    """Return the cache writes by lifetime; empty where the response has only their sum."""
    parts: dict[str, int] = {}
    for node in usage.items("cacheDetails"):
        leaf = _LIFETIMES.get(node.text("ttl"))
        if leaf is None:
            raise reject(
                "unknown_response_shape",
                f"cache lifetime {node.text('ttl')!r} is not 5m or 1h",
                node.at("ttl"),
            )
        parts[leaf] = parts.get(leaf, 0) + node.need_count("inputTokens")
    if parts and written is not None and sum(parts.values()) != written:
        raise reject(
            "inconsistent_usage",
            f"cache writes of {sum(parts.values())} by lifetime are not the {written} written",
            usage.at("cacheDetails"),
        )
    return parts
