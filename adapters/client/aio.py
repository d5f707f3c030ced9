"""The client for asyncio: as `adapters.client.blocking`, awaited.

The spool is the same file and the same thread behind it, so what waits does so whatever becomes of
the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from adapters.client.answers import SPOOLED, HoldAnswer, Item
from adapters.client.blocking import Client, headers, named, timeouts, unreachable
from adapters.client.config import Config
from adapters.client.drain import PATIENT
from adapters.client.holds import AsyncHold
from adapters.client.spool import EVENT
from adapters.client.usage import Usage
from adapters.client.wire import (
    Call,
    LedgerUnreachable,
    Reply,
    batch,
    document_of,
    get,
    hold_answer,
    hold_path,
    items,
    part,
    post,
)
from ledger.domain.errors import LedgerError, Unavailable

Document = Mapping[str, Any]


class AsyncClient:
    """Speaks to a server from one event loop.

    Args:
        config: all of it at once; or its members by name.
        transport: in place of the network, for tests.
        drain_retry: how the spool is retried.
        **members: of `Config`.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        drain_retry: Any = PATIENT,
        **members: Any,
    ) -> None:
        self.config = config or Config(**members)
        self._http = httpx.AsyncClient(
            base_url=self.config.url,
            headers=headers(self.config),
            timeout=timeouts(self.config),
            transport=transport,
            trust_env=False,
        )
        self._blocking: Client | None = None
        if self.config.spool is not None:
            self._blocking = Client(self.config, drain_retry=drain_retry)
        self._soon: set[asyncio.Task[Any]] = set()

    # -- usage --------------------------------------------------------------------------

    async def record(self, *events: Usage) -> list[Item]:
        """Record events now; see `Client.record`."""
        wires = [event.wire() for event in events]
        try:
            return items(await self.send(batch(wires)), len(wires))
        except Unavailable:
            if self._blocking is None:
                raise
            await self._keep([(EVENT, wire) for wire in wires])
            return [Item(SPOOLED) for _ in wires]

    async def enqueue(self, *events: Usage) -> None:
        """Take events into the spool and return; see `Client.enqueue`."""
        await self._keep([(EVENT, event.wire()) for event in events])

    async def flush(self, timeout_s: float = 30.0) -> bool:
        """Wait until the spool is empty; return whether that came about in time."""
        if self._blocking is None:
            return True
        return await asyncio.to_thread(self._blocking.flush, timeout_s)

    # -- holds --------------------------------------------------------------------------

    async def authorize(self, document: Document, *, tenant: str = "") -> HoldAnswer:
        """Ask whether a call may be made; see `Client.authorize`."""
        return await self._ask("/v2/holds", document, tenant)

    async def simulate(self, document: Document, *, tenant: str = "") -> HoldAnswer:
        """Say what `authorize` would answer."""
        return await self._ask("/v2/simulate", document, tenant)

    async def extend(self, document: Document, *, hold: str, tenant: str = "") -> HoldAnswer:
        """Reserve up to more."""
        return await self._ask(hold_path(hold, "extend"), document, tenant)

    async def progress(self, document: Document, *, hold: str, tenant: str = "") -> HoldAnswer:
        """Keep a checkpoint."""
        return await self._ask(hold_path(hold, "progress"), document, tenant)

    async def capture(self, document: Document, *, hold: str, tenant: str = "") -> HoldAnswer:
        """Post what a call took; see `Client.capture`."""
        return await self._settle(hold_path(hold, "capture"), document, tenant, hold)

    async def void(self, document: Document, *, hold: str, tenant: str = "") -> HoldAnswer:
        """Give a hold up; see `Client.void`."""
        return await self._settle(hold_path(hold, "void"), document, tenant, hold)

    def void_soon(self, document: Document, *, hold: str, tenant: str = "") -> None:
        """Give a hold up in a task of its own, for a caller who is leaving.

        What stays reserved where that fails is free with the expiry.
        """

        async def quietly() -> None:
            try:
                await self.void(document, hold=hold, tenant=tenant)
            except LedgerError:
                return

        task = asyncio.get_running_loop().create_task(quietly())
        self._soon.add(task)
        task.add_done_callback(self._soon.discard)

    async def reverse(self, document: Document, *, capture: str, tenant: str = "") -> HoldAnswer:
        """Take charge back."""
        return await self._ask(f"/v2/captures/{part(capture)}/reverse", document, tenant)

    def hold(
        self, id: str, *, tenant: str = "", raise_denied: bool = True, **ask: object
    ) -> AsyncHold:
        """Return a context manager for ``async with``; see `Client.hold`."""
        return AsyncHold(self, {**ask, "hold": id}, tenant=tenant, raise_denied=raise_denied)

    # -- questions ----------------------------------------------------------------------

    async def balance(self, tenant: str = "", **parameters: object) -> Any:
        """Return where a tenant stands."""
        name = part(named(tenant or self.config.tenant))
        return await self.ask(get(f"/v2/tenants/{name}/balance", parameters))

    async def usage(self, tenant: str = "", **parameters: object) -> Any:
        """Return grouped usage."""
        name = part(named(tenant or self.config.tenant))
        return await self.ask(get(f"/v2/tenants/{name}/usage", parameters))

    async def explain(self, id: str, tenant: str = "") -> Any:
        """Return how an event's amounts come about."""
        name = part(named(tenant or self.config.tenant))
        return await self.ask(get(f"/v2/tenants/{name}/explain/{part(id)}", {}))

    async def ask(self, call: Call) -> Any:
        """Send any request and return its document."""
        return document_of(await self.send(call))

    # -- sending ------------------------------------------------------------------------

    async def send(self, call: Call) -> Reply:
        """Send a request until it is answered; see `Client.send`."""
        retry = self.config.retry
        loop = asyncio.get_running_loop()
        end_s = loop.time() + retry.deadline_s
        attempt = 0
        while True:
            attempt += 1
            reply: Reply | None = None
            try:
                reply = await self._send_once(call)
                if not reply.repeats:
                    return reply
                trouble = f"the server answers {reply.status} {reply.code}"
            except LedgerUnreachable as error:
                trouble = error.message
            wait_s = retry.wait_s(attempt, reply)
            if loop.time() + wait_s >= end_s:
                raise LedgerUnreachable(f"no answer after {attempt} attempts: {trouble}")
            await asyncio.sleep(wait_s)

    async def _send_once(self, call: Call) -> Reply:
        try:
            answer = await self._http.request(
                call.method, call.path, content=call.body or None, headers=call.headers()
            )
        except httpx.HTTPError as error:
            raise unreachable(error) from error
        return Reply.of(answer.status_code, answer.headers, answer.content)

    async def close(self) -> None:
        """Stop; what waits in the spool is there the next time."""
        if self._soon:
            await asyncio.gather(*self._soon, return_exceptions=True)
        if self._blocking is not None:
            await asyncio.to_thread(self._blocking.close)
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _ask(self, path: str, document: Document, tenant: str) -> HoldAnswer:
        call = post(path, document, tenant=tenant or self.config.tenant)
        return hold_answer(await self.send(call))

    async def _settle(self, path: str, document: Document, tenant: str, hold: str) -> HoldAnswer:
        call = post(path, document, tenant=tenant or self.config.tenant)
        try:
            return hold_answer(await self.send(call))
        except Unavailable:
            if self._blocking is None:
                raise
            await self._keep([(call.path, call.body)])
            return HoldAnswer(SPOOLED, hold)

    async def _keep(self, entries: Sequence[tuple[str, bytes]]) -> None:
        if self._blocking is None:
            raise LedgerError("this client has no spool; give it one", code="no_spool")
        # Shielded: a task that is cancelled now must not leave it open whether they were taken.
        await asyncio.shield(asyncio.to_thread(self._blocking.keep, entries))
