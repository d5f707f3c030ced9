"""Commands of billing that are repeated: one suite for the in-memory double and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from threading import Barrier
from typing import Any

import pytest
from fakes.billing_world import BillingWorld, Clock, memory_world, postgres_world
from fixtures_postgres import Run

from ledger.domain.billing_account import BillingDetails
from ledger.domain.errors import InvalidInput, LedgerError, Refused
from ledger.domain.invoice_parts import Party
from ledger.domain.invoices import InvoiceStatus

NOVEMBER, DECEMBER = date(2026, 11, 1), date(2026, 12, 1)
FIRST = "2026-11-01"
CLOCK = Clock()


@pytest.fixture(scope="module", params=["memory", "postgres"])
def shared(request: pytest.FixtureRequest, postgres_run: Run) -> Iterator[BillingWorld]:
    """Give a world that the tests share, each with a tenant of its own."""
    if request.param == "memory":
        with memory_world(CLOCK) as made:
            made.publish()
            yield made
        return
    with postgres_run.database(migrated=True) as url, postgres_world(CLOCK, url) as made:
        made.publish()
        yield made


Billed = Callable[[str], BillingWorld]


@pytest.fixture
def billed(shared: BillingWorld) -> Billed:
    """Give what bills a tenant of its own 6 EUR in two lines for November, and December 3 EUR."""

    def make(tenant: str) -> BillingWorld:
        CLOCK.set("2026-11-15")
        shared.open(tenant)
        shared.use(tenant, "2026-11-05T10:00:00Z", tool_calls=1000)
        shared.use(tenant, "2026-11-05T10:00:00Z", tokens_input=3000)
        shared.use(tenant, "2026-12-05T10:00:00Z", tool_calls=1000)
        CLOCK.set("2027-01-05")
        shared.periods.close(by="ann", tenant=tenant)
        shared.invoicing.finalize_all(by="ann", tenant=tenant)
        return shared

    return make


def version(world: BillingWorld, tenant: str) -> int:
    """Return how many commits a tenant's account has."""
    number = world.store.place(tenant).tenant_id
    return world.store.accounts([number])[number].version


def notes(world: BillingWorld, tenant: str) -> list[tuple[str, Decimal]]:
    """Return id and total of a tenant's credit notes."""
    rows = world.invoicing.list(tenant=tenant, kind="credit_note")
    return [(row.id, world.invoicing.invoice(tenant, row.id).invoice.total) for row in rows]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("all", {}),
        ("total", {"total": Decimal("1.5")}),
        ("lines", {"lines": {1: Decimal(1), 2: Decimal("0.5")}}),
    ],
)
def test_a_credit_note_with_an_id_is_issued_once(
    billed: Billed, name: str, said: dict[str, Any]
) -> None:
    """Before and after other notes of the invoice, which leave less than it asked for."""
    tenant = f"once-{name}"
    world = billed(tenant)
    credit = world.invoicing.credit
    credit(tenant, FIRST, reason="early", by="ann", total=Decimal("0.5"))
    ask = {"reason": "outage", "by": "ann", "note": "cr/7 ä", **said}
    first = credit(tenant, FIRST, **ask)
    assert first.invoice.id == "cr/7 ä"
    before = version(world, tenant)
    assert credit(tenant, FIRST, **ask) == first
    if said:
        credit(tenant, FIRST, reason="rest", by="bob")
        before += 1
    assert credit(tenant, FIRST, **{**ask, "by": "bob"}) == first
    assert version(world, tenant) == before
    assert sum(total for _, total in notes(world, tenant)) == 6


def test_another_credit_under_the_same_id_names_the_member_that_differs(billed: Billed) -> None:
    """The first of them; nothing is issued for it, and another tenant's ids are its own."""
    world = billed("differs")
    of: dict[str, Any] = {"reason": "outage", "by": "ann", "note": "cr-1"}
    world.invoicing.credit("differs", FIRST, total=Decimal(1), **of)
    before = version(world, "differs")
    for invoice, said, member in (
        ("2026-12-01", {"total": Decimal(1)}, "invoice"),
        (FIRST, {"total": Decimal(1), "reason": "other"}, "reason"),
        (FIRST, {"total": Decimal(2)}, "total"),
        (FIRST, {"total": Decimal(100)}, "total"),
        (FIRST, {}, "total"),
        (FIRST, {"lines": {1: Decimal(1)}}, "lines"),
        (FIRST, {"lines": {9: Decimal(1)}}, "lines"),
    ):
        with pytest.raises(Refused) as caught:
            world.invoicing.credit("differs", invoice, **{**of, **said})
        assert caught.value.code == f"exists_with_different_{member}"
    assert version(world, "differs") == before
    assert notes(world, "differs") == [("cr-1", Decimal(1))]
    other = billed("differs-too").invoicing.credit("differs-too", FIRST, **of)
    assert other.invoice.total == 6


