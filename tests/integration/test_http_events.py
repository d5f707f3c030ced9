"""Recording over HTTP: every form of CloudEvents, whose events they are, and what is no event."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fakes.building import document, wire, wire_adjust, wire_void
from fakes.http_world import Api, http_world
from fixtures_postgres import Run

from adapters.http.bodies import MAX_BATCH_BYTES
from ledger.application.splitting import MAX_ITEMS

PATH = "/v2/events"
ONE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
LINES = "application/x-ndjson"


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    """The application over a fresh database."""
    with http_world(database_url) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared(postgres_run: Run) -> Iterator[Api]:
    """The application over one database, for cases that record nothing."""
    with postgres_run.database(migrated=True) as url, http_world(url) as opened:
        yield opened


def send(api: Api, body: bytes, kind: str | None = ONE, *, key: str = "acme", **more: Any) -> Any:
    """Post a body as it is."""
    headers = {**({} if kind is None else {"Content-Type": kind}), **more.pop("headers", {})}
    return api.post(more.pop("path", PATH), content=body, headers=headers, key=key, **more)


def send_all(api: Api, items: list[bytes], **more: Any) -> dict[str, Any]:
    """Post items as a batch and return the answer, its counts checked against its items."""
    kind = more.pop("kind", BATCH)
    body = b"\n".join(items) if kind == LINES else b"[" + b",".join(items) + b"]"
    answer = send(api, body, kind, **more)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    statuses = [item["status"] for item in found["items"]]
    for name in ("accepted", "duplicate", "conflict", "rejected"):
        assert found[name] == statuses.count(name)
    return found


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is a problem document and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["code"] == code
    return found


def used(api: Api, tenant: str = "acme") -> int:
    """Return how many events a tenant's balance counts."""
    return sum(balance.events for balance in api.tallybook.reads.balances(tenant))


def test_one_event_is_answered_alone_and_its_repetition_is_a_duplicate(api: Api) -> None:
    """The receipt is the original's."""
    first = send(api, wire())
    assert first.status_code == 200
    receipt = first.json()["receipt"]
    assert first.json() == {"status": "accepted", "receipt": receipt, "flags": ["unpriced"]}
    send(api, wire("other"))
    again = send(api, wire())
    assert again.json() == {"status": "duplicate", "receipt": receipt, "flags": []}
    assert used(api) == 2


def test_another_payload_under_a_key_is_a_conflict(api: Api) -> None:
    """409 with the receipt of what holds the key; nothing is charged."""
    receipt = send(api, wire()).json()["receipt"]
    found = problem(send(api, wire(data={"model": "other"})), 409, "conflict")
    assert found["answer"]["receipt"] == receipt
    assert found["retryable"] is False
    assert used(api) == 1


def test_a_rejected_event_is_a_problem_with_its_pointer(api: Api) -> None:
    """422 with the item's code."""
    bad = wire(data={"quantities": {"tokens.input": -1}})
    found = problem(send(api, bad), 422, "invalid_quantity")
    assert found["errors"][0]["pointer"] == "/data/quantities/tokens.input"
    assert found["answer"]["status"] == "rejected"


@pytest.mark.parametrize("kind", [BATCH, LINES, "application/json", "application/ndjson"])
def test_a_batch_is_answered_item_by_item_in_order(api: Api, kind: str) -> None:
    """Usage, corrections, a duplicate, a conflict and a rejected one, in every form of a batch."""
    items = [
        wire("a"),
        wire("b"),
        wire("a"),
        wire("b", data={"model": "other"}),
        wire("c", data={"quantities": {"nothing": 1}}),
        wire_void("a"),
        wire_adjust({"tokens.input": 1}, "b"),
    ]
    if kind == "application/ndjson":
        body = b"\r\n\n".join(items) + b"\n"
        found = send(api, body, kind).json()
    else:
        found = send_all(api, items, kind=kind)
    assert [item["status"] for item in found["items"]] == [
        "accepted",
        "accepted",
        "duplicate",
        "conflict",
        "rejected",
        "accepted",
        "accepted",
    ]
    assert found["items"][4]["code"] == "unknown_meter"
    assert found["items"][4]["pointer"] == "/data/quantities/nothing"
    assert used(api) == 2


@pytest.mark.parametrize("kind", [BATCH, LINES])
@pytest.mark.parametrize(
    "bad",
    [
        b'{"specversion": "1.0", "id": }',
        b'{"specversion": "1.0", "data": {"a": 1}',
        b'{"specversion": "1.0", "id": "cut',
        b"no json at all",
        b'{"id": "\xff"}',
        b'{"id": NaN}',
        b'{"a":' * 20_000,
    ],
)
def test_bad_json_at_item_7_of_1000_fails_alone(api: Api, kind: str, bad: bytes) -> None:
    """The other 999 land, through the reader process."""
    items = [wire(f"e-{number}") for number in range(1_000)]
    items[6] = bad
    found = send_all(api, items, kind=kind)
    assert (found["accepted"], found["rejected"]) == (999, 1)
    assert found["items"][6]["status"] == "rejected"
    assert found["items"][6]["code"] in ("malformed_json", "invalid_utf8", "nested_too_deep")
    assert send_all(api, items, kind=kind)["duplicate"] == 999
    assert used(api) == 999


