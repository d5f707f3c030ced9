"""Acts over HTTP are in the audit log, whatever the route."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fakes.billing_world import TEAM
from fakes.building import wire
from fakes.http_market import http_market
from fakes.http_world import Api

T = "/v2/tenants/acme"
PRICE = {"provider": "openai", "model": "new", "meter": "tokens.input", "rate": "2.50"}
KEY = {"name": "gateway", "tenant": "acme", "scopes": ["read"]}
NO_ACTS = {
    "POST /v2/events",
    "POST /v2/normalize",
    "POST /v2/holds",
    "POST /v2/holds/{hold}/extend",
    "POST /v2/holds/{hold}/progress",
    "POST /v2/holds/{hold}/capture",
    "POST /v2/holds/{hold}/void",
    "POST /v2/captures/{capture}/reverse",
    "POST /v2/simulate",
    "POST /v1/usage",
    "POST /compat/lago/api/v1/events",
    "POST /compat/lago/api/v1/events/batch",
    "POST /compat/lago/{provider}/api/v1/events",
    "POST /compat/lago/{provider}/api/v1/events/batch",
    "POST /compat/openmeter/api/v1/events",
    "POST /compat/openmeter/{provider}/api/v1/events",
}
"""What gateways do with each call: their keys' uses are counted, and the ledger says the rest."""

OF = "?tenant=acme"
LATEST = "of the latest closed period, whenever this runs"
BILLING: list[tuple[str, str, str, Any]] = [
    ("PUT /v2/plans/{plan}", "plan.published", "/v2/plans/team", {**TEAM, "currency": "USD"}),
    (
        "PUT {tenant}/subscription",
        "subscription.set",
        f"{T}/subscription",
        {"plan": "team", "from_day": "2027-12-01"},
    ),
    (
        "POST {tenant}/subscription/end",
        "subscription.ended",
        f"{T}/subscription/end",
        {"from_day": "2028-01-01"},
    ),
    (
        "PUT {tenant}/subscription/details",
        "billing.details_set",
        f"{T}/subscription/details",
        {"series": "DE"},
    ),
    (
        "PUT /v2/invoice-settings",
        "billing.settings_set",
        "/v2/invoice-settings",
        {"series": "GW"},
    ),
    ("POST /v2/plans/{plan}/retire", "plan.retired", "/v2/plans/team/retire", {}),
    ("POST /v2/periods/close", "period.closed", f"/v2/periods/close{OF}", {}),
    (
        "POST /v2/invoices/{invoice}/finalize",
        "invoice.finalized",
        f"/v2/invoices/2026-05-01/finalize{OF}",
        {},
    ),
    ("POST /v2/invoices/finalize", "invoice.finalized", f"/v2/invoices/finalize{OF}", {}),
    (
        "POST /v2/credit-notes",
        "invoice.credited",
        f"/v2/credit-notes{OF}",
        {"invoice": "2026-05-01", "total": "0.01", "reason": "late"},
    ),
    ("POST /v2/invoices/{invoice}/pay", "invoice.moved", f"/v2/invoices/2026-05-01/pay{OF}", {}),
    (
        "POST /v2/invoices/{invoice}/uncollectible",
        "invoice.moved",
        f"/v2/invoices/2026-06-01/uncollectible{OF}",
        {"reason": "gone"},
    ),
    (
        "POST /v2/invoices/{invoice}/void",
        "invoice.moved",
        f"/v2/invoices/2026-07-01/void{OF}",
        {"reason": "wrong"},
    ),
    (
        "POST /v2/periods/reopen",
        "period.reopened",
        f"/v2/periods/reopen{OF}",
        {"first_day": LATEST, "reason": "late"},
    ),
]
"""Of usage from May to July: closed, made final, and each invoice to another end."""


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    """Give the application with prices and two tenants."""
    with http_market(database_url) as opened:
        yield opened


