"""Holds, decisions, budgets, credit and entitlements over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fakes.http_market import authorize, capture, http_market, problem
from fakes.http_world import Api

from adapters.http.routes import questions
from ledger.domain.entries import UsageRecorded

T = "/v2/tenants/acme"


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    """The application with prices and two tenants."""
    with http_market(database_url) as opened:
        yield opened


def got(answer: Any) -> Any:
    """Return the document of an answer that is no problem."""
    assert answer.status_code == 200, answer.text
    return answer.json()


def pages(api: Api, path: str, member: str, **query: Any) -> Iterator[list[Any]]:
    """Yield the pages of a listing."""
    cursor: dict[str, str] = {}
    while True:
        document = got(api.get(path, params={**query, **cursor}))
        yield document[member]
        if document["next"] is None:
            return
        cursor = {"cursor": document["next"]}


# -- holds ------------------------------------------------------------------------------


def test_a_hold_is_shown_with_what_it_reserves_and_what_became_of_it(api: Api) -> None:
    """Before and after its capture."""
    authorize(api, "h-1", quantities={"tokens.input": 4000}, user="u1")
    hold = got(api.get("/v2/holds/h-1"))
    assert (hold["status"], hold["reserved"], hold["user"]) == ("open", "4", "u1")
    capture(api, "h-1", 5000)
    hold = got(api.get("/v2/holds/h-1"))
    assert (hold["status"], hold["reserved"], hold["overrun"]) == ("captured", "0", "1")
    problem(api.get("/v2/holds/h-2"), 404, "hold_not_found")


@pytest.mark.parametrize(
    ("hold", "path"),
    [
        ("a/b", "a%2Fb"),
        ("a/capture", "a%2Fcapture"),
        ("/", "%2f"),
        ("100%", "100%25"),
        ("%2F", "%252F"),
        ("ünï ☃", "%C3%BCn%C3%AF%20%E2%98%83"),
        ("a?b#c", "a%3Fb%23c"),
        ("\ue000", "%EE%80%80"),
    ],
)
def test_an_id_may_hold_any_character(api: Api, hold: str, path: str) -> None:
    """It is one segment of the path, encoded; every operation finds the same hold."""
    authorize(api, hold)
    base = f"/v2/holds/{path}"
    assert got(api.get(base))["hold"] == hold
    checkpoint = {"step": 1, "quantities": {"tokens.input": 10}}
    assert got(api.post(f"{base}/progress", checkpoint))["status"] == "progressed"
    assert got(api.post(f"{base}/extend", {"step": 1, "amount": "2"}))["status"] == "extended"
    final = {"capture": hold, "quantities": {"tokens.input": 20}}
    assert got(api.post(f"{base}/capture", final))["status"] == "captured"
    assert got(api.post(f"{base}/void", {"void": "v"}))["status"] == "hold_already_captured"
    taken_back = {"reversal": "r", "amount": "0.01"}
    assert got(api.post(f"/v2/captures/{path}/reverse", taken_back))["status"] == "reversed"


def test_a_path_with_control_characters_leads_nowhere(api: Api) -> None:
    """No id has them, and none may be taken for a slash."""
    authorize(api, "a/b")
    for path in ("a%1Fb", "a%00b", "a%0Ab", "a%C2%85b"):
        problem(api.get(f"/v2/holds/{path}"), 404, "unknown_path")


def test_holds_are_listed_by_what_became_of_them(api: Api) -> None:
    """Open, expired and overrun ones apart."""
    for hold in ("open", "over", "done"):
        authorize(api, hold)
    capture(api, "over", 2000)
    capture(api, "done", 100)
    listed = {
        only: {one["hold"] for one in got(api.get("/v2/holds", params={"only": only}))["holds"]}
        for only in ("open", "expired", "overrun")
    }
    assert listed == {"open": {"open"}, "expired": set(), "overrun": {"over"}}
    problem(api.get("/v2/holds", params={"only": "closed"}), 422, "invalid_parameter")


@pytest.mark.parametrize("same_time", [False, True])
def test_holds_come_in_pages_while_more_arrive(api: Api, same_time: bool) -> None:
    """Every one that was there is on one page, also where they expire at one time."""
    ids = [f"h-{n}" for n in range(7)]
    if same_time:
        queue = api.tallybook.sequencer
        from ledger.application import asks

        commands = [
            queue.prepare(asks.authorize_hold({"hold": id, "amount": "1"}, tenant="acme"))
            for id in ids
        ]
        queue.submit(commands).result()
    else:
        for n, id in enumerate(ids):
            authorize(api, id, ttl=300 + n)
    seen: list[str] = []
    for page in pages(api, "/v2/holds", "holds", limit=3, only="open"):
        seen += [one["hold"] for one in page]
        authorize(api, f"more-{len(seen)}", ttl=3000)
    assert sorted(seen) == ids


# -- evidence ---------------------------------------------------------------------------

RAW = (
    '{ "z": 1.50, "a":\t1.0,\n "e": 1e3, "n": 123456789.125, "u": "\\u00fc", "f": 0.1,'
    ' "big": 9007199254740991 }'
)


def stored_raw(api: Api, capture: str) -> str:
    """Return the evidence of a capture as the log has it."""
    [located] = api.tallybook.reads.find_id(capture, tenant="acme")[:1]
    for entry in located.commit.entries:
        if isinstance(entry, UsageRecorded) and entry.extra is not None:
            return entry.extra.raw.decode()
    raise AssertionError("no usage was recorded")


@pytest.mark.parametrize("member", ['"raw"', '"\\u0072aw"'])
def test_raw_is_kept_as_it_was_sent(api: Api, member: str) -> None:
    """Digits, blanks, order and escapes: evidence is not re-written."""
    body = f'{{"capture": "c", "quantities": {{"tokens.input": 1}}, {member}: {RAW}}}'
    answer = api.post("/v2/holds/h/capture", content=body.encode())
    assert got(answer)["status"] == "captured_unmatched"
    assert stored_raw(api, "c") == RAW
    again = api.post("/v2/holds/h/capture", content=body.encode())
    assert got(again)["status"] == "exists"


def test_raw_may_be_sent_as_text(api: Api) -> None:
    """What the text says is kept, not its quotes."""
    document = {"capture": "c", "quantities": {"tokens.input": 1}, "raw": RAW}
    got(api.post("/v2/holds/h/capture", document))
    assert stored_raw(api, "c") == RAW


def test_raw_that_has_no_canonical_form_is_refused(api: Api) -> None:
    """A number too large for any reader is no evidence."""
    body = b'{"capture": "c", "quantities": {"tokens.input": 1}, "raw": {"n": 1e999}}'
    problem(api.post("/v2/holds/h/capture", content=body), 422, "invalid_raw")


# -- decisions --------------------------------------------------------------------------


def test_a_denial_names_the_policies_that_it_violates(api: Api) -> None:
    """A cap, a confirm step, an entitlement, a missing price; an allowed call names none."""
    budgets = api.tallybook.budgets
    budgets.set({"cap": "5"}, tenant="acme", name="month", by="ann")
    steps = [{"kind": "confirm"}]
    budgets.set({"limit": "3", "steps": steps}, tenant="acme", name="careful", by="ann")
    assert "violated_policies" not in authorize(api, "h-1")
    confirm = authorize(api, "h-2", quantities={"tokens.input": 4000})
    assert (confirm["decision"], confirm["violated_policies"]) == ("confirm", ["budget:careful"])
    deny = authorize(api, "h-3", quantities={"tokens.input": 9000})
    assert (deny["decision"], deny["suggested_status"]) == ("deny", 402)
    assert "budget:month" in deny["violated_policies"]
    unpriced = authorize(api, "h-4", model="mystery")
    assert [one.partition(":")[0] for one in unpriced["violated_policies"]] == ["unpriced"] * 2
    got(api.put(f"{T}/entitlements", {"models": ["mini"]}))
    barred = authorize(api, "h-5")
    assert barred["violated_policies"] == ["entitlement:model:gpt"]
    kept = got(api.get("/v2/decisions"))["decisions"]
    assert [one["violated_policies"] for one in reversed(kept)] == [
        [],
        *(one["violated_policies"] for one in (confirm, deny, unpriced, barred)),
    ]


def test_decisions_are_found_by_hold_by_decision_and_by_time(api: Api) -> None:
    """All conditions hold."""
    api.tallybook.budgets.set({"cap": "5"}, tenant="acme", name="month", by="ann")
    authorize(api, "h-1")
    authorize(api, "h-2", quantities={"tokens.input": 9000})
    between = api.tallybook.reads.now().isoformat()
    authorize(api, "h-3")

    def holds(**query: str) -> list[str]:
        return [one["hold"] for one in got(api.get("/v2/decisions", params=query))["decisions"]]

    assert holds() == ["h-3", "h-2", "h-1"]
    assert holds(hold="h-2") == ["h-2"]
    assert holds(decision="deny") == ["h-2"]
    assert holds(since=between) == ["h-3"]
    assert holds(since=between, decision="deny") == []
    problem(api.get("/v2/decisions", params={"since": "today"}), 422, "invalid_since")
    problem(api.get("/v2/decisions", params={"decision": "maybe"}), 422, "invalid_parameter")


def test_decisions_come_in_pages_as_of_a_commit(api: Api) -> None:
    """What arrives between two pages is on neither."""
    for n in range(5):
        authorize(api, f"h-{n}")
    version = got(api.get("/v2/decisions"))["version"]
    seen: list[str] = []
    for page in pages(api, "/v2/decisions", "decisions", limit=2, as_of=version):
        seen += [one["hold"] for one in page]
        authorize(api, f"more-{len(seen)}")
    assert seen == [f"h-{n}" for n in reversed(range(5))]
    later = got(api.get("/v2/decisions", params={"as_of": version}))["decisions"]
    assert [one["hold"] for one in later] == seen


def test_a_rare_decision_is_found_in_short_pages(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page looks at some commits only; those after it go on where it stopped."""
    monkeypatch.setattr(questions, "MOST_COMMITS", 2)
    api.tallybook.budgets.set({"cap": "5"}, tenant="acme", name="month", by="ann")
    authorize(api, "rare", quantities={"tokens.input": 9000})
    for n in range(5):
        authorize(api, f"h-{n}", quantities={"tokens.input": 1})
    found = list(pages(api, "/v2/decisions", "decisions", decision="deny"))
    assert len(found) > 2
    assert [one["hold"] for page in found for one in page] == ["rare"]


