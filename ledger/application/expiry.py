"""Expiry of what is due: holds and credit whose time is over.

Every operation on a ledger expires what is due there before it decides; this is for ledgers that
nobody touches, so that held amounts come free and credit ends without anybody asking.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ledger.application.engine import Ledger
from ledger.domain.holds import ExpireHolds

MAX_TENANTS = 200
"""Ledgers in one commit."""


def expire(ledger: Ledger, tenants: Sequence[str], *, check: Callable[[], None]) -> int:
    """Expire what is due in ledgers; again changes nothing. Return how many ledgers it were.

    Args:
        ledger: runs the commands.
        tenants: whose.
        check: called before each commit; what it raises ends the work.

    Raises:
        Unavailable: the database cannot serve it now; what was committed stands.
    """
    for start in range(0, len(tenants), MAX_TENANTS):
        check()
        ledger.run([ExpireHolds(one) for one in tenants[start : start + MAX_TENANTS]])
    return len(tenants)