def test_bad_json_in_a_small_batch_fails_alone_too(api: Api) -> None:
    """What is read on the event loop when it is well-formed."""
    found = send_all(api, [wire("a"), b"{bad", wire("b")])
    assert [item["status"] for item in found["items"]] == ["accepted", "rejected", "accepted"]


def test_an_event_in_binary_mode_is_the_event_that_its_headers_and_body_make(api: Api) -> None:
    """The structured form of the same event is its duplicate; values are percent-encoded."""
    event = document("ä b", source="gateway eins")
    headers = {
        "ce-specversion": "1.0",
        "ce-type": event["type"],
        "ce-id": "%C3%A4%20b",
        "ce-source": "gateway%20eins",
        "ce-subject": "acme",
        "ce-time": event["time"],
        "ce-traceparent": "00-1",
    }
    data = json.dumps(event["data"]).encode()
    first = send(api, data, "application/json; charset=utf-8", headers=headers)
    assert first.json()["status"] == "accepted", first.text
    again = send(api, json.dumps(event).encode())
    assert again.json()["status"] == "duplicate"
    no_subject = {name: value for name, value in headers.items() if name != "ce-subject"}
    assert send(api, data, None, headers=no_subject).json()["status"] == "duplicate"


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ({"ce-id": "x"}, b'{}, "subject": "globex"', 422, "malformed_json"),
        ({"ce-id": "x"}, b"", 422, "malformed_json"),
        ({"ce-id": "x"}, b"[" * 20_000, 422, "nested_too_deep"),
        ({"ce-id": "x"}, b"{}", 422, "missing_specversion"),
        ({"ce-id": "%FF", "ce-specversion": "1.0"}, b"{}", 422, "invalid_utf8"),
    ],
)
def test_what_is_no_event_in_binary_mode_is_rejected(
    shared: Api, headers: dict[str, str], body: bytes, status: int, code: str
) -> None:
    """The data cannot reach into the event around it."""
    problem(send(shared, body, "application/json", headers=headers), status, code)


def test_an_event_of_another_tenant_is_rejected_and_its_neighbors_land(api: Api) -> None:
    """Nothing of it is stored, and a single one is forbidden."""
    items = [wire("a"), wire("b", tenant="globex"), wire_void("x", tenant="globex")]
    found = send_all(api, items)
    assert [item["status"] for item in found["items"]] == ["accepted", "rejected", "rejected"]
    assert {item["code"] for item in found["items"][1:]} == {"foreign_tenant"}
    assert found["items"][1]["pointer"] == "/subject"
    problem(send(api, items[1]), 403, "foreign_tenant")
    large = [*items, *(wire(f"e-{n}", tenant="globex") for n in range(200))]
    assert send_all(api, large)["rejected"] == 202
    assert [row.tenant for row in api.tallybook.reads.tenants()] == ["acme"]


def test_an_event_without_a_subject_is_the_key_s_tenant_s(api: Api) -> None:
    """As if it said so: one that does is its duplicate; a key of the platform needs a subject."""
    nobody = document()
    del nobody["subject"]
    body = json.dumps(nobody).encode()
    problem(send(api, body, key="platform"), 422, "missing_subject")
    assert send(api, body).json()["status"] == "accepted"
    assert send(api, wire()).json()["status"] == "duplicate"
    many = [json.dumps({**nobody, "id": f"n-{n}"}).encode() for n in range(100)]
    assert send_all(api, many)["accepted"] == 100
    assert used(api) == 101


def test_a_key_of_the_platform_records_for_every_tenant_or_for_one_it_names(api: Api) -> None:
    """Named in the query, it is the only one."""
    items = [wire("a"), wire("b", tenant="globex")]
    assert send_all(api, items, key="platform")["accepted"] == 2
    found = send_all(api, items, key="platform", path=f"{PATH}?tenant=globex")
    assert [item["status"] for item in found["items"]] == ["rejected", "duplicate"]
    problem(send(api, wire(), path=f"{PATH}?tenant=globex"), 403, "foreign_tenant")
    long = "x" * 257
    problem(send(api, wire(), key="platform", path=f"{PATH}?tenant={long}"), 422, "invalid_text")


def test_recording_needs_its_scope(api: Api) -> None:
    """A key that only reads records nothing."""
    api.keyring.add("reader", tenant="acme", scopes=("read",))
    problem(send(api, wire(), key="reader"), 403, "missing_scope")