# -- budgets ----------------------------------------------------------------------------


def test_setting_a_budget_again_changes_nothing(api: Api) -> None:
    """A PUT may be repeated: not even a commit is made."""
    terms = {"cap": "500", "window": "day", "scope": "user=u1"}
    first = got(api.put(f"{T}/budgets/ann%2Fu1", terms))
    assert (first["budget"], first["limit"], first["scope"]) == ("ann/u1", "500", "user=u1")
    version = api.tallybook.reads.tenant("acme").version
    assert got(api.put(f"{T}/budgets/ann%2Fu1", terms)) == first
    assert api.tallybook.reads.tenant("acme").version == version
    assert got(api.get(f"{T}/budgets/ann%2Fu1")) == first


def test_a_budget_is_closed_opened_and_ended_by_its_state(api: Api) -> None:
    """Each may be repeated; terms with another limit do not open a closed one."""
    got(api.put(f"{T}/budgets/m", {"cap": "5"}))
    for _ in range(2):
        assert got(api.put(f"{T}/budgets/m", {"state": "closed"}))["state"] == "closed"
    assert got(api.put(f"{T}/budgets/m", {"cap": "6"}))["state"] == "closed"
    assert authorize(api, "h-1")["code"] == "denied_budget_closed"
    assert got(api.put(f"{T}/budgets/m", {"state": "open"}))["state"] == "open"
    for _ in range(2):
        assert got(api.put(f"{T}/budgets/m", {"state": "ended"}))["state"] == "ended"
    problem(api.get(f"{T}/budgets/m"), 404, "unknown_budget")
    problem(api.put(f"{T}/budgets/other", {"state": "ended"}), 404, "unknown_budget")
    assert got(api.get(f"{T}/budgets"))["budgets"] == []
    assert len(got(api.get(f"{T}/budgets", params={"ended": "true"}))["budgets"]) == 1


