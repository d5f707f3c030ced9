"""Explanations as documents."""

from __future__ import annotations

from typing import Any

from ledger.application.documents.encoding import to_plain
from ledger.application.explain import Explanation


def explanation_document(found: Explanation) -> dict[str, Any]:
    """Return an explanation, member by member."""
    document: dict[str, Any] = to_plain(found)
    return document
