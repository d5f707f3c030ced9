"""A gateway's events and captures count exactly once, whatever happens on the way to the ledger."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.fault_proxy import FAULTS, FaultProxy, fault_proxy
from fakes.http_server import RunningServer, running_server

from adapters.bootstrap import open_ledger
from adapters.client import AsyncClient, Client, Retry, Usage

FAST = Retry(deadline_s=20, first_s=0.01, most_s=0.2)
METER = "tokens.input"


@pytest.fixture
def server(database_url: str) -> Iterator[RunningServer]:
    """A server that is well."""
    with open_ledger(database_url) as tallybook:
        tallybook.tenants.open("acme")
    with running_server(database_url) as running:
        yield running


@pytest.fixture
def proxy(server: RunningServer) -> Iterator[FaultProxy]:
    """The network before it."""
    with fault_proxy(server.port) as running:
        yield running


def client(url: str, spool: Path, **members: object) -> Client:
    """Return a client that does not wait long."""
    given = {"url": url, "key": "acme", "timeout_s": 5.0, "retry": FAST, "spool": spool, **members}
    return Client(drain_retry=FAST, spool_fsync=False, **given)


def usage(number: int) -> Usage:
    """Return an event that counts its number."""
    return Usage(source="gw", id=f"e-{number}", provider="openai", quantities={METER: number})


def counted(url: str) -> tuple[int, int]:
    """Return how many events the ledger has, and the sum of what they count."""
    with open_ledger(url) as tallybook:
        balances = tallybook.reads.balances("acme")
    quantities = [one.decimal_quantities().get(METER, 0) for one in balances]
    return sum(one.events for one in balances), int(sum(quantities))


def expected(count: int) -> tuple[int, int]:
    """Return what is right for events 1 to ``count``."""
    return count, count * (count + 1) // 2


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_survived_by_events_and_by_requests(
    fault: str, proxy: FaultProxy, tmp_path: Path, database_url: str
) -> None:
    """Attempts fail in this way until one is answered, and everything counts once."""
    with client(f"http://127.0.0.1:{proxy.port}", tmp_path / "spool") as sender:
        proxy.plan = [fault, fault, fault]  # type: ignore[list-item] # one of them
        statuses = [item.status for item in sender.record(usage(1), usage(2))]
        assert set(statuses) <= {"accepted", "duplicate"}
        if fault in ("cut_answer", "half_answer"):
            assert statuses == ["duplicate", "duplicate"]
        proxy.plan = [fault, fault]  # type: ignore[list-item] # as above
        with sender.hold("h-1", amount="1") as hold:
            hold.capture({METER: 3}, provider="openai")
        proxy.plan = [fault]  # type: ignore[list-item] # as above
        sender.enqueue(usage(4))
        assert sender.flush(20)
        assert sender.spool is not None
        assert sender.spool.refused() == []
    # What is only slow is not repeated; every other fault costs an attempt.
    assert proxy.done.count(fault) == (4 if fault == "slow" else 6)  # type: ignore[arg-type] # as above
    assert counted(database_url) == expected(4)


def test_a_storm_of_faults_loses_nothing_and_doubles_nothing(
    proxy: FaultProxy, tmp_path: Path, database_url: str
) -> None:
    """Threads enqueue and record through a network that breaks every other request."""
    chance = random.Random(7)
    proxy.plan = [chance.choice([*FAULTS, "none", "none"]) for _ in range(60)]  # type: ignore[list-item] # of both
    with client(f"http://127.0.0.1:{proxy.port}", tmp_path / "spool") as sender:

        def enqueue(start: int) -> None:
            for number in range(start, 401, 4):
                sender.enqueue(usage(number))
                if number % 40 == start % 40:
                    sender.record(usage(number))

        threads = [threading.Thread(target=enqueue, args=(start,)) for start in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sender.flush(60)
    assert counted(database_url) == expected(400)


def test_the_asyncio_client_counts_once_too(
    proxy: FaultProxy, tmp_path: Path, database_url: str
) -> None:
    """Many tasks, the same faults."""
    chance = random.Random(8)
    proxy.plan = [chance.choice([*FAULTS, "none"]) for _ in range(40)]  # type: ignore[list-item] # of both

    async def main() -> None:
        async with AsyncClient(
            url=f"http://127.0.0.1:{proxy.port}",
            key="acme",
            retry=FAST,
            drain_retry=FAST,
            spool=tmp_path / "spool",
            spool_fsync=False,
        ) as sender:

            async def call(number: int) -> None:
                async with sender.hold(f"h-{number}", amount="0.01") as hold:
                    await hold.progress({METER: 1})
                    await hold.capture({METER: number}, provider="openai")

            await asyncio.gather(*(call(number) for number in range(1, 41)))
            await asyncio.gather(*(sender.record(usage(number)) for number in range(41, 61)))
            assert await sender.flush(30)

    asyncio.run(main())
    assert counted(database_url) == expected(60)


def test_a_server_that_is_killed_while_it_commits_gets_everything_once(
    server: RunningServer, tmp_path: Path, database_url: str
) -> None:
    """Killed three times, each time back on the same port; the spool drains in between."""
    running = server
    with client(server.url, tmp_path / "spool") as sender:
        for start in range(1, 3001, 750):
            for number in range(start, start + 750):
                sender.enqueue(usage(number))
            if start > 1:
                time.sleep(random.Random(start).uniform(0, 0.1))
                running.kill()
                running = RunningServer(database_url, server.port)
        try:
            assert sender.flush(60)
        finally:
            running.stop()
    assert counted(database_url) == expected(3000)


def test_a_gateway_that_is_killed_goes_on_where_it_was(
    server: RunningServer, tmp_path: Path, database_url: str
) -> None:
    """What it had enqueued is sent by whoever opens the spool next."""
    script = f"""
