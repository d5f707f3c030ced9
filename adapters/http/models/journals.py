"""Documents of the journal; docs/spec/journal.md says what they mean."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from adapters.http.models.common import Amount, Answered
from adapters.http.models.plans import Day
from adapters.http.models.protection import Next

Account = Annotated[str, Field(examples=["assets:receivable:unbilled"])]


class JournalLineDocument(Answered):
    """What is booked on an account: a debit is above zero, a credit below."""

    account: Account
    amount: Amount


class BookingDocument(Answered):
    """Lines that sum to zero."""

    id: Annotated[str, Field(description="The same whenever the journal is made again.")]
    name: str
    tenant: str
    currency: str
    day: Day
    rule: Annotated[str, Field(examples=["usage_accrued"])]
    reference: Annotated[str, Field(description="Number of the document; else empty.")]
    lines: list[JournalLineDocument]


class JournalDocument(Answered):
    """Bookings in order of tenant, currency, day and rule."""

    bookings: list[BookingDocument]
    next: Next


class AccountBalanceDocument(Answered):
    """A row of the trial balance."""

    account: Account
    currency: str
    debits: Amount
    credits: Amount
    balance: Amount


class TrialBalanceDocument(Answered):
    """Debits and credits of each account; over all of a currency they are the same."""

    accounts: list[AccountBalanceDocument]
