"""Upkeep: what a running server does beside answering: rollups kept near, due holds expired.

Both may run anywhere, twice, or never: rollups say how far they are, and every operation on a
budget expires what is due before it decides. Here it is done so that reads are near and held
amounts come free without anybody asking. Of all servers of a database one leads; the others look
now and then whether it is gone.

Nothing in here ends a server: what goes wrong is logged and tried again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from ledger.application.engine import Ledger
from ledger.application.expiry import MAX_TENANTS, expire
from ledger.application.leading import Leader, Led
from ledger.application.protection_reads import ProtectionReads
from ledger.application.runner import Projections, ProjectionStatus
from ledger.domain.errors import Unavailable

TICK_S = 1.0
"""How often rollups are brought up to the log."""
SWEEP_S = 5.0
"""How often due holds are looked for."""
BUSY_S = 1.0
"""How long rollups are worked at before anything else gets its turn."""

_log = logging.getLogger(__name__)


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
        self._runners = [projections.runner(name) for name in projections.names]
        self._ledger = ledger
        self._protection = protection
        self._told = told
        self._swept_at = -SWEEP_S
        self._led = Led("upkeep", leader, self._keep_up)

    def start(self) -> None:
        """Begin."""
        self._led.start()

    def close(self) -> None:
        """Stop after the batch at hand; one that takes too long is left behind."""
        self._led.close()

    def _keep_up(self, goes_on: Callable[[], bool]) -> None:
        while goes_on():
            more = self._round()
            self._led.ending.wait(0 if more else TICK_S)

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
            while more and time.monotonic() < end and not self._led.ending.is_set():
                more = runner.step()
        self._told([runner.status() for runner in self._runners])
        return more

    def _sweep(self) -> None:
        try:
            due = [one.tenant for one in self._protection.due() if one.holds]
            if due:
                # The next sweep goes on: rollups get their turn between.
                expire(self._ledger, due[:MAX_TENANTS], check=_no_check)
        except Unavailable:
            raise
        except Exception as error:
            # Rollups have nothing to do with it.
            _log.error("due holds could not be expired: %s", error, exc_info=error)


def _no_check() -> None:
    """Let it go on: a sweep is one commit."""
