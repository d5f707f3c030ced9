"""Queries on PostgreSQL, and the commands that show their answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from projections_world import World, catalog, correction, traffic, usage, world
from typer.testing import CliRunner

from adapters.cli import balance, events, projections
from adapters.cli import usage as usage_command
from ledger.application.reads import Located, UsageRow
from ledger.application.runner import Projections
from ledger.domain.entries import UsageRecorded
from ledger.domain.errors import InvalidInput, LedgerError, NotFound
from ledger.domain.periods import to_us

RATE = Decimal("0.00000035")


@pytest.fixture
def ledger(database_url: str) -> Iterator[World]:
    """Give a ledger with three tenants."""
    with world(database_url) as one:
        yield one


def rolled(one: World, tenant: str = "acme", **asked: Any) -> list[UsageRow]:
    """Return grouped usage after catching up."""
    one.runner().catch_up()
    days = {"start": None, "end": None}
    return list(one.reads.usage(tenant=tenant, **{**days, **asked}))


def kinds(found: list[Located] | Any) -> list[str]:
    """Return the types of located entries."""
    return [type(one.commit.entries[one.index]).__name__ for one in found]


# -- usage ------------------------------------------------------------------------------


def test_usage_is_grouped_as_asked_and_in_order(ledger: World) -> None:
    """Groups come in the order of their values, which come in the order asked for."""
    ledger.use(
        usage("acme", "1", user="bob", model="chat"),
        usage("acme", "2", user="ann", model="request"),
        usage("acme", "3", user="ann", model="chat"),
        usage("acme", "4", user="ann", model="chat"),
        usage("birch", "5", user="zoe"),
    )
    rows = rolled(ledger, by=["user", "model"])
    assert [(row.group, row.quantity) for row in rows] == [
        (("ann", "chat"), Decimal(2000)),
        (("ann", "request"), Decimal(1000)),
        (("bob", "chat"), Decimal(1000)),
    ]
    assert rows[0].charge == 2000 * RATE
    assert rows[0].costs == {"USD": 2000 * RATE}


def test_a_group_of_several_meters_has_no_quantity(ledger: World) -> None:
    """Tokens in and tokens out do not add up; amounts do."""
    both = {"tokens.input": 1000, "tokens.output": 10}
    ledger.use(usage("acme", "1", quantities=both, model="mystery"))
    [row] = rolled(ledger, by=["model"])
    assert (row.quantity, row.unpriced, row.charge) == (None, None, Decimal(0))
    meters = rolled(ledger, by=["meter"])
    assert [row.quantity for row in meters] == [row.unpriced for row in meters]
    assert [row.quantity for row in meters] == [Decimal(1000), Decimal(10)]


def test_a_meter_that_an_adjustment_took_away_does_not_mix(ledger: World) -> None:
    """What adds up to nothing is no usage."""
    ledger.use(usage("acme", "1"), correction("acme", "a", "1", {"tokens.output": 5}))
    [row] = rolled(ledger, by=["model"])
    assert row.quantity == 5
    ledger.use(correction("acme", "v", "1"))
    assert rolled(ledger, by=["model"]) == []
    assert rolled(ledger, by=[]) == []


def test_costs_of_several_currencies_are_one_group(ledger: World) -> None:
    """Each currency has its own sum; quantities and charges are not counted twice."""
    ledger.use(
        usage("acme", "1", model="chat"),
        usage("acme", "2", model="request"),
        usage("acme", "3", model="chat", byok=True),
    )
    [row] = rolled(ledger, by=["meter"])
    assert row.quantity == 3000
    assert set(row.costs) == {"EUR", "USD"}
    assert row.costs["USD"] == 1000 * RATE


def test_days_are_local_and_the_end_is_exclusive(ledger: World) -> None:
    """The first day counts, the last does not."""
    for day in (10, 11, 12):
        ledger.use(usage("acme", str(day), time=f"2026-10-{day}T22:30:00Z"))
    rows = rolled(ledger, by=["day"], start=date(2026, 10, 11), end=date(2026, 10, 13))
    assert [row.group for row in rows] == [("2026-10-11",), ("2026-10-12",)]
    [row] = rolled(ledger, by=["day"], start=date(2026, 10, 13))
    assert row.group == ("2026-10-13",)


def test_large_sums_are_exact(ledger: World) -> None:
    """More digits than a default decimal context has."""
    ledger.price(catalog("request", factor=Decimal(10**9)))
    tokens = {"tokens.input": 45_000_000_000}
    ledger.use(usage("acme", "large", model="request", quantities=tokens))
    ledger.price(catalog("chat", factor=Decimal("0.0001")))
    ledger.use(usage("acme", "tiny", quantities={"tokens.input": 0.000001}))
    [row] = rolled(ledger, by=[])
    assert row.quantity == Decimal("45000000000.000001")
    assert row.charge == Decimal("15750000000000.000000000000000035")
    [kept] = ledger.reads.balances("acme")
    assert row.charge == kept.decimal_charge()
    assert row.costs == kept.decimal_costs()


@pytest.mark.parametrize("by", [["hour"], ["day", "day"], ["tenant_id; DROP TABLE tenants"]])
def test_an_unknown_grouping_is_told(ledger: World, by: list[str]) -> None:
    """Only the groupings listed exist, each once."""
    with pytest.raises(InvalidInput) as caught:
        rolled(ledger, by=by)
    assert caught.value.code == "unknown_grouping"


def test_the_lag_is_told_until_the_rollups_caught_up(ledger: World) -> None:
    """The number of positions behind falls to 0."""
    before = ledger.reads.rollup_lag()
    ledger.use(usage("acme", "1"))
    assert ledger.reads.rollup_lag() > before > 0
    ledger.runner().catch_up()
    assert ledger.reads.rollup_lag() == 0


# -- tenants ----------------------------------------------------------------------------


def test_an_unknown_tenant_is_told_by_every_query(ledger: World) -> None:
    """Never an empty answer for a name that is mistyped."""
    reads = ledger.reads
    for query in (
        lambda: reads.tenant("acne"),
        lambda: reads.balances("acne"),
        lambda: reads.usage(tenant="acne", start=None, end=None, by=[]),
        lambda: reads.locate(tenant="acne", source="s", id="1"),
        lambda: reads.place(tenant="acne", version=1, index=0),
        lambda: reads.find_id("1", tenant="acne"),
        lambda: reads.history(tenant="acne", source="s", id="1"),
        lambda: reads.commits(tenant="acne", before=None, limit=1),
        lambda: reads.shapes("acne"),
        lambda: reads.unpriced(tenant="acne", limit=1),
    ):
        with pytest.raises(NotFound) as caught:
            query()
        assert caught.value.code == "unknown_tenant"


def test_tenants_come_by_name(ledger: World) -> None:
    """Names are in order, settings as opened."""
    rows = ledger.reads.tenants()
    assert [row.tenant for row in rows] == ["acme", "birch", "cobalt"]
    assert rows[0].timezone == "Europe/Berlin"
    assert ledger.reads.tenant("acme") == rows[0]


def test_the_time_is_the_databases_in_utc(ledger: World) -> None:
    """It is near ours on one machine, and aware."""
    now = ledger.reads.now()
    assert now.tzinfo is UTC
    assert abs(now - datetime.now(UTC)) < timedelta(minutes=5)


def test_a_query_survives_the_death_of_a_kept_connection(ledger: World) -> None:
    """The server was restarted, say: the next query opens a new connection."""
    ledger.reads.tenants()
    with ledger.database.connect(purpose="test") as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'tallybook reads' AND datname = current_database()"
        )
    assert len(ledger.reads.tenants()) == 3


# -- entries ----------------------------------------------------------------------------


def test_an_entry_is_found_by_key_and_by_receipt(ledger: World) -> None:
    """The receipt of the answer leads to the entry, and so does its key."""
    outcomes = ledger.use(usage("acme", "1"), usage("acme", "2"))
    located = ledger.reads.locate(tenant="acme", source="gateway", id="2")
    assert (located.version, located.index) == (outcomes[1].version, outcomes[1].index)
    entry = located.commit.entries[located.index]
    assert isinstance(entry, UsageRecorded)
    assert entry.id == "2"
    again = ledger.reads.place(tenant="acme", version=located.version, index=located.index)
    assert again == located
    assert located.digest == ledger.reads.tenant("acme").digest.hex()


@pytest.mark.parametrize(("version", "index"), [(2, 99), (99, 0), (2, -1)])
def test_a_place_without_an_entry_is_unknown(ledger: World, version: int, index: int) -> None:
    """Beyond the stream or beyond the commit."""
    ledger.use(usage("acme", "1"))
    with pytest.raises(NotFound) as caught:
        ledger.reads.place(tenant="acme", version=version, index=index)
    assert caught.value.code == "unknown_event"


@pytest.mark.parametrize("query", ["locate", "history"])
def test_an_unknown_key_is_told(ledger: World, query: str) -> None:
    """The same id of another source is another event."""
    ledger.use(usage("acme", "1"))
    with pytest.raises(NotFound) as caught:
        getattr(ledger.reads, query)(tenant="acme", source="elsewhere", id="1")
    assert caught.value.code == "unknown_event"


def test_an_id_is_found_whatever_it_is_the_id_of(ledger: World) -> None:
    """Events, their provider's request, corrections; newest first, in one tenant or all."""
    ledger.use(usage("acme", "needle"), usage("acme", "needles"))
    ledger.use(usage("birch", "other", request_id="needle"))
    ledger.use(correction("acme", "needle", "needles"))
    found = ledger.reads.find_id("needle")
    assert kinds(found) == ["UsageVoided", "UsageRecorded", "UsageRecorded"]
    assert [one.tenant.tenant for one in found] == ["acme", "birch", "acme"]
    assert [one.position for one in found] == sorted((o.position for o in found), reverse=True)
    assert kinds(ledger.reads.find_id("needle", tenant="birch")) == ["UsageRecorded"]
    assert ledger.reads.find_id("needl") == []


