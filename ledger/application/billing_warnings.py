"""Warnings of billing: what is allowed as it is, and costs money if nobody looks at it.

They are told wherever people look: by the close, of periods, of invoices, and by verify.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal

import msgspec

from ledger.application.billing_ports import BillingStore
from ledger.domain.billing_account import BillingAccount, BillingDetails
from ledger.domain.billing_drafts import Place
from ledger.domain.billing_voids import UnbilledVoid, unbilled_voids
from ledger.domain.invoices import Invoice, from_document
from ledger.domain.money import text

UNBILLED_VOID = "unbilled_voided_invoice"
"""Code of a void invoice whose money is on no other invoice."""
UNUSED_TAXES = "unused_line_taxes"
"""Code of taxes by line that no line of a draft has."""
_PIECE = 500


class BillingWarning(msgspec.Struct, frozen=True, kw_only=True):
    """Something that people have to look at.

    Attributes:
        code: stable.
        tenant: whose.
        detail: what it is, and what to do.
        first_day: of the period.
        invoice: id.
        number: of the invoice; "" in a draft.
        amount: what it is about; None where it is about no sum.
        currency: of the amount.
        names: what it is about, where that has names.
    """

    code: str
    tenant: str
    detail: str
    first_day: date
    invoice: str
    number: str = ""
    amount: Decimal | None = None
    currency: str = ""
    names: tuple[str, ...] = ()


def unbilled_warnings(
    store: BillingStore, accounts: Iterable[tuple[Place, BillingAccount]]
) -> list[BillingWarning]:
    """Return a warning for each void invoice of some accounts whose money is on no other one.

    Args:
        store: where invoices are; read only where there is something to warn of.
        accounts: of tenants.
    """
    found = [(place, one) for place, account in accounts for one in unbilled_voids(account)]
    rows = store.invoices_at([(place.tenant_id, one.close.invoice) for place, one in found])
    warnings = []
    for place, one in found:
        # A row that is gone is for verify to find; the warning is due all the same.
        row = rows.get((place.tenant_id, one.close.invoice))
        warnings.append(_unbilled(place, one, None if row is None else from_document(row.document)))
    return warnings


def unused_taxes(details: BillingDetails, draft: Invoice) -> list[BillingWarning]:
    """Return a warning where a tenant's details name taxes of lines that a draft has not."""
    names = tuple(sorted(details.line_taxes.keys() - {line.name for line in draft.lines}))
    if not names:
        return []
    there = sorted({line.name for line in draft.lines if line.name})
    listed = f"are called {', '.join(there)}" if there else "have no names, at list prices"
    one = BillingWarning(
        code=UNUSED_TAXES,
        tenant=draft.tenant,
        detail=f"line_taxes of {draft.tenant} are for {', '.join(names)}, which no line of"
        f" {draft.id} is; its lines {listed}. If that is a slip, mend the details before it"
        " becomes final",
        first_day=draft.period.first_day,
        invoice=draft.id,
        names=names,
    )
    return [one]


def all_unbilled(store: BillingStore, *, tenant: str | None = None) -> list[BillingWarning]:
    """Return the warnings of void invoices of one tenant, or of all.

    Raises:
        NotFound: ``unknown_tenant``.
    """
    pieces: Iterable[Sequence[Place]]
    pieces = _pieces(store) if tenant is None else [[store.place(tenant)]]
    found = []
    for places in pieces:
        accounts = store.accounts([place.tenant_id for place in places])
        found += unbilled_warnings(store, [(one, accounts[one.tenant_id]) for one in places])
    return found


def _pieces(store: BillingStore) -> Iterable[Sequence[Place]]:
    after = 0
    while places := store.places(after=after, limit=_PIECE):
        yield places
        after = places[-1].tenant_id


def _unbilled(place: Place, one: UnbilledVoid, invoice: Invoice | None) -> BillingWarning:
    due = None if invoice is None else invoice.due
    sum_ = "what" if due is None else f"the {text(due)} {place.currency} that"
    days = ", then from ".join(f"{day}" for day in one.reopen)
    steps = (
        f"two people reopen the period from {days}, and what it billed is billed anew by the next"
        " close; until then the tenant's next period is not closed"
    )
    if one.standing:
        steps = (
            f"invoice {one.standing} came later: void it, or drop its draft, and reopen the"
            f" periods from {days}; where it cannot be void, ask for the money by other means"
        )
    return BillingWarning(
        code=UNBILLED_VOID,
        tenant=place.tenant,
        detail=f"{one.number} of {place.tenant} is void, and {sum_} it billed is on no other"
        f" invoice: {steps}",
        first_day=one.close.first_day,
        invoice=one.close.invoice,
        number=one.number,
        amount=due,
        currency=place.currency,
    )
