"""What people say of a key: the members of the documents that issue and rotate one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ledger.application import ask_fields as fields
from ledger.application.access import SCOPES
from ledger.domain.errors import InvalidInput
from ledger.domain.keys import MODES, Key, read_network

MAX_NETWORKS = 50
"""Most networks of a key."""
MAX_RATE = 1_000_000
"""Most requests a second, and at once, that a limit can say."""


def _tenant(value: object, pointer: str) -> str | None:
    return None if value is None else fields.name(value, pointer)


def _scopes(value: object, pointer: str) -> tuple[str, ...]:
    found: tuple[str, ...] = fields.names(len(SCOPES))(value, pointer)
    if not found:
        fields.fail(pointer, f"is empty; give some of {', '.join(SCOPES)}")
    for one in found:
        if one not in SCOPES:
            fields.fail(pointer, f"{fields.shown(one)} is none of {', '.join(SCOPES)}")
    return found


def _networks(value: object, pointer: str) -> tuple[str, ...]:
    found: tuple[str, ...] = fields.names(MAX_NETWORKS)(value, pointer)
    try:
        return tuple(str(read_network(one)) for one in found)
    except InvalidInput as error:
        fields.fail(pointer, error.message)


def _expiry(value: object, pointer: str) -> int | None:
    return None if value is None else fields.instant(value, pointer)


_MEMBERS: dict[str, fields.Check] = {
    "name": fields.name,
    "scopes": _scopes,
    "tenant": _tenant,
    "mode": fields.choice(*MODES),
    "note": fields.text,
    "expires_at": _expiry,
    "networks": _networks,
    "per_second": fields.whole(0, MAX_RATE),
    "burst": fields.whole(0, MAX_RATE),
}


def terms_of(document: Mapping[str, object]) -> dict[str, Any]:
    """Return the terms of a new key, with what is left out.

    Raises:
        InvalidInput: ``invalid_<member>``, ``unknown_member``.
    """
    said = fields.read_members(document, _MEMBERS, required=("name", "scopes"))
    terms: dict[str, Any] = {
        "tenant": None,
        "mode": MODES[0],
        "note": "",
        "expires_at": None,
        "networks": (),
        "per_second": 0,
        "burst": 0,
    }
    terms.update(said)
    terms["per_second"] = terms["per_second"] or terms["burst"]
    terms["burst"] = terms["burst"] or terms["per_second"]
    return terms


def inherited(old: Key, said: Mapping[str, Any], at: int) -> dict[str, Any]:
    """Return the terms of a key's successor, made at an instant in microseconds.

    Raises:
        InvalidInput: ``invalid_expires_at`` that is over.
    """
    expires_at = said.get("expires_at")
    if expires_at is None and old.expires_at is not None:
        expires_at = at + old.expires_at - old.issued_at
    if expires_at is not None and expires_at <= at:
        fields.fail("/expires_at", "is over already")
    return {
        "tenant": old.tenant,
        "mode": old.mode,
        "scopes": old.scopes,
        "name": old.name,
        "note": old.note,
        "networks": old.networks,
        "per_second": old.per_second,
        "burst": old.burst,
        "expires_at": expires_at,
        "predecessor": old.id,
    }
