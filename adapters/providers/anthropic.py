"""Anthropic Messages: exclusive input, cumulative stream usage, iterations.

Sources: Anthropic API docs, "Messages" (usage object), "Streaming messages" (the counts of
``message_delta`` are cumulative), "Prompt caching" (total input = input + cache creation + cache
read; the 5-minute and 1-hour counts make up the creation), "Compaction: understanding usage",
"Advisor tool: usage and billing", "Refusals and fallback: billing".

The three last pages make ``usage.iterations`` the record of what is billed. Of its entries

- ``message`` and ``fallback_message`` of the model that answered make up the main call; the top
  level repeats their sum (or, for input beside an advisor, the first one's count),
- ``compaction`` (the main model) and ``advisor_message`` (its own model) are in no total at the
  top level and become calls of their own,
- attempts of another model before a ``fallback_message`` were declined: billed as their own call
  if they generated output, not billed if they did not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import msgspec

from adapters.providers.reading import (
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

_COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
)
_PARTS = {
    "ephemeral_5m_input_tokens": "tokens.input.cache_write.5m",
    "ephemeral_1h_input_tokens": "tokens.input.cache_write.1h",
}
_KNOWN = frozenset({*_COUNTS, *_PARTS, "thinking_tokens"})
_ANSWERS = frozenset({"message", "fallback_message"})
_EXTRAS = frozenset({"compaction", "advisor_message"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Message:
    """What a response says, streamed or not, before its usage is split."""

    provider: str
    model: str
    request_id: str
    usage: Node
    stop_reason: str = ""
    container: str = ""
    outcome: str = "ok"
    flags: tuple[str, ...] = ()


def normalize_messages(*, provider: str, response: Response) -> tuple[NormalizedCall, ...]:
    """Return the main call of a message and one more for every iteration billed beside it.

    Raises:
        InvalidInput: see docs/spec/normalizers.md.
    """
    events = events_of(response)
    if events is not None:
        return _calls(_from_stream(provider, events))
    node = whole_of(response)
    if node.get("type") != "message":
        return _calls(_from_stream(provider, [node]))
    return _calls(_message(provider, node, node.need("usage"), node.text("stop_reason")))


def _message(provider: str, node: Node, usage: Node, stop_reason: str) -> _Message:
    container = node.child("container")
    return _Message(
        provider=provider,
        model=node.text("model"),
        request_id=node.text("id"),
        usage=usage,
        stop_reason=stop_reason,
        container=container.text("id") if container is not None else "",
    )


def _from_stream(provider: str, events: Sequence[Node]) -> _Message:
    start: Node | None = None
    usage: dict[str, Any] = {}
    pointer = stop_reason = ""
    container: Any = None
    closed = stopped = failed = False
    for event in events:
        kind = event.text("type")
        stopped = stopped or kind == "message_stop"
        failed = failed or kind == "error"
        if kind == "message_start":
            if start is not None:
                raise reject(
                    "unknown_response_shape",
                    "a stream holds one message; this is the start of another",
                    event.pointer,
                )
            start = event.need("message")
            fresh = start.child("usage")
        elif kind == "message_delta":
            fresh = event.child("usage")
            delta = event.child("delta") or Node({})
            stop_reason = delta.text("stop_reason") or stop_reason
            container = delta.get("container") or container
            closed = closed or fresh is not None
        else:
            continue
        if fresh is not None:
            usage |= {name: value for name, value in fresh.value.items() if value is not None}
            pointer = fresh.pointer
    if start is None:
        raise reject("missing_usage", "the stream has no message_start", "/0")
    head = Node(start.value if container is None else {**start.value, "container": container})
    message = _message(provider, Node(head.value, start.pointer), Node(usage, pointer), stop_reason)
    if failed or not (stopped or stop_reason):
        message = replace(message, outcome="error" if failed else "aborted")
    if closed:
        return message
    # The count that opens a stream is not the output's: the caller's own estimate has to do.
    return replace(message, flags=("incomplete_stream",))


def _calls(message: _Message) -> tuple[NormalizedCall, ...]:
    usage = message.usage
    iterations = list(usage.items("iterations"))
    if not iterations:
        return (_main(message, usage, [], ()),)
    served, beside = _sort(message, iterations)
    flags: set[str] = set()
    advised = any(node.text("type") == "advisor_message" for node in iterations)
    own = _served_usage(usage, served, advised, flags)
    unbilled: list[Node] = []
    extra: list[NormalizedCall] = []
    for position, node, outcome in beside:
        if outcome == "error" and node.need_count("output_tokens") == 0:
            unbilled.append(node)
            flags.add("unbilled_attempt")
        else:
            extra.append(_iteration(message, position, node, outcome))
    return (_main(message, own, unbilled, tuple(flags)), *extra)


def _sort(
    message: _Message, iterations: list[Node]
) -> tuple[list[Node], list[tuple[int, Node, str]]]:
    """Return the main call's iterations, and (number, node, outcome) of each other one."""
    for node in iterations:
        if node.text("type") not in _ANSWERS | _EXTRAS:
            raise reject(
                "unknown_response_shape",
                f"an iteration of type {node.text('type')!r} is not known, nor how it is billed",
                node.at("type"),
            )
        for name in ("input_tokens", "output_tokens"):
            node.need_count(name)
    fallbacks = [node for node in iterations if node.text("type") == "fallback_message"]
    # The last fallback is the one that answered; its id may be spelled otherwise at the top.
    answering = (fallbacks[-1].text("model") or message.model) if fallbacks else ""
    served: list[Node] = []
    beside: list[tuple[int, Node, str]] = []
    for position, node in enumerate(iterations, start=1):
        kind = node.text("type")
        if kind in _EXTRAS:
            beside.append((position, node, "ok"))
        elif not fallbacks or (node.text("model") or _unnamed(message, kind)) == answering:
            served.append(node)
        else:
            beside.append((position, node, "error"))
    return served, beside


