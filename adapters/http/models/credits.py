"""Documents of prepaid credit; docs/spec/holds.md says what they mean."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from adapters.http.models.common import (
    Amount,
    Answered,
    Name,
    Number,
    TenantRequest,
    Text,
    Time,
)
from adapters.http.models.protection import FilterRequest, Next


class GrantRequest(TenantRequest):
    """Give credit, once under this id."""

    id: Name
    amount: Number
    currency: Annotated[Text, Field(description="Checked against the ledger's.")] = ""
    kind: Literal["paid", "promotional"] = "paid"
    priority: Annotated[int, Field(ge=0, le=10**6, description="Lower burns first.")] = 100
    expires_at: Time | None = None
    filter: FilterRequest | None = None
    by: Annotated[Text, Field(description="Who gives it; the key where it is left out.")] = ""
    reason: Text = ""


class RefundRequest(TenantRequest):
    """Take free paid credit out of a grant, once under this id."""

    id: Name
    grant: Name
    amount: Annotated[Number, Field(description="Above 0, or `available`.")]
    by: Text = ""
    reason: Text = ""


class TransferRequest(RefundRequest):
    """Pass free credit of a grant on to another tenant, once under this id."""

    to: Annotated[Name, Field(description="The tenant that gets it.")]


class CreditPolicyRequest(TenantRequest):
    """Whether holds need credit for their whole amount."""

    required: bool


class GrantDocument(Answered):
    """A grant and what became of it."""

    id: str
    kind: Literal["paid", "promotional"]
    priority: int
    given_at: Time | None
    expires_at: Time | None
    expired: bool
    amount: Amount
    burned: Amount
    withdrawn: Amount
    lapsed: Amount
    held: Amount
    free: Amount
    filter: Annotated[str, Field(description="Which usage it pays, for people; empty for all.")]


class CreditDocument(Answered):
    """A tenant's prepaid credit, in its currency."""

    tenant: str
    currency: str
    required: Annotated[bool, Field(description="Holds need credit for their whole amount.")]
    free: Amount
    held: Amount
    owed: Amount
    grants: list[GrantDocument]


class CreditPageDocument(CreditDocument):
    """A tenant's prepaid credit with some of its grants, in the order in which they were given."""

    next: Next


class GrantedDocument(CreditDocument):
    """What became of a grant, and the credit after it."""

    status: Literal["accepted", "duplicate"]
    grant: str


class WithdrawalDocument(Answered):
    """A refund or a transfer."""

    id: str
    amount: Amount
    currency: str
    why: str
    to: str | None


class CreditPolicyDocument(Answered):
    """Whether a tenant's holds need credit."""

    tenant: str
    status: str
    required: bool
