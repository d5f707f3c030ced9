"""Splitting a batch into its items, whatever one of them holds."""

from __future__ import annotations

import json
import re

import pytest
from fakes.building import wire
from hypothesis import given
from hypothesis import strategies as st

from ledger.application.splitting import MAX_ITEMS, split
from ledger.domain.errors import InvalidInput

EVENTS = [wire(f"e-{number}") for number in range(20)]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def _array(items: list[bytes]) -> list[bytes]:
    return [bytes(item) for item in split(b"[" + b",".join(items) + b"]", "array")]


@given(st.lists(JSON, max_size=6), st.sampled_from(["", " ", "\n  "]))
def test_a_well_formed_array_gives_its_members(members: list[object], blank: str) -> None:
    """Brackets, commas and quotes in texts divide nothing, with and without a broken neighbor."""
    texts = [json.dumps(member, ensure_ascii=False) for member in members]
    text = f",{blank}".join([*texts, "7"]).encode()
    items = split(b"[" + text + b"]", "array")
    assert [json.loads(bytes(item)) for item in items] == [*members, 7]
    broken = split(b"[" + text + b",{'}]", "array")
    assert [bytes(item).strip() for item in broken] == [*(t.encode() for t in texts), b"7", b"{'}"]


@pytest.mark.parametrize(
    "bad",
    [
        b'{"specversion": "1.0", "id":}',
        b'{"specversion": "1.0", "id": 1, "data": {"a": 1}',
        b'{"specversion": "1.0", "id": "cut',
        b"{not json",
        b"not json",
        b"}",
        b"]",
        b'{"quote: 1}',
        b'{"a": "b"c"}',
        b'{"line": "end\n"}',
        b'{"utf": "\xff\xfe"}',
        b'{"nan": NaN}',
        b"'single'",
        b"",
        b"[" * 5_000,
        b"[" * 5_000 + b"]" * 5_000,
        b'{"a": nul, "list": [{"specversion": "1.0"}, {"specversion": "1.0"}]}',
    ],
)
def test_an_item_that_is_no_json_takes_no_neighbor_with_it(bad: bytes) -> None:
    """Brackets say where it ends, and where they do not, the next event does."""
    items = [*EVENTS[:6], bad, *EVENTS[6:]]
    assert _array(items) == items


def test_what_follows_the_last_item_is_its_fault_alone() -> None:
    """A comma too many, an array that breaks off, text behind it: the others are items."""
    inside = b",".join(EVENTS)
    for text, last in [
        (b"[" + inside + b",]", b""),
        (b"[" + inside + b',{"specversion": "1.0", ', b'{"specversion": "1.0",'),
        (b"[" + inside + b",1] x", b"1] x"),
    ]:
        assert [bytes(item) for item in split(text, "array")] == [*EVENTS, last]
    assert [bytes(item) for item in split(b"[" + inside, "array")] == EVENTS


@pytest.mark.parametrize("text", [b"[]", b" [ \n ] "])
def test_an_empty_array_has_no_items(text: bytes) -> None:
    """Nothing was sent, and nothing is wrong with it."""
    assert list(split(text, "array")) == []


@pytest.mark.parametrize("text", [b"", b"{}", b"nonsense", b'"[1]"', b"\xff["])
def test_what_begins_with_no_bracket_is_no_batch(text: bytes) -> None:
    """The whole text is refused."""
    with pytest.raises(InvalidInput) as caught:
        split(text, "array")
    assert caught.value.code == "invalid_body"


def test_lines_are_items_and_blank_lines_are_none() -> None:
    """Line ends of either kind; the last line needs none."""
    text = b"\n" + EVENTS[0] + b"\r\n  \r\n\n{broken\n" + EVENTS[1]
    items = [bytes(item).rstrip() for item in split(text, "lines")]
    assert items == [EVENTS[0], b"{broken", EVENTS[1]]
    assert list(split(b" \n\n", "lines")) == []


@pytest.mark.parametrize("end", [b"]", b",}"])
def test_a_batch_has_a_limit_of_items(end: bytes) -> None:
    """One more than the limit refuses the batch, well-formed or not, in both forms."""
    for count in (MAX_ITEMS, MAX_ITEMS + 1):
        array = b"[" + b",".join([b"1"] * count) + end
        lines = b"1\n" * count
        if count == MAX_ITEMS and end == b"]":
            assert len(split(array, "array")) == len(split(lines, "lines")) == MAX_ITEMS
            continue
        refused = [array] if count == MAX_ITEMS else [array, lines]
        for text in refused:
            with pytest.raises(InvalidInput) as caught:
                split(text, "array" if text is array else "lines")
            assert caught.value.code == "too_many_items"


def test_a_text_made_to_be_searched_over_and_over_is_given_up() -> None:
    """Its rest is one bad item; what stood before is not lost."""
    text = b"[" + EVENTS[0] + b",{" * 1_200_000
    items = [bytes(item) for item in split(text, "array")]
    assert items[0] == EVENTS[0]
    assert len(items) == 2
    assert re.match(rb"\{,\{", items[1])


def test_a_text_of_very_many_parts_is_refused_before_it_is_split() -> None:
    """Splitting it would take more memory than any batch is worth."""
    with pytest.raises(InvalidInput) as caught:
        split(b"[" + b"1," * 4_000_001 + b"1]", "array")
    assert caught.value.code == "too_many_items"
