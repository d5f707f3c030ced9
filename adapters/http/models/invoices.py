"""Documents of invoices, credit notes and periods; docs/spec/invoices.md says what they mean."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from adapters.http.models.common import (
    Amount,
    Answered,
    JsonObject,
    Name,
    Number,
    Request,
    TenantRequest,
    Time,
)
from adapters.http.models.plans import Day
from adapters.http.models.protection import Next
from ledger.application.period_lists import PeriodState

Status = Literal["draft", "finalized", "paid", "uncollectible", "void"]
Kind = Literal["invoice", "credit_note"]
Count = Annotated[int, Field(ge=0)]
Digest = Annotated[str, Field(description="SHA-256, hexadecimal.")]


class DaysDocument(Answered):
    """Local days, the last one excluded."""

    first_day: Day
    after_day: Day


class InvoiceLineDocument(Answered):
    """A line; what has its default is left out."""

    number: Annotated[int, Field(ge=1)]
    kind: Annotated[str, Field(examples=["charge"])]
    description: str
    service: DaysDocument
    unrounded: Amount
    amount: Amount
    rounding: JsonObject
    tax: JsonObject
    late: bool = False
    name: str = ""
    quantity: Amount = "0"
    unit: str = ""
    billed: Amount = "0"
    unit_size: Amount = "1"
    unit_price: Amount = "0"
    price_version: str = ""
    parts: list[JsonObject] = []
    formula: str = ""
    of_line: Count = 0
    evidence: JsonObject = {}


class InvoiceDocument(Answered):
    """An invoice or a credit note; what has its default is left out."""

    form: Annotated[str, Field(examples=["tallybook.invoice:1"])]
    id: str
    kind: Kind
    tenant: str
    currency: str
    timezone: str
    period: DaysDocument
    lines: list[InvoiceLineDocument]
    taxes: list[JsonObject]
    net: Amount
    tax: Amount
    total: Amount
    due: Amount
    prepaid: Amount = "0"
    series: str = ""
    number: str = ""
    issued_at: Time | None = None
    due_on: Day | None = None
    seller: dict[str, Any] = {}
    buyer: dict[str, Any] = {}
    plans: list[JsonObject] = []
    notes: list[str] = []
    unpriced: list[JsonObject] = []
    credits: list[JsonObject] = []
    displays: list[JsonObject] = []
    cites: dict[str, Any] = {}
    reason: str = ""
    digest: Digest = ""


class WarningDocument(Answered):
    """What people have to look at; nothing is refused for it."""

    code: Annotated[str, Field(examples=["unbilled_voided_invoice"])]
    tenant: str
    first_day: Annotated[Day, Field(description="Of the period.")]
    invoice: Annotated[str, Field(description="Its id.")]
    number: str | None
    amount: Annotated[Amount | None, Field(description="What it is about.")]
    currency: str | None
    names: Annotated[list[str], Field(description="What it is about, where that has names.")]
    detail: Annotated[str, Field(description="What it is, and what to do, for people.")]


Warnings = Annotated[list[WarningDocument], Field(description="What people have to look at.")]


class StoredInvoiceDocument(Answered):
    """An invoice or a credit note, and where it is."""

    status: Status
    invoice: InvoiceDocument
    warnings: Warnings


class PreviewDocument(Answered):
    """What an invoice would be now."""

    invoice: Annotated[InvoiceDocument | None, Field(description="null where nothing is owed.")]
    warnings: Warnings


class InvoiceHeadDocument(Answered):
    """The head of an invoice or a credit note."""

    tenant: str
    id: str
    kind: Kind
    status: Status
    number: str | None
    first_day: Day
    after_day: Day
    currency: str
    total: Amount
    due: Amount
    cites: Annotated[str | None, Field(description="Of a credit note: id of the invoice.")]
    digest: Digest | None


class InvoicesDocument(Answered):
    """Invoices and credit notes."""

    invoices: list[InvoiceHeadDocument]
    next: Next
    warnings: Warnings


class FinalizedDocument(Answered):
    """How many drafts became final."""

    finalized: Count


class FinalizeRequest(Request):
    """Which drafts become final."""

    tenant: Annotated[Name | None, Field(description="Only this one's.")] = None


class MoveRequest(TenantRequest):
    """Why an invoice goes elsewhere."""

    reason: Annotated[str, Field(max_length=256)] = ""


class CreditNoteRequest(Request):
    """Give back all that is left of an invoice, a total with tax, or net amounts of lines."""

    tenant: Name
    invoice: Annotated[Name, Field(description="Id of the invoice.")]
    reason: Name
    id: Annotated[
        Name | None, Field(description="That the note gets; without one, the key is its id.")
    ] = None
    total: Number | None = None
    lines: Annotated[
        dict[Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}$")], Number] | None,
        Field(description="Net amounts by number of the line.", examples=[{"2": "1.50"}]),
    ] = None


class EvidenceEntryDocument(Answered):
    """An entry behind a line, at its place in the tenant's ledger."""

    commit: Count
    index: Count
    kind: Annotated[str, Field(examples=["UsageRecorded"])]
    recorded_at: Time
    source: str
    id: str
    occurred_at: Time | None


class EvidenceDocument(Answered):
    """The entries behind a line; digest and chain are of all of them, whatever the page."""

    line: Annotated[int, Field(ge=1)]
    entries: list[EvidenceEntryDocument]
    digest: Digest
    chain_holds: Annotated[
        bool, Field(description="The log still has the digest that the invoice states.")
    ]
    next: Next


class SeriesEntryDocument(Answered):
    """A series of numbers."""

    series: str
    last: Count
    missing: Annotated[list[str], Field(description="Numbers that no document has: none, ever.")]


class SeriesDocument(Answered):
    """Each series of numbers."""

    series: list[SeriesEntryDocument]


class BillingPeriodDocument(DaysDocument):
    """A billing period."""

    tenant: str
    state: PeriodState
    invoice: Annotated[str | None, Field(description="Id of the latest, where there is one.")]
    closes_at: Annotated[Time | None, Field(description="When its grace ends.")]
    overdue: Annotated[bool, Field(description="Its grace is over, and it is not closed.")]


class BillingPeriodsDocument(Answered):
    """Closed periods and the one that is next, in order of tenants' numbers and days."""

    periods: list[BillingPeriodDocument]
    next: Next
    warnings: Warnings


class CloseRequest(Request):
    """Close every period whose grace is over."""

    tenant: Annotated[Name | None, Field(description="Only this one's.")] = None
    grace_hours: Annotated[int, Field(ge=0, le=1440, description="After a period's end.")] = 48
    finalize: Annotated[bool, Field(description="Give all drafts their numbers too.")] = False


class DraftDocument(Answered):
    """A draft that a close made."""

    tenant: str
    id: str


class ClosedDocument(Answered):
    """What a close did."""

    tenants: Annotated[int, Field(ge=0, description="Looked at.")]
    periods: Annotated[int, Field(ge=0, description="Closed, by this call alone.")]
    drafts: list[DraftDocument]
    finalized: Count
    warnings: Warnings


class ReopenRequest(Request):
    """Ask to open the latest closed period again, or approve that somebody else asked."""

    tenant: Name
    first_day: Annotated[Day, Field(description="Of the period.")]
    reason: Name