def test_history_holds_everything_about_an_event_in_order(ledger: World) -> None:
    """Its own entry, conflicts, re-ratings between corrections, and nothing of its neighbors."""
    ledger.use(usage("acme", "1"), usage("acme", "11"))
    for factor in (2, 3):
        ledger.price(catalog("chat", factor=factor))
        assert ledger.rerate("acme", "1").status == "accepted"
    ledger.use(usage("acme", "1", user="somebody else"))
    ledger.use(correction("acme", "a", "1", {"tokens.input": 7}))
    ledger.price(catalog("chat", factor=5))
    ledger.rerate("acme", "1")
    ledger.rerate("acme", "11")
    ledger.use(correction("acme", "v", "1"), correction("acme", "a2", "11", {"tokens.input": 1}))
    assert kinds(ledger.reads.history(tenant="acme", source="gateway", id="1")) == [
        "UsageRecorded",
        "UsageRerated",
        "UsageRerated",
        "ConflictKept",
        "UsageAdjusted",
        "UsageRerated",
        "UsageVoided",
    ]
    assert kinds(ledger.reads.history(tenant="acme", source="gateway", id="11")) == [
        "UsageRecorded",
        "UsageRerated",
        "UsageAdjusted",
    ]


def test_history_of_an_event_whose_correction_came_first(ledger: World) -> None:
    """The void alone while the event is missing; then the event and its application."""
    ledger.use(correction("acme", "v", "late"))
    about = {"tenant": "acme", "source": "gateway", "id": "late"}
    assert kinds(ledger.reads.history(**about)) == ["UsageVoided"]
    ledger.use(usage("acme", "late"))
    assert kinds(ledger.reads.history(**about)) == [
        "UsageVoided",
        "UsageRecorded",
        "CorrectionApplied",
    ]


