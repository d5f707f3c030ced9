"""What the benchmarks share: a server of their own, seeded events, a price list.

Every benchmark starts an embedded PostgreSQL in a directory of its own, with fsync on, and
removes it at the end. Figures compare with a baseline that ran in the same process, on the same
server, in turn with what is measured; medians of several runs are printed.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from adapters.postgres import embedded
from adapters.postgres.migrate import migrate
from ledger.domain.catalog import DEFAULT_BOOK, Catalog, PricedRow
from ledger.domain.prices import PriceKey, PriceKind, PriceRow

METERS = ("tokens.input", "tokens.input.cache_read", "tokens.output", "tokens.output.reasoning")
MODELS = tuple(f"model-{number}" for number in range(6))
TENANTS = 200


class FixedPrices:
    """A catalog that is the same for the whole run: four leaves, cost and sell, six models."""

    def __init__(self) -> None:
        rows = []
        for kind, book, factor in (
            (PriceKind.COST, "", Decimal(1)),
            (PriceKind.SELL, DEFAULT_BOOK, Decimal("1.2")),
        ):
            for place, model in enumerate(MODELS, 1):
                for leaf, meter in enumerate(METERS, 1):
                    row = PriceRow(
                        key=PriceKey("openai", model, meter),
                        effective_from=datetime(2020, 1, 1, tzinfo=UTC),
                        rate=(place + Decimal("0.25")) * leaf * factor,
                        unit_size=Decimal(1_000_000),
                    )
                    version = f"{kind}/openai@{place}.{leaf}"
                    rows.append(PricedRow(kind, book, row, version))
        self._catalog = Catalog(rows)

    def load(self) -> Catalog:
        """Return the catalog."""
        return self._catalog


def events(count: int, *, seed: int, tenants: int = TENANTS) -> list[bytes]:
    """Return usage events as wire bytes: CloudEvents with four quantities and a user.

    Ids have 26 characters, as a ULID has. A longer id takes as many bytes more in the ledger,
    any further attribute its length and two or three.
    """
    chance = random.Random(seed)  # noqa: S311 - seeded, so that runs can be repeated
    return [
        json.dumps(
            {
                "specversion": "1.0",
                "type": "tallybook.usage.v2",
                "id": f"{chance.getrandbits(104):026x}",
                "source": "gateway-1",
                "subject": f"tenant-{chance.randrange(tenants):04d}",
                "time": f"2026-10-{chance.randrange(1, 29):02d}T{chance.randrange(24):02d}:"
                f"{chance.randrange(60):02d}:{chance.randrange(60):02d}."
                f"{chance.randrange(10**6):06d}Z",
                "data": {
                    "provider": "openai",
                    "model": chance.choice(MODELS),
                    "quantities": {
                        "tokens.input": chance.randrange(1, 5000),
                        "tokens.input.cache_read": chance.randrange(1, 3000),
                        "tokens.output": chance.randrange(1, 1000),
                        "tokens.output.reasoning": chance.randrange(1, 500),
                    },
                    "user": f"user-{chance.randrange(5)}",
                },
            },
            separators=(",", ":"),
        ).encode()
        for _ in range(count)
    ]


@contextmanager
def server() -> Iterator[str]:
    """Start a PostgreSQL of the benchmark's own, fsync on, and yield its URL."""
    home = Path(tempfile.mkdtemp(prefix="tallybook-bench-", dir="/tmp"))
    home.chmod(0o711)
    try:
        embedded.start(home=home)
        yield embedded.url(home=home)
    finally:
        embedded.stop(home=home)
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def database(server_url: str, name: str) -> Iterator[str]:
    """Create a migrated database, yield its URL, and drop it."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
        url = make_conninfo(server_url, dbname=name)
        try:
            migrate(url)
            connection.execute("CHECKPOINT")
            yield url
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def batches(wire: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    """Yield consecutive slices."""
    for start in range(0, len(wire), size):
        yield wire[start : start + size]


def say(line: str) -> None:
    """Print progress on standard error; results alone go to standard output."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
