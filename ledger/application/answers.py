"""Answers to asyncio callers, handed over loop by loop instead of one by one.

Waking an event loop from another thread costs a system call; a batch that answers hundreds of
callers on one loop needs only one. And a future for threads costs several times what the loop's
own does, so a caller on a loop has only that.
"""

from __future__ import annotations

import asyncio
from typing import Any


class AsyncAnswer:
    """What the worker tells one caller on an event loop, as it would a future for threads.

    Args:
        answers: carry it to the loop.
        loop: of the caller.
        answer: awaited there.
    """

    __slots__ = ("_answers", "answer", "error", "loop", "result")

    def __init__(
        self,
        answers: AsyncAnswers,
        loop: asyncio.AbstractEventLoop,
        answer: asyncio.Future[Any],
    ) -> None:
        self._answers = answers
        self.loop = loop
        self.answer = answer
        self.result: Any = None
        self.error: BaseException | None = None

    def set_running_or_notify_cancel(self) -> bool:
        """Say that the work is to be done: what was queued is, even if nobody waits any more."""
        return True

    def set_result(self, result: Any) -> None:
        """Keep what the work came to until `AsyncAnswers.flush`."""
        self.result = result
        self._answers.keep(self)

    def set_exception(self, error: BaseException) -> None:
        """Keep what the work failed with until `AsyncAnswers.flush`."""
        self.error = error
        self._answers.keep(self)


class AsyncAnswers:
    """Carries results from the worker thread to event loops; `flush` wakes each loop once."""

    def __init__(self) -> None:
        self._done: dict[asyncio.AbstractEventLoop, list[AsyncAnswer]] = {}

    def expect(self) -> AsyncAnswer:
        """Return what the worker tells the caller, who awaits its ``answer`` on this loop."""
        loop = asyncio.get_running_loop()
        return AsyncAnswer(self, loop, loop.create_future())

    def keep(self, told: AsyncAnswer) -> None:
        """Take an answer; called by the worker."""
        self._done.setdefault(told.loop, []).append(told)

    def flush(self) -> None:
        """Hand over everything that is done; called by the worker after each batch."""
        done, self._done = self._done, {}
        for loop, told in done.items():
            try:
                loop.call_soon_threadsafe(_settle, told)
            except RuntimeError:
                # The loop is closed; nobody waits any more.
                continue


def _settle(told: list[AsyncAnswer]) -> None:
    for one in told:
        # A caller who is gone is passed over.
        if one.answer.done():
            continue
        if one.error is not None:
            one.answer.set_exception(one.error)
        else:
            one.answer.set_result(one.result)
