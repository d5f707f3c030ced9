"""Kept: how large do the audit log and the uses of keys get, which nothing removes?

    scripts/bench kept [--lines 20000] [--keys 200] [--days 10]

Writes lines of the acts that are most frequent, one commit each as the engine does, and uses of
keys day by day, every row counted up ``UPDATES`` times as by a busy key, the table vacuumed once a
day as autovacuum does. Prints one JSON object: bytes a row, indexes included, and how long a line
took.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Mapping
from typing import Any

import psycopg

from adapters.postgres.audit_log import PostgresAuditLog, PostgresKeyUses
from adapters.postgres.database import Database
from ledger.application.audit_log import AuditLog
from ledger.application.key_uses import KeyUse
from scripts.benchmarks._common import TENANTS, database, server

UPDATES = 50
DAY = 20_000
DAY_US = 86_400_000_000
ROUTES = ("/v2/holds", "/v2/holds/{hold:id}/capture", "/v2/events", "/v2/tenants/{tenant}/balance")
ACTS: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("credit.granted", "grant-{}", {"document": {"id": "grant-{}", "amount": "25", "by": "ann"}}),
    ("budget.set", "monthly", {"document": {"cap": "500", "window": "month", "scope": "tenant"}}),
    ("usage.voided", "01J8ZK4M2Q7R5T9V3X6Y0AB{}", {"reason": "sent twice", "source": "gateway-1"}),
    ("invoice.finalized", "2026-11-01", {}),
    ("invoice.moved", "2026-11-01", {"status": "paid", "reason": "bank transfer"}),
    (
        "key.issued",
        "k3m9q2x7w5t1{}",
        {"name": "gateway", "scopes": ["holds:write", "events:write"]},
    ),
)


def _lines(opened: Database, count: int, chance: random.Random) -> float:
    """Write lines; return seconds."""
    store = PostgresAuditLog(opened)
    log = AuditLog(store)
    began = time.perf_counter()
    for number in range(count):
        act, target, detail = ACTS[number % len(ACTS)]
        log.write(
            act=act,
            who=f"key:{chance.getrandbits(52):013x}",
            via="http",
            tenant=f"tenant-{chance.randrange(TENANTS):04d}",
            target=target.format(number),
            request_id=f"{chance.getrandbits(80):020x}",
            address="192.0.2.17",
            detail=dict(detail),
        )
    took = time.perf_counter() - began
    store.close()
    return took


def _uses(opened: Database, keys: int, days: int, chance: random.Random) -> int:
    """Count uses day by day; return how many rows there are."""
    store = PostgresKeyUses(opened)
    named = [f"{chance.getrandbits(52):013x}" for _ in range(keys)]
    for day in range(days):
        for update in range(UPDATES):
            at = (DAY + day) * DAY_US + update
            store.add(
                [
                    KeyUse(
                        tenant=f"tenant-{place % TENANTS:04d}",
                        key=key,
                        day=DAY + day,
                        route=route,
                        status=2,
                        uses=17,
                        first_at=at,
                        last_at=at,
                    )
                    for place, key in enumerate(named)
                    for route in ROUTES
                ]
            )
        with opened.connect(purpose="vacuum") as connection:
            connection.autocommit = True
            connection.execute("VACUUM key_uses")
    store.close()
    return keys * days * len(ROUTES)


def _bytes(connection: psycopg.Connection[Any], table: str) -> int:
    [(size,)] = connection.execute("SELECT pg_total_relation_size(%s)", (table,)).fetchall()
    return int(size)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench kept")
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--keys", type=int, default=200)
    parser.add_argument("--days", type=int, default=10)
    options = parser.parse_args()
    chance = random.Random(7)  # noqa: S311 - seeded, so that runs can be repeated
    with server() as home, database(home, "kept") as url, Database(url) as opened:
        took = _lines(opened, options.lines, chance)
        rows = _uses(opened, options.keys, options.days, chance)
        with opened.connect(purpose="sizes") as connection:
            audit, uses = (_bytes(connection, name) for name in ("audit_log", "key_uses"))
    print(
        json.dumps(
            {
                "audit_log": {
                    "lines": options.lines,
                    "bytes_a_line": round(audit / options.lines),
                    "ms_a_line": round(1000 * took / options.lines, 2),
                },
                "key_uses": {
                    "rows": rows,
                    "updates_a_row": UPDATES,
                    "bytes_a_row": round(uses / rows),
                },
            }
        )
    )


if __name__ == "__main__":
    main()
