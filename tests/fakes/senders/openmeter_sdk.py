"""OpenMeter's SDK: one event, a batch, JSON, each sent twice; then an event that says nothing."""

from __future__ import annotations

import datetime
import json
import sys

from corehttp.exceptions import HttpResponseError
from openmeter import Client
from openmeter.models import Event

BASE, TOKEN = sys.argv[1:]


def event(id: str, **data: object) -> Event:
    """Return an event as the SDK's README makes them."""
    return Event(
        id=id,
        source="my-app",
        specversion="1.0",
        type="prompt",
        subject="customer-1",
        time=datetime.datetime(2026, 11, 2, 10, tzinfo=datetime.UTC),
        data=data or {"tokens": 100, "model": "gpt-4o", "type": "input"},
    )


client = Client(endpoint=f"{BASE}/compat/openmeter", token=TOKEN)
for _ in range(2):
    client.events.ingest_event(event("one"))
    client.events.ingest_events([event("two"), event("three")])
    client.events.ingest_events_json(event("four"))
try:
    client.events.ingest_event(event("bad", route="/hello"))
except HttpResponseError as error:
    refused = [error.status_code, error.model.as_dict() if error.model else None]
sys.stdout.write(json.dumps({"refused": refused}) + "\n")
