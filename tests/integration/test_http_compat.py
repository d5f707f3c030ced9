"""The routes for other systems' senders: their own answers, whatever is sent to them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from fakes.http_world import Api, http_world
from fixtures_postgres import Run

from adapters.http.bodies import MAX_BATCH_BYTES
from ledger.application.documents.events import Filter, Line, Listing

OPENMETER = "/compat/openmeter/api/v1/events"
LAGO = "/compat/lago/api/v1/events"
LAGO_BATCH = f"{LAGO}/batch"
V1 = "/v1/usage"
ROUTES = (OPENMETER, LAGO, LAGO_BATCH, V1)
ONE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    """The application over a fresh database."""
    with http_world(database_url) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared(postgres_run: Run) -> Iterator[Api]:
    """The application over one database, for cases that record nothing of interest."""
    with postgres_run.database(migrated=True) as url, http_world(url) as opened:
        yield opened


def metered(id: str = "m-1", **changed: Any) -> dict[str, Any]:
    """Return an event of OpenMeter's."""
    return {
        "specversion": "1.0",
        "type": "prompt",
        "id": id,
        "source": "app",
        "subject": "customer-1",
        "time": "2026-11-02T10:00:00Z",
        "data": {"model": "gpt-4o", "prompt_tokens": 7},
        **changed,
    }


def transaction(id: str = "t-1", **changed: Any) -> dict[str, Any]:
    """Return an event of Lago's."""
    return {
        "transaction_id": id,
        "external_subscription_id": "sub-1",
        "code": "tokens",
        "timestamp": "1793613600",
        "properties": {"model": "gpt-4o", "prompt_tokens": 7, "share": 0.25},
        **changed,
    }


def question(id: str = "q-1", **changed: Any) -> dict[str, Any]:
    """Return a record of version 1."""
    return {
        "question_id": id,
        "tenant": "acme",
        "model": "gpt-4o",
        "input_tokens": 7,
        "at": "2026-11-02T10:00:00Z",
        **changed,
    }


def send(api: Api, path: str, body: Any, kind: str | None = None, *, key: str = "acme") -> Any:
    """Post a document, or bytes as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": kind or "application/json"}
    return api.post(path, content=content, headers=headers, key=key)


def usage(api: Api, tenant: str = "acme") -> list[Line]:
    """Return a tenant's usage, oldest first."""
    reads = api.tallybook.reads
    lines, _ = Listing(reads, reads.tenant(tenant)).page(Filter(), before=None, limit=1_000)
    return [line for line in reversed(lines) if line.kind == "usage"]


@pytest.mark.parametrize(
    ("kind", "is_batch"),
    [
        (ONE, False),
        (f"{ONE}; charset=UTF-8", False),
        (BATCH, True),
        (f"{BATCH};charset=utf-8", True),
        ("application/json", False),
        ("application/json; charset=utf-8", True),
    ],
)
def test_openmeter_s_senders_get_no_content_now_and_for_a_repetition(
    api: Api, kind: str, is_batch: bool
) -> None:
    """204 without a body or headers about one; what became of the events is in a header."""
    event = metered()
    body = [event, metered("m-2")] if is_batch else event
    count = 2 if is_batch else 1
    for status in ("accepted", "duplicate"):
        answer = send(api, OPENMETER, body, kind)
        assert answer.status_code == 204, answer.text
        assert answer.content == b""
        assert "content-type" not in answer.headers
        assert "content-length" not in answer.headers
        assert f"{status}={count}" in answer.headers["tallybook-result"]
    assert len(usage(api)) == count


def test_an_event_of_openmeter_s_that_says_something_else_is_kept_as_a_conflict(api: Api) -> None:
    """OpenMeter's senders know no conflicts; the ledger lists it and counts the first alone."""
    send(api, OPENMETER, metered())
    other = metered(data={"model": "gpt-4o", "prompt_tokens": 9})
    answer = send(api, OPENMETER, other)
    assert answer.status_code == 204
    assert "conflict=1" in answer.headers["tallybook-result"]
    [line] = usage(api)
    assert line.quantities == {"tokens.input": Decimal(7)}
    assert "contested" in line.flags


def test_bad_items_of_openmeter_s_batch_are_pointed_at_and_the_others_land(api: Api) -> None:
    """Item 7 of 1,000 is no JSON, another cannot be mapped; 998 land, once."""
    items = [json.dumps(metered(f"m-{number}")).encode() for number in range(1_000)]
    items[6] = b'{"specversion": "1.0", '
    items[7] = json.dumps(metered("m-7", data={"prompt_tokens": -1})).encode()
    body = b"[" + b",".join(items) + b"]"
    for _ in range(2):
        answer = send(api, OPENMETER, body, BATCH)
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert [(one["pointer"], one["code"]) for one in problem["errors"]] == [
            ("/6", "malformed_json"),
            ("/7/data/prompt_tokens", "invalid_quantity"),
        ]
        assert problem["rejected"] == 2
    assert problem["duplicate"] == 998
    [balance] = api.tallybook.reads.balances("acme")
    assert balance.events == 998


