"""Examples in documents: their blocks, and whether an answer is what an example shows."""

from __future__ import annotations

import re
from typing import Any

ANYTHING = "…"
"""In an example: any value; as the name of a member: further ones."""


def blocks(page: str) -> list[tuple[str, str]]:
    """Return language and text of each fenced block of a page."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)


def differs(wanted: Any, found: Any, at: str = "") -> str:
    """Return where an answer is not what an example says; "" where it is."""
    if wanted == ANYTHING:
        return ""
    if isinstance(wanted, dict) and isinstance(found, dict):
        named = {name for name in wanted if name != ANYTHING}
        if ANYTHING not in wanted and set(found) != named:
            return f"{at}: members {sorted(found)}, not {sorted(named)}"
        places = (differs(wanted[name], found.get(name), f"{at}/{name}") for name in named)
        return next((place for place in places if place), "")
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        places = (
            differs(one, other, f"{at}/{place}")
            for place, (one, other) in enumerate(zip(wanted, found, strict=True))
        )
        return next((place for place in places if place), "")
    return "" if wanted == found else f"{at}: {found!r}, not {wanted!r}"
