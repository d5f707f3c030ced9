"""Balances over HTTP: spent, held and available apart, now and as they were."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fakes.http_market import authorize, capture, http_market, problem
from fakes.http_world import Api


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    """The application with prices and two tenants."""
    with http_market(database_url) as opened:
        yield opened


def balance(api: Api, tenant: str = "acme", *, key: str | None = None, **query: Any) -> Any:
    """Return a balance."""
    answer = api.get(f"/v2/tenants/{tenant}/balance", key=key or tenant, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def sums(document: dict[str, Any]) -> tuple[str, str, str | None]:
    """Return what is spent, held and available."""
    return document["spent"], document["held"], document["available"]


def test_spent_held_and_available_are_apart_and_never_behind(api: Api) -> None:
    """Each read sees every commit that was answered before it."""
    assert sums(balance(api)) == ("0", "0", None)
    authorize(api, "h-1", quantities={"tokens.input": 4000})
    held = balance(api)
    assert sums(held) == ("0", "4", "96")
    assert (held["bounded_by"], held["open_holds"]) == ("default", 1)
    capture(api, "h-1", 3000)
    spent = balance(api)
    assert sums(spent) == ("3", "0", "97")
    assert spent["periods"][0]["quantities"] == {"tokens.input": "3000"}
    assert spent["total"]["charge"] == "3"
    assert spent["total"]["costs"] == {"USD": "3"}


def test_a_hold_whose_time_is_over_is_not_held(api: Api) -> None:
    """Nobody needs to come by for that: the database's clock decides."""
    authorize(api, "h-1", ttl=1)
    assert balance(api)["held"] == "1"
    expired_at = time.monotonic() + 30
    while balance(api)["held"] != "0":
        assert time.monotonic() < expired_at
    assert balance(api)["open_holds"] == 0


def test_the_tightest_bound_is_named(api: Api) -> None:
    """A narrower cap, required credit and a closed cap each bound what is available."""
    budgets = api.tallybook.budgets
    budgets.set({"cap": "50"}, tenant="acme", name="wide", by="ann")
    budgets.set({"cap": "7", "window": "day"}, tenant="acme", name="day", by="ann")
    budgets.set({"cap": "1", "scope": "user=u"}, tenant="acme", name="user", by="ann")
    budgets.set({"alert": "1"}, tenant="acme", name="told", by="ann")
    found = balance(api)
    assert (found["available"], found["bounded_by"]) == ("7", "day")
    assert [one["budget"] for one in found["caps"]] == ["wide", "day"]
    api.tallybook.credits.grant({"id": "g", "amount": "5"}, tenant="acme")
    assert balance(api)["bounded_by"] == "day"
    api.tallybook.credits.policy(tenant="acme", required=True, by="ann")
    found = balance(api)
    assert (found["available"], found["bounded_by"]) == ("5", "credit")
    assert found["credit"] == {"required": True, "free": "5", "held": "0", "owed": "0"}
    budgets.close("wide", tenant="acme", by="ann")
    found = balance(api)
    assert (found["available"], found["bounded_by"]) == ("0", "wide")


def test_a_balance_as_of_a_commit_is_what_was_answered_then(api: Api) -> None:
    """Folding the log up to there gives every member as the rows had it."""
    seen = [balance(api)]
    for step in (
        lambda: authorize(api, "h-1", quantities={"tokens.input": 4000}),
        lambda: capture(api, "h-1", 5000),
        lambda: api.tallybook.credits.grant({"id": "g", "amount": "5"}, tenant="acme"),
        lambda: api.tallybook.credits.policy(tenant="acme", required=True, by="ann"),
        lambda: authorize(api, "h-2", quantities={"tokens.input": 2000}),
        lambda: api.post(
            "/v2/captures/c-h-1/reverse", {"reversal": "r", "amount": "1", "reason": "wrong"}
        ),
        lambda: api.tallybook.budgets.set({"cap": "9"}, tenant="acme", name="n", by="ann"),
        lambda: api.post("/v2/holds/h-2/void", {"void": "v"}),
    ):
        step()
        seen.append(balance(api))
    versions = [one["version"] for one in seen]
    assert versions == sorted(set(versions))
    for one in seen:
        assert balance(api, as_of=str(one["version"])) == one


def test_a_balance_as_of_a_moment_counts_what_was_recorded_until_then(api: Api) -> None:
    """The moment is the database's time of the commits."""
    authorize(api, "h-1")
    between = api.tallybook.reads.now().isoformat()
    capture(api, "h-1", 3000)
    assert sums(balance(api, as_of=between)) == ("0", "1", "99")


@pytest.mark.parametrize("as_of", ["0", "999", "yesterday", "2026-11-01T00:00:00", "-1", ""])
def test_an_as_of_that_names_no_state_is_refused(api: Api, as_of: str) -> None:
    """Neither a commit that is not there nor a time without an offset is guessed at."""
    answer = api.get("/v2/tenants/acme/balance", params={"as_of": as_of})
    problem(answer, 422, "invalid_as_of")


def test_an_as_of_before_the_ledger_or_to_come_is_refused(api: Api) -> None:
    """A ledger has no balance then."""
    for at in (datetime(2001, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(days=1)):
        answer = api.get("/v2/tenants/acme/balance", params={"as_of": at.isoformat()})
        problem(answer, 422, "invalid_as_of")


def test_a_parameter_that_does_not_exist_is_refused(api: Api) -> None:
    """A typing error must not answer another question than was asked."""
    problem(api.get("/v2/tenants/acme/balance", params={"asof": "1"}), 422, "invalid_query")


def test_another_tenant_s_balance_is_forbidden_and_nobody_s_is_not_there(api: Api) -> None:
    """A key of the platform reads any."""
    problem(api.get("/v2/tenants/globex/balance"), 403, "foreign_tenant")
    problem(api.get("/v2/tenants/nobody/balance", key="platform"), 404, "unknown_tenant")
    assert balance(api, "globex", key="platform")["tenant"] == "globex"


def test_a_tenant_may_have_any_name(api: Api) -> None:
    """Slashes, percent signs and letters of other scripts are encoded in the path."""
    name = "a/b%2Fc d/balance/ü?#"
    api.tallybook.tenants.open(name)
    path = "/v2/tenants/a%2Fb%252Fc%20d%2Fbalance%2F%C3%BC%3F%23/balance"
    assert api.get(path, key="platform").json()["tenant"] == name


def test_many_readers_at_once_each_get_their_own_tenant(api: Api) -> None:
    """Readers of one batch are not mixed up, and names without a ledger are told so."""
    for n in range(5):
        api.tallybook.tenants.open(f"t-{n}")
        api.tallybook.budgets.set({"cap": str(n + 1)}, tenant=f"t-{n}", name="n", by="ann")

    def read(n: int) -> tuple[int, Any]:
        answer = api.get(f"/v2/tenants/t-{n % 6}/balance", key="platform")
        return answer.status_code, answer.json().get("available")

    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(read, range(60)))
    expected: list[tuple[int, Any]] = [(200, str(n + 1)) for n in range(5)]
    assert found == [*expected, (404, None)] * 10
