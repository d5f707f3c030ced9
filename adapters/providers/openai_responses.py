"""The Responses API, whole or streamed.

Sources: OpenAI API reference, "The response object" and "Streaming events"; OpenAI, "Web search"
(only ``search`` actions carry a tool fee, opening a page does not) and "Code interpreter"
(billed by container).
"""

from __future__ import annotations

from typing import Any

from adapters.providers.inclusive import RESPONSES, Split, split
from adapters.providers.reading import (
    NO_USAGE,
    Node,
    Response,
    events_of,
    flagged,
    leaves,
    tier_and_batch,
    whole_of,
)
from ledger.domain.responses import NormalizedCall

TERMINAL_EVENTS = frozenset({"response.completed", "response.incomplete", "response.failed"})
"""Stream events that carry the finished response."""

_OUTCOMES = {"failed": "error", "cancelled": "aborted"}


def normalize_responses(*, provider: str, response: Response) -> tuple[NormalizedCall, ...]:
    """Return the one call of a response object or of the list of its stream events.

    Raises:
        InvalidInput: see docs/spec/normalizers.md.
    """
    events = events_of(response)
    if events is None:
        node = whole_of(response)
        if node.get("object") == "response":
            usage = node.need("usage")
            return (_call(provider, node, usage, _outcome(node)),)
        events = [node]
    return (_stream(provider, events),)


def _outcome(node: Node) -> str:
    return _OUTCOMES.get(node.text("status"), "ok")


def _stream(provider: str, events: list[Node]) -> NormalizedCall:
    last: Node | None = None
    terminal = failed = False
    for event in events:
        kind = event.text("type")
        failed = failed or kind == "error" or event.get("error") is not None
        inner = event.child("response")
        if inner is not None:
            last, terminal = inner, kind in TERMINAL_EVENTS
            failed = failed or kind == "response.failed"
    outcome = "error" if failed else "aborted"
    if last is None:
        return _call(provider, Node({}), None, outcome)
    usage = last.child("usage")
    if terminal and not failed:
        usage, outcome = last.need("usage"), _outcome(last)
    return _call(provider, last, usage, outcome)


def _call(provider: str, node: Node, usage: Node | None, outcome: str) -> NormalizedCall:
    if usage is None:
        parts = Split({}, {NO_USAGE}, {})
    else:
        parts = split(usage=usage, names=RESPONSES, provider=provider)
    tools, evidence = _tools(node)
    tier, batch = tier_and_batch(node.text("service_tier"))
    return NormalizedCall(
        provider=provider,
        model=node.text("model"),
        quantities=parts.quantities | leaves(tools),
        tier=tier,
        batch=batch,
        request_id=node.text("id"),
        occurred_at=node.moment("created_at"),
        outcome=outcome,
        flags=flagged(parts.flags),
        evidence=parts.evidence | evidence,
        raw=None if usage is None else dict(usage.value),
    )


def _tools(node: Node) -> tuple[dict[str, int | None], dict[str, Any]]:
    """Count the built-in tool calls among the output items; a tool never called has no count."""
    counts: dict[str, int | None] = {}
    containers: set[str] = set()
    for item in node.items("output"):
        kind = item.text("type")
        if kind == "web_search_call" and item.text("status") == "completed":
            action = item.child("action")
            if action is None or action.text("type") in {"", "search"}:
                counts["search.web"] = (counts.get("search.web") or 0) + 1
        elif kind == "file_search_call" and item.text("status") == "completed":
            counts["search.file"] = (counts.get("search.file") or 0) + 1
        elif kind == "code_interpreter_call":
            containers.add(item.text("container_id") or item.text("id"))
    if not containers:
        return counts, {}
    counts["code.sessions"] = len(containers)
    return counts, {"containers": sorted(containers)}
