"""Sizes of an invoice's tables: enough for what typst sets, and left to it where unknown."""

from __future__ import annotations

import json
from decimal import Decimal
from importlib.resources import files
from itertools import pairwise
from typing import Any

import pytest
from fakes import invoice_samples as samples
from typst import Compiler, Fonts

from adapters.paper import TypstPrinter
from adapters.paper.sizes import CHARACTERS, Metrics, sizes_of, width_of
from adapters.paper.view import view_of
from ledger.domain.invoice_parts import Party
from ledger.domain.invoices import Invoice

_FOLDER = files("adapters.paper")
_FONTS = Fonts(include_system_fonts=False)
_PROBE = """
#import "/style.typ": faces
#show: faces
#context [#metadata(json(bytes(sys.inputs.texts)).map(one => measure(text(one)).width / 1pt)) <w>]
"""
_NOTE, _INSETS = 7.5 / 9.5, 8


def _ask(template: bytes, query: str, **inputs: list[str]) -> str:
    compiler = Compiler(
        input=template,
        root=str(_FOLDER),
        font_paths=_FONTS,
        ignore_system_fonts=True,
        sys_inputs={name: json.dumps(texts) for name, texts in inputs.items()},
    )
    return compiler.query(query, field="value", one=True)


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    """What the template says of the fonts in the package."""
    template = (_FOLDER / "metrics.typ").read_bytes()
    return Metrics.read(_ask(template, "<metrics>", chars=list(CHARACTERS)))


def _of(description: str, **members: Any) -> Invoice:
    return samples.final(samples.draft([samples.line(description, "1.5", **members)]))


def test_columns_have_room_for_what_they_show(metrics: Metrics) -> None:
    """As typst sets it: a width that is too small would break a text over the row below."""
    for invoice in (
        samples.usual(),
        samples.long_invoice(30, currency="JPY"),
        samples.long_invoice(30, currency="KWD"),
        _of("x", unit="AVATAR Type fjord"),
    ):
        view = view_of(invoice)
        columns = sizes_of(view, metrics)["columns"]
        for name, column in zip(("quantity", "price", "tax", "amount"), columns[1:], strict=True):
            texts = [line[name] for line in view["lines"]]
            notes = [note for line in view["lines"] for note in line.get(f"{name}_notes", [])]
            set_at = json.loads(_ask(_PROBE.encode(), "<w>", texts=texts + notes))
            wide = [*set_at[: len(texts)], *(width * _NOTE for width in set_at[len(texts) :])]
            assert max(wide) <= column - _INSETS


def test_any_known_text_has_the_room_that_is_reckoned_for_it(metrics: Metrics) -> None:
    """Whatever characters come together, as they are moved towards or from each other."""
    plain = [one for one in CHARACTERS if "!" <= one <= "~"]
    texts = [first + second for first in CHARACTERS for second in plain if first != " "]
    texts += [f"a {one} b" for one in plain]
    set_at = json.loads(_ask(_PROBE.encode(), "<w>", texts=texts))
    for text, width in zip(texts, set_at, strict=True):
        assert width <= width_of(text, metrics.any, 9.5), text


def _rows(parts: list[dict[str, Any]]) -> list[float | None]:
    return [row for part in parts for row in part["rows"][1:]]


def test_rows_are_as_high_as_their_lines_and_notes(metrics: Metrics) -> None:
    """So typst need not set each cell twice to know."""
    parts = sizes_of(view_of(samples.usual()), metrics)["parts"]
    line, note = metrics.line + 10, metrics.note
    assert _rows(parts) == [round(line + notes * note, 3) for notes in (0, 2, 1, 1)]


@pytest.mark.parametrize("description", ["\u6f22\u5b57", "\u05e2\u05d1\u05e8\u05d9\u05ea"])
def test_a_row_that_is_not_known_is_left_to_typst(metrics: Metrics, description: str) -> None:
    """One with characters that another font has."""
    sizes = sizes_of(view_of(_of(description)), metrics)
    assert (len(sizes["columns"]), _rows(sizes["parts"])) == (5, [None])
    assert [part["whole"] for part in sizes["parts"]] == [False]
    assert _rows(sizes["detail_parts"]) != [None]


