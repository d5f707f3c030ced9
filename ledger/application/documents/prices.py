"""Price rows and what became of them as documents."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from ledger.application.price_results import ChangeResult, Contradiction, RecordPage
from ledger.domain.money import text
from ledger.domain.price_records import PriceRecord


def tree(value: object) -> object:
    """Return a result as a JSON tree: empty members left out, decimals as plain text."""
    if isinstance(value, msgspec.Struct):
        members = ((name, getattr(value, name)) for name in value.__struct_fields__)
        return {name: tree(member) for name, member in members if member not in ("", None)}
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, Decimal):
        return text(value)
    if isinstance(value, list | tuple):
        return [tree(member) for member in value]
    return value


def tree_of_change(result: ChangeResult) -> dict[str, object]:
    """Return a decision's result as a JSON tree."""
    return {
        "rows": tree(result.records),
        "dropped": list(result.dropped),
        "published": result.published,
        "rating": tree(result.rating),
    }


def record_document(record: PriceRecord) -> dict[str, Any]:
    """Return a price row and all that is known of it."""
    document = tree(record)
    if not isinstance(document, dict):
        raise TypeError("a struct becomes an object")
    return document


def page_document(page: RecordPage) -> dict[str, Any]:
    """Return some of the rows found, and how many there are."""
    return {"total": page.total, "rows": tree(page.records)}


def held_document(found: Sequence[Contradiction], limit: int) -> dict[str, Any]:
    """Return the first held rows with what contradicts them, and how many there are."""
    return {"total": len(found), "held": tree(found[:limit])}
