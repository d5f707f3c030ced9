"""Run an import: submit items in chunks with a few in flight, and count the answers.

Reading overlaps with commits. Only what was answered is counted, so whatever ends a run early the
report understates what was recorded and never overstates it; the same import may simply be run
again, for what was recorded answers ``duplicate``.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Protocol

import msgspec

from ledger.application.importing.lines import BROKEN_CODES, KEPT_BYTES
from ledger.application.importing.sources import Source
from ledger.application.intake import WireCommand
from ledger.domain.commands import Outcome
from ledger.domain.errors import LedgerError, Problem

CHUNK_ITEMS = 1_000
"""Items that are submitted together."""
CHUNK_TEXT_BYTES = 4_194_304
"""A chunk is submitted early when its lines have this many bytes."""
IN_FLIGHT = 3
"""Chunks that may wait for their answers while the next one is read."""
MAX_PROBLEMS = 100
"""Problems that a report keeps."""
LAST_ANSWERS_S = 30.0
"""How long an interrupted import waits for the answers to what it has submitted."""


class Answers(Protocol):
    """Answers that will come."""

    def wait(self, timeout_s: float | None = None) -> Sequence[Outcome]:
        """Return one outcome an item, in order."""
        ...


Submit = Callable[[Sequence[WireCommand | Problem]], Answers]
"""Hands items over to be recorded; `Ledger.submit` is one."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """An item that was not recorded, or conflicts.

    Attributes:
        file: as the user named it.
        line: number of its line.
        status: ``rejected`` or ``conflict``.
        code: stable code.
        message: what is wrong.
        pointer: where in the line.
        text: the line, at most `KEPT_BYTES` of it.
    """

    file: str
    line: int
    status: str
    code: str
    message: str
    pointer: str
    text: bytes


class FileReport(msgspec.Struct, kw_only=True):
    """What became of the items of one file.

    Attributes:
        name: of the file.
        accepted: items recorded by this run.
        duplicate: items recorded before.
        conflict: items whose id was recorded before with another content.
        rejected: items, or what could not be read as items.
        unpriced: those of the accepted for which a price is missing.
        readable: items of a dry run that could be submitted.
        last_line: the last line that was answered.
        incomplete: whether the file could not be read to its end.
    """

    name: str
    accepted: int = 0
    duplicate: int = 0
    conflict: int = 0
    rejected: int = 0
    unpriced: int = 0
    readable: int = 0
    last_line: int = 0
    incomplete: bool = False


class ImportReport(msgspec.Struct, kw_only=True):
    """What an import did.

    Attributes:
        files: one report each, in order, of those that were begun.
        findings: the first `MAX_PROBLEMS` items rejected or in conflict.
        seconds: how long it took.
        interrupted: whether the user ended it.
        unanswered: items submitted whose fate is not known.
        failure: why it could not go on.
    """

    files: list[FileReport] = []
    findings: list[Finding] = []
    seconds: float = 0.0
    interrupted: bool = False
    unanswered: int = 0
    failure: LedgerError | None = None

    def total(self, name: str) -> int:
        """Return the sum of a count over all files."""
        return sum(int(getattr(file, name)) for file in self.files)

    @property
    def complete(self) -> bool:
        """Whether every file was read to its end and every item answered."""
        return not (
            self.interrupted
            or self.failure is not None
            or any(file.incomplete for file in self.files)
        )


class DryRun:
    """Takes items as a ledger would, and stores nothing."""

    def submit(self, items: Sequence[WireCommand | Problem]) -> Answers:
        """Answer ``readable`` for every item that can be read."""
        return _Known([_dry(item) for item in items])


def _dry(item: WireCommand | Problem) -> Outcome:
    if isinstance(item, Problem):
        return Outcome("rejected", problem=item)
    return Outcome("readable")


class _Known(msgspec.Struct, frozen=True):
    outcomes: list[Outcome]

    def wait(self, timeout_s: float | None = None) -> Sequence[Outcome]:
        return self.outcomes


class _Chunk(msgspec.Struct, frozen=True):
    file: FileReport
    numbers: list[int]
    texts: list[bytes]
    answers: Answers


def _nothing(_: object) -> None:
    pass


class Importer:
    """Runs one import.

    Args:
        submit: takes the items.
        on_rejected: called for every rejected item.
        on_progress: called with a source whenever some of it was submitted.

    Attributes:
        report: what was done so far.
    """

    def __init__(
        self,
        submit: Submit,
        *,
        on_rejected: Callable[[Finding], None] = _nothing,
        on_progress: Callable[[Source], None] = _nothing,
    ) -> None:
        self._submit = submit
        self._on_rejected = on_rejected
        self._on_progress = on_progress
        self._waiting: deque[_Chunk] = deque()
        self.report = ImportReport()

    def run(self, sources: Iterable[Source]) -> ImportReport:
        """Import sources in order and return what was done; an interrupt ends it early."""
        begun_at = time.perf_counter()
        try:
            for source in sources:
                self._import(source)
            while self._waiting:
                self._settle()
        except KeyboardInterrupt:
            self.report.interrupted = True
            self._settle_rest()
        except LedgerError as error:
            self.report.failure = error
            self._settle_rest()
        self.report.seconds = time.perf_counter() - begun_at
        return self.report

    def _import(self, source: Source) -> None:
        file = FileReport(name=source.name)
        self.report.files.append(file)
        numbers: list[int] = []
        texts: list[bytes] = []
        items: list[WireCommand | Problem] = []
        size = 0
        for number, text, item in source.items:
            numbers.append(number)
            texts.append(text)
            items.append(item)
            size += len(text)
            if len(items) >= CHUNK_ITEMS or size >= CHUNK_TEXT_BYTES:
                self._hand_over(file, numbers, texts, items)
                numbers, texts, items, size = [], [], [], 0
                self._on_progress(source)
        if items:
            self._hand_over(file, numbers, texts, items)
        self._on_progress(source)

    def _hand_over(
        self,
        file: FileReport,
        numbers: list[int],
        texts: list[bytes],
        items: list[WireCommand | Problem],
    ) -> None:
        self._waiting.append(_Chunk(file, numbers, texts, self._submit(items)))
        if len(self._waiting) > IN_FLIGHT:
            self._settle()

    def _settle(self, timeout_s: float | None = None) -> None:
        """Wait for the answers to the oldest chunk and count them."""
        chunk = self._waiting[0]
        outcomes = chunk.answers.wait(timeout_s)
        self._waiting.popleft()
        file = chunk.file
        for number, text, outcome in zip(chunk.numbers, chunk.texts, outcomes, strict=True):
            status = outcome.status
            if status == "accepted":
                file.accepted += 1
                if "unpriced" in outcome.flags:
                    file.unpriced += 1
            elif status == "duplicate":
                file.duplicate += 1
            elif status == "readable":
                file.readable += 1
            else:
                self._note(file, number, text, outcome)
        file.last_line = chunk.numbers[-1]

    def _settle_rest(self) -> None:
        """Count what still gets an answer; stop at a second interrupt."""
        with suppress(KeyboardInterrupt):
            while self._waiting:
                try:
                    self._settle(LAST_ANSWERS_S)
                except (LedgerError, TimeoutError):
                    self.report.unanswered += len(self._waiting.popleft().numbers)
        self.report.unanswered += sum(len(chunk.numbers) for chunk in self._waiting)

    def _note(self, file: FileReport, number: int, text: bytes, outcome: Outcome) -> None:
        problem = outcome.problem or Problem(outcome.status, f"the answer is {outcome.status}")
        status = "conflict" if outcome.status == "conflict" else "rejected"
        finding = Finding(
            file=file.name,
            line=number,
            status=status,
            code=problem.code,
            message=problem.message,
            pointer=problem.pointer,
            text=text[:KEPT_BYTES],
        )
        if status == "conflict":
            file.conflict += 1
        else:
            file.rejected += 1
            file.incomplete = file.incomplete or problem.code in BROKEN_CODES
            self._on_rejected(finding)
        if len(self.report.findings) < MAX_PROBLEMS:
            self.report.findings.append(finding)