def acts(api: Api, receipts: list[str]) -> list[tuple[str, str, str, Any]]:
    """Return a request of each route that acts, with the act, in the order in which they work."""
    issued = api.tallybook.keys.issue(KEY, by="ann").key.id
    versions = [row.version for row in api.tallybook.prices.list().records]
    return [
        ("PUT {tenant}", "tenant.opened", "/v2/tenants/initech", {}),
        (
            "PUT {tenant}/budgets/{budget}",
            "budget.set",
            f"{T}/budgets/m",
            {"limit": "5", "steps": [{"kind": "confirm"}]},
        ),
        (
            "POST {tenant}/budgets/{budget}/confirmations",
            "budget.confirmed",
            f"{T}/budgets/m/confirmations",
            {"id": "c-1", "ceiling": "9"},
        ),
        (
            "PUT /v2/policies/default-cap",
            "default_cap.set",
            "/v2/policies/default-cap",
            {"limit": "5", "currency": "USD"},
        ),
        (
            "PUT {tenant}/default-cap",
            "default_cap.waived",
            "/v2/tenants/globex/default-cap",
            {"waived": True},
        ),
        (
            "POST {tenant}/credits/grants",
            "credit.granted",
            f"{T}/credits/grants",
            {"id": "g-1", "amount": "3"},
        ),
        (
            "POST {tenant}/credits/refunds",
            "credit.refunded",
            f"{T}/credits/refunds",
            {"id": "r-1", "grant": "g-1", "amount": "1"},
        ),
        (
            "POST {tenant}/credits/transfers",
            "credit.transferred",
            f"{T}/credits/transfers",
            {"id": "t-1", "grant": "g-1", "amount": "1", "to": "globex"},
        ),
        (
            "PUT {tenant}/credits/policy",
            "credit.policy_set",
            f"{T}/credits/policy",
            {"required": True},
        ),
        (
            "PUT {tenant}/entitlements",
            "entitlements.set",
            f"{T}/entitlements",
            {"models": ["gpt"]},
        ),
        (
            "POST /v2/events/{receipt}/adjust",
            "usage.adjusted",
            f"/v2/events/{receipts[0]}/adjust?tenant=acme",
            {"id": "f-1", "quantities": {"tokens.input": "1"}},
        ),
        (
            "POST /v2/events/{receipt}/void",
            "usage.voided",
            f"/v2/events/{receipts[1]}/void?tenant=acme",
            {"id": "f-2"},
        ),
        ("POST /v2/keys", "key.issued", "/v2/keys?tenant=acme", {"name": "k", "scopes": ["read"]}),
        (
            "POST /v2/keys/{key}/rotate",
            "key.rotated",
            f"/v2/keys/{issued}/rotate?tenant=acme",
            {},
        ),
        (
            "POST /v2/keys/{key}/revoke",
            "key.revoked",
            f"/v2/keys/{issued}/revoke?tenant=acme",
            {},
        ),
        ("POST /v2/prices", "price.set", "/v2/prices", PRICE),
        ("POST /v2/prices/approve", "price.approved", "/v2/prices/approve", {"all": True}),
        ("POST /v2/prices/markup", "price.markup_set", "/v2/prices/markup", {"percent": "20"}),
        (
            "POST /v2/prices/retire",
            "price.retired",
            "/v2/prices/retire",
            {"versions": versions[:1]},
        ),
        ("POST /v2/prices/proposals", "price.pulled", "/v2/prices/proposals", {}),
        *BILLING,
    ]


def said(api: Api, document: dict[str, Any]) -> dict[str, Any]:
    """Return what is sent, with the day that is known by now."""
    if document.get("first_day") != LATEST:
        return document
    listed = api.get(f"/v2/periods{OF}", key="platform").json()["periods"]
    closed = [one["first_day"] for one in listed if one["state"] == "closed"]
    return {**document, "first_day": closed[-1]}


def test_an_act_of_every_route_has_a_line_with_its_key_and_request(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A route that is added must be here, or among those that only gateways call."""
    monkeypatch.setattr(api.tallybook.prices, "pull", lambda *_, **__: {})
    receipts = [
        api.post("/v2/events", json.loads(wire(f"e-{n}")), key="acme").json()["receipt"]
        for n in (1, 2)
    ]
    for month in (5, 6, 7):
        used = {"model": "gpt", "quantities": {"tokens.input": 1000}}
        event = wire(f"m-{month}", time=f"2026-{month:02}-05T10:00:00Z", data=used)
        assert api.post("/v2/events", json.loads(event), key="acme").status_code == 200
    before = len(api.tallybook.audit_log.list())
    known = set()
    for number, (route, act, path, document) in enumerate(acts(api, receipts)):
        method, _, template = route.partition(" ")
        known.add(f"{method} {template.replace('{tenant}', '/v2/tenants/{tenant}', 1)}")
        headers = {"X-Request-Id": f"req-{number}", "Idempotency-Key": f"k-{number}"}
        answer = api.call(method, path, key="platform", json=said(api, document), headers=headers)
        assert answer.status_code == 200, (route, answer.text)
        line = api.tallybook.audit_log.list()[0]
        assert (line.act, line.request_id, line.outcome) == (act, f"req-{number}", "ok")
        assert (line.who, line.via) == ("key:key-platform", "http")
        assert line.address
        named = path.split("/")[3] if path.startswith("/v2/tenants/") else ""
        assert line.tenant == ("acme" if "tenant=acme" in path else named)
    assert len(api.tallybook.audit_log.list()) == before + len(known)
    served = {
        f"{method.upper()} {path}"
        for path, methods in api.get("/openapi.json", key=None).json()["paths"].items()
        for method in methods
        if method != "get"
    }
    assert served - NO_ACTS == known
    details = {line.act: line.detail for line in api.tallybook.audit_log.list()}
    assert details["budget.set"]["document"]["limit"] == "5"
    assert details["usage.adjusted"]["quantities"] == {"tokens.input": "1"}


def test_what_was_turned_away_or_only_asked_has_no_line(api: Api) -> None:
    """A request that reached no use case is no act."""
    assert api.put("/v2/tenants/globex/budgets/monthly", {"cap": "5"}).status_code == 403
    assert api.get(f"{T}/budgets").status_code == 200
    assert api.tallybook.audit_log.list(tenant="acme") == []
    assert api.tallybook.audit_log.list(tenant="globex") == []
