"""What other systems' events become: one usage event each, or a reason why not."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from fakes.building import us
from hypothesis import given
from hypothesis import strategies as st

from adapters.http.compat import lago, members, openmeter, usage_v1
from adapters.http.compat.reading import map_item
from ledger.domain.errors import InvalidInput, Problem
from ledger.domain.usage import RecordUsage, UsageEvent

LITELLM = {
    "specversion": "1.0",
    "type": "litellm_tokens",
    "id": "chatcmpl-1",
    "time": "2026-11-02T10:00:00.000001",
    "subject": "acme",
    "source": "litellm-proxy",
    "data": {
        "model": "gpt-4o",
        "cost": Decimal("0.000225"),
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "total_tokens": 30,
    },
}
LAGO = {
    "transaction_id": "t-1",
    "external_subscription_id": "acme",
    "code": "tokens",
    "properties": {"model": "gpt-4o", "prompt_tokens": 10, "completion_tokens": 20},
}
QUESTION = {
    "question_id": "q-1",
    "tenant": "acme",
    "model": "gpt-4o",
    "input_tokens": 10,
    "output_tokens": 20,
    "tool_calls": 2,
    "audio_seconds": Decimal("1.5"),
    "at": "2026-11-02T10:00:00Z",
}


def from_openmeter(*, tenant: str | None = None, provider: str = "", **changed: Any) -> UsageEvent:
    """Return what an event becomes; ``data`` replaces members of LiteLLM's."""
    data = changed.pop("data", {})
    event = {**LITELLM, "data": data, **changed}
    return openmeter.usage_of(event, tenant=tenant, provider=provider).event


def problem(event: dict[str, Any]) -> tuple[str, str]:
    """Return code and pointer of what is wrong with an event of OpenMeter's."""
    with pytest.raises(InvalidInput) as caught:
        openmeter.usage_of(event, tenant=None, provider="")
    return caught.value.code, caught.value.pointer


def test_litellm_s_event_becomes_usage_of_its_tokens() -> None:
    """A time without an offset is UTC; the stated cost is evidence and nothing else."""
    event = openmeter.usage_of(LITELLM, tenant=None, provider="").event
    assert (event.tenant, event.source, event.id) == ("acme", "litellm-proxy", "chatcmpl-1")
    assert event.occurred_at == us("2026-11-02T10:00:00.000001Z")
    assert event.quantities == {"tokens.input": "10", "tokens.output": "20"}
    assert (event.provider, event.model, event.request_id) == ("openai", "gpt-4o", "chatcmpl-1")
    assert event.labels == {"type": "litellm_tokens", "flags": "provider_inferred totals_only"}
    assert '"cost":"0.000225"' in event.raw


def test_a_cost_that_is_null_and_tokens_of_none_are_facts() -> None:
    """Zero tokens stay zero, and a missing cost is nothing to complain about."""
    data = {"model": "gpt-4o", "cost": None, "prompt_tokens": 0, "completion_tokens": None}
    assert from_openmeter(data=data).quantities == {"tokens.input": "0"}


@pytest.mark.parametrize(
    ("data", "quantities", "flag"),
    [
        ({"tokens": "123", "type": "output"}, {"tokens.output": "123"}, "totals_only"),
        ({"tokens": 5, "type": "prompt"}, {"tokens.input": "5"}, "totals_only"),
        ({"input_tokens": 5, "output_tokens": 6}, {"tokens.input": "5", "tokens.output": "6"}, ""),
        ({"audio.stt.seconds": Decimal("1.5")}, {"audio.stt.seconds": "1.5"}, ""),
        ({"prompt_tokens": 5, "images": 2}, {"tokens.input": "5", "images": "2"}, ""),
        ({"prompt_tokens": 5, "total_tokens": 9}, {"tokens.input": "5"}, "total_differs"),
        ({"model": "dall-e-3", "cost": 1}, {"requests": "1"}, "no_quantities"),
    ],
)
def test_quantities_are_found_under_the_names_that_senders_use(
    data: dict[str, Any], quantities: dict[str, str], flag: str
) -> None:
    """What the sender could not tell apart is flagged."""
    event = from_openmeter(data=data)
    assert event.quantities == quantities
    assert flag in event.labels.get("flags", "")


@pytest.mark.parametrize(
    ("provider", "model", "address", "expected"),
    [
        ("OpenAI", "gpt-4o", "azure", ("openai", "gpt-4o", False)),
        ("", "bedrock/anthropic.claude-v2", "azure", ("aws", "anthropic.claude-v2", False)),
        ("", "openrouter/meta/llama", "", ("openrouter", "meta/llama", False)),
        ("", "gpt-4o", "azure", ("azure", "gpt-4o", False)),
        ("", "claude-sonnet-4", "", ("anthropic", "claude-sonnet-4", True)),
        ("", "Gemini-2.0-flash", "", ("google", "Gemini-2.0-flash", True)),
        ("", "house-model", "", ("unknown", "house-model", False)),
        ("", "", "", ("unknown", "", False)),
    ],
)
def test_who_ran_a_call_is_what_the_event_says_before_what_can_be_inferred(
    provider: str, model: str, address: str, expected: tuple[str, str, bool]
) -> None:
    """The event, the model's prefix, the address, the maker; else nobody knows."""
    assert members.provider_of(provider, model, address) == expected


