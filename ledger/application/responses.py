"""Saved provider responses: from their text to the calls that they bill; nothing is stored."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from ledger.domain.errors import InvalidInput
from ledger.domain.responses import NormalizedCall, Normalizer

AUTO = "auto"
"""Name that leaves the provider to what the response looks like."""
Response = Mapping[str, Any] | Sequence[Any]
Detect = Callable[[Response], str | None]
"""Names the provider whose rules fit a response; None where that cannot be told."""
ParseSse = Callable[[str], list[dict[str, Any]]]
"""Turns the text of an event stream into its JSON events."""

_DECODER = msgspec.json.Decoder(float_hook=Decimal)
_SSE = re.compile(r"(?:data|event|id|retry)?:")


class Responses(msgspec.Struct, frozen=True):
    """Reads responses, with what knows the providers.

    Attributes:
        normalizer: turns a decoded response into calls.
        detect: tells whose response one is.
        parse_sse: reads Server-Sent Events.
    """

    normalizer: Normalizer
    detect: Detect
    parse_sse: ParseSse

    def calls(self, raw: bytes, *, provider: str = AUTO) -> Sequence[NormalizedCall]:
        """Return the calls that a response bills.

        Args:
            raw: the response, as `read_response` takes it.
            provider: whose it is; `AUTO` tells it by what it looks like.

        Raises:
            InvalidInput: it cannot be read, or fits no rule of that provider; ``pointer`` is into
                the response.
        """
        try:
            response = read_response(raw=raw, parse_sse=self.parse_sse)
            name = self.detect(response) if provider == AUTO else provider
            if name is None:
                raise InvalidInput(
                    "whose response this is cannot be told from it; name the provider",
                    code="unknown_provider",
                )
            return self.normalizer(provider=name, response=response)
        except RecursionError:
            raise InvalidInput("the JSON is nested too deeply", code="nested_too_deep") from None
        except ArithmeticError:
            raise InvalidInput(
                "a number of the response cannot be read", code="invalid_number"
            ) from None


def read_response(*, raw: bytes, parse_sse: ParseSse) -> dict[str, Any] | list[Any]:
    """Return a saved response: one JSON object, or the list of a stream's events.

    Args:
        raw: UTF-8 text: a JSON object, a JSON array, NDJSON (one event a line) or SSE.
        parse_sse: reads Server-Sent Events.

    Raises:
        InvalidInput: ``invalid_json`` if it is none of these, with the line; ``invalid_sse``.
    """
    try:
        content = raw.decode("utf-8-sig").lstrip()
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"the response is not UTF-8 from byte {error.start} on", code="invalid_json"
        ) from None
    if _SSE.match(content):
        # With its last blank line: without it the last event may have been cut off.
        return parse_sse(content)
    content = content.rstrip()
    try:
        value = _DECODER.decode(content)
    except msgspec.DecodeError as error:
        lines = [line for line in content.splitlines() if line.strip()]
        if len(lines) < 2:
            raise InvalidInput(f"the response is not JSON: {error}", code="invalid_json") from None
        return [_line(number, line) for number, line in enumerate(lines, start=1)]
    if not isinstance(value, dict | list):
        raise InvalidInput("the response is not a JSON object or array", code="invalid_json")
    return value


def _line(number: int, line: str) -> Any:
    try:
        return _DECODER.decode(line)
    except msgspec.DecodeError as error:
        raise InvalidInput(f"line {number} is not JSON: {error}", code="invalid_json") from None
