"""CSV records (RFC 4180) over numbered lines, in constant memory.

A quoted cell may hold line ends. What stands between quotes is never read as records of its own,
not even where the closing quote is missing: it may be text that somebody else chose. A record
that is longer than one line may be is skipped up to its closing quote.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator

from ledger.application.importing.lines import KEPT_BYTES, Line, LineTooLong
from ledger.application.intake import MAX_EVENT_BYTES
from ledger.domain.errors import InvalidInput, Problem


def read_records(lines: Iterable[Line], *, max_bytes: int = MAX_EVENT_BYTES) -> Iterator[Line]:
    r"""Yield one record after the other, by the number of its first line; blank lines mean nothing.

    Args:
        lines: of the file.
        max_bytes: most bytes of a record; a longer one is a problem ``line_too_long``.

    Returns:
        Records with their line ends as ``\n``. A quote that is not closed before the end of the
        file gives a problem ``unclosed_quote``, with the number of the line that has it.
    """
    opened = _Opened(max_bytes)
    for number, line, problem in lines:
        if opened.number:
            if opened.add(number, line, problem):
                yield opened.close()
        elif problem is not None:
            if isinstance(problem, LineTooLong) and problem.quotes % 2:
                opened.start(number, line, problem)
            else:
                yield number, line, problem
        elif b'"' not in line:
            if line and not line.isspace():
                yield number, line, None
        elif is_open(line):
            opened.start(number, line)
        else:
            yield number, line, None
    if opened.number:
        yield opened.abandon()


class _Opened:
    """A record with a quoted cell that goes on in the next line."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lines: list[bytes] = []
        self._size = 0
        self._last = 0
        self._problem: Problem | None = None
        self.number = 0

    def start(self, number: int, line: bytes, problem: Problem | None = None) -> None:
        self.number = self._last = number
        self._lines = [line]
        self._size = len(line)
        self._problem = problem

    def add(self, number: int, line: bytes, problem: Problem | None) -> bool:
        """Add a line; True when the record is complete."""
        self._last = number
        if problem is not None:
            self._problem = problem
            return isinstance(problem, LineTooLong) and problem.quotes % 2 == 1
        self._size += 1 + len(line)
        if self._size <= self._max_bytes:
            self._lines.append(line)
        elif self._problem is None:
            self._problem = Problem(
                code="line_too_long",
                message=f"the record has more than {self._max_bytes} bytes",
            )
        return not is_open(line, inside=True)

    def close(self) -> Line:
        number, self.number = self.number, 0
        text = b"\n".join(self._lines)
        self._lines = []
        if self._problem is None:
            return number, text, None
        return number, text[:KEPT_BYTES], self._problem

    def abandon(self) -> Line:
        number, text, problem = self.close()
        if problem is None or problem.code == "line_too_long":
            problem = Problem(
                code="unclosed_quote",
                message=f"a quoted cell opens here and is not closed before the end of the file; "
                f"lines {number} to {self._last} were not read",
            )
        return number, text[:KEPT_BYTES], problem


def is_open(line: bytes, *, inside: bool = False) -> bool:
    """Return whether a quoted cell is still open at the end of a line.

    Args:
        line: without its end.
        inside: whether one was open at its start.
    """
    place = 0
    while True:
        if inside:
            place = line.find(b'"', place)
            if place < 0:
                return True
            if line[place + 1 : place + 2] == b'"':
                place += 2
                continue
            inside = False
            place += 1
        elif line[place : place + 1] == b'"':
            inside = True
            place += 1
            continue
        place = line.find(b",", place)
        if place < 0:
            return False
        place += 1


def split_record(record: bytes) -> list[str]:
    """Return the cells of a record.

    Raises:
        InvalidInput: ``invalid_utf8``; ``malformed_csv`` if text follows a closing quote.
    """
    try:
        text = record.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"byte {error.start + 1} is not UTF-8", code="invalid_utf8") from None
    if '"' not in text:
        return text.split(",")
    try:
        return next(csv.reader([text], strict=True))
    except (csv.Error, StopIteration) as error:
        raise InvalidInput(f"the record is not CSV: {error}", code="malformed_csv") from None
