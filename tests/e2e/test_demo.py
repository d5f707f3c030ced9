"""The demonstration, played as a user plays it, on PostgreSQL: its figures against our own sums."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fixtures_postgres import Run

from adapters.bootstrap import open_ledger
from adapters.cli import demo as demo_command
from adapters.cli import demo_run
from adapters.cli.demo_traffic import COMPANIES, DUPLICATES, UNPRICED_MODEL
from adapters.providers import normalize
from ledger.domain.errors import InvalidInput, Refused
from ledger.domain.meters import STANDARD_METERS
from ledger.domain.periods import EPOCH
from ledger.domain.prices import PriceKey, PriceKind, PriceRow

MONTH = "2026-09"
ROOT = Path(__file__).parents[2]
Sums = dict[str, dict[str, Decimal]]


class Demo:
    """Plays the demonstration in processes of its own.

    Args:
        url: of the database.
        home: where its files go.
    """

    def __init__(self, url: str, home: Path) -> None:
        self._environment = {
            **os.environ,
            "TALLYBOOK_DATABASE_URL": url,
            "TALLYBOOK_HOME": str(home),
            "COLUMNS": "80",
        }

    def tallybook(self, *arguments: str, encoding: str = "utf-8") -> str:
        """Run the command line and return what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "adapters.bootstrap", *arguments],
            env={**self._environment, "PYTHONIOENCODING": encoding},
            cwd=ROOT,
            capture_output=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode(encoding)

    def play(self) -> dict[str, Any]:
        """Play a month and return its document."""
        document: dict[str, Any] = json.loads(self.tallybook("demo", "--month", MONTH, "--json"))
        return document


