"""A hold around one provider call, as a context manager; see `ledger.application.protection`.

What it sends, and what leaving does, is said in `ledger.application.hold_script`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from ledger.application.hold_script import HoldScript, Quantities
from ledger.domain.commands import Outcome
from ledger.domain.errors import InvalidInput, LedgerError, Problem, Refused
from ledger.domain.holds import HoldAnswer

if TYPE_CHECKING:
    from ledger.application.protection import Holds


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


def _unread(outcome: Outcome) -> Problem | None:
    """Return why a document was not read; then nothing moved and nothing was learned."""
    problem = outcome.problem
    if problem is None:
        return None
    unread = outcome.status.startswith("invalid_") or outcome.status == "unknown_member"
    return problem if unread else None


class _Session:
    """What both kinds of hold know; subclasses send the documents that this one makes."""

    def __init__(
        self, holds: Holds, ask: Mapping[str, object], *, tenant: str, raise_denied: bool
    ) -> None:
        self._holds = holds
        self._ask = dict(ask)
        self._raise_denied = raise_denied
        self._outcome: Outcome | None = None
        self.id = str(ask["hold"])
        self.tenant = tenant
        self._script: HoldScript[Problem] = HoldScript(self.id)

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
            self._script.settled = True
            if self._raise_denied:
                raise Denied(outcome)

    def _left(self, error: BaseException | None, trouble: LedgerError | None) -> None:
        """Say what could not be settled: as a note to what leaves, else as an error.

        Raises:
            LedgerError: nothing else is raised and the hold is not settled.
        """
        problem = self._script.unreadable
        if trouble is None and not self._script.settled and problem is not None:
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
        capture, void = self._script.ending(error)
        try:
            if capture is not None:
                outcome = self._holds.capture(capture, tenant=self.tenant, hold=self.id)
                self._script.captured(self._script.last, capture, _unread(outcome))
            elif void is not None:
                self._holds.void(void, tenant=self.tenant, hold=self.id)
                self._script.settled = True
        except LedgerError as caught:
            trouble = caught
        self._left(error, trouble)

    def extend(
        self, quantities: Quantities | None = None, *, amount: object = None, ttl: object = None
    ) -> Outcome:
        """Reserve up to a target: all quantities of the call, or an amount; never lowered.

        On ``denied_exceeds_budget`` stop the stream; the hold stays as it is.
        """
        document = self._script.extension(quantities, amount, ttl)
        return self._holds.extend(document, tenant=self.tenant, hold=self.id)

    def progress(self, quantities: Quantities) -> Outcome:
        """Keep the quantities of the call so far, which a crash falls back to."""
        before = self._script.last
        document = self._script.checkpoint(quantities)
        outcome = self._holds.progress(document, tenant=self.tenant, hold=self.id)
        self._script.checkpointed(before, _unread(outcome))
        return outcome

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
        before = self._script.last
        document = self._script.capture(quantities, id, final, members)
        outcome = self._holds.capture(document, tenant=self.tenant, hold=self.id)
        self._script.captured(before, document, _unread(outcome))
        return outcome

    def void(self, reason: str = "", *, force: bool = False) -> Outcome:
        """Give the hold up before the context ends; the provider was not called."""
        document = {**self._script.void(reason), "force": force}
        outcome = self._holds.void(document, tenant=self.tenant, hold=self.id)
        self._script.voided(outcome.status)
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
            self._holds.void_soon(self._script.void("cancelled"), tenant=self.tenant, hold=self.id)
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
        capture, void = self._script.ending(error)
        try:
            if capture is not None:
                outcome = await self._holds.capture_async(capture, tenant=self.tenant, hold=self.id)
                self._script.captured(self._script.last, capture, _unread(outcome))
            elif void is not None:
                await self._holds.void_async(void, tenant=self.tenant, hold=self.id)
                self._script.settled = True
        except LedgerError as caught:
            trouble = caught
        self._left(error, trouble)

    async def extend(
        self, quantities: Quantities | None = None, *, amount: object = None, ttl: object = None
    ) -> Outcome:
        """Do as `Hold.extend`."""
        document = self._script.extension(quantities, amount, ttl)
        return await self._holds.extend_async(document, tenant=self.tenant, hold=self.id)

    async def progress(self, quantities: Quantities) -> Outcome:
        """Do as `Hold.progress`."""
        before = self._script.last
        document = self._script.checkpoint(quantities)
        outcome = await self._holds.progress_async(document, tenant=self.tenant, hold=self.id)
        self._script.checkpointed(before, _unread(outcome))
        return outcome

    async def capture(
        self,
        quantities: Quantities,
        *,
        id: str | None = None,
        final: bool = True,
        **members: object,
    ) -> Outcome:
        """Do as `Hold.capture`."""
        before = self._script.last
        document = self._script.capture(quantities, id, final, members)
        outcome = await self._holds.capture_async(document, tenant=self.tenant, hold=self.id)
        self._script.captured(before, document, _unread(outcome))
        return outcome

    async def void(self, reason: str = "", *, force: bool = False) -> Outcome:
        """Do as `Hold.void`."""
        document = {**self._script.void(reason), "force": force}
        outcome = await self._holds.void_async(document, tenant=self.tenant, hold=self.id)
        self._script.voided(outcome.status)
        return outcome
