"""Tenants: open a ledger with its currency, time zone and price book."""

from __future__ import annotations

from ledger.application.engine import Ledger
from ledger.domain.catalog import DEFAULT_BOOK
from ledger.domain.commands import OpenLedger, Outcome
from ledger.domain.errors import InvalidInput
from ledger.domain.money import minor_units
from ledger.domain.periods import zone
from ledger.domain.price_book import check_book
from ledger.domain.prices import PriceKind
from ledger.domain.usage import check_text


class Tenants:
    """Opens ledgers.

    Args:
        ledger: records that they are open.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def open(
        self,
        name: str,
        *,
        currency: str = "USD",
        timezone: str = "UTC",
        book: str = DEFAULT_BOOK,
    ) -> Outcome:
        """Open a tenant's ledger; usage for a tenant without one opens it with these defaults.

        Args:
            name: 1 to 256 characters.
            currency: ISO 4217; of every charge, for good.
            timezone: IANA name; of its days and months, for good.
            book: sell price book.

        Returns:
            ``accepted``, ``duplicate`` (open with the same settings) or ``conflict``.

        Raises:
            InvalidInput: ``invalid_text``, ``invalid_book``, ``unknown_currency``,
                ``unknown_timezone``.
        """
        check_text(name, pointer="/tenant", required=True)
        check_book(PriceKind.SELL, book)
        minor_units(currency)
        if not timezone:
            raise InvalidInput("a time zone is an IANA name such as UTC", code="unknown_timezone")
        zone(timezone)
        [outcome] = self._ledger.run([OpenLedger(name, currency, timezone, book)])
        return outcome
