"""Verify, the prices: what rated the entries is what the price books say.

Entries carry their prices in shapes, each leaf with the version of the row it came from. A price
book is a stream of the same log without digests of its own; comparing every version in use with
its row finds a book that was changed or can no longer be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from ledger.application.reads import Reads
from ledger.application.replay import Difference
from ledger.domain.errors import InvariantViolation, LedgerError
from ledger.domain.money import plain, text
from ledger.domain.price_records import PriceRecord
from ledger.domain.shapes import LeafRate, rate_decimal, shape_from_body


class PriceRows(Protocol):
    """Finds a row by its version."""

    def find(self, version: str) -> PriceRecord:
        """Return all that is known of a row."""
        ...


def price_differences(
    *, reads: Reads, prices: PriceRows, tenant: str | None = None
) -> list[Difference]:
    """Return where a rate in use is not the rate of the row that it cites.

    Args:
        reads: tenants and their shapes.
        prices: the price books as the log has them.
        tenant: only this one's; None for all.

    Returns:
        Differences of code ``price`` (another rate, or no such row) and ``price_unreadable``.
    """
    names = [tenant] if tenant is not None else [row.tenant for row in reads.tenants()]
    known: dict[str, str] = {}
    found: list[Difference] = []
    for name in names:
        seen: set[tuple[str, str]] = set()
        for version, rate in _rates(reads, name):
            if version not in known:
                try:
                    known[version] = text(prices.find(version).row.unit_rate())
                except InvariantViolation as error:
                    return [*found, Difference(name, "price_unreadable", version, rate, str(error))]
                except LedgerError as error:
                    known[version] = error.message
            if known[version] != rate and (version, rate) not in seen:
                seen.add((version, rate))
                found.append(Difference(name, "price", version, rate, known[version]))
    return found


def _rates(reads: Reads, tenant: str) -> Iterator[tuple[str, str]]:
    """Yield version and unit rate of every leaf price of a tenant's shapes."""
    for body in reads.shapes(tenant):
        card = shape_from_body(body).shape.card
        if card is None:
            continue
        for leaves, decimals in ((card.sell, card.sell_decimals), (card.cost, card.cost_decimals)):
            yield from (_rate(leaf, decimals) for leaf in leaves if leaf.version)


def _rate(leaf: LeafRate, decimals: int) -> tuple[str, str]:
    return leaf.version, text(plain(rate_decimal(leaf.rate, decimals)))