@pytest.mark.parametrize(
    ("terms", "code", "pointer"),
    [
        ({"cap": "-1"}, "invalid_cap", "/cap"),
        ({"cap": "5", "windw": "day"}, "unknown_member", "/windw"),
        ({"limit": "5", "steps": [{"kind": "halt"}]}, "invalid_steps", "/steps/0/kind"),
        ({"state": "gone"}, "invalid_state", "/state"),
        ({}, "invalid_limit", "/limit"),
    ],
)
def test_terms_that_cannot_be_read_are_pointed_at(
    api: Api, terms: dict[str, Any], code: str, pointer: str
) -> None:
    """The problem has the JSON pointer of the member."""
    found = problem(api.put(f"{T}/budgets/m", terms), 422, code)
    assert found["errors"][0]["pointer"] == pointer


def test_a_confirmation_raises_the_ceiling_once_and_says_who(api: Api) -> None:
    """The key stands for who confirms where nobody is named; the same id again changes nothing."""
    got(api.put(f"{T}/budgets/m", {"limit": "3", "steps": [{"kind": "confirm"}]}))
    confirmation = {"id": "c-1", "ceiling": "10"}
    path = f"{T}/budgets/m/confirmations"
    first = got(api.post(path, confirmation))
    assert (first["ceiling"], first["confirmed"]) == ("10", True)
    assert got(api.post(path, confirmation)) == first
    problem(api.post(path, {**confirmation, "ceiling": "11"}), 409, "conflict")
    assert authorize(api, "h-1", quantities={"tokens.input": 9000})["decision"] == "allow"


