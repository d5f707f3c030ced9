"""Growth: does ingest slow down as the ledger fills, and does memory stay flat?

    scripts/bench growth [--entries 5000000] [--sample 100000]

Ingests up to the given number of entries for 200 tenants and measures the rate of the first and
of the last samples: ``growth`` is the median of the last five samples over the median of the
first five that follow the first (which warms up). Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Sequence

from adapters.bootstrap import tune_process
from adapters.postgres.database import Database
from ledger.application.engine import Ledger
from ledger.application.reader import EventReader
from ledger.application.sequencer import Sequencer
from scripts.benchmarks._common import FixedPrices, database, events, say, server
from scripts.benchmarks.ingest import bytes_per_event, record

SAMPLES = 5


def _ingest(ledger: Ledger, reader: EventReader, wire: Sequence[bytes]) -> float:
    started = time.perf_counter()
    for answers in record(ledger, reader, wire):
        answers.wait()
    return len(wire) / (time.perf_counter() - started)


def _memory_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench growth")
    parser.add_argument("--entries", type=int, default=5_000_000)
    parser.add_argument("--sample", type=int, default=100_000)
    options = parser.parse_args()
    tune_process()
    steps = max(2 * SAMPLES + 1, options.entries // options.sample)
    rates: list[float] = []
    memory: list[float] = []
    with server() as url, database(url, "growth") as place:
        with Database(place) as db, EventReader() as reader:
            ledger = Ledger(Sequencer(db.store, FixedPrices()))
            for step in range(steps):
                rates.append(_ingest(ledger, reader, events(options.sample, seed=step)))
                memory.append(_memory_mib())
                say(f"{(step + 1) * options.sample:,} entries: {rates[-1]:,.0f}/s")
            ledger.close()
        sizes = bytes_per_event(place, steps * options.sample)
    first = statistics.median(rates[1 : SAMPLES + 1])
    last = statistics.median(rates[-SAMPLES:])
    result = {
        "growth": round(last / first, 3),
        "first_events_per_s": round(first),
        "last_events_per_s": round(last),
        "entries": steps * options.sample,
        "bytes_per_event": sizes["all"],
        "bytes_by_table": sizes,
        "memory_mib_first": round(memory[1], 1),
        "memory_mib_last": round(memory[-1], 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
