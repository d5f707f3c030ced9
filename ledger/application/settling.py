"""Settling: usage is rated again where a subscription changed after it was recorded.

The ledger charges an event by the plan that holds when it is recorded. Who is put on a plan later,
for days with usage, has that usage charged otherwise until it is rated again; so subscribing does
that at once, and the close of a period looks again before it bills. Killed anywhere it is run
again: what was rated is unchanged then.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

from ledger.application.billing_ports import BillingStore
from ledger.application.billing_rates import Rates
from ledger.application.rerating import RatingCounts
from ledger.domain.billing_drafts import Place
from ledger.domain.periods import LATEST, day_start, from_us

Rerates = Callable[[Place, date], RatingCounts]
"""Rates a tenant's events from a local day on again, posting the differences; idempotent."""


class Settling:
    """Makes the ledger's charges those of the plans that hold; thread-safe.

    Args:
        store: where accounts are.
        rates: compares rollups with plans.
        rerate: rates events again.
        catch_up: makes the billing rollups count what is in the log now.
    """

    def __init__(
        self,
        store: BillingStore,
        rates: Rates,
        rerate: Rerates,
        catch_up: Callable[[], object],
    ) -> None:
        self._store = store
        self._rates = rates
        self._rerate = rerate
        self._catch_up = catch_up

    def settle(self, tenant: str, since: date) -> int:
        """Rate usage of open days again that was charged by what does not hold any more.

        So is usage without a price that a plan may charge.

        Args:
            tenant: whose.
            since: first local day of a billing period.

        Returns:
            How many events are charged otherwise now.

        Raises:
            NotFound: ``unknown_tenant``.
        """
        self._catch_up()
        place = self._store.place(tenant)
        account = self._store.accounts([place.tenant_id])[place.tenant_id]
        first = self._rates.unsettled(place, account, since=since, unpriced=True)
        if first is None:
            return 0
        counts = self._rerate(place, first)
        self._catch_up()
        return counts.changed + counts.lost


def rerating_since(
    rerate: Callable[..., RatingCounts],
) -> Rerates:
    """Return what rates a tenant's events from a local day on again.

    Args:
        rerate: as `Rerating.rerate`.
    """

    def since(place: Place, first_day: date) -> RatingCounts:
        start = from_us(day_start(place.timezone, first_day))
        return rerate(tenant=place.tenant, start=start, end=LATEST, reason="plan_changed")

    return since
