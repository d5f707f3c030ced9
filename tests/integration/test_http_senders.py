"""Real senders, from PyPI, against a server on a socket: each posts, repeats, and counts once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes.stream_world import Server

from adapters.bootstrap import open_ledger
from ledger.application.documents.events import Filter, Line, Listing

SENDERS = Path(__file__).parent.parent / "fakes" / "senders"
TIMEOUT_S = 300


@pytest.fixture
def server(database_url: str) -> Iterator[Server]:
    """A server over a fresh database."""
    with open_ledger(database_url) as tallybook:
        running = Server(tallybook)
        running.start()
        try:
            yield running
        finally:
            running.stop()


def run(name: str, server: Server, token: str) -> Any:
    """Run a sender to its end and return what it printed."""
    done = subprocess.run(
        [sys.executable, SENDERS / f"{name}.py", f"http://127.0.0.1:{server.port}", token],
        capture_output=True,
        timeout=TIMEOUT_S,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def lines(server: Server, tenant: str) -> dict[str, Line]:
    """Return a tenant's usage by id; nothing else was recorded but conflicts."""
    reads = server.tallybook.reads
    page, _ = Listing(reads, reads.tenant(tenant)).page(Filter(), before=None, limit=100)
    usage = [line for line in page if line.kind == "usage"]
    assert {line.kind for line in page} <= {"usage", "conflict"}
    assert len({line.id for line in usage}) == len(usage)
    return {line.id: line for line in usage}


def test_litellm_s_own_callbacks_count_every_call_once(server: Server) -> None:
    """Posts that are repeated, and a callback that runs twice for one response."""
    found = run("litellm_calls", server, "platform")
    openmeter, lago = "/compat/openmeter/api/v1/events", "/compat/lago/api/v1/events"
    assert sorted(map(tuple, found["sent"])) == sorted(
        [*[(openmeter, 204)] * 6, (lago, 200), (lago, 422)]
    )
    usage = lines(server, "acme")
    metered, billed, later = found["ids"]
    assert len(usage) == 3
    for id, model in ((metered, "gpt-4o"), (later, "gpt-4o-mini")):
        line = usage[id]
        assert (line.source, line.provider, line.model) == ("litellm-proxy", "openai", model)
        assert line.request_id == id
        assert line.quantities == {"tokens.input": 10, "tokens.output": 20}
        assert "unpriced" in line.flags
        assert line.charge == 0
    [by_lago] = [line for line in usage.values() if line.source == "lago"]
    assert by_lago.id != billed
    assert (by_lago.provider, by_lago.model) == ("anthropic", "claude-sonnet-4-20250514")
    assert by_lago.quantities == {"tokens.input": 10, "tokens.output": 20}
    [balance] = server.tallybook.reads.balances("acme")
    assert (balance.events, balance.unpriced) == (3, 3)


def test_our_litellm_callback_counts_every_call_once_with_its_parts_and_whose_it_is(
    server: Server,
) -> None:
    """Sync, async and streams: parts do not overlap; key, team, user; what failed used nothing."""
    found = run("litellm_callback", server, "platform")
    assert found == {"empty": True, "calls": 10}
    usage = lines(server, "acme")
    assert set(usage) == {"sync", "stream", "async", "async-stream"}
    for id, line in usage.items():
        assert (line.source, line.provider) == ("litellm", "openai"), id
        assert line.quantities == {
            "tokens.input": 700,
            "tokens.input.cache_read": 200,
            "tokens.input.audio": 100,
            "tokens.output": 330,
            "tokens.output.reasoning": 120,
            "tokens.output.audio": 50,
        }, id
        address = f"http://127.0.0.1:{server.port}/v2/events/{line.ref.rpartition(':')[2]}"
        entry = httpx.get(address, headers={"Authorization": "Bearer acme"}).json()
        assert (entry["user"], entry["project"], entry["api_key"]) == ("ann", "desk", "desk key")
        assert entry["labels"] == {
            "team": "support desk",
            "team_id": "team-7",
            "organization": "acme",
        }
        assert entry["request_id"] == f"chatcmpl-{id}"
        assert json.loads(entry["raw"])["prompt_tokens"] == 1000


def test_openmeter_s_sdk_counts_every_event_once(server: Server) -> None:
    """One event, a batch, JSON; what cannot be mapped is a problem that the SDK understands."""
    found = run("openmeter_sdk", server, "platform")
    usage = lines(server, "customer-1")
    assert set(usage) == {"one", "two", "three", "four"}
    assert all(line.quantities == {"tokens.input": 100} for line in usage.values())
    assert usage["one"].provider == "openai"
    status, model = found["refused"]
    assert status == 400
    assert model["status"] == 400
    assert "how much was used" in model["detail"]


def test_a_tenant_s_key_keeps_openmeter_s_subjects_as_its_users(server: Server) -> None:
    """No subject reaches another ledger."""
    run("openmeter_sdk", server, "acme")
    assert {line.user for line in lines(server, "acme").values()} == {"customer-1"}
    assert [row.tenant for row in server.tallybook.reads.tenants()] == ["acme"]


def test_lago_s_client_counts_every_event_once(server: Server) -> None:
    """A repetition is answered as Lago does, and so is what cannot be mapped."""
    found = run("lago_client", server, "platform")
    assert found["first"]["transaction_id"] == "t-1"
    assert found["first"]["timestamp"] == "2026-11-02T10:00:00.000Z"
    assert found["first"]["properties"]["prompt_tokens"] == "7"
    again, batch, unmapped = found["errors"]
    assert again[0] == batch[0] == unmapped[0] == 422
    assert again[1]["code"] == "validation_errors"
    assert again[1]["error_details"] == {"transaction_id": ["value_already_exist"]}
    repeated = {"transaction_id": ["value_already_exist"]}
    assert batch[1]["error_details"] == {"0": repeated, "1": repeated}
    assert unmapped[1]["error_details"] == {"properties": ["no_quantities"]}
    usage = lines(server, "sub-1")
    assert set(usage) == {"t-1", "t-2", "t-3"}
    wanted = {"tokens.input": Decimal(7), "tokens.output": Decimal(5)}
    assert all(line.quantities == wanted for line in usage.values())


def test_the_cloudevents_sdk_counts_every_event_once(server: Server) -> None:
    """Structured, binary and batch; the repetitions answer with the first receipts."""
    answers = run("cloudevents_sdk", server, "acme")
    assert {status for status, _ in answers} == {200}
    first, again = answers[:3], answers[3:]
    assert [first[0][1]["status"], first[1][1]["status"]] == ["accepted"] * 2
    assert first[2][1]["accepted"] == 2
    assert [again[0][1]["status"], again[1][1]["status"]] == ["duplicate"] * 2
    assert again[2][1]["duplicate"] == 2
    assert [one["receipt"] for one in again[2][1]["items"]] == [
        one["receipt"] for one in first[2][1]["items"]
    ]
    usage = lines(server, "acme")
    assert set(usage) == {"structured", "binary", "b-1", "b-2"}
    assert {line.source for line in usage.values()} == {"https://gateway.example/eu 1"}
