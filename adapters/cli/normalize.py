"""``tallybook normalize``: show the leaf quantities that a saved provider response states."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from ledger.domain.errors import InvalidInput
from ledger.domain.money import text
from ledger.domain.responses import NormalizedCall, Normalizer

ParseSse = Callable[[str], list[dict[str, Any]]]
"""Turns the text of an event stream into its JSON events."""

_DECODER = msgspec.json.Decoder(float_hook=Decimal)
_ENCODER = msgspec.json.Encoder(decimal_format="number")
_SSE = re.compile(r"(?:data|event|id|retry)?:")


def command(*, normalizer: Normalizer, parse_sse: ParseSse) -> Callable[[str, str], None]:
    """Return the command's function, for the composition root to register with Typer.

    Args:
        normalizer: turns a decoded response into calls.
        parse_sse: reads Server-Sent Events.
    """

    def normalize(
        provider: Annotated[str, typer.Option(help="Provider whose response it is, e.g. openai.")],
        file: Annotated[
            str, typer.Argument(help="JSON, a JSON array, NDJSON or SSE text; - reads stdin.")
        ] = "-",
    ) -> None:
        """Print the calls and quantities that a provider response states, as JSON."""
        response = read_response(raw=_read(file), parse_sse=parse_sse)
        typer.echo(render(normalizer(provider=provider, response=response)))

    return normalize


def read_response(*, raw: bytes, parse_sse: ParseSse) -> dict[str, Any] | list[Any]:
    """Return a saved response: one JSON object, or the list of a stream's events.

    Args:
        raw: UTF-8 text: a JSON object, a JSON array, NDJSON (one event a line) or SSE.
        parse_sse: reads Server-Sent Events.

    Raises:
        InvalidInput: ``invalid_json`` if it is none of these, with the line; ``invalid_sse``.
    """
    try:
        content = raw.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"the response is not UTF-8 from byte {error.start} on", code="invalid_json"
        ) from None
    if _SSE.match(content):
        return parse_sse(content)
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


def render(calls: Sequence[NormalizedCall]) -> str:
    """Return the calls as indented JSON; quantities are canonical decimal strings."""
    shown = []
    for call in calls:
        fields = msgspec.structs.asdict(call)
        fields["quantities"] = {
            name: text(quantity) for name, quantity in sorted(call.quantities.items())
        }
        shown.append({name: value for name, value in fields.items() if value is not None})
    encoded = _ENCODER.encode({"calls": shown})
    return msgspec.json.format(encoded, indent=2).decode()


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise InvalidInput(
            f"{file} cannot be read: {error.strerror}", code="unreadable_file"
        ) from None
