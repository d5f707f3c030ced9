"""``tallybook keys`` and ``tallybook audit``, really; acts of the command line are kept."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
import typer
from fixtures_postgres import Run as Server
from typer.testing import CliRunner, Result

from adapters.bootstrap import Tallybook, build, open_ledger
from adapters.cli import audit, keys
from ledger.application.access import KeyRefused
from ledger.application.audited import Actor, audited
from ledger.domain.errors import InvalidInput, NotFound, Refused

Run = Callable[..., Result]
_COUNT = count()


@pytest.fixture(scope="module")
def tallybook(postgres_run: Server) -> Iterator[Tallybook]:
    """Give a fresh ledger."""
    with postgres_run.database(migrated=True) as url, open_ledger(url) as opened:
        yield opened


@pytest.fixture
def acme(tallybook: Tallybook) -> str:
    """Give the name of a new tenant."""
    name = f"acme-{next(_COUNT)}"
    tallybook.tenants.open(name)
    return name


@pytest.fixture
def run(tallybook: Tallybook) -> Run:
    """Run a command as ann; what it raises reaches the test."""
    app = typer.Typer()

    @contextmanager
    def open_services() -> Iterator[Any]:
        yield audited(tallybook, tallybook.audit_log, Actor(who="ann", via="cli"))

    for module in (keys, audit):
        module.register(app, open_services)

    def run(*arguments: str) -> Result:
        return CliRunner(env={"COLUMNS": "250"}).invoke(
            app, list(arguments), catch_exceptions=False
        )

    return run


def document(result: Result) -> Any:
    """Return what was printed as JSON."""
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_a_token_stands_alone_on_standard_output_and_opens(
    run: Run, acme: str, tallybook: Tallybook
) -> None:
    """So that a script can take it from there; what is for people goes to standard error."""
    result = run("keys", "issue", "gateway", "--tenant", acme, "-s", "read", "-s", "holds:write")
    token = result.stdout.strip()
    assert result.stdout == token + "\n"
    assert "shown this once" in result.stderr
    assert tallybook.keyring.authenticate(token, "").scopes == {"read", "holds:write"}
    assert tallybook.keyring.authenticate(token, "").tenant == acme


def test_a_key_of_the_platform_is_asked_for_in_as_many_words(run: Run, acme: str) -> None:
    """Neither or both is wrong use."""
    for arguments in ((), ("--tenant", acme, "--platform")):
        with pytest.raises(InvalidInput) as caught:
            run("keys", "issue", "ops", "-s", "admin", *arguments)
        assert caught.value.code == "invalid_arguments"
    made = document(run("keys", "issue", "ops", "-s", "admin", "--platform", "--json"))
    assert made["tenant"] is None
    assert [one["id"] for one in document(run("keys", "list", "--platform", "--json"))] == [
        made["id"]
    ]


def test_a_key_has_the_terms_that_were_given(run: Run, acme: str) -> None:
    """All of them."""
    made = document(
        run(
            *("keys", "issue", "gateway", "--tenant", acme, "-s", "events:write"),
            *("--mode", "test", "--note", "edge", "--network", "192.0.2.0/24"),
            *("--expires", "2099-01-01T00:00:00Z", "--per-second", "50", "--burst", "90"),
            *("--by", "bob", "--json"),
        )
    )
    token = made.pop("token")
    assert token.startswith("tbk_test_")
    shown = document(run("keys", "show", made["id"], "--json"))
    assert shown == made
    assert shown["networks"] == ["192.0.2.0/24"]
    assert (shown["per_second"], shown["burst"], shown["mode"]) == (50, 90, "test")
    assert (shown["expires_at"], shown["issued_by"]) == ("2099-01-01T00:00:00Z", "bob")
    people = run("keys", "show", token).stdout
    assert "events:write" in people
    assert token.rsplit("_", 1)[1] not in people


def test_a_rotated_key_goes_on_for_the_overlap(run: Run, acme: str, tallybook: Tallybook) -> None:
    """Both tokens open; with none the old one is over at once."""
    old = document(run("keys", "issue", "g", "--tenant", acme, "-s", "read", "--json"))
    new = document(run("keys", "rotate", old["id"], "--overlap", "30m", "--json"))
    assert new["predecessor"] == old["id"]
    assert new["old"]["successor"] == new["id"]
    for one in (old, new):
        assert tallybook.keyring.authenticate(one["token"], "").tenant == acme
    run("keys", "revoke", old["id"])
    newest = document(run("keys", "rotate", new["id"], "--overlap", "0", "--json"))
    with pytest.raises(KeyRefused):
        tallybook.keyring.authenticate(new["token"], "")
    assert tallybook.keyring.authenticate(newest["token"], "").tenant == acme
    for overlap, error in (("soon", InvalidInput), ("31d", InvalidInput), ("1h", Refused)):
        with pytest.raises(error):
            run("keys", "rotate", new["id"], "--overlap", overlap)


def test_a_revoked_key_is_listed_only_when_asked_for(
    run: Run, acme: str, tallybook: Tallybook
) -> None:
    """By its token too, which is what whoever found a leak has."""
    made = document(run("keys", "issue", "g", "--tenant", acme, "-s", "read", "--json"))
    run("keys", "revoke", made["token"], "--reason", "leaked")
    assert document(run("keys", "list", "--tenant", acme, "--json")) == []
    [listed] = document(run("keys", "list", "--tenant", acme, "--ended", "--json"))
    assert (listed["status"], listed["reason"]) == ("revoked", "leaked")
    assert "revoked" in run("keys", "list", "--ended").stdout
    with pytest.raises(KeyRefused):
        tallybook.keyring.authenticate(made["token"], "")
    with pytest.raises(NotFound):
        run("keys", "revoke", "nobody")


def test_uses_are_shown_by_key_and_route(run: Run, acme: str, tallybook: Tallybook) -> None:
    """Once they were written, at most a second later, or on closing."""
    made = document(run("keys", "issue", "g", "--tenant", acme, "-s", "read", "--json"))
    assert "no key was used" in run("keys", "uses", "--key", made["id"]).stderr
    caller = tallybook.keyring.authenticate(made["token"], "")
    for status in (200, 204, 503):
        tallybook.keyring.used(caller, route="/v2/events", status=status)
    tallybook._use_counter.flush()
    found = document(run("keys", "uses", "--key", made["id"], "--json"))
    assert {(one["route"], one["status"], one["uses"]) for one in found} == {
        ("/v2/events", "2xx", 2),
        ("/v2/events", "5xx", 1),
    }
    assert {(one["tenant"], one["day"]) for one in found} == {(acme, None)}
    daily = document(run("keys", "uses", "--key", made["id"], "--daily", "--json"))
    assert [one["day"] for one in daily] == [one["last_at"][:10] for one in daily] != []
    assert "/v2/events" in run("keys", "uses", "--since", "2026-01-01").stdout


def test_acts_are_listed_by_whom_and_about_whom(run: Run, acme: str) -> None:
    """With neither token nor digest."""
    made = document(run("keys", "issue", "g", "--tenant", acme, "-s", "read", "--json"))
    run("keys", "revoke", made["id"], "--reason", "leaked", "--by", "bob")
    found = document(run("audit", "list", "--tenant", acme, "--json"))
    assert [(one["act"], one["who"], one["via"]) for one in found] == [
        ("key.revoked", "ann", "cli"),
        ("key.issued", "ann", "cli"),
    ]
    assert found[0]["detail"] == {"reason": "leaked", "by": "bob"}
    assert made["token"].rsplit("_", 1)[1] not in json.dumps(found)
    [issued] = document(run("audit", "list", "--act", "key.issued", "--tenant", acme, "--json"))
    assert issued["target"] == made["id"]
    before = str(found[0]["number"])
    assert document(run("audit", "list", "--tenant", acme, "--before", before, "--json")) == [
        found[1]
    ]
    assert "key.revoked" in run("audit", "list", "--act", "key", "--who", "ann").stdout
    assert "nothing was done" in run("audit", "list", "--platform", "--who", "nobody").stderr


def test_the_whole_command_line_writes_its_acts_down(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is wired: the system's user, whatever ``--by`` says."""
    monkeypatch.setenv("TALLYBOOK_DATABASE_URL", database_url)
    app = build()
    for arguments in (
        ("tenants", "open", "acme"),
        ("budgets", "set", "monthly", "--tenant", "acme", "--cap", "5", "--by", "bob"),
        ("entitlements", "set", "--tenant", "acme", "--model", "m*"),
    ):
        result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert result.exit_code == 0
    with open_ledger(database_url) as tallybook:
        lines = tallybook.audit_log.list()
    assert [(line.act, line.target) for line in reversed(lines)] == [
        ("tenant.opened", "acme"),
        ("budget.set", "monthly"),
        ("entitlements.set", "acme"),
    ]
    assert {line.who for line in lines} == {getpass.getuser()}
    assert lines[1].detail["by"] == "bob"
