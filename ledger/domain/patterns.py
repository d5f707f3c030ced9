"""Patterns of names: a name itself, or its beginning and ``*``."""

from __future__ import annotations

from collections.abc import Sequence


def matches(patterns: Sequence[str], name: str) -> bool:
    """Tell whether a name is one of the patterns."""
    return any(name.startswith(one[:-1]) if one.endswith("*") else name == one for one in patterns)
