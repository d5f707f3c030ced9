"""Rows of cost protection: a ledger's head, budgets, counters, holds and grants."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from psycopg import Connection

from adapters.postgres import arrays
from adapters.postgres.exchange import Answer, Exchange
from adapters.postgres.rows import Row, amount_text
from ledger.application.ports import LedgerWrite, TenantKey
from ledger.application.prefetch_holds import DUE_AT_ONCE
from ledger.domain.budgets import Budget, Counter
from ledger.domain.credits import Grant
from ledger.domain.holds import STATUSES, HoldState, hold_body, hold_of
from ledger.domain.ledger import LedgerState
from ledger.domain.money import AMOUNT_DECIMALS, to_scaled
from ledger.domain.protection import CounterKey, Protection

_STATUS = {name: place for place, name in enumerate(STATUSES)}
Sql = Mapping[str, str]


def head_of(timezone: str, row: Row) -> Protection:
    """Return the protection of a row ``(next_expiry, capped, credit_required, owed, …)``."""
    guard = Protection(timezone)
    guard.next_expiry, guard.capped = row[0], row[1]
    guard.credit.required = row[2]
    guard.credit.owed = to_scaled(row[3], AMOUNT_DECIMALS)
    guard.load_entitlements(row[4].encode())
    guard.stored = True
    return guard


def load_parts(connection: Connection[Row], sql: Any, guards: Mapping[int, Protection]) -> None:
    """Load budgets and grants into the protection of ledgers, by tenant number."""
    if not guards:
        return
    tenants = {"tenants": arrays.int4s(list(guards))}
    with connection.pipeline():
        budgets = connection.execute(sql["budgets"], tenants, binary=True)
        grants = connection.execute(sql["grants"], tenants, binary=True)
    by_tenant: dict[int, list[Budget]] = {}
    for tenant_id, number, ladder, terms in budgets.fetchall():
        by_tenant.setdefault(tenant_id, []).append(Budget(number, terms.encode(), ladder))
    for tenant_id, found in by_tenant.items():
        guards[tenant_id].load_budgets(found)
    for row in grants.fetchall():
        guards[row[0]].credit.grants[row[1]] = grant_of(row[1:])
    for guard in guards.values():
        guard.start_commit()


def grant_of(row: Row) -> Grant:
    """Return the grant of a row ``(number, id, kind, amount, priority, at, expires_at, …)``."""
    grant = Grant(
        number=row[0],
        id=row[1],
        kind=row[2],
        amount=to_scaled(row[3], AMOUNT_DECIMALS),
        priority=row[4],
        at=row[5],
        expires_at=row[6],
        filter_body=row[7].encode(),
    )
    amounts = [to_scaled(value, AMOUNT_DECIMALS) for value in row[8:12]]
    grant.set_counters((*amounts, row[12]))
    return grant


def counter_of(row: Row) -> Counter:
    """Return the counter of a row ``(spent, held, fired, ladder, ceiling, until)``."""
    return Counter.of([int(value) for value in row])


def load_counters(
    connection: Connection[Row], sql: Any, keys: Collection[tuple[int, CounterKey]]
) -> dict[tuple[int, CounterKey], Counter]:
    """Return those counters that exist."""
    rows = connection.execute(
        sql["counters"],
        {
            "tenants": arrays.int4s([tenant_id for tenant_id, _ in keys]),
            "budgets": arrays.int4s([key[0] for _, key in keys]),
            "starts": arrays.int8s([key[1] for _, key in keys]),
        },
        binary=True,
    )
    return {(row[0], (row[1], row[2])): counter_of(row[3:]) for row in rows.fetchall()}


def holds_of(answer: Answer) -> dict[TenantKey, HoldState]:
    """Return holds by tenant number and digest."""
    return {(row[0], row[1]): hold_of(row[2]) for row in answer.rows}


def load_due(
    connection: Connection[Row], sql: Any, tenants: Collection[int], now: int
) -> list[tuple[int, HoldState]]:
    """Return open holds whose time is over, the oldest first."""
    rows = connection.execute(
        sql["due_holds"],
        {"tenants": arrays.int4s(list(tenants)), "now": now, "limit": DUE_AT_ONCE},
        binary=True,
    )
    return [(row[0], hold_of(bytes(row[1]))) for row in rows.fetchall()]


def load_next_expiries(
    connection: Connection[Row], sql: Any, tenants: Collection[int], now: int
) -> dict[int, int]:
    """Return the earliest expiry after now of open holds."""
    rows = connection.execute(
        sql["next_expiries"], {"tenants": arrays.int4s(list(tenants)), "now": now}, binary=True
    )
    return {row[0]: row[1] for row in rows.fetchall() if row[1] is not None}


def write_protection(exchange: Exchange, writes: Sequence[LedgerWrite]) -> None:
    """Ask for writing what a batch changed, one statement a table."""
    guarded = [
        (write.state, write.state.guard) for write in writes if write.state.guard is not None
    ]
    if not guarded:
        return
    _write_heads(exchange, guarded)
    _write_budgets(exchange, guarded)
    counters = [
        (state.tenant_id, key, guard.counters[key])
        for state, guard in guarded
        for key in guard.touched_counters
    ]
    if counters:
        values = [counter for _, _, counter in counters]
        exchange.ask(
            "upsert_counters",
            {
                "tenants": arrays.int4s([tenant_id for tenant_id, _, _ in counters]),
                "budgets": arrays.int4s([key[0] for _, key, _ in counters]),
                "starts": arrays.int8s([key[1] for _, key, _ in counters]),
                "spent": arrays.texts([str(one.spent) for one in values]),
                "held": arrays.texts([str(one.held) for one in values]),
                "fired": arrays.int8s([one.fired for one in values]),
                "ladders": arrays.int4s([one.ladder for one in values]),
                "ceilings": arrays.texts([str(one.ceiling) for one in values]),
                "until_us": arrays.int8s([one.until for one in values]),
            },
        )
    _write_holds(exchange, guarded)
    _write_grants(exchange, guarded)


_Guarded = Sequence[tuple[LedgerState, Protection]]


def _write_heads(exchange: Exchange, guarded: _Guarded) -> None:
    heads = [
        (state.tenant_id, guard)
        for state, guard in guarded
        if guard.head_changed() or not guard.stored
    ]
    if not heads:
        return
    guards = [guard for _, guard in heads]
    exchange.ask(
        "upsert_protection",
        {
            "tenants": arrays.int4s([tenant_id for tenant_id, _ in heads]),
            "expiries": arrays.int8s([one.next_expiry for one in guards]),
            "capped": arrays.int4s([int(one.capped) for one in guards]),
            "required": arrays.int4s([int(one.credit.required) for one in guards]),
            "owed": arrays.texts([amount_text(one.credit.owed) for one in guards]),
            "entitlements": arrays.texts([one.entitlements_body.decode() for one in guards]),
        },
    )
    for guard in guards:
        guard.stored = True


def _write_budgets(exchange: Exchange, guarded: _Guarded) -> None:
    budgets = [
        (state.tenant_id, guard.budgets[number])
        for state, guard in guarded
        for number in guard.touched_budgets
    ]
    if budgets:
        exchange.ask(
            "upsert_budgets",
            {
                "tenants": arrays.int4s([tenant_id for tenant_id, _ in budgets]),
                "numbers": arrays.int4s([one.number for _, one in budgets]),
                "ladders": arrays.int4s([one.ladder for _, one in budgets]),
                "terms": arrays.texts([one.body.decode() for _, one in budgets]),
            },
        )


def _write_holds(exchange: Exchange, guarded: _Guarded) -> None:
    holds = [
        (state.tenant_id, digest, guard.holds[digest])
        for state, guard in guarded
        for digest in guard.touched_holds
    ]
    if holds:
        values = [hold for _, _, hold in holds]
        exchange.ask(
            "upsert_holds",
            {
                "tenants": arrays.int4s([tenant_id for tenant_id, _, _ in holds]),
                "keys": arrays.uuids([digest for _, digest, _ in holds]),
                "statuses": arrays.int4s([_STATUS[one.status] for one in values]),
                "expiries": arrays.int8s([one.expires_at for one in values]),
                "bodies": arrays.byteas([hold_body(one) for one in values]),
            },
        )


def _write_grants(exchange: Exchange, guarded: _Guarded) -> None:
    grants = [
        (state.tenant_id, guard.credit.grants[number])
        for state, guard in guarded
        for number in guard.credit.touched
    ]
    if not grants:
        return
    values = [grant for _, grant in grants]
    exchange.ask(
        "upsert_grants",
        {
            "tenants": arrays.int4s([tenant_id for tenant_id, _ in grants]),
            "numbers": arrays.int4s([one.number for one in values]),
            "ids": arrays.texts([one.id for one in values]),
            "kinds": arrays.texts([one.kind for one in values]),
            "amounts": arrays.texts([amount_text(one.amount) for one in values]),
            "priorities": arrays.int4s([one.priority for one in values]),
            "ats": arrays.int8s([one.at for one in values]),
            "expiries": arrays.int8s([one.expires_at for one in values]),
            "filters": arrays.texts([one.filter_body.decode() for one in values]),
            "held": arrays.texts([amount_text(one.held) for one in values]),
            "burned": arrays.texts([amount_text(one.burned) for one in values]),
            "withdrawn": arrays.texts([amount_text(one.withdrawn) for one in values]),
            "lapsed": arrays.texts([amount_text(one.lapsed) for one in values]),
            "expired": arrays.int4s([int(one.expired) for one in values]),
        },
    )
