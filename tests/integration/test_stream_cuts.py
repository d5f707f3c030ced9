"""A session that is cut anywhere and resumed comes to what it would have come to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fakes.stream_world import Client, Frame, Server, stream_server

from adapters.http.stream.session import Code
from ledger.domain.errors import NotFound

ASK = {"provider": "openai", "model": "gpt-4o", "amount": "0.25"}
SEGMENT = {"type": "voice.segment", "provider": "deepgram", "model": "nova-3"}
SCRIPT: list[Frame] = [
    {"type": "hold.authorize", "id": "call-1", **ASK},
    {"type": "usage", "id": "u-1", "hold": "call-1", "quantities": {"tokens.output": 10}},
    {**SEGMENT, "id": "v-1", "direction": "in", "ms": 1500},
    {"type": "tool.started", "id": "t-1", "tool": "weather", "provider": "gateway"},
    {"type": "hold.extend", "id": "x-1", "hold": "call-1", "amount": "0.5"},
    {"type": "tool.ended", "id": "t-2", "tool": "weather", "provider": "gateway"},
    {"type": "usage", "id": "u-2", "hold": "call-1", "quantities": {"tokens.output": 25}},
    {
        "type": "hold.capture",
        "id": "c-1",
        "hold": "call-1",
        "quantities": {"tokens.output": 30},
    },
    {**SEGMENT, "id": "v-2", "direction": "out", "ms": 2250},
    {
        "type": "usage",
        "id": "u-3",
        "call": "call-2",
        "provider": "openai",
        "quantities": {"tokens.input": 7},
    },
    {"type": "hold.authorize", "id": "call-3", **ASK},
    {"type": "hold.void", "id": "w-1", "hold": "call-3"},
    {"type": "hold.authorize", "id": "call-4", **ASK},
    {"type": "usage", "id": "u-4", "hold": "call-4", "quantities": {"tokens.output": 5}},
    {"type": "hold.authorize", "id": "call-5", **ASK},
    {"type": "end", "id": "bye"},
]
HOLDS = ("call-1", "call-3", "call-4", "call-5")


@pytest.fixture(scope="module")
def servers(request: pytest.FixtureRequest) -> Iterator[tuple[Server, Server]]:
    """Two processes' worth of servers over one fresh database."""
    run = request.getfixturevalue("postgres_run")
    with (
        run.database(migrated=True) as url,
        stream_server(url) as first,
        stream_server(url) as second,
    ):
        yield first, second


def begin(server: Server, tenant: str) -> Client:
    """Open the session of a tenant."""
    server.tallybook.tenants.open(tenant)
    server.tallybook.budgets.set({"cap": "100"}, tenant=tenant, name="monthly", by="t")
    client = server.connect(key="platform", query=f"?tenant={tenant}")
    client.send(type="hello", session="s-1", user="ann")
    client.opened = client.receive("hello")
    return client


def go_on(server: Server, tenant: str, epoch: int, last_seq: int | None) -> Client:
    """Resume the session of a tenant."""
    client = server.connect(key="platform", query=f"?tenant={tenant}")
    more = {} if last_seq is None else {"last_seq": last_seq}
    client.send(type="resume", session="s-1", epoch=epoch, **more)
    client.opened = client.receive("resumed", "resume_failed")
    return client


def play(client: Client, start: int, stop: int) -> None:
    """Send the frames of the script whose numbers are in ``[start, stop)``, without waiting."""
    for seq in range(start, stop):
        client.send(**SCRIPT[seq - 1], seq=seq)


def finish(server: Server, tenant: str, epoch: int, last_seq: int | None) -> Client | None:
    """Resume, send what is left, and wait for the end; None where it is over already."""
    client = go_on(server, tenant, epoch, last_seq)
    if client.opened["type"] == "resume_failed":
        assert client.opened["code"] == "session_ended"
        return None
    play(client, client.opened["from"], len(SCRIPT) + 1)
    assert client.closed() == Code.ENDED
    assert client.acked == len(SCRIPT)
    return client


