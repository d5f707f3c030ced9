"""docs/spec/api.md and the examples of the schema are true: they are sent, and routes compared."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.examples import blocks, differs
from fakes.http_world import Api, http_world
from fixtures_postgres import Run

SPEC = (Path(__file__).parents[2] / "docs" / "spec" / "api.md").read_text("utf-8")
_OF_THE_PLATFORM = ("/v2/prices", "/v2/policies", "/v2/plans", "/v2/periods", "/v2/invoice-")
_EXCHANGE = re.compile(r"> (?P<key>\S+) (?P<method>[A-Z]+) (?P<path>\S+)(?P<rest>.*)")
Schema = dict[str, Any]

EXAMPLES: list[tuple[str, dict[str, str]]] = [
    ("PUT /v2/tenants/{tenant}", {"tenant": "berlin"}),
    ("PUT /v2/policies/default-cap", {}),
    ("POST /v2/prices/proposals", {}),
    ("POST /v2/prices/approve", {}),
    ("POST /v2/prices/retire", {}),
    ("POST /v2/prices", {}),
    ("POST /v2/prices/markup", {}),
    ("PUT /v2/tenants/{tenant}/budgets/{budget}", {"budget": "month"}),
    ("POST /v2/tenants/{tenant}/budgets/{budget}/confirmations", {"budget": "asked"}),
    ("PUT /v2/tenants/{tenant}/default-cap", {}),
    ("POST /v2/events", {}),
    ("POST /v2/events/{receipt}/void", {"receipt": "$first"}),
    ("POST /v2/events/{receipt}/adjust", {"receipt": "$second"}),
    ("POST /v2/normalize", {}),
    ("POST /v2/simulate", {}),
    ("POST /v2/holds", {}),
    ("POST /v2/holds/{hold}/progress", {"hold": "call-1"}),
    ("POST /v2/holds/{hold}/extend", {"hold": "call-1"}),
    ("POST /v2/holds/{hold}/capture", {"hold": "call-1"}),
    ("POST /v2/captures/{capture}/reverse", {"capture": "call-1"}),
    ("POST /v2/holds/{hold}/void", {"hold": "call-2"}),
    ("POST /v2/tenants/{tenant}/credits/grants", {}),
    ("POST /v2/tenants/{tenant}/credits/transfers", {}),
    ("POST /v2/tenants/{tenant}/credits/refunds", {}),
    ("PUT /v2/tenants/{tenant}/credits/policy", {"tenant": "globex"}),
    ("PUT /v2/tenants/{tenant}/entitlements", {"tenant": "globex"}),
    ("PUT /v2/plans/{plan}", {"plan": "team"}),
    ("PUT /v2/tenants/{tenant}/subscription", {}),
    ("PUT /v2/tenants/{tenant}/subscription/details", {}),
    ("POST /v2/tenants/{tenant}/subscription/end", {}),
    ("PUT /v2/invoice-settings", {}),
    ("POST /v2/periods/close", {}),
    ("POST /v2/invoices/finalize", {}),
    ("POST /v2/credit-notes", {}),
    ("POST /v2/invoices/{invoice}/pay", {"invoice": "2026-02-01"}),
    ("POST /v2/invoices/{invoice}/uncollectible", {"invoice": "2026-03-01"}),
    ("POST /v2/invoices/{invoice}/void", {"invoice": "2026-04-01"}),
    ("POST /v2/periods/reopen", {}),
    ("POST /v2/keys", {}),
    ("POST /v2/keys/{key}/rotate", {"key": "$key"}),
    ("POST /v2/keys/{key}/revoke", {"key": "$key"}),
    ("POST /compat/openmeter/api/v1/events", {}),
    ("POST /compat/openmeter/{provider}/api/v1/events", {"provider": "openai"}),
    ("POST /compat/lago/api/v1/events", {}),
    ("POST /compat/lago/api/v1/events/batch", {}),
    ("POST /compat/lago/{provider}/api/v1/events", {"provider": "azure"}),
    ("POST /compat/lago/{provider}/api/v1/events/batch", {"provider": "azure"}),
    ("POST /v1/usage", {}),
]
"""Operations whose examples are sent, in an order in which they can be; the tenant is ``acme``
unless it is said, and ``$…`` is what `World.places` finds."""


@pytest.fixture(scope="module")
def api(postgres_run: Run) -> Iterator[Api]:
    """The application over one database."""
    with postgres_run.database(migrated=True) as url, http_world(url) as opened:
        yield opened


@pytest.fixture(scope="module")
def schema(api: Api) -> Schema:
    """The schema."""
    found: Schema = api.get("/openapi.json", key=None).json()
    return found


def test_the_exchanges_of_the_specification_are_true(database_url: str) -> None:
    """All of them in their order, each answered as it is written."""
    played = 0
    with http_world(database_url) as fresh:
        answer: Any = None
        for kind, text in blocks(SPEC):
            if kind != "jsonl":
                continue
            for line in text.splitlines():
                if (found := _EXCHANGE.fullmatch(line)) is not None:
                    answer = _ask(fresh, **found.groupdict())
                else:
                    status, _, document = line.removeprefix("< ").partition(" ")
                    assert answer.status_code == int(status), (line, answer.text)
                    assert differs(json.loads(document), answer.json()) == "", (line, answer.text)
                    played += 1
    assert played == 13


def _ask(api: Api, *, key: str, method: str, path: str, rest: str) -> Any:
    words = rest.strip()
    headers: dict[str, str] = {}
    while (header := re.match(r"([A-Z][\w-]+): (\S+) ?", words)) is not None:
        headers[header[1]] = header[2]
        words = words[header.end() :]
    if words:
        headers.setdefault("Content-Type", "application/json")
    return api.call(method, path, key=key, headers=headers, content=words)


def test_every_route_is_in_the_specification_and_none_that_is_not_there(schema: Schema) -> None:
    """The tables list methods and paths as the schema does."""
    served = {
        (method.upper(), re.sub(r"\{\w+\}", "{}", path))
        for path, methods in schema["paths"].items()
        for method in methods
        if path.startswith("/v2/")
    }
    assert set(_listed()) == served


def _listed() -> Iterator[tuple[str, str]]:
    for row in re.findall(r"^\| (`(?:GET|POST|PUT|DELETE).*?) \|", SPEC, flags=re.MULTILINE):
        methods, before = [""], ""
        for text in re.findall(r"`([^`]+)`", row):
            head, _, path = text.rpartition(" ")
            methods = head.split("/") if head else methods
            if path.startswith("…"):
                first = path.split("/")[1]
                parts = before.split("/")
                kept = parts[: parts.index(first)] if first in parts else parts[:-1]
                path = "/".join(kept) + path.removeprefix("…")
            before = path
            for method in methods:
                yield method, re.sub(r"\{\w+\}", "{}", path)


def test_the_examples_of_the_schema_can_be_sent_as_they_stand(api: Api, schema: Schema) -> None:
    """Each is answered with success; every body of a request has one."""
    described = {
        f"{method.upper()} {path}": operation
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
        if "requestBody" in operation
    }
    assert {name for name, _ in EXAMPLES} == described.keys()
    world = _World(api)
    for number, (name, places) in enumerate(EXAMPLES):
        for example in _examples(described[name]):
            answer = world.send(name, places, example, number)
            assert answer.status_code in (200, 204), (name, answer.text)
            if answer.content and "decision" in answer.json():
                assert answer.json()["decision"] in ("allow", ""), (name, answer.text)


def _examples(operation: Schema) -> list[Any]:
    content = operation["requestBody"]["content"]["application/json"]
    if "example" in content:
        return [content["example"]]
    return [one["value"] for one in content["examples"].values()]


class _World:
    """What the examples take for granted.

    Args:
        api: of a database without anything.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        settings = {"currency": "USD", "timezone": "UTC"}
        for tenant in ("acme", "globex"):
            self._do("PUT", f"/v2/tenants/{tenant}", settings)
        for meter in ("tokens.input", "tokens.output"):
            price = {"provider": "openai", "model": "gpt-4o", "meter": meter, "rate": "0.00001"}
            self._do("POST", "/v2/prices", price, {"Idempotency-Key": meter})
        steps = {"limit": "1000", "steps": [{"kind": "confirm", "percent": 50}, {"kind": "stop"}]}
        self._do("PUT", "/v2/tenants/acme/budgets/asked", steps)
        event = {
            "specversion": "1.0",
            "type": "tallybook.usage.v2",
            "source": "test",
            "subject": "acme",
            "data": {"provider": "openai", "model": "gpt-4o", "quantities": {"tokens.input": 9}},
        }
        receipts = [self._do("POST", "/v2/events", event | {"id": one}) for one in ("a", "b")]
        for month in range(1, 5):
            much = {
                "provider": "openai",
                "model": "gpt-4o",
                "quantities": {"tokens.input": 2 * 10**6},
            }
            early = event | {"id": f"{month}", "time": f"2026-0{month}-05T10:00:00Z", "data": much}
            self._do("POST", "/v2/events", early)
        ask = {"hold": "call-2", "provider": "openai", "model": "gpt-4o", "amount": "0.1"}
        self._do("POST", "/v2/holds?tenant=acme", ask)
        self.places = {"$first": receipts[0]["receipt"], "$second": receipts[1]["receipt"]}

    def send(self, name: str, places: dict[str, str], example: Any, number: int) -> Any:
        """Send an example."""
        method, _, path = name.partition(" ")
        values = {"tenant": "acme", **places}
        for place in re.findall(r"\{(\w+)\}", path):
            value = values[place]
            path = path.replace(f"{{{place}}}", self.places.get(value, value))
        query = {} if path.startswith(_OF_THE_PLATFORM) else {"tenant": "acme"}
        if path.startswith(("/v2/tenants", "/v2/normalize", "/v2/keys")):
            query = {}
        if example == {"versions": ["cost/openai@3.17"]}:
            wanted = "proposed" if path.endswith("approve") else "approved"
            listed = self._do("GET", f"/v2/prices?provider=openai&status={wanted}&limit=1", None)
            example = {"versions": [listed["rows"][0]["version"]]}
        if "first_day" in example:
            listed = self._do("GET", "/v2/periods?tenant=acme", None)["periods"]
            closed = [one["first_day"] for one in listed if one["state"] == "closed"]
            example = {**example, "first_day": closed[-1]}
        headers = {"Idempotency-Key": f"example-{number}"}
        answer = self._api.call(
            method, path, key="platform", json=example, params=query, headers=headers
        )
        if name == "POST /v2/keys" and answer.status_code == 200:
            self.places["$key"] = answer.json()["id"]
        return answer

    def _do(self, method: str, path: str, document: Any, headers: Any = None) -> Any:
        answer = self._api.call(method, path, key="platform", json=document, headers=headers or {})
        assert answer.status_code == 200, (path, answer.text)
        return answer.json()
