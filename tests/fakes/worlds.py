"""The in-memory double and PostgreSQL behind one face, for tests that run against both."""

from __future__ import annotations

from typing import Any, Protocol

import psycopg
from fakes.building import catalog
from fakes.folding import Rows, memory_rows
from fakes.remote import Remote

from adapters.memory import MemoryPrices, MemoryStore
from adapters.postgres.database import Database
from adapters.postgres.recorder import WRITER_LOCK
from adapters.postgres.rows import balance_of, correction_of
from ledger.application.engine import Ledger
from ledger.application.ports import LedgerStore, StoredCommit, TenantRow
from ledger.application.sequencer import Sequencer, TenantDefaults
from ledger.application.watching import Watch
from ledger.domain.balance import Balance
from ledger.domain.catalog import Catalog
from ledger.domain.entries import COMMIT_TOPIC, Entry, decode_commit
from ledger.domain.ledger import UnpricedUsage
from ledger.domain.money import to_scaled
from ledger.domain.periods import to_us

_SEARCH_PATH = "-c search_path=tallybook"


class Prices(Protocol):
    """A catalog that can be changed."""

    def load(self) -> Catalog:
        """Return the catalog as it is now."""
        ...

    def change(self, catalog: Catalog) -> None:
        """Make another catalog the one that the next batch rates with."""
        ...


class World(Protocol):
    """One database, and processes that use it."""

    prices: Prices

    def store(self) -> LedgerStore:
        """Return the store of another process."""
        ...

    def commits(self) -> list[StoredCommit]:
        """Return all commits of tenants' ledgers in log order."""
        ...

    def rows(self) -> dict[str, Rows]:
        """Return all state rows by tenant."""
        ...

    def close(self) -> None:
        """Close everything."""
        ...


class MemoryWorld:
    """The in-memory double; all processes share one store."""

    def __init__(self) -> None:
        self._store = MemoryStore()
        self.prices: Prices = MemoryPrices(self._store, catalog())

    def store(self) -> LedgerStore:
        """Return the store."""
        return self._store

    def commits(self) -> list[StoredCommit]:
        """Return all commits."""
        return self._store.commits()

    def rows(self) -> dict[str, Rows]:
        """Return all state rows."""
        return memory_rows(self._store)

    def close(self) -> None:
        """Do nothing."""


