"""A hold around one provider call, over HTTP; `ledger.application.hold_script` says what it sends.

As in the ledger's own process, but for an outage: a checkpoint that cannot be sent is left out, for
the next one says more; the final capture goes to the spool where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from adapters.client.answers import UNSENT, Denied, HoldAnswer
from ledger.application.hold_script import HoldScript, Quantities
from ledger.domain.errors import InvalidInput, LedgerError, Unavailable

if TYPE_CHECKING:
    from adapters.client.aio import AsyncClient
    from adapters.client.blocking import Client


class _Session:
    """What both kinds of hold know."""

    def __init__(self, ask: Mapping[str, object], *, tenant: str, raise_denied: bool) -> None:
        self._ask = dict(ask)
        self._raise_denied = raise_denied
        self._answer: HoldAnswer | None = None
        self.id = str(ask["hold"])
        self.tenant = tenant
        self._script: HoldScript[InvalidInput] = HoldScript(self.id)

    @property
    def answer(self) -> HoldAnswer:
        """Return the answer to the authorization.

        Raises:
            LedgerError: ``not_authorized`` before the context is entered.
        """
        if self._answer is None:
            raise LedgerError("enter the context of the hold first", code="not_authorized")
        return self._answer

    @property
    def allowed(self) -> bool:
        """Return whether the call may be made."""
        return self.answer.allowed

    @property
    def model(self) -> str:
        """Return the model to call, which is not always the one that was asked for."""
        return self.answer.model or str(self._ask.get("model", ""))

    def _entered(self, answer: HoldAnswer) -> None:
        self._answer = answer
        if not answer.allowed:
            self._script.settled = True
            if self._raise_denied:
                raise Denied(answer)

    def _left(self, error: BaseException | None, trouble: LedgerError | None) -> None:
        """Say what could not be settled: as a note to what leaves, else as an error."""
        if trouble is None and not self._script.settled:
            trouble = self._script.unreadable
        if trouble is None:
            return
        if error is None:
            raise trouble
        error.add_note(f"hold {self.id!r} is not settled: {trouble.message}")


class Hold(_Session):
    """A hold around one call; made by `Client.hold`. Not for several threads at once.

    Attributes:
        id: of the hold.
        tenant: whose ledger; "" for the key's.
    """

    def __init__(
        self, client: Client, ask: Mapping[str, object], *, tenant: str, raise_denied: bool
    ) -> None:
        super().__init__(ask, tenant=tenant, raise_denied=raise_denied)
        self._client = client

    def __enter__(self) -> Hold:
        self._entered(self._client.authorize(self._ask, tenant=self.tenant))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del kind, trace
        trouble = None
        capture, void = self._script.ending(error)
        try:
            if capture is not None:
                self._client.capture(capture, hold=self.id, tenant=self.tenant)
                self._script.settled = True
            elif void is not None:
                self._client.void(void, hold=self.id, tenant=self.tenant)
                self._script.settled = True
        except LedgerError as caught:
            trouble = caught
        self._left(error, trouble)

    def extend(
        self, quantities: Quantities | None = None, *, amount: object = None, ttl: object = None
    ) -> HoldAnswer:
        """Reserve up to a target; on ``denied_exceeds_budget`` stop the stream."""
        document = self._script.extension(quantities, amount, ttl)
        return self._client.extend(document, hold=self.id, tenant=self.tenant)

    def progress(self, quantities: Quantities) -> HoldAnswer:
        """Keep the quantities of the call so far, which a crash falls back to."""
        before = self._script.last
        document = self._script.checkpoint(quantities)
        try:
            answer = self._client.progress(document, hold=self.id, tenant=self.tenant)
        except Unavailable:
            return HoldAnswer(UNSENT, self.id)
        except InvalidInput as error:
            self._script.checkpointed(before, error)
            raise
        self._script.checkpointed(before, None)
        return answer

    def capture(
        self,
        quantities: Quantities,
        *,
        id: str | None = None,
        final: bool = True,
        **members: object,
    ) -> HoldAnswer:
        """Post the quantities of the call.

        Args:
            quantities: cumulative.
            id: of the capture; derived from the hold's when left out.
            final: nothing more is to come.
            **members: what the response says: ``model``, ``tier``, ``request_id`` …
        """
        before = self._script.last
        document = self._script.capture(quantities, id, final, members)
        try:
            answer = self._client.capture(document, hold=self.id, tenant=self.tenant)
        except InvalidInput as error:
            self._script.captured(before, document, error)
            raise
        self._script.captured(before, document, None)
        return answer

    def void(self, reason: str = "", *, force: bool = False) -> HoldAnswer:
        """Give the hold up before the context ends; the provider was not called."""
        document = {**self._script.void(reason), "force": force}
        answer = self._client.void(document, hold=self.id, tenant=self.tenant)
        self._script.voided("voided" if answer.status == "spooled" else answer.status)
        return answer


class AsyncHold(_Session):
    """As `Hold`, for asyncio; made by `AsyncClient.hold`.

    A task that is cancelled while it waits for the authorization sends a void after it, so that
    nothing stays reserved for a caller who is gone.
    """

    def __init__(
        self, client: AsyncClient, ask: Mapping[str, object], *, tenant: str, raise_denied: bool
    ) -> None:
        super().__init__(ask, tenant=tenant, raise_denied=raise_denied)
        self._client = client

    async def __aenter__(self) -> AsyncHold:
        try:
            answer = await self._client.authorize(self._ask, tenant=self.tenant)
        except Exception:
            raise
        except BaseException:
            void = self._script.void("cancelled")
            self._client.void_soon(void, hold=self.id, tenant=self.tenant)
            raise
        self._entered(answer)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del kind, trace
        trouble = None
        capture, void = self._script.ending(error)
        try:
            if capture is not None:
                await self._client.capture(capture, hold=self.id, tenant=self.tenant)
                self._script.settled = True
            elif void is not None:
                await self._client.void(void, hold=self.id, tenant=self.tenant)
                self._script.settled = True
        except LedgerError as caught:
            trouble = caught
        self._left(error, trouble)

    async def extend(
        self, quantities: Quantities | None = None, *, amount: object = None, ttl: object = None
    ) -> HoldAnswer:
        """Do as `Hold.extend`."""
        document = self._script.extension(quantities, amount, ttl)
        return await self._client.extend(document, hold=self.id, tenant=self.tenant)

    async def progress(self, quantities: Quantities) -> HoldAnswer:
        """Do as `Hold.progress`."""
        before = self._script.last
        document = self._script.checkpoint(quantities)
        try:
            answer = await self._client.progress(document, hold=self.id, tenant=self.tenant)
        except Unavailable:
            return HoldAnswer(UNSENT, self.id)
        except InvalidInput as error:
            self._script.checkpointed(before, error)
            raise
        self._script.checkpointed(before, None)
        return answer

    async def capture(
        self,
        quantities: Quantities,
        *,
        id: str | None = None,
        final: bool = True,
        **members: object,
    ) -> HoldAnswer:
        """Do as `Hold.capture`."""
        before = self._script.last
        document = self._script.capture(quantities, id, final, members)
        try:
            answer = await self._client.capture(document, hold=self.id, tenant=self.tenant)
        except InvalidInput as error:
            self._script.captured(before, document, error)
            raise
        self._script.captured(before, document, None)
        return answer

    async def void(self, reason: str = "", *, force: bool = False) -> HoldAnswer:
        """Do as `Hold.void`."""
        document = {**self._script.void(reason), "force": force}
        answer = await self._client.void(document, hold=self.id, tenant=self.tenant)
        self._script.voided("voided" if answer.status == "spooled" else answer.status)
        return answer
