"""A tenant's billing account: subscriptions, closed periods, invoices; events and their fold.

The stream ``billing-<tenant number>`` holds commits of events; `evolve` folds them to the account,
which the store keeps beside it in the same commit. What may happen is decided in
`ledger.domain.billing_decisions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal

import msgspec

from ledger.domain.billing_calendar import Holding, Segment, Span, span_on
from ledger.domain.billing_periods import BillingCycle
from ledger.domain.entries import tenant_of_stream
from ledger.domain.errors import InvariantViolation
from ledger.domain.invoice_parts import Party, Tax
from ledger.domain.invoices import InvoiceStatus

TOPIC = "tb.billing:1"
"""Topic of a stored commit; a new form gets a new number."""
STREAM_PREFIX = "billing-"
PLATFORM = 0
"""Number of the account that holds what the platform says for all tenants; no tenant has it."""


def billing_stream(tenant_id: int) -> str:
    """Return the stream of a tenant's billing account."""
    return f"{STREAM_PREFIX}{tenant_id}"


def tenant_of_billing(stream: str) -> int | None:
    """Return the tenant number of a billing account's stream id, None for other streams."""
    return tenant_of_stream(stream, prefix=STREAM_PREFIX)


class DisplayRate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A currency in which totals are shown too.

    Attributes:
        currency: ISO 4217.
        rate: what one unit of the invoice's currency is worth in it.
        source: whose rate, of when; printed beside it.
    """

    currency: str
    rate: Decimal
    source: str = ""


class BillingDetails(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a tenant's invoices are made out, or what the platform says for all.

    Attributes:
        party: who is asked to pay; of the platform, who sells.
        tax: of every line that has none of its own; None is the platform's.
        line_taxes: by name of a plan's charge or fee.
        series: of numbers; "" is the platform's.
        payment_days: until payment is due; None is the platform's.
        displays: currencies in which the total is shown too; nothing is owed in them.
    """

    party: Party = Party()
    tax: Tax | None = None
    line_taxes: dict[str, Tax] = {}
    series: str = ""
    payment_days: int | None = None
    displays: tuple[DisplayRate, ...] = ()


def tax_of(name: str, details: BillingDetails, platform: BillingDetails) -> Tax:
    """Return the tax of a line by the name of its charge or fee: the nearest that is said."""
    for said in (details.line_taxes.get(name), details.tax, platform.line_taxes.get(name)):
        if said is not None:
            return said
    return Tax() if platform.tax is None else platform.tax


class Close(msgspec.Struct, frozen=True, array_like=True):
    """A close that counts.

    Attributes:
        first_day: of the period.
        after_day: the day after it.
        invoice: id of its invoice; "" if nothing was owed.
        through_commit: last commit of the ledger that it counted.
        position: rows that changed after this log position were not counted.
        reopened: the period was opened again, and what this close billed still counts.
    """

    first_day: date
    after_day: date
    invoice: str
    through_commit: int
    position: int
    reopened: bool = False


class Asked(msgspec.Struct, frozen=True, array_like=True):
    """Somebody asked to reopen the latest period.

    Attributes:
        first_day: of the period.
        by: who.
        reason: why.
        at: microseconds since the epoch.
        once: names the command; "" where it has no name.
    """

    first_day: date
    by: str
    reason: str
    at: int
    once: str = ""


class InvoiceHead(msgspec.Struct, frozen=True, array_like=True):
    """What an account knows of an invoice.

    Attributes:
        status: where it is.
        number: "" in a draft.
        notes: ids of the credit notes that cite it.
    """

    status: InvoiceStatus
    number: str = ""
    notes: tuple[str, ...] = ()


