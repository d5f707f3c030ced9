"""Ids in paths: one percent-encoded segment each, slashes and all.

An ASGI server decodes the path before anyone can tell a slash of an id from one between segments.
So the path is decoded here once more, from its raw form, with a character in place of the encoded
slashes that no id may hold; the convertor ``id`` of a route's template puts them back:

    "/v2/tenants/{tenant:id}/budgets/{budget:id}"      # either may hold any character
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from starlette.convertors import Convertor, register_url_convertor

_SLASH = "\x1f"
_SLASH_IN_PATHS = re.compile(rb"%2f", re.IGNORECASE)
_CONVERTOR = re.compile(r":\w+\}")


class _Id(Convertor[str]):
    regex = "[^/]+"

    def convert(self, value: str) -> str:
        return value.replace(_SLASH, "/")

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("id", _Id())


def routed(raw: bytes) -> str | None:
    """Return a path for routing, decoded but for the slashes inside of its segments.

    Args:
        raw: as the client sent it.

    Returns:
        The path; None for one that leads nowhere, as it holds control characters.
    """
    decoded = unquote_to_bytes(raw).decode("utf-8", "replace")
    if any(one < " " or "\x7f" <= one < "\xa0" for one in decoded):
        return None
    if not _SLASH_IN_PATHS.search(raw):
        return decoded
    slashes = _SLASH_IN_PATHS.sub(_SLASH.encode(), raw)
    return unquote_to_bytes(slashes).decode("utf-8", "replace")


def template(path: str) -> str:
    """Return a route's path as schemas and logs have it, without convertors."""
    return _CONVERTOR.sub("}", path)
