"""Ingest: wire bytes to committed, rated, balanced events, beside a binary COPY of the same events.

    scripts/bench ingest [--events 200000] [--runs 5]

The engine gets CloudEvents of four quantities for 200 tenants in batches of 1,000: a reader
process reads and checks them, as `tallybook import` does with large files, while this process
rates and commits, eight batches in flight. The baseline copies one
row an event, 1,000 rows a transaction, into a table with primary key (tenant_id, key, version)
and an index on seq; its ``state`` holds the event's wire bytes, its columns are made beforehand.
``ratio_small_rows`` compares with a COPY whose ``state`` has as many bytes as the engine's own
entry, which is the harder baseline. Prints one JSON object, medians of the runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from uuid import UUID

import psycopg

from adapters.bootstrap import tune_process
from adapters.postgres.audit import open_audit
from adapters.postgres.database import Database
from ledger.application.engine import Ledger, PendingAnswers
from ledger.application.intake import read_event
from ledger.application.reader import EventReader, Reading
from ledger.application.replay import replay
from ledger.application.sequencer import Sequencer
from scripts.benchmarks._common import FixedPrices, batches, database, events, say, server

BATCH = 1_000
IN_FLIGHT = 8
ENTRY_BYTES = 76
"""What one entry of these events takes in a commit, for the small-row baseline."""
_COPY_TABLE = """
CREATE TABLE copied (
    tenant_id text NOT NULL, key uuid NOT NULL, version int8 NOT NULL, topic text NOT NULL,
    state bytea NOT NULL, fingerprint uuid NOT NULL, occurred_at timestamptz NOT NULL,
    seq bigserial NOT NULL, PRIMARY KEY (tenant_id, key, version)
);
CREATE INDEX copied_seq ON copied (seq)
"""
_COPY = (
    "COPY copied (tenant_id, key, version, topic, state, fingerprint, occurred_at)"
    " FROM STDIN (FORMAT BINARY)"
)


def copy_rows(url: str, wire: Sequence[bytes], *, state_bytes: int | None) -> float:
    """Return rows per second of the baseline."""
    rows = []
    for event in wire:
        tree = json.loads(event)
        command = read_event(event)
        at = datetime.fromisoformat(tree["time"]).astimezone(UTC)
        key, print_ = UUID(bytes=command.key), UUID(bytes=command.fingerprint)
        state = event if state_bytes is None else event[:state_bytes]
        rows.append((tree["subject"], key, 1, "tb.usage:1", state, print_, at))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS copied")
        connection.execute(_COPY_TABLE.encode(), prepare=False)
        started = time.perf_counter()
        for batch in batches(rows, BATCH):
            with connection.transaction(), connection.cursor().copy(_COPY) as copy:
                copy.set_types(["text", "uuid", "int8", "text", "bytea", "uuid", "timestamptz"])
                for row in batch:
                    copy.write_row(row)
        return len(rows) / (time.perf_counter() - started)


def ingest(url: str, wire: Sequence[bytes]) -> float:
    """Return events per second of the engine, everything included but the processes' start."""
    with Database(url) as db, EventReader() as reader:
        reader.read([]).result()
        ledger = Ledger(Sequencer(db.store, FixedPrices()))
        started = time.perf_counter()
        accepted = sum(map(_accepted, record(ledger, reader, wire)))
        seconds = time.perf_counter() - started
        ledger.close()
    if accepted != len(wire):
        raise SystemExit(f"{accepted} of {len(wire)} events were accepted")
    return len(wire) / seconds


def record(ledger: Ledger, reader: EventReader, wire: Sequence[bytes]) -> Iterator[PendingAnswers]:
    """Yield the answers of batches, some batches being read and some committed meanwhile."""
    reading: deque[Reading] = deque()
    flying: deque[PendingAnswers] = deque()
    waiting = batches(wire, BATCH)
    while True:
        for batch in islice(waiting, IN_FLIGHT - len(reading)):
            reading.append(reader.read(batch))
        if reading:
            flying.append(ledger.submit(reading.popleft().result()))
        if not flying:
            return
        if not reading or len(flying) >= IN_FLIGHT:
            yield flying.popleft()


def _accepted(answers: PendingAnswers) -> int:
    return sum(outcome.status == "accepted" for outcome in answers.wait())


def bytes_per_event(url: str, count: int) -> dict[str, float]:
    """Return what the engine's tables and their indexes take, per event."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM")
        rows = connection.execute(
            "SELECT relname, pg_total_relation_size(oid) FROM pg_class"
            " WHERE relnamespace = 'tallybook'::regnamespace AND relkind = 'r'"
        ).fetchall()
    sizes = {name: round(size / count, 1) for name, size in rows if size > 8192 * 3}
    return dict(sorted(sizes.items(), key=lambda pair: -pair[1])) | {
        "all": round(sum(size for _, size in rows) / count, 1)
    }


def replay_rate(url: str) -> float:
    """Return entries per second of folding the whole log from empty."""
    with Database(url) as db, open_audit(db) as view:
        started = time.perf_counter()
        result = replay(view.commits())
        return result.entries / (time.perf_counter() - started)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench ingest")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    tune_process()
    copied, small, ingested, replayed = [], [], [], []
    sizes: dict[str, float] = {}
    with server() as url:
        for run in range(options.runs + 1):
            wire = events(options.events, seed=run)
            with database(url, f"bench_{run}") as place:
                figures = (
                    copy_rows(place, wire, state_bytes=None),
                    ingest(place, wire),
                    copy_rows(place, wire, state_bytes=ENTRY_BYTES),
                    replay_rate(place),
                )
                with psycopg.connect(place, autocommit=True) as connection:
                    connection.execute("DROP TABLE copied")
                sizes = bytes_per_event(place, options.events)
            say(
                f"run {run}: COPY {figures[0]:,.0f}/s, engine {figures[1]:,.0f}/s,"
                f" small COPY {figures[2]:,.0f}/s, replay {figures[3]:,.0f}/s"
            )
            if run:  # the first warms up
                for kept, figure in zip((copied, ingested, small, replayed), figures, strict=True):
                    kept.append(figure)
    ratios = [i / c for i, c in zip(ingested, copied, strict=True)]
    harder = [i / c for i, c in zip(ingested, small, strict=True)]
    result = {
        "ratio": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
        "ratio_small_rows": round(statistics.median(harder), 3),
        "events_per_s": round(statistics.median(ingested)),
        "copy_rows_per_s": round(statistics.median(copied)),
        "bytes_per_event": sizes["all"],
        "bytes_by_table": sizes,
        "replay_events_per_s": round(statistics.median(replayed)),
        "replay_ratio": round(statistics.median(replayed) / statistics.median(ingested), 2),
        "events": options.events,
        "runs": options.runs,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
