"""Running an import: chunks in flight, counts of answers, and what ends it early."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from ledger.application.importing.lines import Item
from ledger.application.importing.run import (
    CHUNK_ITEMS,
    CHUNK_TEXT_BYTES,
    IN_FLIGHT,
    MAX_PROBLEMS,
    DryRun,
    Finding,
    Importer,
)
from ledger.application.importing.sources import Source
from ledger.application.intake import UsageData, WireCommand, usage_command
from ledger.domain.decide import Outcome
from ledger.domain.errors import Problem, Unavailable

GOOD = usage_command(
    UsageData(provider="x", quantities={"requests": 1}), id="i", source="s", tenant="t", at=None
)
BAD = Problem("malformed_json", "no JSON", "/x")


class Answer:
    """One chunk's answers, which come when somebody waits."""

    def __init__(self, ledger: Ledger, count: int) -> None:
        self.ledger = ledger
        self.count = count

    def wait(self, timeout_s: float | None = None) -> Sequence[Outcome]:
        """Answer, or fail as the test wants it."""
        self.ledger.waited += 1
        failure = self.ledger.failures.pop(self.ledger.waited, None)
        if failure is not None:
            raise failure
        self.ledger.open -= 1
        return [self.ledger.outcome] * self.count


class Ledger:
    """Takes chunks and remembers how many were open at once."""

    def __init__(self, outcome: Outcome | None = None) -> None:
        self.outcome = outcome or Outcome("accepted")
        self.sizes: list[int] = []
        self.open = self.most_open = self.waited = 0
        self.failures: dict[int, BaseException] = {}

    def submit(self, items: Sequence[WireCommand | Problem]) -> Answer:
        """Take a chunk."""
        self.sizes.append(len(items))
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        return Answer(self, len(items))


def source(items: Iterator[Item], name: str = "a") -> Source:
    """Return a source of items."""
    return Source(name, items, lambda: 0)


def many(count: int, text: bytes = b"{}") -> Iterator[Item]:
    """Return good items, one a line."""
    return ((number, text, GOOD) for number in range(1, count + 1))


def test_chunks_are_submitted_while_others_wait_for_their_answers() -> None:
    """A thousand items each, and no more than a few unanswered."""
    ledger = Ledger()
    report = Importer(ledger.submit).run([source(many(CHUNK_ITEMS * 10 + 5))])
    assert ledger.sizes == [CHUNK_ITEMS] * 10 + [5]
    assert ledger.most_open == IN_FLIGHT + 1
    assert report.total("accepted") == CHUNK_ITEMS * 10 + 5
    assert report.files[0].last_line == CHUNK_ITEMS * 10 + 5
    assert report.complete


def test_long_lines_make_small_chunks() -> None:
    """What is held at once is bounded by bytes too."""
    ledger = Ledger()
    Importer(ledger.submit).run([source(many(10, b"x" * (CHUNK_TEXT_BYTES // 2)))])
    assert ledger.sizes == [2] * 5


@pytest.mark.parametrize(
    ("outcome", "count"),
    [
        (Outcome("accepted"), "accepted"),
        (Outcome("duplicate", 1, 0, ("unpriced",)), "duplicate"),
        (Outcome("conflict", problem=BAD), "conflict"),
        (Outcome("rejected", problem=BAD), "rejected"),
    ],
)
def test_each_answer_is_counted_once(outcome: Outcome, count: str) -> None:
    """Unpriced counts only what this run accepted."""
    report = Importer(Ledger(outcome).submit).run([source(many(3))])
    names = ("accepted", "duplicate", "conflict", "rejected", "unpriced")
    assert {name: report.total(name) for name in names} == dict.fromkeys(names, 0) | {count: 3}


def test_unpriced_is_counted_beside_accepted() -> None:
    """It was recorded and has no price."""
    report = Importer(Ledger(Outcome("accepted", 1, 0, ("unpriced",))).submit).run(
        [source(many(3))]
    )
    assert (report.total("accepted"), report.total("unpriced")) == (3, 3)


def test_files_are_counted_apart_though_their_chunks_overlap() -> None:
    """An answer that comes late belongs to the file that it is about."""
    report = Importer(Ledger().submit).run([source(many(2), "a"), source(many(3), "b")])
    assert [(file.name, file.accepted) for file in report.files] == [("a", 2), ("b", 3)]


def test_every_rejected_item_is_handed_on_and_the_report_keeps_the_first() -> None:
    """The report is bounded; the file of rejected lines is not."""
    seen: list[Finding] = []
    importer = Importer(Ledger(Outcome("rejected", problem=BAD)).submit, on_rejected=seen.append)
    report = importer.run([source(many(MAX_PROBLEMS + 50))])
    assert len(seen) == MAX_PROBLEMS + 50
    assert len(report.findings) == MAX_PROBLEMS
    first = report.findings[0]
    assert (first.file, first.line, first.code, first.pointer) == ("a", 1, "malformed_json", "/x")


def test_a_conflict_is_found_but_not_handed_on_as_rejected() -> None:
    """The ledger keeps its evidence."""
    seen: list[Finding] = []
    importer = Importer(Ledger(Outcome("conflict", problem=BAD)).submit, on_rejected=seen.append)
    assert importer.run([source(many(1))]).findings[0].status == "conflict"
    assert seen == []


def test_a_file_that_breaks_off_makes_the_import_incomplete() -> None:
    """What was read is recorded; that there was more is not forgotten."""
    broken = Problem("truncated_gzip", "ends too early")
    report = Importer(DryRun().submit).run([source(iter([(1, b"", GOOD), (2, b"", broken)]))])
    assert (report.total("readable"), report.total("rejected")) == (1, 1)
    assert not report.complete


def test_an_interrupt_counts_what_was_answered_and_nothing_else() -> None:
    """The answers under way are waited for; the rest of the file is not read."""
    ledger = Ledger()

    def items() -> Iterator[Item]:
        yield from many(CHUNK_ITEMS * 2 + 7)
        raise KeyboardInterrupt

    report = Importer(ledger.submit).run([source(items())])
    assert report.interrupted
    assert report.total("accepted") == CHUNK_ITEMS * 2
    assert report.files[0].last_line == CHUNK_ITEMS * 2
    assert report.unanswered == 0


def test_a_second_interrupt_leaves_the_rest_unanswered() -> None:
    """Their fate is said to be unknown."""
    ledger = Ledger()
    ledger.failures = {1: KeyboardInterrupt(), 3: KeyboardInterrupt()}
    report = Importer(ledger.submit).run([source(many(CHUNK_ITEMS * 9))])
    assert report.interrupted
    assert report.total("accepted") == CHUNK_ITEMS
    assert report.unanswered == CHUNK_ITEMS * IN_FLIGHT


def test_a_lost_database_ends_the_import_with_what_is_certain() -> None:
    """Failed chunks count as unanswered, those that were answered as recorded."""
    ledger = Ledger()
    ledger.failures = {2: Unavailable("gone"), 3: Unavailable("gone")}
    report = Importer(ledger.submit).run([source(many(CHUNK_ITEMS * 9))])
    assert report.failure is not None
    assert not report.complete
    assert report.total("accepted") == CHUNK_ITEMS * len(ledger.sizes) - report.unanswered
    assert report.unanswered == CHUNK_ITEMS


def test_a_dry_run_submits_nothing_and_still_reports() -> None:
    """Readable items are not called accepted."""
    report = Importer(DryRun().submit).run([source(iter([(1, b"", GOOD), (2, b"x", BAD)]))])
    assert (report.total("readable"), report.total("accepted")) == (1, 0)
    assert report.findings[0].code == "malformed_json"