def test_an_id_that_an_invoice_could_have_is_refused(billed: Billed) -> None:
    """Else a note would be where the invoice of a later period belongs."""
    world = billed("ids")
    for id in ("2027-01-01", "2026-11-01", "2026-11-01.2", "2026-11-01-cn1", "x" * 257, "a\x00"):
        with pytest.raises(InvalidInput) as caught:
            world.invoicing.credit("ids", FIRST, reason="r", by="ann", note=id)
        assert (caught.value.code, caught.value.pointer) == ("invalid_id", "/id")
    assert notes(world, "ids") == []


def test_two_who_repeat_a_credit_at_once_issue_one_note(billed: Billed) -> None:
    """Whoever comes second finds the note, whatever it had read before."""
    world = billed("race")
    together = Barrier(4)

    def credit(reason: str) -> str:
        together.wait()
        try:
            done = world.invoicing.credit(
                "race", FIRST, total=Decimal(1), reason=reason, by="ann", note="cr"
            )
        except LedgerError as error:
            return error.code
        return done.invoice.number

    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(credit, ["outage"] * 4))
    assert len(set(got)) == 1
    assert notes(world, "race") == [("cr", Decimal(1))]


def test_a_repeated_command_changes_nothing(billed: Billed) -> None:
    """Each command of billing, at once and again later, leaves the account as it is."""
    tenant = "again"
    world = billed(tenant)
    keep, take = world.invoicing, world.subscriptions
    party = BillingDetails(party=Party(name="Again Ltd"))
    late = {"from_day": date(2027, 2, 1), "by": "ann"}
    two = "2026-12-01"
    ask = {"first_day": DECEMBER, "reason": "late"}

    def move(id: str, status: InvoiceStatus) -> Callable[[], object]:
        return lambda: keep.move(tenant, id, status=status, by="ann")

    commands: list[Callable[[], object]] = [
        lambda: take.set_details(tenant, party, by="ann"),
        lambda: take.subscribe(tenant, "team", anchor=date(2027, 1, 15), **late),
        lambda: take.end(tenant, from_day=date(2027, 3, 1), by="ann"),
        move(two, InvoiceStatus.VOID),
        lambda: world.periods.reopen(tenant, by="ann", once="k", **ask),
        lambda: world.periods.reopen(tenant, by="bob", **ask),
        lambda: world.periods.close(by="ann", tenant=tenant),
        lambda: keep.finalize_all(by="ann", tenant=tenant),
        lambda: keep.finalize(tenant, f"{two}.2", by="ann"),
        lambda: keep.credit(tenant, f"{two}.2", reason="r", by="ann", note="n", total=Decimal(1)),
        move(FIRST, InvoiceStatus.UNCOLLECTIBLE),
        move(FIRST, InvoiceStatus.PAID),
    ]
    CLOCK.set("2027-01-06")
    for place, command in enumerate(commands):
        before = version(world, tenant)
        command()
        done = version(world, tenant)
        changes = {6: 2, 8: 0}.get(place, 1)
        assert done - before == changes, place
        command()
        command()
        assert version(world, tenant) == done, place


def test_an_approver_who_repeats_is_answered_as_before(billed: Billed) -> None:
    """Who asked is told that it stands; open stays open, for both of them and nobody else."""
    tenant = "approvers"
    world = billed(tenant)

    def reopen(by: str, once: str = "") -> str:
        return world.periods.reopen(
            tenant, first_day=DECEMBER, by=by, reason="late", once=once
        ).state

    assert [reopen("ann", "k"), reopen("ann", "k")] == ["closed", "closed"]
    for once in ("", "k2"):
        with pytest.raises(Refused, match="ann asked for this already") as caught:
            reopen("ann", once)
        assert caught.value.code == "needs_another_approver"
    assert [reopen("bob"), reopen("bob"), reopen("ann")] == ["reopened"] * 3
    with pytest.raises(Refused) as caught:
        reopen("eve")
    assert caught.value.code == "period_not_closed"
    world.periods.close(by="ann", tenant=tenant)
    assert reopen("ann") == "closed"
