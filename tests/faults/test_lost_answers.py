"""A process that is killed between a command and its kept answer: repeating is safe."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from fakes.building import document
from fakes.http_market import http_market, problem
from fakes.http_world import Api
from fakes.lost_answers import EARLY

ROOT = Path(__file__).parents[2]
PRICE = {"provider": "openai", "meter": "tokens.input", "rate": "2.50"}
KEY = {"tenant": "acme", "scopes": ["read"]}


def got(answer: Any) -> Any:
    """Return the document of an answer that is no problem."""
    assert answer.status_code == 200, answer.text
    return answer.json()


def post(api: Api, command: tuple[str, Any, str]) -> Any:
    """Send a command."""
    path, body, once = command
    return api.post(path, body, key="platform", headers={"Idempotency-Key": once})


def prepare(api: Api) -> tuple[str, list[str], str]:
    """Bill January of acme; return a key, two versions of proposed prices, and the invoice."""
    event = document("one", tenant="acme", data={"model": "gpt", "quantities": {"tokens.input": 1}})
    event["data"]["quantities"]["tokens.input"] = "4000"
    got(api.post("/v2/events", {**event, "time": "2026-01-05T10:00:00Z"}, key="platform"))
    services = api.tallybook
    [(_, invoice), *_] = services.periods.close(by="ann", tenant="acme").drafts
    services.invoicing.finalize_all(by="ann")
    services.prices.pull(providers=["anthropic"], by="ann")
    proposed = [one for one in services.prices.list().records if one.status == "proposed"]
    key = services.keys.issue({"name": "old", **KEY}, by="ann").key.id
    return key, [one.version for one in proposed[:2]], invoice


def kill(url: str, commands: list[tuple[str, Any, str]]) -> None:
    """Run commands in a process that is killed when all are done, or claimed, and none answered."""
    run = subprocess.run(
        [sys.executable, "-m", "fakes.lost_answers", url],
        input=json.dumps(commands),
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
    )
    assert run.returncode == -signal.SIGKILL, run.stderr


def test_commands_that_died_before_their_answer_are_done_once(database_url: str) -> None:
    """Whatever repeats them finds what they did; a secret that nobody got is null."""
    with http_market(database_url) as api:
        key, (approved, retired), invoice = prepare(api)
        last = max(one.first_day for one in api.tallybook.periods.status("acme")[:-1])
        note = {"tenant": "acme", "invoice": invoice, "reason": "outage", "total": "1"}
        reopen = {"tenant": "acme", "first_day": last.isoformat(), "reason": "late"}
        commands: list[tuple[str, Any, str]] = [
            ("/v2/keys", {"name": "done", **KEY}, "key"),
            ("/v2/keys", {"name": "claimed", **KEY}, "early-key"),
            (f"/v2/keys/{key}/rotate", {"overlap_s": 600}, "rotate"),
            ("/v2/prices/approve", {"versions": [approved]}, "approve"),
            ("/v2/prices/retire", {"versions": [retired]}, "retire"),
            ("/v2/prices/markup", {"percent": "20", "book": "gold"}, "fresh"),
            ("/v2/prices/markup", {"percent": "30", "book": "default"}, "markup"),
            ("/v2/prices", {**PRICE, "model": "new"}, "price"),
            ("/v2/prices", {**PRICE, "model": "mini", "rate": "3"}, "dearer"),
            ("/v2/credit-notes", note, "note"),
            ("/v2/periods/reopen", reopen, "reopen"),
            ("/v2/invoices/finalize", {"tenant": "acme"}, "finalize"),
        ]
        kill(database_url, commands)

        def facts() -> Any:
            services = api.tallybook
            place = services.billing_store.place("acme").tenant_id
            return (
                sorted((one.name, one.id, one.successor) for one in services.keys.list()),
                [services.prices.markups(book) for book in ("gold", "default")],
                [(one.version, one.status) for one in services.prices.list(limit=5000).records],
                services.billing_store.accounts([place])[place],
            )

        done = facts()
        for *_, once in commands:
            other = post(api, ("/v2/keys", {"name": "other", **KEY}, once))
            problem(other, 422, "idempotency_key_reused")
        begun = [command for command in commands if not command[2].startswith(EARLY)]
        answers = {command[2]: got(post(api, command)) for command in begun}
        assert facts() == done
        assert {command[2]: got(post(api, command)) for command in begun} == answers
        assert facts() == done

        names = [name for name, *_ in done[0]]
        assert (names.count("done"), names.count("old"), names.count("claimed")) == (1, 2, 0)
        assert (answers["key"]["name"], answers["key"]["token"]) == ("done", None)
        assert (answers["rotate"]["predecessor"], answers["rotate"]["token"]) == (key, None)
        assert answers["rotate"]["replaces"]["successor"] == answers["rotate"]["id"]
        assert [one["version"] for one in answers["approve"]["rows"]] == [approved]
        assert [one["status"] for one in answers["retire"]["rows"]] == ["retired"]
        assert [len(one) for one in done[1]] == [1, 1]
        assert answers["note"]["invoice"]["total"] == "1"
        assert answers["reopen"]["state"] == "closed"
        # Claimed and never begun: it is done now, and its secret is shown.
        assert got(post(api, commands[1]))["token"]
        assert got(post(api, commands[1]))["token"] is None
