"""Verify finds what was changed of billing, and nothing in what it wrote itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes.billing_world import BillingWorld, Clock, postgres_world
from fixtures_postgres import Run

from adapters.postgres.billing import PostgresBilling
from ledger.application.verify_billing import billing_differences
from ledger.domain.invoices import InvoiceStatus

CLOCK = Clock()


@pytest.fixture(scope="module")
def world(postgres_run: Run) -> Iterator[tuple[BillingWorld, str]]:
    """Give a world with drafts, final invoices, a void one and a credit note."""
    with postgres_run.database(migrated=True) as url, postgres_world(CLOCK, url) as made:
        made.publish()
        made.open("acme", "birch", "cobalt")
        made.subscriptions.subscribe("acme", "team", by="ann")
        for name in ("acme", "birch", "cobalt"):
            taken = made.use(name, "2026-11-20T10:00:00Z", tokens_input=2000, tool_calls=1000)
            made.use(name, "2026-11-21T10:00:00Z", tool_calls=3000)
            made.void(name, taken)
        CLOCK.set("2026-12-04")
        made.periods.close(by="ann")
        made.invoicing.finalize_all(by="ann", tenant="acme")
        made.invoicing.finalize_all(by="ann", tenant="birch")
        [invoice] = made.invoicing.list(tenant="acme")
        made.invoicing.credit("acme", invoice.id, reason="outage", by="ann")
        [other] = made.invoicing.list(tenant="birch")
        made.invoicing.move("birch", other.id, status=InvoiceStatus.VOID, by="ann")
        assert made.projections is not None
        made.projections.catch_up()
        yield made, url


def differences(world: BillingWorld, tenant: str | None = None) -> list[tuple[str, str]]:
    """Return tenant and code of what differs."""
    store = world.store
    assert isinstance(store, PostgresBilling)
    found = billing_differences(
        store=store, audit=store, series=world.invoicing.series, tenant=tenant
    )
    return [(one.tenant, one.code) for one in found]


ONE = "WHERE tenant_id = 1"
DAMAGE = [
    ("UPDATE billing_accounts SET state = '\\x80' {one}", {"billing_account"}),
    ("UPDATE billing_accounts SET state = '\\xc1' {one}", {"billing_unreadable"}),
    ("UPDATE billing_accounts SET version = version {one}", set()),
    ("DELETE FROM invoices {one} AND kind = 'credit_note'", {"invoice", "invoice_number"}),
    ("UPDATE invoices SET status = 'paid' {one} AND kind = 'invoice'", {"invoice"}),
    (
        "UPDATE invoices SET document = convert_to(replace(convert_from(document, 'UTF8'),"
        " '\"total\"', '\"total \"'), 'UTF8') {one} AND kind = 'invoice'",
        {"invoice", "invoice_document"},
    ),
    ("UPDATE billing_daily SET charge = charge + 1e-18 {one} AND quantity > 0", {"billing_rollup"}),
    ("DELETE FROM billing_daily {one} AND quantity > 0", {"billing_rollup"}),
    ("UPDATE invoices SET number = 'INV-000009' {one} AND kind = 'invoice'", {"invoice_number"}),
]


def test_what_billing_wrote_itself_is_clean(world: tuple[BillingWorld, str]) -> None:
    """Of all tenants and of one."""
    assert differences(world[0]) == []
    assert differences(world[0], "acme") == []


@pytest.mark.parametrize(("damage", "codes"), DAMAGE)
def test_damage_is_found(world: tuple[BillingWorld, str], damage: str, codes: set[str]) -> None:
    """By its code, for its tenant alone; the rows are put back."""
    made = world[0]
    store = made.store
    assert isinstance(store, PostgresBilling)
    tables = ("billing_accounts", "invoices", "billing_daily")
    with store._database.connect(purpose="damage") as connection:
        for table in tables:
            connection.execute(f"CREATE TEMP TABLE kept_{table} AS SELECT * FROM {table}")
        assert connection.execute(damage.format(one=ONE).encode()).rowcount > 0
        found = differences(made)
        for table in tables:
            connection.execute(f"DELETE FROM {table}")
            connection.execute(f"INSERT INTO {table} SELECT * FROM kept_{table}")
    assert {code for _, code in found} == codes
    assert {tenant for tenant, _ in found} <= {"acme", ""}
    assert differences(made) == []


def test_a_rebuild_mends_the_rollups_and_the_next_close_looks_there(
    world: tuple[BillingWorld, str],
) -> None:
    """Rows that were right stay as they are; those of the mended day count as changed."""
    made = world[0]
    store = made.store
    assert isinstance(store, PostgresBilling)
    assert made.projections is not None
    with store._database.connect(purpose="damage") as connection:
        connection.execute("UPDATE billing_daily SET charge = 8 WHERE tenant_id = 2 AND charge > 0")
        connection.execute("DELETE FROM billing_daily WHERE tenant_id = 3 AND charge > 0")
        assert made.projections.rebuild("billing_daily").changed == 2
        marks = connection.execute(
            "SELECT tenant_id, count(*) FILTER (WHERE changed = 9223372036854775807)"
            " FROM billing_daily GROUP BY 1 ORDER BY 1"
        ).fetchall()
    assert [(tenant, marked > 0) for tenant, marked in marks] == [(1, False), (2, True), (3, True)]
    assert differences(made) == []