class _PostgresPrices:
    """A catalog whose changes are told through the log, as those of price books are."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._catalog = catalog()
        self._version = 0

    def load(self) -> Catalog:
        return self._catalog

    def change(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._version += 1
        with psycopg.connect(self._url, options=_SEARCH_PATH) as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (WRITER_LOCK,))
            connection.execute(
                "INSERT INTO ledger_log"
                " (notification_id, originator_id, originator_version, topic, state)"
                " SELECT coalesce(max(notification_id), 0) + 1, 'prices-test', %s, 'test:1', ''"
                " FROM ledger_log",
                (self._version,),
            )


class PostgresWorld:
    """A PostgreSQL database; every process has connections of its own.

    Args:
        url: of a migrated, empty database.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._databases: list[Database] = []
        self.prices: Prices = _PostgresPrices(url)

    def _database(self) -> Database:
        database = Database(self._url)
        self._databases.append(database)
        return database

    def store(self) -> LedgerStore:
        """Return a store with a connection of its own."""
        return self._database().store

    def _query(self, sql: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._url, options=_SEARCH_PATH) as connection:
            return connection.execute(sql.encode()).fetchall()

    def commits(self) -> list[StoredCommit]:
        """Return all commits, read with plain SQL."""
        return [
            StoredCommit(position, int(stream.removeprefix("ledger-")), version, bytes(state))
            for position, stream, version, topic, state in self._query(
                "SELECT notification_id, originator_id, originator_version, topic, state"
                " FROM ledger_log ORDER BY notification_id"
            )
            if topic == COMMIT_TOPIC
        ]

    def rows(self) -> dict[str, Rows]:
        """Return all state rows, read with plain SQL."""
        rows = {
            row[0]: Rows(_tenant_row(row))
            for row in self._query(
                "SELECT tenant_id, tenant, currency, timezone, book, version, digest, shapes,"
                " pending, conflicts FROM tenants"
            )
        }
        for tenant_id, body in self._query(
            "SELECT tenant_id, body FROM shapes ORDER BY tenant_id, number"
        ):
            rows[tenant_id].shapes.append(bytes(body))
        for row in self._query(
            "SELECT tenant_id, period, charge, costs, quantities, events, voided, unpriced"
            " FROM balances"
        ):
            rows[row[0]].balances.append(balance_of(row[1:]))
        for row in self._query(
            "SELECT tenant_id, key, void_version, void_index, adjust_version, adjust_index,"
            " standing_version, standing_index, reversal FROM corrections"
        ):
            rows[row[0]].corrections[row[1].bytes] = correction_of(row[2:])
        for tenant_id, session, key, quantity in self._query(
            "SELECT tenant_id, session, key, quantity FROM accumulators"
        ):
            rows[tenant_id].accumulators[f"{session}\t{key}"] = to_scaled(quantity, 6)
        for tenant_id, key, source, id, provider, model, at in self._query(
            "SELECT tenant_id, key, source, id, provider, model, occurred_at FROM unpriced_usage"
        ):
            usage = UnpricedUsage(source, id, provider, model, to_us(at))
            rows[tenant_id].unpriced[key.bytes] = usage
        for tenant_id, version, index in self._query(
            "SELECT tenant_id, version, index FROM conflicts ORDER BY tenant_id, version, index"
        ):
            rows[tenant_id].conflicts.append((version, index))
        for tenant_id, key, version, index in self._query(
            "SELECT tenant_id, key, version, index FROM usage_keys"
        ):
            rows[tenant_id].keys[key.bytes] = (version, index)
        return {one.tenant.tenant: one for one in rows.values()}

    def close(self) -> None:
        """Close all connections."""
        for database in self._databases:
            database.close()


def _tenant_row(row: tuple[Any, ...]) -> TenantRow:
    tenant_id, tenant, currency, timezone, book, version, digest, shapes, pending, conflicts = row
    return TenantRow(
        tenant_id,
        tenant,
        currency,
        timezone,
        book,
        version,
        bytes(digest),
        shapes,
        pending,
        conflicts,
    )


class House:
    """Ledgers over one world, closed together.

    Args:
        world: the database.
        remote: whether their sequencers are behind sockets.
    """

    def __init__(self, world: World, *, remote: bool = False) -> None:
        self.world = world
        self.remote = remote
        self.prices = world.prices
        self._ledgers: list[Ledger] = []

    def ledger(
        self,
        *,
        store: LedgerStore | None = None,
        timezone: str = "UTC",
        retry_delays_s: tuple[float, ...] = (0.0, 0.0),
    ) -> Ledger:
        """Return the ledger of another process."""
        its_store = store or self.world.store()

        def make(watch: Watch | None = None) -> Sequencer:
            return Sequencer(
                its_store,
                self.prices,
                defaults=TenantDefaults(timezone=timezone),
                retry_delays_s=retry_delays_s,
                watch=watch,
            )

        ledger = Ledger(Remote(make) if self.remote else make())
        self._ledgers.append(ledger)
        return ledger

    def balances(self, tenant: str = "acme") -> dict[str, Balance]:
        """Return a tenant's balances by period, from the state rows."""
        rows = self.world.rows().get(tenant)
        return {one.period: one for one in rows.balances} if rows else {}

    def entries(self, tenant: str = "acme") -> list[Entry]:
        """Return a tenant's entries in order."""
        rows = self.world.rows()
        if tenant not in rows:
            return []
        tenant_id = rows[tenant].tenant.tenant_id
        return [
            entry
            for stored in self.world.commits()
            if stored.tenant_id == tenant_id
            for entry in decode_commit(stored.state).entries
        ]

    def close_ledgers(self) -> None:
        """Close the ledgers; the database stays open."""
        for ledger in self._ledgers:
            ledger.close()
