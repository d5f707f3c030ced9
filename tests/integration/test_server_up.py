"""``tallybook up``: what it prints, what it refuses, and the key that it shows once."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from fakes.http_world import Api, http_world
from fakes.server_process import PATIENCE_S, ROOT, ServerProcess, running, wait_until

from adapters.bootstrap import open_ledger
from adapters.cli import up
from ledger.domain.jobs import RunState

EVERYWHERE = "0.0.0.0"  # noqa: S104 - the warning about it is what is tested


def refused(url: str, *options: str) -> tuple[int, str]:
    """Run a server that does not come up; return its exit code and what it said."""
    server = ServerProcess(url, *options)
    try:
        code = server.wait()
        assert server.process.stdout is not None
        assert server.process.stdout.read() == ""
        return code, server.log()
    finally:
        server.close()


def test_the_first_key_is_shown_once_and_never_logged(database_url: str) -> None:
    """It opens everything; a second start has no key to show, and no log knows its secret."""
    with running(database_url, "--log-level", "debug", "--access-log") as server:
        token = server.ready["admin_key"]
        status, headers, _ = server.call("GET", "/v2/nothing", token=token)
        assert (status, headers["content-type"]) == (404, "application/problem+json")
        assert server.call("GET", "/v2/nothing", token=token + "x")[0] == 401
        assert server.stop() == 0
        first = server.log()
    with running(database_url, "--workers", "2") as server:
        assert server.ready["admin_key"] is None
        assert server.call("GET", "/v2/nothing", token=token)[0] == 404
        assert server.stop() == 0
        second = server.log()
    secret = token.rsplit("_", 1)[1]
    assert secret not in first + second
    with open_ledger(database_url) as tallybook:
        [key] = tallybook.keys.list()
        assert (key.tenant, key.scopes, key.name) == (None, ("admin",), "first admin key")


def test_of_two_servers_that_start_at_once_one_shows_a_key(database_url: str) -> None:
    """There is one first key, however many begin together."""
    servers = [ServerProcess(database_url), ServerProcess(database_url, "--workers", "2")]
    try:
        for server in servers:
            server.wait_ready()
        shown = [server.ready["admin_key"] for server in servers]
        assert sum(key is not None for key in shown) == 1
        with open_ledger(database_url) as tallybook:
            assert len(tallybook.keys.list()) == 1
    finally:
        for server in servers:
            server.close()


def test_a_server_runs_the_jobs_that_are_due(database_url: str) -> None:
    """One that was last run in an earlier period is; one that was never seen waits for its next."""
    with open_ledger(database_url) as tallybook:
        before = tallybook.jobs.run("hold-sweep", period="2026-01-01T00")
        with running(database_url) as server:
            wait_until(lambda: tallybook.jobs.runs("hold-sweep")[0].period > before.period)
            wait_until(lambda: tallybook.jobs.runs("hold-sweep")[0].state is RunState.DONE)
            wait_until(lambda: len(tallybook.jobs.standings()) == 5)
            assert server.stop() == 0
        states = {one.job: one.last.state for one in tallybook.jobs.standings().values()}
        assert states.pop("hold-sweep") is RunState.DONE
        assert set(states.values()) == {RunState.SKIPPED}


def test_a_port_in_use_is_an_error_that_says_so(database_url: str) -> None:
    """Exit code 1, a code, and no trace; nothing was started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, log = refused(database_url, "--port", str(port))
    assert code == 1
    assert "port_in_use" in log
    assert str(port) in log
    assert "Traceback" not in log


def test_a_host_that_is_none_of_this_machine_s_is_an_error(database_url: str) -> None:
    """Neither a name without an address nor somebody else's address can be listened on."""
    code, log = refused(database_url, "--host", "no such host")
    assert (code, "invalid_host" in log) == (2, True)
    code, log = refused(database_url, "--host", "192.0.2.1")
    assert (code, "cannot_listen" in log) == (1, True)


def test_a_database_of_the_user_s_is_migrated_only_when_told(empty_database_url: str) -> None:
    """Without ``--migrate`` it is refused and left as it is."""
    code, log = refused(empty_database_url)
    assert (code, "schema_pending" in log) == (1, True)
    with running(empty_database_url, "--migrate") as server:
        assert server.call("GET", "/readyz")[0] == 200


def test_an_address_that_others_reach_is_warned_about(database_url: str) -> None:
    """Keys would go over the network as they are."""
    with running(database_url, "--host", EVERYWHERE) as server:
        assert f"warning: whoever reaches {EVERYWHERE}" in server.log()
        assert server.ready["host"] == EVERYWHERE
    with running(database_url) as server:
        assert "warning" not in server.log()


def test_people_are_told_where_it_answers_and_the_key(database_url: str) -> None:
    """The lines name the address, the process and, once, the key."""
    process = subprocess.Popen(
        [sys.executable, "-m", "adapters.bootstrap", "up", "--port", "0"],
        env=ServerProcess.environment(database_url),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.communicate()
    assert "not shown again" in lines[0]
    assert lines[1].strip().startswith("tbk_live_")
    assert "Tallybook answers at http://127.0.0.1:" in lines[2]
    assert f"process {process.pid}" in lines[2]


def test_the_ready_line_does_not_show_the_key_by_accident() -> None:
    """What is printed of it in a trace or a log has no secret."""
    server = up.Ready(
        url="http://x", host="x", port=1, pid=1, workers=1, admin_key="tbk_live_a_secret"
    )
    assert "secret" not in repr(server)


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    """Give an application."""
    with http_world(database_url) as world:
        yield world


def test_a_server_that_ends_says_so_when_asked_whether_it_is_ready(api: Api) -> None:
    """Balancers learn it before connections are refused; everything else is still answered."""
    assert api.get("/readyz", key=None).status_code == 200
    api.lifecycle.draining = True
    answer = api.get("/readyz", key=None)
    assert (answer.status_code, answer.json()["code"]) == (503, "draining")
    assert answer.headers["retry-after"] == "1"
    assert api.get("/healthz", key=None).status_code == 200
