"""What a tenant may use: set as a whole, an entry of its ledger."""

from __future__ import annotations

from ledger.application.budgets import accepted
from ledger.application.engine import Ledger
from ledger.application.reads import Reads
from ledger.domain.commands import Outcome
from ledger.domain.entitlements import Entitlements
from ledger.domain.holds import SetEntitlements


class TenantEntitlements:
    """Sets entitlements.

    Args:
        ledger: records them.
        reads: knows the tenants.
    """

    def __init__(self, ledger: Ledger, reads: Reads) -> None:
        self._ledger = ledger
        self._reads = reads

    def set(self, wanted: Entitlements, *, tenant: str, by: str) -> Outcome:
        """Set what a tenant may use; the same again is ``unchanged``.

        Raises:
            NotFound: ``unknown_tenant``.
        """
        self._reads.tenant(tenant)
        return accepted(self._ledger, SetEntitlements(tenant, wanted, by))
