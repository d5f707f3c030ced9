"""LiteLLM with its own callbacks ``openmeter`` and ``lago``: mocked calls, every post repeated.

The address and the token are the callbacks' environment variables. Each post goes out twice, as
from a network that repeats; then OpenMeter's callback runs once more for a response it has posted.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

BASE, TOKEN = sys.argv[1:]
os.environ.update(
    LITELLM_LOCAL_MODEL_COST_MAP="True",
    OPENMETER_API_ENDPOINT=f"{BASE}/compat/openmeter",
    OPENMETER_API_KEY=TOKEN,
    LAGO_API_BASE=f"{BASE}/compat/lago/",
    LAGO_API_KEY=TOKEN,
    LAGO_API_EVENT_CODE="llm_tokens",
    LAGO_API_CHARGE_BY="user_id",
)

import httpx  # noqa: E402 - the environment comes first
import litellm  # noqa: E402
from litellm.integrations.custom_logger import CustomLogger  # noqa: E402
from litellm.integrations.openmeter import OpenMeterLogger  # noqa: E402

SENT: list[tuple[str, int]] = []
CALLS: list[tuple[object, object]] = []


def twice() -> None:
    """Send every request twice and keep both answers' statuses."""
    send, sending = httpx.Client.send, httpx.AsyncClient.send

    def send_twice(self, request, **more):
        first = send(self, request, **more)
        again = send(self, request, **more)
        SENT.extend((request.url.path, one.status_code) for one in (first, again))
        return first

    async def sending_twice(self, request, **more):
        first = await sending(self, request, **more)
        again = await sending(self, request, **more)
        SENT.extend((request.url.path, one.status_code) for one in (first, again))
        return first

    httpx.Client.send, httpx.AsyncClient.send = send_twice, sending_twice


class Keeping(CustomLogger):
    """Keeps what callbacks get."""

    def log_success_event(self, kwargs, response_obj, start_time, end_time):
        """Keep a call."""
        CALLS.append((kwargs, response_obj))


def until(count: int) -> None:
    """Wait until so many requests were answered; LiteLLM posts on threads of its own."""
    for _ in range(600):
        if len(SENT) >= count:
            return
        time.sleep(0.1)
    raise SystemExit(f"only {SENT} were sent")


def forget() -> None:
    """Take all callbacks back; LiteLLM keeps them in several lists."""
    litellm.logging_callback_manager._reset_all_callbacks()


def main() -> None:
    """Make a call for each callback, then repeat one callback."""
    twice()
    call = {
        "messages": [{"role": "user", "content": "hi"}],
        "mock_response": "hello",
        "user": "acme",
        "metadata": {"user_api_key_user_id": "acme"},
    }
    litellm.success_callback = ["openmeter"]

    async def asked() -> str:
        response = await litellm.acompletion(model="gpt-4o-mini", **call)
        await asyncio.to_thread(until, 2)
        return response.id

    later = asyncio.run(asked())
    forget()
    litellm.success_callback = ["lago"]
    billed = litellm.completion(model="anthropic/claude-sonnet-4-20250514", **call)
    until(4)
    forget()
    litellm.callbacks = ["openmeter", Keeping()]
    metered = litellm.completion(model="gpt-4o", **call)
    until(6)
    kwargs, response = CALLS[0]
    OpenMeterLogger().log_success_event(kwargs, response, None, None)
    until(8)
    sys.stdout.write(json.dumps({"ids": [metered.id, billed.id, later], "sent": SENT}) + "\n")


main()
