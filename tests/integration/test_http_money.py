"""Price books and tenants over HTTP, and commands without an id of their own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from fakes.building import wire
from fakes.http_market import http_market, problem
from fakes.http_world import Api

from adapters.http.context import MAX_KEY_CHARS

_KEYS = count()
PRICE = {"provider": "openai", "model": "new", "meter": "tokens.input", "rate": "2.50"}


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    """The application with prices and two tenants."""
    with http_market(database_url) as opened:
        yield opened


def got(answer: Any) -> Any:
    """Return the document of an answer that is no problem."""
    assert answer.status_code == 200, answer.text
    return answer.json()


def ask(api: Api, path: str, **query: Any) -> Any:
    """Ask as the platform."""
    return got(api.get(path, key="platform", params=query))


def post(api: Api, path: str, document: Any, *, once: str | None = None, **more: Any) -> Any:
    """Post a command under a key of its own unless said otherwise; return the answer."""
    headers = {"Idempotency-Key": once or f"k-{next(_KEYS)}"}
    return api.post(path, document, key=more.pop("key", "platform"), headers=headers)


# -- prices -----------------------------------------------------------------------------


def test_a_price_is_set_found_and_retired(api: Api) -> None:
    """Each row says who decided and when; a retired one stays in the history."""
    done = got(post(api, "/v2/prices", PRICE))
    [row] = done["rows"]
    assert (row["status"], row["approver"]) == ("approved", "key:key-platform")
    assert row["proposed_at"].endswith("Z")
    version = row["version"]
    path = f"/v2/prices/{version.replace('/', '%2F').replace('@', '%40')}"
    assert ask(api, path) == row
    gone = got(post(api, "/v2/prices/retire", {"versions": [version]}))["rows"][0]
    assert (gone["status"], gone["retired_by"]) == ("retired", "key:key-platform")
    listed = ask(api, "/v2/prices", model="new", kind="cost")
    assert [one["status"] for one in listed["rows"]] == ["retired"]
    problem(api.get("/v2/prices/cost%2Fopenai%4099.1", key="platform"), 404, "unknown_price")
    problem(api.get("/v2/prices/nonsense", key="platform"), 422, "invalid_version")


def test_a_price_that_comes_late_rates_what_waited(api: Api) -> None:
    """The answer says how much."""
    event = wire("e-1", data={"model": "new", "quantities": {"tokens.input": 1000}})
    api.tallybook.ledger.record([event])
    done = got(post(api, "/v2/prices", PRICE))
    assert (done["published"], done["rating"]["rated"]) == (1, 1)
    assert got(api.get("/v2/tenants/acme/balance"))["total"]["charge"] == "2500"


def test_prices_are_listed_by_what_they_are_and_in_pages(api: Api) -> None:
    """All pages together are the whole list, in its order, while prices are set."""
    whole = ask(api, "/v2/prices", provider="openai", limit=1000)
    assert whole["total"] == len(whole["rows"]) == 6
    found: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        page = ask(api, "/v2/prices", provider="openai", limit=2, **cursor)
        found += page["rows"]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
        got(post(api, "/v2/prices", {**PRICE, "model": "aaa", "rate": str(len(found))}))
    assert [one for one in found if one["row"]["key"]["model"] != "aaa"] == whole["rows"]
    costs = ask(api, "/v2/prices", kind="cost", meter="tokens.output")
    assert [one["row"]["key"]["model"] for one in costs["rows"]] == ["gpt"]
    problem(api.get("/v2/prices?kind=gift", key="platform"), 422, "invalid_parameter")


def test_a_mark_up_publishes_sell_prices(api: Api) -> None:
    """It stands for the book from its date on."""
    done = got(post(api, "/v2/prices/markup", {"percent": "20", "book": "retail"}))
    assert (done["published"], done["markups"][-1]["percent"]) == (3, "20")
    listed = ask(api, "/v2/prices/markups/retail")
    assert [one["by"] for one in listed["markups"]] == ["key:key-platform"]
    found = ask(api, "/v2/prices/at", provider="OpenAI", model="gpt", book="retail")
    rates = {(one["kind"], one["meter"]): one["record"]["row"]["rate"] for one in found["prices"]}
    assert rates["cost", "tokens.input"] == "1"
    assert float(rates["sell", "tokens.input"]) != 1


def test_proposals_that_contradict_each_other_are_held(api: Api) -> None:
    """A person decides for one, and the other is dropped for good."""
    from decimal import Decimal

    from fakes.http_market import EPOCH

    from ledger.domain.prices import PriceKey, PriceList, PriceRow

    for source, rate in (("a", "1"), ("b", "2")):
        row = PriceRow(
            key=PriceKey("other", "m", "tokens.input"),
            effective_from=EPOCH,
            rate=Decimal(rate),
            source=source,
        )
        api.tallybook.prices.pull([PriceList(source=source, digest=source, rows=(row,))], by="ann")
    held = ask(api, "/v2/prices/contradictions")
    assert held["total"] == 2
    page = ask(api, "/v2/prices/contradictions", limit=1)
    rest = ask(api, "/v2/prices/contradictions", limit=1, cursor=page["next"])
    assert [*page["held"], *rest["held"]] == held["held"]
    all_ = got(post(api, "/v2/prices/approve", {"all": True, "providers": ["other"]}))
    assert (all_["approved"], all_["held"]) == (0, 2)
    version = held["held"][0]["held"]["version"]
    done = got(post(api, "/v2/prices/approve", {"versions": [version]}))
    assert (len(done["rows"]), len(done["dropped"])) == (1, 1)
    problem(post(api, "/v2/prices/approve", {"versions": [version]}), 409, "not_proposed")


def test_the_sources_proposals_are_pulled_once(api: Api) -> None:
    """What is there already is not new."""
    first = got(post(api, "/v2/prices/proposals", {"providers": ["anthropic"]}))
    assert first["proposed"] > 0
    second = got(post(api, "/v2/prices/proposals", {"providers": ["anthropic"]}))
    assert (second["proposed"], second["known"]) == (0, first["proposed"] + first["known"])
    answer = post(api, "/v2/prices/proposals", {"providers": ["nobody"]})
    problem(answer, 422, "unknown_provider")


@pytest.mark.parametrize(
    ("path", "document", "code"),
    [
        ("/v2/prices", {**PRICE, "rate": "a"}, "invalid_rate"),
        ("/v2/prices", {**PRICE, "rate": "-1"}, "invalid_rate"),
        ("/v2/prices", {**PRICE, "rate": "0.0000000000001"}, "rate_not_exact"),
        ("/v2/prices", {**PRICE, "meter": "tokens"}, "unknown_meter"),
        ("/v2/prices", {**PRICE, "effective_from": "today"}, "invalid_effective_from"),
        ("/v2/prices", {**PRICE, "price": "1"}, "unknown_member"),
        ("/v2/prices", {"provider": "openai"}, "invalid_model"),
        ("/v2/prices/approve", {}, "invalid_versions"),
        ("/v2/prices/approve", {"all": True, "versions": ["x"]}, "invalid_versions"),
        ("/v2/prices/approve", {"versions": ["x"]}, "invalid_version"),
        ("/v2/prices/retire", {"versions": []}, "invalid_versions"),
        ("/v2/prices/markup", {"percent": "-101"}, "invalid_markup"),
        ("/v2/prices/markup", {"percent": "1", "book": "a/b"}, "invalid_book"),
        ("/v2/prices/proposals", {"approve": "yes"}, "invalid_approve"),
    ],
)
def test_decisions_that_cannot_be_read_are_refused(
    api: Api, path: str, document: dict[str, Any], code: str
) -> None:
    """With the code of what is wrong."""
    problem(post(api, path, document), 422, code)


def test_prices_are_no_tenant_s(api: Api) -> None:
    """A key of a tenant neither sees nor changes them, whatever its scopes."""
    problem(api.get("/v2/prices"), 403, "platform_only")
    problem(post(api, "/v2/prices", PRICE, key="acme"), 403, "platform_only")
    api.keyring.add("reader", tenant=None, scopes=("read",))
    got(api.get("/v2/prices", key="reader"))
    problem(post(api, "/v2/prices", PRICE, key="reader"), 403, "missing_scope")


# -- commands without an id -------------------------------------------------------------


def test_a_command_without_an_id_needs_an_idempotency_key(api: Api) -> None:
    """Without one nothing is done."""
    problem(api.post("/v2/prices", PRICE, key="platform"), 400, "idempotency_key_missing")
    for bad in ("x" * (MAX_KEY_CHARS + 1), "\u00e9".encode()):
        headers = {"Idempotency-Key": bad}
        answer = api.post("/v2/prices", PRICE, key="platform", headers=headers)
        problem(answer, 400, "invalid_header")
    assert ask(api, "/v2/prices", model="new")["total"] == 0


def test_a_repeated_command_is_answered_as_the_first_time(api: Api) -> None:
    """It says so in a header, and nothing is done again."""
    version = got(post(api, "/v2/prices", PRICE))["rows"][0]["version"]
    document = {"versions": [version]}
    first = post(api, "/v2/prices/retire", document, once="r")
    assert "idempotency-replayed" not in first.headers
    again = post(api, "/v2/prices/retire", document, once="r")
    assert got(again) == got(first)
    assert again.headers["idempotency-replayed"] == "true"
    problem(post(api, "/v2/prices/retire", document), 409, "already_retired")


def test_another_command_under_the_same_key_is_refused(api: Api) -> None:
    """Another body, and the same body on another route."""
    got(post(api, "/v2/prices", PRICE, once="k"))
    other = post(api, "/v2/prices", {**PRICE, "rate": "3"}, once="k")
    problem(other, 422, "idempotency_key_reused")
    problem(post(api, "/v2/prices/approve", {"all": True}, once="k"), 422, "idempotency_key_reused")


def test_a_command_that_was_refused_may_be_tried_again_under_its_key(api: Api) -> None:
    """Nothing moved, so there is nothing to remember."""
    problem(post(api, "/v2/prices", {**PRICE, "rate": "-1"}, once="k"), 422, "invalid_rate")
    got(post(api, "/v2/prices", PRICE, once="k"))


def test_a_command_that_is_being_worked_on_is_not_begun_again(api: Api) -> None:
    """The second is told to come back."""
    begun: list[Any] = []
    pull = api.tallybook.prices.pull

    def slow(*args: Any, **named: Any) -> Any:
        if not begun:
            begun.append(None)
            begun.append(post(api, "/v2/prices/proposals", {}, once="k"))
        return pull([], **named)

    api.tallybook.prices.pull = slow  # type: ignore[method-assign] # a stand-in that asks again
    got(post(api, "/v2/prices/proposals", {}, once="k"))
    found = problem(begun[1], 409, "idempotency_key_in_use")
    assert found["retryable"] is True


# -- tenants ----------------------------------------------------------------------------


def test_a_tenant_is_opened_once_with_its_settings(api: Api) -> None:
    """The same again is nothing, other settings are refused, and left-out ones stay."""
    settings = {"currency": "EUR", "timezone": "Europe/Berlin"}
    path = "/v2/tenants/new%2Fone"
    first = got(api.put(path, settings, key="platform"))
    assert (first["tenant"], first["status"], first["currency"]) == ("new/one", "accepted", "EUR")
    for again in (settings, {}, {"currency": "EUR"}):
        assert got(api.put(path, again, key="platform"))["status"] == "duplicate"
    problem(api.put(path, {"currency": "USD"}, key="platform"), 409, "conflict")
    assert ask(api, path)["timezone"] == "Europe/Berlin"
    bad = api.put("/v2/tenants/x", {"timezone": "Mars"}, key="platform")
    problem(bad, 422, "unknown_timezone")


def test_tenants_are_listed_in_pages_and_to_a_tenant_only_itself(api: Api) -> None:
    """A key of a tenant that names another one is refused."""
    for n in range(3):
        api.tallybook.tenants.open(f"t-{n}")
    first = ask(api, "/v2/tenants", limit=3)
    rest = ask(api, "/v2/tenants", limit=3, cursor=first["next"])
    names = [one["tenant"] for one in (*first["tenants"], *rest["tenants"])]
    assert names == ["acme", "globex", "t-0", "t-1", "t-2"]
    assert rest["next"] is None
    assert [one["tenant"] for one in got(api.get("/v2/tenants"))["tenants"]] == ["acme"]
    problem(api.get("/v2/tenants?tenant=globex"), 403, "foreign_tenant")
    problem(api.get("/v2/tenants/globex"), 403, "foreign_tenant")
    problem(api.put("/v2/tenants/globex", {}), 403, "foreign_tenant")
