"""Splitting: the text of a batch into its items, each of which is read on its own.

A text that is well-formed JSON is split by the decoder. Where it is not, the items are told apart
by their brackets, so that one item that is no JSON does not take its neighbors with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from typing import Literal

import msgspec

from ledger.application.intake import MAX_EVENT_BYTES
from ledger.domain.errors import InvalidInput

MAX_ITEMS = 10_000
"""Most items of one batch."""
Form = Literal["array", "lines"]
"""How the items of a text stand: in a JSON array, or one a line."""
Items = Sequence[bytes | msgspec.Raw]

MAX_COMMAS = 4_000_000
"""Most commas of a batch; splitting takes some 60 bytes for each, until the items are counted."""
_MAX_TOKENS = 2_000_000
"""Most quotes, brackets and commas that are looked at in one text: about a second's work."""
_TOO_MANY = "too_many_items"
_CLOSING = {ord("{"): ord("}"), ord("["): ord("]")}
_QUOTE, _COMMA, _END = ord('"'), ord(","), ord("]")
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["\[\]{},]', re.DOTALL)
_START = re.compile(rb"\s*+\[")
_NEXT_OBJECT = re.compile(rb",\s*+(?=\{)")
_LINE = re.compile(rb"\S[^\n]*+")


class _Event(msgspec.Struct):
    """What tells an event from an object inside of one."""

    specversion: str


_decode = msgspec.json.Decoder(list[msgspec.Raw]).decode
_event = msgspec.json.Decoder(_Event).decode


def split(text: bytes, form: Form) -> Items:
    """Return the items of a batch in order; an item may be no JSON.

    Args:
        text: of the batch.
        form: how items are told apart. Blank lines are no items.

    Raises:
        InvalidInput: ``invalid_body`` if the text of an array begins with no bracket;
            ``too_many_items``.
    """
    items = split_well_formed(text, form)
    if items is None:
        items = _Brackets(text).items()
    if len(items) > MAX_ITEMS:
        raise InvalidInput(
            f"a batch has at most {MAX_ITEMS} items; send it in parts", code=_TOO_MANY
        )
    return items


def split_well_formed(text: bytes, form: Form) -> Items | None:
    """Return the items of a batch whose form is right, all or at least one more than is allowed.

    Returns:
        The items; None where only brackets can tell them apart.

    Raises:
        InvalidInput: ``too_many_items`` for what would take too much memory to split.
    """
    if form == "lines":
        return [line[0] for line in islice(_LINE.finditer(text), MAX_ITEMS + 1)]
    if text.count(b",") > MAX_COMMAS:
        raise InvalidInput("the batch has too many parts; send it in several", code=_TOO_MANY)
    try:
        return _decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


class _Brackets:
    """Splits an array by its brackets.

    An item ends before the comma or bracket that closes it. Where an item's own brackets do not
    match, it ends before the next object that is an event; without one it goes on to the end.

    Args:
        text: of the array.
    """

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._length = len(text.rstrip())
        # Bounds what a text can cost that was made to be searched over and over.
        self._left = _MAX_TOKENS

    def items(self) -> list[bytes]:
        """Return the items.

        Raises:
            InvalidInput: ``invalid_body`` if this is no array.
        """
        text = self._text
        start = _START.match(text)
        if start is None:
            raise InvalidInput("a batch is a JSON array", code="invalid_body")
        items: list[bytes] = []
        at = start.end()
        while len(items) <= MAX_ITEMS:
            end = self._end(at, self._length)
            if end is None:
                end = self._next_event(at)
            items.append(text[at:end].strip())
            if end >= self._length or text[end] == _END:
                break
            at = end + 1
        return items

    def _end(self, start: int, stop: int) -> int | None:
        """Return where the item that begins here ends; None where its brackets do not tell."""
        text = self._text
        last = self._length - 1
        expected = bytearray()
        for token in _TOKEN.finditer(text, start, stop):
            self._left -= 1
            at = token.start()
            first = text[at]
            if first == _QUOTE:
                if token.end() - at == 1:
                    return None  # no quote closes it
            elif first in _CLOSING:
                expected.append(_CLOSING[first])
            elif first == _COMMA:
                if not expected:
                    return at
            elif not expected:
                # Only what ends the text ends the array; before that it is a stray bracket.
                return at if first == _END and at == last else None
            elif expected.pop() != first:
                return None
            if self._left < 0:
                return None
        # An array that breaks off behind an item still says where that item ends.
        return None if expected or stop < self._length else stop

    def _next_event(self, start: int) -> int:
        """Return the place of the next comma before an event; the end if there is none."""
        text = self._text
        for comma in _NEXT_OBJECT.finditer(text, start):
            at = comma.end()
            end = self._end(at, min(self._length, at + MAX_EVENT_BYTES))
            if end is not None and _is_event(text[at:end]):
                return comma.start()
            if self._left < 0:
                break
        return self._length


def _is_event(text: bytes) -> bool:
    try:
        _event(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True
