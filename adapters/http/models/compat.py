"""Documents of other systems' senders; docs/spec/compat.md says how they are mapped."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from adapters.http.models.common import Answered, Name, Number, Request, Text
from adapters.http.models.events import CloudEvent


class OpenMeterEvent(CloudEvent):
    """A CloudEvent as OpenMeter's senders post it; `data` is free."""

    type: Name
    subject: Name
    time: Annotated[str | None, Field(description="RFC 3339; without an offset it is UTC.")] = None
    data: dict[str, Any]


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="allow")


class LagoEvent(_Lenient):
    """A Lago event."""

    transaction_id: Name
    external_subscription_id: Name
    code: Name
    timestamp: Annotated[
        int | float | str | None, Field(description="Seconds since 1970, a number or its text.")
    ] = None
    precise_total_amount_cents: Any = None
    properties: dict[str, Any] | None = None


class LagoEventRequest(_Lenient):
    """One Lago event."""

    event: LagoEvent


class LagoBatchRequest(_Lenient):
    """Many Lago events."""

    events: list[LagoEvent]


class LagoEventEcho(Answered):
    """A recorded event as Lago answers it."""

    lago_id: str
    transaction_id: str
    lago_customer_id: str | None
    lago_subscription_id: str | None
    external_subscription_id: str
    code: str
    timestamp: str
    precise_total_amount_cents: Any
    properties: dict[str, Any]
    created_at: str


class LagoEventDocument(Answered):
    """The answer to one event."""

    event: LagoEventEcho


class LagoBatchDocument(Answered):
    """The answer to many events."""

    events: list[LagoEventEcho]


class LagoErrorDocument(Answered):
    """An error in Lago's own form; of a batch the details are by place."""

    status: int
    error: str
    code: str | None = None
    error_details: dict[str, Any] | None = None


class UsageV1Record(Request):
    """One question, as version 1 of this API had it."""

    question_id: Name
    tenant: Name | None = None
    model: Text | None = None
    input_tokens: Number | None = None
    output_tokens: Number | None = None
    tool_calls: Number | None = None
    audio_seconds: Number | None = None
    at: str | None = None
