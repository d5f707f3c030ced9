"""Repeats: answers to commands that have no id of their own, kept so that a repetition gets them.

    with repeats.attempt(owner="acme", key="k-1", digest=digest) as attempt:
        if attempt.answer is None:
            attempt.keep(run(attempt.command))

Whoever repeats a command under the same key is answered as the first time, from any process. The
claim of the key is stored before the command runs. So an attempt that dies on the way, the command
done or not, leaves a claim without an answer; the next one runs the command again, under the same
name, and told that it was begun: by either the command finds what it did.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from ledger.domain.errors import Refused

KEPT_HOURS = 24
"""How long an answer is kept at least."""


class KeyReused(Refused):
    """The key was used for another command: ``idempotency_key_reused``."""

    default_code = "idempotency_key_reused"


class KeyInUse(Refused):
    """A command under this key is being worked on: ``idempotency_key_in_use``."""

    default_code = "idempotency_key_in_use"


class Command(msgspec.Struct, frozen=True):
    """A command that is run under a key.

    Attributes:
        name: 16 hexadecimal digits: the same in each attempt at it, another one of whatever
            command the key is used for once its answer is forgotten. "" where it has none.
        again: an earlier attempt began it, and nobody knows how that ended.
    """

    name: str = ""
    again: bool = False


class Attempt(Protocol):
    """One attempt at a command; nobody else has one under the same key meanwhile."""

    @property
    def command(self) -> Command:
        """Return what is attempted."""
        ...

    @property
    def answer(self) -> bytes | None:
        """Return the answer that is kept; None if the command has to be run."""
        ...

    def keep(self, answer: bytes) -> None:
        """Keep the answer, which is not empty, once the attempt ends without an error."""
        ...


class Repeats(Protocol):
    """Where answers are kept."""

    def attempt(self, *, owner: str, key: str, digest: bytes) -> AbstractContextManager[Attempt]:
        """Begin an attempt; it ends with the context.

        An error keeps nothing: it is taken to say that nothing was done, and the key may be used
        for anything. Not so `Unavailable`, and what ends the process: the claim stays.

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
