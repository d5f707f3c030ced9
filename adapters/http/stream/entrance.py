"""The entrance of a stream: whose key opens a connection, and whether it still does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ledger.application.access import Caller


class Entrance:
    """What the server knows of a client before its first frame.

    Args:
        caller: whose key it is.
        tenant: that the address names; None for none.
        again: looks at the key again; raises `KeyRefused`.
        wait_s: seconds until the key's rate lets one more frame through.
    """

    def __init__(
        self,
        *,
        caller: Caller,
        tenant: str | None,
        again: Callable[[], Awaitable[Caller]],
        wait_s: Callable[[Caller], float],
    ) -> None:
        self.caller = caller
        self.tenant = tenant
        self.again = again
        self.wait_s = wait_s
