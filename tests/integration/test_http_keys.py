"""Keys and the audit log over HTTP, with real keys: who may give what, and what is left of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from fakes.building import document
from fakes.http_market import problem
from fakes.http_world import Watching
from fixtures_postgres import Run
from starlette.testclient import TestClient

from adapters.bootstrap import Tallybook, http_app, open_ledger

_ONCE = count()
GATEWAY = {"name": "gateway", "scopes": ["events:write", "holds:write"]}


class World:
    """The application with the keyring of its database.

    Attributes:
        tallybook: behind it.
        admin: token of the platform's first key.
        acme: token of a key of `mine` with every scope.
        mine: a tenant of this test.
        other: another one.
    """

    def __init__(self, tallybook: Tallybook, client: TestClient) -> None:
        number = next(_ONCE)
        self.mine, self.other = f"acme-{number}", f"globex-{number}"
        for tenant in (self.mine, self.other):
            tallybook.tenants.open(tenant)
        self.tallybook = tallybook
        self._client = client
        issued = tallybook.keys.issue({"name": "first", "scopes": ["admin"]}, by="ann")
        self.admin, self.admin_id = issued.token, issued.key.id
        own = {"name": "acme's admin", "scopes": ["admin"], "tenant": self.mine}
        self.acme = self.post("/v2/keys", own).json()["token"]

    def call(self, method: str, path: str, *, key: str | None = None, **members: Any) -> Any:
        """Call a route, as the platform unless said otherwise."""
        headers = {"Authorization": f"Bearer {key or self.admin}", **members.pop("headers", {})}
        return self._client.request(method, path, headers=headers, **members)

    def get(self, path: str, *, key: str | None = None, **query: Any) -> Any:
        """Get a document."""
        answer = self.call("GET", path, key=key, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, document: Any, *, once: str = "", key: str | None = None) -> Any:
        """Post a command under an ``Idempotency-Key`` of its own unless said otherwise."""
        headers = {"Idempotency-Key": once or f"k-{next(_ONCE)}"}
        return self.call("POST", path, json=document, headers=headers, key=key)


@pytest.fixture(scope="module")
def served(postgres_run: Run) -> Iterator[tuple[Tallybook, TestClient]]:
    """Give the application over a fresh database."""
    with postgres_run.database(migrated=True) as url, open_ledger(url) as tallybook:
        app = http_app(tallybook, keyring=tallybook.keyring, observer=Watching())
        with TestClient(app, raise_server_exceptions=False) as client:
            yield tallybook, client


@pytest.fixture
def world(served: tuple[Tallybook, TestClient]) -> World:
    """Give it with two new tenants."""
    return World(*served)


def test_a_token_is_shown_once_even_to_whoever_repeats(world: World) -> None:
    """The repeated answer is the same key without it, and it is nowhere in the database."""
    terms = {**GATEWAY, "tenant": world.mine, "networks": ["192.0.2.0/24"], "per_second": 9}
    once = f"once-{world.mine}"
    first = world.post("/v2/keys", terms, once=once)
    again = world.post("/v2/keys", terms, once=once)
    made = first.json()
    assert again.json() == {**made, "token": None}
    assert again.headers["idempotency-replayed"] == "true"
    assert (made["tenant"], made["networks"], made["burst"]) == (world.mine, ["192.0.2.0/24"], 9)
    assert made["issued_by"] == f"key:{world.admin_id}"
    shown = world.get(f"/v2/keys/{made['id']}")
    assert shown == {name: value for name, value in made.items() if name != "token"}
    secret = made["token"].rsplit("_", 1)[1]
    with world.tallybook.database.connect(purpose="test") as connection:
        for table in ("repeats", "audit_log", "ledger_log"):
            rows = connection.execute(f"SELECT t::text FROM {table} AS t".encode()).fetchall()
            assert rows
            assert not any(secret.encode().hex() in row[0] or secret in row[0] for row in rows)


def test_a_key_of_a_tenant_manages_the_keys_of_that_tenant_alone(world: World) -> None:
    """It neither sees others' nor ends them, nor issues one of the platform or of another."""
    other = world.post("/v2/keys", {**GATEWAY, "tenant": world.other}).json()["id"]
    own = world.post("/v2/keys", GATEWAY, key=world.acme).json()
    assert own["tenant"] == world.mine
    for terms in ({**GATEWAY, "tenant": world.other}, {**GATEWAY, "tenant": None}):
        problem(world.post("/v2/keys", terms, key=world.acme), 403, "foreign_tenant")
    for id in (other, world.admin_id, "nobody"):
        answers = [
            world.call("GET", f"/v2/keys/{id}", key=world.acme),
            world.post(f"/v2/keys/{id}/rotate", {}, key=world.acme),
            world.post(f"/v2/keys/{id}/revoke", {}, key=world.acme),
        ]
        for answer in answers:
            problem(answer, 404, "unknown_key")
    mine = [one["name"] for one in world.get("/v2/keys", key=world.acme)["keys"]]
    assert mine == ["gateway", "acme's admin"]
    everybody = {one["id"] for one in world.get("/v2/keys")["keys"]}
    assert {own["id"], other, world.admin_id} <= everybody
    assert [one["id"] for one in world.get("/v2/keys", tenant=world.other)["keys"]] == [other]


