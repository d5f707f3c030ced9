"""Verify, the billing: accounts are what their events fold to, invoices what the events made final.

Also compared: each document's digest and sums, that numbers have no gap, and that the rollups that
invoices are rated from sum to the daily ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Protocol

import msgspec

from ledger.application.billing_ports import BillingStore, InvoiceFilter, InvoiceRow
from ledger.application.invoicing import SeriesReport
from ledger.application.replay import Difference
from ledger.domain.billing_account import (
    PLATFORM,
    AccountCommit,
    BillingAccount,
    CreditNoteIssued,
    InvoiceFinalized,
    PeriodClosed,
    evolve,
)
from ledger.domain.billing_drafts import Place
from ledger.domain.errors import InvariantViolation
from ledger.domain.invoices import InvoiceStatus, from_document

ATTEMPTS = 3
"""How often an account that changes while it is read is read again."""
_PIECE = 500
Unsettled = Callable[[Place, BillingAccount], date | None]
"""Returns the first day of the first period whose usage is to be rated again; None for none."""


class RollupDrift(msgspec.Struct, frozen=True):
    """Where the billing rollups do not sum to the daily ones.

    Attributes:
        tenant: whose.
        what: day, provider, model and meter.
        daily: quantity, charge and unpriced quantity there.
        billing: likewise.
    """

    tenant: str
    what: str
    daily: str
    billing: str


class BillingAudit(Protocol):
    """What the audit of billing reads besides a store."""

    def rollup_drift(self, *, tenant_id: int | None) -> Sequence[RollupDrift]:
        """Return where the rollups differ; nothing while they count different parts of the log."""
        ...


def billing_differences(
    *,
    store: BillingStore,
    audit: BillingAudit,
    series: Callable[[], Sequence[SeriesReport]],
    tenant: str | None = None,
    unsettled: Unsettled | None = None,
) -> list[Difference]:
    """Return where billing's rows are not what its events say.

    Args:
        store: where billing is.
        audit: compares the rollups.
        series: of numbers; not asked for a single tenant.
        tenant: only this one's; None for all.
        unsettled: compares what ledgers charged with what plans' charges come to; None does not.

    Returns:
        Differences of the codes ``billing_account``, ``billing_unreadable``, ``invoice``,
        ``invoice_document``, ``invoice_number``, ``plan_charge`` and ``billing_rollup``.

    Raises:
        NotFound: ``unknown_tenant``.
    """
    found: list[Difference] = []
    one = None if tenant is None else store.place(tenant)
    places = _places(store) if one is None else iter([one])
    for place in places:
        found += _account_differences(store, place)
        if unsettled is not None and place.tenant_id != PLATFORM:
            found += _plan_differences(store, place, unsettled)
    if one is None:
        found += [
            Difference("", "invoice_number", number, "a document", "none")
            for report in series()
            for number in report.missing
        ]
    drift = audit.rollup_drift(tenant_id=None if one is None else one.tenant_id)
    return found + [
        Difference(
            row.tenant, "billing_rollup", f"billing_daily {row.what}", row.daily, row.billing
        )
        for row in drift
    ]


def _places(store: BillingStore) -> Iterator[Place]:
    yield Place(PLATFORM, "", "", "UTC")
    after = PLATFORM
    while piece := store.places(after=after, limit=_PIECE):
        yield from piece
        after = piece[-1].tenant_id


def _plan_differences(store: BillingStore, place: Place, unsettled: Unsettled) -> list[Difference]:
    account = store.accounts([place.tenant_id])[place.tenant_id]
    first = unsettled(place, account) if account.holdings else None
    if first is None:
        return []
    return [
        Difference(
            place.tenant,
            "plan_charge",
            f"charges of the period from {first} on",
            "what the plan's charges come to for the quantities used",
            "another amount, until the usage is rated again",
        )
    ]


def _account_differences(store: BillingStore, place: Place) -> list[Difference]:
    found: list[Difference] = []
    for _ in range(ATTEMPTS):
        try:
            account = store.accounts([place.tenant_id])[place.tenant_id]
            rows = store.invoices(InvoiceFilter(tenant_id=place.tenant_id, limit=1_000_000))
            found = _compare(place.tenant, account, store.history(place.tenant_id), rows)
            after = store.accounts([place.tenant_id])[place.tenant_id]
        except InvariantViolation as error:
            expected = "accounts and events that can be read and folded"
            return [Difference(place.tenant, "billing_unreadable", "billing", expected, str(error))]
        if not found or after.version == account.version:
            return found
        # What was committed in between explains it: read again.
    return []


def _compare(
    tenant: str,
    account: BillingAccount,
    commits: Iterable[AccountCommit],
    rows: Sequence[InvoiceRow],
) -> list[Difference]:
    folded = BillingAccount()
    documents: dict[str, bytes] = {}
    for commit in commits:
        folded = evolve(folded, commit)
        _note(commit, documents, folded)
    found = []
    if folded != account:
        for name in account.__struct_fields__:
            expected, there = getattr(folded, name), getattr(account, name)
            if expected != there:
                found.append(
                    Difference(
                        tenant,
                        "billing_account",
                        f"billing_accounts {name}",
                        str(expected)[:200],
                        str(there)[:200],
                    )
                )
    return found + _compare_invoices(tenant, folded, documents, rows)


def _note(commit: AccountCommit, documents: dict[str, bytes], account: BillingAccount) -> None:
    """Keep the document that each invoice and credit note has after a commit."""
    for event in commit.events:
        if isinstance(event, PeriodClosed) and event.close.invoice:
            documents[event.close.invoice] = event.draft
        elif isinstance(event, InvoiceFinalized | CreditNoteIssued):
            documents[event.id] = event.document
    notes = {id for head in account.invoices.values() for id in head.notes}
    for id in documents.keys() - account.invoices.keys() - notes:
        del documents[id]


def _compare_invoices(
    tenant: str,
    account: BillingAccount,
    documents: Mapping[str, bytes],
    rows: Sequence[InvoiceRow],
) -> list[Difference]:
    found = []
    there = {row.id: row for row in rows}
    for id in sorted(documents.keys() | there.keys()):
        row, document = there.get(id), documents.get(id)
        if row is None or document is None:
            expected = "no row" if document is None else "a row"
            shown = "a row" if document is None else "none"
            found.append(Difference(tenant, "invoice", f"invoices {id}", expected, shown))
            continue
        head = account.invoices.get(id)
        status = InvoiceStatus.FINALIZED if head is None else head.status
        if row.status is not status:
            found.append(
                Difference(tenant, "invoice", f"invoices {id} status", status.value, row.status)
            )
        if row.document != document:
            found.append(
                Difference(
                    tenant, "invoice", f"invoices {id} document", "as it was made", "another"
                )
            )
        try:
            from_document(row.document)
        except InvariantViolation as error:
            what = f"invoices {id}"
            found.append(
                Difference(tenant, "invoice_document", what, "its digest and sums", str(error))
            )
    return found
