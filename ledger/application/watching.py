"""Watching: what is told of the sequencer's work, to count and to trace it.

A watch is called on the sequencer's thread and on those of callers, so it is quick, thread-safe,
and raises nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from ledger.application.workingset import Prepared
from ledger.domain.commands import Outcome


class BatchDone(msgspec.Struct, frozen=True, gc=False):
    """A batch that was committed and answered.

    Attributes:
        commands: of the batch, in order.
        outcomes: one a command.
        origins: what `Watch.origin` gave for each of its submissions.
        queued_s: when the first of them came, by `time.monotonic`.
        begun_s: when its transaction began.
        done_s: when it was committed.
        size: commands of the commit, of which these are those of one process.
        counted: whether the commit as such is counted elsewhere, by another process.
    """

    commands: Sequence[Prepared]
    outcomes: Sequence[Outcome]
    origins: Sequence[object]
    queued_s: float
    begun_s: float
    done_s: float
    size: int
    counted: bool = False


class Watch(Protocol):
    """Is told what the sequencer does."""

    def origin(self) -> object:
        """Return what a submission belongs to; called by who submits, kept until it is done."""
        ...

    def done(self, batch: BatchDone) -> None:
        """Take note of a batch."""
        ...

    def unreadable(self, items: int) -> None:
        """Take note of items that were rejected on reading and never came into a batch."""
        ...

    def repeated(self) -> None:
        """Take note that a batch is run again, for its connection was lost."""
        ...


class Unwatched:
    """Takes no note."""

    def origin(self) -> object:
        """Return nothing."""
        return None

    def done(self, batch: BatchDone) -> None:
        """Take no note."""

    def unreadable(self, items: int) -> None:
        """Take no note."""

    def repeated(self) -> None:
        """Take no note."""


class Watches:
    """Several in one.

    Args:
        watches: told in this order.
    """

    def __init__(self, watches: Sequence[Watch]) -> None:
        self._watches = tuple(watches)

    def origin(self) -> object:
        """Return what each of them gives."""
        return tuple([one.origin() for one in self._watches])

    def done(self, batch: BatchDone) -> None:
        """Tell each, with the origins that it gave."""
        for number, one in enumerate(self._watches):
            origins = [given[number] for given in batch.origins if isinstance(given, tuple)]
            one.done(msgspec.structs.replace(batch, origins=origins))

    def unreadable(self, items: int) -> None:
        """Tell each."""
        for one in self._watches:
            one.unreadable(items)

    def repeated(self) -> None:
        """Tell each."""
        for one in self._watches:
            one.repeated()