@pytest.fixture(scope="module")
def demo(postgres_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """Give a demonstration in an empty database."""
    with postgres_run.database(migrated=False) as url:
        yield Demo(url, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def first(demo: Demo) -> dict[str, Any]:
    """Return the document of the first run."""
    return demo.play()


def expected(sent: Path, corrections: Path) -> Sums:
    """Return quantities by tenant and meter, summed from the files without the ledger."""
    sums: Sums = defaultdict(lambda: defaultdict(Decimal))
    seen: dict[tuple[str, str], dict[str, Decimal]] = {}
    for line in sent.read_bytes().splitlines():
        try:
            envelope = json.loads(line)
        except ValueError:
            continue
        key = (envelope["tenant"], envelope["id"])
        if key in seen:
            continue
        response = envelope["stream"] if "stream" in envelope else envelope["response"]
        try:
            calls = normalize(provider=envelope["provider"], response=response)
        except InvalidInput:
            continue
        used: dict[str, Decimal] = defaultdict(Decimal)
        for call in calls:
            for meter, quantity in call.quantities.items():
                used[meter] += quantity
        for meter, quantity in envelope.get("quantities", {}).items():
            used[meter] += quantity
        seen[key] = used
    for line in corrections.read_bytes().splitlines():
        event = json.loads(line)
        key = (event["subject"], event["data"]["id"])
        quantities = event["data"].get("quantities", {})
        seen[key] = {meter: Decimal(value) for meter, value in quantities.items()}
    for (tenant, _), used in seen.items():
        for meter, quantity in used.items():
            sums[tenant][meter] += quantity
    return sums


def test_the_balances_are_the_sums_of_the_files(first: dict[str, Any]) -> None:
    """Each good line counts once, duplicates and conflicts never, corrections as they say."""
    sent, corrections = map(Path, first["files"])
    sums = expected(sent, corrections)
    assert set(sums) == {tenant["tenant"] for tenant in first["tenants"]}
    for tenant in first["tenants"]:
        shown = {meter: Decimal(value) for meter, value in tenant["quantities"].items()}
        known = {meter: value for meter, value in sums[tenant["tenant"]].items() if value}
        assert {meter: value for meter, value in shown.items() if value} == known
        assert known.keys() <= STANDARD_METERS.keys()


def test_what_was_sent_wrongly_is_answered_as_such(first: dict[str, Any]) -> None:
    """Duplicates, a conflict and two unreadable lines, each with line and code."""
    counts = first["import"]
    assert counts["duplicate"] >= DUPLICATES
    assert (counts["conflict"], counts["rejected"], counts["unpriced"]) == (1, 2, 1)
    problems = {(one["status"], one["code"], one["pointer"]) for one in first["problems"]}
    assert problems == {
        ("rejected", "malformed_json", ""),
        ("rejected", "invalid_count", "/response/usage/completion_tokens"),
        ("conflict", "conflict", "/id"),
    }


def test_the_charge_is_the_cost_and_a_fifth_of_it(first: dict[str, Any]) -> None:
    """The mark-up holds to the last digit, and the days add up to the month."""
    assert first["prices"] == {
        "book": "default",
        "approved": first["prices"]["approved"],
        "markup": "20",
    }
    for tenant in first["tenants"]:
        charge, cost = Decimal(tenant["charge"]), Decimal(tenant["costs"]["USD"])
        assert charge == cost * 12 / 10
        assert charge > 1
        assert Decimal(tenant["margin"]) == charge - cost
        assert sum(map(Decimal, tenant["days"].values())) == charge
        assert set(tenant["costs"]) == {"USD"}


def test_corrections_and_the_unpriced_call_are_in_the_statement(first: dict[str, Any]) -> None:
    """One event was taken back, and one has no price."""
    shown = [(tenant["voided"], tenant["unpriced"]) for tenant in first["tenants"]]
    assert shown == [(1, 0), (0, 1), (0, 0)]


def test_a_second_run_changes_nothing_and_says_so(demo: Demo, first: dict[str, Any]) -> None:
    """What was accepted is a duplicate now; the balances are the same to the last digit."""
    again = demo.play()
    assert again["balances_unchanged"]
    assert not first["balances_unchanged"]
    assert again["import"] == {
        **first["import"],
        "accepted": 0,
        "duplicate": first["import"]["accepted"] + first["import"]["duplicate"],
        "unpriced": 0,
    }
    assert again["tenants"] == first["tenants"]
    assert (again["prices"]["approved"], again["prices"]["markup"]) == (0, None)


def test_it_fits_a_terminal_of_80_columns_without_unicode(
    demo: Demo, first: dict[str, Any]
) -> None:
    """Everything but the paths of files stays within the width, in ASCII."""
    printed = demo.tallybook("demo", "--month", MONTH, encoding="ascii")
    lines = [line for line in printed.splitlines() if "/" not in line]
    assert max(map(len, lines)) <= 80
    for tenant in first["tenants"]:
        assert f"USD {Decimal(tenant['charge_rounded']):>5,}" in printed
    assert "found the demo already imported" in printed
    assert f"1 call of {UNPRICED_MODEL} by blue-harbor" in printed


def test_the_commands_to_try_next_work_as_printed(demo: Demo, first: dict[str, Any]) -> None:
    """Whoever copies a line gets an answer."""
    printed = demo.tallybook("demo", "--month", MONTH)
    _, _, rest = printed.partition("What to try next")
    commands = [line.split("#")[0].split() for line in rest.splitlines() if line.strip()]
    assert len(commands) == 5
    assert commands[0][1:] == ["explain", first["example"]["id"]]
    for program, *arguments in commands:
        assert program == "tallybook"
        assert demo.tallybook(*arguments).strip()


def test_where_others_have_prices_the_demonstration_sells_from_a_book_of_its_own(
    postgres_run: Run,
) -> None:
    """Their prices and mark-ups stay as they are, and nothing is pulled over them."""
    price = PriceRow(
        key=PriceKey("openai", "gpt-4o", "tokens.input"),
        rate=Decimal(1),
        effective_from=EPOCH,
    )
    with postgres_run.database(migrated=True) as url, open_ledger(url) as tallybook:
        tallybook.tenants.open("zeta")
        tallybook.prices.set(price, kind=PriceKind.COST, by="them")
        book = demo_run.choose_book(tallybook)
        ready = demo_run.stock_prices(tallybook, book=book)
        assert (ready.book, ready.approved, ready.markup) == ("demo", 0, 20)
        assert tallybook.prices.markups("default") == ()
        rates = {
            name: [
                found.record.row.rate
                for found in tallybook.prices.at(provider="openai", model="gpt-4o", book=name)
                if found.kind is PriceKind.SELL and found.record is not None
            ]
            for name in ("default", "demo")
        }
        assert rates == {"default": [1], "demo": [Decimal("1.2")]}
        assert demo_run.open_tenants(tallybook, book=book) == list(demo_run.NAMES)
        assert demo_run.choose_book(tallybook) == "demo"
        assert demo_run.stock_prices(tallybook, book=book).markup is None


@pytest.mark.parametrize(
    ("folder", "on_path", "shown"),
    [
        (".", False, "bin/tallybook"),
        ("bin", True, "tallybook"),
        ("other", False, "{bin}/tallybook"),
    ],
)
def test_commands_are_printed_as_they_can_be_called_from_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str, on_path: bool, shown: str
) -> None:
    """A program that is not on the path is named with its own."""
    program = tmp_path / "bin" / "tallybook"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setattr(sys, "argv", [str(program), "demo"])
    monkeypatch.setenv("PATH", str(program.parent) if on_path else "/nowhere")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / folder)
    assert demo_command.program() == shown.format(bin=program.parent)


def test_somebody_elses_tenant_of_the_same_name_is_left_alone(postgres_run: Run) -> None:
    """The demonstration stops before it records anything."""
    with postgres_run.database(migrated=True) as url, open_ledger(url) as tallybook:
        tallybook.tenants.open(COMPANIES[1].tenant, timezone="UTC")
        with pytest.raises(Refused, match=COMPANIES[1].tenant) as caught:
            demo_run.open_tenants(tallybook, book=demo_run.choose_book(tallybook))
        assert caught.value.code == "demo_tenant_exists"
        assert tallybook.reads.balances(COMPANIES[1].tenant) == []
