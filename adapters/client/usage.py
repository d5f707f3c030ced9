"""The usage event that a gateway makes: typed, with an id that stays the same in repetitions."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec

from ledger.domain.errors import InvalidInput

USAGE_TYPE = "tallybook.usage.v2"
Number = int | str | Decimal
_encode = msgspec.json.Encoder(decimal_format="string").encode


def new_id() -> str:
    """Return an id that nobody else makes."""
    return uuid.uuid4().hex


def _now() -> datetime:
    return datetime.now(UTC)


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What one provider call, tool call or piece of audio used; see docs/spec/metering.md.

    Attributes:
        tenant: whose ledger; "" stands for the tenant of the key.
        source: the gateway.
        provider: as the response says.
        quantities: meter to number; whole numbers, `Decimal`s or plain decimal text, no floats.
        id: idempotency key within the source; made anew when left out, and then it must be kept
            with the event for as long as it may be sent again.
        occurred_at: when the call ended; now when left out.
        raw: the provider's usage object, kept as evidence.
    """

    source: str
    provider: str
    quantities: Mapping[str, Number]
    tenant: str = ""
    id: str = msgspec.field(default_factory=new_id)
    occurred_at: datetime = msgspec.field(default_factory=_now)
    model: str = ""
    tier: str = ""
    region: str = ""
    batch: bool = False
    provider_account: str = ""
    request_id: str = ""
    attempt: int = 1
    outcome: Literal["ok", "error", "aborted"] = "ok"
    user: str = ""
    project: str = ""
    session: str = ""
    conversation: str = ""
    api_key: str = ""
    plugin: str = ""
    labels: Mapping[str, str] = {}
    byok: bool = False
    billable: Literal["tenant", "platform"] = "tenant"
    hold: str = ""
    raw: Any = None

    def wire(self) -> bytes:
        """Return the event as a CloudEvent in JSON, the same bytes each time.

        Raises:
            InvalidInput: ``invalid_quantity`` for a float, ``invalid_time`` without an offset.
        """
        for meter, number in self.quantities.items():
            if isinstance(number, bool) or not isinstance(number, int | str | Decimal):
                raise InvalidInput(
                    f"{meter} is a {type(number).__name__}; give an int, a Decimal or text",
                    code="invalid_quantity",
                    pointer=f"/data/quantities/{meter}",
                )
        if self.occurred_at.tzinfo is None:
            raise InvalidInput(
                "occurred_at needs an offset from UTC", code="invalid_time", pointer="/time"
            )
        quantities = {meter: str(number) for meter, number in self.quantities.items()}
        data: dict[str, Any] = {"provider": self.provider, "quantities": quantities}
        for name in _DATA:
            value = getattr(self, name)
            if value != _DEFAULTS[name]:
                data[name] = value
        event = {
            "specversion": "1.0",
            "type": USAGE_TYPE,
            "id": self.id,
            "source": self.source,
            "time": self.occurred_at.isoformat(),
            "data": data,
        }
        if self.tenant:
            event["subject"] = self.tenant
        return _encode(event)


_DEFAULTS: dict[str, Any] = {
    field.name: field.default
    for field in msgspec.structs.fields(Usage)
    if field.default is not msgspec.NODEFAULT
} | {"labels": {}}
_DATA = tuple(name for name in _DEFAULTS if name != "tenant")