def test_a_subject_is_the_tenant_or_a_user_of_the_one_that_the_key_is_of() -> None:
    """A key of a tenant reaches that tenant's ledger only."""
    assert from_openmeter(data=LITELLM["data"]).user == ""
    bound = from_openmeter(tenant="globex", data=LITELLM["data"])
    assert (bound.tenant, bound.user) == ("globex", "acme")
    named = from_openmeter(tenant="globex", data={"model": "m", "user": 17})
    assert named.user == "17"


@pytest.mark.parametrize(
    ("change", "code", "pointer"),
    [
        ({"specversion": "0.3"}, "invalid_specversion", "/specversion"),
        ({"subject": None}, "missing_subject", "/subject"),
        ({"subject": ""}, "invalid_text", "/subject"),
        ({"id": 7}, "invalid_id", "/id"),
        ({"id": "x" * 257}, "invalid_text", "/id"),
        ({"source": "a\x00"}, "invalid_text", "/source"),
        ({"type": None}, "missing_type", "/type"),
        ({"time": "yesterday"}, "invalid_time", "/time"),
        ({"time": 17}, "invalid_time", "/time"),
        ({"time": "1999-12-31T00:00:00Z"}, "invalid_time", "/time"),
        ({"data": None}, "invalid_data", "/data"),
        ({"data": {"route": "/hello"}}, "no_quantities", "/data"),
        ({"data": {"tokens": 5}}, "invalid_type", "/data/type"),
        ({"data": {"tokens": 5, "type": ["input"]}}, "invalid_type", "/data/type"),
        ({"data": {"prompt_tokens": -1}}, "invalid_quantity", "/data/prompt_tokens"),
        ({"data": {"prompt_tokens": True}}, "invalid_quantity", "/data/prompt_tokens"),
        ({"data": {"prompt_tokens": "many"}}, "invalid_quantity", "/data/prompt_tokens"),
        ({"data": {"prompt_tokens": 10**18}}, "invalid_quantity", "/data/prompt_tokens"),
        (
            {"data": {"prompt_tokens": Decimal("1e999999")}},
            "invalid_quantity",
            "/data/prompt_tokens",
        ),
        ({"data": {"prompt_tokens": "1e" + "9" * 60}}, "invalid_quantity", "/data/prompt_tokens"),
        ({"data": {"images": Decimal("0.5")}}, "too_precise", "/data"),
        ({"data": {"prompt_tokens": 1, "model": {}}}, "invalid_model", "/data/model"),
        ({"data": {"prompt_tokens": 1, "user": "x" * 300}}, "invalid_text", "/data/user"),
        ({"source": "tallybook.expiry"}, "reserved_source", "/source"),
    ],
)
def test_what_cannot_be_mapped_says_why_and_where(
    change: dict[str, Any], code: str, pointer: str
) -> None:
    """Nothing is guessed."""
    if change.get("source") == "tallybook.expiry":
        from ledger.domain.holds import EXPIRY_SOURCE

        change = {"source": EXPIRY_SOURCE}
    assert problem({**LITELLM, **change}) == (code, pointer)


def test_evidence_that_is_too_large_is_left_out_and_large_numbers_are_text() -> None:
    """The usage counts all the same."""
    large = from_openmeter(data={"prompt_tokens": 1, "note": "x" * 70_000})
    assert large.raw == ""
    number = from_openmeter(data={"prompt_tokens": 1, "ticks": [10**20, 1]})
    assert '"ticks":["100000000000000000000",1]' in number.raw


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ["prompt_tokens", "tokens", "type", "model", "provider", "user", "images", "x", "response_id"]
)


@given(st.dictionaries(NAMES, JSON), st.sampled_from([None, "globex"]))
def test_whatever_a_sender_s_members_hold_it_is_usage_or_a_problem(
    data: dict[str, Any], tenant: str | None
) -> None:
    """Nothing else comes out, and the same event is the same usage again."""
    for mapper, event in (
        (openmeter.usage_of, {**LITELLM, "data": data}),
        (lago.usage_of, {**LAGO, "properties": data, "timestamp": data.get("x")}),
    ):
        try:
            usage = mapper(event, tenant=tenant, provider="")
        except InvalidInput:
            continue
        assert usage.event.quantities
        assert mapper(event, tenant=tenant, provider="") == usage


