"""Intake: anything on the wire becomes a command or a problem; spelling is nothing, content all."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import msgspec
import pytest
import rfc8785
from fakes.building import NOON, document, usage
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ledger.application.intake import (
    ADJUST_TYPE,
    USAGE_TYPE,
    VOID_TYPE,
    UsageData,
    read_event,
    usage_command,
)
from ledger.domain.errors import InvalidInput, Problem
from ledger.domain.meters import STANDARD_METERS
from ledger.domain.usage import (
    AdjustUsage,
    RecordUsage,
    UsageEvent,
    VoidUsage,
    canonical_payload,
    canonical_quantities,
    fingerprint_of,
    read_quantities,
    scaled_quantities,
)

TEXTS = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=12)
NAMES = TEXTS.filter(bool)
COUNTS = st.integers(0, 10**18 - 1)
NUMBERS = COUNTS | st.decimals(min_value=0, max_value=10**9, places=6)
JSON_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
JSONS = st.recursive(
    JSON_LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
FRACTIONAL = sorted(name for name, meter in STANDARD_METERS.items() if meter.decimals)


@st.composite
def good_data(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the data of a good event: every optional member now and then."""
    data: dict[str, Any] = {
        "provider": draw(NAMES),
        "quantities": draw(
            st.dictionaries(st.sampled_from(FRACTIONAL), COUNTS, min_size=1, max_size=4)
        ),
    }
    optional: dict[str, st.SearchStrategy[Any]] = {
        **dict.fromkeys(
            ("api_key", "conversation", "hold", "model", "plugin", "project", "user"), TEXTS
        ),
        **dict.fromkeys(("provider_account", "region", "request_id", "session", "tier"), TEXTS),
        "attempt": st.integers(1, 1000),
        "batch": st.booleans(),
        "byok": st.booleans(),
        "billable": st.sampled_from(["tenant", "platform"]),
        "outcome": st.sampled_from(["ok", "error", "aborted"]),
        "labels": st.dictionaries(NAMES, TEXTS, max_size=3),
        "raw": JSONS,
    }
    for name in draw(st.lists(st.sampled_from(sorted(optional)), unique=True, max_size=6)):
        data[name] = draw(optional[name])
    return data


