"""Frames of streams: good ones, bad ones, and those of the specification."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

Frame = dict[str, Any]

SPEC = (Path(__file__).resolve().parents[2] / "docs" / "spec" / "stream.md").read_text("utf-8")
CALL = {"provider": "openai", "model": "gpt-4o", "amount": "0.25"}
SEGMENT = {"type": "voice.segment", "direction": "in", "provider": "deepgram", "model": "nova-3"}

BAD: list[tuple[Frame, str, str]] = [
    ({"type": "usage", "hold": "h-9", "quantities": {"images": 1}}, "hold_not_found", ""),
    ({"type": "usage", "quantities": {"images": 1}, "provider": "x"}, "invalid_call", "/call"),
    (
        {"type": "usage", "call": "c", "provider": "x", "quantities": {"images": "-1"}},
        "invalid_quantities",
        "/quantities/images",
    ),
    (
        {"type": "usage", "call": "c", "provider": "\u0007", "quantities": {"images": 1}},
        "invalid_text",
        "/provider",
    ),
    ({**SEGMENT, "ms": -1}, "invalid_ms", "/ms"),
    ({**SEGMENT, "ms": 1, "direction": "up"}, "invalid_direction", "/direction"),
    ({**SEGMENT, "ms": 1, "color": "red"}, "unknown_member", "/color"),
    ({**SEGMENT, "ms": 1, "time": "1999-01-01T00:00:00Z"}, "invalid_time", "/time"),
    ({"type": "tool.ended", "tool": "t"}, "invalid_provider", "/provider"),
    ({"type": "hold.authorize", "amount": "x"}, "invalid_amount", "/amount"),
    ({"type": "hold.authorize", "amount": "1", "session": "s-9"}, "invalid_session", "/session"),
    ({"type": "hold.authorize", "amount": "1", "tenant": "globex"}, "invalid_tenant", "/tenant"),
    ({"type": "hold.capture", "quantities": {"images": 1}}, "invalid_hold", "/hold"),
    ({"type": "hold.burn", "hold": "h"}, "invalid_type", "/type"),
    ({"type": 7}, "invalid_type", "/type"),
    ({"type": "end", "now": True}, "unknown_member", "/now"),
]
"""Frames without envelope, each with code and pointer of the error that it is answered with."""


def exchanges() -> list[tuple[str, Frame]]:
    """Return the frames of the examples, each with who sends it."""
    return [
        (line[0], json.loads(line[2:]))
        for block in re.findall(r"```jsonl\n(.*?)```", SPEC, re.DOTALL)
        for line in block.splitlines()
    ]