class Subscribed(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """The tenant is on a plan version from a day on.

    Attributes:
        cycle: that begins on that day; None keeps the one before.
    """

    from_day: date
    plan: str
    version: int
    cycle: BillingCycle | None


class SubscriptionEnded(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The tenant is at list prices from a day on."""

    from_day: date


class DetailsSet(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """How invoices are made out was said."""

    details: BillingDetails


class PeriodClosing(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The close of a period began: its plan and days stand."""

    first_day: date
    after_day: date


class PeriodClosed(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A period was closed.

    Attributes:
        close: what it counted.
        draft: document of its invoice; empty if nothing was owed.
    """

    close: Close
    draft: bytes


class ReopeningAsked(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The first of two people wants the latest period open."""

    asked: Asked


class PeriodReopened(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """The second one wants it too.

    Attributes:
        first_day: of the period.
        approvers: both.
        reason: why.
        dropped: ids of the drafts that are gone.
        released: ids of the void invoices whose usage is unbilled again.
    """

    first_day: date
    approvers: tuple[str, str]
    reason: str
    dropped: tuple[str, ...]
    released: tuple[str, ...]


class InvoiceFinalized(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """An invoice got its number and its digest."""

    id: str
    number: str
    document: bytes


class InvoiceMoved(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """An invoice was paid, voided or given up."""

    id: str
    status: InvoiceStatus
    reason: str


class CreditNoteIssued(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """A credit note cites an invoice."""

    invoice: str
    id: str
    number: str
    document: bytes


Event = (
    Subscribed
    | SubscriptionEnded
    | DetailsSet
    | PeriodClosing
    | PeriodClosed
    | ReopeningAsked
    | PeriodReopened
    | InvoiceFinalized
    | InvoiceMoved
    | CreditNoteIssued
)


class AccountCommit(msgspec.Struct, frozen=True, array_like=True):
    """Events that were stored together.

    Attributes:
        at: database time, microseconds since the epoch.
        by: who did it.
        events: in order.
    """

    at: int
    by: str
    events: tuple[Event, ...]


class BillingAccount(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the events come to.

    Attributes:
        version: number of its commits.
        holdings: plans by day, in order.
        segments: cycles by day, in order.
        details: how invoices are made out.
        closes: that count, in order.
        closing: days whose close has begun.
        asked: first approval of a reopening.
        invoices: by id.
        reopened: people opened the period that is next again, and have not closed it since.
    """

    version: int = 0
    holdings: tuple[Holding, ...] = ()
    segments: tuple[Segment, ...] = ()
    details: BillingDetails = BillingDetails()
    closes: tuple[Close, ...] = ()
    closing: PeriodClosing | None = None
    asked: Asked | None = None
    invoices: dict[str, InvoiceHead] = {}
    reopened: bool = False

    @property
    def last(self) -> Close | None:
        """Return the latest close that counts."""
        return self.closes[-1] if self.closes else None

    @property
    def closed_before(self) -> date:
        """Return the first day that is not closed; the earliest date while none is."""
        last = self.last
        if last is None:
            return date.min
        return last.first_day if last.reopened else last.after_day

    @property
    def fixed_before(self) -> date:
        """Return the first day whose plan can still change."""
        return self.closed_before if self.closing is None else self.closing.after_day

    @property
    def counted(self) -> tuple[str, ...]:
        """Return the ids of the invoices whose lines count as billed."""
        return tuple(close.invoice for close in self.closes if close.invoice)

    def span_on(self, day: date, *, timezone: str) -> Span:
        """Return the billing period that holds a local day."""
        return span_on(day, timezone=timezone, segments=self.segments)

    def begins_on(self, first_usage: date | None) -> date | None:
        """Return the first day there is to bill; None while there is nothing.

        Args:
            first_usage: local day of the earliest usage.
        """
        if self.last is not None:
            return self.closed_before
        days = [one.from_day for one in self.holdings[:1]]
        if first_usage is not None:
            days.append(first_usage)
        return min(days, default=None)


def evolve(account: BillingAccount, commit: AccountCommit) -> BillingAccount:
    """Return the account after a commit."""
    for event in commit.events:
        account = _apply(account, event)
    return msgspec.structs.replace(account, version=account.version + 1)


def _apply(account: BillingAccount, event: Event) -> BillingAccount:
    replace = msgspec.structs.replace
    match event:
        case Subscribed():
            return _subscribed(account, event)
        case SubscriptionEnded():
            return replace(account, holdings=_held(account.holdings, Holding(event.from_day)))
        case DetailsSet():
            return replace(account, details=event.details)
        case PeriodClosing():
            return replace(account, closing=event)
        case PeriodClosed():
            return _closed(account, event)
        case ReopeningAsked():
            return replace(account, asked=event.asked)
        case PeriodReopened():
            return _reopened(account, event)
        case _:
            return _invoiced(account, event)


def _held(holdings: Sequence[Holding], new: Holding) -> tuple[Holding, ...]:
    return (*(one for one in holdings if one.from_day < new.from_day), new)


def _subscribed(account: BillingAccount, event: Subscribed) -> BillingAccount:
    holding = Holding(event.from_day, event.plan, event.version)
    segments = account.segments
    if event.cycle is not None:
        kept = (one for one in segments if one.from_day < event.from_day)
        segments = (*kept, Segment(event.from_day, event.cycle))
    return msgspec.structs.replace(
        account, holdings=_held(account.holdings, holding), segments=segments
    )


def _closed(account: BillingAccount, event: PeriodClosed) -> BillingAccount:
    close = event.close
    invoices = account.invoices
    if close.invoice:
        invoices = {**invoices, close.invoice: InvoiceHead(InvoiceStatus.DRAFT)}
    return msgspec.structs.replace(
        account,
        closes=(*account.closes, close),
        closing=None,
        asked=None,
        invoices=invoices,
        reopened=False,
    )


def _reopened(account: BillingAccount, event: PeriodReopened) -> BillingAccount:
    gone = {"", *event.dropped, *event.released}
    closes = list(account.closes)
    # From the end alone, so that what the last close counted up to is true of all before it.
    while closes and closes[-1].first_day == event.first_day and closes[-1].invoice in gone:
        closes.pop()
    closes = [
        msgspec.structs.replace(one, reopened=True) if one.first_day == event.first_day else one
        for one in closes
    ]
    invoices = {id: one for id, one in account.invoices.items() if id not in event.dropped}
    return msgspec.structs.replace(
        account, closes=tuple(closes), asked=None, invoices=invoices, reopened=True
    )


def _invoiced(
    account: BillingAccount, event: InvoiceFinalized | InvoiceMoved | CreditNoteIssued
) -> BillingAccount:
    replace = msgspec.structs.replace
    id = event.invoice if isinstance(event, CreditNoteIssued) else event.id
    head = account.invoices.get(id)
    if head is None:
        raise InvariantViolation(f"an account has an event of invoice {id}, which it does not have")
    if isinstance(event, InvoiceFinalized):
        head = replace(head, status=InvoiceStatus.FINALIZED, number=event.number)
    elif isinstance(event, InvoiceMoved):
        head = replace(head, status=event.status)
    else:
        head = replace(head, notes=(*head.notes, event.id))
    return replace(account, invoices={**account.invoices, id: head})


_encoder = msgspec.msgpack.Encoder()
_commits = msgspec.msgpack.Decoder(AccountCommit)
_accounts = msgspec.msgpack.Decoder(BillingAccount)


def encode_account_commit(commit: AccountCommit) -> bytes:
    """Return the stored form of a commit."""
    return _encoder.encode(commit)


def decode_account_commit(state: bytes) -> AccountCommit:
    """Return the commit of a stored form.

    Raises:
        InvariantViolation: the bytes are none.
    """
    try:
        return _commits.decode(state)
    except msgspec.DecodeError as error:
        raise InvariantViolation(f"a billing commit cannot be read: {error}") from error


def encode_account(account: BillingAccount) -> bytes:
    """Return the stored form of an account."""
    return _encoder.encode(account)


def decode_account(state: bytes) -> BillingAccount:
    """Return the account of a stored form.

    Raises:
        InvariantViolation: the bytes are none.
    """
    try:
        return _accounts.decode(state)
    except msgspec.DecodeError as error:
        raise InvariantViolation(f"a billing account cannot be read: {error}") from error