def test_lago_s_senders_get_their_event_back(api: Api) -> None:
    """With an id that stays the same, properties and numbers as they were sent."""
    answer = send(api, LAGO, {"event": transaction()})
    assert answer.status_code == 200, answer.text
    event = answer.json()["event"]
    assert event["transaction_id"] == "t-1"
    assert event["external_subscription_id"] == "sub-1"
    assert event["timestamp"] == "2026-11-02T10:00:00.000Z"
    assert event["properties"] == {"model": "gpt-4o", "prompt_tokens": 7, "share": 0.25}
    assert len(event["lago_id"]) == 36
    datetime.fromisoformat(event["created_at"])
    without = send(api, LAGO, {"event": transaction("t-2", timestamp=None)}).json()["event"]
    datetime.fromisoformat(without["timestamp"])
    first, second = usage(api)
    assert (first.user, first.quantities) == ("sub-1", {"tokens.input": Decimal(7)})
    assert "time_defaulted" in second.flags


def test_a_transaction_of_lago_s_that_is_there_already_is_answered_as_lago_does(api: Api) -> None:
    """422 with the code of the field, for the same content and for another."""
    send(api, LAGO, {"event": transaction()})
    for event in (transaction(), transaction(properties={"prompt_tokens": 8})):
        answer = send(api, LAGO, {"event": event})
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/json"
        document = answer.json()
        assert (document["status"], document["error"]) == (422, "Unprocessable Entity")
        assert document["code"] == "validation_errors"
        assert document["error_details"] == {"transaction_id": ["value_already_exist"]}
    assert len(usage(api)) == 1


def test_bad_events_of_lago_s_batch_are_named_by_place_and_the_others_land(api: Api) -> None:
    """A sender that sends the batch again is told which are there."""
    events = [transaction(f"t-{number}") for number in range(200)]
    events[3] = transaction("t-3", properties={"color": "blue"})
    events[5] = "no event"  # type: ignore[call-overload] # that is the point
    answer = send(api, LAGO_BATCH, {"events": events})
    assert answer.status_code == 422
    details = answer.json()["error_details"]
    assert details == {
        "3": {"properties": ["no_quantities"]},
        "5": {"properties": ["invalid_event"]},
    }
    assert "how much was used" in answer.json()["detail"]
    assert len(send(api, LAGO_BATCH, {"events": events}).json()["error_details"]) == 200
    assert len(usage(api)) == 198
    good = send(api, LAGO_BATCH, {"events": [transaction("t-x"), transaction("t-y")]})
    assert [one["transaction_id"] for one in good.json()["events"]] == ["t-x", "t-y"]


def test_questions_of_version_1_are_recorded_and_told_that_the_route_will_go(api: Api) -> None:
    """One, an array, one a line; each counted once, with the date of the end in every answer."""
    single = send(api, V1, question())
    assert single.json()["status"] == "accepted", single.text
    array = send(api, V1, [question(), question("q-2")])
    assert [item["status"] for item in array.json()["items"]] == ["duplicate", "accepted"]
    lines = b"\n".join(json.dumps(question(f"q-{n}")).encode() for n in (2, 3))
    ndjson = send(api, V1, lines, "application/x-ndjson")
    assert [item["status"] for item in ndjson.json()["items"]] == ["duplicate", "accepted"]
    conflict = send(api, V1, question(input_tokens=8))
    assert conflict.status_code == 409
    for answer in (single, array, ndjson, conflict):
        assert answer.headers["deprecation"].startswith("@")
        sunset = datetime.strptime(answer.headers["sunset"], "%a, %d %b %Y %H:%M:%S GMT")  # noqa: DTZ007 - only compared with its like
        assert sunset > datetime.fromtimestamp(int(answer.headers["deprecation"][1:]))  # noqa: DTZ006
    assert len(usage(api)) == 3


def test_the_use_of_a_route_that_will_go_is_counted_by_key(api: Api) -> None:
    """So that it can be said who still calls it."""
    send(api, V1, question())
    assert api.keyring.uses[-1] == ("key-acme", V1, 200)


def test_what_has_no_price_is_counted_as_unpriced_and_never_as_nothing(api: Api) -> None:
    """In all three formats."""
    send(api, OPENMETER, metered())
    send(api, LAGO, {"event": transaction()})
    send(api, V1, question())
    [balance] = api.tallybook.reads.balances("acme")
    assert (balance.events, balance.unpriced) == (3, 3)
    assert all("unpriced" in line.flags for line in usage(api))


