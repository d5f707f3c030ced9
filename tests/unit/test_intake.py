"""Reading CloudEvents: what each becomes, and for each mistake its code and pointer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes.building import adjust, document, usage, void, wire, wire_adjust, wire_void

from ledger.application.intake import (
    ADJUST_TYPE,
    MAX_EVENT_BYTES,
    USAGE_TYPE,
    VOID_TYPE,
    read_event,
)
from ledger.domain.errors import Problem
from ledger.domain.usage import RecordUsage, VoidUsage

_ABSENT = object()


def _problem(event: object) -> tuple[str, str]:
    """Return code and pointer of what is wrong with a document."""
    answer = read_event(event if isinstance(event, bytes) else json.dumps(event).encode())
    assert isinstance(answer, Problem), answer
    assert answer.message
    return answer.code, answer.pointer


def _with(member: str, value: object, *, event: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return an event with one member set, or gone; ``data.x`` names a member of the data."""
    changed = event or document()
    place = changed
    *path, last = member.split("|")
    for name in path:
        place = place[name]
    if value is _ABSENT:
        place.pop(last)
    else:
        place[last] = value
    return changed


def _data(**members: object) -> dict[str, Any]:
    return document(data=members)


def _number(value: object) -> dict[str, Any]:
    return _data(quantities={"tokens.input": value})


def test_a_usage_event_becomes_its_command() -> None:
    """The same command as built by hand."""
    answer = read_event(wire())
    assert isinstance(answer, RecordUsage)
    assert answer.fingerprint == usage().fingerprint
    assert answer.event == usage().event


def test_corrections_become_their_commands() -> None:
    """The target's source is the correction's own unless it is named."""
    assert read_event(wire_void()) == void()
    assert read_event(wire_adjust({"tokens.input": 1})) == adjust(quantities={"tokens.input": 1})
    other = wire("v-1", type=VOID_TYPE, data={"id": "e-1", "source": "b", "reason": "why"})
    assert read_event(other) == void(target_source="b", reason="why")


def test_extension_attributes_are_ignored() -> None:
    """CloudEvents allows them; they are no part of the event."""
    answer = read_event(wire(traceparent="00-1", datacontenttype="application/json"))
    assert isinstance(answer, RecordUsage)
    assert answer.fingerprint == usage().fingerprint


