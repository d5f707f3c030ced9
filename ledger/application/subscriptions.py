"""Subscriptions: which tenant is on which plan from which day on, and how it is invoiced.

subscriptions.subscribe("acme", "team", from_day=date(2026, 12, 1), by="ann")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta

import msgspec

from ledger.application.billing_ports import AccountChanged, AccountSave, BillingStore
from ledger.application.plans import Plans
from ledger.domain import billing_decisions as decisions
from ledger.domain.billing_account import (
    AccountCommit,
    BillingAccount,
    BillingDetails,
    Event,
    evolve,
)
from ledger.domain.billing_calendar import Holding, Segment
from ledger.domain.billing_drafts import Place
from ledger.domain.errors import Refused
from ledger.domain.periods import to_us, zone

MAX_ATTEMPTS = 8
"""How often a command is tried while others change the account."""

MOST_TENANTS = 5000
"""Tenants that one page looks at."""
_PIECE = 500

Settle = Callable[[str, date], int]
"""Rates a tenant's usage from the first day of a period on again; returns how many events."""
Decide = Callable[[BillingAccount, int], Sequence[Event]]
"""Decides a command upon an account, at microseconds since the epoch."""


class SubscriptionView(msgspec.Struct, frozen=True):
    """Where a tenant's billing stands.

    Attributes:
        tenant: whose.
        holdings: plans by day.
        segments: cycles by day.
        details: how invoices are made out.
        closed_before: first day that is not closed; None while none is.
        unknown_taxes: names in ``details.line_taxes`` of which no plan here has a charge or fee: a
            slip, or meant for a plan that is still to come.
        current: what it is on today; None at list prices without an earlier subscription.
        tenant_id: number of the tenant.
        rated_again: events that this change has made be charged otherwise.
    """

    tenant: str
    holdings: Sequence[Holding]
    segments: Sequence[Segment]
    details: BillingDetails
    closed_before: date | None
    unknown_taxes: Sequence[str] = ()
    current: Holding | None = None
    tenant_id: int = 0
    rated_again: int = 0


class SubscriptionPage(msgspec.Struct, frozen=True):
    """Where the billing of some tenants stands, in order of their numbers.

    Attributes:
        rows: one a tenant.
        following: number of the tenant after which the next page begins; None at the end.
    """

    rows: Sequence[SubscriptionView]
    following: int | None


def change(
    store: BillingStore, place: Place, decide: Decide, *, by: str
) -> tuple[BillingAccount, Sequence[Event]]:
    """Decide a command upon a tenant's account and save what it comes to.

    Returns:
        The account afterwards and what happened; nothing if nothing changed.

    Raises:
        Refused: ``account_busy`` if others change it all the time; nothing was saved.
    """
    for _ in range(MAX_ATTEMPTS):
        account = store.accounts([place.tenant_id])[place.tenant_id]
        at = to_us(store.now())
        events = tuple(decide(account, at))
        if not events:
            return account, ()
        commit = AccountCommit(at, by, events)
        after = evolve(account, commit)
        try:
            store.save([AccountSave(place.tenant_id, after, commit)])
        except AccountChanged:
            continue
        return after, events
    raise busy(place.tenant)


def busy(tenant: str) -> Refused:
    """Return the refusal of a command that others keep from being saved."""
    return Refused(
        f"others are changing the billing of {tenant} all the time; nothing was saved, try again",
        code="account_busy",
    )


