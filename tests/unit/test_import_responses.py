"""Lines of provider responses: bare or in envelopes, one event a call that is billed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.providers import detect, normalize
from ledger.application.importing.responses import ResponseReader
from ledger.domain.errors import InvalidInput, Problem
from ledger.domain.periods import from_us
from ledger.domain.usage import RecordUsage, UsageEvent

CHAT: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant"}}],
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 60},
    },
}
CHUNKS = [
    {"id": "chatcmpl-2", "object": "chat.completion.chunk", "model": "gpt-4o", "choices": []},
]
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "stop_reason": "end_turn",
    "usage": {
        "input_tokens": 10,
        "output_tokens": 5,
        "iterations": [
            {"type": "compaction", "input_tokens": 700, "output_tokens": 80},
            {"type": "message", "input_tokens": 10, "output_tokens": 5},
        ],
    },
}


def reader(provider: str = "openai", *, tenant: str = "acme", source: str = "gw") -> ResponseReader:
    """Return a reader with the real normalizers."""
    return ResponseReader(
        provider=provider, tenant=tenant, source=source, normalizer=normalize, detect=detect
    )


def events(value: Any, how: ResponseReader | None = None) -> list[UsageEvent]:
    """Return the events of one line."""
    line = json.dumps(value).encode()
    return [command.event for command in (how or reader()).commands(line)]


def event(value: Any, how: ResponseReader | None = None) -> UsageEvent:
    """Return the one event of a line."""
    (found,) = events(value, how)
    return found


def problem(line: bytes | dict[str, Any] | list[Any], how: ResponseReader | None = None) -> Problem:
    """Return what is wrong with a line."""
    wire = line if isinstance(line, bytes) else json.dumps(line).encode()
    ((_, _, item),) = (how or reader()).read([(1, wire, None)])
    assert isinstance(item, Problem), item
    return item


def test_a_bare_response_is_an_event_under_its_own_id_and_time() -> None:
    """Leaves are disjoint, and the usage object is kept as evidence."""
    found = event(CHAT)
    assert (found.tenant, found.source, found.id) == ("acme", "gw", "chatcmpl-1")
    assert (found.provider, found.model) == ("openai", "gpt-4o-2024-08-06")
    assert found.quantities == {
        "tokens.input": "40",
        "tokens.input.cache_read": "60",
        "tokens.output": "20",
    }
    assert found.occurred_at is not None
    assert from_us(found.occurred_at).isoformat() == "2023-11-14T22:13:20+00:00"
    assert json.loads(found.raw) == CHAT["usage"]


def test_an_envelope_says_what_the_response_cannot() -> None:
    """Tenant, identity, time and attribution are the caller's."""
    found = event(
        {
            "response": CHAT,
            "tenant": "birch",
            "source": "edge",
            "id": "k-1",
            "occurred_at": "2023-11-16T18:17:03.5+01:00",
            "user": "ann",
            "project": "p",
            "session": "s",
            "request_id": "req-9",
            "labels": {"team": "blue"},
            "provider": "azure",
            "provider_account": "eu-1",
            "attempt": 2,
            "byok": True,
            "billable": "platform",
            "outcome": "error",
            "model": "ignored",
            "region": "eu",
        }
    )
    assert (found.tenant, found.source, found.id) == ("birch", "edge", "k-1")
    assert found.occurred_at is not None
    assert from_us(found.occurred_at).isoformat() == "2023-11-16T17:17:03.500000+00:00"
    assert (found.user, found.project, found.session) == ("ann", "p", "s")
    assert (found.request_id, found.attempt, found.byok) == ("req-9", 2, True)
    assert (found.provider, found.provider_account) == ("azure", "eu-1")
    assert (found.billable, found.outcome, found.labels) == ("platform", "error", {"team": "blue"})
    assert (found.model, found.region) == ("gpt-4o-2024-08-06", "eu")


def test_calls_of_one_response_are_told_apart_by_their_part() -> None:
    """Each is an event of its own, under the response's id or the envelope's."""
    bare = events(MESSAGE, reader("anthropic"))
    assert [one.id for one in bare] == ["msg_1", "msg_1#iteration-1"]
    wrapped = events({"response": MESSAGE, "id": "k"}, reader("anthropic"))
    assert [one.id for one in wrapped] == ["k", "k#iteration-1"]


