"""Documents about usage events; docs/spec/metering.md says what they mean."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from adapters.http.models.common import Answered, Name, Quantities, Request, Text, Time

Receipt = Annotated[
    str, Field(pattern=r"^[0-9]+\.[0-9]+$", description="Commit and place.", examples=["12.0"])
]


class CloudEvent(BaseModel):
    """What every CloudEvent has; extension attributes are ignored."""

    model_config = ConfigDict(extra="allow")

    specversion: Literal["1.0"]
    id: Annotated[Name, Field(description="With `source` the idempotency key, for ever.")]
    source: Name
    subject: Annotated[
        Name | None, Field(description="The tenant; may be left out with a key of a tenant.")
    ] = None
    time: Annotated[Time | None, Field(description="When it happened.")] = None


class UsageData(Request):
    """What was used."""

    provider: Name
    quantities: Quantities
    model: Text = ""
    tier: Text = ""
    region: Text = ""
    batch: bool = False
    provider_account: Text = ""
    outcome: Literal["ok", "error", "aborted"] = "ok"
    attempt: Annotated[int, Field(ge=1, le=1000)] = 1
    billable: Literal["tenant", "platform"] = "tenant"
    byok: bool = False
    user: Text = ""
    project: Text = ""
    session: Text = ""
    conversation: Text = ""
    api_key: Text = ""
    plugin: Text = ""
    request_id: Text = ""
    hold: Text = ""
    labels: Annotated[dict[Name, Text], Field(max_length=20)] = {}
    raw: Any = None


class VoidData(Request):
    """Which event is taken back, and why."""

    id: Name
    source: Text = ""
    reason: Text = ""


class AdjustData(Request):
    """Which event has other quantities from now on, and why."""

    id: Name
    quantities: Quantities
    source: Text = ""
    reason: Text = ""


class UsageCloudEvent(CloudEvent):
    """Usage of one call."""

    type: Literal["tallybook.usage.v2"]
    data: UsageData


class VoidCloudEvent(CloudEvent):
    """Takes an event back."""

    type: Literal["tallybook.usage.void.v2"]
    data: VoidData


class AdjustCloudEvent(CloudEvent):
    """Replaces the quantities of an event."""

    type: Literal["tallybook.usage.adjust.v2"]
    data: AdjustData


class RecordedDocument(Answered):
    """An item that is in the ledger."""

    status: Literal["accepted", "duplicate"]
    receipt: Receipt
    flags: list[str]


class UnrecordedDocument(Answered):
    """An item that changed nothing, and why."""

    status: Literal["conflict", "rejected"]
    code: str
    detail: str
    pointer: str | None = None
    receipt: Receipt | None = None


class BatchDocument(Answered):
    """How many items came to which status, and the items in the order in which they were sent."""

    accepted: int
    duplicate: int
    conflict: int
    rejected: int
    items: list[RecordedDocument | UnrecordedDocument]
