"""Documents of tenants, keys and the audit log."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from adapters.http.models.common import Answered, Name, Request, TenantRequest, Text, Time
from adapters.http.models.protection import Next

Count = Annotated[int, Field(ge=0)]
Scope = Literal["events:write", "holds:write", "read", "finance", "support", "metrics", "admin"]


class TenantSettingsRequest(TenantRequest):
    """Settings of a ledger, for good; what is left out is as it is, or as usual for a new one."""

    currency: Annotated[Text, Field(description="ISO 4217.", examples=["EUR"])] = "USD"
    timezone: Annotated[Text, Field(description="IANA name.", examples=["Europe/Berlin"])] = "UTC"
    book: Annotated[Text, Field(description="Sell price book.")] = "default"


class TenantDocument(Answered):
    """A tenant's ledger: its settings, and how far it is."""

    tenant: str
    currency: str
    timezone: str
    book: str
    commits: Count
    conflicts: Annotated[int, Field(ge=0, description="Conflicting payloads that are kept.")]


class OpenedDocument(TenantDocument):
    """A ledger that is open now."""

    status: Annotated[str, Field(description="`accepted` for a new one, else `duplicate`.")]


class TenantsDocument(Answered):
    """Tenants by name."""

    tenants: list[TenantDocument]
    next: Next


class KeyRequest(Request):
    """Issue a key. Its terms never change; a key never gives more than it has."""

    name: Name
    scopes: Annotated[list[Scope], Field(min_length=1)]
    tenant: Annotated[
        Name | None, Field(description="Whose data it opens; null for the platform's.")
    ] = None
    mode: Literal["live", "test"] = "live"
    note: Text = ""
    expires_at: Time | None = None
    networks: Annotated[
        list[Name],
        Field(
            description="From which alone it opens, CIDR.", max_length=50, examples=[["10.0.0.0/8"]]
        ),
    ] = []
    per_second: Annotated[int, Field(ge=0, le=10**6, description="0 for no limit.")] = 0
    burst: Annotated[int, Field(ge=0, le=10**6)] = 0


class RotateRequest(Request):
    """Make a key's successor, with the same terms."""

    overlap_s: Annotated[
        int, Field(ge=0, le=30 * 86_400, description="How long the old one goes on.")
    ] = 86_400
    expires_at: Annotated[Time | None, Field(description="Of the successor.")] = None


class RevokeRequest(Request):
    """End a key at once, for good."""

    reason: Text = ""


class KeyDocument(Answered):
    """A key; its token cannot be had again."""

    id: str
    name: str
    note: str
    status: Literal["active", "expired", "revoked"]
    mode: Literal["live", "test"]
    tenant: Annotated[str | None, Field(description="null for the platform's.")]
    scopes: list[Scope]
    networks: list[str]
    per_second: Count
    burst: Count
    issued_at: Time
    issued_by: str
    expires_at: Time | None
    revoked_at: Time | None
    revoked_by: str | None
    reason: str | None
    predecessor: str | None
    successor: str | None


class IssuedKeyDocument(KeyDocument):
    """A new key with its token, which is shown this once."""

    token: Annotated[str | None, Field(description="null where the command is repeated.")]


class RotatedKeyDocument(IssuedKeyDocument):
    """A successor with its token, and the key that it replaces."""

    replaces: KeyDocument


class KeysDocument(Answered):
    """Keys, the newest first."""

    keys: list[KeyDocument]
    next: Next


class AuditLineDocument(Answered):
    """An act."""

    number: int
    at: Time
    tenant: Annotated[str | None, Field(description="Whom it is about; null for the platform.")]
    act: Annotated[str, Field(examples=["budget.set"])]
    who: Annotated[str, Field(examples=["key:0123456789abc"])]
    via: Literal["cli", "http", "jobs"]
    target: str | None
    request_id: str | None
    address: str | None
    outcome: Annotated[str, Field(description="`ok`, or the code of an error.")]
    detail: dict[str, Any]


class AuditDocument(Answered):
    """Acts, the newest first."""

    lines: list[AuditLineDocument]
    next: Next


class KeyUsesDocument(Answered):
    """How often a key called a route."""

    tenant: str | None
    key: str
    day: Annotated[str | None, Field(description="In UTC, with `daily`.", examples=["2026-11-27"])]
    route: Annotated[str, Field(description="Its template; `-` where there is none.")]
    status: Annotated[str, Field(description="Class of the answers.", examples=["2xx"])]
    uses: Count
    first_at: Time
    last_at: Time


class UsesDocument(Answered):
    """Uses of keys, those that were used last first."""

    uses: list[KeyUsesDocument]
    more: Annotated[bool, Field(description="Whether there are older ones past `limit`.")]


class CallerDocument(Answered):
    """A key that still calls a route, and how often."""

    tenant: str | None
    key: str
    uses: Count
    last_at: Time


class DeprecatedRouteDocument(Answered):
    """A route that will go."""

    method: str
    path: str
    deprecated_on: Annotated[str, Field(examples=["2026-11-27"])]
    sunset_on: Annotated[str, Field(description="When it goes.", examples=["2027-06-30"])]
    keys: list[CallerDocument]


class DeprecationsDocument(Answered):
    """Which keys still call what will go."""

    since: Time
    routes: list[DeprecatedRouteDocument]