def test_what_the_caller_adds_is_added_once() -> None:
    """It belongs to the main call, not to every part of the response."""
    line = {"response": MESSAGE, "quantities": {"requests": 1}}
    found = events(line, reader("anthropic"))
    assert ["requests" in one.quantities for one in found] == [True, False]


def test_calls_without_parts_get_numbers_under_one_envelope() -> None:
    """Two responses of one realtime session never share an id."""

    def done(name: str) -> dict[str, Any]:
        usage = {"total_tokens": 3, "input_tokens": 1, "output_tokens": 2}
        return {"type": "response.done", "response": {"id": name, "usage": usage}}

    stream = [done("resp_1"), done("resp_2")]
    assert [one.id for one in events(stream)] == ["resp_1", "resp_2"]
    assert [one.id for one in events({"stream": stream, "id": "k"})] == ["k", "k#2"]
    assert [one.id for one in events(done("resp_3"))] == ["resp_3"]


def test_what_the_response_states_is_never_replaced() -> None:
    """A stated figure stands, a missing leaf is taken from the caller, and neither is flagged."""
    found = event({"response": CHAT, "quantities": {"tokens.output": 999, "requests": 1}})
    assert found.quantities["tokens.output"] == "20"
    assert found.quantities["requests"] == "1"
    assert found.labels == {}


def test_the_callers_counts_of_a_broken_stream_are_estimates() -> None:
    """The flags say that the stream stated no usage, and that the figures are not its own."""
    found = event({"stream": CHUNKS, "quantities": {"tokens.input": 7}, "id": "k"})
    assert found.quantities == {"tokens.input": "7"}
    assert found.outcome == "aborted"
    assert found.labels == {"flags": "estimated no_usage_in_stream"}
    assert problem(CHUNKS).code == "no_quantities"


def test_a_response_without_an_id_is_known_by_its_line() -> None:
    """The same line again is the same event; a carriage return or blank makes no difference."""
    value = {name: member for name, member in CHAT.items() if name != "id"}
    line = json.dumps(value).encode()
    first, again = reader().commands(line), reader().commands(line + b"\r")
    assert first[0].event.id.startswith("digest-")
    assert first[0].key == again[0].key
    assert first[0].fingerprint == again[0].fingerprint


def test_a_repeated_line_without_a_time_is_still_the_same_event() -> None:
    """The server's time is no part of what the producer said."""
    value = {name: member for name, member in CHAT.items() if name != "created"}
    line = json.dumps(value).encode()
    first, again = reader().commands(line), reader().commands(line)
    assert first[0].event.occurred_at is None
    assert first[0].fingerprint == again[0].fingerprint


def test_auto_takes_the_envelopes_provider_and_else_detects() -> None:
    """A response that could be anybody's is refused."""
    auto = reader("auto")
    assert event(MESSAGE | {"usage": {"input_tokens": 1, "output_tokens": 2}}, auto).provider == (
        "anthropic"
    )
    assert event({"response": CHAT, "provider": "groq"}, auto).provider == "groq"
    assert problem({"created": 1, "data": []}, auto).code == "unknown_provider"


