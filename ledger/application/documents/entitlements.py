"""Entitlements as documents."""

from __future__ import annotations

from typing import Any

from ledger.domain.entitlements import KINDS, Entitlements


def entitlements_document(tenant: str, found: Entitlements) -> dict[str, Any]:
    """Return what a tenant may use; a kind without a list is left out."""
    lists = {kind: getattr(found, kind) for kind in KINDS}
    listed = {kind: list(names) for kind, names in lists.items() if names is not None}
    return {"tenant": tenant, "default": found.default, **listed}
