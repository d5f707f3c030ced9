"""``tallybook normalize`` reads JSON, arrays, NDJSON and event streams, and prints exact leaves."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from adapters.cli.normalize import render
from adapters.providers import normalize, parse_sse
from ledger.application.responses import read_response
from ledger.domain.errors import InvalidInput
from ledger.domain.responses import NormalizedCall

CHUNK = '{"object":"chat.completion.chunk","choices":[],"n":1.50}'


def read(text: str | bytes) -> Any:
    """Return what the command reads from these bytes."""
    raw = text.encode() if isinstance(text, str) else text
    return read_response(raw=raw, parse_sse=parse_sse)


@pytest.mark.parametrize(
    "text",
    [
        f"[{CHUNK}, {CHUNK}]",
        f"{CHUNK}\n\n{CHUNK}\n",
        f"data: {CHUNK}\n\ndata: {CHUNK}\n\ndata: [DONE]\n\n",
        f": hello\nevent: chunk\ndata: {CHUNK}\n\ndata: {CHUNK}\n\n",
    ],
)
def test_every_form_of_a_stream_gives_the_same_events(text: str) -> None:
    """An array, NDJSON and event-stream text are one stream; numbers stay exact."""
    event = {"object": "chat.completion.chunk", "choices": [], "n": Decimal("1.50")}
    assert read(text) == [event, event]


def test_one_object_is_one_response() -> None:
    """It may be spread over several lines."""
    assert read('\ufeff{\n "usage": {"prompt_tokens": 3}\n}\n') == {"usage": {"prompt_tokens": 3}}


@pytest.mark.parametrize("text", ["", "{", '{"a":1}\n{"b":\n', "7", b"\xff"])
def test_what_is_not_json_is_refused(text: str | bytes) -> None:
    """Broken text is an input error."""
    with pytest.raises(InvalidInput) as caught:
        read(text)
    assert caught.value.code == "invalid_json"


def test_quantities_are_printed_as_canonical_decimal_strings() -> None:
    """No exponent and no trailing zeros; what is not stated is not printed."""
    call = NormalizedCall(
        provider="openai",
        model="whisper-1",
        quantities={"audio.stt.seconds": Decimal("9.50"), "tokens.input": Decimal("1E+3")},
    )
    shown = json.loads(render([call]))
    assert shown["calls"][0]["quantities"] == {"audio.stt.seconds": "9.5", "tokens.input": "1000"}
    assert shown["calls"][0]["model"] == "whisper-1"
    assert "raw" not in shown["calls"][0]


def test_a_saved_response_goes_through_to_its_leaves() -> None:
    """The pieces fit together."""
    saved = '{"object":"list","model":"e","data":[],"usage":{"prompt_tokens":8,"total_tokens":8}}'
    calls = normalize(provider="openai", response=read(saved))
    assert json.loads(render(calls))["calls"][0]["quantities"] == {"tokens.input": "8"}
