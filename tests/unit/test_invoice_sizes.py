"""Sizes of an invoice's tables: enough for what typst sets, and left to it where unknown."""

from __future__ import annotations

import json
from decimal import Decimal
from importlib.resources import files
from typing import Any

import pytest
from fakes import invoice_samples as samples
from typst import Compiler, Fonts

from adapters.paper import TypstPrinter
from adapters.paper.sizes import CHARACTERS, Metrics, sizes_of, width_of
from adapters.paper.view import view_of
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


def test_rows_are_as_high_as_their_lines_and_notes(metrics: Metrics) -> None:
    """So typst need not set each cell twice to know."""
    rows = sizes_of(view_of(samples.usual()), metrics)["rows"]
    line, note = metrics.line + 10, metrics.note
    assert rows == [round(line + notes * note, 3) for notes in (0, 2, 1, 1)]


@pytest.mark.parametrize(
    "description", ["gemini " * 12, "\u6f22\u5b57", "\u05e2\u05d1\u05e8\u05d9\u05ea"]
)
def test_a_row_that_is_not_known_is_left_to_typst(metrics: Metrics, description: str) -> None:
    """One that needs a second line, or characters that another font has."""
    sizes = sizes_of(view_of(_of(description)), metrics)
    assert (len(sizes["columns"]), sizes["rows"]) == (5, [None])
    assert sizes["detail_rows"] != [None]


@pytest.mark.parametrize(
    "members", [{"quantity": Decimal(10) ** 60}, {"unit": "\u6f22\u5b57"}], ids=["wide", "unknown"]
)
def test_columns_that_are_not_known_are_left_to_typst(
    metrics: Metrics, members: dict[str, Any]
) -> None:
    """Those that leave a description no room, and units that another font has."""
    sizes = sizes_of(view_of(_of("x", **members)), metrics)
    assert (sizes["columns"], sizes["rows"]) == ([], [None])


def test_reckoned_sizes_break_pages_where_typst_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same invoice is as many pages with and without them."""
    invoice = samples.long_invoice(50)
    reckoned = TypstPrinter().pages(invoice)

    def unknown(view: dict[str, Any], _: Metrics) -> dict[str, Any]:
        lines = [None] * len(view["lines"])
        return {"columns": [], "rows": lines, "detail_rows": lines}

    monkeypatch.setattr("adapters.paper.printer.sizes_of", unknown)
    assert len(TypstPrinter().pages(invoice)) == len(reckoned) == 4
