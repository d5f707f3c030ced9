"""The jobs that there are: what each does, and when.

All may be repeated, stopped between steps, and run beside whoever else does the same by hand.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import msgspec

from ledger.application.billing_warnings import BillingWarning
from ledger.application.expiry import expire
from ledger.application.jobs import Check, Job
from ledger.application.services import Services
from ledger.application.verify import ACT, Verified, keep
from ledger.application.verify_all import verify_all
from ledger.domain.errors import Refused
from ledger.domain.jobs import DAY_US, HOUR_US, MINUTE_US, Schedule

BY = "tallybook jobs"
"""Who acts where a job does."""
VIA = "jobs"
"""Through which interface, in the audit log."""
CLOSE, CREDIT, HOLDS, PRICES, VERIFY = (
    "period-close",
    "credit-expiry",
    "hold-sweep",
    "price-pull",
    "verify",
)

_log = logging.getLogger(__name__)

_Work = Callable[[Services, Check], Mapping[str, int]]


def standard_jobs(services: Services) -> Sequence[Job]:
    """Return all jobs over the use cases of one database."""

    def job(name: str, what: str, schedule: Schedule, work: _Work) -> Job:
        return Job(name, what, schedule, lambda check: work(services, check))

    return (
        job(
            CLOSE,
            "close billing periods whose grace is over, and draft their invoices",
            Schedule(HOUR_US, 5 * MINUTE_US),
            _close,
        ),
        job(
            CREDIT,
            "expire credit of ledgers that nobody touches",
            Schedule(HOUR_US, 10 * MINUTE_US),
            _expire_credit,
        ),
        job(
            HOLDS,
            "expire holds that upkeep has left, or that nobody sweeps",
            Schedule(HOUR_US, 15 * MINUTE_US),
            _expire_holds,
        ),
        job(
            PRICES,
            "propose the prices of the installed data; approve nothing",
            Schedule(DAY_US, 2 * HOUR_US),
            _pull_prices,
        ),
        job(
            VERIFY,
            "fold the whole log again and compare it with every row",
            Schedule(DAY_US, 3 * HOUR_US),
            _verify,
        ),
    )


def _close(services: Services, check: Check) -> Mapping[str, int]:
    for line in services.audit_log.list(tenant="", act=ACT, limit=1):
        found = msgspec.convert(line.detail, Verified).differences
        if found:
            raise Refused(
                f"the last audit of the ledger found {found} differences; mend them and run"
                " `tallybook verify`, or close by hand with `tallybook period close`",
                code="ledger_not_clean",
            )
    # What people opened again they also close: until then they have something to put right.
    report = services.periods.close(by=BY, reopened=False, progress=lambda step: check())
    _warn(report.warnings)
    return {
        "tenants": report.tenants,
        "periods": report.periods,
        "drafts": len(report.drafts),
        "warnings": len(report.warnings),
    }


def _warn(warnings: Sequence[BillingWarning]) -> None:
    for one in warnings:
        _log.warning("%s: %s", one.code, one.detail)


def _expire_credit(services: Services, check: Check) -> Mapping[str, int]:
    waiting = [one.tenant for one in services.protection_reads.due() if not one.holds]
    return {"tenants": expire(services.ledger, waiting, check=check)}


def _expire_holds(services: Services, check: Check) -> Mapping[str, int]:
    waiting = [one for one in services.protection_reads.due() if one.holds]
    expire(services.ledger, [one.tenant for one in waiting], check=check)
    return {"tenants": len(waiting), "holds": sum(one.holds for one in waiting)}


def _pull_prices(services: Services, check: Check) -> Mapping[str, int]:
    check()
    pulled = services.prices.pull(by=BY)
    return {"proposed": pulled.proposed, "held": pulled.held, "waiting": pulled.waiting}


def _verify(services: Services, check: Check) -> Mapping[str, int]:
    report = verify_all(services, progress=lambda progress: check())
    keep(services.audit_log, report, tenant=None, who=BY, via=VIA)
    for one in report.differences:
        _log.error("verify: %s [%s] %s", one.tenant or "-", one.code, one.what)
    _warn(report.warnings)
    return {
        "commits": report.commits,
        "entries": report.entries,
        "differences": report.total,
        "warnings": len(report.warnings),
    }
