"""What every request passes, and what every answer carries."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator

import pytest
from fakes.http_world import Api, http_world

from adapters.http.bodies import MAX_BODY_BYTES, MAX_UNPACKED_BYTES
from adapters.http.gate import API_VERSION

ASK = {"hold": "h-1", "amount": "0.25"}


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    """The application over a fresh database."""
    with http_world(database_url) as opened:
        opened.tallybook.tenants.open("acme")
        yield opened


def problem(answer: object, status: int, code: str) -> dict[str, object]:
    """Check that an answer is a problem document and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, object] = answer.json()
    assert document["code"] == code
    assert document["status"] == status
    assert document["request_id"] == answer.headers["x-request-id"]
    return document


def test_a_request_without_a_key_is_refused_and_told_how_to_send_one(api: Api) -> None:
    """The answer is 401 with the scheme that is understood."""
    answer = api.post("/v2/holds", ASK, key=None)
    problem(answer, 401, "missing_key")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("authorization", ["Basic YTpi", "Bearer", "Bearer nobody", "acme"])
def test_what_is_no_key_opens_nothing(api: Api, authorization: str) -> None:
    """Other schemes, no token and unknown tokens are refused alike."""
    answer = api.post("/v2/holds", ASK, key=None, headers={"Authorization": authorization})
    problem(answer, 401, "invalid_key")


def test_a_key_without_the_scope_is_forbidden(api: Api) -> None:
    """The answer names the scope that is needed."""
    api.keyring.add("reader", tenant="acme", scopes=("read",))
    document = problem(api.post("/v2/holds", ASK, key="reader"), 403, "missing_scope")
    assert "holds:write" in str(document["detail"])


def test_a_key_of_a_tenant_cannot_name_another_one(api: Api) -> None:
    """It is forbidden in the query and in the body, whether or not there is such a tenant."""
    problem(api.post("/v2/holds?tenant=globex", ASK), 403, "foreign_tenant")
    problem(api.post("/v2/holds", {**ASK, "tenant": "nobody"}), 403, "foreign_tenant")


def test_a_key_of_the_platform_must_name_the_tenant_and_name_one(api: Api) -> None:
    """Without a name and with two different ones nothing is done."""
    problem(api.post("/v2/holds", ASK, key="platform"), 400, "invalid_tenant")
    two = api.post("/v2/holds?tenant=acme", {**ASK, "tenant": "globex"}, key="platform")
    problem(two, 400, "invalid_tenant")
    allowed = api.post("/v2/holds?tenant=acme", ASK, key="platform")
    assert allowed.json()["status"] == "created"


@pytest.mark.parametrize(
    ("body", "code"),
    [(b'{"hold": ', "invalid_json"), (b"[1]", "invalid_body"), (b"", "invalid_json")],
)
def test_a_body_that_is_no_object_is_a_problem(api: Api, body: bytes, code: str) -> None:
    """Broken JSON, JSON of another kind and nothing at all are told apart from bad members."""
    problem(api.post("/v2/holds", content=body), 400, code)


def test_a_member_that_cannot_be_read_is_pointed_at(api: Api) -> None:
    """The problem has the JSON pointer of the member."""
    document = problem(api.post("/v2/holds", {**ASK, "amount": "-1"}), 422, "invalid_amount")
    assert document["errors"][0]["pointer"] == "/amount"  # type: ignore[index] # a list
    assert document["retryable"] is False


def test_another_content_type_is_refused(api: Api) -> None:
    """A form is no document, even where its text would be one."""
    answer = api.post("/v2/holds", content=json.dumps(ASK), headers={"Content-Type": "text/plain"})
    problem(answer, 415, "unsupported_media_type")


def test_a_body_past_its_limit_is_refused_with_and_without_its_length(api: Api) -> None:
    """What is sent in chunks is counted as it comes."""
    large = b"x" * (MAX_BODY_BYTES + 1)
    problem(api.post("/v2/holds", content=large), 413, "body_too_large")

    def chunks() -> Iterator[bytes]:
        for _ in range(17):
            yield large[: 64 * 1024]

    problem(api.post("/v2/holds", content=chunks()), 413, "body_too_large")


def test_a_packed_body_is_unpacked(api: Api) -> None:
    """Gzip is understood, also where it has several members."""
    half = json.dumps(ASK).encode()
    packed = gzip.compress(half[:7]) + gzip.compress(half[7:])
    answer = api.post("/v2/holds", content=packed, headers={"Content-Encoding": "gzip"})
    assert answer.json()["status"] == "created", answer.text


