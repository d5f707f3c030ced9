"""What queries say of cost protection: budgets, holds, decisions, steps, credit, entitlements.

Amounts are integers as the ledger has them: money x 10^18, quantities x 10^6, what a budget
measures in its measure; instants are microseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from ledger.application.ports import TenantRow
from ledger.domain.budgets import Budget, BudgetTerms, Counter, Step
from ledger.domain.credits import Grant
from ledger.domain.entitlements import Entitlements
from ledger.domain.holds import EXPIRED, OPEN, HoldState
from ledger.domain.ladder import Forecast, forecast
from ledger.domain.ledger import Ref
from ledger.domain.protection_entries import Reason
from ledger.domain.shapes import CompiledShape
from ledger.domain.windows import buckets, window_at

DECISIONS = ("allow", "allow_partial", "allow_downgraded", "confirm", "deny")
"""What an authorization can decide."""
HOLD_KINDS = ("open", "expired", "overrun")
"""What `ProtectionReads.holds` can be asked for."""
HoldPlace = tuple[int, bytes]
"""Place of a hold in the listing of a tenant's: when it expires, and `hold_digest` of its id."""


class BudgetStanding(msgspec.Struct, frozen=True, kw_only=True):
    """A budget and its current window.

    Attributes:
        tenant: whose.
        number: count of those before it.
        terms: what it says.
        window: start of the window; of a rolling one, of the current bucket.
        ends: end of it, exclusive.
        spent: by standing usage.
        held: by open holds.
        ceiling: what applies now: the first stop, or what a confirm step lets pass; the limit
            of an alert.
        confirmed: whether a person raised it.
        fired: steps of the ladder that fired in this window, by place.
        forecast: where a calendar window is going, None where that cannot be said.
        now: when that was read.
    """

    tenant: TenantRow
    number: int
    terms: BudgetTerms
    window: int
    ends: int
    spent: int
    held: int
    ceiling: int
    confirmed: bool
    fired: tuple[int, ...]
    forecast: Forecast | None
    now: int

    @property
    def available(self) -> int:
        """Return what is left; negative after an overrun."""
        return self.ceiling - self.spent - self.held

    def steps_fired(self) -> list[Step]:
        """Return the steps that fired, in the order of the ladder."""
        return [self.terms.steps[place] for place in self.fired]


def standing_of(
    tenant: TenantRow, budget: Budget, counters: Mapping[int, Counter], now: int
) -> BudgetStanding:
    """Return a budget's current window.

    Args:
        tenant: whose.
        budget: of theirs.
        counters: those that there are of `counters_wanted`, by start.
        now: microseconds since the epoch.
    """
    terms = budget.terms
    start, ends = window_at(tenant.timezone, terms.window, now)
    spent = sum(one.spent for one in counters.values())
    held = sum(one.held for one in counters.values())
    current = counters.get(start, Counter())
    confirm = budget.confirm_at
    confirmed = confirm is not None and current.until > now and current.ceiling > confirm
    if confirm is not None and confirmed:
        confirm = current.ceiling
    stops = [one for one in (budget.stop_at, confirm) if one is not None]
    fired = current.fired if current.ladder == budget.ladder else 0
    return BudgetStanding(
        tenant=tenant,
        number=budget.number,
        terms=terms,
        window=start,
        ends=ends,
        spent=spent,
        held=held,
        ceiling=min(stops, default=terms.limit),
        confirmed=confirmed,
        fired=tuple(place for place in range(len(terms.steps)) if fired >> place & 1),
        forecast=forecast(
            timezone=tenant.timezone,
            window=terms.window,
            start=start,
            used=spent + held,
            threshold=terms.limit,
            now=now,
        ),
        now=now,
    )


def counters_wanted(tenant: TenantRow, terms: BudgetTerms, now: int) -> list[int]:
    """Return the starts of the counters that make up a budget's current window."""
    return buckets(tenant.timezone, terms.window, now)


class HoldRow(msgspec.Struct, frozen=True):
    """A hold.

    Attributes:
        tenant: whose.
        hold: its state.
        shape: of its estimate; None while captures came and the authorization has not.
        now: when that was read.
    """

    tenant: TenantRow
    hold: HoldState
    shape: CompiledShape | None
    now: int

    @property
    def due(self) -> bool:
        """Return whether its time is over and nobody has come by yet."""
        return self.hold.status == OPEN and self.hold.expires_at <= self.now

    @property
    def status(self) -> str:
        """Return the status as a client would find it: one that is due is expired."""
        return EXPIRED if self.due else self.hold.status


class DecisionRow(msgspec.Struct, frozen=True, kw_only=True):
    """An answer to an authorization that was kept.

    Attributes:
        tenant: whose.
        version: commit of the entry.
        index: its place there.
        at: when.
        hold: id of the hold.
        decision: one of `DECISIONS`.
        code: of the outcome.
        asked: charge asked for, x 10^18.
        amount: charge reserved, x 10^18; 0 where nothing was.
        shape: of the estimate: the model to be called is there.
        model: that was asked for.
        reasons: why.
        user: of the ask.
    """

    tenant: TenantRow
    version: int
    index: int
    at: int
    hold: str
    decision: str
    code: str
    asked: int
    amount: int
    shape: CompiledShape
    model: str
    reasons: tuple[Reason, ...]
    user: str