def test_keys_are_managed_by_admins_and_named_for_one_tenant(world: World) -> None:
    """Other scopes open none of these routes; names that contradict each other are refused."""
    scopes = ["events:write", "holds:write", "read", "finance", "support", "metrics"]
    lesser = world.post("/v2/keys", {"name": "x", "scopes": scopes}).json()["token"]
    problem(world.post("/v2/keys", GATEWAY, key=lesser), 403, "missing_scope")
    for path in ("/v2/keys", "/v2/audit", "/v2/audit/uses", "/v2/admin/deprecations"):
        problem(world.call("GET", path, key=lesser), 403, "missing_scope")
    for tenant in (world.other, None):
        answer = world.post(f"/v2/keys?tenant={world.mine}", {**GATEWAY, "tenant": tenant})
        problem(answer, 400, "invalid_tenant")
    assert world.post(f"/v2/keys?tenant={world.mine}", GATEWAY).json()["tenant"] == world.mine
    found = problem(
        world.post("/v2/keys", {"name": "x", "scopes": ["root"]}), 422, "invalid_scopes"
    )
    assert found["errors"][0]["pointer"] == "/scopes"


def test_a_rotated_key_goes_on_and_a_revoked_one_ends(world: World) -> None:
    """At once in this process, and each is an act with its key and request."""
    old = world.post("/v2/keys", {"name": "r", "scopes": ["admin"], "tenant": world.mine}).json()
    new = world.post(f"/v2/keys/{old['id']}/rotate", {"overlap_s": 600}, key=old["token"]).json()
    assert (new["predecessor"], new["replaces"]["successor"]) == (old["id"], new["id"])
    for one in (old, new):
        world.get("/v2/keys", key=one["token"])
    again = world.post(f"/v2/keys/{old['id']}/rotate", {})
    problem(again, 409, "already_rotated")
    ended = world.post(f"/v2/keys/{old['id']}/revoke", {"reason": "leaked"}, key=new["token"])
    assert (ended.json()["status"], ended.json()["reason"]) == ("revoked", "leaked")
    problem(world.call("GET", "/v2/keys", key=old["token"]), 401, "key_revoked")
    lines = world.get("/v2/audit", tenant=world.mine, act="key")["lines"]
    assert [(one["act"], one["target"], one["outcome"]) for one in lines[:3]] == [
        ("key.revoked", old["id"], "ok"),
        ("key.rotated", old["id"], "already_rotated"),
        ("key.rotated", old["id"], "ok"),
    ]
    assert lines[0]["who"] == f"key:{new['id']}"
    assert lines[0]["request_id"] == ended.headers["x-request-id"]
    assert new["token"].rsplit("_", 1)[1] not in json.dumps(lines)