class Subscriptions:
    """Keeps subscriptions and billing details; thread-safe.

    Args:
        store: where accounts are.
        plans: what can be subscribed to.
        settle: rates a tenant's usage from a local day on again where it was charged by what does
            not hold any more, and returns how much; None leaves that to the close.
    """

    def __init__(self, store: BillingStore, plans: Plans, settle: Settle | None = None) -> None:
        self._store = store
        self._plans = plans
        self._settle = settle

    def for_tenant(self, tenant: str) -> Subscriptions:
        """Return the same questions about one tenant's rows alone; a foreign name is unknown."""
        return Subscriptions(self._store.for_tenant(tenant), self._plans, self._settle)

    def subscribe(
        self,
        tenant: str,
        plan: str,
        *,
        by: str,
        version: int | None = None,
        from_day: date | None = None,
        anchor: date | None = None,
    ) -> SubscriptionView:
        """Put a tenant on a plan from a day on, or change its plan; the same again is nothing.

        Args:
            tenant: whose ledger.
            plan: name.
            by: who does it.
            version: of the plan; by default the latest.
            from_day: first local day; by default today.
            anchor: begins a cycle of its own; by default the cycle stays, or is the plan's.

        Raises:
            NotFound: ``unknown_tenant``, ``unknown_plan``, ``unknown_plan_version``.
            Refused: ``plan_retired``, ``period_closed`` and as `decisions.subscribe`.
            InvalidInput: ``invalid_cycle``.
        """
        place = self._store.place(tenant)
        view = self._plans.plan(plan, version=version)

        def decide(account: BillingAccount, at: int) -> Sequence[Event]:
            held = {(one.plan, one.version) for one in account.holdings}
            if view.retired and (view.name, view.version) not in held:
                raise Refused(f"{view.name} is retired: nobody new gets it", code="plan_retired")
            return decisions.subscribe(
                account,
                view.plan,
                version=view.version,
                from_day=from_day or self._today(place),
                anchor=anchor,
                currency=place.currency,
                timezone=place.timezone,
            )

        day = from_day or self._today(place)
        return self._settled(place, change(self._store, place, decide, by=by)[0], day)

    def end(self, tenant: str, *, by: str, from_day: date | None = None) -> SubscriptionView:
        """Put a tenant at list prices from a day on, by default today; again is nothing.

        Raises:
            NotFound: ``unknown_tenant``.
            Refused: ``not_subscribed``, ``period_closed``, ``later_subscription``.
        """
        place = self._store.place(tenant)
        day = from_day or self._today(place)
        account, _ = change(
            self._store,
            place,
            lambda account, at: decisions.end_subscription(account, from_day=day),
            by=by,
        )
        return self._settled(place, account, day)

    def set_details(self, tenant: str, details: BillingDetails, *, by: str) -> SubscriptionView:
        """Say how a tenant's invoices are made out; the same again is nothing.

        Raises:
            NotFound: ``unknown_tenant``.
            InvalidInput: ``invalid_payment_days``.
        """
        place = self._store.place(tenant)
        account, _ = change(
            self._store,
            place,
            lambda account, at: decisions.set_details(account, details),
            by=by,
        )
        return self._view(place, account)

    def show(self, tenant: str) -> SubscriptionView:
        """Return where a tenant's billing stands.

        Raises:
            NotFound: ``unknown_tenant``.
        """
        place = self._store.place(tenant)
        return self._view(place, self._store.accounts([place.tenant_id])[place.tenant_id])

    def _settled(self, place: Place, account: BillingAccount, day: date) -> SubscriptionView:
        """Rate again what the change charges otherwise: the whole period, for its days changed."""
        if self._settle is None:
            return self._view(place, account)
        # Where a cycle begins on the day, the period before it was cut.
        before = account.span_on(day - timedelta(days=1), timezone=place.timezone).first_day
        again = self._settle(place.tenant, max(before, account.fixed_before))
        return msgspec.structs.replace(self._view(place, account), rated_again=again)

    def page(self, *, plan: str | None = None, after: int = 0, limit: int) -> SubscriptionPage:
        """Return where the billing of tenants stands, also of those at list prices.

        A page may be short, also empty, while there are others.

        Args:
            plan: only tenants that are on it today, or come to it later.
            after: `SubscriptionPage.following` of the page before.
            limit: most rows.
        """
        now = self._store.now()
        rows: list[SubscriptionView] = []
        looked = 0
        while looked < MOST_TENANTS:
            places = self._store.places(after=after, limit=_PIECE)
            accounts = self._store.accounts([place.tenant_id for place in places])
            for place in places:
                view = self._view(place, accounts[place.tenant_id], now=now)
                if plan is None or _is_on(view, plan):
                    if len(rows) == limit:
                        return SubscriptionPage(rows, rows[-1].tenant_id)
                    rows.append(view)
            if len(places) < _PIECE:
                return SubscriptionPage(rows, None)
            looked += len(places)
            after = places[-1].tenant_id
        return SubscriptionPage(rows, after)

    def _view(
        self, place: Place, account: BillingAccount, *, now: datetime | None = None
    ) -> SubscriptionView:
        closed = None if account.last is None else account.closed_before
        today = (now or self._store.now()).astimezone(zone(place.timezone)).date()
        held = [one for one in account.holdings if one.from_day <= today]
        return SubscriptionView(
            place.tenant,
            account.holdings,
            account.segments,
            account.details,
            closed,
            self._unknown_taxes(account),
            held[-1] if held else None,
            place.tenant_id,
        )

    def _unknown_taxes(self, account: BillingAccount) -> Sequence[str]:
        unknown = set(account.details.line_taxes)
        for held in account.holdings:
            if unknown and held.plan:
                plan = self._plans.plan(held.plan, version=held.version).plan
                unknown -= {charge.name for charge in plan.charges}
                unknown -= {fee.name for fee in plan.fees}
        return sorted(unknown)

    def _today(self, place: Place) -> date:
        return self._store.now().astimezone(zone(place.timezone)).date()


def _is_on(view: SubscriptionView, plan: str) -> bool:
    """Tell whether a tenant is on a plan, or comes to it."""
    held = [view.current, *view.holdings]
    since = view.current.from_day if view.current is not None else date.min
    return any(one is not None and one.plan == plan and one.from_day >= since for one in held)
