"""Documents of entries: what was recorded, and what became of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from adapters.http.models.common import (
    Amount,
    Answered,
    Name,
    Quantities,
    TenantRequest,
    Text,
    Time,
)
from adapters.http.models.events import Receipt


class TargetDocument(Answered):
    """The event that a correction is about."""

    source: str
    id: str


class EntryLineDocument(Answered):
    """An entry about usage: what was recorded, or what a correction changed."""

    ref: Annotated[str, Field(description="`<tenant>:<receipt>`.")]
    kind: Literal["usage", "void", "adjust", "rerate", "applied", "conflict", "reversal"]
    source: str
    id: str
    target: TargetDocument | None
    time: Time | None
    recorded_at: Time
    provider: str
    model: str
    outcome: str
    request_id: str
    user: str
    project: str
    session: str
    quantities: dict[str, Amount]
    charge: Annotated[str, Field(description="Unrounded; of a correction, the change.")]
    costs: dict[str, Amount]
    flags: list[str]
    corrections: Annotated[list[str], Field(description="Refs of what changed or contradicts it.")]


class EventsDocument(Answered):
    """A page of a tenant's entries, newest first."""

    tenant: str
    currency: str
    timezone: str
    version: Annotated[int, Field(description="Last commit that the listing tells of.")]
    events: list[EntryLineDocument]
    next: str | None


class CommitDocument(Answered):
    """Where an entry stands in the log."""

    version: int
    digest: str
    position: int


class EntryDocument(EntryLineDocument):
    """An entry with all that it keeps; members that do not apply to its kind are left out."""

    receipt: Receipt
    tenant: str
    currency: str
    commit: CommitDocument
    tier: str = ""
    region: str = ""
    batch: bool = False
    provider_account: str = ""
    attempt: int = 1
    billable: str = "tenant"
    byok: bool = False
    missing_prices: list[str] = []
    api_key: str = ""
    conversation: str = ""
    plugin: str = ""
    hold: str = ""
    labels: dict[str, str] = {}
    raw: str | None = None
    reason: str = ""
    payload: Annotated[str, Field(description="Of a conflict: what was refused.")] = ""
    original: Annotated[str, Field(description="Of a conflict: receipt of what holds the key.")] = (
        ""
    )


class VoidEventRequest(TenantRequest):
    """Take an event back."""

    id: Annotated[Name, Field(description="Of the correction, chosen by the client.")]
    source: Annotated[Name, Field(description="Of the correction.")] = "api"
    reason: Text = ""


class AdjustEventRequest(VoidEventRequest):
    """Replace an event's quantities."""

    quantities: Quantities
