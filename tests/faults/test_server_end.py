"""The end of a server, asked for or not: whoever was answered is in the ledger, nobody is left."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from fakes.server_process import PATIENCE_S, Gunner, ServerProcess, running, wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from adapters.bootstrap import open_ledger
from adapters.postgres.migrate import SCHEMA
from ledger.domain.entries import UsageRecorded

SHOTS = 40
"""Answers that each client has before the server is told to end."""


@pytest.fixture
def ledger_url(database_url: str) -> str:
    """Give a database with a tenant."""
    with open_ledger(database_url) as tallybook:
        tallybook.tenants.open("acme")
    return database_url


def gunners(server: ServerProcess, token: str, **members: bool) -> list[Gunner]:
    """Start clients that keep their connection, and some that do not."""
    started = [
        Gunner(server, token, f"{'kept' if keep else 'fresh'}-{number}", keep=keep, **members)
        for keep in (True, False)
        for number in range(4)
    ]
    for one in started:
        one.start()
    return started


def shot(clients: Sequence[Gunner], answers: int) -> bool:
    """Return whether each client had so many answers, or one that is wrong."""
    return all(len(one.answered) >= answers or one.others for one in clients)


def stored(url: str) -> list[str]:
    """Return the ids of all holds and usage events; what is there twice is twice in the list."""
    with open_ledger(url) as tallybook:
        rows = tallybook.protection_reads.holds(tenant="acme", limit=1_000_000)
        return [row.hold.id for row in rows] + [
            entry.id
            for _, commit in tallybook.reads.commits(tenant="acme", before=None, limit=1_000_000)
            for entry in commit.entries
            if isinstance(entry, UsageRecorded)
        ]


def check_clients(clients: Sequence[Gunner], url: str) -> None:
    """Check that everything was answered, and that what was answered is stored."""
    for one in clients:
        one.join(PATIENCE_S)
        assert not one.is_alive()
        assert one.others == []
    answered = [hold for one in clients for hold in one.answered]
    assert len(answered) >= SHOTS * len(clients)
    found = stored(url)
    assert set(answered) <= set(found)
    assert len(set(found)) == len(found)


@contextmanager
def writer_held(url: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Let nobody commit to the ledger."""
    with psycopg.connect(url) as connection:
        connection.execute(f"LOCK TABLE {SCHEMA}.ledger_log IN EXCLUSIVE MODE")
        yield connection


@pytest.mark.parametrize("workers", [1, 2])
def test_a_drain_leaves_no_request_without_an_answer(ledger_url: str, workers: int) -> None:
    """Clients that ask all the time are answered or refused, never cut off; the server exits 0."""
    with running(ledger_url, "--workers", str(workers)) as server:
        clients = gunners(server, server.ready["admin_key"])
        wait_until(lambda: shot(clients, SHOTS))
        server.signal(signal.SIGTERM)
        assert server.wait() == 0, server.log()
        check_clients(clients, ledger_url)
        assert [error for one in clients for error in one.lost] == []


def test_what_is_in_flight_when_the_end_begins_is_answered(ledger_url: str) -> None:
    """A request that waits for its commit is answered after it; then the server exits 0."""
    with running(ledger_url) as server:
        answers = []

        def ask() -> None:
            document = {"hold": "h-1", "tenant": "acme", "amount": "1"}
            answers.append(
                server.call("POST", "/v2/holds", document, token=server.ready["admin_key"])
            )

        asking = threading.Thread(target=ask)
        with writer_held(ledger_url):
            asking.start()
            wait_until(lambda: _waiting_for_lock(ledger_url))
            server.signal(signal.SIGTERM)
            wait_until(lambda: "ending" in server.log())
            assert server.process.poll() is None
        asking.join(PATIENCE_S)
        assert server.wait() == 0, server.log()
    [(status, headers, body)] = answers
    assert (status, headers["connection"]) == (200, "close")
    assert json.loads(body)["status"] == "created"
    assert stored(ledger_url) == ["h-1"]


def test_streams_are_answered_and_closed_resumably(ledger_url: str) -> None:
    """A frame that waits for its commit when the end begins is acked after it."""
    with running(ledger_url) as server:
        headers = {"Authorization": f"Bearer {server.ready['admin_key']}"}
        address = f"ws://127.0.0.1:{server.port}/v2/stream?tenant=acme"
        with connect(address, additional_headers=headers) as client:
            client.send(json.dumps({"type": "hello", "session": "s-1"}))
            assert json.loads(client.recv(PATIENCE_S))["type"] == "hello"
            with writer_held(ledger_url):
                frame = {"type": "voice.segment", "direction": "in", "ms": 10, "provider": "x"}
                client.send(json.dumps({**frame, "id": "v-1", "seq": 1}))
                wait_until(lambda: _waiting_for_lock(ledger_url))
                server.signal(signal.SIGTERM)
                wait_until(lambda: "ending" in server.log())
            # Ends with the close, raised where it is no good one.
            told = []
            with contextlib.suppress(ConnectionClosed):
                while True:
                    told.append(json.loads(client.recv(PATIENCE_S)))
            assert client.close_code == 1012
        assert {"type": "ack", "seq": 1} in told
        assert server.wait() == 0, server.log()


