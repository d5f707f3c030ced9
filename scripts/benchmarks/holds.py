"""Authorize + capture pairs a second, beside a plain baseline with row locks.

    scripts/bench holds                      # 1, 8, 64, 512 in flight, hot and many tenants
    scripts/bench holds --past 10000 --past 2000000

One Python process, asyncio, one server with fsync on. Engine and baseline take turns, and each
case's figures are medians of its rounds. ``p50_ms`` and ``p99_ms`` are of authorize, at that many
in flight. With ``--past`` only one case is measured, 64 in flight on one tenant, after so many
captured holds: the cost of a decision must not grow with them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import psycopg

from adapters.bootstrap import tune_process
from adapters.postgres.database import Database
from ledger.application import asks
from ledger.application.protection import Holds
from ledger.application.sequencer import Sequencer
from ledger.domain.commands import Command, OpenLedger
from ledger.domain.holds import SetBudget
from scripts.benchmarks import holds_baseline as baseline
from scripts.benchmarks._common import FixedPrices, database, say, server

IN_FLIGHT = (1, 8, 64, 512)
MANY = 200
ESTIMATE = {"tokens.input": 1000, "tokens.output": 500}
ACTUAL = {"tokens.input": 900, "tokens.output": 300}
BUDGETS = (
    ("month", {"cap": "1000000", "window": "month"}),
    ("day", {"cap": "1000000", "window": "day"}),
    ("user", {"cap": "1000000", "window": "day", "scope": "user=u1"}),
)
Pair = Callable[[str, str], Awaitable[float]]
"""Runs one pair for a tenant and an id; returns how long the authorization took."""


class Engine:
    """The ledger, with tenants of three budgets each."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self.sequencer = Sequencer(self._database.store, FixedPrices())
        self.holds = Holds(self.sequencer)

    def open(self, tenants: list[str]) -> None:
        """Open ledgers and set their budgets."""
        commands: list[Command] = []
        for tenant in tenants:
            commands.append(OpenLedger(tenant, "USD", "UTC", "default"))
            for name, document in BUDGETS:
                terms = asks.budget_terms(document, name=name, currency="USD")
                commands.append(SetBudget(tenant, terms))
        self.run(commands)

    def run(self, commands: list[Command]) -> None:
        """Run commands; each must be accepted."""
        prepare = self.sequencer.prepare
        for start in range(0, len(commands), 4000):
            some = [prepare(command) for command in commands[start : start + 4000]]
            for outcome in self.sequencer.submit(some).result():
                if outcome.problem is not None:
                    raise RuntimeError(outcome.problem.message)

    async def pair(self, tenant: str, id: str) -> float:
        """Authorize and capture."""
        began = time.perf_counter()
        ask = {
            "hold": id,
            "provider": "openai",
            "model": "model-1",
            "user": "u1",
            "quantities": ESTIMATE,
        }
        answer = await self.holds.authorize_async(ask, tenant=tenant)
        took = time.perf_counter() - began
        if answer.status != "created":
            raise RuntimeError(f"authorize answered {answer.status}")
        done = {"capture": id, "quantities": ACTUAL}
        answer = await self.holds.capture_async(done, tenant=tenant, hold=id)
        if answer.status != "captured":
            raise RuntimeError(f"capture answered {answer.status}")
        return took

    def past(self, tenant: str, made: int, count: int) -> None:
        """Make holds that are over, from ``made`` to ``count``."""
        while made < count:
            some = min(2000, count - made)
            commands: list[Command] = []
            for number in range(made, made + some):
                ask = {"hold": f"past-{number}", "amount": "0.001", "user": "u1"}
                commands.append(asks.authorize_hold(ask, tenant=tenant))
                done = {"capture": f"past-{number}", "provider": "openai", "model": "model-1"}
                done |= {"quantities": {"tokens.input": 9}}  # type: ignore[dict-item] # a document
                commands.append(asks.capture_hold(done, tenant=tenant, hold=f"past-{number}"))
            self.run(commands)
            made += some
            if made % 100_000 == 0:
                say(f"{made:,} past holds")

    def close(self) -> None:
        """Stop."""
        self.sequencer.close()
        self._database.close()


