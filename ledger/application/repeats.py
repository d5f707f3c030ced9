"""Repeats: answers to commands that have no id of their own, kept so that a repetition gets them.

    with repeats.attempt(owner="acme", key="k-1", digest=digest) as attempt:
        if attempt.answer is None:
            attempt.keep(run())

Whoever repeats a command under the same key is answered as the first time, from any process. An
attempt that dies on the way leaves nothing: the next one runs the command again.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from ledger.domain.errors import Refused

KEPT_HOURS = 24
"""How long an answer is kept at least."""


class KeyReused(Refused):
    """The key was used for another command: ``idempotency_key_reused``."""

    default_code = "idempotency_key_reused"


class KeyInUse(Refused):
    """A command under this key is being worked on: ``idempotency_key_in_use``."""

    default_code = "idempotency_key_in_use"


class Attempt(Protocol):
    """One attempt at a command; nobody else has one under the same key meanwhile."""

    @property
    def answer(self) -> bytes | None:
        """Return the answer that is kept; None if the command has to be run."""
        ...

    def keep(self, answer: bytes) -> None:
        """Keep the answer once the attempt ends without an error."""
        ...


class Repeats(Protocol):
    """Where answers are kept."""

    def attempt(self, *, owner: str, key: str, digest: bytes) -> AbstractContextManager[Attempt]:
        """Begin an attempt; it ends with the context, and an error keeps nothing.

        Args:
            owner: tenant; "" for the platform.
            key: the client's.
            digest: of the whole command.

        Raises:
            KeyReused: the key was used for a command with another digest.
            KeyInUse: another attempt under the key has not ended.
            Unavailable: it cannot be told whether there is an answer, or it was not kept.
        """
        ...

    def close(self) -> None:
        """Let all connections go."""
        ...
