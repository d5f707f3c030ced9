"""A ledger with billing, in memory or on PostgreSQL, whose clock the test sets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from adapters.memory import MemoryBilling, MemoryPlans, MemoryPrices, MemoryStore
from adapters.postgres.billing import PostgresBilling
from adapters.postgres.database import Database
from adapters.postgres.plans import PostgresPlans
from adapters.postgres.price_books import PostgresPriceBooks
from adapters.postgres.projections import PostgresProjections
from adapters.postgres.readmodels import PostgresReads
from ledger.application.billing_close import Periods
from ledger.application.billing_ports import BillingStore
from ledger.application.billing_rates import Rates
from ledger.application.engine import Ledger
from ledger.application.invoicing import Invoicing
from ledger.application.plans import Plans
from ledger.application.rerating import RatingCounts, Rerating
from ledger.application.runner import Projections
from ledger.application.sequencer import Sequencer
from ledger.application.settling import Settling, rerating_since
from ledger.application.subscriptions import Subscriptions
from ledger.application.tenant_plans import TenantPlans
from ledger.domain.billing_drafts import Place
from ledger.domain.catalog import Catalog, PricedRow
from ledger.domain.commands import OpenLedger, RerateUsage
from ledger.domain.entries import UsageRecorded
from ledger.domain.periods import day_start
from ledger.domain.prices import PriceKey, PriceKind, PriceRow
from ledger.domain.shapes import shape_from_body

METERS = ("tokens.input", "tokens.output", "tool.calls")
TEAM = {
    "name": "team",
    "currency": "EUR",
    "cycle": {"anchor": "2026-01-01", "timezone": "UTC"},
    "fees": [{"name": "base", "amount": "30"}],
    "charges": [
        {
            "name": "tokens",
            "meters": ["tokens.*"],
            "included": "1000",
            "model": {"tiers": [{"up_to": "10000", "rate": "0.01"}, {"rate": "0.005"}]},
        }
    ],
}
"""A plan with a fee, included tokens and two tiers; calls are at list prices."""


def list_prices(*models: str) -> Catalog:
    """Return prices of ``chat`` and other models: 0.001, 0.002 and 0.003 EUR a unit."""
    rows = []
    for model in ("chat", *models):
        for place, meter in enumerate(METERS, start=1):
            for kind in PriceKind:
                row = PriceRow(
                    key=PriceKey("openai", model, meter),
                    effective_from=datetime(2020, 1, 1, tzinfo=UTC),
                    rate=Decimal(place),
                    unit_size=Decimal(1000),
                    currency="EUR",
                )
                book = "" if kind is PriceKind.COST else "default"
                rows.append(PricedRow(kind, book, row, f"{kind}/{model}@1.{place}"))
    return Catalog(rows)


class BillingWorld:
    """The use cases of billing and a ledger beside it."""

    def __init__(
        self,
        store: BillingStore,
        plans: Plans,
        ledger: Ledger,
        rerate: Callable[[Place, date], RatingCounts],
    ) -> None:
        self.store = store
        self.plans = plans
        self.ledger = ledger
        self.projections: Projections | None = None
        self.memory: MemoryStore | None = None
        self.prices: MemoryPrices | None = None
        self._rates = Rates(store, plans, lambda version: Decimal(1000))
        self.settling = Settling(store, self._rates, rerate, self.catch_up)
        self.subscriptions = Subscriptions(store, plans, self.settling.settle)
        self.periods = Periods(store, self._rates, self.catch_up, settle=self.settling.settle)
        self.invoicing = Invoicing(store)
        self._ids = 0

    def open(self, *tenants: str, timezone: str = "UTC", currency: str = "EUR") -> None:
        """Open ledgers."""
        self.ledger.run([OpenLedger(name, currency, timezone, "default") for name in tenants])

    def publish(self, **members: Any) -> None:
        """Publish a version of the plan above with other members."""
        self.plans.publish(json.dumps({**TEAM, **members}), by="ann")

    def use(self, tenant: str, at: str, **quantities: int) -> str:
        """Record one event and return its id; meters are written with ``_`` for the dot."""
        self._ids += 1
        id = f"e{self._ids}"
        named = {name.replace("_", "."): number for name, number in quantities.items()}
        self.event(tenant, id, at, {"quantities": named})
        return id

    def event(self, tenant: str, id: str, at: str, data: dict[str, Any]) -> None:
        """Record one event with members of its own."""
        event = {
            "specversion": "1.0",
            "type": "tallybook.usage.v2",
            "source": "gateway",
            "id": id,
            "subject": tenant,
            "time": at,
            "data": {"provider": "openai", "model": "chat", **data},
        }
        self._record(event)

    def void(self, tenant: str, id: str) -> None:
        """Take an event back."""
        event = {
            "specversion": "1.0",
            "type": "tallybook.usage.void.v2",
            "source": "gateway",
            "id": f"void-{id}",
            "subject": tenant,
            "data": {"id": id, "reason": "test"},
        }
        self._record(event)

    def adjust(self, tenant: str, id: str, quantities: dict[str, str]) -> None:
        """Replace an event's quantities."""
        event = {
            "specversion": "1.0",
            "type": "tallybook.usage.adjust.v2",
            "source": "gateway",
            "id": f"adjust-{id}",
            "subject": tenant,
            "data": {"id": id, "reason": "test", "quantities": quantities},
        }
        self._record(event)

    def unsettled(self, tenant: str) -> date | None:
        """Return the first period in which the ledger's charges are not those of the plans."""
        self.catch_up()
        place = self.store.place(tenant)
        account = self.store.accounts([place.tenant_id])[place.tenant_id]
        return self._rates.unsettled(place, account, since=date.min, unpriced=False)

    def _record(self, event: dict[str, Any]) -> None:
        [outcome] = self.ledger.record([json.dumps(event).encode()])
        assert outcome.status == "accepted", outcome

    def catch_up(self) -> None:
        """Make the rollups count everything."""
        if self.projections is not None:
            self.projections.runner("billing_daily").catch_up()


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 15, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Return the time."""
        return self.at

    def set(self, day: str) -> None:
        """Set it to the beginning of a day in UTC."""
        self.at = datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC)


class _ClockedBilling(PostgresBilling):
    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__(database)
        self._clock = clock

    def now(self) -> datetime:
        return self._clock()


@contextmanager
def memory_world(clock: Clock) -> Iterator[BillingWorld]:
    """Give a world in memory."""
    store = MemoryStore()
    prices = MemoryPrices(store, list_prices())
    billing, plans = MemoryBilling(store, clock), Plans(MemoryPlans(clock))
    ledger = Ledger(Sequencer(store, prices, plans=TenantPlans(billing, plans)))

    def rerate(place: Place, since: date) -> RatingCounts:
        shapes = [shape_from_body(body) for body in store.shapes(place.tenant)]
        start = day_start(place.timezone, since)
        commands = [
            RerateUsage(place.tenant, shapes[one.shape].shape.source, one.id, "plan_changed")
            for one in store.entries(place.tenant)
            if isinstance(one, UsageRecorded) and one.occurred_at >= start
        ]
        outcomes = ledger.run(commands)
        return RatingCounts(changed=sum(one.status == "accepted" for one in outcomes))

    world = BillingWorld(billing, plans, ledger, rerate)
    world.memory, world.prices = store, prices
    yield world
    ledger.close()


@contextmanager
def postgres_world(clock: Clock, url: str) -> Iterator[BillingWorld]:
    """Give a world on a migrated database."""
    database = Database(url)
    billing = _ClockedBilling(database, clock)
    plans = TenantPlans(billing, Plans(PostgresPlans(database)))
    ledger = Ledger(Sequencer(database.store, _Fixed(), plans=plans))
    projections = PostgresProjections(database)
    reads = PostgresReads(database)
    rerating = Rerating(ledger, _Fixed(), PostgresPriceBooks(database), reads)
    rerate = rerating_since(rerating.rerate)
    world = BillingWorld(billing, Plans(PostgresPlans(database)), ledger, rerate)
    world.projections = Projections.over(projections)
    try:
        yield world
    finally:
        ledger.close()
        reads.close()
        billing.close()
        projections.close()
        database.close()


class _Fixed:
    def load(self) -> Catalog:
        return list_prices()
