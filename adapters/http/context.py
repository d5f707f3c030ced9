"""The context of a request: whose data it is about, and the use cases as its caller may use them.

Everything that a handler of the management surface reads comes from here, so that there is one
place that says which rows a key of a tenant can reach.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from adapters.http.exchange import Exchange, named_tenant
from adapters.http.problems import HttpProblem
from ledger.application.audit_log import AuditLog
from ledger.application.audited import Actor, audited
from ledger.application.billing_close import Periods
from ledger.application.evidence import InvoiceEvidence
from ledger.application.invoicing import Invoicing
from ledger.application.key_uses import KeyUseReads
from ledger.application.keys import CALLER_PREFIX
from ledger.application.protection_reads import ProtectionReads
from ledger.application.reads import Reads
from ledger.application.repeats import Command
from ledger.application.services import Services
from ledger.application.subscriptions import Subscriptions

MAX_KEY_CHARS = 255
"""Longest ``Idempotency-Key``."""


class Kept(msgspec.Struct, frozen=True):
    """An answer that is kept for repetitions.

    Attributes:
        answer: as it is given now.
        kept: as repetitions get it, where that is something else: secrets are shown once.
    """

    answer: bytes
    kept: bytes | None = None


class Context:
    """A request that may be handled.

    Args:
        services: the use cases.
        exchange: the request.
        tenant: that it is about; None for a caller of the platform who means no single one.

    Attributes:
        services: the use cases; what is done through them is in the audit log.
        exchange: the request.
        by: who acts, as entries and the audit log name it.
    """

    __slots__ = ("_tenant", "by", "exchange", "services")

    def __init__(self, services: Services, exchange: Exchange, tenant: str | None) -> None:
        who = CALLER_PREFIX + exchange.who.key
        self.services = audited(
            services,
            services.audit_log,
            Actor(who=who, via="http", request_id=exchange.request_id, address=exchange.address),
        )
        self.by = who
        self.exchange = exchange
        self._tenant = tenant

    @property
    def tenant(self) -> str:
        """Return the tenant of a request that is about one."""
        if self._tenant is None:
            raise RuntimeError("this route is about no single tenant")
        return self._tenant

    @property
    def only(self) -> str | None:
        """Return the tenant that a listing is of; None for all of them."""
        return self._tenant

    @property
    def reads(self) -> Reads:
        """Return the queries, as the caller may ask them."""
        mine = self.exchange.who.tenant
        reads = self.services.reads
        return reads if mine is None else reads.for_tenant(mine)

    @property
    def protection(self) -> ProtectionReads:
        """Return the queries about cost protection, as the caller may ask them."""
        mine = self.exchange.who.tenant
        reads = self.services.protection_reads
        return reads if mine is None else reads.for_tenant(mine)

    @property
    def audit_log(self) -> AuditLog:
        """Return the audit log, as the caller may read it."""
        mine = self.exchange.who.tenant
        log = self.services.audit_log
        return log if mine is None else log.for_tenant(mine)

    @property
    def key_uses(self) -> KeyUseReads:
        """Return the uses of keys, as the caller may read them."""
        mine = self.exchange.who.tenant
        uses = self.services.key_uses
        return uses if mine is None else uses.for_tenant(mine)

    @property
    def subscriptions(self) -> Subscriptions:
        """Return the subscriptions, as the caller may read them."""
        mine = self.exchange.who.tenant
        kept = self.services.subscriptions
        return kept if mine is None else kept.for_tenant(mine)

    @property
    def invoicing(self) -> Invoicing:
        """Return invoices and credit notes, as the caller may read them."""
        mine = self.exchange.who.tenant
        kept = self.services.invoicing
        return kept if mine is None else kept.for_tenant(mine)

    @property
    def periods(self) -> Periods:
        """Return billing periods, as the caller may ask about them."""
        mine = self.exchange.who.tenant
        kept = self.services.periods
        return kept if mine is None else kept.for_tenant(mine)

    @property
    def evidence(self) -> InvoiceEvidence:
        """Return the evidence of invoices, as the caller may read it."""
        mine = self.exchange.who.tenant
        kept = self.services.evidence
        return kept if mine is None else kept.for_tenant(mine)

    def document(self, *, tenant: bool = True) -> dict[str, Any]:
        """Return the body, a JSON object.

        Args:
            tenant: it may name the tenant once more, which is checked and taken out.

        Raises:
            HttpProblem: ``invalid_json``, ``invalid_body``, ``unsupported_media_type``.
            Forbidden: ``foreign_tenant``.
            InvalidInput: ``invalid_tenant``.
        """
        document = self.exchange.document()
        if tenant and self._tenant is not None:
            named = named_tenant(document)
            if named is not None:
                self.exchange.tenant(named, self._tenant)
        return document

    def one_or_all(self, document: dict[str, Any]) -> str | None:
        """Return the tenant that query or body name, taken out of the body; None for all of them.

        Args:
            document: the body.

        Raises:
            InvalidInput: ``invalid_tenant``.
        """
        if self._tenant is not None:
            return self._tenant
        named = named_tenant(document)
        return None if named is None else self.exchange.tenant(named)

    def once(self, run: Callable[[Command], Kept], *, named: bool = False) -> bytes:
        """Run a command that has no id of its own once for each ``Idempotency-Key``.

        Args:
            run: runs it, told whether it was begun before; what it raises is not kept, for then
                nothing moved.
            named: it has an id all the same, so the key may be missing.

        Returns:
            The answer; for a repetition the one that was kept.

        Raises:
            HttpProblem: ``idempotency_key_missing``.
            Refused: ``idempotency_key_reused``, ``idempotency_key_in_use``.
        """
        if named and b"idempotency-key" not in self.exchange.headers:
            return run(Command()).answer
        key = self._idempotency_key()
        owner = self.exchange.who.tenant or ""
        repeats = self.services.repeats
        with repeats.attempt(owner=owner, key=key, digest=self._digest()) as attempt:
            if attempt.answer is not None:
                self.exchange.extra.append((b"idempotency-replayed", b"true"))
                return attempt.answer
            done = run(attempt.command)
            attempt.keep(done.answer if done.kept is None else done.kept)
            return done.answer

    def command(self) -> str:
        """Return a name of a command that has no id: the same for its repetitions, for good.

        Raises:
            HttpProblem: ``idempotency_key_missing``.
        """
        members = (self.exchange.who.tenant or "", self._idempotency_key())
        return blake2b(msgspec.msgpack.encode(members), digest_size=8).hexdigest()

    def _idempotency_key(self) -> str:
        given = self.exchange.headers.get(b"idempotency-key", b"").decode("latin-1")
        if not given:
            raise HttpProblem(
                "this command has no id of its own: send an Idempotency-Key, a new one for each"
                " command and the same one to repeat it",
                code="idempotency_key_missing",
            )
        if len(given) > MAX_KEY_CHARS or not (given.isascii() and given.isprintable()):
            raise HttpProblem(
                f"an Idempotency-Key has 1 to {MAX_KEY_CHARS} printable ASCII characters",
                code="invalid_header",
            )
        return given

    def _digest(self) -> bytes:
        """Return the digest of the whole command: route, parameters and body."""
        one = self.exchange
        members = (one.method, one.route, sorted(one.path.items()), one.query_string, one.body)
        return blake2b(msgspec.msgpack.encode(members), digest_size=32).digest()

    def signed(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return a document that says who acts: whom it names itself, else the key."""
        return {"by": self.by, **document}
