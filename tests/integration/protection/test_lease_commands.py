"""``tallybook holds lease``, as far as no database is asked: keys in files, and tokens."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from adapters.bootstrap import LEASE_KEY_VARIABLE, lease_keys
from adapters.cli import leases
from adapters.postgres.embedded import HOME_VARIABLE
from adapters.signing import KeyFile, load_or_create
from ledger.application.leases import LeaseToken, key_id, signed
from ledger.domain.errors import InvalidInput, LedgerError, Refused

Run = Callable[..., Result]
Ask = Callable[..., Any]


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    """A key that is made with its first use, in a folder that is not there yet."""
    return KeyFile(tmp_path / "home" / "keys" / "lease.pem")


@pytest.fixture
def run(keys: KeyFile) -> Run:
    """Run a command without a database; what it raises reaches the test."""
    app = typer.Typer()

    def no_services() -> Any:
        raise AssertionError("this command needs no database")

    leases.register(app, no_services, keys)

    def run(*arguments: str) -> Result:
        runner = CliRunner(env={"COLUMNS": "250"})
        return runner.invoke(app, ["lease", *arguments], catch_exceptions=False)

    return run


@pytest.fixture
def ask(run: Run) -> Ask:
    """Run a command with --json and return what it printed."""

    def ask(*arguments: str, code: int = 0) -> Any:
        done = run(*arguments, "--json")
        assert done.exit_code == code, done.output
        return json.loads(done.stdout)

    return ask


def _token(keys: KeyFile, expires_at: str = "2099-01-01T00:00:00Z") -> str:
    signer = keys.signer()
    token = LeaseToken("5", "USD", expires_at, key_id(signer.public_key), "l-1", "acme")
    return signed(token, signer=signer)


def _forged(tmp_path: Path, keys: KeyFile) -> str:
    """Return a token that names the ledger's key and that another key signed."""
    known = keys.signer().public_key
    token = LeaseToken("5", "USD", "2099-01-01T00:00:00Z", key_id(known), "l-1", "acme")
    return signed(token, signer=load_or_create(tmp_path / "other.pem"))


def test_the_key_is_made_once_and_is_its_owner_s_alone(ask: Ask, run: Run, keys: KeyFile) -> None:
    """What is printed is the public half and where the other is."""
    assert keys.public_key() is None
    first = ask("key")
    assert ask("key") == first
    assert bytes.fromhex(first["public_key"]) == keys.public_key()
    assert first["key"] == key_id(bytes.fromhex(first["public_key"]))
    assert first["file"] == str(keys.path)
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.path.parent.stat().st_mode) == 0o700
    assert run("key").stdout == f"{first['public_key']}\n"


def test_a_key_that_others_may_read_signs_nothing(run: Run, keys: KeyFile) -> None:
    """Whoever read it could sign leases."""
    keys.signer()
    keys.path.chmod(0o640)
    with pytest.raises(Refused) as refused:
        run("key")
    assert refused.value.code == "key_exposed"


def test_where_the_key_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the home directory, or where the environment says."""
    monkeypatch.delenv(LEASE_KEY_VARIABLE, raising=False)
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    assert lease_keys().path == tmp_path / "keys" / "lease.pem"
    monkeypatch.setenv(LEASE_KEY_VARIABLE, str(tmp_path / "shared.pem"))
    assert lease_keys().path == tmp_path / "shared.pem"


def test_a_token_shows_what_it_says_whoever_signed_it(
    ask: Ask, run: Run, keys: KeyFile, tmp_path: Path
) -> None:
    """Good, bad, or unknown where nobody has the public key; over or not."""
    token, late = _token(keys), _token(keys, "2020-01-01T00:00:00Z")
    forged = _forged(tmp_path, keys)
    shown = ask("show", token)
    assert (shown["lease"], shown["amount"], shown["expired"]) == ("l-1", "5", False)
    assert shown["signature"] == "good"
    assert ask("show", late)["expired"]
    assert ask("show", forged)["signature"] == "bad"
    keys.path.unlink()
    assert ask("show", forged)["signature"] == "unknown"
    assert "l-1" in run("show", token).stdout
    with pytest.raises(Refused) as refused:
        run("show", "tbl1.nothing.of")
    assert refused.value.code == "lease_malformed"


def test_a_token_is_valid_if_the_ledger_signed_it_and_it_is_not_over(
    ask: Ask, run: Run, keys: KeyFile, tmp_path: Path
) -> None:
    """Else the exit code is 3, and the answer says why."""
    token = _token(keys)
    public_key = ask("key")["public_key"]
    assert ask("verify", token)["valid"]
    assert run("verify", token).stdout == "valid: 5 USD of acme until 2099-01-01T00:00:00Z\n"
    assert ask("verify", _forged(tmp_path, keys), code=3)["code"] == "lease_forged"
    assert ask("verify", _token(keys, "2020-01-01T00:00:00Z"), code=3)["code"] == "lease_expired"
    assert run("verify", "nothing").exit_code == 3
    other = load_or_create(tmp_path / "other.pem").public_key.hex()
    assert ask("verify", token, "--public-key", other, code=3)["code"] == "lease_forged"
    keys.path.unlink()
    assert ask("verify", token, "--public-key", public_key)["valid"]


@pytest.mark.parametrize("given", ["", "zz", "00ff"])
def test_without_a_public_key_nothing_is_verified(run: Run, given: str) -> None:
    """Neither where none is known, nor with something else in its place; no key is made for it."""
    with pytest.raises(InvalidInput) as refused:
        run("verify", "tbl1.a.b", "--public-key", given)
    assert refused.value.code == "invalid_public_key"


def test_spending_stops_at_the_amount_and_each_call_is_paid_once(
    ask: Ask, run: Run, keys: KeyFile, tmp_path: Path
) -> None:
    """The file remembers, from one process to the next."""
    token, file = _token(keys), ("--file", str(tmp_path / "spent.json"))
    assert ask("spend", token, "a", "3", *file) == {
        "allowed": True,
        "spent": "3",
        "left": "2",
        "currency": "USD",
    }
    assert ask("spend", token, "a", "3", *file)["spent"] == "3"
    assert not ask("spend", token, "b", "2.5", *file, code=3)["allowed"]
    assert run("spend", token, "b", "2", *file).stdout == "allowed: 5 USD spent, 0 left\n"
    with pytest.raises(LedgerError) as refused:
        run("spend", token, "a", "1", *file)
    assert refused.value.code == "lease_conflict"
