"""Billing over HTTP: plans, subscriptions, periods, invoices, credit notes, the journal."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from fakes.billing_world import TEAM
from fakes.http_market import problem
from fakes.http_world import Api, http_world

_KEYS = count()
PLAN = {**TEAM, "currency": "USD"}


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    """The application with the ledgers of acme and globex, and a key that only reads."""
    with http_world(database_url) as opened:
        opened.keyring.add("second", tenant=None, scopes=("finance",))
        opened.keyring.add("reader", tenant=None, scopes=("read",))
        for tenant in ("acme", "globex"):
            opened.tallybook.tenants.open(tenant)
        yield opened


def got(answer: Any) -> Any:
    """Return the document of an answer that is no problem."""
    assert answer.status_code == 200, answer.text
    return answer.json()


def ask(api: Api, path: str, *, key: str = "platform", **query: Any) -> Any:
    """Ask for a document."""
    return got(api.get(path, key=key, params=query))


def post(api: Api, path: str, document: Any = None, *, key: str = "platform") -> Any:
    """Post a command under an idempotency key of its own; return the answer."""
    headers = {"Idempotency-Key": f"k-{next(_KEYS)}"}
    return api.post(path, document, key=key, headers=headers)


# -- plans and subscriptions ------------------------------------------------------------


def test_a_plan_has_versions_and_is_the_platforms(api: Api) -> None:
    """The same content is no new version; a retired plan keeps its subscribers."""
    put = ("/v2/plans/team", PLAN)
    first = got(api.put(*put, key="platform"))
    assert (first["version"], first["retired"]) == (1, False)
    assert got(api.put(*put, key="platform"))["latest"] == 1
    second = got(api.put("/v2/plans/team", {**PLAN, "fees": []}, key="platform"))
    assert second["latest"] == 2
    assert ask(api, "/v2/plans/team", version=1)["plan"]["fees"] == PLAN["fees"]
    got(api.put("/v2/plans/alone", {**PLAN, "name": "alone"}, key="platform"))
    page = ask(api, "/v2/plans", key="reader", limit=1)
    rest = ask(api, "/v2/plans", limit=1, cursor=page["next"])
    assert [page["plans"][0]["name"], rest["plans"][0]["name"]] == ["alone", "team"]
    assert rest["next"] is None
    assert got(api.post("/v2/plans/team/retire", key="platform"))["retired"] is True
    subscribe = {"plan": "team", "from_day": "2026-12-01"}
    refused = api.put("/v2/tenants/acme/subscription", subscribe, key="platform")
    problem(refused, 409, "plan_retired")
    problem(api.get("/v2/plans/none", key="platform"), 404, "unknown_plan")
    problem(api.get("/v2/plans/team?version=9", key="platform"), 404, "unknown_plan_version")
    problem(api.get("/v2/plans"), 403, "platform_only")
    problem(api.put(*put, key="reader"), 403, "missing_scope")
    problem(api.put(*put), 403, "platform_only")
    other = api.put("/v2/plans/other", PLAN, key="platform")
    assert problem(other, 422, "invalid_plan")["errors"][0]["pointer"] == "/name"
    euros = api.put("/v2/plans/team", {**PLAN, "currency": "EUR"}, key="platform")
    problem(euros, 409, "plan_currency_fixed")
    acts = ask(api, "/v2/audit", act="plan")["lines"]
    assert {(one["act"], one["target"]) for one in acts} == {
        ("plan.published", "team"),
        ("plan.published", "alone"),
        ("plan.retired", "team"),
    }
    assert "plan_currency_fixed" in {one["outcome"] for one in acts}


def test_a_tenant_is_put_on_a_plan_and_sees_it(api: Api) -> None:
    """Only the platform changes it; a tenant reads its own."""
    got(api.put("/v2/plans/team", PLAN, key="platform"))
    path = "/v2/tenants/acme/subscription"
    assert ask(api, path)["plans"] == []
    said = {"plan": "team", "from_day": "2026-12-01", "anchor": "2026-12-15"}
    done = got(api.put(path, said, key="platform"))
    held = [{"from_day": "2026-12-01", "plan": "team", "version": 1}]
    assert done["plans"] == held
    assert got(api.put(path, said, key="platform")) == done
    details = {"party": {"name": "Acme"}, "tax": {"category": "S", "percent": 19}, "series": "DE"}
    seen = got(api.put(f"{path}/details", details, key="platform"))["details"]
    taxed = {"tax": {"category": "S", "percent": "19"}, "line_taxes": {}}
    assert seen == {**details, **taxed}
    assert ask(api, path, key="acme")["plans"] == held
    ended = got(api.post(f"{path}/end", {"from_day": "2027-01-15"}, key="platform"))
    assert ended["plans"][-1] == {"from_day": "2027-01-15", "plan": None, "version": None}
    problem(api.put(path, said), 403, "platform_only")
    problem(api.get("/v2/tenants/globex/subscription"), 403, "foreign_tenant")
    problem(api.get("/v2/tenants/none/subscription", key="platform"), 404, "unknown_tenant")
    for document, code in (
        ({"plan": "team"}, "invalid_from_day"),
        ({**said, "from_day": "0001-01-01"}, "invalid_from_day"),
        ({**said, "version": 0}, "invalid_version"),
        ({**said, "tenant": "globex"}, "invalid_tenant"),
    ):
        status = 400 if code == "invalid_tenant" else 422
        problem(api.put(path, document, key="platform"), status, code)
    for document in (
        {"tax": {"category": "S", "percent": "19", "name": "VAT"}},
        {"buyer": "Acme"},
    ):
        problem(api.put(f"{path}/details", document, key="platform"), 422, "invalid_details")
    bad = api.put(f"{path}/details", {"tax": {"category": "S", "percent": "101"}}, key="platform")
    problem(bad, 422, "invalid_tax_rate")
