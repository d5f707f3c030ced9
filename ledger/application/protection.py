"""Holds for callers in Python: one method an operation, and a context manager around a call.

    holds = Holds(sequencer)
    with holds.hold("h-1", tenant="acme", provider="openai", model="gpt-4o",
                    quantities={"tokens.input": 900, "tokens.output": 500}) as hold:
        response = call(model=hold.model, max_tokens=500)
        hold.capture({"tokens.input": 880, "tokens.output": 212})

Answers are `Outcome`s: ``status`` is a code of docs/spec/holds.md, ``detail`` a `HoldAnswer`. What
cannot be read is answered in the same way, ``invalid_<member>`` or ``unknown_member`` with the
problem, so callers treat it like any refusal. What raises is the ledger being out of reach
(`Unavailable`): whether the command was committed is then unknown, and the caller sends it again
with the same ids until it is answered; every command answers its own repetition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from ledger.application import asks
from ledger.application.ask_forms import AskForm, CaptureForm
from ledger.application.command_queue import CommandQueue
from ledger.application.hold_session import AsyncHold, Hold
from ledger.domain.commands import Command, Outcome
from ledger.domain.errors import InvalidInput, LedgerError, Problem
from ledger.domain.holds import HoldAnswer

Document = Mapping[str, object]
Ask = Document | AskForm
"""An ask, plain or read already."""
Capture = Document | CaptureForm
"""A capture, plain or read already."""


class Holds:
    """Authorizes provider calls and settles them.

    Every operation takes a plain document, as `ledger.application.asks` describes it, and has an
    ``_async`` twin for asyncio. Thread-safe.

    Args:
        sequencer: what runs the commands.
    """

    def __init__(self, sequencer: CommandQueue) -> None:
        self._sequencer = sequencer

    # -- authorize --------------------------------------------------------------------

    def authorize(self, document: Document, *, tenant: str) -> Outcome:
        """Ask whether a call may be made, and reserve what it may cost.

        Example:
            ``holds.authorize({"hold": "h-1", "amount": "0.25"}, tenant="acme").status``

        Raises:
            Unavailable: the ledger is out of reach; ask again with the same id.
        """
        return self._run(*_authorize(document, tenant))

    async def authorize_async(self, document: Ask, *, tenant: str) -> Outcome:
        """Do as `authorize`."""
        return await self._run_async(*_authorize(document, tenant))

    def simulate(self, document: Document, *, tenant: str) -> Outcome:
        """Say what `authorize` would answer; nothing is kept or reserved."""
        return self._run(*_authorize(document, tenant, dry=True))

    async def simulate_async(self, document: Ask, *, tenant: str) -> Outcome:
        """Do as `simulate`."""
        return await self._run_async(*_authorize(document, tenant, dry=True))

    # -- a hold -----------------------------------------------------------------------

    def extend(self, document: Document, *, tenant: str, hold: str) -> Outcome:
        """Reserve up to a target as a stream grows: ``{"step": 1, "amount": "0.50"}``."""
        return self._run(*_about(asks.extend_hold, document, tenant, hold))

    async def extend_async(self, document: Document, *, tenant: str, hold: str) -> Outcome:
        """Do as `extend`."""
        return await self._run_async(*_about(asks.extend_hold, document, tenant, hold))

    def progress(self, document: Document, *, tenant: str, hold: str) -> Outcome:
        """Keep a checkpoint: ``{"step": 1, "quantities": {"tokens.output": 80}}``."""
        return self._run(*_about(asks.progress_hold, document, tenant, hold))

    async def progress_async(self, document: Document, *, tenant: str, hold: str) -> Outcome:
        """Do as `progress`."""
        return await self._run_async(*_about(asks.progress_hold, document, tenant, hold))

    def capture(self, document: Document, *, tenant: str, hold: str) -> Outcome:
        """Post what a call took: ``{"capture": "c-1", "quantities": {"tokens.output": 212}}``."""
        return self._run(*_about(asks.capture_hold, document, tenant, hold))

    async def capture_async(self, document: Capture, *, tenant: str, hold: str) -> Outcome:
        """Do as `capture`."""
        return await self._run_async(*_about(asks.capture_hold, document, tenant, hold))

    def void(self, document: Document, *, tenant: str, hold: str) -> Outcome:
        """Give a hold up: ``{"void": "v-1", "reason": "not called"}``."""
        return self._run(*_about(asks.void_hold, document, tenant, hold))

    async def void_async(self, document: Document, *, tenant: str, hold: str) -> Outcome:
        """Do as `void`."""
        return await self._run_async(*_about(asks.void_hold, document, tenant, hold))

    def void_soon(self, document: Document, *, tenant: str, hold: str) -> None:
        """Queue a void behind everything queued so far; its answer and its failure are nobody's.

        For a caller who is leaving: what stays reserved where it fails is free with the expiry.
        """
        command, _ = _about(asks.void_hold, document, tenant, hold)
        if command is not None:
            with suppress(LedgerError):
                self._sequencer.submit([self._sequencer.prepare(command)])

    def reverse(self, document: Document, *, tenant: str) -> Outcome:
        """Take charge back: ``{"reversal": "r-1", "capture": "c-1", "amount": "0.10"}``."""
        return self._run(*_reverse(document, tenant))

    async def reverse_async(self, document: Document, *, tenant: str) -> Outcome:
        """Do as `reverse`."""
        return await self._run_async(*_reverse(document, tenant))

    # -- around a call ----------------------------------------------------------------

    def hold(self, id: str, *, tenant: str, raise_denied: bool = True, **ask: object) -> Hold:
        """Return a context manager that authorizes a call and settles it when it is left.

        Example:
            ::

                with holds.hold("h-1", tenant="acme", amount="0.25", raise_denied=False) as hold:
                    if hold.allowed:
                        call(model=hold.model)
                        hold.capture({"tokens.output": 212})

        Args:
            id: of the hold; a new one for every provider call.
            tenant: whose ledger.
            raise_denied: raise `Denied` on entering where the call is not allowed.
            **ask: members of the ask; see `ledger.application.asks.authorize_hold`.
        """
        return Hold(self, {**ask, "hold": id}, tenant=tenant, raise_denied=raise_denied)

    def hold_async(
        self, id: str, *, tenant: str, raise_denied: bool = True, **ask: object
    ) -> AsyncHold:
        """Return the same for ``async with``; its operations are awaited."""
        return AsyncHold(self, {**ask, "hold": id}, tenant=tenant, raise_denied=raise_denied)

    # -- how they run -----------------------------------------------------------------

    def _run(self, command: Command | None, answer: Outcome | None) -> Outcome:
        if command is None:
            return _answered(answer)
        return self._sequencer.submit([self._sequencer.prepare(command)]).result()[0]

    async def _run_async(self, command: Command | None, answer: Outcome | None) -> Outcome:
        if command is None:
            return _answered(answer)
        return (await self._sequencer.submit_async([self._sequencer.prepare(command)]))[0]


_Read = tuple[Command | None, Outcome | None]
"""A command, or the answer to a document that cannot be read."""


def _answered(answer: Outcome | None) -> Outcome:
    if answer is None:
        raise ValueError("neither a command nor an answer")
    return answer


def _authorize(document: Ask, tenant: str, *, dry: bool = False) -> _Read:
    try:
        return asks.authorize_hold(document, tenant=tenant, dry=dry), None
    except InvalidInput as error:
        named = document.get("hold") if isinstance(document, Mapping) else None
        if isinstance(document, AskForm):
            named = document.hold
        return None, _invalid(error, named, decision="deny")


def _about(read: Callable[..., Command], document: Capture, tenant: str, hold: str) -> _Read:
    try:
        return read(document, tenant=tenant, hold=hold), None
    except InvalidInput as error:
        return None, _invalid(error, hold)


def _reverse(document: Document, tenant: str) -> _Read:
    try:
        return asks.reverse_charge(document, tenant=tenant), None
    except InvalidInput as error:
        return None, Outcome(error.code, problem=Problem.of(error))


def _invalid(error: InvalidInput, hold: object, *, decision: str = "") -> Outcome:
    """Return the answer to what cannot be read; an id that is none is left out."""
    known = hold if isinstance(hold, str) and error.pointer != "/hold" else ""
    answer = HoldAnswer(known, decision=decision)
    return Outcome(error.code, problem=Problem.of(error), detail=answer)
