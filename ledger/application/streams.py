"""Streams: what is kept of the sessions of gateways, so that any process can go on with them.

It is about how much is sent again, never about what is in the ledger: that is decided by ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from ledger.application.live import Attribution
from ledger.domain.holds import HoldState

KEPT_S = 7 * 24 * 3600
"""How long a session is kept after its last connection."""


class StreamSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session as it is kept.

    Attributes:
        tenant: whose ledger.
        session: id.
        epoch: names this beginning of it; rises.
        attachment: counts its connections; the highest one has it.
        acked: frames up to this one are done; may lag behind.
        ended: it is over.
        attribution: for whom or what it works.
    """

    tenant: str
    session: str
    epoch: int
    attachment: int
    acked: int
    ended: bool
    attribution: Attribution


class Progress(msgspec.Struct, frozen=True):
    """How far a connection has come with a session."""

    tenant: str
    session: str
    attachment: int
    acked: int


class StreamSessions(Protocol):
    """Where sessions are kept; all methods block and raise `Unavailable`."""

    def begin(self, *, tenant: str, attribution: Attribution) -> StreamSession:
        """Begin a session, anew where it is there: another epoch, a new connection has it."""
        ...

    def resume(self, *, tenant: str, session: str, epoch: int) -> StreamSession | None:
        """Let a new connection have a session; None where there is none.

        A session that has ended, or has another epoch by now, is returned as it is; who has it
        does not change.
        """
        ...

    def end(self, *, tenant: str, session: str, attachment: int) -> None:
        """Take note that a session is over, unless another connection has it."""
        ...

    def keep(self, progress: Sequence[Progress]) -> Sequence[Progress]:
        """Write down how far connections have come; return those that have lost their session."""
        ...

    def open_holds(self, *, tenant: str, session: str) -> Sequence[HoldState]:
        """Return the open holds that name a session, the one that expires first first."""
        ...