class StepRow(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a budget's ladder that fired.

    Attributes:
        tenant: whose.
        version: commit of the entry.
        index: its place there.
        terms: of the budget, as they are now.
        window: start of it.
        step: place in the ladder as it was then.
        kind: of the step.
        threshold: in the budget's measure.
        used: spent + held, and asked for a call that was kept back.
        at: when.
        limit_at: for ``projected``: when the limit will be passed; else 0.
        forecast: for ``projected``: what the window will come to; else 0.
    """

    tenant: TenantRow
    version: int
    index: int
    terms: BudgetTerms
    window: int
    step: int
    kind: str
    threshold: int
    used: int
    at: int
    limit_at: int
    forecast: int


class CreditStanding(msgspec.Struct, frozen=True):
    """A tenant's prepaid credit.

    Attributes:
        tenant: whose.
        required: holds need credit for their whole amount.
        owed: what required credit did not cover, x 10^18.
        grants: in the order in which they were given, spent and expired ones too.
        now: when that was read.
    """

    tenant: TenantRow
    required: bool
    owed: int
    grants: Sequence[Grant]
    now: int

    @property
    def free(self) -> int:
        """Return what is left and not reserved, less what is owed, x 10^18."""
        return sum(one.free for one in self.grants if not self.over(one)) - self.owed

    @property
    def held(self) -> int:
        """Return what open holds have reserved, x 10^18."""
        return sum(one.held for one in self.grants)

    def over(self, grant: Grant) -> bool:
        """Tell whether a grant's time is over, whether or not anybody came by since."""
        return grant.expired or 0 < grant.expires_at <= self.now


class DueTenant(msgspec.Struct, frozen=True):
    """A tenant whom an expiry may wait for.

    Attributes:
        tenant: its name.
        holds: open holds whose time is over; 0 where only credit, or nothing, is due.
    """

    tenant: str
    holds: int


class ProtectionReads(Protocol):
    """Queries; each is consistent in itself. All raise `NotFound` ``unknown_tenant``."""

    def for_tenant(self, tenant: str) -> ProtectionReads:
        """Return the same queries over one tenant's rows alone, which the database enforces."""
        ...

    def budgets(
        self, *, tenant: str | None = None, ended: bool = False
    ) -> Sequence[BudgetStanding]:
        """Return budgets with their current window, by tenant and name.

        Args:
            tenant: whose; None for all.
            ended: also those that were ended.
        """
        ...

    def budget(self, *, tenant: str, name: str) -> BudgetStanding:
        """Return a budget that is not ended.

        Raises:
            NotFound: ``unknown_tenant``, ``unknown_budget``.
        """
        ...

    def capped(self, tenant: str) -> bool:
        """Tell whether a cap was ever set for a tenant, or waived in as many words."""
        ...

    def holds(
        self,
        *,
        tenant: str | None = None,
        only: str | None = None,
        after: HoldPlace | None = None,
        limit: int,
    ) -> Sequence[HoldRow]:
        """Return holds, the one that expires or expired last first.

        Args:
            tenant: whose; None for all.
            only: one of `HOLD_KINDS`; None for all.
            after: only those that come after this place, of one tenant's.
            limit: most rows.
        """
        ...

    def hold(self, id: str, *, tenant: str) -> HoldRow:
        """Return a hold by its id.

        Raises:
            NotFound: ``unknown_tenant``, ``hold_not_found``.
        """
        ...

    def decisions(
        self,
        *,
        tenant: str,
        decision: str | None = None,
        hold: str | None = None,
        since: int | None = None,
        before: Ref | None = None,
        limit: int,
    ) -> Sequence[DecisionRow]:
        """Return the kept answers to authorizations, newest first.

        Args:
            tenant: whose.
            decision: one of `DECISIONS`; None for all.
            hold: id of a hold; None for all.
            since: no older ones, microseconds; None from the beginning.
            before: only those before this place of the ledger.
            limit: most rows.
        """
        ...

    def decisions_scanned(
        self,
        *,
        tenant: str,
        decision: str | None = None,
        hold: str | None = None,
        since: int | None = None,
        before: Ref | None = None,
        limit: int,
        most: int | None,
    ) -> tuple[Sequence[DecisionRow], Ref | None]:
        """Return decisions among some commits, and below which place there may be more.

        Args:
            tenant: whose; this and the others as in `decisions`.
            decision: likewise.
            hold: likewise.
            since: likewise.
            before: likewise.
            limit: likewise.
            most: most commits that are looked at, so that a rare decision costs no whole log.
        """
        ...

    def steps(
        self,
        *,
        tenant: str,
        budget: str | None = None,
        since: int | None = None,
        before: Ref | None = None,
        limit: int,
    ) -> Sequence[StepRow]:
        """Return the steps that fired, newest first; members as in `decisions`."""
        ...

    def credit(self, tenant: str) -> CreditStanding:
        """Return a tenant's prepaid credit."""
        ...

    def entitlements(self, tenant: str) -> Entitlements | None:
        """Return what a tenant may use; None where nothing was ever said."""
        ...

    def due(self) -> Sequence[DueTenant]:
        """Return the tenants whom an expiry may wait for, by name."""
        ...
