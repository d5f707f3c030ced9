"""A command queue: whatever commits commands for this process, here or in another one."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any, Protocol

from ledger.application.watching import Watch
from ledger.application.workingset import Prepared
from ledger.domain.commands import Command, Outcome


class CommandQueue(Protocol):
    """Takes commands; `ledger.application.sequencer.Sequencer` is the one that commits them."""

    def prepare(self, command: Command) -> Prepared:
        """Make a command ready to be queued."""
        ...

    def submit(self, commands: Sequence[Prepared]) -> Future[list[Outcome]]:
        """Queue commands, from any thread; the future answers after their commit."""
        ...

    async def submit_async(self, commands: Sequence[Prepared]) -> list[Outcome]:
        """Queue commands and wait without blocking the event loop."""
        ...


class LedgerQueue(CommandQueue, Protocol):
    """The queue of a ledger, which closes it.

    Attributes:
        watch: told of what is committed.
        deciding: held by who prepares many commands in one go, so that it does not compete with
            who decides in the same interpreter.
        reachable: whether what is queued now gets to whoever commits it.
    """

    watch: Watch

    @property
    def deciding(self) -> AbstractContextManager[Any]: ...  # noqa: D102 - an attribute

    @property
    def reachable(self) -> bool: ...  # noqa: D102 - an attribute

    def close(self) -> None:
        """Answer what waits, then stop."""
        ...