@pytest.mark.parametrize(
    ("event", "code", "pointer"),
    [
        (b"", "malformed_json", ""),
        (b"{", "malformed_json", ""),
        (b"\xff", "invalid_utf8", ""),
        (wire().replace(b"acme", b"ac\xffme"), "invalid_utf8", ""),
        (b"null", "invalid_event", ""),
        (b"[]", "invalid_event", ""),
        (b'"text"', "invalid_event", ""),
        (b"[" * 5000 + b"]" * 5000, "invalid_event", ""),
        (b" " * (MAX_EVENT_BYTES + 1), "event_too_large", ""),
        *(
            (_with(name, _ABSENT), f"missing_{name}", f"/{name}")
            for name in ("specversion", "type", "id", "source", "subject", "data")
        ),
        (_with("specversion", "0.3"), "invalid_specversion", "/specversion"),
        (_with("type", "tallybook.usage.v1"), "unknown_type", "/type"),
        (_with("type", 1), "invalid_type", "/type"),
        (_with("id", ""), "invalid_id", "/id"),
        (_with("id", "x" * 257), "invalid_id", "/id"),
        (_with("id", 7), "invalid_id", "/id"),
        (_with("id", "a\u0000"), "invalid_text", "/id"),
        (_with("source", ""), "invalid_source", "/source"),
        (_with("source", "\u0085"), "invalid_text", "/source"),
        (_with("subject", ""), "invalid_subject", "/subject"),
        (_with("subject", "a\nb"), "invalid_text", "/subject"),
        (_with("time", "yesterday"), "invalid_time", "/time"),
        (_with("time", "2026-11-03T12:00:00"), "invalid_time", "/time"),
        (_with("time", 1793707200), "invalid_time", "/time"),
        (_with("time", "1999-12-31T23:59:59Z"), "invalid_time", "/time"),
        (_with("time", "2100-01-01T00:00:00Z"), "invalid_time", "/time"),
        (_with("data", []), "invalid_data", "/data"),
        (_with("data|provider", _ABSENT), "missing_provider", "/data/provider"),
        (_with("data|quantities", _ABSENT), "missing_quantities", "/data/quantities"),
        (_data(provider=""), "invalid_provider", "/data/provider"),
        (_data(modell="gpt"), "unknown_field", "/data/modell"),
        (_data(attempt=0), "invalid_attempt", "/data/attempt"),
        (_data(attempt=1001), "invalid_attempt", "/data/attempt"),
        (_data(attempt="1"), "invalid_attempt", "/data/attempt"),
        (_data(batch=1), "invalid_batch", "/data/batch"),
        (_data(byok="yes"), "invalid_byok", "/data/byok"),
        (_data(billable="nobody"), "invalid_billable", "/data/billable"),
        (_data(outcome="fine"), "invalid_outcome", "/data/outcome"),
        (_data(user="x" * 257), "invalid_user", "/data/user"),
        (_data(user=None), "invalid_user", "/data/user"),
        (_data(session="a\tb"), "invalid_text", "/data/session"),
        (_data(labels={"a": 1}), "invalid_labels", "/data/labels"),
        (_data(labels={f"l{n}": "" for n in range(21)}), "invalid_labels", "/data/labels"),
        (_data(labels={"": "x"}), "invalid_text", "/data/labels/"),
        (_data(labels={"a/b": "\u0007"}), "invalid_text", "/data/labels/a~1b"),
        (_data(raw="x" * 70_000), "invalid_raw", "/data/raw"),
        (_data(raw=2**60), "invalid_raw", "/data/raw"),
        (_data(quantities={}), "no_quantities", "/data/quantities"),
        (_data(quantities=[]), "invalid_quantity", "/data/quantities"),
        (_data(quantities={f"m{n}": 1 for n in range(33)}), "too_many_meters", "/data/quantities"),
        (_data(quantities={"no.such": 1}), "unknown_meter", "/data/quantities/no.such"),
        (_number("0.0000001"), "too_precise", "/data/quantities/tokens.input"),
        (_data(quantities={"images": 1.5}), "too_precise", "/data/quantities/images"),
    ],
)
def test_a_mistake_in_a_usage_event_has_a_code_and_a_pointer(
    event: object, code: str, pointer: str
) -> None:
    """Programs act on the code, people look where it points."""
    assert _problem(event) == (code, pointer)


def _correction(kind: str, **data: object) -> dict[str, Any]:
    return document("c-1", type=kind, data=data)


@pytest.mark.parametrize(
    ("event", "code", "pointer"),
    [
        (_correction(VOID_TYPE), "missing_id", "/data/id"),
        (_correction(VOID_TYPE, id=""), "invalid_id", "/data/id"),
        (_correction(VOID_TYPE, id="a\u0001"), "invalid_text", "/data/id"),
        (_correction(VOID_TYPE, id="a", source=1), "invalid_source", "/data/source"),
        (_correction(VOID_TYPE, id="a", reason="x" * 257), "invalid_reason", "/data/reason"),
        (_correction(VOID_TYPE, id="a", quantities={}), "unknown_field", "/data/quantities"),
        (_with("subject", "", event=_correction(VOID_TYPE, id="a")), "invalid_subject", "/subject"),
        (_with("id", "\u0001", event=_correction(VOID_TYPE, id="a")), "invalid_text", "/id"),
        (_correction(ADJUST_TYPE, id="a"), "missing_quantities", "/data/quantities"),
        (_correction(ADJUST_TYPE, id="a", quantities={}), "no_quantities", "/data/quantities"),
        (
            _correction(ADJUST_TYPE, id="a", quantities={"tokens.input": -1}),
            "invalid_quantity",
            "/data/quantities/tokens.input",
        ),
    ],
)
def test_a_mistake_in_a_correction_has_a_code_and_a_pointer(
    event: object, code: str, pointer: str
) -> None:
    """Corrections are read as strictly as events."""
    assert _problem(event) == (code, pointer)


