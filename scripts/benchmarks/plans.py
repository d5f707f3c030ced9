"""Plans: recording usage that a plan charges, beside the same usage at list prices.

    scripts/bench plans [--events 40000] [--runs 5]

The events are those of `scripts/bench ingest`, of 200 tenants, read beforehand; each kind of price
gets them in batches of 1,000 in a database of its own, in turn within a run. ``unit`` is a charge
whose units all cost the same; ``tiers`` has included units and two tiers, ``package`` counts begun
thousands, which has no whole-number form. Prints one JSON object, medians of the runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from datetime import date

from adapters.bootstrap import tune_process
from adapters.postgres.database import Database
from ledger.application.engine import Ledger
from ledger.application.intake import read_event
from ledger.application.sequencer import Sequencer
from ledger.domain.billing_calendar import Holding, Segment
from ledger.domain.plans import plan_from_json
from ledger.domain.tenant_plans import TenantPlan
from scripts.benchmarks._common import FixedPrices, batches, database, events, say, server

BATCH = 1_000
LIST = "list"
FIRST = date(2026, 1, 1)
MODELS = {
    "unit": {"model": {"tiers": [{"rate": "2", "unit_size": "1000000"}]}},
    "tiers": {
        "included": "100000",
        "model": {
            "tiers": [
                {"up_to": "1000000", "rate": "2", "unit_size": "1000000"},
                {"rate": "1", "unit_size": "1000000"},
            ]
        },
    },
    "package": {"model": {"tiers": [{"rate": "0.01", "unit_size": "1000", "blocks": "up"}]}},
}


class OnePlan:
    """Everybody is on one plan; a `PlanSource`.

    Args:
        members: of its only charge.
    """

    def __init__(self, members: Mapping[str, object]) -> None:
        charge = {"name": "tokens", "meters": ["tokens.*"], **members}
        document = {
            "name": "bench",
            "currency": "USD",
            "cycle": {"anchor": FIRST.isoformat(), "timezone": "UTC"},
            "charges": [charge],
        }
        self._plan = plan_from_json(json.dumps(document))

    def load(self, tenants: Mapping[int, str]) -> Mapping[int, TenantPlan]:
        """Return the plan for all of them."""
        held = (Holding(FIRST, self._plan.name, 1),)
        cycles = (Segment(FIRST, self._plan.cycle),)
        return {
            number: TenantPlan(
                held, cycles, timezone=timezone, plan_of=lambda name, version: self._plan
            )
            for number, timezone in tenants.items()
        }


def record(url: str, wire: Sequence[bytes], kind: str) -> float:
    """Return events per second."""
    plans = None if kind == LIST else OnePlan(MODELS[kind])
    commands = [read_event(line) for line in wire]
    with Database(url) as db:
        ledger = Ledger(Sequencer(db.store, FixedPrices(), plans=plans))
        # Ledgers open with their first event, and learn of a plan when they are loaded again.
        ledger.run(commands[:BATCH])
        ledger.close()
        ledger = Ledger(Sequencer(db.store, FixedPrices(), plans=plans))
        rest = commands[BATCH:]
        started = time.perf_counter()
        outcomes = [one for batch in batches(rest, BATCH) for one in ledger.run(batch)]
        seconds = time.perf_counter() - started
        ledger.close()
    if any(one.status != "accepted" for one in outcomes):
        raise SystemExit("an event was not accepted")
    return len(rest) / seconds


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench plans")
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    tune_process()
    kinds = (LIST, *MODELS)
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    with server() as url:
        for run in range(options.runs + 1):
            wire = events(options.events, seed=run)
            figures = {}
            for kind in kinds:
                with database(url, f"bench_{run}_{kind}") as place:
                    figures[kind] = record(place, wire, kind)
            say(
                f"run {run}: "
                + ", ".join(f"{kind} {rate:,.0f}/s" for kind, rate in figures.items())
            )
            if run:  # the first warms up
                for kind, rate in figures.items():
                    rates[kind].append(rate)
    results = [
        {
            "price": kind,
            "events_per_s": round(statistics.median(rates[kind])),
            "ratio": round(
                statistics.median(a / b for a, b in zip(rates[kind], rates[LIST], strict=True)), 2
            ),
        }
        for kind in kinds
    ]
    print(json.dumps({"results": results, "events": options.events, "runs": options.runs}))


if __name__ == "__main__":
    main()
