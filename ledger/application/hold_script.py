"""The script of a hold around one provider call: which documents are sent, and how leaving ends it.

It does no I/O and imports nothing but the standard library, so that a ledger in this process and a
client over HTTP follow the same one. What leaving does, without a final capture:

- nothing was reported: the hold is voided, for nothing was called;
- there was progress, or a capture that was not final: its last quantities are captured as final,
  with outcome ``ok``, or ``error`` or ``aborted`` where an exception is what leaves;
- a final capture was sent and not answered: it is sent again, as it was;
- a capture could not be read: the hold is neither captured nor voided, because the provider was
  called. It expires as its ``on_expiry`` says, and leaving raises what was wrong.

Ids and steps follow from the hold's id and from how often something was done: ``<hold>/capture``,
``<hold>/capture/1`` for captures that are not final, ``<hold>/void``.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Generic, TypeVar

Quantities = Mapping[str, object]
Document = dict[str, object]
Trouble = TypeVar("Trouble")
"""What is wrong with a document that could not be read."""

GIVEN_UP = ("voided", "exists", "hold_already_voided", "hold_already_expired")
"""Answers to a void after which there is nothing left to settle."""
_STEM_CHARS = 230


def stem_of(id: str) -> str:
    """Return what derived ids start with: the hold's id, or so much of it as leaves them room."""
    if len(id) <= _STEM_CHARS:
        return id
    digest = blake2b(id.encode("utf-8", "replace"), digest_size=16).hexdigest()
    return f"{id[: _STEM_CHARS - len(digest) - 1]}~{digest}"


def _copied(quantities: Quantities) -> Quantities:
    """Return quantities as they are now: callers go on counting in what they gave."""
    return dict(quantities) if isinstance(quantities, Mapping) else quantities


class HoldScript(Generic[Trouble]):
    """What happened in one hold so far.

    Args:
        id: of the hold.

    Attributes:
        settled: nothing is left to be sent.
        unreadable: what was wrong with a document that named quantities, if any was.
        last: what would be captured if nothing else came.
    """

    def __init__(self, id: str) -> None:
        self.settled = False
        self.unreadable: Trouble | None = None
        self.last: Document | None = None
        self._sent: Document | None = None
        self._stem = stem_of(id)
        self._extensions = 0
        self._checkpoints = 0
        self._captures = 0

    def extension(self, quantities: Quantities | None, amount: object, ttl: object) -> Document:
        """Return the document of the next extension."""
        self._extensions += 1
        given = {"quantities": quantities, "amount": amount, "ttl": ttl}
        return {
            "step": self._extensions,
            **{name: value for name, value in given.items() if value is not None},
        }

    def checkpoint(self, quantities: Quantities) -> Document:
        """Return the document of the next checkpoint.

        It counts before it is sent: whether or not that is answered, the provider was called.
        """
        self._checkpoints += 1
        quantities = _copied(quantities)
        self.last = {"quantities": quantities}
        return {"step": self._checkpoints, "quantities": quantities}

    def checkpointed(self, before: Document | None, trouble: Trouble | None) -> None:
        """Take note of the answer to a checkpoint.

        Args:
            before: ``last`` before it.
            trouble: why it could not be read; None if it could.
        """
        if trouble is not None:
            self.last = before
            self.unreadable = trouble

    def capture(
        self, quantities: Quantities, id: str | None, final: bool, members: Mapping[str, object]
    ) -> Document:
        """Return the document of a capture.

        Args:
            quantities: cumulative.
            id: of the capture; derived from the hold's when left out.
            final: nothing more is to come.
            members: what the response says.
        """
        if id is None:
            id = f"{self._stem}/capture"
            if not final:
                self._captures += 1
                id = f"{id}/{self._captures}"
        quantities = _copied(quantities)
        document = {**members, "capture": id, "quantities": quantities, "final": final}
        if final:
            self._sent = document
        else:
            self.last = {**members, "quantities": quantities}
        return document

    def captured(
        self, before: Document | None, document: Mapping[str, object], trouble: Trouble | None
    ) -> None:
        """Take note of the answer to a capture; as `checkpointed`."""
        if trouble is not None:
            self._sent, self.last = None, before
            self.unreadable = trouble
        elif document["final"]:
            self.settled = True

    def void(self, reason: str) -> Document:
        """Return the document of the void."""
        return {"void": f"{self._stem}/void", "reason": reason}

    def voided(self, status: str) -> None:
        """Take note of the answer to a void."""
        self.settled = self.settled or status in GIVEN_UP

    def ending(self, error: BaseException | None) -> tuple[Document | None, Document | None]:
        """Return the capture or the void that leaving sends; neither where none is right.

        Args:
            error: with which it is left; None for none.
        """
        if self.settled:
            return None, None
        if self._sent is not None:
            return self._sent, None
        if self.last is not None:
            outcome = "ok"
            if error is not None:
                outcome = "error" if isinstance(error, Exception) else "aborted"
            last = {"outcome": outcome, **self.last}
            return {**last, "capture": f"{self._stem}/capture", "final": True}, None
        if self.unreadable is not None:
            return None, None
        if error is None:
            return None, self.void("left without a call")
        return None, self.void(f"left with {type(error).__name__[:200]}")