def test_budgets_come_in_pages(api: Api) -> None:
    """In order of their names."""
    names = [f"b-{n}" for n in range(5)]
    for name in names:
        got(api.put(f"{T}/budgets/{name}", {"alert": "1"}))
    found = [
        one["budget"] for page in pages(api, f"{T}/budgets", "budgets", limit=2) for one in page
    ]
    assert found == names


def test_a_default_cap_is_set_and_waived_for_all_or_for_one(api: Api) -> None:
    """Only keys of the platform say what holds for all tenants."""
    path = "/v2/policies/default-cap"
    problem(api.get(path), 403, "platform_only")
    problem(api.put(path, {"limit": "5"}), 403, "platform_only")
    assert got(api.get(path, key="platform"))["limits"] == {}
    said = got(api.put(path, {"limit": "5", "currency": "USD"}, key="platform"))
    assert (said["limits"], said["by"]) == ({"USD": "5"}, "key:key-platform")
    assert authorize(api, "h-1", quantities={"tokens.input": 6000})["decision"] == "deny"
    waiver = got(api.put(f"{T}/default-cap", {"waived": True}))
    assert waiver["caps"] == []
    assert authorize(api, "h-2", quantities={"tokens.input": 6000})["decision"] == "allow"
    assert got(api.put(path, {"waived": True}, key="platform"))["waived"] is True
    problem(api.put(path, {"waived": False}, key="platform"), 422, "invalid_waived")
    problem(api.put(path, {"waived": True, "limit": "1"}, key="platform"), 422, "invalid_waived")
    problem(api.put(path, {"currency": "USD"}, key="platform"), 422, "invalid_limit")


# -- credit and entitlements ------------------------------------------------------------


