"""The client for threads.

    with Client(key="tbk_live_…", spool="/var/lib/gateway/tallybook.spool") as client:
        with client.hold("call-1", provider="openai", model="gpt-4o",
                         quantities={"tokens.input": 900, "tokens.output": 500}) as hold:
            response = call_the_provider(model=hold.model)
            hold.capture({"tokens.input": 880, "tokens.output": 212})

Every operation repeats itself with the same ids until the server answers or the deadline is over;
then it raises `LedgerUnreachable`, and whoever called may repeat it. With a spool, events and
captures are kept there instead and sent when the server is back.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from adapters.client.answers import SPOOLED, HoldAnswer, Item
from adapters.client.config import Config
from adapters.client.drain import PATIENT, Drain
from adapters.client.holds import Hold
from adapters.client.spool import EVENT, Spool
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
_CONNECT_S = 5.0


class Client:
    """Speaks to a server; thread-safe.

    Args:
        config: all of it at once; or its members by name.
        transport: in place of the network, for tests.
        drain_retry: how the spool is retried.
        **members: of `Config`.

    Attributes:
        spool: what waits; None without one.
        drain: what empties it; None without one.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        transport: httpx.BaseTransport | None = None,
        drain_retry: Any = PATIENT,
        **members: Any,
    ) -> None:
        self.config = config or Config(**members)
        self._http = http(self.config, transport)
        self.spool: Spool | None = None
        self.drain: Drain | None = None
        if self.config.spool is not None:
            self.spool = Spool(
                self.config.spool,
                max_bytes=self.config.spool_max_bytes,
                fsync=self.config.spool_fsync,
            )
            self.drain = Drain(self.spool, self.send_once, retry=drain_retry)
            self.drain.start()

    # -- usage --------------------------------------------------------------------------

    def record(self, *events: Usage) -> list[Item]:
        """Record events now and return what became of each, in order.

        With a spool, events that cannot be sent now are `SPOOLED`; they count once whether or not
        they had arrived.

        Raises:
            InvalidInput: an event cannot be written down.
            LedgerUnreachable: no answer in time, and there is no spool.
            LedgerError: the request as a whole was refused.
        """
        wires = [event.wire() for event in events]
        try:
            return items(self.send(batch(wires)), len(wires))
        except Unavailable:
            if self.spool is None:
                raise
            self.keep([(EVENT, wire) for wire in wires])
            return [Item(SPOOLED) for _ in wires]

    def enqueue(self, *events: Usage) -> None:
        """Take events into the spool and return; they are sent from there, in order.

        Raises:
            LedgerError: ``no_spool``; `SpoolFull`, and then none was taken.
        """
        self.keep([(EVENT, event.wire()) for event in events])

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Wait until the spool is empty; return whether that came about in time."""
        return self.drain is None or self.drain.flush(timeout_s)

    # -- holds --------------------------------------------------------------------------

    def authorize(self, document: Document, *, tenant: str = "") -> HoldAnswer:
        """Ask whether a call may be made: ``{"hold": "h-1", "amount": "0.25"}``."""
        return self._ask("/v2/holds", document, tenant)

    def simulate(self, document: Document, *, tenant: str = "") -> HoldAnswer:
        """Say what `authorize` would answer."""
        return self._ask("/v2/simulate", document, tenant)

    def extend(self, document: Document, *, hold: str, tenant: str = "") -> HoldAnswer:
        """Reserve up to more: ``{"step": 1, "amount": "0.50"}``."""
        return self._ask(hold_path(hold, "extend"), document, tenant)

    def progress(self, document: Document, *, hold: str, tenant: str = "") -> HoldAnswer:
        """Keep a checkpoint: ``{"step": 1, "quantities": {"tokens.output": 80}}``."""
        return self._ask(hold_path(hold, "progress"), document, tenant)

    def capture(self, document: Document, *, hold: str, tenant: str = "") -> HoldAnswer:
        """Post what a call took: ``{"capture": "c-1", "quantities": {"tokens.output": 212}}``.

        With a spool, what cannot be sent now is answered `SPOOLED`.
        """
        return self._settle(hold_path(hold, "capture"), document, tenant, hold)

    def void(self, document: Document, *, hold: str, tenant: str = "") -> HoldAnswer:
        """Give a hold up: ``{"void": "v-1"}``; spooled as a capture is."""
        return self._settle(hold_path(hold, "void"), document, tenant, hold)

    def reverse(self, document: Document, *, capture: str, tenant: str = "") -> HoldAnswer:
        """Take charge back: ``{"reversal": "r-1", "amount": "0.10"}``."""
        return self._ask(f"/v2/captures/{part(capture)}/reverse", document, tenant)

    def hold(self, id: str, *, tenant: str = "", raise_denied: bool = True, **ask: object) -> Hold:
        """Return a context manager that asks for a call and settles it when it is left.

        Args:
            id: of the hold; a new one for every provider call.
            tenant: whose ledger, for keys of the platform.
            raise_denied: raise `Denied` on entering where the call is not allowed.
            **ask: members of the ask, as in `authorize`.
        """
        return Hold(self, {**ask, "hold": id}, tenant=tenant, raise_denied=raise_denied)

    # -- questions ----------------------------------------------------------------------

    def balance(self, tenant: str = "", **parameters: object) -> Any:
        """Return where a tenant stands."""
        return self.ask(get(f"/v2/tenants/{part(self._tenant(tenant))}/balance", parameters))

    def usage(self, tenant: str = "", **parameters: object) -> Any:
        """Return grouped usage: ``by="model,day"``."""
        return self.ask(get(f"/v2/tenants/{part(self._tenant(tenant))}/usage", parameters))

    def explain(self, id: str, tenant: str = "") -> Any:
        """Return how an event's amounts come about."""
        return self.ask(get(f"/v2/tenants/{part(self._tenant(tenant))}/explain/{part(id)}", {}))

    def ask(self, call: Call) -> Any:
        """Send any request and return its document."""
        return document_of(self.send(call))

    # -- sending ------------------------------------------------------------------------

    def send(self, call: Call) -> Reply:
        """Send a request until it is answered.

        Raises:
            LedgerUnreachable: not in time.
        """
        retry = self.config.retry
        end_s = time.monotonic() + retry.deadline_s
        attempt = 0
        while True:
            attempt += 1
            reply: Reply | None = None
            trouble = ""
            try:
                reply = self.send_once(call)
                if not reply.repeats:
                    return reply
                trouble = f"the server answers {reply.status} {reply.code}"
            except LedgerUnreachable as error:
                trouble = error.message
            wait_s = retry.wait_s(attempt, reply)
            if time.monotonic() + wait_s >= end_s:
                raise LedgerUnreachable(f"no answer after {attempt} attempts: {trouble}")
            time.sleep(wait_s)

    def send_once(self, call: Call) -> Reply:
        """Send a request once.

        Raises:
            LedgerUnreachable: no answer.
        """
        try:
            answer = self._http.request(
                call.method, call.path, content=call.body or None, headers=call.headers()
            )
        except httpx.HTTPError as error:
            raise unreachable(error) from error
        return Reply.of(answer.status_code, answer.headers, answer.content)

    def keep(self, entries: Sequence[tuple[str, bytes]]) -> None:
        """Take requests into the spool: path and body of each, `EVENT` for an event.

        Raises:
            LedgerError: ``no_spool``; `SpoolFull`, and then none was taken.
        """
        if self.spool is None or self.drain is None:
            raise LedgerError("this client has no spool; give it one", code="no_spool")
        self.spool.append(entries)
        self.drain.wake()

    def close(self) -> None:
        """Stop; what waits in the spool is there the next time."""
        if self.drain is not None:
            self.drain.stop()
        if self.spool is not None:
            self.spool.close()
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, path: str, document: Document, tenant: str) -> HoldAnswer:
        return hold_answer(self.send(post(path, document, tenant=tenant or self.config.tenant)))

    def _settle(self, path: str, document: Document, tenant: str, hold: str) -> HoldAnswer:
        call = post(path, document, tenant=tenant or self.config.tenant)
        try:
            return hold_answer(self.send(call))
        except Unavailable:
            if self.spool is None:
                raise
            self.keep([(call.path, call.body)])
            return HoldAnswer(SPOOLED, hold)

    def _tenant(self, tenant: str) -> str:
        return named(tenant or self.config.tenant)


def http(config: Config, transport: httpx.BaseTransport | None) -> httpx.Client:
    """Return the connections of a client."""
    return httpx.Client(
        base_url=config.url,
        headers=headers(config),
        timeout=timeouts(config),
        transport=transport,
        trust_env=False,
    )


def headers(config: Config) -> dict[str, str]:
    """Return the headers of every request."""
    found = {"User-Agent": "tallybook-client"}
    if config.key:
        found["Authorization"] = f"Bearer {config.key}"
    return found


def timeouts(config: Config) -> httpx.Timeout:
    """Return the time-outs of one attempt."""
    return httpx.Timeout(config.timeout_s, connect=min(config.timeout_s, _CONNECT_S))


def unreachable(error: Exception) -> LedgerUnreachable:
    """Return the error that tells of a request without an answer."""
    return LedgerUnreachable(f"no answer from the server: {type(error).__name__} {error}".rstrip())


def named(tenant: str) -> str:
    """Return a tenant's name, which questions have in their path.

    Raises:
        LedgerError: ``no_tenant``.
    """
    if not tenant:
        raise LedgerError("say whose ledger: tenant=…, here or for the client", code="no_tenant")
    return tenant
