"""A key of one tenant asks every operation of the schema for everything of another's.

The operations come from the server's own schema. A route that is added is asked as all others are;
where its ids are of a kind that nobody has here yet, or where it shows something of a tenant's that
is not made here yet, a test fails until `fakes.secrets_of` makes one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from fakes.http_market import authorize, http_market
from fakes.http_world import Api
from fakes.schema_requests import Operation, Request, operations
from fakes.secrets_of import OWN, WORD, Secrets
from fixtures_postgres import Run
from starlette.websockets import WebSocketDisconnect

from ledger.application.access import SCOPES

ME = "acme"
NO_KEY = {"/healthz", "/readyz", "/openapi.json", "/asyncapi.json", "/docs", "/docs/stream"}
OF_THE_PLATFORM = {
    "/v2/subscriptions",
    "/metrics",
    "/v2/policies/default-cap",
    "/v2/prices",
    "/v2/plans",
    "/v2/periods",
    "/v2/invoice-series",
    "/v2/invoice-settings",
    "/v2/journal",
}
"""Paths, and what is below them, that show nothing of any tenant to any tenant."""
NO_TENANTS_IDS = {
    "book": ["default"],
    "version": ["cost/openai@1.0"],
    "provider": ["azure"],
    "plan": ["team"],
    "line": ["1"],
}
"""Parameters of paths that take no id of any tenant."""

_AT = "2026-11-27T00:00:00Z"
_LAGO = {
    "transaction_id": "t",
    "code": "c",
    "external_subscription_id": "s",
    "properties": {"model": "gpt", "prompt_tokens": 1},
}
_METERED = {
    "specversion": "1.0",
    "type": "t",
    "source": "s",
    "id": "i",
    "subject": "u",
    "data": {"model": "gpt", "prompt_tokens": 1},
}
BODIES: dict[str, Any] = {
    "/lago/api/v1/events": {"event": _LAGO},
    "/lago/{provider}/api/v1/events": {"event": _LAGO},
    "/api/v1/events/batch": {"events": [_LAGO]},
    "meter/{provider}/api/v1/events": _METERED,
    "/openmeter/api/v1/events": _METERED,
    "/v1/usage": {"question_id": "q", "model": "gpt", "input_tokens": 1, "at": _AT},
}
"""Bodies of routes that other systems' senders call, by the end of the path."""


class World(NamedTuple):
    """The application, the operations that it serves, and the other tenant."""

    api: Api
    operations: list[Operation]
    secrets: Secrets
    ids: dict[str, list[str]]


@pytest.fixture(scope="module")
def world(postgres_run: Run) -> Iterator[World]:
    """Give the application with two tenants, one of which has something in every corner."""
    with postgres_run.database(migrated=True) as url, http_market(url) as api:
        secrets = Secrets(api)
        authorize(api, "own")
        for scope in SCOPES:
            api.keyring.add(f"only {scope}", tenant=ME, scopes=(scope,))
        found = operations(api.get("/openapi.json", key=None).json(), BODIES)
        yield World(api, found, secrets, {**secrets.ids, **NO_TENANTS_IDS})


def ask(world: World, request: Request, *, key: str | None = ME) -> tuple[int, str]:
    """Send a request; return status and all that was answered."""
    headers = {"Idempotency-Key": "fuzz"}
    members: dict[str, Any] = {}
    if request.kind:
        headers["Content-Type"] = request.kind
        members = {"json": request.body}
        if isinstance(request.body, str):
            members = {"content": request.body.encode()}
    answer = world.api.call(request.method, request.url, key=key, headers=headers, **members)
    head = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
    return answer.status_code, f"{head}\n\n{answer.text}"


def own_path(operation: Operation) -> dict[str, str]:
    """Return the fixed parameters of a path that is about the caller's own tenant."""
    return {"tenant": ME} if "tenant" in operation.places else {}


def test_the_fuzz_knows_ids_of_every_kind(world: World) -> None:
    """A path that takes something new needs one of the other tenant's to ask for."""
    for operation in world.operations:
        assert set(operation.places) <= world.ids.keys(), operation


def test_the_fuzz_would_notice_what_each_route_shows(world: World) -> None:
    """To the other tenant itself every route that answers questions shows a secret of its own."""
    blind = []
    for operation in world.operations:
        platform = any(operation.path.startswith(one) for one in OF_THE_PLATFORM)
        if operation.method == "GET" and operation.path not in NO_KEY and not platform:
            answers = [ask(world, one, key=OWN) for one in operation.requests(world.ids)]
            shown = [text for status, text in answers if status == 200 and WORD in text]
            # A few show names and amounts alone.
            if not shown and not any(world.secrets.leaked(text) for _, text in answers):
                blind.append(str(operation))
    assert blind == []


def test_whoever_names_another_tenant_is_refused_everywhere(world: World) -> None:
    """In the path, in the query and in the body: 403 or 404, whatever the key may do."""
    before = world.secrets.state()
    wrong, tried = [], set()
    for operation in world.operations:
        for number, request in enumerate(operation.naming(OWN, ME, world.ids)):
            tried.add(str(operation))
            # Which scope a key has is looked at before any id: one request tells.
            for key in (ME, *(f"only {one}" for one in SCOPES)) if number == 0 else (ME,):
                status, text = ask(world, request, key=key)
                found = world.secrets.leaked(text, said=request.said)
                if status not in (403, 404) or found:
                    wrong.append((str(operation), request.url, key, status, found, text[-300:]))
    assert not wrong, "\n".join(map(str, wrong))
    assert len(tried) > 40
    assert world.secrets.state() == before


