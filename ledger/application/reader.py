"""A reader: a process of its own that reads and checks events while this one commits them.

Reading an event takes about as long as recording it, and one interpreter does one of the two at
a time. The reader gets lines and returns commands; rating and recording stay here. It holds no
state and knows no database. If it is lost, this process reads what is left itself, so nothing is
lost with it; if this process dies, the reader's input ends and so does the reader.

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
from collections.abc import Sequence
from concurrent.futures import Future
from typing import BinaryIO

import msgspec

from ledger.application.intake import WireCommand, read_event
from ledger.domain.errors import Problem
from ledger.domain.usage import AdjustUsage, RecordUsage, VoidUsage

Items = list[WireCommand | Problem]


class _Other(msgspec.Struct, frozen=True, array_like=True):
    """What is no usage event: its place among the lines, what it is, and itself."""

    place: int
    kind: str
    body: msgspec.Raw


class _Answer(msgspec.Struct, frozen=True, array_like=True):
    records: list[RecordUsage]
    others: list[_Other]


_encode = msgspec.msgpack.encode
_decode_lines = msgspec.msgpack.Decoder(list[bytes]).decode
_decode_answer = msgspec.msgpack.Decoder(_Answer).decode
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
        lines: what to read.

    Attributes:
        frame: the reader's answer; None if it was lost.
    """

    def __init__(self, lines: Sequence[bytes]) -> None:
        self._lines = lines
        self.frame: Future[bytes | None] = Future()

    def result(self) -> Items:
        """Wait, and return one command or problem a line; unpacks in the caller's thread."""
        frame = self.frame.result()
        return read_lines(self._lines) if frame is None else _items(frame)


class EventReader:
    """Reads batches of lines in another process, in order; thread-safe.

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

    def read(self, lines: Sequence[bytes]) -> Reading:
        """Queue lines; the result is one command or problem a line, in order."""
        reading = Reading(lines)
        with self._sending:
            if not self._lost:
                self._waiting.append(reading)
                try:
                    _send(_pipe(self.process.stdin), _encode(lines))
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


def _items(frame: bytes) -> Items:
    answer = _decode_answer(frame)
    items: Items = list(answer.records)
    for other in answer.others:
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


def _answer(lines: Sequence[bytes]) -> _Answer:
    records: list[RecordUsage] = []
    others: list[_Other] = []
    for place, item in enumerate(read_lines(lines)):
        if isinstance(item, RecordUsage):
            records.append(item)
            continue
        kind = next(kind for kind, cls in _KINDS.items() if isinstance(item, cls))
        others.append(_Other(place, kind, msgspec.Raw(_encode(item))))
    return _Answer(records, others)


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until they end."""
    while (frame := _receive(requests)) is not None:
        _send(answers, _encode(_answer(_decode_lines(frame))))


def main() -> None:
    """Run the reader's side; Ctrl-C is the other process's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Nothing here makes cycles but the decoder's errors.
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    with contextlib.suppress(OSError):
        serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
