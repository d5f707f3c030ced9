"""Normalizing over HTTP: what a response says was used, and nothing else happens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fakes.http_world import Api, http_world
from fixtures_postgres import Run

CHAT: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1793613600,
    "model": "gpt-4o",
    "choices": [],
    "usage": {
        "prompt_tokens": 12,
        "completion_tokens": 3,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 2},
        "cost": 0.25,
    },
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4",
    "content": [],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 7, "output_tokens": 9},
}


@pytest.fixture(scope="module")
def api(postgres_run: Run) -> Iterator[Api]:
    """The application over one database: no case stores anything."""
    with postgres_run.database(migrated=True) as url, http_world(url) as opened:
        yield opened


def ask(api: Api, body: bytes, kind: str = "application/json", *, query: str = "") -> Any:
    """Post a response."""
    return api.post(f"/v2/normalize{query}", content=body, headers={"Content-Type": kind})


def test_a_response_is_told_by_its_form_and_becomes_quantities(api: Api) -> None:
    """Quantities are text, stated figures are evidence as the provider stated them."""
    [call] = ask(api, json.dumps(CHAT).encode(), query="?provider=openai").json()["calls"]
    assert call["provider"] == "openai"
    assert call["quantities"] == {
        "tokens.input": "10",
        "tokens.input.cache_read": "2",
        "tokens.output": "3",
    }
    assert call["raw"]["cost"] == 0.25
    assert call["request_id"] == "chatcmpl-1"
    assert call["occurred_at"].endswith("Z")
    [detected] = ask(api, json.dumps(MESSAGE).encode()).json()["calls"]
    assert (detected["provider"], detected["model"]) == ("anthropic", "claude-sonnet-4")
    assert detected["quantities"] == {"tokens.input": "7", "tokens.output": "9"}


def test_a_stream_is_read_as_text_as_lines_and_as_an_array(api: Api) -> None:
    """The last usage counts."""
    chunks = [
        {**CHAT, "object": "chat.completion.chunk", "usage": None},
        {**CHAT, "object": "chat.completion.chunk"},
    ]
    lines = [json.dumps(chunk) for chunk in chunks]
    sse = "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]).encode()
    marked = b"\xef\xbb\xbf" + sse
    found = [
        ask(api, sse, "text/event-stream", query="?provider=openai"),
        ask(api, "\n".join(lines).encode(), "application/x-ndjson", query="?provider=openai"),
        ask(api, json.dumps(chunks).encode(), query="?provider=openai"),
        ask(api, marked, "text/event-stream; charset=utf-8", query="?provider=openai"),
    ]
    for answer in found:
        [call] = answer.json()["calls"]
        assert call["quantities"]["tokens.output"] == "3"


@pytest.mark.parametrize(
    ("body", "kind", "query", "status", "code"),
    [
        (b"", "application/json", "", 400, "invalid_json"),
        (b"nonsense", "application/json", "", 400, "invalid_json"),
        (b"7", "application/json", "", 400, "invalid_json"),
        (b"\xff", "application/json", "", 400, "invalid_json"),
        (b"{}", "application/json", "", 422, "unknown_provider"),
        (b"[]", "application/json", "", 422, "unknown_provider"),
        (b"{}", "application/json", "?provider=nobody", 422, "unknown_provider"),
        (b"{}", "application/json", "?provider=openai", 422, "unknown_response_shape"),
        (b"{}", "application/json", "?tenant=acme", 422, "invalid_query"),
        (b"{}", "text/plain", "", 415, "unsupported_media_type"),
        (b"data: nonsense\n\n", "text/event-stream", "", 422, "invalid_sse"),
        (b'{"a":' * 100_000, "application/json", "", 422, "nested_too_deep"),
        (b'{"a": 1e999999999999999999999}', "application/json", "", 422, "invalid_number"),
    ],
)
def test_what_cannot_be_normalized_is_a_problem(
    api: Api, body: bytes, kind: str, query: str, status: int, code: str
) -> None:
    """Nothing is guessed, and the server lives."""
    answer = ask(api, body, kind, query=query)
    assert answer.status_code == status, answer.text
    assert answer.json()["code"] == code
    assert api.observer.failures == []


def test_a_field_that_contradicts_the_others_is_pointed_at(api: Api) -> None:
    """The pointer is into the response."""
    wrong = {**CHAT, "usage": {**CHAT["usage"], "prompt_tokens": -1}}
    answer = ask(api, json.dumps(wrong).encode(), query="?provider=openai")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/usage/prompt_tokens"


def test_nothing_is_stored(api: Api) -> None:
    """No ledger opens, whoever asks."""
    ask(api, json.dumps(CHAT).encode(), query="?provider=openai")
    assert list(api.tallybook.reads.tenants()) == []
    api.keyring.add("holder", tenant="acme", scopes=("holds:write",))
    assert api.post("/v2/normalize", {}, key="holder").json()["code"] == "missing_scope"
