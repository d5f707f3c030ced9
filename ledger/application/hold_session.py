"""A hold around one provider call, as a context manager; see `ledger.application.protection`.

What leaving does, without a final capture:

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
from types import TracebackType
from typing import TYPE_CHECKING

from ledger.domain.commands import Outcome
from ledger.domain.errors import InvalidInput, LedgerError, Problem, Refused
from ledger.domain.holds import HoldAnswer, hold_digest

if TYPE_CHECKING:
    from ledger.application.protection import Holds

Quantities = Mapping[str, object]
_STEM_CHARS = 230


class Denied(Refused):
    """The call is not allowed, or waits for a person; do not make it.

    Attributes:
        outcome: the whole answer; its status is this error's ``code``.
    """

    default_code = "denied"

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(_denial(outcome), code=outcome.status)
        self.outcome = outcome

    @property
    def answer(self) -> HoldAnswer | None:
        """Return the decision with its reasons."""
        return self.outcome.detail


def _denial(outcome: Outcome) -> str:
    if outcome.problem is not None:
        return outcome.problem.message
    answer = outcome.detail
    if answer is None:
        return f"the call is not allowed: {outcome.status}"
    reasons = ", ".join(f"{one.code} {one.name}".strip() for one in answer.reasons)
    return f"hold {answer.hold!r} is not allowed: {outcome.status}" + (
        f" ({reasons})" if reasons else ""
    )


def _unread(outcome: Outcome) -> bool:
    """Tell whether a document was not read; then nothing moved and nothing was learned."""
    return outcome.problem is not None and (
        outcome.status.startswith("invalid_") or outcome.status == "unknown_member"
    )


def _stem(id: str) -> str:
    """Return what derived ids start with: the hold's id, or so much of it as leaves them room."""
    if len(id) <= _STEM_CHARS:
        return id
    digest = hold_digest(id.encode("utf-8", "replace").decode()).hex()
    return f"{id[: _STEM_CHARS - len(digest) - 1]}~{digest}"


def _copied(quantities: Quantities) -> Quantities:
    """Return quantities as they are now: callers go on counting in what they gave."""
    return dict(quantities) if isinstance(quantities, Mapping) else quantities


class _Session:
    """What both kinds of hold know; subclasses send the documents that this one makes."""

    def __init__(
        self, holds: Holds, ask: Mapping[str, object], *, tenant: str, raise_denied: bool
    ) -> None:
        self._holds = holds
        self._ask = dict(ask)
        self._raise_denied = raise_denied
        self._outcome: Outcome | None = None
        self._extensions = 0
        self._checkpoints = 0
        self._captures = 0
        self._last: dict[str, object] | None = None
        self._sent: dict[str, object] | None = None
        self._unreadable: Problem | None = None
        self._settled = False
        self.id = str(ask["hold"])
        self._stem = _stem(self.id)
        self.tenant = tenant

    @property
    def outcome(self) -> Outcome:
        """Return the answer to the authorization.

        Raises:
            LedgerError: ``not_authorized`` before the context is entered.
        """
        if self._outcome is None:
            raise LedgerError("enter the context of the hold first", code="not_authorized")
        return self._outcome

    @property
    def answer(self) -> HoldAnswer:
        """Return the decision, its amounts and its reasons."""
        return self.outcome.detail or HoldAnswer(self.id)

    @property
    def allowed(self) -> bool:
        """Return whether the call may be made."""
        return self.answer.decision.startswith("allow")

    @property
    def model(self) -> str:
        """Return the model to call, which is not always the one that was asked for."""
        return self.answer.model or str(self._ask.get("model", ""))

    def _entered(self, outcome: Outcome) -> None:
        self._outcome = outcome
        if not self.allowed:
            self._settled = True
            if self._raise_denied:
                raise Denied(outcome)

    def _extension(
        self, quantities: Quantities | None, amount: object, ttl: object
    ) -> dict[str, object]:
        self._extensions += 1
        given = {"quantities": quantities, "amount": amount, "ttl": ttl}
        return {
            "step": self._extensions,
            **{name: value for name, value in given.items() if value is not None},
        }

    def _checkpoint(self, quantities: Quantities) -> dict[str, object]:
        self._checkpoints += 1
        quantities = _copied(quantities)
        # Kept before it is sent: whether or not that is answered, the provider was called.
        self._last = {"quantities": quantities}
        return {"step": self._checkpoints, "quantities": quantities}

    def _checkpointed(self, before: dict[str, object] | None, outcome: Outcome) -> Outcome:
        if _unread(outcome):
            self._last = before
            self._unreadable = outcome.problem
        return outcome

    def _capture(
        self, quantities: Quantities, id: str | None, final: bool, members: Mapping[str, object]
    ) -> dict[str, object]:
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
            self._last = {**members, "quantities": quantities}
        return document

    def _captured(
        self, before: dict[str, object] | None, document: Mapping[str, object], outcome: Outcome
    ) -> Outcome:
        if _unread(outcome):
            self._sent, self._last = None, before
            self._unreadable = outcome.problem
        elif document["final"]:
            self._settled = True
        return outcome

    def _void(self, reason: str) -> dict[str, object]:
        return {"void": f"{self._stem}/void", "reason": reason}

    def _ending(
        self, error: BaseException | None
    ) -> tuple[dict[str, object] | None, dict[str, object] | None]:
        """Return the capture or the void that leaving sends; neither where none is right."""
        if self._settled:
            return None, None
        if self._sent is not None:
            return self._sent, None
        if self._last is not None:
            outcome = "ok"
            if error is not None:
                outcome = "error" if isinstance(error, Exception) else "aborted"
            last = {"outcome": outcome, **self._last}
            return {**last, "capture": f"{self._stem}/capture", "final": True}, None
        if self._unreadable is not None:
            return None, None
        if error is None:
            return None, self._void("left without a call")
        return None, self._void(f"left with {type(error).__name__[:200]}")

    def _left(self, error: BaseException | None, trouble: LedgerError | None) -> None:
        """Say what could not be settled: as a note to what leaves, else as an error.

        Raises:
            LedgerError: nothing else is raised and the hold is not settled.
        """
        if trouble is None and not self._settled and self._unreadable is not None:
            problem = self._unreadable
            trouble = InvalidInput(problem.message, code=problem.code, pointer=problem.pointer)
        if trouble is None:
            return
        if error is None:
            raise trouble
        error.add_note(f"hold {self.id!r} is not settled: {trouble.message}")


