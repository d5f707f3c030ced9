"""Void invoices whose money is on no other invoice yet: which they are, and the way back.

What a void invoice billed counts as billed until its period is reopened, so that money is in no
total until people reopen it. The next period is not closed before.
"""

from __future__ import annotations

from datetime import date

import msgspec

from ledger.domain.billing_account import BillingAccount, Close
from ledger.domain.invoices import InvoiceStatus


class UnbilledVoid(msgspec.Struct, frozen=True):
    """A void invoice whose money waits for its period to be reopened.

    Attributes:
        close: that made it.
        number: its number.
        reopen: first days of the periods to reopen, in this order; its own is the last one.
        standing: id of an invoice that came later and is not void; "" where none stands in the way.
    """

    close: Close
    number: str
    reopen: tuple[date, ...]
    standing: str = ""


def unbilled_voids(account: BillingAccount) -> list[UnbilledVoid]:
    """Return the void invoices whose lines count as billed, the latest first."""
    found = []
    days: dict[date, None] = {}
    standing = ""
    for close in reversed(account.closes):
        days[close.first_day] = None
        head = account.invoices[close.invoice] if close.invoice else None
        if head is not None and head.status is InvoiceStatus.VOID:
            found.append(UnbilledVoid(close, head.number, tuple(days), standing))
        elif head is not None and not standing:
            standing = close.invoice
    return found


def waits(account: BillingAccount) -> bool:
    """Tell whether the next period is not to be closed: the latest invoice is void."""
    return any(not one.standing for one in unbilled_voids(account)) and account.closing is None
