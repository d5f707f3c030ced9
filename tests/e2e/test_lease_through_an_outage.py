"""A lease is issued, the database goes away, calls go on, and afterwards the sums are exact."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.building import document
from fixtures_postgres import Run

from adapters.bootstrap import LEASE_KEY_VARIABLE, build
from adapters.cli.app import run
from adapters.postgres.embedded import HOME_VARIABLE, URL_VARIABLE

CALLS = {"call-1": 240, "call-2": 250, "call-3": 100, "call-4": 7}
"""Input tokens by call; a thousand cost 1 USD, and each was expected to take 250."""
Tallybook = Callable[..., Any]


@pytest.fixture
def home(postgres_run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a home in which a database of this test's own is started with the first command."""
    with postgres_run.other_home() as place:
        monkeypatch.setenv(HOME_VARIABLE, str(place))
        monkeypatch.delenv(URL_VARIABLE, raising=False)
        monkeypatch.delenv(LEASE_KEY_VARIABLE, raising=False)
        yield place


@pytest.fixture
def tallybook(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Tallybook:
    """Run a command with --json and return what it printed; the key is in none of it."""

    def tallybook(*arguments: str, code: int = 0) -> Any:
        monkeypatch.setattr(sys, "argv", ["tallybook", *arguments, "--json"])
        assert run(build()) == code, capsys.readouterr()
        printed = capsys.readouterr()
        key = home / "keys" / "lease.pem"
        secret = key.read_text().splitlines()[1] if key.exists() else "PRIVATE KEY"
        assert secret not in printed.out + printed.err
        return json.loads(printed.out) if printed.out else None

    return tallybook


def _events(folder: Path) -> Path:
    """Write the usage of all calls, each naming the lease as its hold."""
    file = folder / "usage.ndjson"
    lines = [
        json.dumps(
            document(
                id,
                time=None,
                data={"quantities": {"tokens.input": tokens}, "hold": "l-1"},
            )
        )
        for id, tokens in CALLS.items()
    ]
    file.write_text("\n".join(lines))
    return file


def _standing(tallybook: Tallybook) -> tuple[str, str]:
    """Return what the cap counts as spent and held."""
    [cap] = tallybook("budgets", "list", "--tenant", "acme")
    return cap["spent"], cap["held"]


def test_calls_go_on_through_an_outage_and_are_charged_once(
    home: Path, tallybook: Tallybook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lease of 1 USD pays for four calls of at most 0.25; what they took is what is charged."""
    tallybook("tenants", "open", "acme")
    for kind in ("cost", "sell"):
        price = ("openai", "gpt", "tokens.input", "1", "--per", "1000", "--kind", kind)
        tallybook("prices", "set", *price)
    cap = ("--cap", "5", "--window", "lifetime", "--on-outage", "lease:1")
    tallybook("budgets", "set", "ever", "-t", "acme", *cap)

    about = ("-t", "acme", "--ttl", "3600", "--provider", "openai", "--model", "gpt")
    tallybook("holds", "lease", "issue", "l-0", *about, "--amount", "2", code=2)
    issued = tallybook("holds", "lease", "issue", "l-1", *about, "--amount", "1")
    again = tallybook("holds", "lease", "issue", "l-1", *about, "--amount", "1")
    token = issued["token"]
    assert again["token"] == token
    assert _standing(tallybook) == ("0", "1")
    public_key = tallybook("holds", "lease", "key")["public_key"]
    assert stat.S_IMODE((home / "keys" / "lease.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE((home / "keys").stat().st_mode) == 0o700

    url = tallybook("db", "url")["url"]
    assert tallybook("db", "stop") == {"stopped": True}
    monkeypatch.setenv(URL_VARIABLE, url)
    tallybook("holds", "authorize", "h-1", "-t", "acme", "--amount", "0.1", code=1)

    assert tallybook("holds", "lease", "verify", token, "--public-key", public_key)["valid"]
    spend = ("--file", str(tmp_path / "l-1.json"), "--public-key", public_key)
    for id in CALLS:
        assert tallybook("holds", "lease", "spend", token, id, "0.25", *spend)["allowed"]
    assert tallybook("holds", "lease", "spend", token, "call-1", "0.25", *spend)["allowed"]
    refused = tallybook("holds", "lease", "spend", token, "call-5", "0.25", *spend, code=3)
    assert refused == {"allowed": False, "spent": "1", "left": "0", "currency": "USD"}

    monkeypatch.delenv(URL_VARIABLE)
    tallybook("db", "start")
    events = str(_events(tmp_path))
    assert tallybook("import", events)["accepted"] == len(CALLS)
    assert tallybook("import", events)["duplicate"] == len(CALLS)
    assert _standing(tallybook) == ("0.597", "0.403")
    settled = tallybook("holds", "lease", "settle", "l-1", "-t", "acme")
    assert (settled["recorded"], settled["released"]) == ("0.597", "0.403")
    assert tallybook("holds", "lease", "settle", "l-1", "-t", "acme")["status"] == "exists"
    assert _standing(tallybook) == ("0.597", "0")
    assert tallybook("balance", "-t", "acme")["total"]["charge"] == "0.597"
    assert tallybook("verify", "--deep")["differences"] == []
