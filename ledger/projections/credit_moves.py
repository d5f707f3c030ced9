"""Moves of prepaid credit by local day: the fold from a tenant's commits to the journal's facts.

Entries say when credit was given, taken and burned, and the grants themselves how much: what an
expired grant gets back lapses without an entry of its own, and so does a new grant pay what was
owed. Those rests are put on the day on which the grant expired, or was given. What is owed burns
paid credit that is yet to come on the day of its usage; a promotion that pays it gives it back. So
what was granted less everything else is what the grants have left, less what is owed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date

from ledger.domain.credits import PAID, Grant
from ledger.domain.entries import Commit, UsageRecorded
from ledger.domain.entry_parts import Extra
from ledger.domain.journal_facts import CreditMove, CreditMoved
from ledger.domain.money import AMOUNT_DECIMALS, from_scaled
from ledger.domain.periods import day_of
from ledger.domain.protection_entries import (
    ChargeReversed,
    CreditExpired,
    CreditGranted,
    CreditWithdrawn,
)
from ledger.projections.usage_daily import postings_of

_TAKEN = {"refund": CreditMove.REFUNDED, "transfer": CreditMove.TRANSFERRED_OUT}


class _Moves:
    """Sums by day, move and kind, x 10^18; what burned by grant."""

    def __init__(self, grants: Sequence[Grant], timezone: str) -> None:
        self.promotional = {grant.number: grant.kind != PAID for grant in grants}
        self.sums: dict[tuple[str, CreditMove, bool], int] = {}
        self.burned = dict.fromkeys(self.promotional, 0)
        self.expired_on: dict[int, str] = {}
        self._timezone = timezone

    def day(self, at: int) -> str:
        return day_of(self._timezone, at)

    def add(self, day: str, move: CreditMove, number: int, amount: int) -> None:
        key = (day, move, self.promotional[number])
        self.sums[key] = self.sums.get(key, 0) + amount

    def burn(self, at: int, extra: Extra | None, sign: int) -> None:
        for number, amount in extra.credit if extra is not None else ():
            self.burned[number] += sign * amount
            self.add(self.day(at), CreditMove.BURNED, number, sign * amount)
        if extra is not None and extra.owed:
            self.owe(self.day(at), sign * extra.owed)

    def owe(self, day: str, amount: int) -> None:
        """Take from paid credit that is yet to come."""
        key = (day, CreditMove.BURNED, False)
        self.sums[key] = self.sums.get(key, 0) + amount


def credit_moves(
    commits: Iterable[Commit],
    grants: Sequence[Grant],
    *,
    tenant: str,
    currency: str,
    timezone: str,
) -> list[CreditMoved]:
    """Return what became of a tenant's credit, in order of days.

    Args:
        commits: all of the ledger, in order.
        grants: all of it, as they are after these commits.
        tenant: whose.
        currency: of the ledger.
        timezone: likewise.
    """
    moves = _Moves(grants, timezone)
    for commit in commits:
        for entry in commit.entries:
            _fold(moves, entry)
    for grant in grants:
        given = moves.day(grant.at)
        over = moves.expired_on.get(grant.number) or given
        moves.add(over, CreditMove.EXPIRED, grant.number, grant.lapsed)
        rest = grant.burned - moves.burned[grant.number]
        moves.add(given, CreditMove.BURNED, grant.number, rest)
        moves.owe(given, -rest)
    return [
        CreditMoved(
            tenant,
            currency,
            date.fromisoformat(day),
            move,
            promotional,
            from_scaled(amount, AMOUNT_DECIMALS),
        )
        for (day, move, promotional), amount in sorted(moves.sums.items())
        if amount
    ]


def _fold(moves: _Moves, entry: object) -> None:
    match entry:
        case UsageRecorded():
            moves.burn(entry.occurred_at, entry.extra, 1)
        case ChargeReversed():
            # A compensation burns what the reversal before it had given back.
            moves.burn(entry.occurred_at, entry.extra, -1 if entry.amount >= 0 else 1)
        case CreditGranted():
            came = CreditMove.TRANSFERRED_IN if any(entry.transferred_from) else CreditMove.GRANTED
            moves.add(moves.day(entry.at), came, entry.number, entry.amount)
        case CreditWithdrawn():
            moves.add(moves.day(entry.at), _TAKEN[entry.why], entry.number, entry.amount)
        case CreditExpired():
            moves.expired_on[entry.number] = moves.day(entry.at)
        case _:
            for sign, posting in postings_of(entry):
                moves.burn(posting.occurred_at, posting.extra, sign)
