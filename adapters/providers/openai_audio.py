"""Realtime sessions, transcriptions and speech.

Sources: OpenAI API reference, "response.done", "conversation.item.input_audio_transcription
.completed" (billed at the transcription model's price, not the realtime model's), "Create
transcription" (``usage`` of type ``duration`` or ``tokens``), "Create speech" (the answer is
bytes; the event stream ends with ``speech.audio.done``, whose output tokens are audio).
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
    reject,
    whole_of,
)
from ledger.domain.responses import NormalizedCall

TRANSCRIBED = "conversation.item.input_audio_transcription.completed"
"""Realtime event of one finished input transcription, a charge of its own."""

_OUTCOMES = {"failed": "error", "cancelled": "aborted"}


def normalize_realtime(*, provider: str, response: Response) -> tuple[NormalizedCall, ...]:
    """Return one call for each finished response and each input transcription of a session.

    The models come from the last ``session.created`` or ``session.updated`` before the event;
    without one they are "".

    Raises:
        InvalidInput: see docs/spec/normalizers.md.
    """
    events = events_of(response) or [whole_of(response)]
    model = transcriber = ""
    calls: list[NormalizedCall] = []
    for event in events:
        kind = event.text("type")
        session = event.child("session")
        if kind in {"session.created", "session.updated"} and session is not None:
            model = session.text("model") or model
            transcriber = _transcriber(session) or transcriber
        elif kind == "response.done":
            calls.append(_realtime_response(provider, event.need("response"), model))
        elif kind == TRANSCRIBED:
            calls.append(_realtime_transcription(provider, event, transcriber))
    if not calls:
        return (_call(provider, model, "", Split({}, {NO_USAGE}, {}), None, outcome="aborted"),)
    return tuple(calls)


def _transcriber(session: Node) -> str:
    """Return the session's transcription model; its place differs by API version."""
    place: Node | None = session
    for name in ("audio", "input", "transcription"):
        place = place.child(name) if place is not None else None
    place = place or session.child("input_audio_transcription")
    return place.text("model") if place is not None else ""


def _realtime_response(provider: str, node: Node, model: str) -> NormalizedCall:
    outcome = _OUTCOMES.get(node.text("status"), "ok")
    usage = node.child("usage") if outcome != "ok" else node.need("usage")
    if usage is None:
        parts = Split({}, {NO_USAGE}, {})
    else:
        parts = split(usage=usage, names=RESPONSES, provider=provider)
    return _call(
        provider, node.text("model") or model, node.text("id"), parts, usage, outcome=outcome
    )


def _realtime_transcription(provider: str, event: Node, model: str) -> NormalizedCall:
    usage = event.need("usage")
    index = event.count("content_index") or 0
    return _call(
        provider,
        model,
        event.text("item_id"),
        _transcribed(provider, usage),
        usage,
        part="transcription" if index == 0 else f"transcription-{index}",
    )


def _transcribed(provider: str, usage: Node) -> Split:
    kind = usage.text("type")
    if kind == "duration":
        return Split(leaves({"audio.stt.seconds": usage.seconds("seconds")}), set(), {})
    if kind == "tokens":
        return split(usage=usage, names=RESPONSES, provider=provider)
    raise reject(
        "unknown_response_shape",
        f"transcription usage is of type {kind!r}, not duration or tokens",
        usage.at("type"),
    )


def normalize_transcription(*, provider: str, response: Response) -> tuple[NormalizedCall, ...]:
    """Return the one call of a transcription, whole or streamed.

    Raises:
        InvalidInput: see docs/spec/normalizers.md.
    """
    node = _last(response, "transcript.text.done")
    if node is None:
        return (_call(provider, "", "", Split({}, {NO_USAGE}, {}), None, outcome="aborted"),)
    usage = node.need("usage")
    return (
        _call(provider, node.text("model"), node.text("id"), _transcribed(provider, usage), usage),
    )


def normalize_speech(*, provider: str, response: Response) -> tuple[NormalizedCall, ...]:
    """Return the one call of a text-to-speech request.

    Speech comes as bytes without usage, so the caller states the characters of the input in an
    object of its own: ``{"characters": 1200, "model": "tts-1"}`` (``model`` and ``id`` are
    optional). Streamed speech states tokens, of which the output is audio.

    Raises:
        InvalidInput: see docs/spec/normalizers.md.
    """
    node = _last(response, "speech.audio.done")
    if node is None:
        return (_call(provider, "", "", Split({}, {NO_USAGE}, {}), None, outcome="aborted"),)
    usage: Node | None
    if node.get("characters") is not None:
        usage = None
        parts = Split(leaves({"tts.characters": node.need_count("characters")}), set(), {})
    else:
        usage = node.need("usage")
        parts = split(usage=usage, names=RESPONSES, provider=provider)
        parts.quantities["tokens.output.audio"] = parts.quantities.pop("tokens.output")
    return (_call(provider, node.text("model"), node.text("id"), parts, usage),)


def _last(response: Response, kind: str) -> Node | None:
    """Return the object that holds the usage: the response itself or the stream's last event."""
    events = events_of(response)
    if events is None:
        return whole_of(response)
    done = [event for event in events if event.get("type") == kind]
    return done[-1] if done else None


def _call(
    provider: str,
    model: str,
    request_id: str,
    parts: Split,
    usage: Node | None,
    *,
    part: str = "",
    outcome: str = "ok",
) -> NormalizedCall:
    raw: dict[str, Any] | None = None if usage is None else dict(usage.value)
    return NormalizedCall(
        provider=provider,
        model=model,
        quantities=parts.quantities,
        request_id=request_id,
        part=part,
        outcome=outcome,
        flags=flagged(parts.flags),
        evidence=parts.evidence,
        raw=raw,
    )
