"""Lago's Python client: one event and a batch, each sent twice; then one that cannot be read."""

from __future__ import annotations

import json
import sys

from lago_python_client import Client
from lago_python_client.exceptions import LagoApiError
from lago_python_client.models import BatchEvent, Event

BASE, TOKEN = sys.argv[1:]
client = Client(api_key=TOKEN, api_url=f"{BASE}/compat/lago/")
errors = []


def event(id: str, **properties: object) -> Event:
    """Return an event."""
    return Event(
        transaction_id=id,
        external_subscription_id="sub-1",
        code="tokens",
        timestamp=1793613600,
        properties=properties or {"model": "gpt-4o", "prompt_tokens": "7", "completion_tokens": 5},
    )


def attempt(call, *arguments):
    """Return a call's answer; keep its error."""
    try:
        return call(*arguments)
    except LagoApiError as error:
        errors.append([error.status_code, error.response])
        return None


first = attempt(client.events.create, event("t-1"))
attempt(client.events.create, event("t-1"))
batch = BatchEvent(events=[event("t-2"), event("t-3")])
attempt(client.events.batch_create, batch)
attempt(client.events.batch_create, batch)
attempt(client.events.create, event("t-4", color="blue"))
answer = {"first": first.dict(), "errors": errors}
sys.stdout.write(json.dumps(answer, default=str) + "\n")
