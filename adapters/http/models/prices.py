"""Documents of price books."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from adapters.http.models.common import Amount, Answered, Name, Number, Request, Text, Time
from adapters.http.models.protection import Next

Count = Annotated[int, Field(ge=0)]
Version = Annotated[str, Field(description="Of a row.", examples=["cost/openai@3.17"])]
Versions = Annotated[list[Version], Field(min_length=1, max_length=1000)]
Since = Annotated[str, Field(description="A moment, or a day (00:00 UTC).", max_length=40)]


class ProposalsRequest(Request):
    """Propose what the sources list and the books do not have."""

    approve: Annotated[bool, Field(description="Approve what no other source contradicts.")] = False
    providers: Annotated[list[Name], Field(description="Only these.", max_length=1000)] = []


class ApproveRequest(Request):
    """Rows to approve: by version, or all that no other source contradicts."""

    versions: Versions | None = None
    all: Literal[True] | None = None
    providers: Annotated[list[Name], Field(description="Of `all`, only these.")] = []


class RetireRequest(Request):
    """Rows to retire or to drop."""

    versions: Versions


class MarkupRequest(Request):
    """A sell book's standing mark-up: sell = cost + percent %."""

    percent: Annotated[Number, Field(description="-100 or more.", examples=["20"])]
    book: Name = "default"
    effective_from: Since | None = None


class PriceRequest(Request):
    """A price that is set by hand, proposed and approved at once."""

    provider: Name
    model: Name
    meter: Name
    rate: Annotated[Number, Field(description="Price of `per` units.", examples=["2.50"])]
    per: Annotated[Number, Field(examples=["1000000"])] = "1"
    kind: Literal["cost", "sell"] = "cost"
    book: Annotated[Name, Field(description="Of a sell price.")] = "default"
    region: Text = ""
    tier: Text = ""
    batch: bool = False
    context_over: Annotated[
        int, Field(ge=0, le=10**9, description="For requests with more input tokens than this.")
    ] = 0
    effective_from: Since | None = None
    increment: Number = "0"
    minimum: Number = "0"
    mode: Annotated[Text, Field(description="How a quantity between two steps is rounded.")] = "up"
    scope: Annotated[Text, Field(description="`request`, `session` or `none`.")] = ""
    currency: Annotated[Text, Field(examples=["USD"])] = "USD"
    note: Text = ""


class PriceKeyDocument(Answered):
    """What a price is for; what is left out is any."""

    provider: str
    model: str
    meter: str
    region: str | None = None
    tier: str | None = None
    batch: bool
    context_over: int


class QuantityRuleDocument(Answered):
    """How a quantity becomes a billed one."""

    increment: Amount
    minimum: Amount
    mode: str
    scope: str


class PriceRowDocument(Answered):
    """One price from a date on."""

    key: PriceKeyDocument
    effective_from: Time
    rate: Amount
    unit_size: Amount
    currency: str
    quantity_rule: QuantityRuleDocument
    source: str
    source_digest: str | None = None
    note: str | None = None


class PriceDocument(Answered):
    """A price row and all that is known of it; members without a value are left out."""

    version: Version
    kind: Literal["cost", "sell"]
    book: str | None = None
    row: PriceRowDocument
    status: Literal["proposed", "approved", "retired"]
    proposed_at: Time
    source: str
    digest: str | None = None
    approver: str | None = None
    approved_at: Time | None = None
    retired_by: str | None = None
    retired_at: Time | None = None
    reason: str | None = None
    note: str | None = None


class PricesDocument(Answered):
    """Price rows in order of book, key and date."""

    total: Annotated[int, Field(ge=0, description="Rows on all pages.")]
    rows: list[PriceDocument]
    next: Next


class HeldDocument(Answered):
    """A held row, and the rows that contradict it."""

    held: PriceDocument
    rivals: list[PriceDocument]


class ContradictionsDocument(Answered):
    """Where sources disagree."""

    total: Count
    held: list[HeldDocument]
    next: Next


class ResolutionDocument(Answered):
    """Which row prices one meter, and why."""

    kind: Literal["cost", "sell"]
    book: str | None = None
    meter: str
    record: PriceDocument | None = None
    why: list[str]


class ResolutionsDocument(Answered):
    """Which rows price a call."""

    prices: list[ResolutionDocument]


class MarkupDocument(Answered):
    """A mark-up that was set."""

    percent: Amount
    effective_from: Time
    by: str
    at: Time


class MarkupsDocument(Answered):
    """Mark-ups of a book, in the order in which they were set."""

    book: str
    markups: list[MarkupDocument]


class RatingDocument(Answered):
    """What was rated afterwards."""

    rated: Count
    changed: Count
    unpriced: Count
    unchanged: Count


class PullDocument(Answered):
    """What came of a pull, or of approving all."""

    listed: Count
    known: Count
    decided: Count
    proposed: Count
    approved: Count
    held: Count
    waiting: Count
    dropped: Count
    gone: list[Version]
    unsaid: Count
    published: Count
    renamed: Count
    rating: RatingDocument | None = None


class PriceChangeDocument(Answered):
    """What came of a decision on rows."""

    rows: list[PriceDocument]
    dropped: list[Version]
    published: Annotated[int, Field(ge=0, description="Sell rows that mark-ups published.")]
    rating: RatingDocument | None


class MarkedUpDocument(PriceChangeDocument):
    """What came of a mark-up."""

    markups: list[MarkupDocument]
