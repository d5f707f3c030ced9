"""Read Server-Sent Events (WHATWG HTML, "9.2 Server-sent events") into JSON events."""

from __future__ import annotations

import re
from contextlib import suppress
from decimal import Decimal
from typing import Any

import msgspec

from ledger.domain.errors import InvalidInput

_DECODER = msgspec.json.Decoder(float_hook=Decimal)
_LINE_END = re.compile(r"\r\n|\n|\r")


def parse_sse(text: str | bytes) -> list[dict[str, Any]]:
    """Return the JSON objects of an event stream, in order, numbers as int or `Decimal`.

    Comments, ``id``, ``retry`` and ``event`` lines are passed over, as is the ``[DONE]`` mark;
    several ``data`` lines of one event are joined by line feeds. The last event may lack its
    blank line; if it was cut off in the middle it is left out, as the standard says.

    Raises:
        InvalidInput: ``invalid_sse`` for data that is not a JSON object or text that is not
            UTF-8; ``pointer`` is the index of the event among the events returned.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidInput(
                f"the event stream is not UTF-8 from byte {error.start} on", code="invalid_sse"
            ) from None
    events: list[dict[str, Any]] = []
    data: list[str] = []
    for line in _LINE_END.split(text.removeprefix("\ufeff")):
        if not line:
            _finish(data, events)
            data = []
        elif line.startswith("data"):
            name, _, value = line.partition(":")
            if name == "data":
                data.append(value.removeprefix(" "))
    # Without its blank line the last event may be incomplete: the standard discards it.
    with suppress(InvalidInput):
        _finish(data, events)
    return events


def _finish(data: list[str], events: list[dict[str, Any]]) -> None:
    joined = "\n".join(data).strip()
    if not joined or joined == "[DONE]":
        return
    try:
        event = _DECODER.decode(joined)
    except msgspec.DecodeError as error:
        raise InvalidInput(
            f"event {len(events)} of the stream is not JSON: {error}",
            code="invalid_sse",
            pointer=f"/{len(events)}",
        ) from None
    if not isinstance(event, dict):
        raise InvalidInput(
            f"event {len(events)} of the stream is not a JSON object",
            code="invalid_sse",
            pointer=f"/{len(events)}",
        )
    events.append(event)
