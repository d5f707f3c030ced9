"""Cursors: where the next page of a listing starts, as text that clients hand back.

A cursor holds a place (of the log, or the key of a row) and a digest that binds it to its listing,
tenant and filters, so one of another listing is told from a good one. It opens nothing: the place
is only ever looked for among rows that the caller may read.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, TypeVar

import msgspec

from adapters.http.problems import HttpProblem

MAX_LIMIT = 1000
DEFAULT_LIMIT = 100
MAX_CURSOR_CHARS = 4096
_DIGEST_BYTES = 8
_T = TypeVar("_T")


class Listing(msgspec.Struct, frozen=True):
    """Which listing a cursor is of.

    Attributes:
        name: of the listing.
        of: whose, and its filters, in a fixed order.
    """

    name: str
    of: tuple[object, ...] = ()

    def cursor(self, place: Sequence[object]) -> str:
        """Return the cursor of what comes after a place."""
        body = msgspec.msgpack.encode(list(place))
        return base64.urlsafe_b64encode(self._digest(body) + body).rstrip(b"=").decode()

    def place(self, cursor: str | None, kind: type[_T]) -> _T | None:
        """Return the place that a cursor holds; None without one.

        Args:
            cursor: as an answer gave it.
            kind: type of the place, a tuple.

        Raises:
            HttpProblem: ``invalid_cursor``.
        """
        if cursor is None:
            return None
        try:
            raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
            digest, body = raw[:_DIGEST_BYTES], raw[_DIGEST_BYTES:]
            if digest == self._digest(body):
                return msgspec.msgpack.decode(body, type=kind)
        except (binascii.Error, ValueError, msgspec.MsgspecError):
            pass
        raise HttpProblem(
            "this is no cursor of this listing with these parameters; give the one that its last"
            " answer has as next, or none",
            code="invalid_cursor",
        )

    def page(self, rows: Sequence[_T], limit: int, place: Any) -> tuple[Sequence[_T], str | None]:
        """Return a page, and the cursor of the next one if there is one.

        Args:
            rows: up to one more than the page has.
            limit: rows of the page.
            place: returns the place of a row.
        """
        if len(rows) <= limit:
            return rows, None
        return rows[:limit], self.cursor(place(rows[limit - 1]))

    def _digest(self, body: bytes) -> bytes:
        made = blake2b(digest_size=_DIGEST_BYTES, person=b"tb-cursor")
        made.update(msgspec.msgpack.encode((self.name, *self.of)))
        made.update(body)
        return made.digest()
