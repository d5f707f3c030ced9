"""Usage events: keys, fingerprints, canonical quantities."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from fakes.building import adjust, us, usage, void

from ledger.domain.errors import InvalidInput
from ledger.domain.usage import (
    Correction,
    canonical_payload,
    canonical_quantities,
    check_text,
    check_time,
    conflict_digest,
    correction_fingerprint,
    escape_pointer,
    key_digest,
    scaled_quantities,
)


def test_a_key_s_source_and_id_cannot_be_shifted_into_one_another() -> None:
    """("ab", "c") and ("a", "bc") are two keys; digests have 16 bytes."""
    assert key_digest("ab", "c") != key_digest("a", "bc")
    assert key_digest("1:a", "b") != key_digest("1", ":ab")
    assert key_digest("ü", "x") != key_digest("u", "x")
    assert len(key_digest("a", "b")) == 16


def test_digests_stay_what_they_are() -> None:
    """Stored keys and fingerprints must be found again by every later version."""
    assert key_digest("gateway", "e-1").hex() == "517d3e15d101d4137bbe5a4400ac2e2e"
    assert usage().fingerprint.hex() == "c5ca1c7eba0c82e5840fa1513310af8c"
    assert correction_fingerprint(void()).hex() == "9cd688000647cc8ae12214f5c7b33b97"
    assert correction_fingerprint(adjust()).hex() == "0fb2f05d2ee1e2034ef66851b52ea4ec"
    assert (
        conflict_digest(usage().key, usage().fingerprint).hex()
        == "abb1af32e48d0bf9d1e8bf40072d11b1"
    )


def test_the_canonical_payload_is_sorted_and_leaves_defaults_out() -> None:
    """RFC 8785: no blanks, members in order, numbers as text where they may be fractions."""
    assert canonical_payload(usage(user="ü").event).decode() == (
        '{"id":"e-1","model":"gpt","occurred_at":1793707200000000,"provider":"openai",'
        '"quantities":{"tokens.input":"1000","tokens.output":"200"},"source":"gateway",'
        '"tenant":"acme","user":"ü"}'
    )


def test_a_default_is_left_out_whatever_object_says_it() -> None:
    """Text that a program put together is as much a default as the constant."""
    built = usage(outcome="".join(["o", "k"]), billable="".join(["ten", "ant"]))
    assert built.fingerprint == usage().fingerprint
    error = usage(outcome="error", billable="".join(["ten", "ant"]))
    assert error.fingerprint == usage(outcome="error").fingerprint


def test_labels_and_raw_are_canonical_whatever_their_order_and_spelling() -> None:
    """Free-form members go through the same rules."""
    first = usage(labels={"b": "1", "a": "2"}, raw='{"y": 1.0, "x": [1e0]}')
    second = usage(labels={"a": "2", "b": "1"}, raw='{"x":[1],"y":1}')
    assert first.fingerprint == second.fingerprint


@pytest.mark.parametrize("raw", ['{"n":9007199254740993}', '{"n":1e400}'])
def test_raw_that_json_cannot_say_exactly_is_refused(raw: str) -> None:
    """Evidence that two readers would read differently is none."""
    with pytest.raises(InvalidInput) as refused:
        usage(raw=raw)
    assert (refused.value.code, refused.value.pointer) == ("invalid_raw", "/data/raw")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (void(), void(reason="x")),
        (void(), void("e-2")),
        (void(), void(target_source="x")),
        (void(), void(tenant="x")),
        (adjust(), adjust(quantities={"tokens.input": 1})),
        (adjust(), void(id="a-1")),
    ],
)
def test_every_member_of_a_correction_is_in_its_fingerprint(
    one: Correction, other: Correction
) -> None:
    """And so is its kind."""
    assert correction_fingerprint(one) != correction_fingerprint(other)


def test_quantities_become_sorted_plain_text() -> None:
    """Whatever their order and spelling were."""
    quantities: dict[str, int | Decimal] = {
        "tokens.output": Decimal("1.50"),
        "tokens.input": Decimal("1E+3"),
        "images": 2,
    }
    canonical = canonical_quantities(quantities)
    assert list(canonical.items()) == [
        ("images", "2"),
        ("tokens.input", "1000"),
        ("tokens.output", "1.5"),
    ]
    assert scaled_quantities(canonical) == ((2_000_000, 1_000_000_000, 1_500_000), 6)


def test_whole_quantities_stay_integers() -> None:
    """Entries of whole numbers have no decimals to carry."""
    assert scaled_quantities({"tokens.input": "12"}) == ((12,), 0)
    assert scaled_quantities({}) == ((), 0)


@pytest.mark.parametrize(
    ("quantities", "code", "pointer"),
    [
        ({}, "no_quantities", "/q"),
        ({f"x{n}": 1 for n in range(33)}, "too_many_meters", "/q"),
        ({"no.such": 1}, "unknown_meter", "/q/no.such"),
        ({"a/b~c": 1}, "unknown_meter", "/q/a~1b~0c"),
        ({"tokens.input": -1}, "invalid_quantity", "/q/tokens.input"),
        ({"tokens.input": Decimal("-0.5")}, "invalid_quantity", "/q/tokens.input"),
        ({"tokens.input": 10**18}, "invalid_quantity", "/q/tokens.input"),
        ({"tokens.input": Decimal("Infinity")}, "invalid_quantity", "/q/tokens.input"),
        ({"tokens.input": Decimal("NaN")}, "invalid_quantity", "/q/tokens.input"),
        ({"tokens.input": Decimal("0.0000001")}, "too_precise", "/q/tokens.input"),
        ({"images": Decimal("1.5")}, "too_precise", "/q/images"),
    ],
)
def test_quantities_outside_their_range_are_refused(
    quantities: dict[str, Any], code: str, pointer: str
) -> None:
    """Each rule has a code and points to the meter."""
    with pytest.raises(InvalidInput) as refused:
        canonical_quantities(quantities, pointer="/q")
    assert (refused.value.code, refused.value.pointer) == (code, pointer)


def test_quantities_at_the_ends_of_their_range_are_taken() -> None:
    """From nothing to just below 10^18, and to the sixth decimal."""
    assert canonical_quantities({"tokens.input": 0, "tokens.output": 10**18 - 1}) == {
        "tokens.input": "0",
        "tokens.output": "999999999999999999",
    }
    assert canonical_quantities({"tokens.input": Decimal("0.000001")}) == {
        "tokens.input": "0.000001"
    }


@pytest.mark.parametrize("value", ["x" * 257, "a\x00b", "\x1f", "\x7f", "\x9f", "\n"])
def test_names_are_short_and_without_control_characters(value: str) -> None:
    """256 characters of any script are possible."""
    with pytest.raises(InvalidInput) as refused:
        check_text(value, pointer="/id")
    assert (refused.value.code, refused.value.pointer) == ("invalid_text", "/id")


def test_any_other_text_is_a_name() -> None:
    """Blanks, no-break blanks and emoji are the producer's business; emptiness may not be."""
    for value in ("", "x" * 256, "a b", "\u00a0", "ключ", "🧾", "\u200b"):
        check_text(value, pointer="/id")
    with pytest.raises(InvalidInput):
        check_text("", pointer="/id", required=True)


@pytest.mark.parametrize(
    ("time", "taken"),
    [
        ("1999-12-31T23:59:59.999999Z", False),
        ("2000-01-01T00:00:00Z", True),
        ("2099-12-31T23:59:59.999999Z", True),
        ("2100-01-01T00:00:00Z", False),
    ],
)
def test_times_outside_a_century_are_a_broken_clock(time: str, taken: bool) -> None:
    """From 2000 to before 2100."""
    if taken:
        check_time(us(time))
        return
    with pytest.raises(InvalidInput) as refused:
        check_time(us(time))
    assert (refused.value.code, refused.value.pointer) == ("invalid_time", "/time")


def test_pointer_tokens_are_escaped_and_short() -> None:
    """RFC 6901: ~ is ~0, / is ~1."""
    assert escape_pointer("a~/b") == "a~0~1b"
    assert len(escape_pointer("x" * 1000)) == 64
