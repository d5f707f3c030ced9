"""A callback for LiteLLM: every call becomes one usage event with full attribution.

    import litellm
    from adapters.client.litellm import TallybookLogger

    litellm.callbacks = [TallybookLogger(client)]      # a `Client` with a spool

In a LiteLLM proxy, name an instance of it under ``litellm_settings: callbacks``. LiteLLM's totals
are inclusive of their parts; the quantities here are disjoint, as docs/spec/metering.md wants them.
What LiteLLM computes as cost is evidence in ``raw`` and never becomes an amount. An answer out of
LiteLLM's cache makes no event: no provider was called.

Source of the payload's form: ``StandardLoggingPayload`` and ``Usage`` in LiteLLM's
``litellm/types/utils.py``, version 1.110.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from adapters.client.blocking import Client
from adapters.client.usage import Usage
from ledger.domain.errors import LedgerError
from ledger.domain.provider_names import from_litellm

SOURCE = "litellm"
Payload = Mapping[str, Any]
_LABELS = {
    "team": "user_api_key_team_alias",
    "team_id": "user_api_key_team_id",
    "organization": "user_api_key_org_id",
}
_MAX_TEXT = 256

_log = logging.getLogger(__name__)


def tenant_of(payload: Payload) -> str:
    """Return whose usage a call is: the organization of its key, else the team."""
    metadata = payload.get("metadata") or {}
    found = metadata.get("user_api_key_org_id") or metadata.get("user_api_key_team_id")
    return str(found or "")


class TallybookLogger(CustomLogger):
    """Records LiteLLM's calls through a client.

    Args:
        client: with a spool, so that a call is never slowed down or lost by an outage; without one
            an event is sent at once, and one that cannot be is logged and lost.
        tenant: whose usage a call is, by its payload; "" stands for the tenant of the key.
        source: of the events; one for all processes of a gateway.
    """

    def __init__(
        self,
        client: Client,
        *,
        tenant: Callable[[Payload], str] = tenant_of,
        source: str = SOURCE,
    ) -> None:
        super().__init__()
        self._client = client
        self._tenant = tenant
        self._source = source

    def log_success_event(
        self, kwargs: Mapping[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Record a call that was answered."""
        del response_obj, start_time, end_time
        self._record(kwargs)

    def log_failure_event(
        self, kwargs: Mapping[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Record a call that failed, where it used something."""
        del response_obj, start_time, end_time
        self._record(kwargs)

    async def async_log_success_event(
        self, kwargs: Mapping[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Record a call that was answered."""
        del response_obj, start_time, end_time
        await asyncio.to_thread(self._record, kwargs)

    async def async_log_failure_event(
        self, kwargs: Mapping[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Record a call that failed, where it used something."""
        del response_obj, start_time, end_time
        await asyncio.to_thread(self._record, kwargs)

    def _record(self, kwargs: Mapping[str, Any]) -> None:
        payload = kwargs.get("standard_logging_object")
        if not isinstance(payload, Mapping):
            _log.error("LiteLLM gave a call without its standard payload; it is not recorded")
            return
        usage = usage_of(payload, tenant=self._tenant(payload), source=self._source)
        if usage is None:
            return
        try:
            if self._client.spool is not None:
                self._client.enqueue(usage)
                return
            [item] = self._client.record(usage)
        except LedgerError as error:
            _log.error("call %s is not recorded: [%s] %s", usage.id, error.code, error.message)
            return
        if item.status not in ("accepted", "duplicate"):
            _log.error("call %s is not recorded: [%s] %s", usage.id, item.code, item.detail)


def usage_of(payload: Payload, *, tenant: str, source: str = SOURCE) -> Usage | None:
    """Return the usage event of a call; None where no provider was called or nothing was used.

    Args:
        payload: LiteLLM's standard logging payload.
        tenant: whose usage.
        source: of the event.
    """
    if payload.get("cache_hit"):
        return None
    response = payload.get("response")
    given = response.get("usage") if isinstance(response, Mapping) else None
    usage: Mapping[str, Any] = given if isinstance(given, Mapping) else payload
    quantities = quantities_of(usage)
    ok = payload.get("status") == "success"
    if not ok and not any(quantities.values()):
        return None
    metadata = payload.get("metadata") or {}
    model = response.get("model") if isinstance(response, Mapping) else None
    labels = {name: metadata.get(member) for name, member in _LABELS.items()}
    return Usage(
        tenant=tenant,
        source=source,
        # LiteLLM's id of the attempt; the provider's id of the response is the request id.
        id=str(payload.get("litellm_call_id") or payload["id"]),
        occurred_at=datetime.fromtimestamp(float(payload["endTime"]), UTC),
        provider=from_litellm(str(payload.get("custom_llm_provider") or "unknown")),
        model=_bare(str(model or payload.get("model") or ""), payload),
        tier=_text(usage.get("service_tier") or _member(response, "service_tier")),
        request_id=_text(payload.get("id")),
        quantities=quantities,
        outcome="ok" if ok else "error",
        user=_text(
            payload.get("end_user")
            or metadata.get("user_api_key_end_user_id")
            or metadata.get("user_api_key_user_id")
        ),
        api_key=_text(metadata.get("user_api_key_alias") or metadata.get("user_api_key_hash")),
        project=_text(metadata.get("user_api_key_project_id")),
        session=_text(payload.get("session_id")),
        conversation=_text(payload.get("trace_id")),
        labels={name: _text(value) for name, value in labels.items() if value},
        raw=dict(given) if isinstance(given, Mapping) else None,
    )


def quantities_of(usage: Mapping[str, Any]) -> dict[str, int]:
    """Return disjoint quantities of a usage object in LiteLLM's form, whose totals are inclusive.

    A part is subtracted from its total no further than to 0: providers' cached and audio parts can
    overlap, and no joint figure is given.
    """
    prompt = usage.get("prompt_tokens_details") or {}
    written = prompt.get("cache_creation_token_details") or {}
    short, long = (_count(written, f"ephemeral_{name}_input_tokens") for name in ("5m", "1h"))
    creation = _count(prompt, "cache_write_tokens") or _count(usage, "cache_creation_input_tokens")
    parts = {
        "tokens.input.cache_read": _count(prompt, "cached_tokens")
        or _count(usage, "cache_read_input_tokens"),
        "tokens.input.cache_write": max(0, creation - short - long),
        "tokens.input.cache_write.5m": short,
        "tokens.input.cache_write.1h": long,
        "tokens.input.audio": _count(prompt, "audio_tokens"),
        "tokens.input.image": _count(prompt, "image_tokens"),
    }
    completion = usage.get("completion_tokens_details") or {}
    out_parts = {
        "tokens.output.reasoning": _count(completion, "reasoning_tokens"),
        "tokens.output.audio": _count(completion, "audio_tokens"),
        "tokens.output.image": _count(completion, "image_tokens"),
    }
    found = {
        "tokens.input": _rest(_count(usage, "prompt_tokens"), parts),
        **parts,
        "tokens.output": _rest(_count(usage, "completion_tokens"), out_parts),
        **out_parts,
    }
    server_tools = usage.get("server_tool_use") or {}
    found["search.web"] = _count(server_tools, "web_search_requests") or _count(
        prompt, "web_search_requests"
    )
    kept = {meter: count for meter, count in found.items() if count}
    # An explicit zero is a fact; of a call that used nothing it is the only one.
    return kept or {"tokens.input": 0, "tokens.output": 0}


def _rest(total: int, parts: Mapping[str, int]) -> int:
    return max(0, total - sum(parts.values()))


def _count(members: Mapping[str, Any], name: str) -> int:
    value = members.get(name)
    return value if isinstance(value, int) and value > 0 else 0


def _member(response: object, name: str) -> object:
    return response.get(name) if isinstance(response, Mapping) else None


def _text(value: object) -> str:
    return str(value)[:_MAX_TEXT] if value else ""


def _bare(model: str, payload: Payload) -> str:
    """Return a model's name without the provider that LiteLLM may write in front of it."""
    return model.removeprefix(f"{payload.get('custom_llm_provider')}/")