@pytest.mark.parametrize(
    ("kind", "body", "status", "code"),
    [
        ("text/plain", wire(), 415, "unsupported_media_type"),
        ("application/xml", wire(), 415, "unsupported_media_type"),
        (f"{ONE}; charset=utf-16", wire(), 415, "unsupported_media_type"),
        (BATCH, wire(), 400, "invalid_body"),
        (BATCH, b"", 400, "invalid_body"),
        (BATCH, b"nonsense", 400, "invalid_body"),
        (ONE, b"[" + wire() + b"]", 422, "invalid_event"),
        (ONE, b"", 422, "malformed_json"),
        (ONE, b"nonsense", 422, "malformed_json"),
        (ONE, wire().decode().encode("utf-16"), 422, "invalid_utf8"),
        (ONE, b"[" * 20_000, 422, "invalid_event"),
        (ONE, b'{"a":' * 20_000, 422, "nested_too_deep"),
        (ONE, wire(data={"surprise": 1}), 422, "unknown_field"),
        (ONE, wire(data={"quantities": {"tokens.input": float("nan")}}), 422, "malformed_json"),
        (ONE, wire(data={"quantities": {"tokens.input": float("inf")}}), 422, "malformed_json"),
        (ONE, wire(data={"quantities": {"tokens.input": 10**40}}), 422, "invalid_quantity"),
        (ONE, wire(time="2026-11-03T12:00:00"), 422, "invalid_time"),
        (ONE, wire(id="x" * 300), 422, "invalid_id"),
        (ONE, wire(id="\x00"), 422, "invalid_text"),
        (ONE, wire(source=""), 422, "invalid_source"),
        (ONE, wire(specversion="0.3"), 422, "invalid_specversion"),
        (ONE, wire(x="y" * 1_100_000), 422, "event_too_large"),
        (BATCH, b"[" + b"1," * MAX_ITEMS + b"1]", 413, "too_many_items"),
        (LINES, b"1\n" * (MAX_ITEMS + 1), 413, "too_many_items"),
        (BATCH, b" " * (MAX_BATCH_BYTES + 1), 413, "body_too_large"),
    ],
)
def test_what_is_no_event_is_a_problem_with_a_code(
    shared: Api, kind: str, body: bytes, status: int, code: str
) -> None:
    """Whatever is sent, the server answers and lives."""
    problem(send(shared, body, kind), status, code)
    assert send(shared, wire("after")).status_code == 200


@pytest.mark.parametrize(
    "number", [b"1e400", b"1e999999999999", b"1" * 5_000, b"-0", b"1e-30", b"0." + b"1" * 9_000]
)
def test_a_number_of_any_size_is_answered(shared: Api, number: bytes) -> None:
    """It is a quantity or it is not; neither it nor its repetition harms anything."""
    body = wire(data={"quantities": {"tokens.input": 77}}).replace(b"77", number)
    answer = send(shared, body)
    assert answer.status_code in (200, 422), answer.text
    assert send_all(shared, [body] * 2)["accepted"] == 0


def test_a_byte_order_mark_is_not_part_of_the_text(api: Api) -> None:
    """Some programs put one before every text they write."""
    assert send(api, b"\xef\xbb\xbf" + wire()).json()["status"] == "accepted"
    batch = b"\xef\xbb\xbf[" + wire("b") + b"]"
    assert send(api, batch, BATCH).json()["accepted"] == 1
    assert send(api, b"\xef\xbb\xbf" + wire("c") + b"\n", LINES).json()["accepted"] == 1


def test_of_a_member_that_is_named_twice_the_last_counts(api: Api) -> None:
    """Also for the tenant: the first leaves no trace."""
    twice = wire().replace(b'"subject"', b'"subject": "globex", "subject"')
    assert send(api, twice).json()["status"] == "accepted"
    assert send(api, wire()).json()["status"] == "duplicate"
    other = wire("b").replace(b'"subject": "acme"', b'"subject": "acme", "subject": "globex"')
    problem(send(api, other), 403, "foreign_tenant")


@pytest.mark.parametrize(("kind", "body"), [(BATCH, b"[]"), (LINES, b""), (LINES, b"\n \n")])
def test_an_empty_batch_is_an_empty_answer(shared: Api, kind: str, body: bytes) -> None:
    """Nothing was sent, and nothing is wrong with it."""
    found = send(shared, body, kind)
    assert found.status_code == 200
    assert found.json()["items"] == []


def test_large_batches_at_once_are_recorded_in_full(api: Api) -> None:
    """Ten thousand events packed, from several callers, each counted once."""
    events = [wire(f"e-{number}") for number in range(MAX_ITEMS)]
    half = MAX_ITEMS // 2
    overlapping = [events, events[:half], events[half:], events[half // 2 : -half // 2]]
    packed = {"Content-Encoding": "gzip"}

    def post(items: list[bytes]) -> int:
        body = gzip.compress(b"[" + b",".join(items) + b"]", 1)
        found = send(api, body, BATCH, headers=packed).json()
        assert found["accepted"] + found["duplicate"] == len(items)
        accepted: int = found["accepted"]
        return accepted

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(post, overlapping)) == MAX_ITEMS
    assert used(api) == MAX_ITEMS


def test_a_lost_reader_loses_no_batch(api: Api) -> None:
    """What it had is read by the server itself."""
    events = [wire(f"e-{number}") for number in range(500)]
    assert send_all(api, events[:250])["accepted"] == 250
    reader = api.tallybook.ingest.reader
    assert reader is not None
    reader.process.kill()
    assert send_all(api, events)["accepted"] == 250
    assert send_all(api, events)["duplicate"] == 500
