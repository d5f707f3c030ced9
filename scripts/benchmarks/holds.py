"""Holds: authorize and capture in pairs, beside the same written plainly with row locks.

    scripts/bench holds                            # about six minutes
    scripts/bench holds --cases hot:64 many:512    # some of the cases
    scripts/bench holds --past 10000 2000000       # does a decision's cost grow with the past?

One client process. So many asyncio tasks each authorize a call, wait, capture it, wait, and start
again, on one tenant (hot) or each time on a random one of 200 (many). Every tenant has three caps
that apply and are never reached: a month's, a day's, a user's of the month. Asks and captures have
quantities of four meters, rated for cost and charge. The baseline (`_holds_baseline`) does the same
in the same process on the same server, fsync on for both, in turn within each round; who goes
first changes. Figures are medians of the rounds; every measurement has half a second to warm up.

Prints one JSON object:

    results               one object a case:
      in_flight           tasks
      tenants             hot or many
      pairs_per_s         authorize + capture of the engine; half of all answers a second
      baseline_pairs_per_s  the same of the baseline
      ratio               of the two, median of the rounds' ratios
      p50_ms, p99_ms      of the engine's authorize requests alone, from call to answer, with so
                          many tasks in flight
      baseline_p50_ms, baseline_p99_ms  the same of the baseline
    lone_authorize_ms     median of authorizing while nothing else runs
    empty_commit_ms       median, in turn with it, of committing a log record that touches no
                          table: the least this server takes to make anything durable
    growth                with --past alone:
      past                captured holds that the hot tenant has before measuring
      us_per_pair         microseconds a pair, 64 in flight on that tenant, each past in a
                          database of its own, measured in turn
    machine, settings     what it ran on, and how
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from itertools import islice
from typing import Any, NamedTuple, NoReturn, Protocol

import psycopg

from adapters.bootstrap import tune_process
from ledger.domain.money import AMOUNT_DECIMALS
from scripts.benchmarks import _holds_baseline as baseline
from scripts.benchmarks._common import TENANTS, database, say, server
from scripts.benchmarks._holds_baseline import Call
from scripts.benchmarks._holds_engine import BUDGETS, LIMIT, USER, Engine

IN_FLIGHT = (1, 8, 64, 512)
GROWTH_IN_FLIGHT = 64
WARM_UP_S = 0.5
LONE = 100
"""Lone requests a round."""
HOT = ("hot",)
MANY = tuple(f"tenant-{number:04d}" for number in range(TENANTS))
TENANT_SETS = {"hot": HOT, "many": MANY}
_EMPTY_COMMIT = b"SELECT pg_logical_emit_message(true, 'bench', '')"


class Side(Protocol):
    """What is measured."""

    async def authorize(self, call: Call) -> object:
        """Reserve what a call may cost; return once it is durable."""
        ...

    async def capture(self, call: Call) -> object:
        """Post what it took; return once it is durable."""
        ...


class Figures(NamedTuple):
    """Of one measurement; latencies are of authorize requests."""

    pairs_per_s: float
    p50_ms: float
    p99_ms: float


async def drive(side: Side, *, source: Iterator[Call], in_flight: int, seconds: float) -> Figures:
    """Keep so many calls in flight and measure; no call is left half done.

    Raises:
        RuntimeError: something was answered that should not be, or nothing in all that time.
    """
    clock = time.perf_counter
    start = clock() + WARM_UP_S
    end = start + seconds
    authorized: list[float] = []
    captured = 0

    async def caller() -> None:
        nonlocal captured
        while clock() < end:
            call = next(source)
            began = clock()
            await side.authorize(call)
            if start <= (now := clock()) < end:
                authorized.append(now - began)
            await side.capture(call)
            if start <= clock() < end:
                captured += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(caller())
    if not authorized:
        raise RuntimeError(f"nothing was authorized in {seconds} s; measure longer")
    authorized.sort()
    return Figures(
        # Where there are more tasks than answers a second, they authorize all at one time and
        # capture all at another: pairs that happen to end within the time would be too few.
        (len(authorized) + captured) / 2 / seconds,
        authorized[len(authorized) // 2] * 1e3,
        authorized[len(authorized) * 99 // 100] * 1e3,
    )


class Bench:
    """The cases on one database.

    Args:
        url: of it.
        seconds: of each measurement.
        connections: most of the baseline.
    """

    def __init__(self, url: str, *, seconds: float, connections: int) -> None:
        self._url = url
        self._seconds = seconds
        self._connections = connections
        self._seed = 0
        baseline.create_tables(
            url,
            [
                (tenant, number, USER if name == "user" else None, Decimal(LIMIT))
                for tenant in (*HOT, *MANY)
                for number, name in enumerate(BUDGETS)
            ],
        )
        self._engine = Engine(url, (*HOT, *MANY))

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()

    async def same_work(self) -> None:
        """Check that both sides reserve and charge the same for the same call.

        Raises:
            RuntimeError: they do not.
        """
        call = next(self._calls(HOT))
        async with baseline.plain_holds(self._url, connections=1) as plain:
            expected = await plain.authorize(call), await plain.capture(call)
        held, charged = await self._engine.authorize(call), await self._engine.capture(call)
        if held.detail is None or charged.detail is None:
            raise RuntimeError("the engine's answers have no amounts")
        found = (
            Decimal(held.detail.amount).scaleb(-AMOUNT_DECIMALS),
            Decimal(charged.detail.charge).scaleb(-AMOUNT_DECIMALS),
        )
        if found != expected:
            raise RuntimeError(f"the engine has {found}, the baseline {expected}")

    async def case(self, case: str, *, engine_first: bool) -> tuple[Figures, Figures]:
        """Measure the engine and the baseline in one case."""
        name, _, number = case.partition(":")
        tenants, in_flight = TENANT_SETS[name], int(number)
        if engine_first:
            engine = await self._drive(self._engine, tenants, in_flight)
        connections = min(in_flight, self._connections)
        async with baseline.plain_holds(self._url, connections=connections) as side:
            plain = await self._drive(side, tenants, in_flight)
        if not engine_first:
            engine = await self._drive(self._engine, tenants, in_flight)
        return engine, plain

    async def lone(self) -> tuple[list[float], list[float]]:
        """Return seconds of authorizing and of empty commits, one at a time and in turn."""
        source = self._calls(HOT)
        authorized, committed = [], []
        clock = time.perf_counter
        async with await psycopg.AsyncConnection.connect(
            self._url, autocommit=True, prepare_threshold=0
        ) as connection:
            for call in islice(source, LONE):
                began = clock()
                await connection.execute(_EMPTY_COMMIT)
                between = clock()
                await self._engine.authorize(call)
                authorized.append(clock() - between)
                committed.append(between - began)
                await self._engine.capture(call)
        return authorized, committed

    async def _drive(self, side: Side, tenants: Sequence[str], in_flight: int) -> Figures:
        return await drive(
            side, source=self._calls(tenants), in_flight=in_flight, seconds=self._seconds
        )

    def _calls(self, tenants: Sequence[str]) -> Iterator[Call]:
        self._seed += 1
        return baseline.calls(tenants, user=USER, seed=self._seed)


def run_cases(bench: Bench, cases: Sequence[str], *, rounds: int) -> dict[str, Any]:
    """Return the figures of all cases; each round measures all of them."""
    found: dict[str, list[tuple[Figures, Figures]]] = {case: [] for case in cases}
    authorized: list[float] = []
    committed: list[float] = []
    with asyncio.Runner() as runner:
        runner.run(bench.same_work())
        runner.run(bench.lone())  # warms up
        for turn in range(rounds):
            times = runner.run(bench.lone())
            authorized += times[0]
            committed += times[1]
            for case, figures in found.items():
                engine, plain = runner.run(bench.case(case, engine_first=turn % 2 == 0))
                figures.append((engine, plain))
                say(
                    f"round {turn + 1}, {case}: engine {engine.pairs_per_s:,.0f} pairs/s,"
                    f" p99 {engine.p99_ms:.1f} ms; baseline {plain.pairs_per_s:,.0f}"
                )
    return {
        "results": [_result(case, figures) for case, figures in found.items()],
        "lone_authorize_ms": _ms(authorized),
        "empty_commit_ms": _ms(committed),
    }


def _result(case: str, rounds: Sequence[tuple[Figures, Figures]]) -> dict[str, object]:
    name, _, number = case.partition(":")
    engine, plain = (
        Figures(*map(statistics.median, zip(*side, strict=True)))
        for side in zip(*rounds, strict=True)
    )
    return {
        "in_flight": int(number),
        "tenants": name,
        "pairs_per_s": round(engine.pairs_per_s),
        "baseline_pairs_per_s": round(plain.pairs_per_s),
        "ratio": round(statistics.median(e.pairs_per_s / p.pairs_per_s for e, p in rounds), 2),
        "p50_ms": round(engine.p50_ms, 2),
        "p99_ms": round(engine.p99_ms, 2),
        "baseline_p50_ms": round(plain.p50_ms, 2),
        "baseline_p99_ms": round(plain.p99_ms, 2),
    }


def _ms(times: Sequence[float]) -> float:
    return round(statistics.median(times) * 1e3, 2)


def run_growth(
    server_url: str, pasts: Sequence[int], *, rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Return what a pair takes after each number of past holds, measured in turn."""
    engines: dict[int, Engine] = {}
    found: dict[int, list[float]] = {past: [] for past in pasts}
    with ExitStack() as stack:
        for past in found:
            place = stack.enter_context(database(server_url, f"past_{past}"))
            engines[past] = engine = Engine(place, HOT)
            stack.callback(engine.close)
            started = time.perf_counter()
            engine.fill(HOT[0], past)
            say(f"{past:,} past holds made in {time.perf_counter() - started:.1f} s")
            with psycopg.connect(place, autocommit=True) as connection:
                # What autovacuum would begin sooner or later is not to fall into one figure.
                connection.execute("VACUUM (ANALYZE)")
                connection.execute("CHECKPOINT")
        with asyncio.Runner() as runner:
            for turn in range(rounds + 1):
                for past, engine in engines.items():
                    source = baseline.calls(HOT, user=USER, seed=-1 - turn)
                    figures = runner.run(
                        drive(engine, source=source, in_flight=GROWTH_IN_FLIGHT, seconds=seconds)
                    )
                    say(f"round {turn}, {past:,} past holds: {figures.pairs_per_s:,.0f} pairs/s")
                    if turn:  # the first warms up, and writes whole pages after the checkpoint
                        found[past].append(1e6 / figures.pairs_per_s)
    return {
        "past": list(found),
        "us_per_pair": [round(statistics.median(times), 1) for times in found.values()],
    }


