"""Answers to asyncio callers, handed over loop by loop instead of one by one.

Waking an event loop from another thread costs a system call; a batch that answers hundreds of
callers on one loop needs only one.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import Any

_Pair = tuple["Future[Any]", "asyncio.Future[Any]"]


class AsyncAnswers:
    """Carries results from the worker thread to event loops; `flush` wakes each loop once."""

    def __init__(self) -> None:
        self._done: dict[asyncio.AbstractEventLoop, list[_Pair]] = {}

    def expect(
        self,
        loop: asyncio.AbstractEventLoop,
        future: Future[Any],
        answer: asyncio.Future[Any],
    ) -> None:
        """Let ``answer`` have what ``future`` comes to; a caller who is gone is passed over."""
        caller = threading.get_ident()

        def done(finished: Future[Any]) -> None:
            if threading.get_ident() == caller:
                # It was done before anybody could wait for it: the worker has moved on.
                loop.call_soon(_settle, [(finished, answer)])
            else:
                self._done.setdefault(loop, []).append((finished, answer))

        future.add_done_callback(done)

    def flush(self) -> None:
        """Hand over everything that is done; called by the worker after each batch."""
        done, self._done = self._done, {}
        for loop, pairs in done.items():
            try:
                loop.call_soon_threadsafe(_settle, pairs)
            except RuntimeError:
                # The loop is closed; nobody waits any more.
                continue


def _settle(pairs: list[_Pair]) -> None:
    for future, answer in pairs:
        if answer.done():
            continue
        error = future.exception()
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(future.result())