def test_credit_is_granted_refunded_and_passed_on(api: Api) -> None:
    """Each command has an id of its own and may be repeated."""
    path = f"{T}/credits"
    grant = {"id": "g-1", "amount": "50", "kind": "paid"}
    assert got(api.post(f"{path}/grants", grant))["status"] == "accepted"
    assert got(api.post(f"{path}/grants", grant))["status"] == "duplicate"
    problem(api.post(f"{path}/grants", {**grant, "amount": "51"}), 409, "conflict")
    refund = {"id": "r-1", "grant": "g-1", "amount": "10"}
    assert got(api.post(f"{path}/refunds", refund)) == got(api.post(f"{path}/refunds", refund))
    transfer = {"id": "t-1", "grant": "g-1", "amount": "available", "to": "globex"}
    problem(api.post(f"{path}/transfers", transfer), 403, "platform_only")
    done = got(api.post(f"{path}/transfers", transfer, key="platform"))
    assert (done["amount"], done["to"]) == ("40", "globex")
    assert got(api.get(path))["free"] == "0"
    there = got(api.get("/v2/tenants/globex/credits", key="globex"))
    assert (there["free"], len(there["grants"])) == ("40", 1)


def test_credit_can_be_required_and_made_optional(api: Api) -> None:
    """A hold without credit is refused while it is."""
    path = f"{T}/credits/policy"
    assert got(api.put(path, {"required": True}))["required"] is True
    denied = authorize(api, "h-1")
    assert (denied["decision"], denied["violated_policies"]) == ("deny", ["credit"])
    got(api.put(path, {"required": False}))
    assert authorize(api, "h-2")["decision"] == "allow"
    problem(api.put(path, {"required": "yes"}), 422, "invalid_required")


def test_grants_come_in_pages_below_the_same_totals(api: Api) -> None:
    """The sums are of all grants, whatever page is shown."""
    for n in range(5):
        got(api.post(f"{T}/credits/grants", {"id": f"g-{n}", "amount": "1"}))
    document = got(api.get(f"{T}/credits", params={"limit": 2}))
    assert (document["free"], len(document["grants"])) == ("5", 2)
    found = [one["id"] for page in pages(api, f"{T}/credits", "grants", limit=2) for one in page]
    assert found == [f"g-{n}" for n in range(5)]


def test_entitlements_are_replaced_as_a_whole(api: Api) -> None:
    """A kind without a list follows the default."""
    assert got(api.get(f"{T}/entitlements")) == {"tenant": "acme", "default": "allow"}
    wanted = {"default": "deny", "providers": ["openai"], "tools": []}
    assert got(api.put(f"{T}/entitlements", wanted)) == {"tenant": "acme", **wanted}
    assert got(api.get(f"{T}/entitlements")) == {"tenant": "acme", **wanted}
    assert got(api.put(f"{T}/entitlements", {})) == {"tenant": "acme", "default": "allow"}


# -- who may ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scopes", "method", "path", "allowed"),
    [
        (("read",), "GET", "/v2/holds", True),
        (("holds:write",), "GET", "/v2/holds", True),
        (("events:write",), "GET", "/v2/holds", False),
        (("holds:write",), "PUT", f"{T}/budgets/m", False),
        (("finance",), "PUT", f"{T}/budgets/m", True),
        (("support",), "PUT", f"{T}/budgets/m", False),
        (("read",), "POST", f"{T}/credits/grants", False),
        (("finance",), "PUT", f"{T}/entitlements", False),
    ],
)
def test_each_route_opens_to_its_scopes_alone(
    api: Api, scopes: tuple[str, ...], method: str, path: str, allowed: bool
) -> None:
    """The check comes before the body is looked at."""
    api.keyring.add("some", tenant="acme", scopes=scopes)
    body = None if method == "GET" else {"cap": "1"}
    answer = api.call(method, path, key="some", json=body)
    if allowed:
        got(answer)
    else:
        problem(answer, 403, "missing_scope")


def test_a_body_may_name_the_tenant_once_more_but_no_other(api: Api) -> None:
    """A key of the platform that names two means neither."""
    got(api.put(f"{T}/budgets/m", {"cap": "1", "tenant": "acme"}))
    problem(api.put(f"{T}/budgets/m", {"cap": "1", "tenant": "globex"}), 403, "foreign_tenant")
    two = api.put(f"{T}/budgets/m", {"cap": "1", "tenant": "globex"}, key="platform")
    problem(two, 400, "invalid_tenant")