def test_a_key_and_its_successor_approve_together_for_one(world: World) -> None:
    """Whoever asks with a key cannot approve with the next one; another key can."""
    event = document("early", tenant=world.mine)
    world.call("POST", "/v2/events", json={**event, "time": "2026-01-05T10:00:00Z"})
    world.tallybook.periods.close(by="ann", tenant=world.mine, grace_hours=0)
    last = world.tallybook.periods.status(world.mine)[-2].first_day.isoformat()
    terms = {"name": "finance", "scopes": ["admin"]}
    old, other = (world.post("/v2/keys", terms).json() for _ in range(2))
    path = f"/v2/keys/{old['id']}/rotate"
    new = world.post(path, {"overlap_s": 600}, key=old["token"]).json()
    reopen = {"tenant": world.mine, "first_day": last, "reason": "late"}

    def ask(key: str) -> Any:
        return world.post("/v2/periods/reopen", reopen, key=key)

    assert ask(new["token"]).json()["state"] == "closed"
    refused = problem(ask(old["token"]), 409, "needs_another_approver")
    assert f"key:{old['id']} is the same approver" in refused["detail"]
    assert ask(other["token"]).json()["state"] == "reopened"


def test_listings_come_in_pages_that_do_not_shift(world: World) -> None:
    """While keys are issued and acts are written: all pages are what there was."""
    for n in range(4):
        world.post("/v2/keys", {**GATEWAY, "name": f"g-{n}"}, key=world.acme)
    for path, member, name in (("/v2/keys", "keys", "id"), ("/v2/audit", "lines", "number")):
        whole = world.get(path, key=world.acme)
        assert whole["next"] is None
        found: list[Any] = []
        query: dict[str, Any] = {"limit": 2}
        while query:
            page = world.get(path, key=world.acme, **query)
            found += [one[name] for one in page[member]]
            query = {"limit": 2, "cursor": page["next"]} if page["next"] else {}
            world.post("/v2/keys", GATEWAY, key=world.acme)
        assert found == [one[name] for one in whole[member]]
        other = world.call(
            "GET", path, params={"tenant": world.other, "cursor": page["next"] or "x"}
        )
        problem(other, 400, "invalid_cursor")


def test_the_report_says_which_keys_still_call_what_will_go(world: World) -> None:
    """By route and key, with the last time; a tenant sees its own keys alone."""
    for tenant in (world.mine, world.other):
        key = world.post("/v2/keys", {**GATEWAY, "name": "old", "tenant": tenant}).json()
        question = {"question_id": "q", "model": "gpt", "at": "2026-11-27T00:00:00Z"}
        sent = world.call("POST", "/v1/usage", key=key["token"], json=[question])
        assert "deprecation" in sent.headers
        world.call("GET", "/v2/nothing", key=key["token"])
    world.tallybook._use_counter.flush()
    everybody = world.get("/v2/admin/deprecations")["routes"]
    [route] = world.get("/v2/admin/deprecations", key=world.acme)["routes"]
    assert (route["method"], route["path"]) == ("POST", "/v1/usage")
    assert route["sunset_on"] > route["deprecated_on"]
    assert [(one["tenant"], one["uses"]) for one in route["keys"]] == [(world.mine, 1)]
    assert [one["tenant"] for one in everybody[0]["keys"]] == [world.mine, world.other]
    later = world.get("/v2/admin/deprecations", since="2099-01-01")["routes"]
    assert [one["keys"] for one in later] == [[]]
    used = world.get("/v2/audit/uses", key=world.acme, daily=True, limit=1000)
    assert {"/v1/usage", "-"} <= {one["route"] for one in used["uses"]}
    assert {one["tenant"] for one in used["uses"]} == {world.mine}
    assert all(one["day"] == one["last_at"][:10] for one in used["uses"])
    assert not used["more"]
    assert world.get("/v2/audit/uses", limit=1)["more"]
