"""Stores that fail when a test says so."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ledger.application.ports import Batch, ConnectionLost, LedgerStore, LedgerWrite, TenantKey


class Broken(Exception):
    """What a store raises when a test breaks it."""


class FailingStore:
    """A store over another that fails at chosen points.

    Args:
        store: does the work.

    Attributes:
        before_open: called before a batch opens.
        before_write: called with the writes before they are written.
        after_write: called after the commit, before the caller knows of it.
        batches: how many batches were opened.
        writes: how many writes were asked for.
    """

    def __init__(self, store: LedgerStore) -> None:
        self._store = store
        self.before_open: Callable[[], None] = lambda: None
        self.before_write: Callable[[Sequence[LedgerWrite]], None] = lambda writes: None
        self.after_write: Callable[[], None] = lambda: None
        self.batches = 0
        self.writes = 0

    @contextmanager
    def batch(
        self, *, since: int, keys: Collection[TenantKey], holds: Collection[TenantKey] = ()
    ) -> Iterator[Batch]:
        """Open a batch of the other store."""
        self.batches += 1
        self.before_open()
        with self._store.batch(since=since, keys=keys, holds=holds) as batch:
            yield _FailingBatch(self, batch)


class _FailingBatch:
    def __init__(self, store: FailingStore, batch: Batch) -> None:
        self._store = store
        self._batch = batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def write(self, writes: Sequence[LedgerWrite]) -> int:
        """Write, with what the test wants to happen before and after."""
        self._store.writes += 1
        self._store.before_write(writes)
        head = self._batch.write(writes)
        self._store.after_write()
        return head


def times(count: int, error: Exception) -> Callable[..., None]:
    """Return a function that raises ``error`` the first ``count`` times."""
    left = [error] * count

    def fail(*_: object) -> None:
        if left:
            raise left.pop()

    return fail


def lost(count: int = 1) -> Callable[..., None]:
    """Return a function that loses the connection the first ``count`` times."""
    return times(count, ConnectionLost("the connection was cut by a test"))