def _unnamed(message: _Message, kind: str) -> str:
    """Return the model of an attempt that names none, beside a fallback."""
    return message.model if kind == "fallback_message" else ""


def _served_usage(usage: Node, served: list[Node], advised: bool, flags: set[str]) -> Node:
    """Return the usage of the main call: the top level, checked against its iterations.

    Beside an advisor the top level may state the input of the first iteration only.
    """
    if not served:
        return usage
    merged: dict[str, Any] = {}
    for name in _COUNTS:
        stated = [value for node in served if (value := node.count(name)) is not None]
        top = usage.count(name)
        if not stated or top == sum(stated):
            continue
        first_only = advised and name != "output_tokens" and top == stated[0]
        if top is not None and not first_only:
            raise reject(
                "inconsistent_usage",
                f"{name} is {top}, but its iterations add up to {sum(stated)}",
                usage.at(name),
            )
        merged[name] = sum(stated)
        flags.add("top_level_partial")
    if not merged:
        return usage
    if "cache_creation_input_tokens" in merged:
        merged["cache_creation"] = _summed_parts(served)
    return Node({**usage.value, **merged}, usage.pointer)


def _summed_parts(served: list[Node]) -> dict[str, int] | None:
    """Return the cache-write parts of all iterations; None if one does not state its own."""
    parts = dict.fromkeys(_PARTS, 0)
    for node in served:
        creation = node.child("cache_creation")
        if creation is None and node.count("cache_creation_input_tokens"):
            return None
        for name in _PARTS:
            parts[name] += (creation.count(name) or 0) if creation is not None else 0
    return parts


def _split(usage: Node, *, complete: bool = True) -> dict[str, Decimal]:
    """Return the leaves of one exclusive usage object."""
    output = usage.need_count("output_tokens") if complete else None
    details = usage.child("output_tokens_details")
    thinking = details.count("thinking_tokens") if details is not None else None
    if output is not None and (thinking or 0) > output:
        raise reject(
            "inconsistent_usage",
            f"thinking of {thinking} tokens exceeds the output of {output}",
            usage.at("output_tokens_details"),
        )
    return leaves(
        {
            "tokens.input": usage.need_count("input_tokens"),
            "tokens.input.cache_read": usage.count("cache_read_input_tokens"),
            **_cache_write(usage),
            "tokens.output": None if output is None else output - (thinking or 0),
            "tokens.output.reasoning": None if output is None else thinking,
        }
    )


def _cache_write(usage: Node) -> dict[str, int | None]:
    total = usage.count("cache_creation_input_tokens")
    creation = usage.child("cache_creation")
    if creation is None:
        return {"tokens.input.cache_write": total}
    parts = {leaf: creation.count(name) for name, leaf in _PARTS.items()}
    stated = [value for value in parts.values() if value is not None]
    if total is not None and sum(stated) != total:
        raise reject(
            "inconsistent_usage",
            f"cache writes of {sum(stated)} by lifetime are not the {total} written",
            usage.at("cache_creation"),
        )
    return dict(parts) if stated else {"tokens.input.cache_write": total}


def _main(
    message: _Message, usage: Node, unbilled: list[Node], flags: tuple[str, ...]
) -> NormalizedCall:
    remarks = set(flags) | set(message.flags)
    quantities = _split(usage, complete="incomplete_stream" not in message.flags)
    evidence: dict[str, Any] = {}
    if unbilled:
        evidence["unbilled_iterations"] = [dict(node.value) for node in unbilled]
    refused = message.stop_reason == "refusal" and usage.count("output_tokens") == 0
    if refused and message.provider == "anthropic":
        # "You are not billed for a request" that is refused before any output.
        evidence["unbilled"] = {name: str(value) for name, value in quantities.items()}
        quantities = dict.fromkeys(quantities, Decimal(0))
        remarks.add("unbilled_refusal")
    tools = usage.child("server_tool_use")
    if tools is not None:
        quantities |= leaves({"search.web": tools.count("web_search_requests")})
        evidence["server_tool_use"] = dict(tools.value)
    if message.container:
        evidence["containers"] = [message.container]
        remarks.add("code_execution_untimed")
    remarks |= unknown_token_fields(usage, _KNOWN)
    return _described(message, usage, quantities, remarks, evidence)


def _iteration(message: _Message, position: int, node: Node, outcome: str) -> NormalizedCall:
    kind = node.text("type")
    model = node.text("model") or (message.model if kind == "compaction" else "")
    flags = unknown_token_fields(node, _KNOWN) | (set() if model else {"model_unknown"})
    call = _described(message, node, _split(node), flags, {"iteration_type": kind})
    return msgspec.structs.replace(call, model=model, part=f"iteration-{position}", outcome=outcome)


def _described(
    message: _Message,
    usage: Node,
    quantities: dict[str, Decimal],
    flags: set[str],
    evidence: dict[str, Any],
) -> NormalizedCall:
    top = message.usage
    tier, batch = tier_and_batch(top.text("service_tier"))
    if top.text("speed") not in {"", "standard"}:
        # Fast mode has prices of its own; the tier is where prices look.
        evidence = evidence | picked(top, ("service_tier",))
        tier = top.text("speed")
    region = top.text("inference_geo")
    return NormalizedCall(
        provider=message.provider,
        model=message.model,
        quantities=quantities,
        tier=tier,
        region="" if region == "not_available" else region,
        batch=batch,
        request_id=message.request_id,
        outcome=message.outcome,
        flags=flagged(flags),
        evidence=evidence,
        raw=dict(usage.value),
    )