@pytest.mark.parametrize(
    "value", [-1, -0.5, 10**18, "1e18", "many", "NaN", "Infinity", None, True, {}, [1]]
)
def test_what_is_no_quantity_is_pointed_to(value: object) -> None:
    """Numbers from 0 to below 10^18, as JSON numbers or decimal text."""
    assert _problem(_number(value)) == ("invalid_quantity", "/data/quantities/tokens.input")


def test_the_first_bad_quantity_is_the_one_that_is_pointed_to() -> None:
    """Not merely the object that holds it."""
    event = _data(quantities={"tokens.input": 1, "tokens.output": "x", "images": None})
    assert _problem(event) == ("invalid_quantity", "/data/quantities/tokens.output")


def test_an_event_of_the_greatest_size_is_read() -> None:
    """1 MiB, blanks included."""
    event = wire()
    assert isinstance(read_event(event + b" " * (MAX_EVENT_BYTES - len(event))), RecordUsage)


def test_a_null_raw_is_no_raw() -> None:
    """And any other JSON value is kept as it came."""
    nothing = read_event(json.dumps(_data(raw=None)).encode())
    assert isinstance(nothing, RecordUsage)
    assert nothing.event.raw == ""
    something = read_event(wire().replace(b'"provider"', b'"raw": [1, 2.50], "provider"'))
    assert isinstance(something, RecordUsage)
    assert something.event.raw == "[1, 2.50]"


def test_the_types_are_versioned_names() -> None:
    """Producers write them down."""
    assert (USAGE_TYPE, VOID_TYPE, ADJUST_TYPE) == (
        "tallybook.usage.v2",
        "tallybook.usage.void.v2",
        "tallybook.usage.adjust.v2",
    )


@pytest.mark.parametrize("source", ["tallybook:expiry", "tallybook:hold", "tallybook:"])
@pytest.mark.parametrize("kind", ["usage", "void", "adjust"])
def test_sources_of_the_ledger_are_no_producer_s(source: str, kind: str) -> None:
    """Else one could take the key under which a capture or an expiry will record its usage."""
    made = {
        "usage": wire("h-1", source=source),
        "void": wire_void(source=source),
        "adjust": wire_adjust({"tokens.input": 1}, source=source),
    }
    problem = read_event(made[kind])
    assert isinstance(problem, Problem)
    assert (problem.code, problem.pointer) == ("reserved_source", "/source")


def test_usage_of_holds_may_be_corrected_though_its_source_is_the_ledger_s() -> None:
    """A correction names it, under a source of its own."""
    target = {"id": "c-1", "source": "tallybook:hold"}
    command = read_event(wire(type=VOID_TYPE, source="support", data=target))
    assert isinstance(command, VoidUsage)
    assert command.target_source == "tallybook:hold"
    assert isinstance(read_event(wire(source="tallybooks:hold")), RecordUsage)


@pytest.mark.parametrize("subject", [_ABSENT, None])
def test_an_event_of_nobody_is_its_sender_s_as_if_it_said_so(subject: object) -> None:
    """Key and fingerprint are those of the event that names the tenant."""
    kinds = [wire(), wire_void(), wire_adjust({"tokens.input": 1})]
    for event in map(json.loads, kinds):
        nobody = json.dumps(_with("subject", subject, event=dict(event))).encode()
        assert read_event(nobody, tenant="acme") == read_event(json.dumps(event).encode())
        assert _problem(nobody) == ("missing_subject", "/subject")


def test_an_event_of_another_tenant_than_its_sender_is_foreign() -> None:
    """Corrections too; the sender's own are read."""
    for event in (wire(), wire_void(), wire_adjust({"tokens.input": 1})):
        assert not isinstance(read_event(event, tenant="acme"), Problem)
        foreign = read_event(event, tenant="globex")
        assert isinstance(foreign, Problem)
        assert (foreign.code, foreign.pointer) == ("foreign_tenant", "/subject")
        assert "acme" not in foreign.message
