"""The CloudEvents SDK: structured, binary and a batch, each sent twice."""

from __future__ import annotations

import json
import sys

import httpx
from cloudevents.conversion import to_binary, to_dict, to_structured
from cloudevents.http import CloudEvent

BASE, TOKEN = sys.argv[1:]
AUTHORIZATION = {"Authorization": f"Bearer {TOKEN}"}


def event(id: str) -> CloudEvent:
    """Return a usage event."""
    attributes = {
        "id": id,
        "type": "tallybook.usage.v2",
        "source": "https://gateway.example/eu 1",
        "subject": "acme",
        "time": "2026-11-02T10:00:00+00:00",
    }
    data = {"provider": "openai", "model": "gpt-4o", "quantities": {"tokens.input": 7}}
    return CloudEvent(attributes, data)


answers = []
requests = [
    to_structured(event("structured")),
    to_binary(event("binary")),
    (
        {"Content-Type": "application/cloudevents-batch+json"},
        json.dumps([to_dict(event("b-1")), to_dict(event("b-2"))]).encode(),
    ),
]
for headers, body in requests * 2:
    answer = httpx.post(f"{BASE}/v2/events", headers={**headers, **AUTHORIZATION}, content=body)
    answers.append([answer.status_code, answer.json()])
sys.stdout.write(json.dumps(answers) + "\n")
