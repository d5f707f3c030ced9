"""HTTP: the routes on the path of every provider call, beside an empty route of the same server.

    scripts/bench http                       # about four minutes
    scripts/bench http --cases event pair    # some of the cases
    scripts/bench http --rounds 1 --seconds 2

Load generator (this process), server (one process, one worker) and PostgreSQL share the machine.
Each case sends for some seconds over 64 connections that each send when the last answer is there;
in the same round the same connections send requests of the same size to a plain Starlette route
that answers the same bytes on the same server. Figures are medians of the rounds.

Prints one JSON object:

    results                one object a case:
      case                 event    one usage event a request
                           pair     authorize, then capture, in turn, on 200 tenants
                           balance  a tenant's balance, on 200 tenants
      per_s, baseline_per_s, ratio   answers a second, of the empty route, the median of the
                           rounds' ratios
      p50_ms, p99_ms       from request to answer
    batch                  1,000 events a request, 8 connections, tenants without budgets:
      events_per_s, engine_events_per_s, ratio   beside `scripts/bench ingest`'s own way in the
                           same round
    half_load              authorize and capture at half the rate that `pair` reached, paced; timed
                           from when each request was due:
      per_s, p50_ms, p99_ms   of authorize and capture together
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

import uvloop

from adapters.bootstrap import open_ledger, tune_process
from ledger.application import asks
from ledger.domain.protection_commands import SetBudget
from scripts.benchmarks import ingest
from scripts.benchmarks._common import METERS, MODELS, TENANTS, database, events, say, server
from scripts.benchmarks._http_load import Load, Requests, load, request

CONNECTIONS = 64
BATCH_CONNECTIONS = 8
BATCH = 1_000
NAMES = tuple(f"guarded-{number:04d}" for number in range(TENANTS))
"""Tenants with budgets. Events go to others, that have none, as in `scripts/bench ingest`."""
USAGE = dict.fromkeys(METERS, 500)
_LIMIT = str(10**9)
_BUDGETS = {"month": {"cap": _LIMIT}, "day": {"cap": _LIMIT, "window": "day"}}
_RATES = dict(
    zip(
        (
            "input_cost_per_token",
            "cache_read_input_token_cost",
            "output_cost_per_token",
            "output_cost_per_reasoning_token",
        ),
        (2e-6, 1e-6, 6e-6, 6e-6),
        strict=True,
    )
)


class Place(NamedTuple):
    """A running server.

    Attributes:
        port: on 127.0.0.1.
        token: of a key of the platform that may do everything.
        url: of the database.
        pid: of the server's process.
    """

    port: int
    token: str
    url: str
    pid: int


def prepare(url: str) -> str:
    """Set prices, tenants with budgets and a key up; return the key's token."""
    with open_ledger(url) as tallybook, TemporaryDirectory() as folder:
        path = Path(folder) / "prices.json"
        models = {model: {"litellm_provider": "openai", **_RATES} for model in MODELS}
        path.write_text(json.dumps(models))
        tallybook.prices.import_litellm(
            path, effective_from=datetime(2020, 1, 1, tzinfo=UTC), approve=True, by="bench"
        )
        for name in NAMES:
            tallybook.tenants.open(name)
            tallybook.ledger.run(
                [
                    SetBudget(name, asks.budget_terms(terms, name=budget, currency="USD"))
                    for budget, terms in _BUDGETS.items()
                ]
            )
        issued = tallybook.keys.issue({"name": "bench", "scopes": ["admin"]}, by="bench")
        return issued.token


@contextmanager
def serving(url: str, token: str) -> Iterator[Place]:
    """Run the server in a process of its own."""
    process = subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", "scripts.benchmarks._http_server", url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        if process.stdout is None:
            raise SystemExit("the server has no output")
        yield Place(int(process.stdout.readline()), token, url, process.pid)
    finally:
        process.communicate("")


