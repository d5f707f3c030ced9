"""Widths of columns, heights of rows and pages of tables, so that typst need not find them out.

A column that fits its content and a row as high as it needs have typst set every cell two or three
times, and a table that it breaks is set by one processor. What cannot be said beforehand, such as a
row with characters of another font, is left to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Final

from adapters.paper.texts import BREAK

CHARACTERS: Final = (
    "".join(map(chr, [*range(0x20, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]))
    + "\u2013\u2014\u2212\u2026\u2018\u2019\u201c\u201d\u20ac"
)
"""Those whose widths are asked for; a text with another one is left to typst."""

# As in invoice.typ, top.typ and style.typ, in points.
_TITLE, _NAME, _TEXT, _NOTE, _DETAIL = 22, 11, 9.5, 7.5, 6.5
_MILLIMETRE = 72 / 25.4
_PAGE = 174 * _MILLIMETRE
_PAGE_HEIGHT = (297 - 44) * _MILLIMETRE - 0.5  # less what rounding may add
_GUTTERS = 22
"""Between the title, the names and the values on its right."""
_PARTY = (_PAGE - 24) / 2
_INSET_X, _INSET_Y = 4, 5
_DETAIL_INSET_Y = 3
_DETAIL_COLUMNS = (_PAGE - 132 * _MILLIMETRE, 34 * _MILLIMETRE, 98 * _MILLIMETRE)
_DETAIL_HEADS = ("Line and price", "Exact amount", "Evidence")
_OWN_PAGES = 60
"""Details of more lines begin a page."""
_PLACES = re.compile(
    rf"{BREAK}|(?<=[A-Za-z]-)(?=[A-Za-z])"
    r"|(?<=[^(\[{\"'\u00ab\u00a1\u00bf\u2014\u2018\u201c] )(?=[A-Za-z0-9(])"
)
"""Where a line may end by UAX 14, of many such places those that need no look at what is around."""
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
    """What `metrics.typ` says of the fonts, heights in points.

    Attributes:
        regular: the width of each of `CHARACTERS`, in parts of the size of the text.
        bold: the same in bold.
        any: the same, regular, and as much as a text of any characters can need for each.
        line: a line of the table.
        wrap: what another line of the same text adds.
        note: what a note below it adds.
        label: a head of a column.
        detail: a line of the details.
        detail_label: their head.
        mastheads: what is above the lines, by the number of rows on the right, with parties of one
            row below their names.
        party_row: what another of these adds.
        details_head: what is above the details.
    """

    regular: Mapping[str, float]
    bold: Mapping[str, float]
    any: Mapping[str, float]
    line: float
    wrap: float
    note: float
    label: float
    detail: float
    detail_label: float
    mastheads: Sequence[float]
    party_row: float
    details_head: float

    @classmethod
    def read(cls, answer: str) -> Metrics:
        """Return them from the answer to the query for `<metrics>`."""
        said = json.loads(answer)
        regular = dict(zip(CHARACTERS, said.pop("regular"), strict=True))
        return cls(
            regular=regular,
            bold=dict(zip(CHARACTERS, said.pop("bold"), strict=True)),
            any={
                one: _ANY * width + (_LOOSENESS if one in _LOOSE else 0)
                for one, width in regular.items()
            },
            **said,
        )


def sizes_of(view: Mapping[str, Any], metrics: Metrics) -> dict[str, Any]:
    """Return the sizes of a view's tables, in points: members of the view, too.

    ``columns`` are the widths of all columns but the description's, in order, none where typst has
    to find them; ``parts`` and ``detail_parts`` the tables, one after another. A part has the lines
    from ``first`` to before ``after`` and the heights of its ``rows``, the head's first, None where
    one is as high as it needs. One that is ``whole`` has a page, all its heights, and of details
    the ``gaps`` between the first two texts of each row.
    """
    columns = _columns(view, metrics)
    room = _PAGE - sum(columns) - 2 * _INSET_X
    rows: list[float | None]
    if room < _LEAST_DESCRIPTION:
        columns, rows = [], [None] * len(view["lines"])
    else:
        rows = [_row(line, metrics, room) for line in view["lines"]]
    return {
        "columns": columns,
        "parts": _parts(rows, _head(view, metrics), _masthead(view, metrics)),
        "detail_parts": _detail_parts(view["details"], metrics),
    }


def width_of(text: str, advances: Mapping[str, float], size: float) -> float:
    """Return the room that a text may need, in points: infinite where a character is unknown."""
    try:
        return size * sum(map(advances.__getitem__, text))
    except KeyError:
        return inf


def _parts(rows: Sequence[float | None], head: float, above: float) -> list[dict[str, Any]]:
    known = [row for row in rows if row is not None]
    if not rows or len(known) < len(rows) or above == inf:
        return [_part(0, [None, *rows], whole=False)]
    parts = []
    first, taken, page = 0, above + head, [head]
    for number, row in enumerate(known):
        if taken + row > _PAGE_HEIGHT and len(page) > 1:
            parts.append(_part(first, page, whole=True))
            first, taken, page = number, head, [head]
        if taken + row > _PAGE_HEIGHT:
            return [_part(0, [None, *rows], whole=False)]
        taken += row
        page.append(row)
    return [*parts, _part(first, page, whole=True)]


def _part(first: int, rows: Sequence[float | None], *, whole: bool) -> dict[str, Any]:
    rows = [row if row is None else round(row, 3) for row in rows]
    return {"first": first, "after": first + len(rows) - 1, "rows": rows, "whole": whole}


def _columns(view: Mapping[str, Any], metrics: Metrics) -> list[float]:
    lines = view["lines"]
    columns = [_column("", [], [line["number"] for line in lines], metrics)]
    if view["counted"]:
        for head, name in (("Quantity", "quantity"), ("Unit price", "price")):
            notes = [note for line in lines for note in line[f"{name}_notes"]]
            notes.append(view[f"{name}_head"])
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


def _lines(text: str, metrics: Metrics, size: float, room: float) -> float:
    """Return how many lines a text may need, infinitely many where that cannot be said.

    Typst breaks it at these places and some others, so never into more.
    """
    whole = width_of(text.replace(BREAK, ""), metrics.any, size)
    if whole <= room:
        return 1
    lines, taken = 1, 0.0
    for piece in _PLACES.split(text):
        wide = width_of(piece, metrics.any, size)
        if wide > room:
            return inf
        if taken + wide > room:
            lines, taken = lines + 1, 0.0
        taken += wide
    return lines


def _row(line: Mapping[str, Any], metrics: Metrics, room: float) -> float | None:
    lines = _lines(line["description"], metrics, _TEXT, room)
    notes = sum(_lines(note, metrics, _NOTE, room) for note in line["notes"])
    described = lines * metrics.wrap + notes * metrics.note
    if described == inf:
        return None
    beside = max(len(line["quantity_notes"]), len(line["price_notes"])) * metrics.note
    below = max(described - metrics.wrap, beside)
    return metrics.line + below + 2 * _INSET_Y


def _head(view: Mapping[str, Any], metrics: Metrics) -> float:
    noted = view["counted"] and (view["quantity_head"] or view["price_head"])
    return metrics.label + (metrics.note if noted else 0) + 2 * _INSET_Y


def _masthead(view: Mapping[str, Any], metrics: Metrics) -> float:
    """Return how high what is above the lines may be, infinite where that cannot be said."""
    names, values = zip(*view["meta"], strict=True) if view["meta"] else ((), ())
    left = max(
        width_of(view["heading"], metrics.bold, _ANY * _TITLE),
        width_of(view["subheading"], metrics.any, _NAME),
    )
    right = sum(_widest(texts, metrics) for texts in (names, values))
    if left + right + _GUTTERS > _PAGE or len(names) >= len(metrics.mastheads):
        return inf
    rows = max(sum(_party_rows(party, metrics)) for party in view["parties"])
    return metrics.mastheads[len(names)] + max(0, rows - 1) * metrics.party_row


def _widest(texts: Iterable[str], metrics: Metrics) -> float:
    return max((width_of(text, metrics.any, _TEXT) for text in texts), default=0)


def _party_rows(party: Mapping[str, Any], metrics: Metrics) -> Iterator[float]:
    if width_of(party["name"], metrics.bold, _ANY * _NAME) > _PARTY:
        yield inf
    for row in party["rows"]:
        yield _lines(row, metrics, _TEXT, _PARTY)


def _detail_parts(details: Sequence[Sequence[str]], metrics: Metrics) -> list[dict[str, Any]]:
    if not details:
        return []
    height = metrics.detail + 2 * _DETAIL_INSET_Y
    gaps = [_gap(texts, metrics.regular) for texts in details]
    head = _gap(_DETAIL_HEADS, metrics.bold)
    if len(details) <= _OWN_PAGES or None in gaps or head is None:
        rows = [_detail_row(texts, metrics) for texts in details]
        return [_part(0, [None, *rows], whole=False)]
    parts = _parts(
        [height] * len(details), metrics.detail_label + 2 * _DETAIL_INSET_Y, metrics.details_head
    )
    for part in parts:
        part["gaps"] = [head, *gaps[part["first"] : part["after"]]]
    return parts


def _detail_row(texts: Iterable[str], metrics: Metrics) -> float | None:
    for text, width in zip(texts, _DETAIL_COLUMNS, strict=True):
        if width_of(text, metrics.any, _DETAIL) > width - 2 * _INSET_X:
            return None
    return metrics.detail + 2 * _DETAIL_INSET_Y


def _gap(texts: Iterable[str], advances: Mapping[str, float]) -> float | None:
    """Return the blank between two texts, the second of which ends with its column.

    None where one of the three needs more than its column.
    """
    widths = [width_of(text, advances, _DETAIL) for text in texts]
    for width, column in zip(widths, _DETAIL_COLUMNS, strict=True):
        if _OWN * width > column - 2 * _INSET_X:
            return None
    first, second, _ = widths
    right = _DETAIL_COLUMNS[0] + _DETAIL_COLUMNS[1] - 2 * _INSET_X
    return round(right - first - second, 3)
