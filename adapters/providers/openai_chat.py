"""Chat Completions and what shares its usage object: legacy completions, embeddings, images.

Used for OpenAI and for every OpenAI-compatible provider. Sources: OpenAI API reference, "Chat
completion object", "Chat completion chunk object", "Create embeddings", "Create image"; Groq API
reference (``x_groq.usage`` on the last chunk); OpenRouter, "Usage accounting" (``cost``);
Mistral, "Audio & Transcription" (``prompt_audio_seconds`` is billed beside the tokens).
"""

from __future__ import annotations

from typing import Any

from adapters.providers.inclusive import CHAT, RESPONSES, Split, split
from adapters.providers.reading import (
    NO_USAGE,
    Node,
    Response,
    events_of,
    flagged,
    leaves,
    reject,
    tier_and_batch,
    whole_of,
)
from ledger.domain.responses import NormalizedCall


def normalize_chat(*, provider: str, response: Response) -> tuple[NormalizedCall, ...]:
    """Return the one call of a chat completion, whole or as the list of its chunks.

    Raises:
        InvalidInput: see docs/spec/normalizers.md.
    """
    events = events_of(response)
    if events is None:
        node = whole_of(response)
        if node.get("object") != "chat.completion.chunk":
            return (_call(provider, node, _usage(node) or node.need("usage")),)
        events = [node]
    return (_chat_stream(provider, events),)


def _usage(node: Node) -> Node | None:
    usage = node.child("usage")
    if usage is None:
        groq = node.child("x_groq")
        usage = groq.child("usage") if groq is not None else None
    return usage


def _call(provider: str, node: Node, usage: Node, outcome: str = "ok") -> NormalizedCall:
    parts = split(usage=usage, names=CHAT, provider=provider)
    if usage.get("prompt_audio_seconds"):
        parts.quantities["audio.stt.seconds"] = usage.seconds("prompt_audio_seconds")
    return _described(provider, node, usage, parts, outcome)


def _described(
    provider: str, node: Node, usage: Node | None, parts: Split, outcome: str = "ok"
) -> NormalizedCall:
    tier, batch = tier_and_batch(node.text("service_tier"))
    upstream = node.get("provider")
    return NormalizedCall(
        provider=provider,
        model=node.text("model"),
        quantities=parts.quantities,
        tier=tier,
        batch=batch,
        request_id=node.text("id"),
        occurred_at=node.moment("created"),
        outcome=outcome,
        flags=flagged(parts.flags),
        evidence=parts.evidence | ({} if upstream is None else {"upstream_provider": upstream}),
        raw=None if usage is None else dict(usage.value),
    )


def _chat_stream(provider: str, events: list[Node]) -> NormalizedCall:
    head: dict[str, Any] = {}
    usage: Node | None = None
    finished = failed = False
    for event in events:
        if event.get("object") == "chat.completion":
            raise reject(
                "unknown_response_shape",
                "a stream holds the chunks of one completion, not whole completions",
                event.at("object"),
            )
        failed = failed or event.get("error") is not None
        for name in ("id", "model", "created", "service_tier", "provider"):
            if event.get(name) not in (None, "", 0):
                head[name] = event.get(name)
        choices = list(event.items("choices"))
        finished = finished or any(choice.get("finish_reason") is not None for choice in choices)
        found = _usage(event)
        if found is not None:
            usage = found
            finished = finished or not choices
    outcome = "error" if failed else ("ok" if finished else "aborted")
    if usage is None:
        return _described(provider, Node(head), None, Split({}, {NO_USAGE}, {}), outcome)
    return _call(provider, Node(head), usage, outcome)


def normalize_embeddings(*, provider: str, response: Response) -> tuple[NormalizedCall, ...]:
    """Return the one call of an embeddings response.

    Raises:
        InvalidInput: see docs/spec/normalizers.md.
    """
    node = whole_of(response)
    usage = node.need("usage")
    return (_described(provider, node, usage, split(usage=usage, names=CHAT, provider=provider)),)


def normalize_images(*, provider: str, response: Response) -> tuple[NormalizedCall, ...]:
    """Return the one call of an image generation or edit, whole or streamed.

    A response with token usage is billed by tokens; one without is billed by the image, and the
    images in it are counted. Output tokens without details are image tokens, as the API
    reference says of them.

    Raises:
        InvalidInput: see docs/spec/normalizers.md.
    """
    events = events_of(response)
    if events is None:
        node = whole_of(response)
    else:
        done = [event for event in events if event.text("type").endswith(".completed")]
        if not done:
            nothing = Split({}, {NO_USAGE}, {})
            return (_described(provider, Node({}), None, nothing, "aborted"),)
        node = done[-1]
        node.need("usage")
    usage = node.child("usage")
    if usage is None:
        images = sum(1 for _ in node.items("data"))
        return (_described(provider, node, None, Split(leaves({"images": images}), set(), {})),)
    parts = split(usage=usage, names=RESPONSES, provider=provider)
    if usage.child("output_tokens_details") is None:
        parts.quantities["tokens.output.image"] = parts.quantities.pop("tokens.output")
    return (_described(provider, node, usage, parts),)