class Hold(_Session):
    """A hold around one call; made by `Holds.hold`. Not for several threads at once.

    Attributes:
        id: of the hold.
        tenant: whose ledger.
    """

    def __enter__(self) -> Hold:
        self._entered(self._holds.authorize(self._ask, tenant=self.tenant))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        del kind, traceback
        trouble = None
        capture, void = self._ending(error)
        try:
            if capture is not None:
                outcome = self._holds.capture(capture, tenant=self.tenant, hold=self.id)
                self._captured(self._last, capture, outcome)
            elif void is not None:
                self._holds.void(void, tenant=self.tenant, hold=self.id)
                self._settled = True
        except LedgerError as caught:
            trouble = caught
        self._left(error, trouble)

    def extend(
        self, quantities: Quantities | None = None, *, amount: object = None, ttl: object = None
    ) -> Outcome:
        """Reserve up to a target: all quantities of the call, or an amount; never lowered.

        On ``denied_exceeds_budget`` stop the stream; the hold stays as it is.
        """
        document = self._extension(quantities, amount, ttl)
        return self._holds.extend(document, tenant=self.tenant, hold=self.id)

    def progress(self, quantities: Quantities) -> Outcome:
        """Keep the quantities of the call so far, which a crash falls back to."""
        before = self._last
        document = self._checkpoint(quantities)
        outcome = self._holds.progress(document, tenant=self.tenant, hold=self.id)
        return self._checkpointed(before, outcome)

    def capture(
        self,
        quantities: Quantities,
        *,
        id: str | None = None,
        final: bool = True,
        **members: object,
    ) -> Outcome:
        """Post the quantities of the call; see `ledger.application.asks.capture_hold`.

        Args:
            quantities: cumulative.
            id: of the capture; derived from the hold's when left out.
            final: nothing more is to come.
            **members: what the response says: ``model``, ``tier``, ``request_id`` …
        """
        before = self._last
        document = self._capture(quantities, id, final, members)
        outcome = self._holds.capture(document, tenant=self.tenant, hold=self.id)
        return self._captured(before, document, outcome)

    def void(self, reason: str = "", *, force: bool = False) -> Outcome:
        """Give the hold up before the context ends; the provider was not called."""
        document = {**self._void(reason), "force": force}
        outcome = self._holds.void(document, tenant=self.tenant, hold=self.id)
        self._settled = self._settled or outcome.status in _GIVEN_UP
        return outcome


class AsyncHold(_Session):
    """As `Hold`, for asyncio; made by `Holds.hold_async`.

    A task that is cancelled while it waits for the authorization queues a void behind it, so that
    nothing stays reserved for a caller who is gone.
    """

    async def __aenter__(self) -> AsyncHold:
        try:
            outcome = await self._holds.authorize_async(self._ask, tenant=self.tenant)
        except Exception:
            raise
        except BaseException:
            self._holds.void_soon(self._void("cancelled"), tenant=self.tenant, hold=self.id)
            raise
        self._entered(outcome)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        del kind, traceback
        trouble = None
        capture, void = self._ending(error)
        try:
            if capture is not None:
                outcome = await self._holds.capture_async(capture, tenant=self.tenant, hold=self.id)
                self._captured(self._last, capture, outcome)
            elif void is not None:
                await self._holds.void_async(void, tenant=self.tenant, hold=self.id)
                self._settled = True
        except LedgerError as caught:
            trouble = caught
        self._left(error, trouble)

    async def extend(
        self, quantities: Quantities | None = None, *, amount: object = None, ttl: object = None
    ) -> Outcome:
        """Do as `Hold.extend`."""
        document = self._extension(quantities, amount, ttl)
        return await self._holds.extend_async(document, tenant=self.tenant, hold=self.id)

    async def progress(self, quantities: Quantities) -> Outcome:
        """Do as `Hold.progress`."""
        before = self._last
        document = self._checkpoint(quantities)
        outcome = await self._holds.progress_async(document, tenant=self.tenant, hold=self.id)
        return self._checkpointed(before, outcome)

    async def capture(
        self,
        quantities: Quantities,
        *,
        id: str | None = None,
        final: bool = True,
        **members: object,
    ) -> Outcome:
        """Do as `Hold.capture`."""
        before = self._last
        document = self._capture(quantities, id, final, members)
        outcome = await self._holds.capture_async(document, tenant=self.tenant, hold=self.id)
        return self._captured(before, document, outcome)

    async def void(self, reason: str = "", *, force: bool = False) -> Outcome:
        """Do as `Hold.void`."""
        document = {**self._void(reason), "force": force}
        outcome = await self._holds.void_async(document, tenant=self.tenant, hold=self.id)
        self._settled = self._settled or outcome.status in _GIVEN_UP
        return outcome


_GIVEN_UP = ("voided", "exists", "hold_already_voided", "hold_already_expired")
"""Answers to a void after which there is nothing left to settle."""
