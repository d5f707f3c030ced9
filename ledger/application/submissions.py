"""Submissions: commands that are committed together, and who hears what became of them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from ledger.application.workingset import Prepared
from ledger.domain.commands import Outcome
from ledger.domain.errors import InvalidInput

MAX_BATCH_COMMANDS = 4096
"""A batch takes waiting submissions until it has this many commands."""
MAX_SUBMISSION_COMMANDS = 10_000
"""Most commands of one submission; it is never split over two commits."""


class Told(Protocol):
    """Who is told what became of a submission; a `concurrent.futures.Future` is one."""

    def set_running_or_notify_cancel(self) -> bool:
        """Say that the work begins; False where nobody wants it any more."""
        ...

    def set_result(self, result: list[Outcome], /) -> None:
        """Take the outcomes, one a command."""
        ...

    def set_exception(self, error: BaseException, /) -> None:
        """Take what it failed with: nothing of it moved, or that is unknown."""
        ...


class Submission:
    """Commands that are committed together.

    Args:
        commands: in order.
        told: hears of them.
        origin: what `Watch.origin` gave for them.

    Attributes:
        queued_s: when they came, by `time.monotonic`.
    """

    __slots__ = ("commands", "origin", "queued_s", "told")

    def __init__(self, commands: Sequence[Prepared], told: Told, origin: object) -> None:
        self.commands = commands
        self.told = told
        self.origin = origin
        self.queued_s = time.monotonic()


def take(waiting: deque[Submission]) -> list[Submission]:
    """Take from a queue what the next batch commits."""
    taken: list[Submission] = []
    count = 0
    while waiting:
        count += len(waiting[0].commands)
        if taken and count > MAX_BATCH_COMMANDS:
            break
        taken.append(waiting.popleft())
    return taken


def check_size(commands: Sequence[Prepared]) -> None:
    """Check that commands are few enough for one submission.

    Raises:
        InvalidInput: ``too_many_commands`` above 10,000.
    """
    if len(commands) > MAX_SUBMISSION_COMMANDS:
        raise InvalidInput(
            f"{len(commands)} commands at once; at most {MAX_SUBMISSION_COMMANDS} are possible",
            code="too_many_commands",
        )
