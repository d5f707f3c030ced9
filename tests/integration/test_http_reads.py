"""Usage and explanations over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fakes.building import document, wire
from fakes.http_market import http_market, problem
from fakes.http_world import Api


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    """The application with prices and two tenants."""
    with http_market(database_url) as opened:
        yield opened


def use(api: Api, id: str, tokens: int, *, time: str, tenant: str = "acme", **data: Any) -> None:
    """Record an event."""
    data = {"quantities": {"tokens.input": tokens}, **data}
    [outcome] = api.tallybook.ledger.record([wire(id, tenant=tenant, time=time, data=data)])
    assert outcome.status == "accepted", outcome


def usage(api: Api, **query: Any) -> Any:
    """Return grouped usage."""
    answer = api.get("/v2/tenants/acme/usage", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_usage_is_grouped_and_counts_what_was_just_recorded(api: Api) -> None:
    """The rollups are brought up to date first, so the numbers are not silently old."""
    use(api, "1", 1000, time="2026-11-03T12:00:00Z")
    use(api, "2", 500, time="2026-11-03T12:00:00Z", model="mini")
    use(api, "3", 250, time="2026-11-04T12:00:00Z")
    found = usage(api, by="day,model")
    assert found["lag"] == 0
    assert [(one["day"], one["model"], one["charge"]) for one in found["rows"]] == [
        ("2026-11-03", "gpt", "1"),
        ("2026-11-03", "mini", "0.05"),
        ("2026-11-04", "gpt", "0.25"),
    ]
    later = usage(api, by="day", **{"from": "2026-11-04", "to": "2026-11-05"})
    assert [one["quantity"] for one in later["rows"]] == ["250"]


def test_usage_says_how_far_it_is_behind_where_it_is_not_brought_up_to_date(api: Api) -> None:
    """What is not counted yet is not hidden."""
    use(api, "1", 1000, time="2026-11-03T12:00:00Z")
    found = usage(api, catch_up="false")
    assert (found["rows"], found["lag"] > 0) == ([], True)


def test_usage_comes_in_pages_that_add_up_to_the_whole(api: Api) -> None:
    """Also where groups have costs in several rows, and while more is recorded."""
    for n in range(7):
        use(api, f"e-{n}", 100 * (n + 1), time="2026-11-03T12:00:00Z", user=f"u{n}")
    whole = usage(api, by="user,model")["rows"]
    found, cursor = [], None
    while True:
        page = usage(api, by="user,model", limit=3, **({"cursor": cursor} if cursor else {}))
        found += page["rows"]
        use(api, f"more-{len(found)}", 1, time="2026-11-03T12:00:00Z", user="a")
        cursor = page["next"]
        if cursor is None:
            break
        assert len(page["rows"]) == 3
    assert found == whole


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"by": "week"}, 422, "unknown_grouping"),
        ({"by": "model,model"}, 422, "unknown_grouping"),
        ({"from": "yesterday"}, 422, "invalid_from"),
        ({"to": "2026-13-01"}, 422, "invalid_to"),
        ({"limit": "0"}, 422, "invalid_parameter"),
        ({"limit": "1001"}, 422, "invalid_parameter"),
        ({"cursor": "nonsense"}, 400, "invalid_cursor"),
        ({"form": "2026-11-01"}, 422, "invalid_query"),
    ],
)
def test_questions_that_cannot_be_read_are_refused(
    api: Api, query: dict[str, str], status: int, code: str
) -> None:
    """A typing error must not answer another question than was asked."""
    problem(api.get("/v2/tenants/acme/usage", params=query), status, code)


def test_a_cursor_is_of_one_listing_with_its_filters(api: Api) -> None:
    """With another grouping, another tenant or a changed letter it is refused."""
    for n in range(2):
        use(api, f"e-{n}", 1, time="2026-11-03T12:00:00Z", user=f"u{n}")
        use(api, f"g-{n}", 1, time="2026-11-03T12:00:00Z", user=f"u{n}", tenant="globex")
    cursor = usage(api, by="user", limit=1)["next"]
    assert usage(api, by="user", limit=1, cursor=cursor)["rows"][0]["user"] == "u1"
    other = {"by": "model", "cursor": cursor}
    problem(api.get("/v2/tenants/acme/usage", params=other), 400, "invalid_cursor")
    same = {"by": "user", "cursor": cursor}
    answer = api.get("/v2/tenants/globex/usage", params=same, key="globex")
    problem(answer, 400, "invalid_cursor")
    cut = {"by": "user", "cursor": cursor[:-1] + ("A" if cursor[-1] != "A" else "B")}
    problem(api.get("/v2/tenants/acme/usage", params=cut), 400, "invalid_cursor")


def test_an_event_is_explained_by_id_by_receipt_and_by_the_provider_s_request_id(api: Api) -> None:
    """All three name the same event; its amounts come with the prices behind them."""
    use(api, "e/1", 1000, time="2026-11-03T12:00:00Z", request_id="req 7")
    by_id = api.get("/v2/tenants/acme/explain/e%2F1").json()
    assert by_id["charge"] == "1"
    assert by_id["rating"]["leaves"][0]["origin"]["approver"] == "ann"
    receipt = by_id["proof"]["receipt"]
    for name in (receipt, receipt.partition(":")[2], "req%207"):
        assert api.get(f"/v2/tenants/acme/explain/{name}").json() == by_id


def test_an_event_of_another_tenant_is_not_found(api: Api) -> None:
    """Neither by its id nor by its receipt; naming the tenant is forbidden."""
    use(api, "secret", 1000, time="2026-11-03T12:00:00Z", tenant="globex")
    receipt = api.get("/v2/tenants/globex/explain/secret", key="globex").json()["proof"]["receipt"]
    problem(api.get("/v2/tenants/acme/explain/secret"), 404, "unknown_event")
    problem(api.get(f"/v2/tenants/acme/explain/{receipt}"), 404, "unknown_event")
    problem(api.get("/v2/tenants/globex/explain/secret"), 403, "foreign_tenant")


def test_an_id_of_several_sources_asks_for_the_source(api: Api) -> None:
    """The problem names the candidates."""
    for source in ("one", "two"):
        data = {"quantities": {"tokens.input": 1}}
        event = document("same", data=data, source=source)
        api.tallybook.ledger.record([json.dumps(event).encode()])
    found = problem(api.get("/v2/tenants/acme/explain/same"), 422, "ambiguous_id")
    assert "of two" in str(found["detail"])
    answer = api.get("/v2/tenants/acme/explain/same", params={"source": "two"})
    assert answer.json()["source"] == "two"
