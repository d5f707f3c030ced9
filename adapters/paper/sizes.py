"""Widths of columns and heights of rows, computed so that typst need not find them out.

A column that fits its content and a row as high as it needs have typst set every cell two or three
times. What cannot be said beforehand, such as a row whose text needs a second line, is left to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Final

CHARACTERS: Final = (
    "".join(map(chr, [*range(0x20, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]))
    + "\u2013\u2014\u2212\u2026\u2018\u2019\u201c\u201d\u20ac"
)
"""Those whose widths are asked for; a text with another one is left to typst."""

# As in invoice.typ and style.typ, in points.
_TEXT, _NOTE, _DETAIL = 9.5, 7.5, 6.5
_MILLIMETRE = 72 / 25.4
_PAGE = 174 * _MILLIMETRE
_INSET_X, _INSET_Y = 4, 5
_DETAIL_INSET_Y = 3
_DETAIL_COLUMNS = (_PAGE - 132 * _MILLIMETRE, 34 * _MILLIMETRE, 98 * _MILLIMETRE)
_LEAST_DESCRIPTION = 160
"""Below it the columns share the page as typst finds best."""
_OWN = 1.01
"""How much wider than its characters a number or word of ours may be set."""
_ANY = 1.05
"""The same of any text: some letters stand further from each other than from the rest."""
_LOOSE = frozenset("!\"'*J\\([{\u00bf\u201c\u201d\u2018\u2019")
_LOOSENESS = 0.08
"""What these characters may add, in parts of the size, between the wrong neighbours."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """What `metrics.typ` says of the fonts.

    Attributes:
        regular: the width of each of `CHARACTERS`, in parts of the size of the text.
        bold: the same in bold.
        any: the same, regular, and as much as a text of any characters can need for each.
        line: the height of a line of the table, in points.
        note: what a note below it adds.
        detail: the height of a line of the details.
    """

    regular: Mapping[str, float]
    bold: Mapping[str, float]
    any: Mapping[str, float]
    line: float
    note: float
    detail: float

    @classmethod
    def read(cls, answer: str) -> Metrics:
        """Return them from the answer to the query for `<metrics>`."""
        said = json.loads(answer)
        regular = dict(zip(CHARACTERS, said["regular"], strict=True))
        return cls(
            regular=regular,
            bold=dict(zip(CHARACTERS, said["bold"], strict=True)),
            any={
                one: _ANY * width + (_LOOSENESS if one in _LOOSE else 0)
                for one, width in regular.items()
            },
            line=said["line"],
            note=said["note"],
            detail=said["detail"],
        )


def sizes_of(view: Mapping[str, Any], metrics: Metrics) -> dict[str, Any]:
    """Return the sizes of a view's tables, in points: members of the view, too.

    ``columns`` are the widths of all columns but the description's, in order, none where typst has
    to find them; ``rows`` and ``detail_rows`` the heights of the rows below the heads, None where
    one is as high as it needs.
    """
    columns = _columns(view, metrics)
    rows: list[float | None]
    room = _PAGE - sum(columns) - 2 * _INSET_X
    if room < _LEAST_DESCRIPTION:
        columns, rows = [], [None] * len(view["lines"])
    else:
        rows = [_row(line, metrics, room) for line in view["lines"]]
    return {
        "columns": columns,
        "rows": rows,
        "detail_rows": [_detail_row(texts, metrics) for texts in view["details"]],
    }


def width_of(text: str, advances: Mapping[str, float], size: float) -> float:
    """Return the room that a text may need, in points: infinite where a character is unknown."""
    try:
        return size * sum([advances[one] for one in text])
    except KeyError:
        return inf


def _columns(view: Mapping[str, Any], metrics: Metrics) -> list[float]:
    lines = view["lines"]
    columns = [_column("", [], [line["number"] for line in lines], metrics)]
    if view["counted"]:
        for head, name in (("Quantity", "quantity"), ("Unit price", "price")):
            notes = [note for line in lines for note in line[f"{name}_notes"]]
            columns.append(_column(head, [line[name] for line in lines], notes, metrics))
    if view["taxed"]:
        columns.append(_column("Tax", [line["tax"] for line in lines], [], metrics))
    amounts = [line["amount"] for line in lines]
    columns.append(_column(f"Amount {view['currency']}", amounts, [], metrics))
    return columns


def _column(head: str, texts: Iterable[str], notes: Iterable[str], metrics: Metrics) -> float:
    widths = [
        _OWN * width_of(head.upper(), metrics.bold, _NOTE),
        *(_OWN * width_of(text, metrics.regular, _TEXT) for text in set(texts)),
        *(width_of(note, metrics.any, _NOTE) for note in set(notes)),
    ]
    return round(max(widths) + 2 * _INSET_X, 3)


def _fits(text: str, metrics: Metrics, size: float, room: float) -> bool:
    return width_of(text, metrics.any, size) <= room


def _row(line: Mapping[str, Any], metrics: Metrics, room: float) -> float | None:
    if not _fits(line["description"], metrics, _TEXT, room):
        return None
    if not all(_fits(note, metrics, _NOTE, room) for note in line["notes"]):
        return None
    notes = max(len(line[name]) for name in ("notes", "quantity_notes", "price_notes"))
    return round(metrics.line + notes * metrics.note + 2 * _INSET_Y, 3)


def _detail_row(texts: Iterable[str], metrics: Metrics) -> float | None:
    for text, width in zip(texts, _DETAIL_COLUMNS, strict=True):
        if not _fits(text, metrics, _DETAIL, width - 2 * _INSET_X):
            return None
    return round(metrics.detail + 2 * _DETAIL_INSET_Y, 3)
