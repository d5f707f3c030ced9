"""docs/spec/errors.md lists every code of the source, and says the truth about each."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from fakes.error_codes import Found, collect

from adapters.cli.output import ExitCode
from adapters.http.problems import RETRYABLE, RETRYABLE_CODES, STATUS_BY_CODE
from adapters.http.stream.session import RESUMABLE, Code

PAGE = (Path(__file__).parents[2] / "docs" / "spec" / "errors.md").read_text("utf-8")
Rows = list[dict[str, str]]


def _tables() -> list[Rows]:
    found: list[Rows] = []
    for block in re.findall(r"(?:^\|.*\|\n)+", PAGE, flags=re.MULTILINE):
        head, _, *lines = ([cell.strip() for cell in line.split(" | ")] for line in _lines(block))
        found.append([dict(zip(head, cells, strict=True)) for cells in lines])
    return found


def _lines(block: str) -> list[str]:
    return [line.strip("|\n").replace("|---", " | ---").strip() for line in block.splitlines()]


def _rows(column: str) -> dict[str, dict[str, str]]:
    """Return the rows that have a column, by code."""
    return {
        code: row
        for table in _tables()
        for row in table
        if "code" in row and column in row
        for code in re.findall(r"`([^`]+)`", row["code"])
    }


def _numbers(text: str) -> set[int]:
    return {int(one) for one in re.findall(r"\d+", text)}


@pytest.fixture(scope="module")
def found() -> Found:
    """What the source says."""
    return collect()


def test_the_page_lists_every_code_of_the_source_once_and_no_other(found: Found) -> None:
    """A new code needs a line; a line whose code is gone has to go too."""
    listed = Counter(
        code
        for table in _tables()
        for row in table
        for code in re.findall(r"`([^`]+)`", row.get("code", ""))
    )
    twice = [code for code, times in listed.items() if times > 1]
    missing = {code: sorted(found.places[code]) for code in found.places.keys() - listed.keys()}
    gone = listed.keys() - found.places.keys()
    assert (missing, sorted(gone), twice) == ({}, [], [])
    assert STATUS_BY_CODE.keys() <= listed.keys()


def test_statuses_and_retries_on_the_page_are_those_that_are_answered(found: Found) -> None:
    """What a client builds on is what the only place that maps codes to HTTP does."""
    for code, row in _rows("status").items():
        said = _numbers(row["status"])
        assert found.statuses(code) | {STATUS_BY_CODE.get(code, min(said))} <= said, code
        assert said == found.statuses(code) or len(said) == 1, code
        retried = code in RETRYABLE_CODES or said <= RETRYABLE
        assert row["retry"] == ("yes" if retried else "no"), code


def test_exit_codes_on_the_page_are_those_that_commands_end_with(found: Found) -> None:
    """Scripts tell what may be tried again by the exit code alone."""
    for code, row in _rows("exit").items():
        assert found.exits(code) in (set(), _numbers(row["exit"])), code
    [exits] = [table for table in _tables() if set(table[0]) == {"exit", "means"}]
    assert [int(row["exit"]) for row in exits] == list(ExitCode)


def test_close_codes_on_the_page_are_the_stream_s() -> None:
    """Whether a session can be resumed is said where a client's author looks."""
    [closes] = [table for table in _tables() if "close" in table[0]]
    said = {int(row["close"]): row["retry"] == "yes" for row in closes}
    assert said == {code: code in RESUMABLE for code in Code}