def test_commits_are_paged_newest_first(ledger: World) -> None:
    """Below a number, at most so many."""
    for number in range(4):
        ledger.use(usage("acme", str(number)))
    newest = ledger.reads.commits(tenant="acme", before=None, limit=2)
    assert [version for version, _ in newest] == [5, 4]
    rest = ledger.reads.commits(tenant="acme", before=4, limit=10)
    assert [version for version, _ in rest] == [3, 2, 1]


def test_unpriced_events_come_oldest_first(ledger: World) -> None:
    """Of all tenants or one, and only what stands unpriced."""
    ledger.use(
        usage("acme", "new", model="mystery", time="2026-10-12T00:00:00Z"),
        usage("birch", "old", model="mystery", time="2026-10-11T00:00:00Z"),
        usage("acme", "void", model="mystery"),
        correction("acme", "v", "void"),
    )
    found = ledger.reads.unpriced(limit=10)
    assert [(tenant, one.id) for tenant, one in found] == [("birch", "old"), ("acme", "new")]
    assert found[0][1].occurred_at == to_us(datetime(2026, 10, 11, tzinfo=UTC))
    assert [one.id for _, one in ledger.reads.unpriced(tenant="acme", limit=10)] == ["new"]
    assert len(ledger.reads.unpriced(limit=1)) == 1


# -- commands ---------------------------------------------------------------------------


