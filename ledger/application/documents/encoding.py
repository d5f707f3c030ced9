"""How documents become JSON: one line, decimals as canonical text."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from ledger.domain.money import text

_ENCODER = msgspec.json.Encoder(decimal_format="string")
_NUMBERS = msgspec.json.Encoder(decimal_format="number")


def to_json(value: Any) -> bytes:
    """Return a value as one line of JSON in UTF-8; decimals are text without exponent.

    A value without a `Decimal`, as the documents of this package are, is not walked in Python.
    """
    made = _ENCODER.encode(value)
    # msgspec writes a Decimal itself, as `str` does, and calls no hook. The two encoders differ
    # exactly where there is one, and running both costs far less than looking for it.
    if made == _NUMBERS.encode(value):
        return made
    return _ENCODER.encode(to_plain(value))


def plain_json(value: Any) -> bytes:
    """Return a value that holds no `Decimal` as one line of JSON in UTF-8; the fastest way."""
    return _ENCODER.encode(value)


def as_json(value: Any) -> str:
    """Return a value as one line of JSON; decimals are text without exponent."""
    return to_json(value).decode()


def to_plain(value: Any) -> Any:
    """Return a value as dicts, lists, text, numbers, booleans and None; decimals as text."""
    return _texts(msgspec.to_builtins(value, builtin_types=(Decimal,), str_keys=True))


def _texts(value: Any) -> Any:
    if isinstance(value, Decimal):
        return text(value)
    if isinstance(value, dict):
        return {name: _texts(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_texts(member) for member in value]
    return value
