"""Money of a void invoice: it waits for people, everybody is told, and none of it is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from fakes.billing_world import BillingWorld, Clock, memory_world
from typer.testing import CliRunner

from adapters.cli import billing_periods, invoices
from ledger.application.standard_jobs import CLOSE, standard_jobs
from ledger.domain.billing_account import (
    BillingAccount,
    Close,
    InvoiceHead,
    PeriodClosing,
)
from ledger.domain.billing_decisions import move
from ledger.domain.billing_voids import unbilled_voids, waits
from ledger.domain.errors import Refused
from ledger.domain.invoices import Invoice, InvoiceStatus

NOVEMBER, DECEMBER, JANUARY = date(2026, 11, 1), date(2026, 12, 1), date(2027, 1, 1)
VOID, FINAL, DRAFT = InvoiceStatus.VOID, InvoiceStatus.FINALIZED, InvoiceStatus.DRAFT
CLOCK = Clock()


@pytest.fixture
def world() -> Iterator[BillingWorld]:
    """Give acme and globex with 3 EUR of usage in November and 6 EUR in December."""
    CLOCK.set("2026-11-15")
    with memory_world(CLOCK) as made:
        for tenant in ("acme", "globex"):
            made.open(tenant)
            made.use(tenant, "2026-11-05T10:00:00Z", tool_calls=1000)
            made.use(tenant, "2026-12-05T10:00:00Z", tool_calls=2000)
        yield made


def closed(world: BillingWorld, on: str, *, tenant: str | None = "acme") -> list[Invoice]:
    """Close what is due on a day and return the new drafts."""
    CLOCK.set(on)
    report = world.periods.close(by="ann", tenant=tenant)
    return [world.invoicing.invoice(name, id).invoice for name, id in report.drafts]


def reopen(world: BillingWorld, day: date) -> str:
    """Let two people reopen a period of acme and return its state."""
    world.periods.reopen("acme", first_day=day, by="ann", reason="r")
    return world.periods.reopen("acme", first_day=day, by="bob", reason="r").state


def voided(world: BillingWorld) -> None:
    """Bill November of both, and void the invoice of acme."""
    closed(world, "2026-12-04", tenant=None)
    world.invoicing.finalize_all(by="ann")
    world.invoicing.move("acme", "2026-11-01", status=VOID, by="ann")


def test_the_next_period_waits_until_the_void_one_is_reopened(world: BillingWorld) -> None:
    """Its tenant alone; then both are closed, and what was void is billed anew."""
    voided(world)
    drafts = closed(world, "2027-01-04", tenant=None)
    assert [(one.tenant, one.net) for one in drafts] == [("globex", 6)]
    assert closed(world, "2027-01-05") == []
    states = [(one.first_day, one.state) for one in world.periods.status("acme")]
    assert states == [(NOVEMBER, "closed"), (DECEMBER, "due")]
    assert reopen(world, NOVEMBER) == "reopened"
    assert world.periods.warnings() == []
    assert [(one.period.first_day, one.net) for one in closed(world, "2027-01-06")] == [
        (NOVEMBER, 3),
        (DECEMBER, 6),
    ]


def test_a_reopened_period_whose_invoice_is_voided_is_reopened_once_more(
    world: BillingWorld,
) -> None:
    """Voided after people reopened it, the invoice has to be released too."""
    [november] = closed(world, "2026-12-04")
    world.invoicing.finalize("acme", november.id, by="ann")
    assert reopen(world, NOVEMBER) == "reopened"
    with pytest.raises(Refused, match="is open or closing already"):
        world.periods.reopen("acme", first_day=NOVEMBER, by="eve", reason="r")
    world.invoicing.move("acme", november.id, status=VOID, by="ann")
    assert closed(world, "2026-12-05") == []
    assert reopen(world, NOVEMBER) == "reopened"
    assert [one.net for one in closed(world, "2026-12-06")] == [3]


def test_the_warning_names_tenant_period_number_amount_and_the_way(world: BillingWorld) -> None:
    """The same wherever it is told: by the void, the close, the invoice, a list, the status."""
    voided(world)
    [warning] = world.periods.warnings()
    assert (warning.code, warning.tenant) == ("unbilled_voided_invoice", "acme")
    assert (warning.first_day, warning.invoice, warning.number) == (
        NOVEMBER,
        "2026-11-01",
        "INV-000001",
    )
    assert (warning.amount, warning.currency) == (Decimal(3), "EUR")
    for words in ("INV-000001 of acme is void", "the 3 EUR that", "from 2026-11-01"):
        assert words in warning.detail
    told = [
        world.invoicing.move("acme", "2026-11-01", status=VOID, by="ann").warnings,
        world.invoicing.invoice("acme", "2026-11-01").warnings,
        world.invoicing.warnings(world.invoicing.list()),
        world.periods.close(by="ann", tenant="acme").warnings,
        world.periods.close(by="ann").warnings,
        world.periods.warnings("acme"),
        world.invoicing.for_tenant("acme").invoice("acme", "2026-11-01").warnings,
    ]
    assert all(list(one) == [warning] for one in told)
    assert world.periods.warnings("globex") == []
    assert world.periods.close(by="ann", tenant="globex").warnings == []
    assert world.invoicing.warnings(world.invoicing.list(status=FINAL)) == []


def test_several_void_ones_are_each_told_with_the_way_back(world: BillingWorld) -> None:
    """The periods after them are to be reopened before, also where they billed nothing."""
    closed(world, "2027-02-04")
    world.invoicing.finalize_all(by="ann", tenant="acme")
    for id in ("2026-12-01", "2026-11-01"):
        world.invoicing.move("acme", id, status=VOID, by="ann")
    late, early = world.periods.warnings("acme")
    assert "from 2027-01-01, then from 2026-12-01, and" in late.detail
    assert "from 2027-01-01, then from 2026-12-01, then from 2026-11-01, and" in early.detail
    for day in (JANUARY, DECEMBER):
        reopen(world, day)
    assert [one.invoice for one in world.periods.warnings("acme")] == ["2026-11-01"]
    assert closed(world, "2027-02-05") == []
    reopen(world, NOVEMBER)
    assert [one.net for one in closed(world, "2027-02-06")] == [3, 6]


def account(*statuses: InvoiceStatus | None, closing: bool = False) -> BillingAccount:
    """Return an account that closed a month for each status; None billed nothing."""
    months = [date(2026, place, 1) for place in range(1, len(statuses) + 2)]
    ids = ["" if one is None else f"i{place}" for place, one in enumerate(statuses)]
    return BillingAccount(
        closes=tuple(Close(*months[n : n + 2], id, 0, 0) for n, id in enumerate(ids)),
        invoices={
            id: InvoiceHead(status, id.upper())
            for id, status in zip(ids, statuses, strict=True)
            if status is not None
        },
        closing=PeriodClosing(months[-1], date(2026, 12, 1)) if closing else None,
    )


@pytest.mark.parametrize(
    ("statuses", "found", "standing", "wait"),
    [
        ((), [], [], False),
        ((FINAL,), [], [], False),
        ((VOID, None), ["I0"], [""], True),
        ((FINAL, VOID), ["I1"], [""], True),
        ((VOID, FINAL), ["I0"], ["i1"], False),
        ((VOID, DRAFT, None), ["I0"], ["i1"], False),
        ((VOID, FINAL, VOID), ["I2", "I0"], ["", "i1"], True),
    ],
)
def test_only_what_nothing_stands_upon_waits(
    statuses: tuple[InvoiceStatus | None, ...], found: list[str], standing: list[str], wait: bool
) -> None:
    """Accounts written before this rule may have an invoice after a void one: told all the same."""
    voids = unbilled_voids(account(*statuses))
    assert [one.number for one in voids] == found
    assert [one.standing for one in voids] == standing
    assert waits(account(*statuses)) is wait
    assert not waits(account(*statuses, closing=True))


def test_nothing_is_voided_while_the_next_close_is_under_way() -> None:
    """It would make an invoice upon the void one; afterwards the rule of later ones holds."""
    with pytest.raises(Refused, match="from 2026-02-01 on has begun") as caught:
        move(account(FINAL, closing=True), "i0", status=VOID)
    assert caught.value.code == "period_closing"
    assert move(account(FINAL), "i0", status=VOID)


def test_the_command_line_tells_people_and_programs(world: BillingWorld) -> None:
    """As a line on standard error, as ``warnings`` in JSON; nothing exits otherwise for it."""

    @contextmanager
    def open_services() -> Iterator[Any]:
        yield SimpleNamespace(periods=world.periods, invoicing=world.invoicing)

    app = typer.Typer()
    billing_periods.register(app, open_services)
    invoices.register(app, open_services)
    closed(world, "2026-12-04")
    world.invoicing.finalize_all(by="ann")
    of = ("2026-11-01", "-t", "acme")
    for command in (
        ("invoice", "void", *of),
        ("invoice", "show", *of),
        ("invoice", "list"),
        ("period", "status", "-t", "acme"),
        ("period", "close"),
    ):
        people = CliRunner().invoke(app, command)
        program = CliRunner().invoke(app, [*command, "--json"])
        assert (people.exit_code, program.exit_code) == (0, 0), people.output
        assert "warning [unbilled_voided_invoice]: INV-000001 of acme" in people.stderr
        assert program.stderr == ""
        [told] = json.loads(program.stdout)["warnings"]
        assert (told["code"], told["amount"], told["first_day"]) == (
            "unbilled_voided_invoice",
            "3",
            "2026-11-01",
        )


def test_the_job_that_closes_logs_and_counts_it(
    world: BillingWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody has to ask: each hour's run says so."""
    voided(world)
    log = SimpleNamespace(list=lambda **asked: [])
    services: Any = SimpleNamespace(periods=world.periods, audit_log=log)
    [job] = [one for one in standard_jobs(services) if one.name == CLOSE]
    CLOCK.set("2027-01-04")
    with caplog.at_level("WARNING"):
        counts = job.work(lambda: None)
    assert counts == {"tenants": 2, "periods": 1, "drafts": 1, "warnings": 1}
    assert "unbilled_voided_invoice: INV-000001 of acme" in caplog.text