def test_lago_s_event_becomes_usage_of_its_properties() -> None:
    """The subscription is the tenant; seconds since 1970 are a number or a text."""
    for timestamp in (1793613600, "1793613600", Decimal("1793613600.000001"), None):
        event = lago.usage_of({**LAGO, "timestamp": timestamp}, tenant=None, provider="").event
        assert (event.tenant, event.source, event.id) == ("acme", "lago", "t-1")
        assert event.quantities == {"tokens.input": "10", "tokens.output": "20"}
        if timestamp is None:
            assert event.occurred_at is None
        else:
            assert event.occurred_at is not None
            assert event.occurred_at // 10**6 == us("2026-11-02T10:00:00Z") // 10**6
    assert event.labels["code"] == "tokens"


def test_a_response_that_lago_s_sender_names_is_what_identifies_the_event() -> None:
    """A transaction made up anew counts once; other codes and types are other events."""

    def id_of(transaction: str, **more: Any) -> str:
        properties = {**LAGO["properties"], "response_id": "r-1", **more}
        event = {**LAGO, "transaction_id": transaction, "properties": properties}
        return lago.usage_of(event, tenant=None, provider="").event.id

    assert id_of("t-1") == id_of("t-2") == "r-1/tokens"
    assert id_of("t-1", type="input") == "r-1/tokens/input"
    assert id_of("t-1", response_id=None) == "t-1"


@pytest.mark.parametrize(
    ("change", "details"),
    [
        ({"transaction_id": None}, {"transaction_id": ["value_is_mandatory"]}),
        (
            {"external_subscription_id": None},
            {"external_subscription_id": ["value_is_mandatory"]},
        ),
        ({"code": 3}, {"code": ["invalid_code"]}),
        ({"timestamp": "noon"}, {"timestamp": ["invalid_format"]}),
        ({"timestamp": -5}, {"timestamp": ["invalid_format"]}),
        ({"timestamp": 10**17}, {"timestamp": ["invalid_format"]}),
        ({"properties": []}, {"properties": ["invalid_properties"]}),
        ({"properties": None}, {"properties": ["no_quantities"]}),
        ({"properties": {"prompt_tokens": -2}}, {"properties": ["invalid_quantity"]}),
    ],
)
def test_what_cannot_be_mapped_of_lago_is_said_by_field(
    change: dict[str, Any], details: dict[str, list[str]]
) -> None:
    """As Lago says it."""
    with pytest.raises(InvalidInput) as caught:
        lago.usage_of({**LAGO, **change}, tenant=None, provider="")
    assert lago.details(caught.value.code, caught.value.pointer) == details


def test_a_question_becomes_one_event() -> None:
    """All it counts is in one event; the record leaves no other trace."""
    event = usage_v1.usage_of(QUESTION, tenant=None).event
    assert (event.tenant, event.source, event.id) == ("acme", "v1", "q-1")
    assert event.quantities == {
        "audio.session.seconds": "1.5",
        "tokens.input": "10",
        "tokens.output": "20",
        "tool.calls": "2",
    }
    assert event.raw == ""
    own = {name: value for name, value in QUESTION.items() if name != "tenant"}
    assert usage_v1.usage_of(own, tenant="acme") == usage_v1.usage_of(QUESTION, tenant="acme")


@pytest.mark.parametrize(
    ("change", "code", "pointer"),
    [
        ({"question_id": None}, "missing_question_id", "/question_id"),
        ({"tenant": "globex"}, "foreign_tenant", "/tenant"),
        ({"surprise/": 1}, "unknown_field", "/surprise~1"),
        ({"input_tokens": -1}, "invalid_quantity", "/input_tokens"),
        ({"model": []}, "invalid_model", "/model"),
        ({"at": "noon"}, "invalid_time", "/at"),
    ],
)
def test_a_question_that_cannot_be_mapped_is_pointed_at(
    change: dict[str, Any], code: str, pointer: str
) -> None:
    """The pointer is into the record as it was sent."""
    with pytest.raises(InvalidInput) as caught:
        usage_v1.usage_of({**QUESTION, **change}, tenant="acme")
    assert (caught.value.code, caught.value.pointer) == (code, pointer)


def test_a_question_that_counts_nothing_is_none() -> None:
    """It is refused rather than counted as a request."""
    with pytest.raises(InvalidInput) as caught:
        usage_v1.usage_of({"question_id": "q", "model": "m"}, tenant="acme")
    assert caught.value.code == "no_quantities"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"{", "malformed_json"),
        (b"[]", "invalid_event"),
        (b'"\xff"', "invalid_utf8"),
        (b'{"a":' * 50_000, "nested_too_deep"),
        (b'{"n": 1e99999999999999999999}', "malformed_json"),
        (b'{"n": NaN}', "malformed_json"),
        (b'"' + b"x" * 1_100_000 + b'"', "event_too_large"),
    ],
)
def test_an_item_that_is_no_object_is_a_problem(text: bytes, code: str) -> None:
    """It comes as data, so that its neighbors are mapped."""

    def never(_: object) -> RecordUsage:
        raise AssertionError("there is nothing to map")

    found = map_item(text, never)
    assert isinstance(found, Problem)
    assert found.code == code
