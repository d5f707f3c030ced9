"""Entries over HTTP: pages that do not shift, filters, one entry with all it keeps, corrections."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fakes.building import wire, wire_void
from fakes.http_world import Api, http_world

from adapters.http.routes import entries

PATH = "/v2/events"


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    """The application over a fresh database."""
    with http_world(database_url) as opened:
        yield opened


def record(api: Api, *events: bytes, key: str = "acme") -> list[str]:
    """Record events and return their receipts."""
    answer = api.post(
        PATH,
        content=b"[" + b",".join(events) + b"]",
        headers={"Content-Type": "application/cloudevents-batch+json"},
        key=key,
    )
    items = answer.json()["items"]
    assert {item["status"] for item in items} == {"accepted"}, answer.text
    return [item["receipt"] for item in items]


def listed(api: Api, query: str = "", *, key: str = "acme") -> list[str]:
    """Return the ids of all pages, in order."""
    ids = []
    cursor = ""
    while True:
        answer = api.get(f"{PATH}?{query}{cursor}", key=key)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        ids += [line["id"] for line in page["events"]]
        if page["next"] is None:
            return ids
        cursor = f"&cursor={page['next']}"


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is a problem document and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["code"] == code
    return found


def test_pages_go_from_the_newest_to_the_oldest_and_nothing_new_shifts_them(api: Api) -> None:
    """Every entry comes once, whatever arrives between the pages."""
    record(api, *(wire(f"a-{number}") for number in range(5)))
    record(api, *(wire(f"b-{number}") for number in range(5)))
    first = api.get(f"{PATH}?limit=3").json()
    assert [line["id"] for line in first["events"]] == ["b-4", "b-3", "b-2"]
    record(api, wire("late"))
    ids = [line["id"] for line in first["events"]]
    cursor = first["next"]
    while cursor is not None:
        page = api.get(f"{PATH}?limit=3&cursor={cursor}").json()
        ids += [line["id"] for line in page["events"]]
        cursor = page["next"]
    assert ids == [*(f"b-{n}" for n in (4, 3, 2, 1, 0)), *(f"a-{n}" for n in (4, 3, 2, 1, 0))]
    assert listed(api, "limit=1000")[0] == "late"


def test_a_cursor_is_of_its_listing_and_its_filters(api: Api) -> None:
    """Another listing's, another filter's, and what is none are refused."""
    record(api, *(wire(f"e-{number}") for number in range(3)))
    cursor = api.get(f"{PATH}?limit=1").json()["next"]
    problem(api.get(f"{PATH}?limit=1&model=gpt&cursor={cursor}"), 400, "invalid_cursor")
    problem(api.get(f"{PATH}?cursor=1.0"), 400, "invalid_cursor")


def test_a_listing_as_of_a_commit_stays_what_it_was(api: Api) -> None:
    """Neither later entries nor what they did to earlier ones are told of."""
    [receipt, _] = record(api, wire("e-1"), wire("e-2"))
    was = api.get(PATH).json()
    record(api, wire_void("e-1", id="v-1"), wire("e-3"))
    now = api.get(PATH).json()
    assert now["version"] > was["version"]
    assert "voided" in now["events"][-1]["flags"]
    assert now["events"][-1]["corrections"] != []
    then = api.get(f"{PATH}?as_of={was['version']}").json()
    assert then == was
    assert receipt == then["events"][-1]["ref"].split(":")[1]


def test_filters_hold_together(api: Api) -> None:
    """Each of them, and corrections with the usage that they change."""
    record(
        api,
        wire("e-1", data={"model": "m-1", "session": "s-1", "request_id": "r-1"}),
        wire("e-2", data={"model": "m-2", "session": "s-1", "outcome": "error"}),
        wire("e-3", data={"quantities": {"images": 2}}, time="2026-11-05T00:00:00Z"),
        wire_void("e-1", id="v-1"),
    )
    for query, ids in {
        "": ["v-1", "e-3", "e-2", "e-1"],
        "model=m-1": ["v-1", "e-1"],
        "session=s-1": ["v-1", "e-2", "e-1"],
        "session=s-1&outcome=error": ["e-2"],
        "outcome=aborted": [],
        "meter=images": ["e-3"],
        "meter=tokens.input&model=m-2": ["e-2"],
        "request_id=r-1": ["v-1", "e-1"],
        "id=r-1": ["v-1", "e-1"],
        "id=e-2": ["e-2"],
        "id=e-1&outcome=error": [],
        "from=2026-11-04": ["e-3"],
        "to=2026-11-04": ["v-1", "e-2", "e-1"],
        "from=2026-11-03T12:00:00Z&to=2026-11-03T12:00:00.000001Z": ["v-1", "e-2", "e-1"],
        "only=unpriced": ["e-3", "e-2"],
        "only=conflicts": [],
    }.items():
        assert listed(api, query) == ids, query
        assert listed(api, f"limit=1&{query}") == ids, query


def test_conflicts_are_listed_with_what_was_refused(api: Api) -> None:
    """The payload is evidence, and names the entry that holds the key."""
    [receipt] = record(api, wire("e-1"))
    other = wire("e-1", data={"model": "other"})
    api.post(PATH, content=other, headers={"Content-Type": "application/cloudevents+json"})
    [line] = api.get(f"{PATH}?only=conflicts").json()["events"]
    assert line["kind"] == "conflict"
    entry = api.get(f"{PATH}/{line['ref'].split(':')[1]}").json()
    assert entry["original"] == receipt
    assert json.loads(entry["payload"])["model"] == "other"
    [_, usage] = api.get(PATH).json()["events"]
    assert "contested" in usage["flags"]


def test_a_search_that_looks_at_many_entries_goes_on_page_by_page(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No request looks at more than so many; a page may be empty and go on."""
    monkeypatch.setattr(entries, "MAX_SCANNED", 7)
    record(api, wire("first", data={"model": "rare"}))
    record(api, *(wire(f"e-{number}") for number in range(30)))
    record(api, wire("last", data={"model": "rare"}))
    page = api.get(f"{PATH}?model=rare&limit=2").json()
    assert [line["id"] for line in page["events"]] == ["last"]
    assert page["next"] is not None
    following = api.get(f"{PATH}?model=rare&limit=2&cursor={page['next']}").json()
    assert following["events"] == []
    assert following["next"] is not None
    assert listed(api, "model=rare&limit=2") == ["last", "first"]
    assert len(listed(api, "limit=5")) == 32


