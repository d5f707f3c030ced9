"""Lines of a stream: bounds, line ends, compression, and what breaks off."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Iterator

import pytest

from ledger.application.importing.cloudevents import read_cloudevents
from ledger.application.importing.lines import (
    CHUNK_BYTES,
    KEPT_BYTES,
    ByteStream,
    Line,
    LineTooLong,
    from_line,
    read_lines,
)
from ledger.domain.errors import Problem

TEXT = b"first\nsecond\nthird\n"


def lines(data: bytes, *, step: int = CHUNK_BYTES, max_bytes: int = 20) -> list[Line]:
    """Read data that arrives in steps."""
    file = io.BytesIO(data)
    return list(
        read_lines(ByteStream(lambda count: file.read(min(step, count))), max_bytes=max_bytes)
    )


def texts(found: list[Line]) -> list[bytes]:
    """Return the lines that can be read."""
    return [text for _, text, problem in found if problem is None]


def codes(found: list[Line]) -> list[tuple[int, str]]:
    """Return number and code of the lines that cannot be read."""
    return [(number, problem.code) for number, _, problem in found if problem is not None]


@pytest.mark.parametrize("step", [1, 2, 7, CHUNK_BYTES])
def test_lines_do_not_depend_on_how_the_bytes_arrive(step: int) -> None:
    """Line ends of both kinds, a blank line and a last line without an end, at any chunking."""
    found = lines(b"a\r\nb\n\nlong enough\nlast", step=step)
    assert found == [
        (1, b"a", None),
        (2, b"b", None),
        (3, b"", None),
        (4, b"long enough", None),
        (5, b"last", None),
    ]


@pytest.mark.parametrize("step", [1, 7, CHUNK_BYTES])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_line_of_exactly_the_limit_is_read_and_one_byte_more_is_not(
    step: int, end: bytes
) -> None:
    """The limit counts the text without its line end."""
    found = lines(b"x" * 20 + end + b"y" * 21 + end + b"z" + end, step=step)
    assert texts(found) == [b"x" * 20, b"z"]
    assert codes(found) == [(2, "line_too_long")]


def test_a_last_line_that_is_too_long_is_reported_too() -> None:
    """The end of the file ends a line like a line end does."""
    assert codes(lines(b"ok\n" + b"x" * 21)) == [(2, "line_too_long")]


def test_a_huge_line_is_skipped_without_being_held() -> None:
    """Of 50 MB the first 64 KiB are kept, and the lines after it are read."""
    size = 50_000_000
    block = b"x" * CHUNK_BYTES
    blocks: Iterator[bytes] = iter([b"before\n", *[block] * (size // len(block)), b"\nafter\n"])
    found = list(read_lines(ByteStream(lambda _: next(blocks, b""))))
    assert texts(found) == [b"before", b"after"]
    assert codes(found) == [(2, "line_too_long")]
    assert found[1][1] == b"x" * KEPT_BYTES


@pytest.mark.parametrize("step", [1, 9, CHUNK_BYTES])
def test_a_skipped_line_tells_how_many_quotes_it_had(step: int) -> None:
    """Quotes are counted in what is dropped and in what is kept."""
    long = b'"' + b"x" * (KEPT_BYTES + 50) + b'""'
    problem = lines(long + b"\nnext\n", step=step)[0][2]
    assert isinstance(problem, LineTooLong)
    assert problem.quotes == 3


@pytest.mark.parametrize("step", [1, 5, CHUNK_BYTES])
def test_gzip_is_told_by_its_first_bytes(step: int) -> None:
    """Members one after the other are one text, and zero padding ends it."""
    data = gzip.compress(TEXT) + gzip.compress(b"fourth") + b"\0" * 512
    assert texts(lines(data, step=step)) == [b"first", b"second", b"third", b"fourth"]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("step", [1, CHUNK_BYTES])
def test_a_byte_order_mark_is_no_text(packed: bool, step: int) -> None:
    """The mark is dropped at the very start, and only there."""
    data = b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n"
    found = lines(gzip.compress(data) if packed else data, step=step)
    assert texts(found) == [b"a", b"\xef\xbb\xbfb"]


def test_a_gzip_bomb_is_inflated_in_steps() -> None:
    """No chunk is larger than the bound however well the text was compressed."""
    data = gzip.compress(b"0" * 20_000_000)
    file = io.BytesIO(data)
    assert max(map(len, ByteStream(file.read))) <= CHUNK_BYTES


def test_a_truncated_gzip_gives_whole_lines_then_a_problem() -> None:
    """The line in which the data ends is never taken for a whole one."""
    text = b"\n".join(b"line %d %s" % (n, os.urandom(4).hex().encode()) for n in range(400))
    data = gzip.compress(text)
    found = lines(data[: len(data) // 2], max_bytes=100)
    read = texts(found)
    assert read
    assert read == text.split(b"\n")[: len(read)]
    assert codes(found) == [(len(read) + 1, "truncated_gzip")]


def test_damaged_gzip_is_a_problem_after_what_could_be_read() -> None:
    """A checksum that is wrong, and text after the last member, are not passed over."""
    data = bytearray(gzip.compress(TEXT))
    data[-6] ^= 1
    assert codes(lines(bytes(data)))[-1][1] == "invalid_gzip"
    assert codes(lines(gzip.compress(TEXT) + b"more")) == [(4, "invalid_gzip")]


def test_a_failing_read_is_a_problem_in_place_of_the_line() -> None:
    """An I/O error ends the file there; the lines before it are kept."""
    answers = iter([b"one\ntw"])

    def read(_: int) -> bytes:
        for answer in answers:
            return answer
        raise OSError(5, "Input/output error")

    found = list(read_lines(ByteStream(read)))
    assert texts(found) == [b"one"]
    assert codes(found) == [(2, "unreadable_file")]


def test_the_position_counts_the_bytes_as_they_are_stored() -> None:
    """Progress is measured against the size of the file, not of its text."""
    data = gzip.compress(TEXT * 1000)
    stream = ByteStream(io.BytesIO(data).read)
    assert len(list(read_lines(stream))) == 3000
    assert stream.position == len(data)


def test_lines_before_the_start_are_left_out_but_not_that_the_file_broke_off() -> None:
    """A file that ends before the start line is still reported as broken."""
    broken = Problem("truncated_gzip", "ends too early")
    bad = Problem("line_too_long", "too long")
    found = list(from_line([(1, b"a", bad), (2, b"b", None), (3, b"", broken)], 3))
    assert found == [(3, b"", broken)]
    assert list(from_line([(1, b"a", None), (2, b"b", None), (3, b"c", None)], 3)) == [
        (3, b"c", None)
    ]
    assert list(from_line([(2, b"", broken)], 9)) == [(2, b"", broken)]


def test_blank_lines_are_no_events_and_raw_without_canonical_form_is_a_problem() -> None:
    """What only the fingerprint finds wrong is rejected like anything else."""
    event = (
        b'{"specversion":"1.0","type":"tallybook.usage.v2","id":"a","source":"s","subject":"t",'
        b'"data":{"provider":"x","quantities":{"tokens.input":1},"raw":{"n":%s}}}'
    )
    items = list(
        read_cloudevents(
            [
                (1, b"", None),
                (2, b" \t", None),
                (3, event % b"1e400", None),
                (4, event % b"1", None),
            ]
        )
    )
    assert [number for number, _, _ in items] == [3, 4]
    assert isinstance(items[0][2], Problem)
    assert items[0][2].code == "invalid_raw"
    assert not isinstance(items[1][2], Problem)