@pytest.mark.parametrize(
    "members", [{"quantity": Decimal(10) ** 60}, {"unit": "\u6f22\u5b57"}], ids=["wide", "unknown"]
)
def test_columns_that_are_not_known_are_left_to_typst(
    metrics: Metrics, members: dict[str, Any]
) -> None:
    """Those that leave a description no room, and units that another font has."""
    sizes = sizes_of(view_of(_of("x", **members)), metrics)
    assert (sizes["columns"], _rows(sizes["parts"])) == ([], [None])


@pytest.mark.parametrize(
    "text",
    [
        "gemini " * 30,
        "audio-native-dialog-" * 9,
        "AVATAR-Type (fjord) " * 12,
        "x" * 200,
        "tokens ) of ( model ! " * 9,
        "cache : / 4 ; \u201c hit \u201d ' a ' ] " * 5,
    ],
    ids=["blanks", "hyphens", "loose", "pieces", "brackets", "marks"],
)
def test_a_text_of_many_lines_has_room_for_each(metrics: Metrics, text: str) -> None:
    """As typst breaks it, and one line too many at most."""
    view = view_of(_of(text))
    sizes = sizes_of(view, metrics)
    width = 174 * 72 / 25.4 - sum(sizes["columns"]) - _INSETS
    probe = _PROBE.replace("measure(text(one)).width", f"measure(width: {width}pt, one).height")
    needed = json.loads(_ask(probe.encode(), "<w>", texts=[view["lines"][0]["description"]]))[0]
    (row,) = _rows(sizes["parts"])
    assert row is not None
    assert needed <= row - 10 + 0.001 <= needed + metrics.wrap + 0.002


def _unknown(view: dict[str, Any], _: Metrics) -> dict[str, Any]:
    def part(rows: list[Any]) -> list[dict[str, Any]]:
        heights = [None] * (len(rows) + 1)
        return [{"first": 0, "after": len(rows), "rows": heights, "whole": False}]

    return {"columns": [], "parts": part(view["lines"]), "detail_parts": part(view["details"])}


@pytest.mark.parametrize(
    "invoice",
    [
        samples.long_invoice(75),
        samples.final(
            samples.draft([samples.line("a", "1.5")] * 70, notes=("n",)),
            buyer=Party(name="Buyer", address=("An address of many words " * 4,) * 3),
        ),
    ],
    ids=["long", "wrapped"],
)
def test_reckoned_sizes_break_pages_where_typst_would(
    monkeypatch: pytest.MonkeyPatch, metrics: Metrics, invoice: Invoice
) -> None:
    """The same invoice is as many pages with and without them, so no part needs a second one."""
    sizes = sizes_of(view_of(invoice), metrics)
    assert [part["whole"] for part in sizes["parts"]] == [True] * len(sizes["parts"])
    reckoned = TypstPrinter().pages(invoice)
    monkeypatch.setattr("adapters.paper.printer.sizes_of", _unknown)
    assert len(TypstPrinter().pages(invoice)) == len(reckoned) >= 4


def test_no_page_holds_more_than_it_has_room_for(metrics: Metrics) -> None:
    """Nor is one begun that the page before had room for; every line is on one."""
    sizes = sizes_of(view_of(samples.long_invoice(300)), metrics)
    height = 253 * 72 / 25.4
    for parts, above in (
        (sizes["parts"], metrics.mastheads[0]),
        (sizes["detail_parts"], metrics.details_head),
    ):
        assert len(parts) > 3
        assert parts[0]["first"] == 0
        assert above + sum(parts[0]["rows"]) <= height
        for part, following in pairwise(parts):
            assert part["after"] == following["first"]
            assert sum(following["rows"]) <= height
        for part, following in pairwise(parts[1:]):
            assert sum(part["rows"]) + following["rows"][1] > height - 1
        assert parts[-1]["after"] == 300


def test_a_row_that_no_page_holds_is_left_to_typst(metrics: Metrics) -> None:
    """Wherever it stands, as is a table below a masthead that leaves it no room."""
    plain, tall = samples.line("a", "1"), samples.line("gemini " * 900, "1")
    for lines in ([tall, plain], [plain, tall], [plain, tall, plain]):
        view = view_of(samples.final(samples.draft(lines)))
        assert [part["whole"] for part in sizes_of(view, metrics)["parts"]] == [False]
    view = view_of(_of("a"))
    view["parties"][0]["rows"] = ["a"] * 70
    assert [part["whole"] for part in sizes_of(view, metrics)["parts"]] == [False]
