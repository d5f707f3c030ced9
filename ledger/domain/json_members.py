"""JSON documents that say each member once: of two of one name nobody knows which is meant."""

from __future__ import annotations

import json
from typing import Any

from ledger.domain.errors import InvalidInput


def check_members_once(document: bytes | str, *, code: str) -> None:
    """Check that no object of a document has two members of one name.

    Args:
        document: valid JSON; what is none passes, its reader says what is wrong.
        code: of the refusal.

    Raises:
        InvalidInput: with the code, naming the member, or for a document nested too deeply.
    """

    def once(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise InvalidInput(
                    f"the member {name[:64]!r} stands twice in one object; say it once", code=code
                )
            seen.add(name)

    try:
        # Numbers stay text: of however many digits, nothing is computed.
        json.loads(document, object_pairs_hook=once, parse_int=str, parse_float=str)
    except RecursionError:
        raise InvalidInput("the document is nested too deeply", code=code) from None
    except ValueError:
        return