def test_an_entry_has_all_that_was_sent(api: Api) -> None:
    """Evidence letter by letter, attribution, and where it stands in the log."""
    data = {
        "tier": "priority",
        "region": "eu",
        "batch": True,
        "user": "u",
        "project": "p",
        "session": "s",
        "conversation": "c",
        "api_key": "k",
        "plugin": "g",
        "labels": {"a": "b"},
        "raw": {"cost": 0.1},
        "attempt": 2,
        "billable": "platform",
    }
    [receipt] = record(api, wire("e-1", data=data))
    entry = api.get(f"{PATH}/{receipt}").json()
    for name, value in data.items():
        assert entry[name] == ('{"cost": 0.1}' if name == "raw" else value), name
    assert entry["quantities"] == {"tokens.input": "1000", "tokens.output": "200"}
    assert entry["receipt"] == receipt
    assert entry["commit"]["version"] == int(receipt.split(".")[0])
    assert len(entry["commit"]["digest"]) == 64
    assert "cost:tokens.input" in entry["missing_prices"]
    assert api.get(f"{PATH}/acme%3A{receipt}").json() == entry


def test_a_receipt_that_names_nothing_is_not_found(api: Api) -> None:
    """Nor does one that is about something else than usage."""
    [receipt] = record(api, wire("e-1"))
    version, index = receipt.split(".")
    for name in ("x", "0.0", "1", f"{version}.{int(index) + 50}", f"{int(version) + 9}.0"):
        problem(api.get(f"{PATH}/{name}"), 404, "unknown_event")
    problem(api.get(f"{PATH}/{version}.0"), 404, "unknown_event")
    problem(api.get(f"{PATH}/globex:{receipt}"), 403, "foreign_tenant")


def test_a_key_of_a_tenant_sees_its_own_entries_only(api: Api) -> None:
    """The same receipt is another tenant's entry, or none."""
    record(api, wire("mine"))
    record(api, wire("theirs", tenant="globex"), key="globex")
    assert listed(api) == ["mine"]
    assert listed(api, key="globex") == ["theirs"]
    problem(api.get(f"{PATH}?tenant=globex"), 403, "foreign_tenant")
    problem(api.get(PATH, key="platform"), 400, "invalid_tenant")
    assert listed(api, "tenant=globex&", key="platform") == ["theirs"]
    api.keyring.add("writer", tenant="acme", scopes=("events:write",))
    problem(api.get(PATH, key="writer"), 403, "missing_scope")


