"""The plain way to guard spend, as a baseline: row locks, one transaction a request."""

from __future__ import annotations

from decimal import Decimal

import psycopg
from psycopg_pool import AsyncConnectionPool

POOL_SIZE = 32
"""Most connections of the baseline."""

_SCHEMA = """
DROP TABLE IF EXISTS plain_budget, plain_hold, plain_usage;
CREATE TABLE plain_budget (
    tenant text NOT NULL, name text NOT NULL, cap numeric NOT NULL,
    spent numeric NOT NULL, held numeric NOT NULL, PRIMARY KEY (tenant, name)
) WITH (fillfactor = 50);
CREATE TABLE plain_hold (
    tenant text NOT NULL, id text NOT NULL, amount numeric NOT NULL, state text NOT NULL,
    expires_at timestamptz NOT NULL, PRIMARY KEY (tenant, id)
) WITH (fillfactor = 70);
CREATE TABLE plain_usage (
    tenant text NOT NULL, id text NOT NULL, hold text NOT NULL, at timestamptz NOT NULL,
    input bigint NOT NULL, output bigint NOT NULL, charge numeric NOT NULL,
    PRIMARY KEY (tenant, id)
);
"""
_BUDGETS = (
    "SELECT name, cap, spent, held FROM plain_budget WHERE tenant = %s ORDER BY name FOR UPDATE"
)


def prepare(url: str, tenants: list[str], budgets: int) -> None:
    """Make the tables, with so many budgets a tenant."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_SCHEMA)
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO plain_budget VALUES (%s, %s, 1000000000, 0, 0)",
                [(tenant, f"b{number}") for tenant in tenants for number in range(budgets)],
            )


def pool(url: str, in_flight: int) -> AsyncConnectionPool:
    """Return a pool for so many requests at once; open it with ``async with``."""
    size = min(in_flight, POOL_SIZE)
    return AsyncConnectionPool(
        url,
        min_size=size,
        max_size=size,
        open=False,
        timeout=120,
        kwargs={"prepare_threshold": 0},
    )


async def authorize(pool_: AsyncConnectionPool, tenant: str, id: str, amount: Decimal) -> None:
    """Lock the tenant's budgets, check, reserve, insert the hold, commit."""
    async with pool_.connection() as connection, connection.transaction():
        rows = await (await connection.execute(_BUDGETS, (tenant,))).fetchall()
        for name, cap, spent, held in rows:
            if spent + held + amount > cap:
                raise RuntimeError(f"budget {name} is used up")
        await connection.execute(
            "UPDATE plain_budget SET held = held + %s WHERE tenant = %s", (amount, tenant)
        )
        await connection.execute(
            "INSERT INTO plain_hold VALUES (%s, %s, %s, 'open', now() + interval '5 minutes')"
            " ON CONFLICT DO NOTHING",
            (tenant, id, amount),
        )


async def capture(
    pool_: AsyncConnectionPool, tenant: str, id: str, tokens: tuple[int, int], charge: Decimal
) -> None:
    """Lock the budgets and the hold, post the usage, release the rest, commit."""
    async with pool_.connection() as connection, connection.transaction():
        await connection.execute(_BUDGETS, (tenant,))
        row = await (
            await connection.execute(
                "SELECT amount FROM plain_hold WHERE tenant = %s AND id = %s AND state = 'open'"
                " FOR UPDATE",
                (tenant, id),
            )
        ).fetchone()
        if row is None:
            raise RuntimeError("the hold is not open")
        await connection.execute(
            "INSERT INTO plain_usage VALUES (%s, %s, %s, now(), %s, %s, %s)",
            (tenant, id, id, *tokens, charge),
        )
        await connection.execute(
            "UPDATE plain_hold SET state = 'captured' WHERE tenant = %s AND id = %s", (tenant, id)
        )
        await connection.execute(
            "UPDATE plain_budget SET held = held - %s, spent = spent + %s WHERE tenant = %s",
            (row[0], charge, tenant),
        )
