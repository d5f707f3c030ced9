"""kill -9 of the importer, of a backend, of the postmaster: run again, and nothing is different."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from adapters.bootstrap import open_ledger
from adapters.postgres import embedded
from ledger.application.verify import verify

EVENTS = 6_000
TENANTS = ("acme", "birch", "cobalt")
SEED = 20_261_123
TRIALS = int(os.environ.get("TALLYBOOK_KILL_TRIALS", "2"))
"""Of each victim, two kills a trial; more of them on a day with time."""


def _event(chance: random.Random, number: int) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "type": "tallybook.usage.v2",
        "source": "gateway",
        "id": f"req-{number}",
        "subject": TENANTS[number % len(TENANTS)],
        "time": f"2026-10-{1 + number % 31:02d}T12:00:00Z",
        "data": {
            "provider": "openai",
            "model": chance.choice(("gpt-4o", "no-such-model")),
            "quantities": {
                "tokens.input": chance.randrange(5000),
                "tokens.output": chance.randrange(900),
            },
            "user": f"user-{number % 7}",
        },
    }


def _lines(count: int) -> list[str]:
    """Return usage, duplicates, corrections before and after their events, a conflict, junk."""
    chance = random.Random(SEED)
    lines = []
    for number in range(count):
        event = _event(chance, number)
        lines.append(json.dumps(event))
        if number % 97 == 0:
            lines.append(json.dumps(event))
        if number % 211 == 0:
            target = number + (50 if number % 2 else -50)
            lines.append(
                json.dumps(
                    {
                        **event,
                        "type": "tallybook.usage.void.v2",
                        "id": f"void-{number}",
                        "subject": TENANTS[target % len(TENANTS)],
                        "data": {"id": f"req-{max(target, 0)}"},
                    }
                )
            )
        if number % 1009 == 0:
            changed = {**event, "data": {**event["data"], "user": "somebody-else"}}
            lines.append(json.dumps(changed))
        if number % 3001 == 0:
            lines.append("{broken")
    return lines


class World:
    """A server of its own, which these tests may kill."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.file = home / "events.ndjson"
        self.file.write_text("\n".join(_lines(EVENTS)) + "\n", encoding="utf-8")
        self.file.chmod(0o644)

    def environment(self, url: str) -> dict[str, str]:
        """Return the environment of a command that uses one database of the server."""
        return {**os.environ, "TALLYBOOK_DATABASE_URL": url, "COLUMNS": "200"}

    def create(self, name: str) -> str:
        """Create an empty database and return its URL."""
        embedded.start(home=self.home)
        url = embedded.url(home=self.home)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return url.rsplit("/", 1)[0] + f"/{name}"

    def command(self, url: str, *arguments: str) -> subprocess.Popen[str]:
        """Start `tallybook` with arguments."""
        return subprocess.Popen(
            [sys.executable, "-m", "adapters.bootstrap", *arguments],
            env=self.environment(url),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, url: str, *arguments: str) -> tuple[int, str, str]:
        """Run `tallybook` to its end."""
        process = self.command(url, *arguments)
        out, err = process.communicate(timeout=180)
        return process.returncode, out, err

    def import_all(self, url: str) -> dict[str, Any]:
        """Import the file to its end, whatever happened before."""
        code, out, err = self.run(url, "import", str(self.file), "--json")
        assert code == 0, err
        return dict(json.loads(out.splitlines()[-1]))

    def state(self, url: str) -> Any:
        """Return every balance and rollup, and prove that the ledger is sound."""
        with open_ledger(url) as tallybook:
            tallybook.projections.catch_up()
            with tallybook.audit() as view:
                report = verify(view=view, deep=True)
            assert report.clean, report.differences
            result: list[Any] = []
            for tenant in TENANTS:
                result.extend(balance.as_tuple() for balance in tallybook.reads.balances(tenant))
                by = ("day", "model", "meter", "user")
                rows = tallybook.reads.usage(tenant=tenant, start=None, end=None, by=by)
                result.extend(sorted(map(repr, rows)))
            return result


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A server in a directory of its own."""
    home = Path(tempfile.mkdtemp(prefix="tb-kill-", dir="/tmp"))
    home.chmod(0o711)
    try:
        yield World(home)
    finally:
        embedded.stop(home=home)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def undisturbed(world: World) -> tuple[Any, float, dict[str, Any]]:
    """What an undisturbed import leads to, how long it takes, and what it counts."""
    url = world.create("undisturbed")
    code, _, err = world.run(url, "migrate")
    assert code == 0, err
    code, _, err = world.run(
        url, "prices", "set", "openai", "gpt-4o", "tokens.input", "2.5", "--per", "1000000"
    )
    assert code == 0, err
    code, _, err = world.run(
        url, "prices", "set", "openai", "gpt-4o", "tokens.output", "10", "--per", "1000000"
    )
    assert code == 0, err
    with psycopg.connect(url.rsplit("/", 1)[0] + "/postgres", autocommit=True) as connection:
        connection.execute('CREATE DATABASE "priced" TEMPLATE "undisturbed"')
    started = time.monotonic()
    counts = world.import_all(url)
    return world.state(url), time.monotonic() - started, counts


def _kill_backend(url: str) -> None:
    """End the writer's backend as the kernel's out-of-memory killer would."""
    try:
        with psycopg.connect(url.rsplit("/", 1)[0] + "/postgres", autocommit=True) as connection:
            rows = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'tallybook writer'"
            ).fetchall()
    except psycopg.OperationalError:
        return
    for (pid,) in rows:
        os.kill(pid, signal.SIGKILL)


def _kill_postmaster(world: World) -> None:
    pid = embedded.status(home=world.home).pid
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("victim", ["importer", "backend", "postmaster"])
@pytest.mark.parametrize("trial", range(TRIALS))
def test_import_killed_anywhere_and_run_again_equals_an_undisturbed_run(
    world: World, undisturbed: tuple[Any, float, dict[str, Any]], victim: str, trial: int
) -> None:
    """After two kills at random moments, one full run leads to the undisturbed state."""
    expected, seconds, counts = undisturbed
    chance = random.Random(f"{victim}-{trial}")
    embedded.start(home=world.home)
    server = embedded.url(home=world.home).rsplit("/", 1)[0]
    name = f"trial_{victim}_{trial}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "priced"')
    for _ in range(2):
        embedded.start(home=world.home)
        url = f"{embedded.url(home=world.home).rsplit('/', 1)[0]}/{name}"
        process = world.command(url, "import", str(world.file), "--json")
        time.sleep(chance.uniform(0.1, seconds))
        if victim == "importer":
            process.kill()
        elif victim == "backend":
            _kill_backend(url)
        else:
            _kill_postmaster(world)
            process.kill()
        process.communicate(timeout=180)
    embedded.start(home=world.home)
    url = f"{embedded.url(home=world.home).rsplit('/', 1)[0]}/{name}"
    again = world.import_all(url)
    assert again["accepted"] + again["duplicate"] == counts["accepted"] + counts["duplicate"]
    assert again["conflict"] == counts["conflict"]
    assert world.state(url) == expected
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def test_two_importers_at_once_lose_nothing_and_double_nothing(
    world: World, undisturbed: tuple[Any, float, dict[str, Any]]
) -> None:
    """Two processes import the same file into one database; each line counts once."""
    expected, _, counts = undisturbed
    embedded.start(home=world.home)
    server = embedded.url(home=world.home).rsplit("/", 1)[0]
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute('CREATE DATABASE "both" TEMPLATE "priced"')
    url = f"{server}/both"
    processes = [world.command(url, "import", str(world.file), "--json") for _ in range(2)]
    results = []
    for process in processes:
        out, err = process.communicate(timeout=180)
        assert process.returncode == 0, err
        results.append(json.loads(out.splitlines()[-1]))
    assert sum(result["accepted"] for result in results) == counts["accepted"]
    assert world.state(url) == expected
