"""Cohere's own API, v1 and v2: chat, embed, rerank.

Sources: Cohere API reference, "Chat", "Embed", "Rerank" (``billed_units`` is what is charged,
``tokens`` what the model processed, its own preamble included), "How does Cohere's pricing work".
"""

from __future__ import annotations

from decimal import Decimal

from adapters.providers.reading import (
    NO_USAGE,
    Node,
    Response,
    events_of,
    flagged,
    leaves,
    picked,
    reject,
    unknown_token_fields,
    whole_of,
)
from ledger.domain.responses import NormalizedCall

_LEAVES = {
    "input_tokens": "tokens.input",
    "output_tokens": "tokens.output",
    "search_units": "retrieval.queries",
}
_KNOWN = frozenset({"input_tokens", "output_tokens", "cached_tokens"})


def normalize_cohere(*, provider: str, response: Response) -> tuple[NormalizedCall, ...]:
    """Return the one call of a response or of the list of its stream's events.

    Raises:
        InvalidInput: see docs/spec/normalizers.md.
    """
    events = events_of(response)
    if events is None:
        node = whole_of(response)
        usage = _usage(node)
        if usage is None:
            raise reject("missing_usage", "there is neither usage nor meta", node.at("usage"))
        return (_call(provider, node, usage),)
    head: Node | None = None
    end: Node | None = None
    usage = None
    for event in events:
        head = head or (event if event.get("id") is not None else None)
        end = event.child("delta") if event.get("type") == "message-end" else end
        end = event.child("response") if event.get("event_type") == "stream-end" else end
    if end is not None:
        usage = _usage(end)
    if end is None or usage is None:
        empty = NormalizedCall(
            provider=provider, model="", quantities={}, outcome="aborted", flags=(NO_USAGE,)
        )
        return (empty,)
    return (_call(provider, head or end, usage),)


def _usage(node: Node) -> Node | None:
    usage = node.child("usage")
    return usage if usage is not None else node.child("meta")


def _call(provider: str, node: Node, usage: Node) -> NormalizedCall:
    billed, processed = usage.child("billed_units"), usage.child("tokens")
    source = billed or processed
    if source is None:
        raise reject("missing_usage", "there are no billed_units", usage.at("billed_units"))
    quantities: dict[str, Decimal] = leaves(
        {leaf: source.count(name) for name, leaf in _LEAVES.items()}
    )
    if not quantities:
        raise reject("missing_usage", "billed_units states no unit that we meter", source.pointer)
    flags = unknown_token_fields(usage, _KNOWN)
    if billed is None:
        flags.add("billed_units_unstated")
    return NormalizedCall(
        provider=provider,
        model=node.text("model"),
        quantities=quantities,
        request_id=node.text("id") or node.text("generation_id"),
        flags=flagged(flags),
        evidence=picked(usage, ("billed_units", "tokens", "cached_tokens")),
        raw=dict(usage.value),
    )