class Shell:
    """The commands over a world."""

    def __init__(self, one: World) -> None:
        services = SimpleNamespace(reads=one.reads, projections=Projections.over(one.store))

        @contextmanager
        def open_services() -> Iterator[Any]:
            yield services

        self._app = typer.Typer(rich_markup_mode=None)
        for module in (balance, events, projections, usage_command):
            module.register(self._app, open_services)

    def text(self, *arguments: str) -> str:
        """Return what a command prints for people."""
        result = CliRunner().invoke(self._app, arguments, env={"COLUMNS": "80"})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *arguments: str) -> Any:
        """Return what a command prints for programs."""
        return json.loads(self.text(*arguments, "--json"), parse_float=Decimal)


@pytest.fixture
def shell(ledger: World) -> Shell:
    """Give the commands over the ledger."""
    return Shell(ledger)


def test_balance_as_json_has_periods_and_their_total(ledger: World, shell: Shell) -> None:
    """Decimals are strings; the total's rounded charge is the rounded total."""
    tokens = {"tokens.input": 20_000}
    ledger.use(
        usage("acme", "1", quantities=tokens, time="2026-09-10T00:00:00Z"),
        usage("acme", "2", quantities=tokens),
        usage("acme", "3", model="mystery"),
        usage("acme", "4"),
        correction("acme", "v", "4"),
    )
    shown = shell.json("balance", "--tenant", "acme")
    first = {
        "charge": "0.007",
        "charge_rounded": "0.01",
        "costs": {"USD": "0.007"},
        "quantities": {"tokens.input": "20000"},
        "events": 1,
        "voided": 0,
        "unpriced": 0,
    }
    second = {
        **first,
        "quantities": {"tokens.input": "21000"},
        "events": 3,
        "voided": 1,
        "unpriced": 1,
    }
    assert shown == {
        "tenant": "acme",
        "currency": "USD",
        "timezone": "Europe/Berlin",
        "periods": [{"period": "2026-09", **first}, {"period": "2026-10", **second}],
        "total": {
            "charge": "0.014",
            "charge_rounded": "0.01",
            "costs": {"USD": "0.014"},
            "quantities": {"tokens.input": "41000"},
            "events": 4,
            "voided": 1,
            "unpriced": 1,
        },
    }
    one = shell.json("balance", "--tenant", "acme", "--period", "2026-09")
    assert [period["period"] for period in one["periods"]] == ["2026-09"]
    assert one["total"] == first
    everyone = shell.json("balance")["tenants"]
    assert [each["tenant"] for each in everyone] == ["acme", "birch", "cobalt"]


def test_usage_catches_up_first(ledger: World, shell: Shell) -> None:
    """Numbers are never silently old: without catching up the lag is told."""
    ledger.use(usage("acme", "1"))
    old = shell.json("usage", "--tenant", "acme", "--no-catch-up")
    assert old["rows"] == []
    assert old["lag"] > 0
    new = shell.json("usage", "--tenant", "acme", "--by", "day,meter")
    assert new["lag"] == 0
    assert new["rows"] == [
        {
            "day": "2026-10-10",
            "meter": "tokens.input",
            "quantity": "1000",
            "charge": "0.00035",
            "costs": {"USD": "0.00035"},
            "unpriced": "0",
        }
    ]


def test_the_lines_of_all_entries_add_up_to_the_balance(ledger: World, shell: Shell) -> None:
    """Usage and what corrections changed, page by page, sum to the charge and the quantities."""
    batch = list(traffic(count=60, seed=3))
    for start in range(0, len(batch), 10):
        ledger.use(*batch[start : start + 10])
    ledger.price(catalog("chat", "request", "session", "mystery", factor=2))
    for number in range(60):
        ledger.rerate("acme", f"req-{number}")
    lines: list[dict[str, Any]] = []
    cursor: list[str] = []
    while True:
        page = shell.json("events", "--tenant", "acme", "--limit", "7", *cursor)
        lines += page["events"]
        assert len(page["events"]) <= 7
        if page["next"] is None:
            break
        cursor = ["--before", page["next"]]
    places = [tuple(map(int, line["ref"].split(":")[1].split("."))) for line in lines]
    assert places == sorted(set(places), reverse=True)
    total = shell.json("balance", "--tenant", "acme")["total"]
    assert sum(Decimal(line["charge"]) for line in lines) == Decimal(total["charge"])
    inputs = sum(Decimal(line["quantities"].get("tokens.input", 0)) for line in lines)
    assert inputs == Decimal(total["quantities"]["tokens.input"])
    assert sum(line["kind"] == "usage" for line in lines) == total["events"]
    assert sum("voided" in line["flags"] for line in lines) == total["voided"]


