"""Lines of CloudEvents (NDJSON, structured form) as commands.

The first lines are read in this process. A file that goes on gets a reader process, so that
reading and recording use two processors; items come in the order of the lines all the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice

from ledger.application.importing.lines import Item, Line
from ledger.application.intake import read_event
from ledger.application.reader import EventReader, Reading

READER_AFTER_LINES = 5_000
"""Lines that are read in this process before a reader is worth its start."""
BATCH_LINES = 1_000
BATCH_BYTES = 1 << 20
READING = 6
"""Batches that the reader has ahead."""

_Batch = list[Line]


def read_cloudevents(
    lines: Iterable[Line], *, reader_after: int = READER_AFTER_LINES
) -> Iterator[Item]:
    """Yield the command of each line, or what is wrong with it; blank lines mean nothing.

    Args:
        lines: numbered; those that are too long come with their problem.
        reader_after: lines before the rest goes to a process of its own.
    """
    waiting = (line for line in lines if line[2] is not None or not _is_blank(line[1]))
    for number, line, problem in islice(waiting, reader_after):
        yield number, line, read_event(line) if problem is None else problem
    batches = _batches(waiting)
    first = next(batches, None)
    if first is None:
        return
    with EventReader() as reader:
        reading: deque[tuple[_Batch, Reading]] = deque()
        reading.append((first, _read(reader, first)))
        while reading:
            for batch in islice(batches, READING - len(reading)):
                reading.append((batch, _read(reader, batch)))
            batch, answer = reading.popleft()
            items = iter(answer.result())
            for number, line, problem in batch:
                yield number, line, next(items) if problem is None else problem


def _is_blank(line: bytes) -> bool:
    return not line or line.isspace()


def _read(reader: EventReader, batch: _Batch) -> Reading:
    return reader.read([line for _, line, problem in batch if problem is None])


def _batches(lines: Iterator[Line]) -> Iterator[_Batch]:
    batch: _Batch = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line[1])
        if len(batch) >= BATCH_LINES or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
