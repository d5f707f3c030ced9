"""The reader process: the same items in the same order, whatever happens to it."""

from __future__ import annotations

import json
import os
import signal
import threading

import pytest

from ledger.application.importing.cloudevents import read_cloudevents
from ledger.application.intake import read_event
from ledger.application.reader import EventReader, read_lines
from ledger.domain.errors import InvalidInput, Problem

USAGE = {
    "specversion": "1.0",
    "type": "tallybook.usage.v2",
    "source": "s",
    "subject": "acme",
    "time": "2026-10-01T00:00:00Z",
    "data": {"provider": "openai", "quantities": {"tokens.input": 1}, "raw": {"a": [1, 2.5]}},
}


def _lines(count: int) -> list[bytes]:
    """Return usage events, every seventh line something else."""
    void = {"type": "tallybook.usage.void.v2", "data": {"id": "e-0"}}
    adjust = {
        "type": "tallybook.usage.adjust.v2",
        "data": {"id": "e-1", "quantities": {"tokens.input": 2}},
    }
    lines = []
    for number in range(count):
        other = {0: void, 1: adjust}.get(number // 7 % 3, {"type": "?"}) if number % 7 == 0 else {}
        lines.append(json.dumps({**USAGE, "id": f"e-{number}", **other}).encode())
    return [*lines, b"{broken", "e\u0301\ud7ff".encode(), b""]


def test_a_reader_gives_what_this_process_would_read() -> None:
    """Usage, corrections and problems come back equal and in order."""
    lines = _lines(40)
    with EventReader() as reader:
        halves = [reader.read(lines[:20]), reader.read(lines[20:]), reader.read([])]
        items = [item for half in halves for item in half.result()]
    assert items == read_lines(lines)
    assert {type(item).__name__ for item in items} == {
        "RecordUsage",
        "VoidUsage",
        "AdjustUsage",
        "Problem",
    }


def test_what_a_lost_reader_had_is_read_here() -> None:
    """Killed with lines in its queue, it takes nothing with it."""
    lines = _lines(500)
    with EventReader() as reader:
        before = reader.read(lines)
        reader.process.kill()
        queued = [reader.read(lines) for _ in range(20)]
        assert before.result() == read_lines(lines)
        assert all(reading.result() == read_lines(lines) for reading in queued)


def test_a_reader_that_is_stopped_and_goes_on_loses_no_byte(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also with PYTHONUNBUFFERED, where a write of the interpreter's own output stops with it."""
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    lines = _lines(1_000)
    wanted = read_lines(lines)
    with EventReader() as reader:
        assert reader.read(lines).result() == wanted
        ended = threading.Event()

        def stop_and_go() -> None:
            while not ended.is_set():
                for number in (signal.SIGSTOP, signal.SIGCONT):
                    os.kill(reader.process.pid, number)
                    ended.wait(0.001)

        stopping = threading.Thread(target=stop_and_go)
        stopping.start()
        try:
            for _ in range(15):
                readings = [reader.read(lines) for _ in range(2)]
                # Its answers do not fit in the pipe, so it is stopped within them.
                ended.wait(0.01)
                assert [one.frame.result(60) is not None for one in readings] == [True, True]
                assert all(one.result() == wanted for one in readings)
        finally:
            ended.set()
            stopping.join()
            os.kill(reader.process.pid, signal.SIGCONT)


def test_a_reader_splits_a_batch_and_holds_it_to_a_tenant() -> None:
    """As this process would: other tenants' events are problems, events of nobody are its own."""
    lines = [*_lines(1_200)[:-3], b"{broken}"]
    nobody = json.dumps({**USAGE, "id": "n", "subject": None}).encode()
    foreign = json.dumps({**USAGE, "id": "f", "subject": "globex"}).encode()
    lines[3:3] = [nobody, foreign]
    text = b"[" + b",".join(lines) + b"]"
    with EventReader() as reader:
        array = reader.read_batch(text, "array", tenant="acme").result()
        ndjson = reader.read_batch(b"\n".join(lines), "lines", tenant="acme").result()
    assert array == ndjson == [read_event(line, tenant="acme") for line in lines]
    assert array[4].code == "foreign_tenant"


def test_a_batch_that_cannot_be_split_is_refused_by_a_reader_and_without_one() -> None:
    """The code is the same, and the reader goes on."""
    with EventReader() as reader:
        for _ in range(2):
            with pytest.raises(InvalidInput) as caught:
                reader.read_batch(b"{}", "array", tenant=None).result()
            assert caught.value.code == "invalid_body"
        assert reader.read_batch(b"[]", "array", tenant=None).result() == []
    with pytest.raises(InvalidInput) as caught:
        reader.read_batch(b"{}", "array", tenant=None).result()
    assert caught.value.code == "invalid_body"
    assert reader.lost


def test_closing_a_reader_twice_is_no_error_and_ends_its_process() -> None:
    """No process is left behind."""
    reader = EventReader()
    reader.close()
    reader.close()
    assert reader.process.returncode == 0
    assert len(reader.read([b"{}"]).result()) == 1


def test_lines_of_a_long_file_keep_their_numbers_and_their_problems() -> None:
    """Blank lines count, lines that are too long keep their place, batches change nothing."""
    long = Problem(code="line_too_long", message="too long")
    texts = _lines(2_600)
    lines = [
        (number, b"" if number % 50 == 0 else text, long if number % 333 == 0 else None)
        for number, text in enumerate(texts, 1)
    ]
    here = list(read_cloudevents(lines, reader_after=10_000))
    there = list(read_cloudevents(lines, reader_after=10))
    assert there == here
    assert [number for number, _, item in there if item == long] == list(range(333, 2_601, 333))
