"""Reading asks about holds: what each document becomes, by either way of reading."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from hashlib import blake2b
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from fakes.ask_documents import (
    CAPTURE,
    ONE,
    READERS,
    REVERSE,
    Word,
    authorize,
)
from fakes.asking import QUANTITIES, ask
from fakes.building import us
from hypothesis import given
from hypothesis import strategies as st

from ledger.application import ask_forms
from ledger.application.asks import (
    capture_hold,
    extend_hold,
    progress_hold,
    reverse_charge,
    void_hold,
)
from ledger.domain.errors import InvalidInput
from ledger.domain.holds import (
    AVAILABLE,
    Ask,
    CaptureHold,
    ExtendHold,
    ProgressHold,
    ReverseCharge,
    VoidHold,
    hold_digest,
)


def test_an_ask_in_quantities_becomes_its_command() -> None:
    """Quantities are canonical text and integers; labels and tools are sorted, tools once."""
    command = authorize(
        ask(
            quantities={"tokens.output": 5, "tokens.input": "7.50"},
            labels={"b": "2", "a": "1"},
            tools=["search", "code", "search"],
            min_amount="0.01",
            ttl="1.5",
            byok=True,
        ),
        dry=True,
    )
    expected = Ask(
        provider="openai",
        model="gpt",
        quantities={"tokens.input": "7.5", "tokens.output": "5"},
        labels={"a": "1", "b": "2"},
        tools=("code", "search"),
        min_amount=10**16,
        ttl_us=1_500_000,
        byok=True,
    )
    assert command.ask == expected
    assert list(command.ask.labels) == ["a", "b"]
    assert list(command.ask.quantities) == ["tokens.input", "tokens.output"]
    assert (command.numbers, command.decimals) == ((7_500_000, 5_000_000), 6)
    assert (command.tenant, command.hold, command.dry) == ("acme", "h-1", True)
    assert command.key == hold_digest("h-1")
    assert command.body == msgspec.json.encode(expected)
    assert command.fingerprint == blake2b(command.body, digest_size=16).digest()


def test_an_ask_by_amount_becomes_its_command() -> None:
    """An amount in any of its forms, or all that is left."""
    for amount in ("1.5", "01.50", Decimal("1.500")):
        assert authorize({"hold": "h", "amount": amount}).ask.amount == 15 * 10**17
    assert authorize({"hold": "h", "amount": 2, "currency": "EUR"}).ask.currency == "EUR"
    assert authorize({"hold": "h", "amount": 0}).ask.amount == 0
    available = authorize({"hold": "h", "amount": "available", "min_amount": 1})
    assert available.ask == Ask(amount=AVAILABLE, min_amount=ONE)
    assert available.numbers == ()


def test_members_that_say_the_default_change_nothing() -> None:
    """A retry that spells them out has the same fingerprint."""
    spelled = {
        "api_key": "",
        "batch": False,
        "billable": "".join(["ten", "ant"]),
        "byok": False,
        "currency": "",
        "kind": "".join(["ca", "ll"]),
        "labels": {},
        "on_expiry": "".join(["capture", "_progress"]),
        "tools": [],
        "ttl": "300",
    }
    assert authorize(ask(**spelled)).body == authorize(ask()).body
    assert authorize(ask(tools=(), ttl=Decimal(300))).body == authorize(ask()).body


def test_spelling_and_order_do_not_make_another_ask() -> None:
    """Nor does the kind of mapping or of text that it is in."""
    plain = authorize(ask(labels={"a": "1", "b": "2"}))
    for other in (
        ask(labels={"b": "2", "a": "1"}, quantities={"tokens.output": "500", "tokens.input": 1000}),
        ask(labels=UserDict({"b": "2", "a": "1"}), quantities=MappingProxyType(QUANTITIES)),
        UserDict(ask(labels={"a": "1", "b": "2"}, provider=Word.OPENAI)),
        MappingProxyType(ask(labels={"a": "1", "b": "2"})),
        ask(labels={"a": "1", "b": "2"}, quantities={k: Decimal(v) for k, v in QUANTITIES.items()}),
    ):
        assert authorize(other).fingerprint == plain.fingerprint


def test_a_lease_is_of_an_amount() -> None:
    """A bounded one or all that is left."""
    for kind in ("lease", Word.LEASE):
        command = authorize({"hold": "l", "kind": kind, "amount": "5", "on_expiry": "void"})
        assert command.ask == Ask(amount=5 * ONE, kind="lease", on_expiry="void")


def test_other_operations_become_their_commands() -> None:
    """By amount or by quantities, with what is optional and without."""
    about = {"tenant": "acme", "hold": "h-1"}
    assert extend_hold({"step": 2, "amount": "available", "ttl": 60}, **about) == ExtendHold(
        "acme", "h-1", 2, AVAILABLE, {}, 60_000_000
    )
    assert extend_hold({"step": 1, "quantities": {"tokens.output": "1.0"}}, **about) == ExtendHold(
        "acme", "h-1", 1, None, {"tokens.output": "1"}
    )
    assert progress_hold({"step": 3, "quantities": {"tokens.output": 0}}, **about) == ProgressHold(
        "acme", "h-1", 3, {"tokens.output": "0"}
    )
    assert void_hold({"void": "v"}, **about) == VoidHold("acme", "v", "h-1")
    assert void_hold({"void": "v", "reason": "why", "force": True}, **about) == VoidHold(
        "acme", "v", "h-1", "why", True
    )
    assert reverse_charge(REVERSE, tenant="acme") == ReverseCharge(
        "acme", "r-1", "tallybook:hold", "c-1", ONE
    )
    named = REVERSE | {"source": "tallybook:expiry", "reason": "why"}
    assert reverse_charge(named, tenant="acme") == ReverseCharge(
        "acme", "r-1", "tallybook:expiry", "c-1", ONE, "why"
    )


def test_a_capture_becomes_its_command() -> None:
    """What it leaves out is taken from the hold later."""
    numbers = {"tokens.input": "1000", "tokens.output": "500"}
    plain = capture_hold(CAPTURE, tenant="acme", hold="h-1")
    assert plain == CaptureHold("acme", "h-1", "tallybook:hold", "c-1", numbers)
    full = CAPTURE | {
        "final": False,
        "source": "gw",
        "provider": "openai",
        "model": "gpt-1",
        "tier": "flex",
        "region": "eu",
        "request_id": "r",
        "outcome": "aborted",
        "raw": {"total_tokens": 1500},
        "occurred_at": "2026-11-03T13:00:00+01:00",
    }
    expected = CaptureHold(
        "acme",
        "h-1",
        "gw",
        "c-1",
        numbers,
        final=False,
        occurred_at=us("2026-11-03T12:00:00Z"),
        provider="openai",
        model="gpt-1",
        tier="flex",
        region="eu",
        request_id="r",
        outcome="aborted",
        raw='{"total_tokens":1500}',
    )
    assert capture_hold(full, tenant="acme", hold="h-1") == expected
    aware = datetime(2026, 11, 3, 17, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    same = full | {"occurred_at": aware, "raw": '{"total_tokens":1500}'}
    assert capture_hold(same, tenant="acme", hold="h-1") == expected


# -- the two ways of reading --------------------------------------------------------------

_values = st.one_of(
    st.sampled_from(
        ["", "a", "lease", "void", "USD", "available", "1.5", "300", "\n", "\ud800", "a" * 257]
    ),
    st.integers(-1, 2),
    st.booleans(),
    st.none(),
    st.floats(),
    st.decimals(),
    st.lists(st.sampled_from(["a", "", 1, "\n"]), max_size=2),
    st.dictionaries(
        st.sampled_from(["tokens.input", "a", "", "\n", "\ud800"]),
        st.sampled_from([1, "1", "x", 0.5, "\n", "\ud800"]),
        max_size=2,
    ),
    st.datetimes(timezones=st.sampled_from([UTC, None])),
)


def _result(read: Callable[[Any], object], document: Mapping[str, object]) -> object:
    try:
        return read(document)
    except InvalidInput as error:
        return error.code, error.pointer


@given(
    kind=st.sampled_from(["authorize", "capture"]),
    changes=st.dictionaries(
        st.sampled_from(
            (
                *(*ask(), *CAPTURE, "amount", "byok", "colour", "final", "kind", "labels"),
                *("min_amount", "occurred_at", "on_expiry", "outcome", "raw", "source"),
                *("tools", "ttl", "user"),
            )
        ),
        _values,
        max_size=3,
    ),
)
def test_the_quick_way_reads_what_the_thorough_one_reads(
    kind: str, changes: dict[str, object]
) -> None:
    """The same command or the same mistake, and no other exception whatever is sent."""
    reader, document = READERS[kind]
    merged = document | changes
    quick = _result(reader, merged)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ask_forms, "_is_plain", lambda document: False)
        assert _result(reader, merged) == quick