def test_a_void_is_an_entry_and_its_repetition_a_duplicate(api: Api) -> None:
    """The event is taken back once; another void of it is rejected."""
    [receipt] = record(api, wire("e-1"))
    void = {"id": "v-1", "reason": "counted twice"}
    first = api.post(f"{PATH}/{receipt}/void", void)
    assert first.json()["status"] == "accepted", first.text
    assert api.post(f"{PATH}/{receipt}/void", void).json()["status"] == "duplicate"
    problem(api.post(f"{PATH}/{receipt}/void", {"id": "v-2"}), 422, "already_voided")
    problem(api.post(f"{PATH}/{receipt}/void", {**void, "reason": "no"}), 409, "conflict")
    [balance] = api.tallybook.reads.balances("acme")
    assert set(balance.quantities.values()) == {0}
    entry = api.get(f"{PATH}/{first.json()['receipt']}").json()
    assert (entry["kind"], entry["source"], entry["reason"]) == ("void", "api", "counted twice")
    assert entry["target"] == {"source": "gateway", "id": "e-1"}


def test_an_adjustment_replaces_the_quantities(api: Api) -> None:
    """Under the source that the client says."""
    [receipt] = record(api, wire("e-1"))
    adjust = {"id": "a-1", "source": "support", "quantities": {"tokens.input": "5", "images": 1}}
    answer = api.post(f"{PATH}/{receipt}/adjust", adjust)
    assert answer.json()["status"] == "accepted", answer.text
    assert api.post(f"{PATH}/{receipt}/adjust", adjust).json()["status"] == "duplicate"
    problem(api.post(f"{PATH}/{receipt}/adjust", {**adjust, "id": "a-2"}), 422, "already_adjusted")
    [balance] = api.tallybook.reads.balances("acme")
    counted = {meter: count for meter, count in balance.quantities.items() if count}
    assert counted == {"tokens.input": 5 * 10**6, "images": 10**6}


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("void", {}, 422, "invalid_id"),
        ("void", {"id": ""}, 422, "invalid_id"),
        ("void", {"id": "x", "why": "?"}, 422, "unknown_member"),
        ("void", {"id": "x", "source": "tallybook:x"}, 422, "reserved_source"),
        ("void", {"id": "x", "reason": "y" * 300}, 422, "invalid_reason"),
        ("void", {"id": "x", "tenant": "globex"}, 403, "foreign_tenant"),
        ("adjust", {"id": "x"}, 422, "invalid_quantities"),
        ("adjust", {"id": "x", "quantities": {"tokens.input": -1}}, 422, "invalid_quantities"),
        ("adjust", {"id": "x", "quantities": {"nothing": 1}}, 422, "invalid_quantities"),
    ],
)
def test_a_correction_that_cannot_be_read_changes_nothing(
    api: Api, path: str, body: dict[str, Any], status: int, code: str
) -> None:
    """The problem points at the member."""
    [receipt] = record(api, wire("e-1"))
    problem(api.post(f"{PATH}/{receipt}/{path}", body), status, code)
    assert listed(api) == ["e-1"]


def test_only_usage_can_be_corrected(api: Api) -> None:
    """A correction is not corrected again, and another tenant's event is none."""
    [_, void] = record(api, wire("e-1"), wire_void("e-1", id="v-1"))
    problem(api.post(f"{PATH}/{void}/void", {"id": "v-2"}), 409, "not_usage")
    problem(api.post(f"{PATH}/9.9/void", {"id": "v-2"}), 404, "unknown_event")
    record(api, wire("theirs", tenant="globex"), key="globex")
    problem(
        api.post(f"{PATH}/{void}/void?tenant=acme", {"id": "v"}, key="globex"),
        403,
        "foreign_tenant",
    )
    api.keyring.add("reader", tenant="acme", scopes=("read",))
    problem(api.post(f"{PATH}/{void}/void", {"id": "v-3"}, key="reader"), 403, "missing_scope")


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("limit=0", 422, "invalid_parameter"),
        ("limit=1001", 422, "invalid_parameter"),
        ("outcome=fine", 422, "invalid_parameter"),
        ("from=yesterday", 422, "invalid_from"),
        ("to=2026-13-01", 422, "invalid_to"),
        ("as_of=0", 422, "invalid_parameter"),
        ("color=blue", 422, "invalid_query"),
        ("id=a&id=b", 422, "invalid_query"),
    ],
)
def test_a_parameter_that_cannot_be_read_is_a_problem(
    api: Api, query: str, status: int, code: str
) -> None:
    """The tenant exists, so that nothing else is wrong."""
    record(api, wire("e-1"))
    problem(api.get(f"{PATH}?{query}"), status, code)


def test_the_document_of_a_tenant_without_entries_is_empty(api: Api) -> None:
    """A tenant that nobody knows is not found."""
    problem(api.get(PATH), 404, "unknown_tenant")
    api.tallybook.tenants.open("acme")
    assert listed(api) == []
