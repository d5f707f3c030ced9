"""The ledger as its users call it: record usage, correct it, rate it again.

    with open_ledger() as ledger:                 # adapters.bootstrap
        answers = ledger.record([cloudevent_bytes, ...])

Every call may be repeated: an item that was recorded before answers ``duplicate`` with the
original receipt. An answer is given after the commit; an exception means nothing moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

import msgspec

from ledger.application.command_queue import LedgerQueue
from ledger.application.intake import WireCommand, read_event
from ledger.application.workingset import Prepared
from ledger.domain.commands import Command, Outcome
from ledger.domain.errors import Problem

_CHUNK = 250
"""Items that are prepared in one go, while the sequencer waits for the database."""


class PendingAnswers(msgspec.Struct, frozen=True):
    """Answers to a batch, some of which are known before its commit.

    Attributes:
        known: one an item: an outcome for what was rejected on reading, else None.
        rest: answers to the others, in order, after their commit.
    """

    known: Sequence[Outcome | None]
    rest: Future[list[Outcome]]

    def wait(self, timeout_s: float | None = None) -> list[Outcome]:
        """Return one answer an item, in order, once the commit is durable.

        Raises:
            LedgerError: nothing of this batch was recorded, or (`ConnectionLost`) it is unknown
                whether it was; repeat it.
        """
        rest = iter(self.rest.result(timeout_s))
        return [next(rest) if outcome is None else outcome for outcome in self.known]


class Ledger:
    """Records usage; thread-safe.

    Args:
        sequencer: runs the commands; closed with the ledger.
    """

    def __init__(self, sequencer: LedgerQueue) -> None:
        self.sequencer = sequencer

    def record(self, events: Sequence[bytes | msgspec.Raw]) -> list[Outcome]:
        """Record CloudEvents (JSON bytes) and return one outcome each after their commit.

        Args:
            events: at most 10,000 usage, void or adjust events.

        Returns:
            ``accepted``, ``duplicate``, ``conflict`` or ``rejected`` each; a bad item never
            fails its neighbors.

        Raises:
            LedgerError: nothing was recorded, or it is unknown whether it was; repeat the call.
        """
        return self.submit([read_event(event) for event in events]).wait()

    async def record_async(self, events: Sequence[bytes | msgspec.Raw]) -> list[Outcome]:
        """Record as `record` does, without blocking the event loop."""
        return await self.submit_async([read_event(event) for event in events])

    async def submit_async(self, items: Sequence[WireCommand | Problem]) -> list[Outcome]:
        """Record items that were read before, few at a time, without blocking the event loop."""
        known: list[Outcome | None] = []
        prepared: list[Prepared] = []
        self._sort_chunk(items, known, prepared)
        self._count_unreadable(known, prepared)
        rest = iter(await self.sequencer.submit_async(prepared))
        return [next(rest) if outcome is None else outcome for outcome in known]

    def submit(self, items: Sequence[WireCommand | Problem]) -> PendingAnswers:
        """Queue items that were read before; problems answer ``rejected``."""
        known, prepared = self._sort(items)
        self._count_unreadable(known, prepared)
        return PendingAnswers(known, self.sequencer.submit(prepared))

    def run(self, commands: Sequence[Command]) -> list[Outcome]:
        """Run commands and return one outcome each after their commit."""
        prepare = self.sequencer.prepare
        return self.sequencer.submit([prepare(command) for command in commands]).result()

    @property
    def reachable(self) -> bool:
        """Return whether what is asked now can be committed, as far as this process knows."""
        return self.sequencer.reachable

    def close(self) -> None:
        """Answer what waits, then stop."""
        self.sequencer.close()

    def _count_unreadable(
        self, known: Sequence[Outcome | None], prepared: Sequence[Prepared]
    ) -> None:
        if len(known) > len(prepared):
            self.sequencer.watch.unreadable(len(known) - len(prepared))

    def _sort(
        self, items: Sequence[WireCommand | Problem]
    ) -> tuple[list[Outcome | None], list[Prepared]]:
        known: list[Outcome | None] = []
        prepared: list[Prepared] = []
        for start in range(0, len(items), _CHUNK):
            with self.sequencer.deciding:
                self._sort_chunk(items[start : start + _CHUNK], known, prepared)
        return known, prepared

    def _sort_chunk(
        self,
        items: Sequence[WireCommand | Problem],
        known: list[Outcome | None],
        prepared: list[Prepared],
    ) -> None:
        prepare = self.sequencer.prepare
        for item in items:
            if isinstance(item, Problem):
                known.append(Outcome("rejected", problem=item))
            else:
                known.append(None)
                prepared.append(prepare(item))
