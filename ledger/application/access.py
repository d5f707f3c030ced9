"""Access: who calls, what they may do, and for which tenant.

A caller holds a key. A key is bound to one tenant or to the platform (`Caller.tenant` is None)
and carries scopes. Whoever speaks to the outside asks a `Keyring` who a token belongs to, then
checks scope and tenant with the functions here, so that every interface refuses alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

from ledger.domain.errors import InvalidInput, Refused

SCOPES = ("events:write", "holds:write", "read", "finance", "support", "metrics", "admin")
"""What a key may do; ``admin`` includes all others."""


class KeyRefused(Refused):
    """The token opens nothing; ``code`` says why.

    Codes: ``missing_key``, ``invalid_key`` (unknown, malformed or with a wrong secret),
    ``key_expired``, ``key_revoked``, ``address_not_allowed``.
    """

    default_code = "invalid_key"


class Forbidden(Refused):
    """The key is good, but not for this.

    Codes: ``missing_scope``, ``foreign_tenant``, ``platform_only``.
    """

    default_code = "forbidden"


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls.

    Attributes:
        key: id of the key, which is no secret.
        tenant: whose data the key opens; None for a key of the platform.
        scopes: some of `SCOPES`.
        per_second: sustained requests a second; 0 for no limit.
        burst: most requests at once; at least 1 where there is a limit.
        mode: ``live`` or ``test``; says where a key belongs, not what it may do.
    """

    key: str
    tenant: str | None
    scopes: frozenset[str]
    per_second: int = 0
    burst: int = 0
    mode: str = "live"

    def may(self, *scopes: str) -> bool:
        """Return whether the key has one of some scopes; ``admin`` has them all."""
        return "admin" in self.scopes or not self.scopes.isdisjoint(scopes)


class Keyring(Protocol):
    """Knows which token is whose."""

    def cached(self, token: str, address: str) -> Caller | None:
        """Return the caller if that is known without asking a database; None if it is not.

        Args:
            token: as presented, without ``Bearer``.
            address: where the request comes from, an IP address; "" if that is unknown.

        Raises:
            KeyRefused: the token is known to open nothing.
        """
        ...

    def authenticate(self, token: str, address: str) -> Caller:
        """Return whose token this is; may ask the database, so it blocks.

        Raises:
            KeyRefused: it opens nothing.
            Unavailable: that cannot be found out now.
        """
        ...

    def used(self, caller: Caller, *, route: str, status: int) -> None:
        """Count a use of a key, for the audit log; cheap, written down in the background."""
        ...


def require(caller: Caller, *scopes: str) -> None:
    """Check that a caller has one of some scopes.

    Raises:
        Forbidden: ``missing_scope``.
    """
    if not caller.may(*scopes):
        wanted = " or ".join(scopes)
        raise Forbidden(f"this needs a key with the scope {wanted}", code="missing_scope")


def require_platform(caller: Caller) -> None:
    """Check that a caller has a key of the platform.

    Raises:
        Forbidden: ``platform_only``.
    """
    if caller.tenant is not None:
        raise Forbidden("this is no tenant's; it needs a key of the platform", code="platform_only")


def tenant_of(caller: Caller, *named: str | None) -> str:
    """Return the tenant that a request is about.

    Args:
        caller: a key of a tenant stands for that tenant; nobody needs to name it again.
        named: the tenant as path, query and body name it; None where one does not.

    Raises:
        Forbidden: ``foreign_tenant``, whether or not there is such a tenant.
        InvalidInput: ``invalid_tenant`` where names differ, or where a key of the platform comes
            without one.
    """
    names = {name for name in named if name is not None}
    if caller.tenant is not None:
        if names - {caller.tenant}:
            raise Forbidden("this key is of another tenant", code="foreign_tenant")
        return caller.tenant
    if len(names) > 1:
        raise InvalidInput(
            "the request names two tenants; name one", code="invalid_tenant", pointer="/tenant"
        )
    if not names or names == {""}:
        raise InvalidInput(
            "a key of the platform must say whose ledger: add ?tenant=… or a member tenant",
            code="invalid_tenant",
            pointer="/tenant",
        )
    return names.pop()


def check_may_grant(caller: Caller, *, tenant: str | None, scopes: Iterable[str]) -> None:
    """Check that a caller may hand on what a new key would open.

    Args:
        caller: a key never gives more than it has: neither scopes nor other tenants.
        tenant: of the new key; None for the platform.
        scopes: of the new key.

    Raises:
        Forbidden: ``foreign_tenant``, ``missing_scope``.
    """
    if caller.tenant is not None and caller.tenant != tenant:
        raise Forbidden("a key of a tenant issues keys of that tenant only", code="foreign_tenant")
    lacking = [scope for scope in scopes if not caller.may(scope)]
    if lacking:
        raise Forbidden(
            f"a key cannot give the scope {lacking[0]}, which it does not have",
            code="missing_scope",
        )
