"""The calls that a provider's response bills, as a document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ledger.domain.money import text
from ledger.domain.responses import NormalizedCall

_encode = msgspec.json.Encoder(decimal_format="number").encode


def calls_document(calls: Sequence[NormalizedCall]) -> dict[str, Any]:
    """Return calls; quantities are canonical decimal text, what is None is left out."""
    shown = []
    for call in calls:
        fields = msgspec.structs.asdict(call)
        fields["quantities"] = {
            name: text(quantity) for name, quantity in sorted(call.quantities.items())
        }
        shown.append({name: value for name, value in fields.items() if value is not None})
    return {"calls": shown}


def calls_json(calls: Sequence[NormalizedCall]) -> bytes:
    """Return calls as JSON; numbers of the evidence are numbers, as the provider stated them."""
    return _encode(calls_document(calls))