@pytest.mark.parametrize("how", ["timeout", "signal", "signal to workers"])
def test_a_drain_that_does_not_come_to_its_end_is_cut_short(ledger_url: str, how: str) -> None:
    """After its time limit, or at a second signal, connections are cut and the exit code is 1."""
    options = ["--drain-timeout", "0.5"] if how == "timeout" else []
    if how == "signal to workers":
        options = ["--workers", "2"]
    with running(ledger_url, *options) as server:
        lost: list[BaseException] = []

        def ask() -> None:
            document = {"hold": "h-1", "tenant": "acme", "amount": "1"}
            try:
                server.call("POST", "/v2/holds", document, token=server.ready["admin_key"])
            except (OSError, http.client.HTTPException) as error:
                lost.append(error)

        asking = threading.Thread(target=ask)
        with writer_held(ledger_url):
            asking.start()
            wait_until(lambda: _waiting_for_lock(ledger_url))
            server.signal(signal.SIGTERM)
            if how != "timeout":
                wait_until(lambda: "ending" in server.log())
                server.signal(signal.SIGTERM)
            asking.join(PATIENCE_S)
            assert server.wait() == 1
        assert len(lost) == 1


def test_a_worker_that_dies_or_hangs_is_replaced_and_loses_nothing_that_was_answered(
    ledger_url: str,
) -> None:
    """Clients that send again what was cut off get through, and each hold is there once."""
    with running(ledger_url, "--workers", "2", "--hang-timeout", "5") as server:
        dies, hangs = server.workers()
        clients = gunners(server, server.ready["admin_key"], again=True)
        wait_until(lambda: shot(clients, SHOTS // 2))
        # What it is asked before it is killed; one that is stopped cannot answer.
        os.kill(hangs, signal.SIGUSR1)
        wait_until(lambda: "most recent call first" in server.log())
        os.kill(hangs, signal.SIGSTOP)
        os.kill(dies, signal.SIGKILL)
        for gone in (dies, hangs):
            wait_until(lambda gone=gone: len({*server.workers()} - {gone}) == 2)
        wait_until(lambda: shot(clients, SHOTS))
        assert server.stop() == 0, server.log()
        check_clients(clients, ledger_url)
        assert f"process {dies}) has ended with code -9" in server.log()
        assert f"process {hangs}) has given no sign of life for 5 s" in server.log()
        assert f"process {hangs}) has ended with code -9" in server.log()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_sequencer_that_dies_costs_its_callers_a_wait(ledger_url: str, workers: int) -> None:
    """Nobody sees an error, and each hold is there once; SIGTERM alone does not end it.

    The second time its socket is removed, as by what tidies a temporary directory.
    """
    with running(ledger_url, "--workers", str(workers)) as server:
        clients = gunners(server, server.ready["admin_key"])
        for number in (1, 2):
            wait_until(lambda number=number: shot(clients, number * SHOTS // 3))
            os.kill(server.sequencer(), signal.SIGTERM)
            if number == 1:
                os.kill(server.sequencer(), signal.SIGKILL)
            else:
                shutil.rmtree(_folder(server.sequencer()))
            wait_until(lambda number=number: len(server.sequencers()) == number + 1)
        wait_until(lambda: shot(clients, SHOTS))
        assert server.stop() == 0, server.log()
        check_clients(clients, ledger_url)
        assert [error for one in clients for error in one.lost] == []
        *killed, last = server.sequencers()
        for one in killed:
            assert f"process {one} has ended with code -9" in server.log()
        assert not _alive(last)


def test_a_sequencer_ends_when_its_server_was_killed(ledger_url: str) -> None:
    """And takes its socket with it."""
    with running(ledger_url) as server:
        sequencer = server.sequencer()
        folder = _folder(sequencer)
        server.signal(signal.SIGKILL)
        wait_until(lambda: not _alive(sequencer))
        wait_until(lambda: not folder.exists())


def _folder(sequencer: int) -> Path:
    """Return the directory of a sequencer's socket."""
    [folder] = {
        Path(line.split()[-1]).parent
        for line in Path("/proc/net/unix").read_text().splitlines()
        if line.endswith("/sequencer") and _holds(sequencer, line.split()[6])
    }
    return folder


def _holds(pid: int, inode: str) -> bool:
    """Return whether a process has a socket open."""
    found = []
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(os.readlink(file))
    return f"socket:[{inode}]" in found


def test_workers_end_when_their_supervisor_was_killed(ledger_url: str) -> None:
    """They answer what is in flight and leave the port free."""
    with running(ledger_url, "--workers", "2") as server:
        workers = server.workers()
        clients = gunners(server, server.ready["admin_key"])
        wait_until(lambda: shot(clients, SHOTS))
        server.signal(signal.SIGKILL)
        check_clients(clients, ledger_url)
        assert [error for one in clients for error in one.lost] == []
        wait_until(lambda: not any(_alive(pid) for pid in workers))


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _waiting_for_lock(url: str) -> bool:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock'"
        ).fetchone()
        return bool(row and row[0])