@pytest.mark.parametrize(
    ("line", "code", "pointer"),
    [
        (b"{oops", "malformed_json", ""),
        (b'{"usage": NaN}', "malformed_json", ""),
        (b'{"a": "\xff"}', "invalid_utf8", ""),
        (b"[" * 100_000, "nested_too_deep", ""),
        (b'{"usage": {"x": 1e99999999999999999999}}', "invalid_number", ""),
        (b'{"usage": {"x": ' + b"9" * 5000 + b"}}", "invalid_number", ""),
        (b'"text"', "unknown_response_shape", ""),
        (b"12", "unknown_response_shape", ""),
        (b"[]", "empty_stream", ""),
        (b"{}", "unknown_response_shape", ""),
        ({"response": CHAT, "usr": "ann"}, "unknown_field", "/usr"),
        ({"response": CHAT, "attempt": 0}, "invalid_attempt", "/attempt"),
        ({"response": CHAT, "user": 5}, "invalid_user", "/user"),
        ({"response": CHAT, "user": "u" * 300}, "invalid_user", "/user"),
        (
            {"response": CHAT, "occurred_at": "2023-11-16 18:17"},
            "invalid_occurred_at",
            "/occurred_at",
        ),
        ({"response": CHAT, "occurred_at": "1999-01-01T00:00:00Z"}, "invalid_time", "/occurred_at"),
        ({"response": CHAT, "quantities": {"requests": True}}, "invalid_quantity", "/quantities"),
        ({"response": CHAT, "quantities": {"request": 1}}, "unknown_meter", "/quantities/request"),
        ({"response": CHAT, "labels": {"a": "b\n"}}, "invalid_text", "/labels/a"),
        ({"response": CHAT, "tenant": "a\x00"}, "invalid_text", "/tenant"),
        ({"response": [CHAT]}, "invalid_response", "/response"),
        ({"response": None}, "missing_response", ""),
        ({"response": CHAT, "stream": CHUNKS}, "invalid_stream", "/stream"),
        (
            {"response": CHAT | {"usage": CHAT["usage"] | {"prompt_tokens": 1.5}}},
            "invalid_count",
            "/response/usage/prompt_tokens",
        ),
        (
            CHAT | {"usage": CHAT["usage"] | {"prompt_tokens": -1}},
            "invalid_count",
            "/usage/prompt_tokens",
        ),
        (CHAT | {"id": "i" * 300}, "invalid_text", "/id"),
        ({"error": {"message": "overloaded"}}, "provider_error_response", "/error"),
    ],
)
def test_a_bad_line_is_rejected_with_code_and_pointer(
    line: bytes | dict[str, Any], code: str, pointer: str
) -> None:
    """The pointer is into the line as it stands in the file."""
    found = problem(line)
    assert (found.code, found.pointer) == (code, pointer)


def test_a_usage_object_without_a_canonical_form_is_rejected() -> None:
    """A number that no fingerprint can hold is a problem of the line, not of the import."""
    text = json.dumps(CHAT).replace('"total_tokens": 120', '"total_tokens": 120, "odd": 1e400')
    assert problem(text.encode()).code == "invalid_raw"


def test_a_line_with_a_bad_call_records_none_of_its_calls() -> None:
    """Parts of a response are never recorded by halves."""
    bad = {"response": MESSAGE, "quantities": {"request": 1}}
    line = json.dumps(bad).encode()
    found = list(reader("anthropic").read([(1, line, None)]))
    assert len(found) == 1
    assert isinstance(found[0][2], Problem)


@pytest.mark.parametrize("name", ["tenant", "source"])
def test_whose_usage_it_is_must_be_said(name: str) -> None:
    """By the envelope or by an option."""
    how = reader(tenant="" if name == "tenant" else "a", source="" if name == "source" else "s")
    found = problem(CHAT, how)
    assert (found.code, found.pointer) == (f"missing_{name}", f"/{name}")
    assert event({"response": CHAT, name: "said"}, how)


def test_flags_need_a_label_of_their_own() -> None:
    """They never replace the caller's label, and are never dropped without a word."""
    line = {"stream": CHUNKS, "quantities": {"tokens.input": 7}, "labels": {"flags": "mine"}}
    found = problem(line)
    assert (found.code, found.pointer) == ("invalid_labels", "/labels")


def test_a_long_or_strange_flag_does_not_cost_the_event() -> None:
    """An unknown member's name is shortened and made printable."""
    usage = CHAT["usage"] | {"odd\n" + "x" * 400 + "_tokens": 3}
    found = event(CHAT | {"usage": usage})
    assert found.quantities["tokens.output"] == "20"
    assert len(found.labels["flags"]) <= 256
    assert found.labels["flags"].isprintable()


def test_blank_lines_are_skipped_and_unreadable_ones_passed_on() -> None:
    """A problem of the line reader stays what it is."""
    bad = Problem("line_too_long", "too long")
    found = list(
        reader().read([(1, b" ", None), (2, b"x", bad), (3, json.dumps(CHAT).encode(), None)])
    )
    assert [number for number, _, _ in found] == [2, 3]
    assert found[0][2] is bad
    assert isinstance(found[1][2], RecordUsage)


def test_defaults_of_the_command_line_are_checked_at_once() -> None:
    """What would have every line rejected is refused before anything is read."""
    with pytest.raises(InvalidInput) as caught:
        reader(tenant="a" * 300)
    assert caught.value.code == "invalid_text"
    with pytest.raises(InvalidInput) as caught:
        reader("opneai")
    assert caught.value.code == "unknown_provider"
