"""Upkeep: what a running server does beside answering: rollups kept near, due holds expired.

Both may run anywhere, twice, or never: rollups say how far they are, and every operation on a
budget expires what is due before it decides. Here it is done so that reads are near and held
amounts come free without anybody asking. Of all servers of a database one leads; the others look
now and then whether it is gone.

Nothing in here ends a server: what goes wrong is logged and tried again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from ledger.application.engine import Ledger
from ledger.application.protection_reads import ProtectionReads
from ledger.application.runner import Projections, ProjectionStatus
from ledger.domain.errors import Unavailable
from ledger.domain.holds import ExpireHolds

TICK_S = 1.0
"""How often rollups are brought up to the log."""
SWEEP_S = 5.0
"""How often due holds are looked for."""
BUSY_S = 1.0
"""How long rollups are worked at before anything else gets its turn."""
CANDIDATE_S = 5.0
"""How often another server looks whether nobody leads, and how soon after a lost connection."""
RETRY_S = 30.0
"""Wait after a failure that will hardly be better at once."""
CLOSE_S = 10.0
"""How long closing waits for the batch at hand."""
MAX_TENANTS = 200
"""Ledgers whose holds are expired in one commit; the next sweep goes on."""

_log = logging.getLogger(__name__)


class Leadership(Protocol):
    """Held by at most one process of all that share a database."""

    def held(self) -> bool:
        """Return whether it is still held."""
        ...


class Leader(Protocol):
    """Where leadership is to be had."""

    def try_lead(self) -> AbstractContextManager[Leadership | None]:
        """Take the lead, or None if another process has it; leaving gives it back.

        Raises:
            Unavailable: nobody can be asked now.
        """
        ...


class Upkeep:
    """Does the upkeep on a thread of its own while this process leads.

    Args:
        leader: where leadership is to be had.
        projections: are kept near.
        ledger: expires holds.
        protection: knows which are due.
        told: given the standing of the projections after every round.
    """

    def __init__(
        self,
        *,
        leader: Leader,
        projections: Projections,
        ledger: Ledger,
        protection: ProtectionReads,
        told: Callable[[Sequence[ProjectionStatus]], None],
    ) -> None:
        self._leader = leader
        self._runners = [projections.runner(name) for name in projections.names]
        self._ledger = ledger
        self._protection = protection
        self._told = told
        self._swept_at = -SWEEP_S
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tallybook-upkeep", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Stop after the batch at hand; one that takes longer than `CLOSE_S` is left behind."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            wait_s = CANDIDATE_S
            try:
                with self._leader.try_lead() as leadership:
                    while leadership is not None and leadership.held() and not self._stop.is_set():
                        more = self._round()
                        self._stop.wait(0 if more else TICK_S)
            except Unavailable as error:
                _log.warning("upkeep goes on in %g s: %s", wait_s, error)
            except Exception as error:
                # What is broken for good, such as a log that does not agree with itself, must not
                # end a server that can still take usage.
                wait_s = RETRY_S
                _log.error("upkeep goes on in %g s: %s", wait_s, error, exc_info=error)
            self._stop.wait(wait_s)

    def _round(self) -> bool:
        """Do what there is to do; return whether more is left."""
        now = time.monotonic()
        if now - self._swept_at >= SWEEP_S:
            self._swept_at = now
            self._sweep()
        end = now + BUSY_S
        more = False
        for runner in self._runners:
            more = True
            while more and time.monotonic() < end and not self._stop.is_set():
                more = runner.step()
        self._told([runner.status() for runner in self._runners])
        return more

    def _sweep(self) -> None:
        try:
            due = [one.tenant for one in self._protection.due() if one.holds]
            if due:
                self._ledger.run([ExpireHolds(tenant) for tenant in due[:MAX_TENANTS]])
        except Unavailable:
            raise
        except Exception as error:
            # Rollups have nothing to do with it.
            _log.error("due holds could not be expired: %s", error, exc_info=error)
