"""The baseline of `scripts.benchmarks.holds`: cost protection as one would write it plainly.

Three tables and an asynchronous pool of connections, one transaction a request. Authorize locks
the tenant's budgets in one order, checks them in Python, inserts the hold under the client's id
and reserves; capture locks hold and budgets, inserts the usage and settles. Statements are
prepared, values and rows binary, look-ups by primary key, updates leave every index alone, and
the commit is synchronous.

It does less than the ledger: no windows that turn over, no expiry, no ladder, no log, no comparison
of a repeated request with the first one, no index but the primary keys. All of that is in its
favor. psycopg's pipeline mode was tried and made it slower: what bounds it is the client's
processor time, or the row locks, and not the round trips over the loopback device.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, NamedTuple

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from scripts.benchmarks._common import METERS, MODELS

POOL_SIZE = 32
"""Most connections, unless said."""
_POOL_TIMEOUT_S = 300
_TABLES = """
CREATE SCHEMA plain;
CREATE TABLE plain.budget (
    tenant_id text NOT NULL, id int4 NOT NULL, user_id text, cap numeric NOT NULL,
    spent numeric NOT NULL DEFAULT 0, held numeric NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, id)
) WITH (fillfactor = 50);
CREATE TABLE plain.hold (
    tenant_id text NOT NULL, id text NOT NULL, user_id text NOT NULL, provider text NOT NULL,
    model text NOT NULL, amount numeric NOT NULL, state text NOT NULL DEFAULT 'open',
    authorized_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL DEFAULT now() + interval '5 min',
    PRIMARY KEY (tenant_id, id)
) WITH (fillfactor = 80);
CREATE TABLE plain.usage (
    tenant_id text NOT NULL, id text NOT NULL, hold_id text NOT NULL, user_id text NOT NULL,
    provider text NOT NULL, model text NOT NULL, input int8 NOT NULL, cache_read int8 NOT NULL,
    output int8 NOT NULL, reasoning int8 NOT NULL, cost numeric NOT NULL, charge numeric NOT NULL,
    occurred_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
"""
_LOCK_BUDGETS = """
SELECT id, user_id, cap, spent, held FROM plain.budget WHERE tenant_id = %b ORDER BY id FOR UPDATE
"""
_RESERVE = """
WITH created AS (
    INSERT INTO plain.hold (tenant_id, id, user_id, provider, model, amount)
    VALUES (%b, %b, %b, %b, %b, %b) ON CONFLICT (tenant_id, id) DO NOTHING
    RETURNING tenant_id, amount
)
UPDATE plain.budget SET held = held + created.amount FROM created
WHERE budget.tenant_id = created.tenant_id AND budget.id = ANY (%b)
"""
_LOCK_HOLD = """
SELECT hold.amount, hold.state, hold.user_id, budget.id, budget.user_id
FROM plain.hold JOIN plain.budget USING (tenant_id)
WHERE hold.tenant_id = %b AND hold.id = %b ORDER BY budget.id FOR UPDATE
"""
_INSERT_USAGE = """
INSERT INTO plain.usage (tenant_id, id, hold_id, user_id, provider, model, input, cache_read,
    output, reasoning, cost, charge)
VALUES (%b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b)
"""
_SETTLE_BUDGETS = """
UPDATE plain.budget SET held = held - %b, spent = spent + %b WHERE tenant_id = %b AND id = ANY (%b)
"""
_SETTLE_HOLD = "UPDATE plain.hold SET state = 'captured' WHERE tenant_id = %b AND id = %b"
_UNSETTLED = """
SELECT count(*) FROM plain.budget WHERE held <> 0 OR spent IS DISTINCT FROM
    (SELECT coalesce(sum(charge), 0) FROM plain.usage WHERE usage.tenant_id = budget.tenant_id)
"""


class Call(NamedTuple):
    """One provider call, as its gateway knows it before and after.

    Attributes:
        tenant: whose it is.
        user: who makes it.
        hold: id.
        capture: id.
        model: of openai.
        asked: tokens by meter that it may take.
        used: tokens by meter that it took; none more than was asked.
    """

    tenant: str
    user: str
    hold: str
    capture: str
    model: str
    asked: dict[str, int]
    used: dict[str, int]


def calls(tenants: Sequence[str], *, user: str, seed: int) -> Iterator[Call]:
    """Yield calls without end: random tenants, models and tokens, ids of 26 characters."""
    chance = random.Random(seed)  # noqa: S311 - seeded, so that runs can be repeated
    while True:
        asked = {meter: chance.randrange(100, 4000) for meter in METERS}
        yield Call(
            chance.choice(tenants),
            user,
            f"{chance.getrandbits(104):026x}",
            f"{chance.getrandbits(104):026x}",
            chance.choice(MODELS),
            asked,
            {meter: number * 3 // 4 for meter, number in asked.items()},
        )


def _rates(factor: Decimal) -> dict[str, tuple[Decimal, ...]]:
    """Return a token's price by model, meter by meter; `FixedPrices` has the same."""
    return {
        model: tuple(
            (place + Decimal("0.25")) * leaf * factor / 1_000_000
            for leaf in range(1, len(METERS) + 1)
        )
        for place, model in enumerate(MODELS, 1)
    }


_COST, _SELL = _rates(Decimal(1)), _rates(Decimal("1.2"))


def _price(rates: dict[str, tuple[Decimal, ...]], model: str, tokens: dict[str, int]) -> Decimal:
    parts = (rate * tokens[meter] for meter, rate in zip(METERS, rates[model], strict=True))
    return sum(parts, Decimal())


class PlainHolds:
    """Authorizes and captures, a transaction each.

    Args:
        pool: of connections in autocommit mode.
    """

    def __init__(self, pool: AsyncConnectionPool[AsyncConnection[Any]]) -> None:
        self._pool = pool

    async def authorize(self, call: Call) -> Decimal:
        """Reserve what a call may cost in all budgets that apply; return it.

        Raises:
            RuntimeError: a budget has not enough left, or the id is taken.
        """
        amount = _price(_SELL, call.model, call.asked)
        async with self._pool.connection() as connection, connection.transaction():
            cursor = connection.cursor(binary=True)
            await cursor.execute(_LOCK_BUDGETS, (call.tenant,))
            budgets = []
            for id, user, cap, spent, held in await cursor.fetchall():
                if user is None or user == call.user:
                    if spent + held + amount > cap:
                        raise RuntimeError(f"budget {id} of {call.tenant} is used up")
                    budgets.append(id)
            hold = (call.tenant, call.hold, call.user, "openai", call.model, amount)
            await cursor.execute(_RESERVE, (*hold, budgets))
        if cursor.rowcount != len(budgets):
            raise RuntimeError(f"hold {call.hold} is there already")
        return amount

    async def capture(self, call: Call) -> Decimal:
        """Post what a call took and release the rest of its hold; return the charge.

        Raises:
            RuntimeError: there is no such hold, or it is settled.
        """
        cost = _price(_COST, call.model, call.used)
        charge = _price(_SELL, call.model, call.used)
        async with self._pool.connection() as connection, connection.transaction():
            cursor = connection.cursor(binary=True)
            await cursor.execute(_LOCK_HOLD, (call.tenant, call.hold))
            rows = await cursor.fetchall()
            if not rows or rows[0][1] != "open":
                raise RuntimeError(f"hold {call.hold} is not open")
            held = rows[0][0]
            budgets = [id for _, _, owner, id, user in rows if user is None or user == owner]
            usage = (call.tenant, call.capture, call.hold, call.user, "openai", call.model)
            await cursor.execute(_INSERT_USAGE, (*usage, *call.used.values(), cost, charge))
            await cursor.execute(_SETTLE_BUDGETS, (held, charge, call.tenant, budgets))
            await cursor.execute(_SETTLE_HOLD, (call.tenant, call.hold))
        return charge


def create_tables(url: str, budgets: Sequence[tuple[str, int, str | None, Decimal]]) -> None:
    """Create the tables and budgets: tenant, number, user (None for all) and cap of each."""
    with psycopg.connect(url) as connection:
        connection.execute(_TABLES.encode(), prepare=False)
        connection.cursor().executemany(
            "INSERT INTO plain.budget (tenant_id, id, user_id, cap) VALUES (%s, %s, %s, %s)",
            budgets,
        )
        connection.execute("ANALYZE plain.budget")


@asynccontextmanager
async def plain_holds(url: str, *, connections: int) -> AsyncIterator[PlainHolds]:
    """Open a pool of so many connections."""
    pool: AsyncConnectionPool[AsyncConnection[Any]] = AsyncConnectionPool(
        url,
        min_size=connections,
        max_size=connections,
        timeout=_POOL_TIMEOUT_S,
        open=False,
        kwargs={"autocommit": True, "prepare_threshold": 0, "application_name": "plain"},
    )
    async with pool:
        await pool.wait()
        yield PlainHolds(pool)


def check_settled(url: str) -> None:
    """Check that nothing is reserved any more and that spent is the sum of usage.

    Raises:
        RuntimeError: the baseline did not do its work.
    """
    with psycopg.connect(url) as connection:
        row = connection.execute(_UNSETTLED.encode()).fetchone()
    if row is None or row[0]:
        raise RuntimeError(f"the baseline's budgets do not add up: {row}")