def test_another_tenants_ids_open_nothing(world: World) -> None:
    """Each, in each place that takes one: what is asked is about oneself, or is not there.

    First what only asks, then what acts, then what asks once more: nothing came over.
    """
    before = world.secrets.state()
    said: set[str] = set()
    wrong = []
    asking = [one for one in world.operations if one.method == "GET"]
    acting = [one for one in world.operations if one.method != "GET"]
    for operation in (*asking, *acting, *asking):
        theirs = operation.method == "GET" and set(operation.places) - {"tenant"} - set(
            NO_TENANTS_IDS
        )
        for request in operation.requests(world.ids, path=own_path(operation)):
            if operation.method != "GET":
                said |= set(request.said)
            status, text = ask(world, request)
            found = world.secrets.leaked(text, said=(*request.said, *said))
            # A question about another's id is one about nothing, until one has such a thing too.
            seen = theirs and not said and status not in (403, 404)
            if found or seen or status >= 500:
                wrong.append((str(operation), request.url, status, found, text[-300:]))
    assert not wrong, "\n".join(map(str, wrong))
    assert world.secrets.state() == before


def test_another_tenants_cursors_open_nothing(world: World) -> None:
    """They are of its listing alone, and hold no row."""
    wrong, tried = [], 0
    for operation in world.operations:
        if operation.method == "GET" and "cursor" in operation.query:
            path = {"tenant": OWN} if "tenant" in operation.places else {}
            mine = own_path(operation)
            [theirs, *_] = operation.requests(world.ids, path=path, query={"limit": "1"})
            answer = world.api.get(theirs.url, key=OWN)
            cursor = answer.json().get("next") if answer.status_code == 200 else None
            if cursor is None:
                continue
            tried += 1
            query = {"limit": "1", "cursor": cursor}
            [request, *_] = operation.requests(world.ids, path=mine, query=query)
            status, text = ask(world, request)
            if status != 400 or world.secrets.leaked(text, said=request.said):
                wrong.append((str(operation), status, text[-300:]))
    assert not wrong, "\n".join(map(str, wrong))
    assert tried > 5


def test_a_kept_answer_is_repeated_to_its_own_tenant_alone(world: World) -> None:
    """The same key with the same payload is another command where another tenant sends it."""
    headers = {"Idempotency-Key": "shared"}
    terms = {"name": "shared", "scopes": ["read"]}
    theirs = world.api.post("/v2/keys", terms, key=OWN, headers=headers)
    mine = world.api.post("/v2/keys", terms, headers=headers)
    assert theirs.json()["tenant"] == OWN
    assert mine.json()["tenant"] == ME
    assert mine.json()["token"]
    assert "idempotency-replayed" not in mine.headers
    assert theirs.json()["id"] not in mine.text


@pytest.mark.parametrize(
    ("path", "member"),
    [("/v2/events", "subject"), ("/v1/usage", "tenant"), ("/v2/simulate", "tenant")],
)
def test_nothing_is_recorded_for_another_tenant(world: World, path: str, member: str) -> None:
    """Alone or in a batch; what another tenant's sender says stays with the key's."""
    before = world.secrets.state()
    [operation] = [one for one in world.operations if str(one) == f"POST {path}"]
    body = {**operation.bodies["application/json"], member: OWN}
    answers = [world.api.post(path, body)]
    if path != "/v2/simulate":
        answers.append(world.api.post(path, [body]))
    for answer in answers:
        assert "foreign_tenant" in answer.text
        assert world.secrets.leaked(answer.text, said=(OWN,)) == []
    assert world.secrets.state() == before


def test_a_stream_neither_resumes_nor_ends_what_is_another_tenants(world: World) -> None:
    """A session, or a hold, of that name is one's own; naming the tenant closes the stream."""
    hold = "gxid-streamed"
    authorize(world.api, hold, key=OWN)
    before = world.secrets.state()
    headers = {"Authorization": f"Bearer {ME}"}
    connect = world.api.client.websocket_connect
    heard = []
    with connect("/v2/stream", headers=headers) as socket:
        resume = {"type": "resume", "session": "gxid-stream", "epoch": world.secrets.epoch}
        socket.send_json({**resume, "last_seq": 0})
        heard.append(socket.receive_json())
    assert heard[0]["type"] == "resume_failed"
    with connect("/v2/stream", headers=headers) as socket:
        socket.send_json({"type": "hello", "session": "gxid-stream"})
        socket.send_json({"type": "hold.void", "id": "f-1", "seq": 1, "hold": hold})
        socket.send_json({"type": "end", "id": "f-2", "seq": 2})
        while not heard or heard[-1]["type"] != "ended":
            heard.append(socket.receive_json())
    assert [one["code"] for one in heard if one["type"] == "error"] == []
    [decision] = [one["answer"] for one in heard if one["type"] == "decision"]
    assert decision["status"] == "voided_unmatched"
    for query, named in (("", {"tenant": OWN}), (f"?tenant={OWN}", {})):
        with connect(f"/v2/stream{query}", headers=headers) as socket:
            socket.send_json({"type": "hello", "session": "s", **named})
            with pytest.raises(WebSocketDisconnect) as closed:
                socket.receive_json()
        assert closed.value.code == 4403
    assert world.secrets.leaked(str(heard), said=(hold, "gxid-stream", OWN)) == []
    assert world.secrets.state() == before


def test_what_needs_no_key_shows_nothing_of_any_tenant(world: World) -> None:
    """Nor do refusals of what needs one."""
    for operation in world.operations:
        [request, *_] = operation.requests(world.ids)
        status, text = ask(world, request, key=None)
        assert (status == 401) == (operation.path not in NO_KEY), operation
        assert world.secrets.leaked(text, said=request.said) == [], operation
