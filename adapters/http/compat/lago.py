"""Lago's events: a transaction of a subscription, with a code and free properties.

Sent by Lago's clients and by LiteLLM's callback ``lago``, whose properties have ``model``,
``response_cost``, ``prompt_tokens``, ``completion_tokens`` and ``total_tokens``; it makes up a new
``transaction_id`` for every post and names neither response nor time (LiteLLM 1.110,
``litellm/integrations/lago.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from adapters.http.compat.members import Key, command, instant, name_of, number, text_of
from ledger.domain.errors import InvalidInput
from ledger.domain.periods import from_us
from ledger.domain.usage import RecordUsage

SOURCE = "lago"
"""Source of all of them: a transaction is unique in a tenant's ledger."""
MAX_EVENTS = 10_000
"""Most events of a batch; Lago itself takes 100."""
REPEATED = "value_already_exist"
"""Lago's code for a transaction that is there already."""
_FIELDS = {
    "/id": "transaction_id",
    "/subject": "external_subscription_id",
    "/transaction_id": "transaction_id",
    "/external_subscription_id": "external_subscription_id",
    "/code": "code",
    "/timestamp": "timestamp",
    "/time": "timestamp",
}
_MICROSECONDS = 1_000_000


def usage_of(event: Mapping[str, Any], *, tenant: str | None, provider: str) -> RecordUsage:
    """Return the command that records one event.

    Args:
        event: decoded, without the ``event`` around it.
        tenant: whose it is; the subscription is then a user of that tenant. None takes the
            subscription for the tenant.
        provider: that the address says; "" if it says none.

    Raises:
        InvalidInput: pointers are into the event.
    """
    transaction = name_of(event.get("transaction_id"), pointer="/transaction_id")
    subscription = name_of(
        event.get("external_subscription_id"), pointer="/external_subscription_id"
    )
    code = name_of(event.get("code"), pointer="/code")
    members = event.get("properties")
    if members is None:
        members = {}
    if not isinstance(members, dict):
        raise InvalidInput("properties must be an object", code="invalid_properties")
    return command(
        members,
        Key(
            tenant or subscription,
            SOURCE,
            key_of(transaction, code, members),
            _timestamp(event.get("timestamp")),
        ),
        provider=provider,
        user="" if tenant is None else subscription,
        request_id=text_of(members, "response_id"),
        labels={"code": code},
    )


def key_of(transaction: str, code: str, members: Mapping[str, Any]) -> str:
    """Return what identifies an event: the response it is about where it says so.

    A sender that makes up a transaction for every post would count a response that it posts twice
    twice. Code and type stay part of the key, because some report input and output apart.
    """
    response = text_of(members, "response_id")
    if not response:
        return transaction
    kind = members.get("type")
    parts = (response, code, kind if isinstance(kind, str) else "")
    return "/".join(part for part in parts if part)


def _timestamp(value: object) -> int | None:
    """Return seconds since the epoch, a number or its text, as microseconds."""
    if value is None:
        return None
    try:
        seconds = number(value, "timestamp")
    except InvalidInput:
        raise InvalidInput(
            "the timestamp is not seconds since 1970", code="invalid_time", pointer="/timestamp"
        ) from None
    return instant(int(Decimal(seconds) * _MICROSECONDS), pointer="/timestamp")


def echo(event: Mapping[str, Any], usage: RecordUsage, *, now: datetime) -> dict[str, Any]:
    """Return an event as Lago answers it.

    Args:
        event: as it was sent.
        usage: what it became.
        now: stands for the time of an event that gave none.
    """
    at = usage.event.occurred_at
    return {
        "lago_id": str(UUID(bytes=usage.key)),
        "transaction_id": event["transaction_id"],
        "lago_customer_id": None,
        "lago_subscription_id": None,
        "external_subscription_id": event["external_subscription_id"],
        "code": event["code"],
        "timestamp": _iso(now if at is None else from_us(at)),
        "precise_total_amount_cents": event.get("precise_total_amount_cents"),
        "properties": event.get("properties") or {},
        "created_at": _iso(now),
    }


def details(code: str, pointer: str) -> dict[str, list[str]]:
    """Return what is wrong with an event as Lago says it: codes by field.

    Args:
        code: ours.
        pointer: into the event.
    """
    field = _FIELDS.get(pointer, "properties")
    if code.startswith("missing_"):
        return {field: ["value_is_mandatory"]}
    if code == "invalid_time":
        return {"timestamp": ["invalid_format"]}
    return {field: [code]}


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
