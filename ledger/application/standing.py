"""Where tenants stand: what they spent, what open holds reserve, and what is left to spend.

    standings.read(["acme", "globex"])["acme"].available

`Standing` is the answer to "may this tenant spend more, and how much did it spend": the state rows
at one moment, or what they were at an earlier one, folded from the log (`standing_at`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from ledger.application.ports import AuditView, TenantRow
from ledger.application.protection_reads import (
    BudgetStanding,
    CreditStanding,
    counters_wanted,
    standing_of,
)
from ledger.application.replay import DAMAGE
from ledger.domain.balance import Balance
from ledger.domain.budgets import CHARGE, Budget, Counter
from ledger.domain.entries import decode_commit
from ledger.domain.errors import InvalidInput, InvariantViolation
from ledger.domain.holds import OPEN, HoldState
from ledger.domain.ledger import LedgerState, evolve
from ledger.domain.periods import LATEST_US, period_of
from ledger.domain.protection import Protection

CREDIT = "credit"
"""What bounds a tenant whose required credit leaves less than its caps do."""


class Head(msgspec.Struct, frozen=True):
    """How far a ledger is; the same head means the same rows.

    Attributes:
        version: number of its last commit.
        digest: of that commit, and so of all before it.
        now: when that was read, microseconds since the epoch.
    """

    version: int
    digest: bytes
    now: int


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a tenant stands; money is x 10^18 in its currency.

    Attributes:
        tenant: whose.
        balances: one a month, in order.
        month: name of the month that ``now`` is in.
        held: charge that open holds reserve; one whose time is over is none.
        holds: how many are open.
        caps: tenant-wide caps on charge that count all usage, in their current windows.
        credit: prepaid credit; grants that are used up left out.
        now: the moment that this is of.
        until: before then nothing of it changes without a commit.
    """

    tenant: TenantRow
    balances: Sequence[Balance]
    month: str
    held: int
    holds: int
    caps: Sequence[BudgetStanding]
    credit: CreditStanding
    now: int
    until: int

    @property
    def spent(self) -> int:
        """Return the unrounded charge of the current month."""
        return sum(one.charge for one in self.balances if one.period == self.month)

    @property
    def bound(self) -> tuple[int, str] | None:
        """Return the least that any bound leaves, and which bound; None where there is none.

        Less than 0 after an overrun. A closed cap leaves nothing.
        """
        bounds = [
            (min(one.available, 0) if one.terms.state == "closed" else one.available, one)
            for one in self.caps
        ]
        least = min(((left, cap.terms.name) for left, cap in bounds), default=None)
        if self.credit.required and (least is None or self.credit.free < least[0]):
            return self.credit.free, CREDIT
        return least


class StandingReads(Protocol):
    """Set-wise queries for one thread; each is consistent in itself and answers as of now."""

    def heads(self, tenants: Sequence[str]) -> Mapping[str, Head]:
        """Return how far ledgers are; names without a ledger are left out."""
        ...

    def standings(self, tenants: Sequence[str]) -> Mapping[str, Standing]:
        """Return where tenants stand; names without a ledger are left out."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


def bounds_everything(budget: Budget) -> bool:
    """Tell whether a budget is a tenant-wide cap on charge that counts all usage."""
    terms = budget.terms
    one = terms.filter
    return (
        terms.cap
        and terms.state != "ended"
        and terms.scope == "tenant"
        and terms.measure == CHARGE
        and one.byok
        and not (one.providers or one.models or one.meters)
    )


def make_standing(
    *,
    tenant: TenantRow,
    balances: Sequence[Balance],
    holds: Iterable[HoldState],
    caps: Iterable[Budget],
    counters: Mapping[tuple[int, int], Counter],
    credit: CreditStanding,
    now: int,
) -> Standing:
    """Return where a tenant stands.

    Args:
        tenant: whose.
        balances: all of them.
        holds: those whose status is ``open``, due or not.
        caps: those for which `bounds_everything` holds.
        counters: at least those that `counters_wanted` names of the caps.
        credit: what is left of it.
        now: microseconds since the epoch.
    """
    month = period_of(tenant.timezone, now)
    ends = [LATEST_US, month.end]
    held = count = 0
    for hold in holds:
        if hold.expires_at > now:
            held += hold.amount
            count += 1
            ends.append(hold.expires_at)
    found = []
    for cap in caps:
        wanted = counters_wanted(tenant, cap.terms, now)
        mine = {
            start: counters[cap.number, start]
            for start in wanted
            if (cap.number, start) in counters
        }
        standing = standing_of(tenant, cap, mine, now)
        ends.append(standing.ends)
        ends += [one.until for one in mine.values() if one.until > now]
        found.append(standing)
    ends += [one.expires_at for one in credit.grants if one.expires_at > now]
    return Standing(
        tenant=tenant,
        balances=balances,
        month=month.name,
        held=held,
        holds=count,
        caps=found,
        credit=credit,
        now=now,
        until=min(ends),
    )


def standing_at(
    view: AuditView, tenant: TenantRow, *, version: int | None = None, at: int | None = None
) -> Standing:
    """Return where a tenant stood, folding its log from the first commit.

    Takes time in proportion to the entries up to there, and memory as `ledger.application.replay`
    says.

    Args:
        view: snapshot of the log.
        tenant: whose.
        version: of the last commit that counts; None for the last one recorded until ``at``.
        at: the moment, microseconds since the epoch; None for when commit ``version`` was
            recorded. Windows, months and expiries are those of this moment.

    Raises:
        InvalidInput: ``invalid_as_of``: the ledger was not open then, or has no such commit.
    """
    state = LedgerState(tenant.tenant_id, tenant.tenant)
    last = 0
    for piece in view.commits(tenant_id=tenant.tenant_id):
        for stored in piece:
            commit = decode_commit(stored.state)
            if (version is not None and stored.version > version) or (
                at is not None and commit.recorded_at > at
            ):
                return _standing_of_state(tenant, state, at or last, version)
            try:
                for index, entry in enumerate(commit.entries):
                    evolve(state, entry, (stored.version, index))
            except DAMAGE as error:
                raise InvariantViolation(
                    f"commit {stored.version} of {tenant.tenant!r} does not fold: {error}"
                ) from error
            state.version = stored.version
            state.unpriced.clear()
            last = commit.recorded_at
    return _standing_of_state(tenant, state, at or last, version)


def _standing_of_state(
    tenant: TenantRow, state: LedgerState, now: int, version: int | None
) -> Standing:
    if not state.version or (version is not None and state.version != version):
        raise InvalidInput(
            f"the ledger of {tenant.tenant!r} has commits 1 to {tenant.version}; as_of names none"
            " of them, or a time before the first",
            code="invalid_as_of",
            pointer="/as_of",
        )
    was = msgspec.structs.replace(
        tenant,
        currency=state.currency,
        timezone=state.timezone,
        book=state.book,
        version=state.version,
    )
    guard = state.guard or Protection(state.timezone)
    grants = [grant for _, grant in sorted(guard.credit.grants.items())]
    return make_standing(
        tenant=was,
        balances=[state.balances[name] for name in sorted(state.balances)],
        holds=[one for one in guard.holds.values() if one.status == OPEN],
        caps=[one for one in guard.budgets if bounds_everything(one)],
        counters=guard.counters,
        credit=CreditStanding(was, guard.credit.required, guard.credit.owed, grants, now),
        now=now,
    )
