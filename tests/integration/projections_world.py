"""A ledger on a real database with prices that the test sets, and mixed traffic for it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from eventsourcing.persistence import StoredEvent

from adapters.postgres.arrays import register
from adapters.postgres.database import Database
from adapters.postgres.projections import PostgresProjections
from adapters.postgres.queries import load
from adapters.postgres.readmodels import PostgresReads
from adapters.postgres.recorder import WRITER_LOCK
from ledger.application.engine import Ledger
from ledger.application.runner import UsageDailyRunner
from ledger.application.sequencer import Sequencer
from ledger.domain.catalog import Catalog, PricedRow
from ledger.domain.decide import OpenLedger, Outcome, RerateUsage
from ledger.domain.prices import PriceKey, PriceKind, PriceRow, QuantityRule, RoundingScope

ZONES = {"acme": "Europe/Berlin", "birch": "America/New_York", "cobalt": "UTC"}
METERS = ("tokens.input", "tokens.output", "audio.stt.seconds")
RULES = {
    "chat": QuantityRule(),
    "request": QuantityRule(Decimal(15), Decimal(30), scope=RoundingScope.REQUEST),
    "session": QuantityRule(Decimal(60), scope=RoundingScope.SESSION),
}


def catalog(*models: str, factor: int | Decimal = 1) -> Catalog:
    """Return prices of models; those of ``request`` cost EUR, the others USD."""
    rows = []
    for model in models:
        for place, meter in enumerate(METERS, start=1):
            for kind in PriceKind:
                euro = kind is PriceKind.COST and model == "request"
                row = PriceRow(
                    key=PriceKey("openai", model, meter),
                    effective_from=datetime(2020, 1, 1, tzinfo=UTC),
                    rate=Decimal("0.35") * place * factor,
                    unit_size=Decimal(1_000_000),
                    currency="EUR" if euro else "USD",
                    quantity_rule=RULES.get(model, QuantityRule()),
                )
                book = "" if kind is PriceKind.COST else "default"
                rows.append(PricedRow(kind, book, row, f"{kind}/{model}@{factor}.{place}"))
    return Catalog(rows)


class _Prices:
    def __init__(self) -> None:
        self.catalog = catalog("chat", "request", "session")

    def load(self) -> Catalog:
        return self.catalog


class World:
    """A ledger, its reads and its projections on one database."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.prices = _Prices()
        self.ledger = Ledger(Sequencer(self.database.store, self.prices))
        self.reads = PostgresReads(self.database)
        self.store = PostgresProjections(self.database)

    def open(self, *tenants: str) -> None:
        """Open ledgers, each in its own time zone."""
        self.ledger.run([OpenLedger(name, "USD", ZONES[name], "default") for name in tenants])

    def runner(self, *, batch_notifications: int = 500) -> UsageDailyRunner:
        """Return a runner."""
        return UsageDailyRunner(self.store, batch_notifications=batch_notifications)

    def price(self, prices: Catalog) -> None:
        """Approve other prices, which a price book's event in the log announces."""
        self.prices.catalog = prices
        recorder = self.database.recorder
        version = len(recorder.select_events("prices-openai"))
        with self.database.connect(purpose="test", autocommit=False) as connection:
            register(connection)
            with connection.cursor() as cursor:
                cursor.execute(load("store")["lock_writer"], {"lock": WRITER_LOCK})
                recorder.append(cursor, [StoredEvent("prices-openai", version, "test:1", b"{}")])

    def use(self, *events: dict[str, Any]) -> list[Outcome]:
        """Record events in one commit."""
        return self.ledger.record([json.dumps(event).encode() for event in events])

    def rerate(self, tenant: str, id: str) -> Outcome:
        """Rate an event again."""
        return self.ledger.run([RerateUsage(tenant, "gateway", id, "price_changed")])[0]

    def rows(self) -> list[tuple[Any, ...]]:
        """Return all rollup rows."""
        with self.database.connect(purpose="test") as connection:
            return connection.execute(
                "SELECT * FROM usage_daily ORDER BY 1, 2, 3, 4, 5, 6, 7, 8"
            ).fetchall()

    def position(self) -> int:
        """Return the rollups' position."""
        return self.runner().status().position

    def close(self) -> None:
        """Close everything."""
        self.ledger.close()
        self.reads.close()
        self.store.close()
        self.database.close()


@contextmanager
def world(url: str, *, opened: bool = True) -> Iterator[World]:
    """Give a world with three tenants, and close it."""
    one = World(url)
    try:
        if opened:
            one.open(*ZONES)
        yield one
    finally:
        one.close()


def usage(tenant: str, id: str, **data: Any) -> dict[str, Any]:
    """Return a usage event; ``time`` and members of ``data`` as given."""
    time = data.pop("time", "2026-10-10T12:00:00Z")
    plain = {"provider": "openai", "model": "chat", "quantities": {"tokens.input": 1000}}
    return {
        "specversion": "1.0",
        "type": "tallybook.usage.v2",
        "source": "gateway",
        "id": id,
        "subject": tenant,
        "time": time,
        "data": plain | data,
    }


def correction(tenant: str, id: str, target: str, quantities: Any = None) -> dict[str, Any]:
    """Return a void, or an adjustment where quantities are given."""
    kind = "void" if quantities is None else "adjust"
    data: dict[str, Any] = {"id": target, "source": "gateway"}
    if quantities is not None:
        data["quantities"] = quantities
    return usage(tenant, id) | {
        "type": f"tallybook.usage.{kind}.v2",
        "source": "desk",
        "data": data,
    }


def traffic(*, count: int, seed: int, first: int = 0) -> Iterator[dict[str, Any]]:
    """Yield usage and corrections of all kinds, some corrections before their events."""
    chance = random.Random(seed)
    for number in range(first, first + count):
        tenant = chance.choice(tuple(ZONES))
        yield usage(
            tenant,
            f"req-{number}",
            time=f"2026-{chance.choice(('03', '10'))}-{chance.randrange(24, 31)}"
            f"T{chance.randrange(24):02d}:{chance.randrange(60):02d}:00Z",
            model=chance.choice(("chat", "chat", "request", "session", "mystery")),
            quantities={
                meter: chance.choice((0, 7, 100, 2500))
                for meter in chance.sample(METERS, chance.randrange(1, 4))
            },
            user=chance.choice(("", "ann", "bob")),
            project=chance.choice(("", "p1")),
            session=chance.choice(("", "s1", "s2")),
            byok=chance.random() < 0.1,
        )
        if chance.random() < 0.15:
            yield correction(tenant, f"void-{number}", f"req-{number + chance.choice((0, 0, -9))}")
        if chance.random() < 0.15:
            target = number + chance.choice((0, 0, 3))
            yield correction(tenant, f"adjust-{number}", f"req-{target}", {"tokens.input": number})