def test_the_tenant_is_the_key_s_the_query_s_or_the_sender_s_own_name_for_it(api: Api) -> None:
    """A key of a tenant reaches no other ledger, whatever the event names."""
    send(api, OPENMETER, metered(subject="globex"))
    send(api, LAGO, {"event": transaction(external_subscription_id="globex")})
    assert send(api, V1, question("q-2", tenant="globex")).status_code == 403
    assert [row.tenant for row in api.tallybook.reads.tenants()] == ["acme"]
    assert {line.user for line in usage(api)} == {"globex"}
    send(api, OPENMETER, metered(), key="platform")
    send(api, LAGO, {"event": transaction()}, key="platform")
    send(api, f"{OPENMETER}?tenant=initech", metered(), key="platform")
    names = {row.tenant for row in api.tallybook.reads.tenants()}
    assert names == {"acme", "customer-1", "sub-1", "initech"}
    assert send(api, f"{OPENMETER}?tenant=globex", metered()).status_code == 403


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/compat/openmeter/azure/api/v1/events", metered()),
        ("/compat/lago/azure/api/v1/events", {"event": transaction()}),
        ("/compat/lago/azure/api/v1/events/batch", {"events": [transaction()]}),
    ],
)
def test_an_address_can_say_who_runs_the_calls(api: Api, path: str, body: Any) -> None:
    """For senders that can be given nothing but an address."""
    assert send(api, path, body).status_code in (200, 204)
    assert [line.provider for line in usage(api)] == ["azure"]


@pytest.mark.parametrize("path", ROUTES)
def test_a_route_needs_a_key_and_its_scope(shared: Api, path: str) -> None:
    """As every other one."""
    assert shared.post(path, {}, key=None).status_code == 401
    shared.keyring.add("reader", tenant="acme", scopes=("read",))
    assert shared.post(path, {}, key="reader").json()["code"] == "missing_scope"


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    ("body", "kind", "statuses"),
    [
        (b" " * (MAX_BATCH_BYTES + 1), None, {413}),
        (b"{}", "text/plain", {415}),
        (b"{}", "application/x-www-form-urlencoded", {415}),
        (b"{}", "application/json; charset=latin-1", {400, 415, 422}),
        (b"", None, {400, 422}),
        (b"nonsense", None, {400, 422}),
        (b"{", None, {400, 422}),
        (b"7", None, {400, 422}),
        (b"null", None, {400, 422}),
        (b'{"event": 7, "events": 7}', None, {400, 422}),
        (b'{"event": [], "events": []}', None, {400, 422}),
        (b'"\xff"', None, {400, 422}),
        (b'{"a":' * 100_000, None, {400, 422}),
        (b'{"a": NaN}', None, {400, 422}),
        (b'{"a": 1e999999999999999999999}', None, {400, 422}),
        (b'{"a": ' + b"9" * 100_000 + b"}", None, {400, 422}),
        ('{"a": "\u00fc"}'.encode("utf-16"), None, {400, 422}),
    ],
)
def test_what_no_sender_sends_is_answered_and_harms_nothing(
    shared: Api, path: str, body: bytes, kind: str | None, statuses: set[int]
) -> None:
    """In JSON, without a failure of the server."""
    answer = send(shared, path, body, kind)
    assert answer.status_code in statuses, answer.text
    assert answer.json()["status"] == answer.status_code
    assert shared.observer.failures == []


@pytest.mark.parametrize(
    ("path", "one"),
    [(OPENMETER, metered), (LAGO, transaction), (LAGO_BATCH, transaction), (V1, question)],
)
@pytest.mark.parametrize(
    "raw",
    [
        b"1e400",
        b"-1",
        b"1e-30",
        b"123456789012345678901234567890",
        b"true",
        b"[]",
        b'"\\u0000"',
        b'"' + b"9" * 5_000 + b'"',
    ],
)
def test_a_quantity_that_is_none_is_refused_in_the_format_s_own_form(
    shared: Api, path: str, one: Any, raw: bytes
) -> None:
    """Whatever kind of value it is."""
    event = one(f"x-{raw[:9]!r}")
    wrapped = {LAGO: {"event": event}, LAGO_BATCH: {"events": [event]}}.get(path, event)
    body = json.dumps(wrapped).encode().replace(b'_tokens": 7', b'_tokens": ' + raw)
    answer = send(shared, path, body)
    assert answer.status_code == (400 if path == OPENMETER else 422), answer.text
    is_lago = path in (LAGO, LAGO_BATCH)
    kind = "application/json" if is_lago else "application/problem+json"
    assert answer.headers["content-type"] == kind
    assert "validation_errors" in answer.text or not is_lago


def test_a_byte_order_mark_and_members_named_twice_are_no_trouble(api: Api) -> None:
    """The mark is skipped, the last member counts."""
    for path, body in (
        (OPENMETER, metered()),
        (LAGO, {"event": transaction()}),
        (LAGO_BATCH, {"events": [transaction("t-2")]}),
        (V1, question()),
    ):
        text = json.dumps(body).replace('_tokens": 7', '_tokens": 1, "prompt_tokens": 7', 1)
        text = text.replace(
            '"input_tokens": 1, "prompt_tokens"', '"input_tokens": 1, "input_tokens"'
        )
        answer = send(api, path, b"\xef\xbb\xbf" + text.encode())
        assert answer.status_code in (200, 204), answer.text
    assert {line.quantities["tokens.input"] for line in usage(api)} == {Decimal(7)}
    assert len(usage(api)) == 4
