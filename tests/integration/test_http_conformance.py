"""The running server against its own schema: what it describes is what it answers."""

from __future__ import annotations

import os
from typing import Any

from fakes.server_process import ServerProcess, running

from adapters.bootstrap import open_ledger
from ledger.application.access import SCOPES

EXAMPLES = int(os.environ.get("TALLYBOOK_SCHEMA_EXAMPLES", "2"))
"""Requests to each operation, each time; more finds more, and takes longer."""
KNOWN = {
    "tenant": "acme",
    "hold": "call-2",
    "capture": "call-2",
    "budget": "default",
    "book": "default",
    "event": "call-1",
    "invoice": "2026-01-01",
    "line": "1",
    "plan": "team",
    "provider": "openai",
    "receipt": "2.1",
    "version": "cost/openai@2.0",
}
"""Ids that are there, by the names that paths have for them."""
EVENT = {
    "specversion": "1.0",
    "type": "tallybook.usage.v2",
    "source": "gateway-1",
    "id": "call-1",
    "subject": "acme",
    "data": {"provider": "openai", "model": "gpt-4o", "quantities": {"tokens.input": "1200"}},
}
ASK = {"tenant": "acme", "provider": "openai", "model": "gpt-4o", "amount": "0.25"}
PRICE = {"provider": "openai", "model": "gpt-4o", "meter": "tokens.input", "rate": "1"}
PLAN = {
    "name": "team",
    "currency": "USD",
    "cycle": {"anchor": "2026-01-01", "timezone": "UTC"},
    "fees": [{"name": "base", "amount": "30"}],
}
SEED: list[tuple[str, str, dict[str, Any]]] = [
    ("PUT", "/v2/tenants/acme", {"currency": "USD", "timezone": "UTC"}),
    ("PUT", "/v2/tenants/globex", {"currency": "USD", "timezone": "UTC"}),
    ("POST", "/v2/prices", PRICE),
    ("POST", "/v2/events", EVENT),
    ("POST", "/v2/events", EVENT | {"id": "early", "time": "2026-01-05T10:00:00Z"}),
    ("POST", "/v2/periods/close", {"tenant": "acme"}),
    ("POST", "/v2/invoices/2026-01-01/finalize?tenant=acme", {}),
    ("PUT", "/v2/plans/team", PLAN),
    ("PUT", "/v2/tenants/acme/subscription", {"plan": "team", "from_day": "2099-11-01"}),
    ("POST", "/v2/holds", ASK | {"hold": "call-2"}),
    ("POST", "/v2/holds", ASK | {"hold": "call-3"}),
    (
        "POST",
        "/v2/holds/call-2/capture",
        {"tenant": "acme", "capture": "call-2", "quantities": {"tokens.input": "1"}},
    ),
    ("POST", "/v2/tenants/acme/credits/grants", {"id": "grant-1", "amount": "5"}),
]


def _seed(server: ServerProcess, token: str) -> None:
    for number, (method, path, document) in enumerate(SEED):
        headers = {"Idempotency-Key": str(number)}
        answer = server.call(method, path, document, token=token, headers=headers)
        assert answer[0] == 200, (path, answer)


def test_the_server_answers_what_its_schema_describes(database_url: str) -> None:
    """No 5xx, nothing that is not described, no success of what is not allowed; with two keys."""
    # Here, because it takes seconds, which every run of any test would spend.
    from fakes.schema_attack import Attack

    with running(database_url) as server:
        admin = server.ready["admin_key"]
        _seed(server, admin)
        with open_ledger(database_url) as tallybook:
            terms = {"name": "tenant", "tenant": "acme", "scopes": list(SCOPES)}
            bound = tallybook.keys.issue(terms, by="test").token
            known = KNOWN | {"key": tallybook.keys.issue(terms, by="test").key.id}
        attack = Attack(server, admin, examples=EXAMPLES, known=known)
        attack.run(allowed=True)
        assert attack.wrong == []
        assert {200, 204, 404, 422} <= attack.statuses
        attack.run(allowed=False)
        assert attack.wrong == []
        assert {400, 404, 422} <= attack.statuses
        attack = Attack(server, bound, examples=max(1, EXAMPLES // 2), known=known)
        attack.run(allowed=True)
        assert attack.wrong == []
        assert {200, 403, 422} <= attack.statuses