def _machine(url: str) -> dict[str, object]:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT current_setting('server_version'), current_setting('fsync'),"
            " current_setting('synchronous_commit')"
        ).fetchone()
    version, fsync, synchronous = row or ("", "", "")
    return {
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "psycopg": psycopg.__version__,
        "postgresql": version,
        "fsync": fsync,
        "synchronous_commit": synchronous,
    }


def _case(text: str) -> str:
    name, _, number = text.partition(":")
    if name not in TENANT_SETS or not number.isdecimal() or not 1 <= int(number) <= 4096:
        raise argparse.ArgumentTypeError(f"{text!r} is not hot:N or many:N, N from 1 to 4096")
    return f"{name}:{int(number)}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench holds",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--cases",
        type=_case,
        nargs="+",
        help="such as hot:64 many:512; all of them unless --past is given",
    )
    parser.add_argument(
        "--past",
        type=int,
        nargs="+",
        default=[],
        help="past holds of the hot tenant to make before measuring growth",
    )
    parser.add_argument(
        "--connections",
        type=int,
        default=baseline.POOL_SIZE,
        help="most connections of the baseline; with one, nothing waits for row locks",
    )
    options = parser.parse_args()
    if min(options.rounds, options.seconds, options.connections, *options.past) <= 0:
        parser.error("rounds, seconds, connections and past holds are above 0")
    if options.cases is None:
        every = [f"{name}:{number}" for name in TENANT_SETS for number in IN_FLIGHT]
        options.cases = [] if options.past else every
    return options


@contextmanager
def _leaving_on_signals() -> Iterator[None]:
    """Leave through every clean-up when somebody ends the benchmark; the server would stay."""

    def leave(number: int, frame: object) -> NoReturn:
        del frame
        for one in signals:
            signal.signal(one, signal.SIG_IGN)
        raise SystemExit(128 + number)

    signals = (signal.SIGTERM, signal.SIGHUP)
    before = {one: signal.signal(one, leave) for one in signals}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def main() -> None:
    """Run and print."""
    options = _options()
    tune_process()
    result: dict[str, Any] = {}
    with _leaving_on_signals(), server() as url:
        if options.cases:
            with database(url, "holds") as place:
                bench = Bench(place, seconds=options.seconds, connections=options.connections)
                try:
                    result |= run_cases(bench, options.cases, rounds=options.rounds)
                    baseline.check_settled(place)
                finally:
                    bench.close()
        if options.past:
            result["growth"] = run_growth(
                url, options.past, rounds=options.rounds, seconds=options.seconds
            )
        result["machine"] = _machine(url)
    result["settings"] = {
        "seconds": options.seconds,
        "rounds": options.rounds,
        "baseline_connections": options.connections,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
