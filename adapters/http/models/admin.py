"""Documents of tenants, keys and the audit log."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from adapters.http.models.common import Answered, Text
from adapters.http.models.common import TenantRequest as _TenantRequest
from adapters.http.models.protection import Next

Count = Annotated[int, Field(ge=0)]


class TenantSettingsRequest(_TenantRequest):
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
