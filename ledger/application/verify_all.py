"""The whole audit: the ledger, the price books that rated it, and billing."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ledger.application.services import Services
from ledger.application.verify import Progress, VerifyReport, verify
from ledger.application.verify_prices import price_differences


def verify_all(
    services: Services,
    *,
    tenant: str | None = None,
    deep: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> VerifyReport:
    """Compare every row with what the log says; change nothing.

    Args:
        services: of the database.
        tenant: only this one's ledger; None for all.
        deep: compute fingerprints and amounts again too; slower.
        progress: told after every piece of the log; what it raises ends the audit.

    Raises:
        NotFound: ``unknown_tenant``.
        Unavailable: the database cannot serve it now.
    """
    with services.audit() as view:
        report = verify(view=view, tenant=tenant, deep=deep, progress=progress)
    more = [
        *price_differences(
            reads=services.reads, prices=services.prices, plans=services.plans, tenant=tenant
        ),
        *services.billing_differences(tenant=tenant),
    ]
    return msgspec.structs.replace(
        report,
        differences=[*report.differences, *more],
        total=report.total + len(more),
        warnings=services.periods.warnings(tenant),
    )
