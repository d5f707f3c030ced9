"""OpenMeter's events: CloudEvents whose subject is who used something and whose data is free.

Sent by OpenMeter's SDKs and by LiteLLM's callback ``openmeter``, whose source is `LITELLM`, whose
id is the provider's id of the response, and whose data has ``model``, ``cost``, ``prompt_tokens``,
``completion_tokens`` and ``total_tokens`` (LiteLLM 1.110, ``litellm/integrations/openmeter.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapters.http.compat.members import Key, command, name_of, read_time
from ledger.domain.errors import InvalidInput
from ledger.domain.usage import RecordUsage

LITELLM = "litellm-proxy"
"""Source of LiteLLM's events."""


def usage_of(event: Mapping[str, Any], *, tenant: str | None, provider: str) -> RecordUsage:
    """Return the command that records one event.

    Args:
        event: decoded.
        tenant: whose it is; the subject is then a user of that tenant. None takes the subject for
            the tenant.
        provider: that the address says; "" if it says none.

    Raises:
        InvalidInput: pointers are into the event.
    """
    if event.get("specversion") != "1.0":
        raise InvalidInput(
            "specversion must be 1.0", code="invalid_specversion", pointer="/specversion"
        )
    subject = name_of(event.get("subject"), pointer="/subject")
    source = name_of(event.get("source"), pointer="/source")
    id = name_of(event.get("id"), pointer="/id")
    kind = name_of(event.get("type"), pointer="/type")
    members = event.get("data")
    if not isinstance(members, dict):
        raise InvalidInput("data must be an object", code="invalid_data", pointer="/data")
    return command(
        members,
        Key(tenant or subject, source, id, read_time(event.get("time"), pointer="/time")),
        provider=provider,
        user="" if tenant is None else subject,
        request_id=id if source == LITELLM else "",
        labels={"type": kind},
    )