def event_requests(place: Place, seed: int) -> Requests:
    """Return single events, each its own."""
    wire = events(20_000, seed=seed)
    numbers = count()

    def requests(connection: int) -> Iterator[bytes]:
        del connection
        while True:
            body = wire[next(numbers) % len(wire)]
            # A new id each time, so that none is a duplicate.
            body = body.replace(b'"id":"', b'"id":"%x-' % next(numbers), 1)
            yield request(
                "POST", "/v2/events", body, token=place.token, kind="application/cloudevents+json"
            )

    return requests


def pair_requests(place: Place, seed: int) -> Requests:
    """Return authorizations and their captures in turn."""
    chance = random.Random(seed)  # noqa: S311 - seeded, so that runs can be repeated

    def requests(connection: int) -> Iterator[bytes]:
        for number in count():
            tenant = chance.choice(NAMES)
            hold = f"{seed}-{connection}-{number}"
            ask = {
                "hold": hold,
                "tenant": tenant,
                "provider": "openai",
                "model": chance.choice(MODELS),
                "user": "user-0",
                "quantities": USAGE,
            }
            capture = {"capture": f"c-{hold}", "tenant": tenant, "quantities": USAGE}
            for path, document in (("/v2/holds", ask), (f"/v2/holds/{hold}/capture", capture)):
                body = json.dumps(document, separators=(",", ":")).encode()
                yield request("POST", path, body, token=place.token, kind="application/json")

    return requests


def balance_requests(place: Place, seed: int) -> Requests:
    """Return reads of balances."""
    chance = random.Random(seed)  # noqa: S311 - as above

    def requests(connection: int) -> Iterator[bytes]:
        del connection
        while True:
            path = f"/v2/tenants/{chance.choice(NAMES)}/balance"
            yield request("GET", path, b"", token=place.token, kind="application/json")

    return requests


CASES: dict[str, Callable[[Place, int], Requests]] = {
    "event": event_requests,
    "pair": pair_requests,
    "balance": balance_requests,
}


def one_answer(place: Place, requests: Requests) -> bytes:
    """Return the bytes that a case's request is answered with."""
    head, _, body = next(requests(10**6)).partition(b"\r\n\r\n")
    method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
    lines = (line.split(": ", 1) for line in head.decode().split("\r\n")[2:])
    headers = {name: value for name, value in lines if name != "Content-Length"}
    asked = Request(
        f"http://127.0.0.1:{place.port}{path}", data=body or None, method=method, headers=headers
    )
    with urlopen(asked) as answer:  # noqa: S310 - as above
        found: bytes = answer.read()
    return found


def empty_requests(place: Place, requests: Requests) -> Requests:
    """Return requests of the same size to the empty route, after it was told what to answer."""
    answer = one_answer(place, requests)
    urlopen(
        Request(f"http://127.0.0.1:{place.port}/bench/answer", data=answer, method="POST")
    ).close()
    head, _, body = next(requests(10**6 + 1)).partition(b"\r\n\r\n")
    method = head.split(b" ", 1)[0].decode()
    made = request(method, "/bench/empty", body, token=place.token, kind="application/json")

    def same(connection: int) -> Iterator[bytes]:
        del connection
        while True:
            yield made

    return same


def run(made: Any) -> Load:
    """Run one load and check that everything was answered 200."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found: Load = runner.run(made)
    if set(found.statuses) != {200}:
        raise SystemExit(f"not every answer was 200: {found.statuses}")
    return found


def measure(place: Place, name: str, *, seed: int, seconds: float) -> tuple[Load, Load]:
    """Return a case's load and that of the empty route."""
    requests = CASES[name](place, seed)
    empty = empty_requests(place, CASES[name](place, seed + 500))
    sides = [
        lambda: load(place.port, requests, connections=CONNECTIONS, seconds=seconds),
        lambda: load(place.port, empty, connections=CONNECTIONS, seconds=seconds),
    ]
    order = (0, 1) if seed % 2 else (1, 0)
    found = {side: run(sides[side]()) for side in order}
    return found[0], found[1]


