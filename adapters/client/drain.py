"""Empties a spool in order on a thread of its own, whatever the server does meanwhile.

Nothing leaves before the server has answered for it. While the server is out of reach, or does not
know the key, entries wait and are tried again; what it refuses for good goes to the spool's
refusals, so that one bad entry never holds up those behind it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO

from adapters.client.answers import Item
from adapters.client.spool import EVENT, Entry, Refusal, Spool
from adapters.client.wire import Call, Reply, Retry, batch
from ledger.domain.errors import Unavailable

MAX_EVENTS = 1_000
"""Most events of one request."""
MAX_BYTES = 4 * 1024 * 1024
"""Most bytes of one request, unless one event has more."""
IDLE_S = 1.0
"""How often a spool is looked at that nobody in this process has added to."""
PATIENT = Retry(first_s=0.2, most_s=30.0)
_FINAL = frozenset({400, 404, 409, 413, 415, 422})
"""Statuses that the same request will get again, however often it is sent."""

_log = logging.getLogger(__name__)


class Drain:
    """Sends what waits in a spool.

    Args:
        spool: to be emptied.
        send: sends one request once; raises `Unavailable` where there is no answer.
        retry: how long to wait while nothing leaves; the deadline is of no account.

    Attributes:
        trouble: why nothing leaves now; "" while all is well.
    """

    def __init__(
        self, spool: Spool, send: Callable[[Call], Reply], *, retry: Retry = PATIENT
    ) -> None:
        self._spool = spool
        self._send = send
        self._retry = retry
        self._wake = threading.Condition()
        self._asked = 0
        self._stopping = False
        self._thread: threading.Thread | None = None
        self.trouble = ""

    def start(self) -> None:
        """Begin; does nothing where it has begun."""
        with self._wake:
            if self._thread is None and not self._stopping:
                self._thread = threading.Thread(
                    target=self._run, name="tallybook-spool", daemon=True
                )
                self._thread.start()

    def wake(self) -> None:
        """Look at the spool at once: something was added."""
        self.start()
        with self._wake:
            self._asked += 1
            self._wake.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Wait until nothing waits; return whether that came about in time."""
        self.wake()
        end_s = time.monotonic() + timeout_s
        while self._spool.waiting():
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                return False
            with self._wake:
                self._wake.wait(min(left_s, 0.05))
        return True

    def stop(self) -> None:
        """End the thread after the request that is on its way; what waits stays in the spool."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    # -- the thread's side ------------------------------------------------------------

    def _run(self) -> None:
        attempt = 0
        lock: IO[bytes] | None = None
        try:
            while not self._stopping:
                asked = self._asked
                lock = lock or self._spool.try_lock()
                if lock is None:
                    self._rest(IDLE_S, asked)
                    continue
                try:
                    wait_s = self._step(attempt)
                except Exception as error:
                    # The thread must outlive whatever happens, or nothing would ever leave.
                    self._say(f"{type(error).__name__}: {error}")
                    wait_s = self._retry.wait_s(attempt + 1, None)
                attempt = attempt + 1 if self.trouble else 0
                if wait_s:
                    self._rest(wait_s, asked if not self.trouble else None)
        finally:
            if lock is not None:
                lock.close()

    def _rest(self, seconds: float, asked: int | None) -> None:
        """Wait for a time, for the end, or for something new since ``asked``."""
        end_s = time.monotonic() + seconds
        with self._wake:
            while not self._stopping and (asked is None or self._asked == asked):
                left_s = end_s - time.monotonic()
                if left_s <= 0 or not self._wake.wait(left_s):
                    return

    def _step(self, attempt: int) -> float:
        """Send what is next; return how many seconds to wait before the next step."""
        entries = self._spool.first(limit=MAX_EVENTS, max_bytes=MAX_BYTES)
        if not entries:
            self.trouble = ""
            return IDLE_S
        reply = self._ask(entries)
        if reply is None:
            return self._retry.wait_s(attempt + 1, None)
        if not self._settle(entries, reply):
            self._say(f"the server answers {reply.status} {reply.code}")
            return self._retry.wait_s(attempt + 1, reply)
        if self.trouble:
            _log.info("the spool %s is on its way again", self._spool.path)
            self.trouble = ""
        with self._wake:
            self._wake.notify_all()
        return 0.0

    def _ask(self, entries: Sequence[Entry]) -> Reply | None:
        call = (
            batch([entry.body for entry in entries])
            if entries[0].path == EVENT
            else Call("POST", entries[0].path, entries[0].body)
        )
        try:
            return self._send(call)
        except Unavailable as error:
            self._say(error.message)
            return None

    def _settle(self, entries: Sequence[Entry], reply: Reply) -> bool:
        """Let go of what was answered; return False where the server has to be asked again."""
        if reply.ok and entries[0].path != EVENT:
            self._spool.settle(entries)
            return True
        if reply.ok:
            document = reply.document()
            items = document.get("items") if isinstance(document, dict) else None
            if not isinstance(items, list) or len(items) != len(entries):
                return False
            self._spool.settle(entries, _refusals(entries, items))
            return True
        if reply.status not in _FINAL or reply.repeats:
            return False
        if len(entries) > 1:
            return self._settle_apart(entries)
        document = reply.document()
        detail = str(document.get("detail", "")) if isinstance(document, dict) else ""
        # A request that the server knows already was carried out.
        self._spool.settle(entries, [Refusal(entries[0], "refused", reply.code, detail)])
        return True

    def _settle_apart(self, entries: Sequence[Entry]) -> bool:
        """Send the halves of a batch that was refused as a whole, down to the one that is why."""
        middle = len(entries) // 2
        for half in (entries[:middle], entries[middle:]):
            reply = self._ask(half)
            if reply is None or not self._settle(half, reply):
                return False
        return True

    def _say(self, trouble: str) -> None:
        if not self.trouble:
            _log.warning("the spool %s waits: %s", self._spool.path, trouble)
        self.trouble = trouble


def _refusals(entries: Sequence[Entry], items: Sequence[object]) -> list[Refusal]:
    refused = []
    for entry, document in zip(entries, items, strict=True):
        item = Item.of(document if isinstance(document, dict) else {})
        if item.status not in ("accepted", "duplicate"):
            refused.append(Refusal(entry, item.status or "rejected", item.code, item.detail))
    return refused
