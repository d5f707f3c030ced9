"""Keys as documents; neither token nor digest is in one."""

from __future__ import annotations

from typing import Any

from ledger.application.documents.amounts import utc_text
from ledger.domain.keys import Key


def key_document(key: Key, *, now: int) -> dict[str, Any]:
    """Return a key.

    Args:
        key: the key.
        now: the database's time, microseconds since the epoch, which decides its status.
    """
    return {
        "id": key.id,
        "name": key.name,
        "note": key.note,
        "status": key.status(now),
        "mode": key.mode,
        "tenant": key.tenant,
        "scopes": list(key.scopes),
        "networks": list(key.networks),
        "per_second": key.per_second,
        "burst": key.burst,
        "issued_at": utc_text(key.issued_at),
        "issued_by": key.issued_by,
        "expires_at": utc_text(key.expires_at or 0),
        "revoked_at": utc_text(key.revoked_at or 0),
        "revoked_by": key.revoked_by or None,
        "reason": key.reason or None,
        "predecessor": key.predecessor or None,
        "successor": key.successor or None,
    }