def test_events_show_what_became_of_usage(ledger: World, shell: Shell) -> None:
    """The receipt, the amounts, and the refs of the corrections."""
    [receipt] = ledger.use(usage("acme", "1", user="ann"))
    [void] = ledger.use(correction("acme", "v", "1"))
    newest, oldest = shell.json("events", "--tenant", "acme")["events"]
    assert oldest["ref"] == f"acme:{receipt.version}.{receipt.index}"
    assert oldest["corrections"] == [f"acme:{void.version}.{void.index}"]
    assert oldest["flags"] == ["voided"]
    assert oldest["time"] == "2026-10-10T12:00:00+00:00"
    assert (oldest["quantities"], oldest["charge"]) == ({"tokens.input": "1000"}, "0.00035")
    assert newest["kind"] == "void"
    assert newest["target"] == {"source": "gateway", "id": "1"}
    assert (newest["quantities"], newest["charge"]) == ({"tokens.input": "-1000"}, "-0.00035")


def test_events_are_filtered(ledger: World, shell: Shell) -> None:
    """By id, outcome, model, conflict, and by standing unpriced."""
    ledger.use(
        usage("acme", "1", outcome="error"),
        usage("acme", "2", model="mystery", request_id="req-2"),
        usage("acme", "3", model="mystery"),
        correction("acme", "v", "3"),
        usage("acme", "1"),
    )

    def ids(*filters: str) -> list[tuple[str, str]]:
        page = shell.json("events", "--tenant", "acme", *filters)
        return [(line["kind"], line["id"]) for line in page["events"]]

    assert ids("--outcome", "error") == [("usage", "1")]
    assert ids("--model", "mystery") == [("void", "v"), ("usage", "3"), ("usage", "2")]
    assert ids("--conflicts") == [("conflict", "1")]
    assert ids("--unpriced") == [("usage", "2")]
    assert ids("--id", "req-2") == [("usage", "2")]
    assert ids("--id", "1") == [("conflict", "1"), ("usage", "1")]
    assert ids("--id", "v") == [("void", "v"), ("usage", "3")]
    assert ids("--id", "nothing") == []


def test_projections_can_be_run_and_rebuilt(ledger: World, shell: Shell) -> None:
    """Status, run, rebuild; the group alone shows the status."""
    ledger.use(usage("acme", "1"))
    assert shell.json("projections", "status")[0]["lag"] > 0
    assert "usage_daily" in shell.text("projections")
    assert shell.json("projections", "run")[0]["lag"] == 0
    report = shell.json("projections", "rebuild", "usage_daily")
    assert (report["rows"], report["changed"], report["removed"]) == (1, 0, 0)


def test_what_people_see_fits_eighty_columns(ledger: World, shell: Shell) -> None:
    """Long ids, several meters and currencies stay within the terminal, and whole."""
    ledger.use(*traffic(count=40, seed=5))
    ledger.use(usage("acme", "chatcmpl-" + "x" * 60, model="mystery", user="u" * 40))
    for command in ("usage --by day,user,model,meter", "usage", "balance", "events -n 99"):
        name, *options = command.split()
        shown = shell.text(name, "--tenant", "acme", *options)
        assert max(map(len, shown.splitlines())) <= 80, command
        assert "\u2026" not in shown, "ids and numbers are folded, never cut"


def test_empty_answers_say_so(shell: Shell) -> None:
    """An empty screen could mean anything."""
    assert "nothing recorded in 2026-01" in shell.text("balance", "-t", "acme", "-p", "2026-01")
    assert "no usage of acme" in shell.text("usage", "--tenant", "acme")
    assert "no entries of acme" in shell.text("events", "--tenant", "acme")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["balance", "--tenant", "acne"], "unknown_tenant"),
        (["usage", "--tenant", "acne"], "unknown_tenant"),
        (["events", "--tenant", "acne"], "unknown_tenant"),
        (["balance", "--tenant", "acme", "--period", "2026"], "invalid_period"),
        (["usage", "--tenant", "acme", "--from", "yesterday"], "invalid_day"),
        (["usage", "--tenant", "acme", "--by", "hour"], "unknown_grouping"),
        (["events", "--tenant", "acme", "--before", "x"], "invalid_cursor"),
        (["projections", "rebuild", "usage_weekly"], "unknown_projection"),
    ],
)
def test_wrong_use_is_told_with_a_code(shell: Shell, arguments: list[str], code: str) -> None:
    """The top level prints the code and ends with 2."""
    with pytest.raises(LedgerError) as caught:
        shell.text(*arguments)
    assert caught.value.code == code
