"""Batched reads: many askers of an event loop, one set-wise read at a time.

While a read is on its way the next batch fills: no timer, no fixed size. A reader that arrives
while a read is under way is in the next one, so an answer is never older than its question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from ledger.domain.errors import InvariantViolation, LedgerError, Unavailable

T = TypeVar("T")


class _Line(Generic[T]):
    """Those of one event loop who wait, by what they ask for."""

    __slots__ = ("running", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[str, list[asyncio.Future[T | None]]] = {}
        self.running: asyncio.Task[None] | None = None


class BatchedReads(Generic[T]):
    """Answers askers together; for any number of event loops.

    Args:
        read: reads many at once; those that are not there are left out. Called on one thread.
        name: of that thread.
    """

    def __init__(self, read: Callable[[Sequence[str]], Mapping[str, T]], *, name: str) -> None:
        self._read = read
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._closed = False
        self._lines: WeakKeyDictionary[asyncio.AbstractEventLoop, _Line[T]] = WeakKeyDictionary()

    async def ask(self, name: str) -> T | None:
        """Return what is there by a name, as of now or later; None if it is not there.

        Raises:
            Unavailable: it cannot be read now, or never again (``ledger_closed``).
        """
        if self._closed:
            raise Unavailable("the ledger is closed; open it again", code="ledger_closed")
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop)
        if line is None:
            line = self._lines[loop] = _Line()
        asked: asyncio.Future[T | None] = loop.create_future()
        line.waiting.setdefault(name, []).append(asked)
        if line.running is None:
            line.running = loop.create_task(self._serve(loop, line))
        return await asked

    def close(self) -> None:
        """Answer what is on its way, then stop the thread."""
        self._closed = True
        self._executor.shutdown()

    async def _serve(self, loop: asyncio.AbstractEventLoop, line: _Line[T]) -> None:
        """Read batch by batch until nobody waits."""
        try:
            while line.waiting:
                taken, line.waiting = line.waiting, {}
                try:
                    found = await loop.run_in_executor(self._executor, self._read, list(taken))
                except Exception as error:
                    _fail(taken, error)
                    continue
                for name, askers in taken.items():
                    answer = found.get(name)
                    for asked in askers:
                        if not asked.done():
                            asked.set_result(answer)
        finally:
            line.running = None


def _fail(taken: Mapping[str, Sequence[asyncio.Future[T | None]]], error: Exception) -> None:
    for askers in taken.values():
        for asked in askers:
            if not asked.done():
                asked.set_exception(_own(error))


def _own(error: Exception) -> Exception:
    """Return an error of one asker's own: a shared one would gather all of their tracebacks."""
    own: Exception
    if isinstance(error, LedgerError):
        own = Unavailable(error.message, code=error.code)
    elif isinstance(error, InvariantViolation):
        own = InvariantViolation(str(error))
    else:
        own = RuntimeError(f"the read failed: {type(error).__name__}")
    own.__cause__ = error
    return own
