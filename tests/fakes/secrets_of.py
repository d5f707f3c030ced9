"""A tenant with something in every corner, each value of its own, so that a leak shows.

What it calls its things (`Secrets.ids`) may be guessed and asked for, so an answer may repeat such
a name where the request said it. What its things are is marked with `WORD` and is never sent by
anybody else: no answer to anybody else may hold it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from fakes.building import document
from fakes.http_world import Api

from ledger.application.key_uses import KeyUse

OWN = "gxid-tenant"
"""The name of the tenant, and of its key."""
WORD = "gxs3cret"
_AMOUNTS = ("97.53", "31.41", "27.18", "0.00731")
_HEADERS = {"X-Request-Id": f"{WORD}-request"}


class Secrets:
    """Fills a tenant through the API, and finds what is its own in answers to others.

    Args:
        api: the application with prices.

    Attributes:
        ids: names and numbers of its things, by the name of a parameter or member that takes them.
        requests: what was answered to commands that carry an ``Idempotency-Key``, by that key.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        api.keyring.add(OWN, tenant=OWN)
        self._done("PUT", f"/v2/tenants/{OWN}", {"book": f"{WORD}-book"}, key="platform")
        price = {"provider": "openai", "model": "gpt", "meter": "tokens.input", "rate": "0.00731"}
        sold = {**price, "kind": "sell", "book": f"{WORD}-book", "note": f"{WORD}-note"}
        self._done("POST", "/v2/prices", sold, key="platform")
        receipts = self._record()
        holds = self._protect()
        self._pay()
        invoices = self._bill()
        keys = self._manage()
        self._stream()
        events = ["gxid-event", "gxid-void", "gxid-provider-request", "gxid-capture"]
        placed = [*receipts, *(f"{OWN}:{one}" for one in receipts)]
        self.ids: dict[str, list[str]] = {
            "tenant": [OWN],
            "to": [OWN],
            "subject": [OWN],
            "hold": holds,
            "capture": ["gxid-capture", "gxid-event"],
            "budget": ["gxid-budget", "gxid-wide"],
            "receipt": placed,
            "event": [*events, *placed],
            "id": ["gxid-event", "gxid-grant", "gxid-confirmation"],
            "source": ["gxid-source"],
            "request_id": ["gxid-provider-request"],
            "session": ["gxid-session", "gxid-stream"],
            "grant": ["gxid-grant"],
            "step": ["gxid-step"],
            "void": ["gxid-void"],
            "reversal": ["gxid-reversal"],
            "invoice": invoices,
            "key": keys,
            "who": [f"key:key-{OWN}", f"key:{keys[0]}"],
            "transaction_id": ["gxid-event"],
            "question_id": ["gxid-event"],
        }
        # Receipts are numbers that every tenant has, and invoices' ids are days.
        shared = {*receipts, *placed, *invoices}
        self._names = {one for some in self.ids.values() for one in some} - shared

    def leaked(self, text: str, *, said: Iterable[str] = ()) -> list[str]:
        """Return what of its own a text holds.

        Args:
            text: an answer, headers and body.
            said: what was said before; names in there may be repeated.
        """
        known = "\n".join(said)
        names = [one for one in self._names if one in text and one not in known]
        amounts = [one for one in _AMOUNTS if one in text]
        return names + amounts + ([text[text.index(WORD) :][:60]] if WORD in text else [])

    def state(self) -> list[Any]:
        """Return how its ledger, its keys and its lines in the audit log stand."""
        tallybook = self._api.tallybook
        row = tallybook.reads.tenant(OWN)
        return [
            row,
            tallybook.keys.list(tenant=OWN),
            tallybook.audit_log.list(tenant=OWN),
            tallybook.subscriptions.show(OWN),
            tallybook.periods.status(OWN),
            tallybook.invoicing.list(tenant=OWN),
        ]

    # -- what it has -------------------------------------------------------------------

    def _done(self, method: str, path: str, body: Any, *, key: str = OWN, status: int = 200) -> Any:
        headers = {**_HEADERS, "Idempotency-Key": f"{path}-{key}"[-200:]}
        answer = self._api.call(method, path, key=key, json=body, headers=headers)
        if answer.status_code != status:
            raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json() if answer.content else None

    def _record(self) -> list[str]:
        """Record usage of every kind; return the receipts."""
        more = {
            "user": f"{WORD}-user",
            "project": f"{WORD}-project",
            "session": "gxid-session",
            "conversation": f"{WORD}-conversation",
            "request_id": "gxid-provider-request",
            "labels": {f"{WORD}-label": f"{WORD}-value"},
            "raw": {"usage": f"{WORD}-raw"},
        }
        receipts = []
        for id, model, tokens in (
            ("gxid-event", "gpt", 7000),
            ("gxid-gone", "gpt", 11),
            ("gxid-changed", "gpt", 12),
            ("gxid-waiting", f"{WORD}-model", 13),
        ):
            data = {**more, "model": model, "quantities": {"tokens.input": tokens}}
            event = document(id, tenant=OWN, source="gxid-source", data=data)
            receipts.append(self._done("POST", "/v2/events", event)["receipt"])
        other = document("gxid-event", tenant=OWN, source="gxid-source", data={**more, "tier": "x"})
        self._done("POST", "/v2/events", other, status=409)
        reason = {"source": "gxid-source", "reason": f"{WORD}-reason"}
        self._done("POST", f"/v2/events/{receipts[1]}/void", {"id": "gxid-void", **reason})
        numbers = {"quantities": {"tokens.input": "5"}}
        adjusting = {"id": "gxid-adjust", **numbers, **reason}
        self._done("POST", f"/v2/events/{receipts[2]}/adjust", adjusting)
        metered = {
            "specversion": "1.0",
            "type": f"{WORD}-type",
            "source": "gxid-source",
            "id": "gxid-metered",
            "subject": f"{WORD}-subject",
            "data": {"model": "gpt", "prompt_tokens": 3},
        }
        self._done("POST", "/compat/openmeter/api/v1/events", metered, status=204)
        return receipts

    def _protect(self) -> list[str]:
        """Authorize, capture, cap, ask and deny; return the holds."""
        budgets = f"/v2/tenants/{OWN}/budgets"
        scope = f"user={WORD}-user"
        self._done("PUT", f"{budgets}/gxid-budget", {"cap": "97.53", "scope": scope})
        steps = [{"kind": "confirm"}]
        self._done("PUT", f"{budgets}/gxid-wide", {"limit": "31.41", "steps": steps})
        confirmation = {"id": "gxid-confirmation", "ceiling": "97.53", "by": f"{WORD}-person"}
        self._done("POST", f"{budgets}/gxid-wide/confirmations", confirmation)
        holds = ["gxid/hold 1%", "gxid-hold-2", "gxid-hold-3"]
        ask = {
            "provider": "openai",
            "model": "gpt",
            "user": f"{WORD}-user",
            "session": "gxid-session",
        }
        for hold, tokens in zip(holds, (1000, 1000, 10**9), strict=True):
            self._done(
                "POST", "/v2/holds", {**ask, "hold": hold, "quantities": {"tokens.input": tokens}}
            )
        captured = {
            "capture": "gxid-capture",
            "quantities": {"tokens.input": 1700},
            "raw": {"usage": f"{WORD}-raw"},
        }
        self._done("POST", f"/v2/holds/{quote(holds[0], safe='')}/capture", captured)
        return holds

    def _pay(self) -> None:
        grant = {
            "id": "gxid-grant",
            "amount": "27.18",
            "reason": f"{WORD}-gift",
            "by": f"{WORD}-person",
        }
        self._done("POST", f"/v2/tenants/{OWN}/credits/grants", grant)
        allowed = {"models": ["gpt", f"{WORD}-m*"]}
        self._done("PUT", f"/v2/tenants/{OWN}/entitlements", allowed)

    def _bill(self) -> list[str]:
        """Say to whom invoices go, and bill a month that is long over; return the invoices."""
        buyer = {"party": {"name": f"{WORD}-buyer", "tax_id": f"{WORD}-vat"}}
        details = f"/v2/tenants/{OWN}/subscription/details"
        self._done("PUT", details, buyer, key="platform")
        data = {"model": "gpt", "quantities": {"tokens.input": 7000}}
        event = document("gxid-event", tenant=OWN, source=f"{WORD}-earlier", data=data)
        self._done("POST", "/v2/events", {**event, "time": "2026-01-05T10:00:00Z"})
        closing = {"tenant": OWN, "finalize": True}
        [draft, *_] = self._done("POST", "/v2/periods/close", closing, key="platform")["drafts"]
        credit = {"tenant": OWN, "invoice": draft["id"], "reason": f"{WORD}-outage", "total": "1"}
        note = self._done("POST", "/v2/credit-notes", credit, key="platform")["invoice"]
        return [draft["id"], note["id"]]

    def _manage(self) -> list[str]:
        """Issue, rotate and end keys, and use one; return their ids."""
        terms = {"name": f"{WORD}-key", "note": f"{WORD}-note", "scopes": ["read"]}
        first = self._done("POST", "/v2/keys", terms)
        path = f"/v2/keys/{first['id']}"
        second = self._done("POST", f"{path}/rotate", {})
        self._done("POST", f"{path}/revoke", {"reason": f"{WORD}-leak"})
        at = time.time_ns() // 1000
        use = KeyUse(
            tenant=OWN,
            key=first["id"],
            day=at // 86_400_000_000,
            route="/v1/usage",
            status=2,
            uses=1,
            first_at=at,
            last_at=at,
        )
        self._api.tallybook.key_uses.add([use])
        return [first["id"], second["id"]]

    def _stream(self) -> None:
        headers = {"Authorization": f"Bearer {OWN}"}
        with self._api.client.websocket_connect("/v2/stream", headers=headers) as socket:
            socket.send_json({"type": "hello", "session": "gxid-stream", "user": f"{WORD}-user"})
            self.epoch = int(socket.receive_json()["epoch"])
