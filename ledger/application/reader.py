"""A reader: a process of its own that reads and checks events while this one commits them.

Reading an event takes about as long as recording it, and one interpreter does one of the two at
a time. The reader gets lines, or the text of a whole batch to split, and returns commands; rating
and recording stay here. It holds no state and knows no database. If it is lost, this process reads
what is left itself, so nothing is lost with it; if this process dies, the reader's input ends and
so does the reader.

Frames in both directions are a 4-byte big-endian length and MessagePack.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from itertools import chain
from typing import BinaryIO

import msgspec

from ledger.application.intake import WireCommand, read_event
from ledger.application.splitting import Form, split
from ledger.domain.errors import InvalidInput, Problem
from ledger.domain.usage import AdjustUsage, RecordUsage, VoidUsage

Items = list[WireCommand | Problem]

PART_ITEMS = 500
"""Items that are packed and unpacked in one go: unpacking holds the interpreter meanwhile."""


class _Other(msgspec.Struct, frozen=True, array_like=True):
    """What is no usage event: its place among the lines, what it is, and itself."""

    place: int
    kind: str
    body: msgspec.Raw


class _Part(msgspec.Struct, frozen=True, array_like=True):
    records: list[RecordUsage]
    others: list[_Other]


class _Answer(msgspec.Struct, frozen=True, array_like=True):
    """Packed parts in order, or why the whole text was refused."""

    parts: list[bytes]
    refused: Problem | None = None


class _Request(msgspec.Struct, frozen=True, array_like=True):
    """Lines, one an item; with a form one text that is to be split."""

    lines: Sequence[bytes]
    form: Form | None = None
    tenant: str | None = None


_encode = msgspec.msgpack.encode
_decode_request = msgspec.msgpack.Decoder(_Request).decode
_decode_answer = msgspec.msgpack.Decoder(_Answer).decode
_decode_part = msgspec.msgpack.Decoder(_Part).decode
_KINDS: dict[str, type[VoidUsage | AdjustUsage | Problem]] = {
    "void": VoidUsage,
    "adjust": AdjustUsage,
    "problem": Problem,
}


def read_lines(lines: Sequence[bytes]) -> Items:
    """Return the command of each line, or what is wrong with it, in this process."""
    return [read_event(line) for line in lines]


class Reading:
    """Lines that are being read.

    Args:
        request: what to read.

    Attributes:
        frame: the reader's answer; None if it was lost.
    """

    def __init__(self, request: _Request) -> None:
        self._request = request
        self.frame: Future[bytes | None] = Future()

    def result(self) -> Items:
        """Wait, and return one command or problem an item; unpacks in the caller's thread.

        Raises:
            InvalidInput: the text of a batch cannot be split; see `splitting.split`.
        """
        return list(chain.from_iterable(self.parts()))

    def parts(self) -> Iterator[Items]:
        """Do as `result`, some items at a time."""
        frame = self.frame.result()
        if frame is None:
            yield from _read(self._request)
            return
        answer = _decode_answer(frame)
        if answer.refused is not None:
            refused = answer.refused
            raise InvalidInput(refused.message, code=refused.code, pointer=refused.pointer)
        for part in answer.parts:
            yield _unpacked(part)


class EventReader:
    """Reads batches in another process, in order; thread-safe.

    Use it as a context manager, or `close` it.

    Attributes:
        process: the reader.
    """

    def __init__(self) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - our own module in our own interpreter
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        self._sending = threading.Lock()
        self._waiting: deque[Reading] = deque()
        self._lost = False
        self._receiver = threading.Thread(
            target=self._receive, name="tallybook-reader", daemon=True
        )
        self._receiver.start()

    @property
    def lost(self) -> bool:
        """Whether the process has ended; what is given to it is read in this one."""
        return self._lost

    def read(self, lines: Sequence[bytes]) -> Reading:
        """Queue lines; the result is one command or problem a line, in order."""
        return self._queue(_Request(lines))

    def read_batch(self, text: bytes, form: Form, *, tenant: str | None) -> Reading:
        """Queue the text of a batch; the result is one command or problem an item, in order.

        Args:
            text: to be split.
            form: how its items stand.
            tenant: as for `read_event`.
        """
        return self._queue(_Request([text], form, tenant))

    def _queue(self, request: _Request) -> Reading:
        reading = Reading(request)
        with self._sending:
            if not self._lost:
                self._waiting.append(reading)
                try:
                    _send(_pipe(self.process.stdin), _encode(request))
                except OSError:
                    # The receiver sees the end of the answers and reads what waits itself.
                    self._lost = True
                return reading
        reading.frame.set_result(None)
        return reading

    def close(self) -> None:
        """End the process; what is still queued is read here."""
        with contextlib.suppress(OSError):
            _pipe(self.process.stdin).close()
        self._receiver.join()
        _pipe(self.process.stdout).close()
        self.process.wait()

    def __enter__(self) -> EventReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _receive(self) -> None:
        answers = _pipe(self.process.stdout)
        while True:
            try:
                frame = _receive(answers)
            except OSError:
                frame = None
            if frame is None:
                break
            # No lock: a sender may hold it, waiting for the reader, which waits for this thread.
            self._waiting.popleft().frame.set_result(frame)
        self._lost = True
        with self._sending:
            while self._waiting:
                self._waiting.popleft().frame.set_result(None)


def _pipe(stream: object) -> BinaryIO:
    return stream  # type: ignore[return-value] # Popen was told to make pipes


def _read(request: _Request) -> Iterator[Items]:
    """Yield what a request asks for, some items at a time.

    Raises:
        InvalidInput: the text of a batch cannot be split.
    """
    tenant = request.tenant
    items: Sequence[bytes | msgspec.Raw] = request.lines
    if request.form is not None:
        items = split(request.lines[0], request.form)
    for start in range(0, len(items), PART_ITEMS):
        yield [read_event(item, tenant=tenant) for item in items[start : start + PART_ITEMS]]


def _unpacked(packed: bytes) -> Items:
    part = _decode_part(packed)
    items: Items = list(part.records)
    for other in part.others:
        items.insert(other.place, msgspec.msgpack.decode(other.body, type=_KINDS[other.kind]))
    return items


def _send(stream: BinaryIO, body: bytes) -> None:
    stream.write(len(body).to_bytes(4, "big") + body)
    stream.flush()


def _receive(stream: BinaryIO) -> bytes | None:
    """Return the next frame; None at the end, also in the middle of a frame."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    size = int.from_bytes(head, "big")
    body = stream.read(size)
    return body if len(body) == size else None


def _answer(request: _Request) -> _Answer:
    try:
        return _Answer([_packed(part) for part in _read(request)])
    except InvalidInput as error:
        return _Answer([], Problem.of(error))


def _packed(items: Items) -> bytes:
    records: list[RecordUsage] = []
    others: list[_Other] = []
    for place, item in enumerate(items):
        if isinstance(item, RecordUsage):
            records.append(item)
            continue
        kind = next(kind for kind, cls in _KINDS.items() if isinstance(item, cls))
        others.append(_Other(place, kind, msgspec.Raw(_encode(item))))
    return _encode(_Part(records, others))


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until they end."""
    while (frame := _receive(requests)) is not None:
        _send(answers, _encode(_answer(_decode_request(frame))))


def main() -> None:
    """Run the reader's side; Ctrl-C is the other process's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Nothing here makes cycles but the decoder's errors.
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    # Not `sys.stdout.buffer`: with PYTHONUNBUFFERED that is the file itself, whose write stops
    # in the middle where a signal stops the process.
    with (
        open(0, "rb", closefd=False) as requests,
        open(1, "wb", closefd=False) as answers,
        contextlib.suppress(OSError),
    ):
        serve(requests, answers)


if __name__ == "__main__":
    main()
