"""Bodies of other formats: their events decoded, and mapped one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from ledger.application.ingest import INLINE_BYTES
from ledger.application.intake import MAX_EVENT_BYTES
from ledger.application.splitting import Form, split
from ledger.domain.errors import InvalidInput, Problem
from ledger.domain.usage import RecordUsage

Mapper = Callable[[Mapping[str, Any]], RecordUsage]
Mapped = RecordUsage | Problem

_tree = msgspec.json.Decoder(float_hook=Decimal).decode


async def read_items(body: bytes, form: Form | None, mapper: Mapper) -> list[Mapped]:
    """Return what each item of a body becomes; large bodies are read on a thread.

    Args:
        body: as it was sent.
        form: how its items stand; None where it is one item.
        mapper: turns a decoded item into a command.

    Raises:
        InvalidInput: ``invalid_body``, ``too_many_items``.
    """

    def read() -> list[Mapped]:
        return [map_item(item, mapper) for item in ([body] if form is None else split(body, form))]

    return read() if len(body) <= INLINE_BYTES else await asyncio.to_thread(read)


async def map_items(items: Sequence[object], mapper: Mapper, *, size: int) -> list[Mapped]:
    """Do as `read_items` with items that are decoded; ``size`` is that of their body in bytes."""

    def read() -> list[Mapped]:
        return [_mapped(item, mapper) for item in items]

    return read() if size <= INLINE_BYTES else await asyncio.to_thread(read)


def map_item(item: bytes | msgspec.Raw, mapper: Mapper) -> Mapped:
    """Return what one item becomes, or what is wrong with it."""
    try:
        document = decode(item)
    except InvalidInput as error:
        return Problem.of(error)
    return _mapped(document, mapper)


def _mapped(document: object, mapper: Mapper) -> Mapped:
    if not isinstance(document, dict):
        return Problem("invalid_event", "the event is not a JSON object")
    try:
        return mapper(document)
    except InvalidInput as error:
        return Problem.of(error)


def decode(text: bytes | msgspec.Raw) -> Any:
    """Return a text as JSON; decimals are exact.

    Raises:
        InvalidInput: ``malformed_json``, ``invalid_utf8``, ``nested_too_deep``,
            ``event_too_large``.
    """
    body = bytes(text)
    if len(body) > MAX_EVENT_BYTES:
        raise InvalidInput(
            f"the event has more than {MAX_EVENT_BYTES} bytes", code="event_too_large"
        )
    return decode_all(body)


def decode_all(body: bytes) -> Any:
    """Do as `decode`, whatever the size.

    Raises:
        InvalidInput: as `decode`, but ``event_too_large``.
    """
    try:
        return _tree(body)
    except RecursionError:
        raise InvalidInput("the JSON is nested too deeply", code="nested_too_deep") from None
    except UnicodeDecodeError:
        raise InvalidInput("the text is not UTF-8", code="invalid_utf8") from None
    except (msgspec.MsgspecError, ArithmeticError) as error:
        raise InvalidInput(f"the text is not JSON: {error}", code="malformed_json") from None