async def load(pair: Pair, tenants: list[str], in_flight: int, seconds: float) -> dict[str, float]:
    """Keep so many pairs in flight for a while."""
    took: list[float] = []
    done = 0
    run = os.urandom(5).hex()
    began = time.perf_counter()
    until = began + seconds

    async def caller(number: int) -> None:
        nonlocal done
        count = 0
        while time.perf_counter() < until:
            count += 1
            tenant = tenants[(number * 31 + count) % len(tenants)]
            took.append(await pair(tenant, f"{run}-{number}-{count}"))
            done += 1

    await asyncio.gather(*(caller(number) for number in range(in_flight)))
    elapsed = time.perf_counter() - began
    took.sort()
    return {
        "pairs_per_s": done / elapsed,
        "p50_ms": 1000 * took[len(took) // 2],
        "p99_ms": 1000 * took[min(len(took) - 1, len(took) * 99 // 100)],
    }


async def case(
    engine: Engine, url: str, tenants: list[str], in_flight: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Measure engine and baseline in turns."""
    ours: list[dict[str, float]] = []
    plain: list[float] = []
    amount = Decimal("0.0045")

    async with baseline.pool(url, in_flight) as pool:

        async def plain_pair(tenant: str, id: str) -> float:
            began = time.perf_counter()
            await baseline.authorize(pool, tenant, id, amount)
            took = time.perf_counter() - began
            await baseline.capture(pool, tenant, id, (900, 300), Decimal("0.0031"))
            return took

        for _ in range(options.rounds):
            ours.append(await load(engine.pair, tenants, in_flight, options.seconds))
            result = await load(plain_pair, tenants, in_flight, options.seconds)
            plain.append(result["pairs_per_s"])
    median = {name: statistics.median(one[name] for one in ours) for name in ours[0]}
    beside = statistics.median(plain)
    result = {
        "in_flight": in_flight,
        "tenants": "hot" if len(tenants) == 1 else "many",
        "pairs_per_s": round(median["pairs_per_s"]),
        "baseline_pairs_per_s": round(beside),
        "ratio": round(
            statistics.median(
                one["pairs_per_s"] / other for one, other in zip(ours, plain, strict=True)
            ),
            2,
        ),
        "p50_ms": round(median["p50_ms"], 2),
        "p99_ms": round(median["p99_ms"], 2),
    }
    say(json.dumps(result))
    return result


def lone(engine: Engine, url: str, tenant: str) -> dict[str, float]:
    """Time one authorization alone, and one synchronous commit of a single row."""
    authorize, commit = [], []
    with psycopg.connect(url, autocommit=True, prepare_threshold=0) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS plain_row (id bigint PRIMARY KEY)")
        for number in range(300):
            ask = {
                "hold": f"lone-{number}",
                "provider": "openai",
                "model": "model-1",
                "user": "u1",
                "quantities": ESTIMATE,
            }
            began = time.perf_counter()
            engine.holds.authorize(ask, tenant=tenant)
            authorize.append(time.perf_counter() - began)
            began = time.perf_counter()
            connection.execute("INSERT INTO plain_row VALUES (%s)", (number,))
            commit.append(time.perf_counter() - began)
    both = statistics.median(authorize) * 1000, statistics.median(commit) * 1000
    return {"lone_authorize_ms": round(both[0], 3), "empty_commit_ms": round(both[1], 3)}


def growth(options: argparse.Namespace) -> dict[str, Any]:
    """Measure one hot tenant with more and more past holds."""
    pasts, cost = [], []
    with server() as server_url, database(server_url, "bench_holds") as url:
        engine = Engine(url)
        engine.open(["hot"])
        made = 0
        for past in sorted(options.past):
            engine.past("hot", made, past)
            made = past
            rounds = [
                asyncio.run(load(engine.pair, ["hot"], 64, options.seconds))
                for _ in range(options.rounds)
            ]
            rate = statistics.median(one["pairs_per_s"] for one in rounds)
            pasts.append(past)
            cost.append(round(1e6 / rate, 1))
            say(f"{past:,} past holds: {cost[-1]} µs a pair")
        engine.close()
    return {"past": pasts, "us_per_pair": cost}


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(prog="scripts/bench holds", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each case and side")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--in-flight", type=int, action="append", help="of these only")
    parser.add_argument("--past", type=int, action="append", help="measure growth instead")
    options = parser.parse_args()
    tune_process()
    if options.past:
        print(json.dumps({"growth": growth(options)}))
        return
    results = []
    with server() as server_url, database(server_url, "bench_holds") as url:
        engine = Engine(url)
        many = [f"tenant-{number:03d}" for number in range(MANY)]
        engine.open(["hot", *many])
        baseline.prepare(url, ["hot", *many], len(BUDGETS))
        alone = lone(engine, url, "hot")
        say(json.dumps(alone))
        for in_flight in options.in_flight or IN_FLIGHT:
            for tenants in (["hot"], many):
                results.append(asyncio.run(case(engine, url, tenants, in_flight, options)))
        engine.close()
    print(json.dumps({"results": results, **alone}))


if __name__ == "__main__":
    main()
