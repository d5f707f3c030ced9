"""The default cap: what a ledger that has never had a cap gets with its first authorization."""

from __future__ import annotations

import msgspec

from ledger.domain.budgets import BudgetTerms, Step
from ledger.domain.money import AMOUNT_DECIMALS, minor_units

NAME = "default"
"""Name of the budget that the default cap becomes."""
LADDER = (Step("inform", 5000), Step("warn", 8000), Step("stop", 10000))
"""Ladder of a cap that says none."""
BUILT_IN = 100
"""Of currencies with cents, a month; 100 times that of currencies without."""


class DefaultCap(msgspec.Struct, frozen=True):
    """What somebody said about new ledgers' caps; as it stands, nobody did.

    Attributes:
        waived: "none", in as many words.
        limits: charge x 10^18 by currency.
        by: who said so.
    """

    waived: bool = False
    limits: dict[str, int] = {}
    by: str = ""

    def terms(self, currency: str) -> BudgetTerms | None:
        """Return the default cap of a ledger in a currency; None where there is none."""
        if self.waived:
            return None
        limit = self.limits.get(currency)
        if limit is None:
            major = BUILT_IN if minor_units(currency) else 100 * BUILT_IN
            limit = major * 10**AMOUNT_DECIMALS
        return BudgetTerms(name=NAME, limit=limit, currency=currency, steps=LADDER)