def state(server: Server, tenant: str) -> dict[str, Any]:
    """Return what a tenant's ledger has come to, without times and places."""
    tallybook = server.tallybook
    [balance] = tallybook.reads.balances(tenant)
    [budget] = tallybook.budgets.list(tenant=tenant)
    found: dict[str, Any] = {
        "quantities": balance.quantities,
        "events": balance.events,
        "unpriced": balance.unpriced,
        "conflicts": tallybook.reads.tenant(tenant).conflicts,
        "budget": (budget.spent, budget.held),
    }
    for hold in HOLDS:
        try:
            row = tallybook.protection_reads.hold(hold, tenant=tenant).hold
        except NotFound:
            found[hold] = None
        else:
            found[hold] = (row.status, row.numbers, row.captured, row.final, row.reserved)
    return found


@pytest.fixture(scope="module")
def wanted(servers: tuple[Server, Server]) -> dict[str, Any]:
    """What the script comes to where nothing cuts it."""
    server, _ = servers
    with begin(server, "uncut") as client:
        play(client, 1, len(SCRIPT) + 1)
        assert client.closed() == Code.ENDED
    found = state(server, "uncut")
    assert found["events"] == 7
    assert found["conflicts"] == 0
    assert found["call-1"][:3] == ("captured", (25_000_000,), (30_000_000,))
    assert [found[hold][0] for hold in HOLDS[1:]] == ["voided", "captured", "voided"]
    return found


CUTS = range(0, len(SCRIPT) + 1)


@pytest.mark.parametrize("last", CUTS)
def test_cut_before_the_answer_nothing_is_lost_or_double(
    servers: tuple[Server, Server], wanted: dict[str, Any], last: int
) -> None:
    """The client has seen no answer at all; another process goes on."""
    first, second = servers
    tenant = f"before-{last}"
    client = begin(first, tenant)
    play(client, 1, last + 1)
    client.cut()
    finish(second, tenant, client.epoch, 0)
    assert state(first, tenant) == wanted


@pytest.mark.parametrize("last", CUTS)
def test_cut_after_the_answer_nothing_is_lost_or_double(
    servers: tuple[Server, Server], wanted: dict[str, Any], last: int
) -> None:
    """The client has seen the ack and sends only what comes after it."""
    first, second = servers
    tenant = f"after-{last}"
    client = begin(first, tenant)
    play(client, 1, last + 1)
    client.wait_ack(last)
    client.cut()
    finish(second, tenant, client.epoch, last)
    assert state(first, tenant) == wanted


@pytest.mark.parametrize("last", CUTS)
def test_cut_with_the_answer_under_way_nothing_is_lost_or_double(
    servers: tuple[Server, Server], wanted: dict[str, Any], last: int
) -> None:
    """All is committed, the client knows nothing of it, and asks the same process where it is."""
    first, _ = servers
    tenant = f"unseen-{last}"
    client = begin(first, tenant)
    play(client, 1, last + 1)
    client.wait_ack(last)
    client.cut()
    # What it sends again from the beginning is answered as it was the first time.
    again = finish(first, tenant, client.epoch, 0)
    if again is not None and last:
        decisions = [one["answer"] for one in again.of("decision")]
        assert decisions[0]["status"] == ("exists" if last < len(SCRIPT) else "created")
    assert state(first, tenant) == wanted


def test_cut_after_every_single_frame_nothing_is_lost_or_double(
    servers: tuple[Server, Server], wanted: dict[str, Any]
) -> None:
    """One session over as many connections as it has frames, the processes in turn."""
    client = begin(servers[0], "always")
    epoch = client.epoch
    for seq in range(1, len(SCRIPT)):
        play(client, seq, seq + 1)
        client.cut()
        client = go_on(servers[seq % 2], "always", epoch, seq - 1)
        assert client.opened["from"] == seq
        play(client, seq, seq + 1)
        client.wait_ack(seq)
    client.cut()
    finish(servers[0], "always", epoch, len(SCRIPT) - 1)
    assert state(servers[0], "always") == wanted
