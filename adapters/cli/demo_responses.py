"""Invented provider responses for the demonstration, each in its provider's own format.

Pure: everything comes from the `random.Random` that is passed in, whose integer methods alone are
used, so that a seed gives the same bytes on every machine. Sources of the formats: the API
references that docs/spec/normalizers.md names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

Body = dict[str, Any] | list[dict[str, Any]]
"""One response, or the decoded events of a stream in order."""

TEXT = "(text left out)"


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of a provider.

    Attributes:
        rng: source of everything that varies.
        at: Unix seconds.
        model: as the response names it.
        size: typical input tokens (seconds of audio, characters of speech).
    """

    rng: Random
    at: int
    model: str
    size: int

    def id(self, prefix: str) -> str:
        """Return a new id of the provider."""
        return f"{prefix}{self.rng.getrandbits(96):024x}"

    def about(self, typical: int) -> int:
        """Return a skewed number of mean ``typical``, 0.04 to 3.2 times as much, at least 1."""
        return max(1, typical * self.rng.randint(20, 180) * self.rng.randint(20, 180) // 10_000)

    def share(self, whole: int, *percent: int) -> int:
        """Return one of the percentages of a whole."""
        return whole * self.rng.choice(percent) // 100


Build = Callable[[Ask], Body]
"""Makes one response."""


def _chat_usage(ask: Ask, *, reasoning: bool, cached: bool = True) -> dict[str, Any]:
    prompt, output = ask.about(ask.size), ask.about(max(40, ask.size // 6))
    thought = ask.about(max(40, ask.size // 3)) if reasoning else 0
    usage: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": output + thought,
        "total_tokens": prompt + output + thought,
    }
    if cached:
        usage["prompt_tokens_details"] = {
            # OpenAI caches prefixes of 1,024 tokens and more, in steps of 128.
            "cached_tokens": ask.share(prompt, 0, 0, 50, 80) // 128 * 128 if prompt > 1024 else 0,
            "audio_tokens": 0,
        }
        usage["completion_tokens_details"] = {"reasoning_tokens": thought, "audio_tokens": 0}
    return usage


def _chat_message(ask: Ask, usage: dict[str, Any], finish: str = "stop") -> dict[str, Any]:
    return {
        "id": ask.id("chatcmpl-"),
        "object": "chat.completion",
        "created": ask.at,
        "model": ask.model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": TEXT},
                "finish_reason": finish,
            }
        ],
        "usage": usage,
        "service_tier": "default",
    }


def openai_chat(ask: Ask) -> Body:
    """Return a chat completion with cached input."""
    return _chat_message(ask, _chat_usage(ask, reasoning=False))


def openai_reasoning(ask: Ask) -> Body:
    """Return a chat completion of a reasoning model."""
    return _chat_message(ask, _chat_usage(ask, reasoning=True))


def openai_tool_call(ask: Ask) -> Body:
    """Return a chat completion that calls a tool of the caller."""
    message = _chat_message(ask, _chat_usage(ask, reasoning=False), "tool_calls")
    call = {"name": "find_part", "arguments": '{"sku":"R2-114"}'}
    message["choices"][0]["message"] = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": ask.id("call_"), "type": "function", "function": call}],
    }
    return message


def _chunks(ask: Ask) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what all chunks of a chat stream share, and its chunks without usage."""
    head = {
        "id": ask.id("chatcmpl-"),
        "object": "chat.completion.chunk",
        "created": ask.at,
        "model": ask.model,
    }
    pieces: list[dict[str, Any]] = [
        {"delta": {"role": "assistant", "content": TEXT}, "finish_reason": None},
        {"delta": {}, "finish_reason": "stop"},
    ]
    return head, [{**head, "choices": [{"index": 0, **piece}], "usage": None} for piece in pieces]


def openai_stream(ask: Ask) -> Body:
    """Return the chunks of a chat stream; the last has the usage and no choices."""
    head, chunks = _chunks(ask)
    return [*chunks, {**head, "choices": [], "usage": _chat_usage(ask, reasoning=False)}]


def openai_search(ask: Ask) -> Body:
    """Return a response that searched the web once or twice and opened a page."""
    prompt, output = ask.about(ask.size), ask.about(max(60, ask.size // 8))
    thought = ask.about(max(60, ask.size // 6))
    actions = ["search"] * ask.rng.choice((1, 1, 2)) + ["open_page"]
    output_items: list[dict[str, Any]] = [
        {
            "id": ask.id("ws_"),
            "type": "web_search_call",
            "status": "completed",
            "action": {"type": action},
        }
        for action in actions
    ]
    output_items.append(
        {
            "id": ask.id("msg_"),
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": TEXT}],
        }
    )
    return {
        "id": ask.id("resp_"),
        "object": "response",
        "created_at": ask.at,
        "status": "completed",
        "model": ask.model,
        "output": output_items,
        "service_tier": "default",
        "usage": {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": ask.share(prompt, 0, 40)},
            "output_tokens": output + thought,
            "output_tokens_details": {"reasoning_tokens": thought},
            "total_tokens": prompt + output + thought,
        },
    }


def openai_embeddings(ask: Ask) -> Body:
    """Return an embeddings response, its vectors left out."""
    tokens = ask.about(ask.size)
    return {
        "object": "list",
        "data": [],
        "model": ask.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def transcription(ask: Ask) -> Body:
    """Return a transcription that is billed by its duration."""
    return {
        "text": TEXT,
        "model": ask.model,
        "usage": {"type": "duration", "seconds": ask.about(ask.size)},
    }


def speech(ask: Ask) -> Body:
    """Return what a caller says of a text-to-speech request, whose answer states no usage."""
    return {"characters": ask.about(ask.size), "model": ask.model}


def realtime(ask: Ask) -> Body:
    """Return the events of a spoken session: some responses, each billed."""
    events: list[dict[str, Any]] = [
        {"type": "session.created", "session": {"id": ask.id("sess_"), "model": ask.model}}
    ]
    heard = 0
    for _ in range(ask.rng.randint(2, 4)):
        spoken, words = ask.about(ask.size), ask.about(ask.size // 4)
        audio, text = ask.about(ask.size // 2), ask.about(ask.size // 6)
        cached = heard
        total = spoken + words + cached
        heard = total
        usage = {
            "total_tokens": total + audio + text,
            "input_tokens": total,
            "output_tokens": audio + text,
            "input_token_details": {
                "text_tokens": words + cached,
                "audio_tokens": spoken,
                "cached_tokens": cached,
                "cached_tokens_details": {"text_tokens": cached, "audio_tokens": 0},
            },
            "output_token_details": {"text_tokens": text, "audio_tokens": audio},
        }
        response = {"id": ask.id("resp_"), "status": "completed", "usage": usage}
        events.append({"type": "response.done", "response": response})
    return events


def _messages_usage(ask: Ask, *, output: int, thinking: int = 0) -> dict[str, Any]:
    fresh = ask.about(ask.size)
    read = ask.share(ask.size * 3, 0, 60, 100)
    short, long = ask.share(ask.size, 0, 0, 30), ask.share(ask.size, 0, 0, 0, 50)
    return {
        "input_tokens": fresh,
        "cache_creation_input_tokens": short + long,
        "cache_read_input_tokens": read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": short,
            "ephemeral_1h_input_tokens": long,
        },
        "output_tokens": output + thinking,
        "output_tokens_details": {"thinking_tokens": thinking},
        "service_tier": "standard",
    }


def _message(ask: Ask, usage: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": ask.id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": ask.model,
        "content": [{"type": "text", "text": TEXT}],
        "stop_reason": "end_turn",
        "usage": usage,
    }


def anthropic_message(ask: Ask) -> Body:
    """Return a message with a prompt cache of two lifetimes, every other time with thinking."""
    output = ask.about(max(60, ask.size // 5))
    thinking = ask.rng.choice((0, 1)) * ask.about(max(80, ask.size // 4))
    return _message(ask, _messages_usage(ask, output=output, thinking=thinking))


def anthropic_search(ask: Ask) -> Body:
    """Return a message whose server-side tool searched the web."""
    usage = _messages_usage(ask, output=ask.about(max(60, ask.size // 5)))
    searches = {"web_search_requests": ask.rng.randint(1, 3), "web_fetch_requests": 0}
    return _message(ask, {**usage, "server_tool_use": searches})


def _message_events(ask: Ask) -> list[dict[str, Any]]:
    usage = _messages_usage(ask, output=ask.about(max(60, ask.size // 5)))
    start = _message(ask, {**usage, "output_tokens": 1, "output_tokens_details": None})
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta"}}
    return [
        {"type": "message_start", "message": {**start, "content": [], "stop_reason": None}},
        delta,
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": usage["output_tokens"]},
        },
        {"type": "message_stop"},
    ]


def anthropic_stream(ask: Ask) -> Body:
    """Return the events of a message stream; the counts of ``message_delta`` are cumulative."""
    return [*_message_events(ask)]


def anthropic_overloaded(ask: Ask) -> Body:
    """Return a stream that broke off: its input is billed, its output was never stated."""
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    return [*_message_events(ask)[:2], error]


def _gemini_usage(ask: Ask) -> dict[str, Any]:
    prompt, output = ask.about(ask.size), ask.about(max(60, ask.size // 6))
    thoughts = ask.about(max(60, ask.size // 5))
    cached, image = ask.share(prompt, 0, 0, 60), ask.rng.choice((0, 0, 258, 516))
    modalities = {"TEXT": prompt} | ({"IMAGE": image} if image else {})
    return {
        "promptTokenCount": prompt + image,
        "cachedContentTokenCount": cached,
        "candidatesTokenCount": output,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": prompt + image + output + thoughts,
        "promptTokensDetails": [
            {"modality": name, "tokenCount": count} for name, count in modalities.items()
        ],
        "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": cached}],
    }


def _gemini_chunk(usage: dict[str, Any], finish: str | None, **head: str) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": TEXT}]}}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "usageMetadata": usage, **head}


def gemini(ask: Ask) -> Body:
    """Return a response with cached content, thoughts outside the candidates, and images."""
    usage = _gemini_usage(ask)
    return _gemini_chunk(usage, "STOP", modelVersion=ask.model, responseId=ask.id(""))


def gemini_stream(ask: Ask) -> Body:
    """Return the chunks of a stream, each with the counts so far."""
    usage = _gemini_usage(ask)
    head = {"modelVersion": ask.model, "responseId": ask.id("")}
    prompt = usage["promptTokenCount"]
    early = {"promptTokenCount": prompt, "totalTokenCount": prompt}
    return [_gemini_chunk(early, None, **head), _gemini_chunk(usage, "STOP", **head)]


def converse(ask: Ask) -> Body:
    """Return a Bedrock Converse response; the gateway adds the model, which it does not name."""
    fresh, output = ask.about(ask.size), ask.about(max(60, ask.size // 6))
    read = ask.share(ask.size * 2, 0, 50)
    return {
        "modelId": ask.model,
        "output": {"message": {"role": "assistant", "content": [{"text": TEXT}]}},
        "stopReason": "end_turn",
        "usage": {
            "inputTokens": fresh,
            "outputTokens": output,
            "cacheReadInputTokens": read,
            "cacheWriteInputTokens": 0,
            "totalTokens": fresh + read + output,
        },
        "metrics": {"latencyMs": ask.about(900)},
    }


def compatible_chat(ask: Ask) -> Body:
    """Return a chat completion of a provider that copies OpenAI's format (Mistral)."""
    message = _chat_message(ask, _chat_usage(ask, reasoning=False, cached=False))
    del message["service_tier"]
    return message


def groq_stream(ask: Ask) -> Body:
    """Return a stream of Groq, which states its usage in a member of its own."""
    _, chunks = _chunks(ask)
    usage = _chat_usage(ask, reasoning=False, cached=False)
    chunks[-1]["x_groq"] = {"id": ask.id("req_"), "usage": usage}
    return chunks