def batch(place: Place, url: str, *, seed: int, seconds: float) -> tuple[float, float]:
    """Return events a second over HTTP in batches, and of the engine alone."""
    need = int(BATCH * 60 * seconds)
    bodies = [
        request(
            "POST",
            "/v2/events",
            b"[" + b",".join(wire) + b"]",
            token=place.token,
            kind="application/cloudevents-batch+json",
        )
        for wire in ingest.batches(events(need, seed=seed), BATCH)
    ]
    numbers = iter(bodies)

    def requests(connection: int) -> Iterator[bytes]:
        del connection
        yield from numbers
        raise SystemExit("too few events were made beforehand")

    found = run(load(place.port, requests, connections=BATCH_CONNECTIONS, seconds=seconds))
    return found.per_s * BATCH, ingest.ingest(url, events(int(40_000 * seconds), seed=seed + 1))


def half_load(place: Place, per_s: float, *, seed: int, seconds: float) -> Load:
    """Return the load of pairs at half of a rate."""
    requests = pair_requests(place, seed)
    return run(
        load(
            place.port,
            requests,
            connections=CONNECTIONS,
            seconds=seconds,
            warm_up_s=2,
            rate_per_s=per_s / 2,
        )
    )


def summary(name: str, rounds: list[tuple[Load, Load]]) -> dict[str, Any]:
    """Return a case's figures."""
    return {
        "case": name,
        "per_s": round(statistics.median(ours.per_s for ours, _ in rounds)),
        "baseline_per_s": round(statistics.median(empty.per_s for _, empty in rounds)),
        "ratio": round(statistics.median(a.per_s / b.per_s for a, b in rounds), 3),
        "p50_ms": round(statistics.median(ours.percentile_ms(50) for ours, _ in rounds), 2),
        "p99_ms": round(statistics.median(ours.percentile_ms(99) for ours, _ in rounds), 2),
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench http")
    every = [*CASES, "batch", "half"]
    parser.add_argument("--cases", nargs="+", choices=every, default=every)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    tune_process()
    rounds: dict[str, list[tuple[Load, Load]]] = {name: [] for name in CASES}
    batches: list[tuple[float, float]] = []
    halves: list[Load] = []
    with server() as url, database(url, "bench_http") as place_url, database(url, "alone") as alone:
        token = prepare(place_url)
        with serving(place_url, token) as place:
            for number in range(1, options.rounds + 1):
                for name in [one for one in CASES if one in options.cases]:
                    ours, empty = measure(place, name, seed=number, seconds=options.seconds)
                    rounds[name].append((ours, empty))
                    say(
                        f"round {number}: {name} {ours.per_s:,.0f}/s, empty {empty.per_s:,.0f}/s,"
                        f" p99 {ours.percentile_ms(99):.1f} ms"
                    )
                if "half" in options.cases:
                    reached = rounds["pair"][-1][0].per_s if rounds["pair"] else 2_000
                    half = half_load(place, reached, seed=number + 50, seconds=options.seconds)
                    halves.append(half)
                    say(f"round {number}: half load p99 {half.percentile_ms(99):.1f} ms")
                if "batch" in options.cases:
                    found = batch(place, alone, seed=number + 100, seconds=options.seconds)
                    batches.append(found)
                    say(f"round {number}: batch {found[0]:,.0f}/s, engine {found[1]:,.0f}/s")
    result: dict[str, Any] = {
        "results": [summary(name, found) for name, found in rounds.items() if found],
        "rounds": options.rounds,
        "seconds": options.seconds,
        "connections": CONNECTIONS,
    }
    if batches:
        result["batch"] = {
            "events_per_s": round(statistics.median(ours for ours, _ in batches)),
            "engine_events_per_s": round(statistics.median(engine for _, engine in batches)),
            "ratio": round(statistics.median(a / b for a, b in batches), 3),
        }
    if halves:
        result["half_load"] = {
            "per_s": round(statistics.median(one.per_s for one in halves)),
            "p50_ms": round(statistics.median(one.percentile_ms(50) for one in halves), 2),
            "p99_ms": round(statistics.median(one.percentile_ms(99) for one in halves), 2),
        }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
