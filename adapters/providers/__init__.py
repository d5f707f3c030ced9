"""Turn provider responses into disjoint leaf quantities: `normalize`; pure, no I/O.

docs/spec/normalizers.md has the rule, the flags and the error codes of every API.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from adapters.providers.anthropic import normalize_messages
from adapters.providers.bedrock import normalize_converse
from adapters.providers.cohere import normalize_cohere
from adapters.providers.gemini import normalize_gemini
from adapters.providers.openai_audio import (
    normalize_realtime,
    normalize_speech,
    normalize_transcription,
)
from adapters.providers.openai_chat import (
    normalize_chat,
    normalize_embeddings,
    normalize_images,
)
from adapters.providers.openai_responses import normalize_responses
from adapters.providers.reading import Response, nodes_of, reject
from adapters.providers.shapes import Shape, shape_of
from adapters.providers.sse import parse_sse
from ledger.domain.responses import NormalizedCall

__all__ = ["PROVIDERS", "Provider", "detect", "normalize", "parse_sse"]


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider that is known by name.

    Attributes:
        name: what the calls say as their provider.
        shapes: the wire formats it speaks.
    """

    name: str
    shapes: frozenset[Shape]


_OPENAI = frozenset(
    {
        Shape.CHAT,
        Shape.RESPONSES,
        Shape.REALTIME,
        Shape.EMBEDDINGS,
        Shape.IMAGES,
        Shape.TRANSCRIPTION,
        Shape.SPEECH,
    }
)
_COMPATIBLE = _OPENAI - {Shape.REALTIME}


def _providers() -> Mapping[str, Provider]:
    known = (
        (("openai",), _OPENAI),
        (("azure", "azure-openai"), _OPENAI | {Shape.MESSAGES}),
        (("anthropic",), frozenset({Shape.MESSAGES})),
        (
            ("google", "gemini", "vertex", "vertex-ai"),
            frozenset({Shape.GEMINI, Shape.MESSAGES, Shape.CHAT}),
        ),
        (
            ("aws", "bedrock"),
            frozenset({Shape.CONVERSE, Shape.MESSAGES, Shape.CHAT, Shape.RESPONSES}),
        ),
        (("cohere",), frozenset({Shape.COHERE, Shape.CHAT, Shape.EMBEDDINGS})),
        (("openai-compatible",), _COMPATIBLE),
        (("cerebras",), _COMPATIBLE),
        (("deepseek",), _COMPATIBLE),
        (("fireworks", "fireworks-ai"), _COMPATIBLE),
        (("groq",), _COMPATIBLE),
        (("mistral", "mistralai"), _COMPATIBLE),
        (("moonshot", "moonshotai"), _COMPATIBLE),
        (("openrouter",), _COMPATIBLE),
        (("together", "together-ai", "togetherai"), _COMPATIBLE),
        (("vllm",), _COMPATIBLE),
        (("xai", "x-ai", "grok"), _COMPATIBLE),
    )
    return MappingProxyType(
        {alias: Provider(names[0], shapes) for names, shapes in known for alias in names}
    )


PROVIDERS: Mapping[str, Provider] = _providers()
"""Every name that `normalize` accepts, aliases included; lower-case."""

_NORMALIZERS: dict[Shape, Callable[..., tuple[NormalizedCall, ...]]] = {
    Shape.CHAT: normalize_chat,
    Shape.RESPONSES: normalize_responses,
    Shape.REALTIME: normalize_realtime,
    Shape.EMBEDDINGS: normalize_embeddings,
    Shape.IMAGES: normalize_images,
    Shape.TRANSCRIPTION: normalize_transcription,
    Shape.SPEECH: normalize_speech,
    Shape.MESSAGES: normalize_messages,
    Shape.GEMINI: normalize_gemini,
    Shape.CONVERSE: normalize_converse,
    Shape.COHERE: normalize_cohere,
}

_DETECTED = {
    Shape.CHAT: "openai-compatible",
    Shape.EMBEDDINGS: "openai-compatible",
    Shape.RESPONSES: "openai",
    Shape.REALTIME: "openai",
    Shape.MESSAGES: "anthropic",
    Shape.GEMINI: "google",
    Shape.CONVERSE: "aws",
    Shape.COHERE: "cohere",
}


def normalize(
    *, provider: str, response: Mapping[str, Any] | Sequence[Any]
) -> tuple[NormalizedCall, ...]:
    """Return the calls that ``response`` bills, usually one; pure and deterministic.

    Args:
        provider: one of `PROVIDERS`, in any case.
        response: the decoded JSON response, or the list of a stream's decoded events in order;
            JSON numbers as int or `Decimal`.

    Raises:
        InvalidInput: ``unknown_provider``, ``unknown_response_shape``,
            ``provider_error_response``, ``missing_usage``, ``invalid_count``, ``too_precise``,
            ``inconsistent_usage``, ``empty_stream``; ``pointer`` names the field.
    """
    known = PROVIDERS.get(provider.strip().lower())
    if known is None:
        raise reject(
            "unknown_provider",
            f"{provider!r} is none of {', '.join(PROVIDERS)}; "
            "an API that copies OpenAI's is 'openai-compatible'",
            "",
        )
    _check_form(response)
    _check_error(response)
    shape = shape_of(response)
    if shape is None or shape not in known.shapes:
        raise reject(
            "unknown_response_shape",
            f"the response is {'of no known shape' if shape is None else f'of shape {shape}'}; "
            f"{known.name} speaks {', '.join(sorted(known.shapes))}",
            "",
        )
    return _NORMALIZERS[shape](provider=known.name, response=response)


def detect(response: Mapping[str, Any] | Sequence[Any]) -> str | None:
    """Return the provider name whose rules fit ``response``; None where that cannot be told.

    A chat completion may come from anyone and gives ``openai-compatible``, whose rules decide by
    the stated totals; images, transcriptions and speech give None.
    """
    if isinstance(response, str | bytes):
        return None
    shape = shape_of(response)
    return None if shape is None else _DETECTED.get(shape)


def _check_form(response: Response) -> None:
    if isinstance(response, Mapping):
        return
    if isinstance(response, str | bytes) or not isinstance(response, Sequence):
        raise reject(
            "unknown_response_shape",
            "a response is a decoded JSON object or the list of a stream's decoded events",
            "",
        )
    if not response:
        raise reject("empty_stream", "the stream has no event", "")
    nodes_of(response)


def _check_error(response: Response) -> None:
    """Refuse a response that is nothing but an error; it states no usage."""
    events = [response] if isinstance(response, Mapping) else list(response)
    pointer = "/error" if isinstance(response, Mapping) else "/0/error"
    only = events[0]
    if len(events) == 1 and only.get("error") is not None and _is_bare(only):
        raise reject(
            "provider_error_response",
            "the provider answered with an error, which bills nothing that could be read",
            pointer,
        )


def _is_bare(value: Mapping[str, Any]) -> bool:
    """Return whether an object with an error carries nothing that could state usage."""
    return not value.keys() & {"usage", "usageMetadata", "choices", "object"}
