"""Close: how long billing a month takes, and whether it grows with more than the tenants.

    scripts/bench close [--tenants 2000] [--entries 5000000]

Fills the billing rollups of one month as that many entries would (six models, four meters, every
day), for tenants of which every second one has a plan; then closes the month, makes every invoice
final and the journal of it all, in a process of its own. Once with all tenants and once with half
of them: ``growth`` is what a tenant costs to bill with all over what it costs with half. A third
run has ten times the entries behind the same rollups. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg

from adapters.bootstrap import tune_process
from adapters.postgres.audit import open_audit
from adapters.postgres.billing import PostgresBilling
from adapters.postgres.database import Database
from adapters.postgres.plans import PostgresPlans
from adapters.postgres.protection_reads import PostgresProtectionReads
from adapters.postgres.readmodels import PostgresReads
from ledger.application.billing_close import Periods
from ledger.application.billing_rates import Rates
from ledger.application.invoicing import Invoicing
from ledger.application.journals import Journals
from ledger.application.plans import Plans
from ledger.application.subscriptions import Subscriptions
from ledger.domain.journal import UNBILLED, trial_balance
from scripts.benchmarks._common import METERS, MODELS, database, say, server

DAYS = 31
PLAN = {
    "name": "team",
    "currency": "USD",
    "cycle": {"anchor": "2026-01-01", "timezone": "UTC"},
    "fees": [{"name": "base", "amount": "20"}],
    "charges": [
        {
            "name": "input",
            "meters": ["tokens.input*"],
            "included": "100000",
            "model": {"tiers": [{"up_to": "1000000", "rate": "0.000002"}, {"rate": "0.000001"}]},
        }
    ],
}
_FILL = """
INSERT INTO tenants (tenant_id, version, shapes, pending, conflicts, digest, tenant, currency,
    timezone, book)
SELECT n, 1, 0, 0, 0, '', 'tenant-' || n, 'USD', 'UTC', 'default'
FROM generate_series(1, {tenants}) AS n;
INSERT INTO ledger_log (originator_version, notification_id, originator_id, topic, state)
SELECT 1, n, 'ledger-' || n, 'tb.commit:1', '' FROM generate_series(1, {tenants}) AS n;
INSERT INTO billing_daily (tenant_id, day, byok, platform, changed, provider, model, meter,
    price_version, rate, quantity, charge, unpriced, credit)
SELECT n, DATE '2026-10-01' + day, false, false, 1, 'openai', model, meter,
    'default/openai@1.' || meter, 0.000003, {each}, {each} * 0.000003, 0, 0
FROM generate_series(1, {tenants}) AS n, generate_series(0, {days} - 1) AS day,
    unnest(ARRAY[{models}]) AS model, unnest(ARRAY[{meters}]) AS meter;
INSERT INTO projection_tracking VALUES ('billing_daily', {tenants});
"""


class _Clocked(PostgresBilling):
    def now(self) -> datetime:
        return datetime(2026, 11, 4, tzinfo=UTC)


def _quoted(names: tuple[str, ...]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _fill(url: str, tenants: int, entries: int) -> None:
    # Each entry has four leaves of a thousand units; they spread over days and models.
    each = max(1, entries * 1000 // (tenants * DAYS * len(MODELS)))
    statements = _FILL.format(
        tenants=tenants, each=each, days=DAYS, models=_quoted(MODELS), meters=_quoted(METERS)
    )
    with psycopg.connect(url, options="-c search_path=tallybook", autocommit=True) as connection:
        connection.execute(statements.encode())
        # Or the server does it while something is measured.
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def _bill(url: str, tenants: int) -> dict[str, Any]:
    with Database(url) as db:
        store = _Clocked(db)
        plans = Plans(PostgresPlans(db))
        plans.publish(json.dumps(PLAN), by="bench")
        subscriptions = Subscriptions(store, plans)
        for number in range(1, tenants + 1, 2):
            day = datetime(2026, 10, 1, tzinfo=UTC).date()
            subscriptions.subscribe(f"tenant-{number}", "team", from_day=day, by="bench")
        before_mib = _memory_mib()
        rates = Rates(store, plans, lambda version: Decimal(1_000_000))
        cpu_s = time.process_time()
        started = time.perf_counter()
        report = Periods(store, rates, lambda: None).close(by="bench")
        closed = time.perf_counter()
        final = Invoicing(store).finalize_all(by="bench")
        ended = time.perf_counter()
        cpu_s = time.process_time() - cpu_s
        billed_mib = _memory_mib()
        journal = _journal(db, store, plans)
        store.close()
    if report.periods != tenants or final != tenants:
        raise RuntimeError(f"{report.periods} periods and {final} invoices of {tenants} tenants")
    return {
        "tenants": tenants,
        "close_s": round(closed - started, 2),
        "finalize_s": round(ended - closed, 2),
        "journal": journal,
        "processor_ms_per_tenant": round(cpu_s * 1000 / tenants, 3),
        "ms_per_tenant": round((ended - started) * 1000 / tenants, 3),
        "memory_mib_before": round(before_mib, 1),
        "memory_mib_peak": round(billed_mib, 1),
        "memory_mib_peak_with_journal": round(_memory_mib(), 1),
    }


def _journal(db: Database, store: PostgresBilling, plans: Plans) -> dict[str, Any]:
    """Make the journal of what was billed."""
    reads, credit = PostgresReads(db), PostgresProtectionReads(db)
    journals = Journals(store, plans, reads, credit, lambda: open_audit(db), lambda: None)
    started, used = time.perf_counter(), time.process_time()
    bookings = journals.bookings()
    result = {
        "s": round(time.perf_counter() - started, 2),
        "processor_s": round(time.process_time() - used, 2),
        "bookings": len(bookings),
    }
    reads.close()
    credit.close()
    if {row.account: row.balance for row in trial_balance(bookings)}[UNBILLED]:
        raise RuntimeError("everything is billed, and yet something is not")
    return result


def _memory_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _apart(url: str, tenants: int) -> dict[str, Any]:
    """Bill in a process of its own, whose peak memory is nobody else's."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.write(writing, json.dumps(_bill(url, tenants)).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as answer:
        document = answer.read()
    _, status = os.waitpid(pid, 0)
    if status:
        raise RuntimeError("billing failed; see above")
    result: dict[str, Any] = json.loads(document)
    return result


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench close")
    parser.add_argument("--tenants", type=int, default=2000)
    parser.add_argument("--entries", type=int, default=5_000_000)
    options = parser.parse_args()
    tune_process()
    runs: dict[str, dict[str, Any]] = {}
    with server() as url:
        for name, tenants, entries in (
            ("half", options.tenants // 2, options.entries // 2),
            ("all", options.tenants, options.entries),
            ("ten_times_the_entries", options.tenants, options.entries * 10),
        ):
            with database(url, f"close_{name}") as place:
                _fill(place, tenants, entries)
                runs[name] = {"entries": entries, **_apart(place, tenants)}
            say(f"{name}: {runs[name]}")
    cost = {name: run["ms_per_tenant"] for name, run in runs.items()}
    growth = cost["all"] / cost["half"]
    entries = cost["ten_times_the_entries"] / cost["all"]
    print(json.dumps({"growth": round(growth, 3), "growth_entries": round(entries, 3), **runs}))


if __name__ == "__main__":
    main()
