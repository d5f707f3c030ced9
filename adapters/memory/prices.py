"""A catalog of prices that a test sets, and changes in the middle of a run."""

from __future__ import annotations

from adapters.memory.store import MemoryStore
from ledger.application.ports import CatalogSource
from ledger.domain.catalog import Catalog

PRICES_STREAM = "prices-memory"
"""Stream whose events tell writers that the prices changed."""


class MemoryPrices:
    """A `CatalogSource` that gives the catalog it was last told.

    Args:
        store: whose writers learn of changes.
        catalog: until the first change; without one nothing has a price.
    """

    def __init__(self, store: MemoryStore, catalog: Catalog | None = None) -> None:
        self._store = store
        self._catalog = catalog or Catalog()

    def load(self) -> Catalog:
        """Return the catalog as it is now."""
        return self._catalog

    def change(self, catalog: Catalog) -> None:
        """Make another catalog the one that the next batch rates with."""
        self._catalog = catalog
        self._store.append(stream=PRICES_STREAM)


def _check_protocol(prices: MemoryPrices) -> CatalogSource:
    return prices
