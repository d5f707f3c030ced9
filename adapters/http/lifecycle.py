"""Whether a server process still takes work."""

from __future__ import annotations


class Lifecycle:
    """One a server process; changed on its event loop only.

    Attributes:
        draining: true from the moment at which the process begins to end: what is in flight is
            finished, nothing else should come.
    """

    __slots__ = ("draining",)

    def __init__(self) -> None:
        self.draining = False
