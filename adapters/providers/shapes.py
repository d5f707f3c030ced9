"""Tell by its members which API a response comes from; never by guessing at values."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from adapters.providers.reading import Response


class Shape(StrEnum):
    """One wire format, whatever provider speaks it."""

    CHAT = "chat"
    RESPONSES = "responses"
    REALTIME = "realtime"
    EMBEDDINGS = "embeddings"
    IMAGES = "images"
    TRANSCRIPTION = "transcription"
    SPEECH = "speech"
    MESSAGES = "messages"
    GEMINI = "gemini"
    CONVERSE = "converse"
    COHERE = "cohere"


_OBJECTS = {
    "chat.completion": Shape.CHAT,
    "chat.completion.chunk": Shape.CHAT,
    "text_completion": Shape.CHAT,
    "response": Shape.RESPONSES,
}
_TYPES = {
    "message": Shape.MESSAGES,
    "message_start": Shape.MESSAGES,
    "message_delta": Shape.MESSAGES,
    "message_stop": Shape.MESSAGES,
    "message-start": Shape.COHERE,
    "message-end": Shape.COHERE,
    "response.done": Shape.REALTIME,
    "response.completed": Shape.RESPONSES,
    "response.incomplete": Shape.RESPONSES,
    "response.failed": Shape.RESPONSES,
    "response.in_progress": Shape.RESPONSES,
    "response.queued": Shape.RESPONSES,
}
_TYPE_PREFIXES = (
    ("session.", Shape.REALTIME),
    ("conversation.", Shape.REALTIME),
    ("input_audio_buffer.", Shape.REALTIME),
    ("transcript.text.", Shape.TRANSCRIPTION),
    ("speech.audio.", Shape.SPEECH),
    ("image_generation.", Shape.IMAGES),
    ("image_edit.", Shape.IMAGES),
)
_CONVERSE_EVENTS = frozenset(
    {"messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop"}
)


def shape_of(response: Response) -> Shape | None:
    """Return the wire format, or None where it cannot be told; a stream by its first telling event.

    Args:
        response: one object, or a list of objects.
    """
    if isinstance(response, Mapping):
        return _of_object(response)
    found = (_of_object(event) for event in response if isinstance(event, Mapping))
    return next((shape for shape in found if shape is not None), None)


def _of_object(value: Mapping[str, Any]) -> Shape | None:
    shape = _OBJECTS.get(_word(value, "object")) or _of_type(value)
    if shape is None:
        shape = _of_members(value)
    return shape


def _word(value: Mapping[str, Any], name: str) -> str:
    word = value.get(name)
    return word if isinstance(word, str) else ""


def _of_type(value: Mapping[str, Any]) -> Shape | None:
    kind = _word(value, "type")
    if kind in _TYPES:
        return _TYPES[kind]
    for prefix, shape in _TYPE_PREFIXES:
        if kind.startswith(prefix):
            return shape
    inner = value.get("response")
    if kind == "response.created" and isinstance(inner, Mapping):
        return Shape.RESPONSES if _word(inner, "object") == "response" else Shape.REALTIME
    return None


def _of_members(value: Mapping[str, Any]) -> Shape | None:
    members = value.keys()
    usage = _object(value, "usage")
    meta = _object(value, "meta")
    if members & {"usageMetadata", "candidates", "promptFeedback"}:
        return Shape.GEMINI
    if "inputTokens" in usage or members & _CONVERSE_EVENTS:
        return Shape.CONVERSE
    if "inputTokens" in _object(_object(value, "metadata"), "usage"):
        return Shape.CONVERSE
    if "billed_units" in usage or "billed_units" in meta or "event_type" in members:
        return Shape.COHERE
    if "choices" in members:
        return Shape.CHAT
    if _word(value, "object") == "list" and "prompt_tokens" in usage:
        return Shape.EMBEDDINGS
    if "text" in members and usage.get("type") in {"duration", "tokens"}:
        return Shape.TRANSCRIPTION
    if "characters" in members and members <= {"characters", "model", "id"}:
        return Shape.SPEECH
    if {"created", "data"} <= members:
        return Shape.IMAGES
    return None


def _object(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = value.get(name)
    return inner if isinstance(inner, Mapping) else {}
