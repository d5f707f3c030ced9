"""Ingest for servers: records events without keeping an event loop from its other callers.

What is small is read on the loop, for a thread would cost more. What is large is read in a process
of its own (`EventReader`) and rated on a thread, in portions; the loop meanwhile serves others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec

from ledger.application.engine import Ledger, PendingAnswers
from ledger.application.intake import WireCommand, read_event
from ledger.application.reader import EventReader, Reading
from ledger.application.splitting import Form, Items, split_well_formed
from ledger.domain.commands import Outcome
from ledger.domain.errors import Problem

INLINE_BYTES = 32_768
"""Most bytes of a text that is read on the event loop."""
INLINE_ITEMS = 64
"""Most items that are read on the event loop."""
RESTART_AFTER_S = 10.0
"""How long after its start a reader that was lost is replaced."""

_Result = TypeVar("_Result")
_log = logging.getLogger(__name__)


class Ingest:
    """Records events for callers on event loops; close it before its ledger.

    A caller that is cancelled stops waiting; what it sent may be recorded all the same.

    Args:
        ledger: records.

    Attributes:
        reader: the process that reads what is large; None before there was anything.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        # Two threads, for one may wait for the reader to take what it is given.
        self._sending = ThreadPoolExecutor(1, thread_name_prefix="tallybook-sending")
        self._rating = ThreadPoolExecutor(1, thread_name_prefix="tallybook-rating")
        self.reader: EventReader | None = None
        self._started_s = 0.0

    async def record_event(
        self, wire: bytes | msgspec.Raw, *, tenant: str | None = None
    ) -> Outcome:
        """Record one CloudEvent (JSON, structured form) and return its outcome after its commit.

        Args:
            wire: the event.
            tenant: whose usage the sender may record, as for `read_event`.

        Raises:
            LedgerError: nothing was recorded, or it is unknown whether it was; repeat the call.
        """
        if len(bytes(wire)) <= INLINE_BYTES:
            item = read_event(wire, tenant=tenant)
        else:
            item = await self._on(self._rating, lambda: read_event(wire, tenant=tenant))
        return (await self._ledger.submit_async([item]))[0]

    async def record_batch(
        self, text: bytes, form: Form, *, tenant: str | None = None
    ) -> list[Outcome]:
        """Record a batch of CloudEvents and return one outcome an item after their commit.

        Args:
            text: of the batch.
            form: how its items stand.
            tenant: as for `record_event`.

        Raises:
            InvalidInput: ``invalid_body`` where an array is expected and there is none,
                ``too_many_items``.
            LedgerError: as for `record_event`.
        """
        if len(text) <= INLINE_BYTES:
            items = split_well_formed(text, form)
            if items is not None and len(items) <= INLINE_ITEMS:
                return await self._record_here(items, tenant)
        reading = await self._on(self._sending, lambda: self._read(text, form, tenant))
        await _done(reading.frame)
        return await self._record(reading)

    async def record_items(self, items: Sequence[WireCommand | Problem]) -> list[Outcome]:
        """Record what was read before; a problem is answered ``rejected``.

        Raises:
            LedgerError: as for `record_event`.
        """
        if len(items) <= INLINE_ITEMS:
            return await self._ledger.submit_async(items)
        return await self._answers(await self._on(self._rating, lambda: self._ledger.submit(items)))

    def close(self) -> None:
        """Let the reader and the threads go."""
        self._sending.shutdown()
        self._rating.shutdown()
        if self.reader is not None:
            self.reader.close()

    async def _record_here(self, items: Items, tenant: str | None) -> list[Outcome]:
        return await self._ledger.submit_async([read_event(item, tenant=tenant) for item in items])

    async def _record(self, reading: Reading) -> list[Outcome]:
        return await self._answers(
            await self._on(self._rating, lambda: self._ledger.submit(reading.result()))
        )

    async def _answers(self, pending: PendingAnswers) -> list[Outcome]:
        await _done(pending.rest)
        return pending.wait()

    async def _on(self, threads: ThreadPoolExecutor, call: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(threads, call)

    def _read(self, text: bytes, form: Form, tenant: str | None) -> Reading:
        """Hand a batch to the reader, which is started with the first one."""
        now_s = time.monotonic()
        reader = self.reader
        if reader is not None and reader.lost and now_s - self._started_s > RESTART_AFTER_S:
            _log.warning("the reader process was lost; it is started again")
            reader.close()
            reader = None
        if reader is None:
            reader = self.reader = EventReader()
            self._started_s = now_s
        return reader.read_batch(text, form, tenant=tenant)


async def _done(future: Future[Any]) -> None:
    """Wait until a future is done; a caller that is cancelled leaves it alone."""
    await asyncio.shield(asyncio.wrap_future(future))