def _event(data: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {**document(), "data": data, **members}


def _recorded(text: str) -> RecordUsage:
    command = read_event(text.encode())
    assert isinstance(command, RecordUsage), command
    return command


def _shuffled(draw: st.DrawFn, value: Any) -> Any:
    if isinstance(value, dict):
        names = draw(st.permutations(sorted(value)))
        return {name: _shuffled(draw, value[name]) for name in names}
    if isinstance(value, list):
        return [_shuffled(draw, one) for one in value]
    return value


SPELLINGS: list[Callable[[int], int | str]] = [
    lambda n: n,
    str,
    lambda n: f"{n}.0",
    lambda n: f"{n}.000000",
    lambda n: f"{n}e0",
    lambda n: f"{n}0E-1",
]
"""Ways to write a whole number, as JSON text or number."""


@given(good_data(), st.data())
def test_member_order_and_number_spelling_are_no_part_of_a_fingerprint(
    data: dict[str, Any], draw: st.DataObject
) -> None:
    """A retry that a program has re-encoded is the same event."""
    first = _recorded(json.dumps(_event(data)))
    spelled = {
        name: draw.draw(st.sampled_from(SPELLINGS))(number)
        for name, number in data["quantities"].items()
    }
    again = draw.draw(st.builds(lambda: None).flatmap(lambda _: _permuted(data, spelled)))
    text = json.dumps(
        again, ensure_ascii=draw.draw(st.booleans()), indent=draw.draw(st.sampled_from([None, 1]))
    )
    second = _recorded(text)
    assert second.fingerprint == first.fingerprint
    assert second.event.quantities == first.event.quantities
    assert (second.numbers, second.decimals) == (first.numbers, first.decimals)


@st.composite
def _permuted(draw: st.DrawFn, data: dict[str, Any], spelled: dict[str, Any]) -> dict[str, Any]:
    changed: dict[str, Any] = _shuffled(draw, _event({**data, "quantities": spelled}))
    return changed


@given(good_data())
def test_the_canonical_payload_is_rfc_8785_of_the_canonical_document(data: dict[str, Any]) -> None:
    """The fast encoding and the library's give the same bytes; defaults are left out."""
    event = _recorded(json.dumps(_event(data))).event
    members = msgspec.structs.asdict(event)
    defaults = msgspec.structs.asdict(
        UsageEvent(id="", provider="", quantities={}, source="", tenant="")
    )
    tree = {
        name: json.loads(value) if name == "raw" else value
        for name, value in members.items()
        if value != defaults[name] or name in ("id", "provider", "quantities", "source", "tenant")
    }
    assert canonical_payload(event) == rfc8785.dumps(tree)
    assert fingerprint_of(event) == blake2b(rfc8785.dumps(tree), digest_size=16).digest()


@given(good_data())
def test_a_member_that_says_its_default_says_nothing(data: dict[str, Any]) -> None:
    """An explicit default and an absent member are one event."""
    defaults: dict[str, Any] = {
        **dict.fromkeys(("api_key", "conversation", "hold", "model", "plugin", "project"), ""),
        **dict.fromkeys(("provider_account", "region", "request_id", "session", "tier"), ""),
        "user": "",
        "attempt": 1,
        "batch": False,
        "byok": False,
        "billable": "tenant",
        "outcome": "ok",
        "labels": {},
        "raw": None,
    }
    first = _recorded(json.dumps(_event(data)))
    second = _recorded(json.dumps(_event({**defaults, **data})))
    assert second.fingerprint == first.fingerprint


CHANGES: dict[str, Any] = {
    "provider": "another",
    "quantities": {"tokens.input": 1000, "tokens.output": 201},
    "api_key": "x",
    "attempt": 2,
    "batch": True,
    "billable": "platform",
    "byok": True,
    "conversation": "x",
    "hold": "x",
    "labels": {"a": "b"},
    "model": "another",
    "outcome": "error",
    "plugin": "x",
    "project": "x",
    "provider_account": "x",
    "raw": {"a": 1},
    "region": "x",
    "request_id": "x",
    "session": "x",
    "tier": "x",
    "user": "x",
}
"""Another value for each member of the data."""


def test_the_changes_below_cover_every_member() -> None:
    """A member added to the data must be added to the fingerprint's tests."""
    assert set(CHANGES) == {field.name for field in msgspec.structs.fields(UsageData)}


@pytest.mark.parametrize("member", sorted(CHANGES))
def test_any_change_of_any_member_changes_the_fingerprint(member: str) -> None:
    """Each member of the data is part of what must be the same."""
    plain = _recorded(json.dumps(document()))
    changed = _recorded(json.dumps(document(data={member: CHANGES[member]})))
    assert changed.fingerprint != plain.fingerprint
    assert changed.key == plain.key


@pytest.mark.parametrize("member", ["subject", "source", "id", "time"])
def test_a_change_of_the_envelope_changes_the_fingerprint(member: str) -> None:
    """Tenant, source, id and time are part of the payload; only the last two make a key."""
    other = "2026-11-03T12:00:00.000001Z" if member == "time" else "another"
    plain = _recorded(json.dumps(document()))
    changed = _recorded(json.dumps(document() | {member: other}))
    assert changed.fingerprint != plain.fingerprint
    assert (changed.key != plain.key) == (member in ("source", "id"))


@given(st.sampled_from(["Z", "+00:00", "-00:00", "+05:30", "-08:00", "+12:45"]))
def test_an_instant_is_the_same_in_every_offset(offset: str) -> None:
    """The offset in which the producer writes a time is no part of the event."""
    moment = datetime.fromisoformat(NOON)
    if offset[-2:] != "00" or offset[1:3] != "00":
        moment = moment.astimezone(datetime.fromisoformat(f"2026-01-01T00:00:00{offset}").tzinfo)
        time = moment.isoformat()
    else:
        time = NOON.replace("Z", offset)
    assert _recorded(json.dumps(document(time=time))).fingerprint == usage().fingerprint


@given(
    st.dictionaries(st.sampled_from(FRACTIONAL), NUMBERS, min_size=1, max_size=4),
)
def test_integers_and_decimals_are_read_alike(quantities: dict[str, int | Decimal]) -> None:
    """The short way for integers and the long way for decimals give the same event."""
    fast = read_quantities(quantities, pointer="")
    slow = read_quantities({name: Decimal(n) for name, n in quantities.items()}, pointer="")
    assert fast == slow
    assert fast[0] == canonical_quantities(quantities)
    assert fast[1:] == scaled_quantities(fast[0])
    scale = 10 ** fast[2]
    assert [Decimal(n) / scale for n in fast[1]] == [quantities[m] for m in sorted(quantities)]


@given(good_data())
def test_bytes_raw_json_and_typed_data_are_read_alike(data: dict[str, Any]) -> None:
    """However an event comes in, it is the same command."""
    text = json.dumps(_event(data)).encode()
    command = read_event(text)
    assert isinstance(command, RecordUsage)
    wrapped = read_event(msgspec.Raw(text))
    assert isinstance(wrapped, RecordUsage)
    assert wrapped.fingerprint == command.fingerprint
    typed = msgspec.json.decode(json.dumps(data).encode(), type=UsageData)
    again = usage_command(
        typed, id="e-1", source="gateway", tenant="acme", at=command.event.occurred_at
    )
    assert again.fingerprint == command.fingerprint
    assert (again.key, again.numbers) == (command.key, command.numbers)


@given(st.sampled_from(sorted(CHANGES)), st.characters(categories=["Cc"]), st.booleans())
@example("user", "\x7f", False)
@example("user", "\x85", False)
def test_control_characters_are_refused_wherever_text_stands(
    member: str, character: str, escaped: bool
) -> None:
    """The quick check of all text at once refuses what the check of each would."""
    if not isinstance(CHANGES[member], str) or member in ("billable", "outcome"):
        return
    event = document(data={member: f"a{character}"})
    problem = read_event(json.dumps(event, ensure_ascii=escaped).encode())
    assert isinstance(problem, Problem)
    assert (problem.code, problem.pointer) == ("invalid_text", f"/data/{member}")


def _is_answer(answer: object) -> None:
    if isinstance(answer, Problem):
        assert answer.code
        assert answer.message
        assert answer.pointer == "" or answer.pointer.startswith("/")
    else:
        assert isinstance(answer, RecordUsage | VoidUsage | AdjustUsage)


@given(st.binary(max_size=60))
@example(b"")
@example(b"\xff")
@example(b"null")
@example(b"[" * 100_000)
def test_arbitrary_bytes_become_a_problem(wire: bytes) -> None:
    """Whatever is not an event is a problem with a code, never an exception."""
    answer = read_event(wire)
    assert isinstance(answer, Problem)
    _is_answer(answer)


MANGLED = (
    JSONS
    | st.sampled_from(
        [
            "",
            "x" * 257,
            NOON,
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-14:00",
            "1e999999999",
            "1e-999999999",
            10**18,
            -1,
            1.5,
            {"tokens.input": -1},
            {"tokens.input": "1e999999999999999999999"},
            {"tokens.input": None},
            {"no.such.meter": 1},
            {str(n): 1 for n in range(40)},
        ]
    )
    | st.integers()
)


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """Draw a good event with some members replaced, dropped, added or cut off."""
    kind = draw(st.sampled_from([USAGE_TYPE, VOID_TYPE, ADJUST_TYPE]))
    data: dict[str, Any] = draw(good_data())
    if kind != USAGE_TYPE:
        data = {"id": "e-1", "reason": "x"} | (
            {"quantities": {"tokens.input": 1}} if kind == ADJUST_TYPE else {}
        )
    event = _event(data, type=kind)
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.sampled_from([event, data]))
        # Everything may have been dropped by now.
        name = draw(st.sampled_from(sorted(place)) | NAMES if place else NAMES)
        if draw(st.booleans()):
            place[name] = draw(MANGLED)
        else:
            place.pop(name, None)
    wire = json.dumps(event).encode()
    return wire[: draw(st.sampled_from([None, None, -1, len(wire) // 2]))]


@given(mangled())
@settings(max_examples=400)
def test_a_mangled_event_becomes_a_command_or_a_problem(wire: bytes) -> None:
    """However an event is damaged, reading it answers and does not raise."""
    _is_answer(read_event(wire))


def _read_quantity(number: str) -> RecordUsage | Problem:
    wire = json.dumps(document(data={"quantities": {"tokens.input": number}})).encode()
    answer = read_event(wire)
    assert isinstance(answer, RecordUsage | Problem)
    return answer


DIGITS = st.text("0123456789.eE+-", max_size=12)


@given(DIGITS | st.text(max_size=8))
def test_text_is_read_as_the_number_it_says_or_not_at_all(number: str) -> None:
    """Nothing is rounded or guessed; what is no number from 0 has a problem."""
    answer = _read_quantity(number)
    if isinstance(answer, RecordUsage):
        assert Decimal(answer.event.quantities["tokens.input"]) == Decimal(number)
    else:
        assert answer.code in ("invalid_quantity", "too_precise")
        assert answer.pointer == "/data/quantities/tokens.input"


@pytest.mark.parametrize(
    "number",
    [
        "1e-7",
        "0.0000001",
        "1e-999999999",
        "1." + "0" * 300 + "1",
    ],
)
def test_a_quantity_that_is_finer_than_its_meter_is_refused(number: str) -> None:
    """However small what is too much: it is never rounded away."""
    answer = _read_quantity(number)
    assert isinstance(answer, Problem)
    assert answer.code == "too_precise"


@pytest.mark.parametrize(
    "number",
    [
        "Infinity",
        "nan",
        "0x10",
        "1,5",
        "",
        *("1_000", " 1", "1 ", "\u0661", "\uff11"),
    ],
)
def test_a_quantity_is_spelled_as_a_plain_decimal(number: str) -> None:
    """Digits of other scripts, blanks and underscores are a producer's mistake."""
    answer = _read_quantity(number)
    assert isinstance(answer, Problem)
    assert answer.code == "invalid_quantity"


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_beyond_the_calendar_is_refused(time: str) -> None:
    """A local time whose instant no calendar has is a broken clock like any other."""
    answer = read_event(json.dumps(document(time=time)).encode())
    assert isinstance(answer, Problem)
    assert (answer.code, answer.pointer) == ("invalid_time", "/time")


def test_quantities_refuse_what_is_no_number() -> None:
    """The library's own callers are told as well."""
    with pytest.raises(InvalidInput) as refused:
        canonical_quantities({"tokens.input": Decimal("NaN")})
    assert refused.value.code == "invalid_quantity"
