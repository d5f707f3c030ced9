"""Commands of cost protection beside those about holds: budgets and credit.

Instants are microseconds, money is x 10^18. Semantics: docs/spec/holds.md.
"""

from __future__ import annotations

import msgspec

from ledger.domain.budgets import BudgetTerms, Filter
from ledger.domain.holds import ExpireHolds, HoldCommand, ReverseCharge, SetEntitlements


class SetBudget(msgspec.Struct, frozen=True):
    """Give a budget terms; the same terms again change nothing.

    Attributes:
        tenant: whose ledger.
        terms: what it says.
        by: who asks.
        opening: what was spent in windows until commit ``as_of``, for a new budget.
        as_of: the last commit that ``opening`` counts.
    """

    tenant: str
    terms: BudgetTerms
    by: str = ""
    opening: tuple[tuple[int, int], ...] = ()
    as_of: int = 0


class WaiveCap(msgspec.Struct, frozen=True):
    """Say in as many words that this ledger has no default cap."""

    tenant: str
    by: str = ""


class ConfirmBudget(msgspec.Struct, frozen=True):
    """Raise the confirm ceiling of a budget's current window.

    Attributes:
        tenant: whose ledger.
        id: of the confirmation, used once.
        budget: its name.
        ceiling: in the budget's measure.
        by: who confirms.
        until: exclusive; 0 for the window's end.
        reason: for people.
    """

    tenant: str
    id: str
    budget: str
    ceiling: int
    by: str
    until: int = 0
    reason: str = ""


class GrantCredit(msgspec.Struct, frozen=True):
    """Give prepaid credit.

    Attributes:
        tenant: whose ledger.
        id: of the grant.
        amount: x 10^18, above 0.
        currency: "" for the ledger's.
        kind: ``paid`` or ``promotional``.
        priority: lower burns first.
        expires_at: exclusive; 0 for never.
        filter: which usage it pays.
        by: who gives it.
        reason: for people.
        transferred_from: tenant and transfer id.
    """

    tenant: str
    id: str
    amount: int
    currency: str = ""
    kind: str = "paid"
    priority: int = 100
    expires_at: int = 0
    filter: Filter = Filter()
    by: str = ""
    reason: str = ""
    transferred_from: tuple[str, str] = ("", "")


class WithdrawCredit(msgspec.Struct, frozen=True):
    """Refund or transfer free credit of a grant.

    Attributes:
        tenant: whose ledger.
        id: of the refund or transfer.
        grant: id of the grant.
        amount: x 10^18; `AVAILABLE` for all that is free.
        to: tenant that gets it; "" for a refund.
        by: who does it.
        reason: for people.
    """

    tenant: str
    id: str
    grant: str
    amount: int
    to: str = ""
    by: str = ""
    reason: str = ""


class SetCreditPolicy(msgspec.Struct, frozen=True):
    """Say whether holds need credit for their whole amount."""

    tenant: str
    required: bool
    by: str = ""


ProtectionCommand = (
    HoldCommand
    | ReverseCharge
    | ExpireHolds
    | SetBudget
    | WaiveCap
    | ConfirmBudget
    | GrantCredit
    | WithdrawCredit
    | SetCreditPolicy
    | SetEntitlements
)
"""All that bears on cost protection, but for usage."""
