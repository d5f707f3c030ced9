"""Lines of a byte stream, numbered from 1, in constant memory whatever the stream holds.

A line that is too long is skipped without being held; a gzip stream is told by its first bytes
and inflated in bounded steps; what breaks off is reported as a problem in place of the line it
broke in, because half a line must never be read as a whole one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator

from ledger.application.intake import MAX_EVENT_BYTES, WireCommand
from ledger.domain.errors import InvalidInput, Problem

CHUNK_BYTES = 262_144
"""Bytes that are read, and at most inflated, at once."""
KEPT_BYTES = 65_536
"""Bytes that are kept of a line that is rejected."""
BROKEN_CODES = frozenset({"truncated_gzip", "invalid_gzip", "unreadable_file", "unclosed_quote"})
"""Codes of problems after which the rest of a file was not read."""

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_BITS = 31
_BOM = b"\xef\xbb\xbf"

Read = Callable[[int], bytes]
"""Returns at most so many bytes, and none at the end only."""
Line = tuple[int, bytes, Problem | None]
"""A line's number, its text without the line end, and why it cannot be read."""
Item = tuple[int, bytes, WireCommand | Problem]
"""A line's number, its text, and the command it means or what is wrong with it."""


class LineTooLong(Problem, frozen=True):
    """A line that was skipped; of what it held only the quotes were counted.

    Attributes:
        quotes: how many ``"`` the line has; an odd number leaves a quoted cell open or closes one.
    """

    quotes: int = 0


class BrokenStream(InvalidInput):
    """The stream cannot be read to its end."""

    default_code = "unreadable_file"


class ByteStream:
    """The bytes of a file, inflated if they are gzip.

    Args:
        read: returns the next bytes; may return fewer than asked for.

    Attributes:
        position: bytes read so far, as they are stored.
    """

    def __init__(self, read: Read) -> None:
        self._source = read
        self.position = 0

    def _read(self) -> bytes:
        try:
            data = self._source(CHUNK_BYTES)
        except OSError as error:
            raise BrokenStream(f"reading failed: {error.strerror or error}") from error
        self.position += len(data)
        return data

    def __iter__(self) -> Iterator[bytes]:
        """Yield chunks of at most `CHUNK_BYTES`, none of them empty.

        Raises:
            BrokenStream: ``unreadable_file``, ``truncated_gzip``, ``invalid_gzip``; everything
                before that place was yielded.
        """
        first = b""
        while len(first) < len(_BOM):
            data = self._read()
            if not data:
                break
            first += data
        if first.startswith(_GZIP_MAGIC):
            yield from _without_bom(self._inflate(first))
            return
        first = first.removeprefix(_BOM)
        if first:
            yield first
        while data := self._read():
            yield data

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        """Yield the members of a gzip file one after the other (RFC 1952); zero padding ends it."""
        member = zlib.decompressobj(_GZIP_BITS)
        while True:
            try:
                text = member.decompress(data, CHUNK_BYTES)
            except zlib.error as error:
                raise BrokenStream(
                    f"the gzip data is damaged: {error}", code="invalid_gzip"
                ) from error
            if text:
                yield text
            if not member.eof:
                data = member.unconsumed_tail
                if not data and not text:
                    data = self._read()
                    if not data:
                        raise BrokenStream(
                            "the gzip data ends too early; the lines before were read",
                            code="truncated_gzip",
                        )
                continue
            data = member.unused_data.lstrip(b"\0")
            while not data:
                data = self._read()
                if not data:
                    return
                data = data.lstrip(b"\0")
            member = zlib.decompressobj(_GZIP_BITS)


def _without_bom(chunks: Iterator[bytes]) -> Iterator[bytes]:
    first = b""
    for chunk in chunks:
        first += chunk
        if len(first) >= len(_BOM):
            break
    first = first.removeprefix(_BOM)
    if first:
        yield first
    yield from chunks


def read_lines(stream: ByteStream, *, max_bytes: int = MAX_EVENT_BYTES) -> Iterator[Line]:
    r"""Yield the lines of a stream; they end in ``\n`` or ``\r\n``, the last one may lack it.

    Args:
        stream: where the bytes come from.
        max_bytes: most bytes of a line; a longer one is yielded as a problem ``line_too_long``
            with its first `KEPT_BYTES`.

    Returns:
        Lines with numbers from 1. A stream that breaks off ends with a problem that has the
        number of the line it broke in.
    """
    number = 0
    begun = _Begun(max_bytes)
    try:
        for chunk in stream:
            parts = chunk.split(b"\n")
            if len(parts) == 1:
                begun.add(chunk)
                continue
            begun.add(parts[0])
            number += 1
            yield (number, *begun.take())
            for line in parts[1:-1]:
                number += 1
                if len(line) >= max_bytes or line.endswith(b"\r"):
                    yield (number, *_checked(line, max_bytes))
                else:
                    yield number, line, None
            begun.add(parts[-1])
    except BrokenStream as error:
        text, _ = begun.take()
        yield number + 1, text[:KEPT_BYTES], Problem.of(error)
        return
    if begun.size:
        yield (number + 1, *begun.take())


def from_line(lines: Iterable[Line], start: int) -> Iterator[Line]:
    """Leave out what begins before line ``start``, but not that the stream breaks off there."""
    for line in lines:
        problem = line[2]
        if line[0] >= start or (problem is not None and problem.code in BROKEN_CODES):
            yield line


class _Begun:
    """The line whose end has not been read yet; beyond the limit only its start is held."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._held = 0
        self._dropped_quotes = 0
        self.size = 0

    def add(self, part: bytes) -> None:
        self.size += len(part)
        if self.size > self._max_bytes + 1:  # one more for a carriage return
            kept = part[: max(0, KEPT_BYTES - self._held)]
            self._dropped_quotes += part.count(b'"', len(kept))
            part = kept
        if part:
            self._parts.append(part)
            self._held += len(part)

    def take(self) -> tuple[bytes, Problem | None]:
        line = b"".join(self._parts)
        size, quotes = self.size, self._dropped_quotes
        self._parts.clear()
        self._held = self._dropped_quotes = self.size = 0
        if size > self._max_bytes + 1:
            return line[:KEPT_BYTES], _too_long(self._max_bytes, quotes + line.count(b'"'))
        return _checked(line, self._max_bytes)


def _checked(line: bytes, max_bytes: int) -> tuple[bytes, Problem | None]:
    line = line.removesuffix(b"\r")
    if len(line) > max_bytes:
        return line[:KEPT_BYTES], _too_long(max_bytes, line.count(b'"'))
    return line, None


def _too_long(max_bytes: int, quotes: int) -> LineTooLong:
    return LineTooLong(
        code="line_too_long",
        message=f"the line has more than {max_bytes} bytes, the most that are read of one",
        quotes=quotes,
    )
