"""Parameters in PostgreSQL's binary form: column arrays, packed in one go, and numbers.

psycopg packs a list element by element, which at thousands of rows a batch costs more than the
insert itself. Format: src/backend/utils/adt/arrayfuncs.c, array_recv: dimensions, null flag,
element type, length and lower bound, then length-prefixed elements, all big-endian.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from struct import Struct, pack
from typing import ClassVar

from psycopg.abc import AdaptContext
from psycopg.adapt import Dumper
from psycopg.pq import Format

_HEADER = ">iiiii"
_EIGHT = array("I", pack(">I", 8))
"""The length of an ``int8`` in wire form."""
_length = Struct(">i").pack
_LENGTHS = tuple(_length(length) for length in range(4096))
"""Lengths of nearly all texts and byte strings, in wire form."""


class Packed:
    """A parameter that is in wire form already."""

    __slots__ = ("data",)
    oid: ClassVar[int]

    def __init__(self, data: bytes) -> None:
        self.data = data


class Int8(Packed):
    """``int8``."""

    oid = 20


class UuidArray(Packed):
    """``uuid[]``."""

    oid = 2951


class Int8Array(Packed):
    """``int8[]``."""

    oid = 1016


class Int4Array(Packed):
    """``int4[]``."""

    oid = 1007


class ByteaArray(Packed):
    """``bytea[]``."""

    oid = 1001


class TextArray(Packed):
    """``text[]``."""

    oid = 1009


def _head(element_oid: int, count: int) -> bytes:
    if not count:
        return pack(">iii", 0, 0, element_oid)
    return pack(_HEADER, 1, 0, element_oid, count, 1)


def int8(value: int) -> Int8:
    """Return an integer as ``int8``."""
    return Int8(pack(">q", value))


def uuids(values: Sequence[bytes]) -> UuidArray:
    """Return 16-byte digests as ``uuid[]``."""
    if not values:
        return UuidArray(_head(2950, 0))
    return UuidArray(_head(2950, len(values)) + b"\0\0\0\x10" + b"\0\0\0\x10".join(values))


def int8s(values: Sequence[int]) -> Int8Array:
    """Return integers as ``int8[]``."""
    packed = array("q", values)
    if sys.byteorder == "little":
        packed.byteswap()
    halves = array("I", packed.tobytes())
    flat = _EIGHT * (3 * len(values))
    flat[1::3], flat[2::3] = halves[::2], halves[1::2]
    return Int8Array(_head(20, len(values)) + flat.tobytes())


def int4s(values: Sequence[int]) -> Int4Array:
    """Return integers as ``int4[]``."""
    flat = [4] * (2 * len(values))
    flat[1::2] = values
    packed = array("i", flat)
    if sys.byteorder == "little":
        packed.byteswap()
    return Int4Array(_head(23, len(values)) + packed.tobytes())


def repeated_int8s(runs: Sequence[tuple[int, int]]) -> Int8Array:
    """Return ``int8[]`` of runs ``(value, times)``."""
    one = Struct(">iq").pack
    count = sum(times for _, times in runs)
    return Int8Array(_head(20, count) + b"".join([one(8, value) * times for value, times in runs]))


def repeated_int4s(runs: Sequence[tuple[int, int]]) -> Int4Array:
    """Return ``int4[]`` of runs ``(value, times)``."""
    one = Struct(">ii").pack
    count = sum(times for _, times in runs)
    return Int4Array(_head(23, count) + b"".join([one(4, value) * times for value, times in runs]))


def _blobs(values: Sequence[bytes]) -> bytes:
    parts = [b""] * (2 * len(values))
    try:
        parts[::2] = [_LENGTHS[len(value)] for value in values]
    except IndexError:
        parts[::2] = [_length(len(value)) for value in values]
    parts[1::2] = values
    return b"".join(parts)


def byteas(values: Sequence[bytes]) -> ByteaArray:
    """Return byte strings as ``bytea[]``."""
    return ByteaArray(_head(17, len(values)) + _blobs(values))


def texts(values: Sequence[str]) -> TextArray:
    """Return strings as ``text[]``."""
    return TextArray(_head(25, len(values)) + _blobs([value.encode() for value in values]))


class _PackedDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Packed) -> bytes:
        return obj.data


def register(context: AdaptContext) -> None:
    """Teach a connection, or a cursor made before that, to send packed parameters."""
    for cls in (Int8, UuidArray, Int8Array, Int4Array, ByteaArray, TextArray):
        dumper = type(f"{cls.__name__}Dumper", (_PackedDumper,), {"oid": cls.oid})
        context.adapters.register_dumper(cls, dumper)
