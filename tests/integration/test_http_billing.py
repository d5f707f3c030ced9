"""Billing over HTTP: plans, subscriptions, periods, invoices, credit notes, the journal."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from beancount import loader
from fakes.billing_world import TEAM
from fakes.building import document
from fakes.http_market import problem
from fakes.http_world import Api, http_world
from fixtures_postgres import Run

from ledger.domain.errors import Unavailable
from ledger.domain.prices import PriceKey, PriceKind, PriceRow

_KEYS = count()
PLAN = {**TEAM, "currency": "USD"}


@pytest.fixture(scope="module")
def api(postgres_run: Run) -> Iterator[Api]:
    """The application with ledgers, each of which one test changes, and more keys."""
    with postgres_run.database(migrated=True) as url, http_world(url) as opened:
        opened.keyring.add("second", tenant=None, scopes=("finance",))
        opened.keyring.add("third", tenant=None, scopes=("finance",))
        opened.keyring.add("reader", tenant=None, scopes=("read",))
        for tenant in ("acme", "globex", "hooli", "initech", "umbrella"):
            opened.tallybook.tenants.open(tenant)
        for meter in ("tokens.input", "tool.calls"):
            key = PriceKey("openai", "chat", meter)
            early = datetime(2020, 1, 1, tzinfo=UTC)
            row = PriceRow(key=key, effective_from=early, rate=Decimal("0.125"))
            for kind, book in ((PriceKind.COST, ""), (PriceKind.SELL, "default")):
                opened.tallybook.prices.set(row, kind=kind, book=book, by="ann")
        yield opened


def got(answer: Any) -> Any:
    """Return the document of an answer that is no problem."""
    assert answer.status_code == 200, answer.text
    return answer.json()


def ask(api: Api, path: str, *, key: str = "platform", **query: Any) -> Any:
    """Ask for a document."""
    return got(api.get(path, key=key, params=query))


def post(
    api: Api, path: str, document: Any = None, *, key: str = "platform", once: str = ""
) -> Any:
    """Post a command under an idempotency key of its own unless said otherwise."""
    headers = {"Idempotency-Key": once or f"k-{next(_KEYS)}"}
    return api.post(path, document, key=key, headers=headers)


def use(api: Api, tenant: str, id: str, **quantities: int) -> None:
    """Record usage in January 2026; meters are written with ``_`` for the dot."""
    named = {name.replace("_", "."): number for name, number in quantities.items()}
    event = document(id, tenant=tenant, data={"model": "chat", "quantities": named})
    got(api.post("/v2/events", {**event, "time": "2026-01-05T10:00:00Z"}, key="platform"))


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
    assert {(one["act"], one["target"]) for one in acts} >= {
        ("plan.published", "team"),
        ("plan.published", "alone"),
        ("plan.retired", "team"),
    }
    assert "plan_currency_fixed" in {one["outcome"] for one in acts}


def test_a_tenant_is_put_on_a_plan_and_sees_it(api: Api) -> None:
    """Only the platform changes it; a tenant reads its own."""
    got(api.put("/v2/plans/crew", {**PLAN, "name": "crew"}, key="platform"))
    path = "/v2/tenants/acme/subscription"
    assert ask(api, path)["plans"] == []
    said = {"plan": "crew", "from_day": "2026-12-01", "anchor": "2026-12-15"}
    done = got(api.put(path, said, key="platform"))
    held = [{"from_day": "2026-12-01", "plan": "crew", "version": 1}]
    assert done["plans"] == held
    assert got(api.put(path, said, key="platform")) == done
    details = {"party": {"name": "Acme"}, "tax": {"category": "S", "percent": 19}, "series": "DE"}
    seen = got(api.put(f"{path}/details", details, key="platform"))["details"]
    said_tax = {"tax": {"category": "S", "percent": "19"}, "line_taxes": {}}
    assert seen == {**details, **said_tax}
    assert ask(api, path, key="acme")["plans"] == held
    ended = got(api.post(f"{path}/end", {"from_day": "2027-01-15"}, key="platform"))
    assert ended["plans"][-1] == {"from_day": "2027-01-15", "plan": None, "version": None}
    problem(api.put(path, said), 403, "platform_only")
    problem(api.get("/v2/tenants/globex/subscription"), 403, "foreign_tenant")
    problem(api.get("/v2/tenants/none/subscription", key="platform"), 404, "unknown_tenant")
    for bad, code in (
        ({"plan": "crew"}, "invalid_from_day"),
        ({**said, "from_day": "0001-01-01"}, "invalid_from_day"),
        ({**said, "version": 0}, "invalid_version"),
        ({**said, "tenant": "globex"}, "invalid_tenant"),
    ):
        status = 400 if code == "invalid_tenant" else 422
        problem(api.put(path, bad, key="platform"), status, code)
    for odd in (
        {"tax": {"category": "S", "percent": "19", "name": "VAT"}},
        {"buyer": "Acme"},
    ):
        problem(api.put(f"{path}/details", odd, key="platform"), 422, "invalid_details")
    for odd in ({"name": ""}, {"name": "Acme", "country": "UK"}):
        refused = api.put(f"{path}/details", {"party": odd}, key="platform")
        member = "country" if "country" in odd else "name"
        found = problem(refused, 422, "invalid_details")
        assert found["errors"][0]["pointer"] == f"/party/{member}"
    twice = '{"plan": "crew", "plan": "team", "from_day": "2027-02-01"}'
    problem(api.call("PUT", path, content=twice, key="platform"), 400, "invalid_body")
    taxed = api.put(f"{path}/details", {"tax": {"category": "S", "percent": "101"}}, key="platform")
    problem(taxed, 422, "invalid_tax_rate")


# -- periods, invoices and credit notes -------------------------------------------------


def test_a_month_is_billed_from_its_close_to_its_payment(api: Api) -> None:
    """Drafted, made final, credited and paid; its tenant reads all of it and changes nothing."""
    tax = {"category": "S", "percent": "20"}
    settings = {"party": {"name": "Gateway Ltd"}, "tax": tax, "series": "GW"}
    got(api.put("/v2/invoice-settings", settings, key="platform"))
    assert ask(api, "/v2/invoice-settings")["party"] == {"name": "Gateway Ltd"}
    use(api, "globex", "one", tool_calls=300)
    use(api, "globex", "two", tokens_input=100, tool_calls=20)
    preview = ask(api, "/v2/invoices/preview", key="globex", day="2026-01-31")["invoice"]
    assert [line["amount"] for line in preview["lines"]] == ["12.5", "40"]
    taxes = "/v2/tenants/globex/subscription/details"
    got(api.put(taxes, {"line_taxes": {"none": {"category": "E"}}}, key="platform"))
    [told] = ask(api, "/v2/invoices/preview", key="globex", day="2026-01-31")["warnings"]
    assert (told["code"], told["names"]) == ("unused_line_taxes", ["none"])
    got(api.put(taxes, {}, key="platform"))
    close = ("/v2/periods/close", {"tenant": "globex"})
    done = got(post(api, *close, once="close"))
    assert done["drafts"] == [{"tenant": "globex", "id": "2026-01-01"}]
    assert got(post(api, *close, once="close")) == done
    assert got(post(api, *close))["periods"] == 0
    assert got(post(api, "/v2/periods/close?tenant=globex", {}))["tenants"] == 1
    for odd in ("\0", "x" * 257, "", 7):
        for path in ("/v2/periods/close", "/v2/invoices/finalize"):
            problem(post(api, path, {"tenant": odd}), 400, "invalid_tenant")
    two = post(api, "/v2/periods/close?tenant=acme", {"tenant": "globex"})
    problem(two, 400, "invalid_tenant")
    first = ask(api, "/v2/periods", tenant="globex", limit=1)
    rest = ask(api, "/v2/periods", tenant="globex", cursor=first["next"])
    assert first["periods"][0]["state"] == "closed"
    assert first["periods"][0]["invoice"] == "2026-01-01"
    assert len(rest["periods"]) == done["periods"]
    path = "/v2/invoices/2026-01-01"
    assert ask(api, path, key="globex")["status"] == "draft"
    final = got(api.post(f"{path}/finalize?tenant=globex", key="platform"))
    assert (final["status"], final["invoice"]["number"]) == ("finalized", "GW-000001")
    assert (final["invoice"]["net"], final["invoice"]["total"]) == ("52.5", "63")
    assert got(api.post(f"{path}/finalize?tenant=globex", key="platform")) == final
    assert got(post(api, "/v2/invoices/finalize", {"tenant": "globex"}))["finalized"] == 0

    _check_credit_notes(api)
    refused = api.post(f"{path}/void?tenant=globex", key="platform")
    problem(refused, 409, "has_credit_notes")
    paid = api.post(f"{path}/pay?tenant=globex", {"reason": "bank"}, key="platform")
    assert got(paid)["status"] == "paid"
    page = ask(api, "/v2/invoices", key="globex", limit=2)
    more = ask(api, "/v2/invoices", key="globex", limit=2, cursor=page["next"])
    assert [one["status"] for one in (*page["invoices"], *more["invoices"])] == [
        "paid",
        "finalized",
        "finalized",
    ]
    assert len(ask(api, "/v2/invoices", tenant="globex", status="paid")["invoices"]) == 1
    series = {one["series"]: one for one in ask(api, "/v2/invoice-series")["series"]}
    assert series["GW-CN"] == {"series": "GW-CN", "last": 2, "missing": []}
    acts = ask(api, "/v2/audit", tenant="globex", act="invoice")["lines"]
    assert [(one["act"], one["target"], one["outcome"]) for one in reversed(acts)] == [
        ("invoice.finalized", "2026-01-01", "ok"),
        ("invoice.finalized", "2026-01-01", "ok"),
        ("invoice.finalized", None, "ok"),
        ("invoice.credited", "2026-01-01", "ok"),
        ("invoice.credited", "2026-01-01", "ok"),
        ("invoice.credited", "2026-01-01", "exists_with_different_total"),
        ("invoice.credited", "2026-01-01", "ok"),
        ("invoice.credited", "2026-01-01", "ok"),
        ("invoice.credited", "2026-01-01", "ok"),
        ("invoice.credited", "2026-01-01", "exists_with_different_reason"),
        ("invoice.credited", "2026-01-01", "credit_exceeds_invoice"),
        ("invoice.moved", "2026-01-01", "has_credit_notes"),
        ("invoice.moved", "2026-01-01", "ok"),
    ]
    _check_forms(api, path)
    _check_evidence(api, path)
    _check_strangers(api, path)


def _check_credit_notes(api: Api) -> None:
    """A total, or lines, at most what is left; once under a key, whatever became of the answer."""
    note = {"tenant": "globex", "invoice": "2026-01-01", "reason": "outage"}
    given = got(post(api, "/v2/credit-notes", {**note, "total": "12"}, once="cn"))
    assert got(post(api, "/v2/credit-notes", {**note, "total": "12"}, once="cn")) == given
    with api.tallybook.database.connect(purpose="test") as connection:
        connection.execute("DELETE FROM repeats")
    # The answer is lost, as by a crash before it was kept, but the note is not issued again.
    assert got(post(api, "/v2/credit-notes", {**note, "total": "12"}, once="cn")) == given
    with api.tallybook.database.connect(purpose="test") as connection:
        connection.execute("DELETE FROM repeats")
    other = post(api, "/v2/credit-notes", {**note, "total": "13"}, once="cn")
    problem(other, 409, "exists_with_different_total")
    assert given["invoice"]["cites"]["number"] == "GW-000001"
    named = {**note, "lines": {"1": 2.5}, "id": "outage-7"}
    answer = got(api.post("/v2/credit-notes", named, key="platform"))
    byline = answer["invoice"]
    assert (byline["id"], byline["net"], byline["total"]) == ("outage-7", "2.5", "3")
    assert got(api.post("/v2/credit-notes", named, key="platform")) == answer
    assert got(post(api, "/v2/credit-notes", named)) == answer
    other = api.post("/v2/credit-notes", {**named, "reason": "late"}, key="platform")
    problem(other, 409, "exists_with_different_reason")
    assert ask(api, "/v2/invoices/outage-7", key="globex") == answer
    unnamed = api.post("/v2/credit-notes", {**note, "total": "1"}, key="platform")
    problem(unnamed, 400, "idempotency_key_missing")
    too_much = post(api, "/v2/credit-notes", {**note, "total": "48.01"})
    problem(too_much, 409, "credit_exceeds_invoice")
    for refused, code in (
        ({**note, "total": "1", "lines": {"1": "1"}}, "invalid_credit"),
        ({**note, "total": "-1"}, "invalid_total"),
        ({**note, "lines": {"x": "1"}}, "invalid_lines"),
        ({**note, "lines": {}}, "invalid_lines"),
        ({"tenant": "globex", "invoice": "2026-01-01"}, "invalid_reason"),
        ({**note, "id": ""}, "invalid_id"),
        ({**note, "id": "2026-01-01"}, "invalid_id"),
    ):
        problem(post(api, "/v2/credit-notes", refused), 422, code)
    named = '{"tenant": "globex", "invoice": "2026-01-01", "lines": {"1": "1", "1": "2"}}'
    kind = {"Idempotency-Key": "twice", "Content-Type": "application/json"}
    twice = api.call("POST", "/v2/credit-notes", content=named, key="platform", headers=kind)
    problem(twice, 422, "invalid_credit")
    cited = ask(api, "/v2/credit-notes", key="globex", invoice="2026-01-01")["invoices"]
    assert [one["total"] for one in cited] == ["12", "3"]


def _check_forms(api: Api, path: str) -> None:
    """The document alone is that of the digest; its CSV sums to what is due; PDF may be missing."""
    told = api.get(f"{path}/document", key="globex")
    stated = got(told)
    digest = stated.pop("digest")
    assert digest.encode() in told.content
    blank = told.content.replace(f'"digest":"{digest}",'.encode(), b"")
    assert sha256(blank).hexdigest() == digest
    sheet = api.get(f"{path}/document?form=csv", key="globex")
    assert sheet.headers["content-type"] == "text/csv; charset=utf-8"
    assert sheet.headers["content-disposition"] == 'attachment; filename="GW-000001.csv"'
    rows = list(csv.DictReader(io.StringIO(sheet.text)))
    assert sum(Decimal(row["amount"]) for row in rows) == Decimal(stated["due"])
    paper = api.get(f"{path}/document?form=pdf", key="globex")
    assert paper.headers["content-type"] == "application/pdf"
    assert paper.content.startswith(b"%PDF-")
    printer = api.tallybook.printer
    api.tallybook.printer = _NoPrinter()  # type: ignore[assignment] # as without the extra
    missing = problem(api.get(f"{path}/document?form=pdf", key="globex"), 501, "pdf_unavailable")
    api.tallybook.printer = printer
    assert missing["retryable"] is False


class _NoPrinter:
    def pdf(self, invoice: object, *, status: object = None) -> bytes:
        raise Unavailable("not installed", code="pdf_unavailable")


def _check_evidence(api: Api, path: str) -> None:
    """All pages together are the entries behind the line, under one digest."""
    whole = ask(api, f"{path}/lines/2/evidence", key="globex")
    assert [one["id"] for one in whole["entries"]] == ["one", "two"]
    assert whole["chain_holds"] is True
    page = ask(api, f"{path}/lines/2/evidence", key="globex", limit=1)
    rest = ask(api, f"{path}/lines/2/evidence", key="globex", limit=1, cursor=page["next"])
    assert page["entries"] + rest["entries"] == whole["entries"]
    assert (page["digest"], rest["next"]) == (whole["digest"], None)
    problem(api.get(f"{path}/lines/3/evidence", key="globex"), 404, "unknown_line")


def _check_strangers(api: Api, path: str) -> None:
    """Another tenant finds nothing, and neither a tenant nor who only reads changes anything."""
    problem(api.get(path), 404, "unknown_invoice")
    problem(api.get(f"{path}/document?form=pdf"), 404, "unknown_invoice")
    problem(api.get(f"{path}?tenant=globex"), 403, "foreign_tenant")
    problem(api.get(path, key="platform"), 400, "invalid_tenant")
    assert ask(api, "/v2/invoices", key="acme")["invoices"] == []
    for act in ("finalize", "pay", "void", "uncollectible"):
        problem(api.post(f"{path}/{act}", key="globex"), 403, "platform_only")
        refused = api.post(f"{path}/{act}?tenant=globex", key="reader")
        problem(refused, 403, "missing_scope")
    for other in ("/v2/periods?tenant=globex", "/v2/invoice-series", "/v2/invoice-settings"):
        problem(api.get(other, key="globex"), 403, "platform_only")
    for other in ("/v2/periods/close", "/v2/credit-notes", "/v2/invoices/finalize"):
        problem(post(api, other, {}, key="globex"), 403, "platform_only")
        problem(api.post(other, {"tenant": "globex"}, key="reader"), 403, "missing_scope")
    problem(api.post("/v2/periods/close", {}, key="platform"), 400, "idempotency_key_missing")
    late = post(api, "/v2/periods/close", {"tenant": "globex", "grace_hours": 1441})
    problem(late, 422, "invalid_grace_hours")
    gone = api.get("/v2/invoices/preview?tenant=globex&day=2026-01-01", key="platform")
    problem(gone, 409, "period_closed")


def test_a_period_is_opened_again_by_two_keys(api: Api) -> None:
    """The same key twice is one approver, also under another idempotency key."""
    use(api, "hooli", "one", tool_calls=8)
    got(post(api, "/v2/periods/close", {"tenant": "hooli", "finalize": True}))
    closed = [
        one["first_day"]
        for one in ask(api, "/v2/periods", tenant="hooli")["periods"]
        if one["state"] == "closed"
    ]
    reopen = {"tenant": "hooli", "first_day": closed[-1], "reason": "late import"}
    asked = got(post(api, "/v2/periods/reopen", reopen, once="asked"))
    assert asked["state"] == "closed"
    assert got(post(api, "/v2/periods/reopen", reopen, once="asked")) == asked
    with api.tallybook.database.connect(purpose="test") as connection:
        connection.execute("DELETE FROM repeats")
    # The answer is lost, as by a crash before it was kept.
    assert got(post(api, "/v2/periods/reopen", reopen, once="asked")) == asked
    problem(post(api, "/v2/periods/reopen", reopen), 409, "needs_another_approver")
    early = {**reopen, "first_day": closed[0]}
    problem(post(api, "/v2/periods/reopen", early, key="second"), 409, "not_the_latest_period")
    problem(post(api, "/v2/periods/reopen", {**reopen, "reason": ""}), 422, "invalid_reason")
    opened = got(post(api, "/v2/periods/reopen", reopen, key="second"))
    assert (opened["first_day"], opened["state"]) == (closed[-1], "reopened")
    for key in ("platform", "second"):
        assert got(post(api, "/v2/periods/reopen", reopen, key=key)) == opened
    problem(post(api, "/v2/periods/reopen", reopen, key="third"), 404, "unknown_period")
    acts = ask(api, "/v2/audit", tenant="hooli", act="period.reopened")["lines"]
    assert [(one["who"], one["outcome"]) for one in reversed(acts)] == [
        ("key:key-platform", "ok"),
        ("key:key-platform", "ok"),
        ("key:key-platform", "needs_another_approver"),
        ("key:key-second", "not_the_latest_period"),
        ("key:key-second", "ok"),
        ("key:key-platform", "ok"),
        ("key:key-second", "ok"),
    ]


def test_a_void_invoice_is_told_of_until_its_period_is_reopened(api: Api) -> None:
    """By the void itself, the invoice, lists, the period and the close; its tenant reads it too."""
    use(api, "umbrella", "one", tool_calls=8)
    of = {"tenant": "umbrella"}
    close = ("/v2/periods/close", {**of, "grace_hours": 0, "finalize": True})
    assert got(post(api, *close))["warnings"] == []
    path = "/v2/invoices/2026-01-01"
    [told] = got(api.post(f"{path}/void?tenant=umbrella", key="platform"))["warnings"]
    detail = told.pop("detail")
    assert "reopen the period from" in detail
    assert told == {
        "code": "unbilled_voided_invoice",
        **of,
        "first_day": "2026-01-01",
        "invoice": "2026-01-01",
        "number": ask(api, path, **of)["invoice"]["number"],
        "amount": ask(api, path, **of)["invoice"]["due"],
        "currency": "USD",
        "names": [],
    }
    whole = {**told, "detail": detail}
    api.keyring.add("umbrella", tenant="umbrella")
    for answer in (
        ask(api, path, key="umbrella"),
        ask(api, "/v2/invoices", key="umbrella"),
        ask(api, "/v2/invoices", status="void"),
        ask(api, "/v2/periods", **of),
        got(post(api, *close)),
    ):
        assert answer["warnings"] == [whole]
    assert ask(api, "/v2/invoices", status="paid")["warnings"] == []


def test_periods_and_subscriptions_of_all_tenants_come_in_pages(api: Api) -> None:
    """For keys of the platform; the cursor is of the filters with which it was given."""
    whole = ask(api, "/v2/periods", key="reader", limit=1000)
    assert whole["next"] is None
    assert {one["state"] for one in whole["periods"]} <= {"open", "due", "closed", "reopened"}
    found: list[Any] = []
    query: dict[str, Any] = {"limit": 7}
    while query:
        page = ask(api, "/v2/periods", **query)
        found += page["periods"]
        query = {"limit": 7, "cursor": page["next"]} if page["next"] else {}
    assert found == whole["periods"]
    closed = ask(api, "/v2/periods", state="closed", limit=1000)["periods"]
    assert closed == [one for one in found if one["state"] == "closed"]
    overdue = ask(api, "/v2/periods", overdue=True, limit=1000)["periods"]
    assert overdue == [one for one in found if one["overdue"]]
    first = ask(api, "/v2/periods", limit=1)["next"]
    for other in (f"?state=open&cursor={first}", f"?tenant=acme&cursor={first}"):
        problem(api.get(f"/v2/periods{other}", key="platform"), 400, "invalid_cursor")
    for bad in ("state=gone", "overdue=perhaps"):
        problem(api.get(f"/v2/periods?{bad}", key="platform"), 422, "invalid_parameter")
    problem(api.get("/v2/periods?tenant=none", key="platform"), 404, "unknown_tenant")

    everybody = ask(api, "/v2/subscriptions", key="reader")
    names = [one["tenant"] for one in everybody["subscriptions"]]
    assert {"acme", "globex", "hooli"} <= set(names)
    assert everybody["subscriptions"][0] == ask(api, f"/v2/tenants/{names[0]}/subscription")
    page = ask(api, "/v2/subscriptions", limit=1)
    rest = ask(api, "/v2/subscriptions", cursor=page["next"])
    assert page["subscriptions"] + rest["subscriptions"] == everybody["subscriptions"]
    crew = ask(api, "/v2/subscriptions", plan="crew")
    assert [one["tenant"] for one in crew["subscriptions"]] == ["acme"]
    for path in ("/v2/periods", "/v2/periods?tenant=acme", "/v2/subscriptions"):
        problem(api.get(path), 403, "platform_only")


# -- the journal ------------------------------------------------------------------------


def test_the_journal_is_the_platforms_and_reads_back(api: Api, tmp_path: Path) -> None:
    """All pages together are the whole; beancount accepts it; every account is in the balance."""
    use(api, "initech", "one", tool_calls=80, tokens_input=1)
    got(post(api, "/v2/periods/close", {"tenant": "initech", "finalize": True}))
    asked = {"tenant": "initech", "from": "2026-01-01", "to": "2026-02-01"}
    whole = ask(api, "/v2/journal", **asked)["bookings"]
    assert {one["rule"] for one in whole} == {"usage_accrued", "provider_cost_accrued"}
    page = ask(api, "/v2/journal", limit=1, **asked)
    rest = ask(api, "/v2/journal", limit=1000, cursor=page["next"], **asked)
    assert page["bookings"] + rest["bookings"] == whole
    problem(api.get(f"/v2/journal?cursor={page['next']}", key="platform"), 400, "invalid_cursor")
    everything = ask(api, "/v2/journal", limit=1000, tenant="initech")["bookings"]
    balance = ask(api, "/v2/journal/balance", tenant="initech")["accounts"]
    sums: dict[str, Decimal] = {}
    for booking in everything:
        for line in booking["lines"]:
            amount = Decimal(line["amount"])
            sums[line["account"]] = sums.get(line["account"], Decimal(0)) + amount
    assert {one["account"]: Decimal(one["balance"]) for one in balance} == sums
    assert sums["income:usage:tool"] == -10
    early = ask(api, "/v2/journal/balance", tenant="initech", through="2026-01-04")
    assert early["accounts"] == []

    text = api.get("/v2/journal?form=beancount&tenant=initech", key="reader")
    assert text.headers["content-type"] == "text/plain; charset=utf-8"
    made = tmp_path / "books.beancount"
    made.write_bytes(text.content)
    entries, errors, _ = loader.load_file(str(made))
    assert errors == []
    links = {link for entry in entries for link in getattr(entry, "links", ())}
    assert links == {one["id"] for one in everything}
    assert b"income:usage:tool" in api.get("/v2/journal?form=hledger", key="platform").content
    for form in ("netsuite", "quickbooks"):
        sheet = api.get(f"/v2/journal?form={form}&tenant=initech", key="platform")
        assert sheet.headers["content-disposition"] == f'attachment; filename="{form}.csv"'
        assert len(list(csv.reader(io.StringIO(sheet.text)))) > 3
    for query, code in (
        ("form=beancount&limit=1", "invalid_parameter"),
        ("form=ledger", "invalid_parameter"),
        ("from=today", "invalid_from"),
        ("to=2026-13-01", "invalid_to"),
    ):
        problem(api.get(f"/v2/journal?{query}", key="platform"), 422, code)
    problem(api.get("/v2/journal?tenant=none", key="platform"), 404, "unknown_tenant")
    for path in ("/v2/journal", "/v2/journal?tenant=acme", "/v2/journal/balance"):
        problem(api.get(path), 403, "platform_only")
