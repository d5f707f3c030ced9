"""PDF: how long does an invoice take to set, the first and each after it?

    scripts/bench pdf [--invoices 60] [--lines 12 200]

Needs no database. Every invoice differs from the others in all of its amounts and names, because
typst remembers what it has set before. Prints one JSON object: milliseconds of the first one
(which loads the fonts), then the median and the 95th percentile of the others by number of
lines, their size, and the peak memory of the process.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import time
from datetime import UTC, date, datetime
from decimal import Decimal

from adapters.paper import TypstPrinter
from ledger.domain.invoice_parts import (
    EvidenceQuery,
    InvoiceLine,
    LineKind,
    Party,
    ServiceDays,
    Tax,
    TaxCategory,
    evidence_of,
    invoice_line,
)
from ledger.domain.invoices import Invoice, finalize, invoice_of
from scripts.benchmarks._common import METERS, MODELS

NOVEMBER = ServiceDays(first_day=date(2026, 11, 1), after_day=date(2026, 12, 1))
TAX = Tax(category=TaxCategory.STANDARD, percent=Decimal(19))


def _line(number: int, tenant: str, chance: random.Random) -> InvoiceLine:
    quantity = Decimal(chance.randrange(1, 10**9))
    price = Decimal(chance.randrange(1, 2000)) / 100
    query = EvidenceQuery(
        tenant=tenant,
        since=datetime(2026, 11, 1, tzinfo=UTC),
        until=datetime(2026, 12, 1, tzinfo=UTC),
        through_commit=chance.randrange(1, 10**6),
    )
    return invoice_line(
        kind=LineKind.USAGE,
        description=f"openai {MODELS[number % len(MODELS)]} {METERS[number % len(METERS)]}",
        service=NOVEMBER,
        unrounded=quantity * price / 1_000_000,
        currency="EUR",
        tax=TAX,
        quantity=quantity,
        billed=quantity,
        unit="token",
        unit_price=price,
        unit_size=Decimal(1_000_000),
        price_version=f"default/openai@{number}.0",
        evidence=evidence_of(query, chain=chance.randbytes(32)),
    )


def _invoice(lines: int, *, seed: int) -> Invoice:
    chance = random.Random(seed)  # noqa: S311 - seeded, so that runs can be repeated
    tenant = f"tenant-{seed:05d}"
    draft = invoice_of(
        id="2026-11-01",
        tenant=tenant,
        currency="EUR",
        timezone="Europe/Berlin",
        period=NOVEMBER,
        lines=[_line(number, tenant, chance) for number in range(lines)],
    )
    return finalize(
        draft,
        series="2026",
        number=f"2026-{seed:06d}",
        issued_at=datetime(2026, 12, 3, tzinfo=UTC),
        due_on=date(2026, 12, 17),
        seller=Party(name="Gateway Ltd", country="IE", tax_id="IE0000000XX"),
        buyer=Party(name=f"Customer {seed}", country="DE", tax_id=f"DE{seed:09d}"),
    )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench pdf")
    parser.add_argument("--invoices", type=int, default=60)
    parser.add_argument("--lines", type=int, nargs="+", default=[12, 200])
    options = parser.parse_args()
    printer = TypstPrinter()
    started = time.perf_counter()
    printer.pdf(_invoice(options.lines[0], seed=0))
    first = (time.perf_counter() - started) * 1000
    results = []
    for lines in options.lines:
        took, cpu, sizes = [], [], []
        for number in range(1, options.invoices + 1):
            invoice = _invoice(lines, seed=lines * 10_000 + number)
            started, used = time.perf_counter(), time.process_time()
            made = printer.pdf(invoice)
            took.append((time.perf_counter() - started) * 1000)
            cpu.append((time.process_time() - used) * 1000)
            sizes.append(len(made))
        results.append(
            {
                "lines": lines,
                "median_ms": round(statistics.median(took), 1),
                "p95_ms": round(sorted(took)[int(0.95 * len(took))], 1),
                "cpu_median_ms": round(statistics.median(cpu), 1),
                "bytes": round(statistics.median(sizes)),
            }
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {"first_ms": round(first, 1), "results": results, "peak_memory_mib": round(peak, 1)}
        )
    )


if __name__ == "__main__":
    main()
