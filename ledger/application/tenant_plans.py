"""What tenants' plans charge, for the write path: from billing accounts and published plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ledger.application.plans import Plans
from ledger.application.ports import PlanSource
from ledger.domain.billing_account import BillingAccount
from ledger.domain.plans import Plan
from ledger.domain.tenant_plans import TenantPlan


class Accounts(Protocol):
    """Where billing accounts are; part of `BillingStore`."""

    def accounts(self, tenants: list[int]) -> Mapping[int, BillingAccount]:
        """Return accounts; one without commits for whoever has none."""
        ...


class TenantPlans:
    """Reads what tenants' subscriptions come to.

    Args:
        accounts: where subscriptions are.
        plans: where plans are; nobody else's, because whoever publishes holds its lock while
            waiting for the ledger's, and the write path does the opposite.
    """

    def __init__(self, accounts: Accounts, plans: Plans) -> None:
        self._accounts = accounts
        self._plans = plans

    def load(self, tenants: Mapping[int, str]) -> Mapping[int, TenantPlan]:
        """Return what the subscriptions of those tenants come to that have any."""
        return {
            number: self.of(account, timezone=tenants[number])
            for number, account in self._accounts.accounts(list(tenants)).items()
            if account.holdings
        }

    def of(self, account: BillingAccount, *, timezone: str) -> TenantPlan:
        """Return what one account's subscriptions come to."""
        return TenantPlan(account.holdings, account.segments, timezone=timezone, plan_of=self._plan)

    def _plan(self, name: str, version: int) -> Plan:
        return self._plans.plan(name, version=version).plan


def _check_protocol(source: TenantPlans) -> PlanSource:
    return source