def test_a_bomb_is_refused_before_it_is_unpacked(api: Api) -> None:
    """A body that grows past the limit is given up as soon as it does."""
    bomb = gzip.compress(b" " * (MAX_UNPACKED_BYTES + 1))
    answer = api.post("/v2/holds", content=bomb, headers={"Content-Encoding": "gzip"})
    problem(answer, 413, "body_too_large")


@pytest.mark.parametrize(
    ("encoding", "body", "status", "code"),
    [
        ("gzip", b"no gzip", 400, "invalid_encoding"),
        ("gzip", gzip.compress(b"{}" * 500, mtime=0)[:-12], 400, "invalid_encoding"),
        ("br", b"{}", 415, "unsupported_media_type"),
    ],
)
def test_what_cannot_be_unpacked_is_a_problem(
    api: Api, encoding: str, body: bytes, status: int, code: str
) -> None:
    """Something else, a cut one, and an encoding nobody knows here."""
    answer = api.post("/v2/holds", content=body, headers={"Content-Encoding": encoding})
    problem(answer, status, code)


def test_the_request_id_is_the_client_s_where_it_can_be(api: Api) -> None:
    """One that is too long or not printable is replaced."""
    given = api.post("/v2/holds", ASK, headers={"X-Request-Id": "call-1"})
    assert given.headers["x-request-id"] == "call-1"
    long = api.post("/v2/holds", ASK, headers={"X-Request-Id": "x" * 129})
    assert long.headers["x-request-id"] != "x" * 129


def test_an_unknown_version_is_refused_and_the_known_one_taken(api: Api) -> None:
    """A client that pins a version learns at once that this server does not speak it."""
    headers = {"Tallybook-Version": "2020-01-01"}
    problem(api.post("/v2/holds", ASK, headers=headers), 400, "unknown_version")
    answer = api.post("/v2/holds", ASK, headers={"Tallybook-Version": API_VERSION})
    assert answer.status_code == 200


def test_a_parameter_that_no_route_can_have_is_refused(api: Api) -> None:
    """Control characters are in no id, PostgreSQL takes no NUL; a mistyped name is no filter."""
    for path in (
        "/v2/holds?tenant=a%00b",
        "/v2/tenants/acme/usage?model=%1F",
        "/v2/events?model=%7f",
        "/v2/holds/h-1?colour=blue",
        "/v2/tenants/acme/balance?=",
    ):
        problem(api.get(path), 422, "invalid_query")
    problem(api.post("/v2/holds?colour=blue", ASK), 422, "invalid_query")


def test_a_path_and_a_method_that_are_not_there_are_problems(api: Api) -> None:
    """Neither is a page of HTML."""
    problem(api.get("/v2/nothing"), 404, "unknown_path")
    problem(api.get("/v2/simulate"), 405, "method_not_allowed")


def test_a_rate_limit_says_how_many_are_left_and_when_to_come_back(api: Api) -> None:
    """Past the limit the answer is 429; the ledger is not asked."""
    api.keyring.add("slow", tenant="acme", per_second=1, burst=2)
    answers = [api.post("/v2/holds", {**ASK, "hold": f"h-{n}"}, key="slow") for n in range(3)]
    assert [one.status_code for one in answers] == [200, 200, 429]
    assert answers[0].headers["ratelimit"] == '"key";r=1;t=1'
    document = problem(answers[2], 429, "rate_limited")
    assert document["retryable"] is True
    assert answers[2].headers["retry-after"] == "1"


def test_a_failure_of_the_server_tells_nothing_of_its_inside(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client gets a request id, the log gets the reason."""

    def fail() -> None:
        raise RuntimeError("the password is swordfish")

    monkeypatch.setattr(api.tallybook.reads, "now", fail)
    monkeypatch.setattr(api.tallybook.reads, "tenants", lambda **_: fail())
    # A hot route, and one of FastAPI's.
    for answer in (api.get("/readyz", key=None), api.get("/v2/tenants", key="platform")):
        problem(answer, 500, "internal_error")
        assert "swordfish" not in answer.text
    assert [str(one) for one in api.observer.failures] == ["the password is swordfish"] * 2


def test_a_use_of_a_key_is_counted_with_the_template_of_its_route(api: Api) -> None:
    """Ids of clients do not make routes of their own."""
    api.post("/v2/holds", ASK)
    api.post("/v2/holds/h-1/capture", {"capture": "c", "quantities": {"tokens.input": 1}})
    assert api.keyring.uses[-2:] == [
        ("key-acme", "/v2/holds", 200),
        ("key-acme", "/v2/holds/{hold}/capture", 200),
    ]
