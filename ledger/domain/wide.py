"""Integers beyond 64 bits in MessagePack, which has none: an extension of our own."""

from __future__ import annotations

from typing import Any

import msgspec

from ledger.domain.errors import InvariantViolation

_WIDE = 1
"""MessagePack extension of integers beyond 64 bits: big-endian two's complement."""


def widened(value: Any) -> Any:
    """Return a plain value with integers beyond 64 bits as extensions."""
    if isinstance(value, list | tuple):
        return [widened(part) for part in value]
    if isinstance(value, dict):
        return {name: widened(part) for name, part in value.items()}
    if type(value) is int and not -(2**63) <= value < 2**64:
        size = value.bit_length() // 8 + 1
        return msgspec.msgpack.Ext(_WIDE, value.to_bytes(size, "big", signed=True))
    return value


def narrowed(code: int, data: memoryview) -> int:
    """Return the integer of an extension."""
    if code != _WIDE:
        raise InvariantViolation(f"a stored commit holds the unknown extension {code}")
    return int.from_bytes(data, "big", signed=True)
