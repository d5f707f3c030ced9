"""The context of a request: whose data it is about, and the use cases as its caller may use them.

Everything that a handler of the management surface reads comes from here, so that there is one
place that says which rows a key of a tenant can reach.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapters.http.exchange import Exchange, named_tenant
from ledger.application.protection_reads import ProtectionReads
from ledger.application.reads import Reads
from ledger.application.services import Services


class Context:
    """A request that may be handled.

    Args:
        services: the use cases.
        exchange: the request.
        tenant: that it is about; None for a caller of the platform who means no single one.
    """

    __slots__ = ("_tenant", "exchange", "services")

    def __init__(self, services: Services, exchange: Exchange, tenant: str | None) -> None:
        self.services = services
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
    def by(self) -> str:
        """Return who acts, as entries and the audit log name it."""
        return f"key:{self.exchange.who.key}"

    @property
    def reads(self) -> Reads:
        """Return the queries, as the caller may ask them."""
        return self.services.reads

    @property
    def protection(self) -> ProtectionReads:
        """Return the queries about cost protection, as the caller may ask them."""
        return self.services.protection_reads

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

    def signed(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return a document that says who acts: whom it names itself, else the key."""
        return {"by": self.by, **document}