import sys
from adapters.client import Client, Usage
client = Client(url="http://127.0.0.1:1", key="acme", spool={str(tmp_path / "spool")!r})
for number in range(1, 100000):
    client.enqueue(Usage(source="gw", id=f"e-{{number}}", provider="openai",
                         quantities={{{METER!r}: number}}))
    print(number, flush=True)
"""
    gateway = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert gateway.stdout is not None
    taken = 0
    while taken < 50:
        taken = int(gateway.stdout.readline())
    gateway.send_signal(signal.SIGKILL)
    rest, _ = gateway.communicate()
    taken = max([taken, *map(int, rest.split())])
    with client(server.url, tmp_path / "spool") as sender:
        assert sender.flush(30)
    events, total = counted(database_url)
    # One more may have been committed and not been printed any more.
    assert events in (taken, taken + 1)
    assert (events, total) == expected(events)


def test_memory_stays_flat_while_the_ledger_is_down_and_while_the_spool_drains(
    server: RunningServer, tmp_path: Path, database_url: str
) -> None:
    """Twenty thousand events wait in the file, not in the process."""
    script = f"""
import json, resource
from adapters.client import Client, Retry, Usage
FAST = Retry(first_s=0.01, most_s=0.1)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
def fill(client, start, count):
    for first in range(start, start + count, 100):
        client.enqueue(*(Usage(source="gw", id=f"e-{{n}}", provider="openai",
                               quantities={{{METER!r}: n}}) for n in range(first, first + 100)))
path = {str(tmp_path / "spool")!r}
with Client(url="http://127.0.0.1:1", key="acme", spool=path, drain_retry=FAST) as client:
    fill(client, 1, 2000)
    before = peak()
    fill(client, 2001, 18000)
    down = peak()
with Client(url={server.url!r}, key="acme", spool=path, drain_retry=FAST) as client:
    assert client.flush(100)
    print(json.dumps([before, down, peak()]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    before, down, drained = json.loads(done.stdout)
    assert down - before <= 4, (before, down, drained)
    # One request of at most 4 MiB and its answer are in memory at a time.
    assert drained - before <= 32, (before, down, drained)
    assert counted(database_url) == expected(20000)
