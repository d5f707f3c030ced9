"""Reading asks: what each document becomes, and for each mistake its code and pointer."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from hashlib import blake2b
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from fakes.asking import QUANTITIES, ask
from fakes.building import us
from hypothesis import given
from hypothesis import strategies as st

from ledger.application import ask_forms
from ledger.application.asks import (
    authorize_hold,
    budget_terms,
    capture_hold,
    confirm_budget,
    entitlements,
    extend_hold,
    grant_credit,
    progress_hold,
    reverse_charge,
    void_hold,
    withdraw_credit,
)
from ledger.domain.budgets import BudgetTerms, Filter, Step, terms_body
from ledger.domain.default_cap import DefaultCap
from ledger.domain.entitlements import Entitlements, entitlements_body
from ledger.domain.errors import InvalidInput
from ledger.domain.holds import (
    AVAILABLE,
    Ask,
    AuthorizeHold,
    CaptureHold,
    ExtendHold,
    ProgressHold,
    ReverseCharge,
    VoidHold,
    hold_digest,
)
from ledger.domain.protection_commands import ConfirmBudget, GrantCredit, WithdrawCredit

ONE = 10**18
CAPTURE = {"capture": "c-1", "quantities": QUANTITIES}
BUDGET = {"limit": "100", "steps": [{"kind": "stop"}]}
GRANT = {"id": "g-1", "amount": "10"}
WITHDRAW = {"id": "w-1", "grant": "g-1", "amount": "10"}
REVERSE = {"reversal": "r-1", "capture": "c-1", "amount": "1"}
CONFIRM = {"id": "k-1", "ceiling": "150", "by": "ann"}
TERMS = BudgetTerms("monthly", 100 * ONE, currency="USD")
TOKENS = BudgetTerms("tokens", 10**6, measure="tokens.*")
_ABSENT = object()


class _Word(StrEnum):
    LEASE = "lease"
    OPENAI = "openai"


def _authorize(document: Any, **members: Any) -> AuthorizeHold:
    return authorize_hold(document, **({"tenant": "acme"} | members))


def _terms(document: Any, name: str = "b") -> BudgetTerms:
    return budget_terms(document, name=name, currency="USD")


READERS: dict[str, tuple[Callable[[Any], object], dict[str, Any]]] = {
    "authorize": (_authorize, ask()),
    "extend": (lambda one: extend_hold(one, tenant="acme", hold="h-1"), {"step": 1, "amount": 1}),
    "progress": (
        lambda one: progress_hold(one, tenant="acme", hold="h-1"),
        {"step": 1, "quantities": QUANTITIES},
    ),
    "capture": (lambda one: capture_hold(one, tenant="acme", hold="h-1"), CAPTURE),
    "void": (lambda one: void_hold(one, tenant="acme", hold="h-1"), {"void": "v-1"}),
    "reverse": (lambda one: reverse_charge(one, tenant="acme"), REVERSE),
    "budget": (_terms, BUDGET),
    "confirm": (
        lambda one: confirm_budget(one, tenant="acme", budget="monthly", terms=TERMS),
        CONFIRM,
    ),
    "grant": (lambda one: grant_credit(one, tenant="acme"), GRANT),
    "withdraw": (lambda one: withdraw_credit(one, tenant="acme"), WITHDRAW),
    "entitlements": (entitlements, {}),
}


def _problem(read: Callable[[], object]) -> tuple[str, str]:
    """Return code and pointer of what is wrong; both can be sent as JSON."""
    with pytest.raises(InvalidInput) as caught:
        read()
    error = caught.value
    msgspec.json.encode([error.code, error.pointer, error.message])
    return error.code, error.pointer


def _changed(kind: str, /, **members: Any) -> tuple[Callable[[Any], object], dict[str, Any]]:
    reader, document = READERS[kind]
    merged = document | members
    return reader, {name: value for name, value in merged.items() if value is not _ABSENT}


# -- what documents become ----------------------------------------------------------------


def test_an_ask_in_quantities_becomes_its_command() -> None:
    """Quantities are canonical text and integers; labels and tools are sorted, tools once."""
    command = _authorize(
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
        assert _authorize({"hold": "h", "amount": amount}).ask.amount == 15 * 10**17
    assert _authorize({"hold": "h", "amount": 2, "currency": "EUR"}).ask.currency == "EUR"
    assert _authorize({"hold": "h", "amount": 0}).ask.amount == 0
    available = _authorize({"hold": "h", "amount": "available", "min_amount": 1})
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
    assert _authorize(ask(**spelled)).body == _authorize(ask()).body
    assert _authorize(ask(tools=(), ttl=Decimal(300))).body == _authorize(ask()).body


def test_spelling_and_order_do_not_make_another_ask() -> None:
    """Nor does the kind of mapping or of text that it is in."""
    plain = _authorize(ask(labels={"a": "1", "b": "2"}))
    for other in (
        ask(labels={"b": "2", "a": "1"}, quantities={"tokens.output": "500", "tokens.input": 1000}),
        ask(labels=UserDict({"b": "2", "a": "1"}), quantities=MappingProxyType(QUANTITIES)),
        UserDict(ask(labels={"a": "1", "b": "2"}, provider=_Word.OPENAI)),
        MappingProxyType(ask(labels={"a": "1", "b": "2"})),
        ask(labels={"a": "1", "b": "2"}, quantities={k: Decimal(v) for k, v in QUANTITIES.items()}),
    ):
        assert _authorize(other).fingerprint == plain.fingerprint


def test_a_lease_is_of_an_amount() -> None:
    """A bounded one or all that is left."""
    for kind in ("lease", _Word.LEASE):
        command = _authorize({"hold": "l", "kind": kind, "amount": "5", "on_expiry": "void"})
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


def test_a_budget_becomes_its_terms() -> None:
    """Amounts in the measure, percentages x 100, lists sorted."""
    document = {
        "limit": "100",
        "scope": "label:team=blue=1",
        "filter": {"models": ["gpt*", "a", "gpt*"], "meters": ["tokens.*"], "byok": "exclude"},
        "measure": "cost",
        "currency": "EUR",
        "window": "day",
        "steps": [
            {"kind": "warn"},
            {"kind": "projected", "percent": "120.5"},
            {"kind": "downgrade", "model": "mini", "amount": "90"},
            {"kind": "stop", "percent": 1000},
        ],
        "on_unpriced": "allow",
        "on_outage": "lease:2.5",
        "state": "closed",
    }
    assert _terms(document) == BudgetTerms(
        name="b",
        limit=100 * ONE,
        scope="label",
        value="team=blue=1",
        filter=Filter(models=("a", "gpt*"), meters=("tokens.*",), byok=False),
        measure="cost",
        currency="EUR",
        window="day",
        steps=(
            Step("warn", 8000),
            Step("projected", 12050),
            Step("downgrade", 0, 90 * ONE, "mini"),
            Step("stop", 100_000),
        ),
        on_unpriced="allow",
        lease=25 * 10**17,
        state="closed",
    )


def test_a_budget_of_a_meter_is_in_its_quantity() -> None:
    """Six decimals, no currency, one meter or all below one."""
    for measure in ("tokens.*", "tokens.input.*", "audio.stt.seconds"):
        terms = _terms({"measure": measure, "cap": "1.5", "scope": "user=u1"})
        assert (terms.measure, terms.limit, terms.currency) == (measure, 1_500_000, "")
        assert (terms.scope, terms.value) == ("user", "u1")
    step = {"kind": "stop", "amount": "0.000001"}
    assert _terms({"measure": "requests", "limit": 5, "steps": [step]}).steps[0].amount == 1


def test_cap_and_alert_have_the_ladders_of_the_spec() -> None:
    """An alert lets pass what has no price: it only tells."""
    cap, alert = _terms({"cap": "100"}), _terms({"alert": "100"})
    assert [(one.kind, one.percent) for one in cap.steps] == [
        ("inform", 5000),
        ("warn", 8000),
        ("stop", 10000),
    ]
    assert [(one.kind, one.percent) for one in alert.steps] == [
        ("inform", 5000),
        ("warn", 8000),
        ("inform", 10000),
    ]
    assert (cap.cap, cap.limit, cap.on_unpriced) == (True, 100 * ONE, "deny")
    assert (alert.cap, alert.limit, alert.on_unpriced) == (False, 100 * ONE, "allow")


def test_terms_that_spell_out_defaults_have_the_same_stored_form() -> None:
    """So setting a budget to what it is changes nothing."""
    spelled = {
        "cap": 100,
        "scope": "".join(["ten", "ant"]),
        "filter": {"providers": [], "byok": "include"},
        "measure": "".join(["char", "ge"]),
        "currency": "USD",
        "window": "".join(["mon", "th"]),
        "on_unpriced": "".join(["de", "ny"]),
        "on_outage": "fail_closed",
        "state": "".join(["op", "en"]),
    }
    default = DefaultCap().terms("USD")
    assert default is not None
    assert terms_body(_terms(spelled, "default")) == terms_body(default)
    assert terms_body(_terms({"cap": "100"}, "default")) == terms_body(default)


def test_a_confirmation_is_in_the_measure_of_its_budget() -> None:
    """Money for money, a quantity for a meter."""
    at = {"until": "2026-11-30T00:00:00Z", "reason": "launch"}
    members = {"tenant": "acme", "budget": "monthly"}
    assert confirm_budget(CONFIRM | at, terms=TERMS, **members) == ConfirmBudget(
        "acme", "k-1", "monthly", 150 * ONE, "ann", us("2026-11-30T00:00:00Z"), "launch"
    )
    tokens = confirm_budget(CONFIRM, terms=TOKENS, **members)
    assert tokens.ceiling == 150 * 10**6


def test_credit_documents_become_their_commands() -> None:
    """Grants, refunds, transfers."""
    assert grant_credit(GRANT, tenant="acme") == GrantCredit("acme", "g-1", 10 * ONE)
    full = GRANT | {
        "currency": "USD",
        "kind": "promotional",
        "priority": 0,
        "expires_at": datetime(2027, 1, 1, tzinfo=UTC),
        "filter": {"providers": ["openai"]},
        "by": "ann",
        "reason": "trial",
    }
    assert grant_credit(full, tenant="acme") == GrantCredit(
        "acme",
        "g-1",
        10 * ONE,
        "USD",
        "promotional",
        0,
        us("2027-01-01T00:00:00Z"),
        Filter(providers=("openai",)),
        "ann",
        "trial",
    )
    assert withdraw_credit(WITHDRAW, tenant="acme") == WithdrawCredit(
        "acme", "w-1", "g-1", 10 * ONE
    )
    all_of_it = WITHDRAW | {"amount": "available", "to": "other", "by": "ann", "reason": "moved"}
    assert withdraw_credit(all_of_it, tenant="acme") == WithdrawCredit(
        "acme", "w-1", "g-1", AVAILABLE, "other", "ann", "moved"
    )


def test_entitlements_tell_no_list_from_an_empty_one() -> None:
    """No list follows the default, an empty one allows nothing."""
    assert entitlements({}) == Entitlements()
    listed = entitlements({"default": "deny", "models": ["gpt*", "a"], "tools": []})
    assert listed == Entitlements("deny", models=("a", "gpt*"), tools=())
    spelled = entitlements({"default": "".join(["al", "low"])})
    assert entitlements_body(spelled) == entitlements_body(Entitlements())


# -- mistakes -----------------------------------------------------------------------------

_TEXTS: list[Any] = [1, None, b"a", ["a"], "a" * 257, "a\n", "a\x7f", "a\x85", "\ud800"]
_FLAGS: list[Any] = [0, 1, None, "true", 1.0]
_NUMBERS: list[Any] = [
    0.5,
    1.0,
    True,
    None,
    -1,
    10**18,
    10**5000,
    "-1",
    "1e3",
    "+1",
    " 1",
    "1_0",
    "1.",
    ".5",
    "",
    "٣",
    "nan",
    "1\n",
    "9" * 5000,
    "1000000000000000000",
    "0.0000000000000000001",
    Decimal("NaN"),
    Decimal("sNaN"),
    Decimal("Infinity"),
    Decimal("-0.1"),
    Decimal("1e18"),
    Decimal("1e999999"),
    Decimal("1e-19"),
    Decimal("1e-999999"),
    [1],
]
_ZERO: list[Any] = [0, "0", "0.0", Decimal(0)]
_TIMES: list[Any] = [
    "now",
    "2026-11-03",
    "2026-11-03T12:00:00",
    "1999-12-31T23:59:59Z",
    "2100-01-01T00:00:00Z",
    1_700_000_000,
    None,
    datetime(2026, 11, 3),  # noqa: DTZ001 - a naive one is the mistake
    datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
    datetime(9999, 12, 31, tzinfo=timezone(-timedelta(hours=14))),
]
_STEPS: list[Any] = [0, -1, True, 1.0, "1", None, 10**9 + 1, 10**5000]
_TTLS: list[Any] = [0, "0.999999", 86401, "86400.000001", "1.0000001", *_NUMBERS]
_MAPPINGS: list[Any] = [None, 1, "a", ["a"], [("a", 1)]]

_BAD: list[tuple[str, str, list[Any]]] = [
    *(("authorize", name, ["", *_TEXTS]) for name in ("hold",)),
    *(
        ("authorize", name, _TEXTS)
        for name in (
            "api_key",
            "conversation",
            "model",
            "plugin",
            "project",
            "provider",
            "provider_account",
            "region",
            "session",
            "tier",
            "user",
        )
    ),
    *(("authorize", name, _FLAGS) for name in ("batch", "byok")),
    *(
        ("authorize", name, ["", "other", 1, None, ["call"]])
        for name in ("billable", "kind", "on_expiry")
    ),
    ("authorize", "currency", ["usd", "ZZZ", 1, None, "\ud800"]),
    ("authorize", "min_amount", [*_NUMBERS, *_ZERO, "available"]),
    ("authorize", "ttl", _TTLS),
    ("authorize", "tools", [1, None, "a", {"a": 1}, ["a"] * 101]),
    ("authorize", "labels", [*_MAPPINGS, {str(n): "" for n in range(21)}]),
    ("authorize", "quantities", [*_MAPPINGS, {}, {f"m{n}": 1 for n in range(33)}, _ABSENT]),
    ("extend", "step", [*_STEPS, _ABSENT]),
    ("extend", "amount", _NUMBERS),
    ("extend", "ttl", _TTLS),
    ("progress", "step", [*_STEPS, _ABSENT]),
    ("progress", "quantities", [*_MAPPINGS, {}, _ABSENT]),
    ("capture", "capture", ["", *_TEXTS, _ABSENT]),
    ("capture", "source", ["", "tallybook:expiry", "tallybook:x", *_TEXTS]),
    *(("capture", name, _TEXTS) for name in ("provider", "model", "tier", "region", "request_id")),
    ("capture", "final", _FLAGS),
    ("capture", "quantities", [*_MAPPINGS, {}, _ABSENT]),
    ("capture", "occurred_at", _TIMES),
    ("capture", "outcome", ["", "fine", 1, None]),
    (
        "capture",
        "raw",
        ["{", "", "\ud800", object(), {"a": 2**60}, {"a": object()}, "x" * 65537],
    ),
    ("void", "void", ["", *_TEXTS, _ABSENT]),
    ("void", "reason", _TEXTS),
    ("void", "force", _FLAGS),
    *(("reverse", name, ["", *_TEXTS]) for name in ("reversal", "capture", "source")),
    *(("reverse", name, [_ABSENT]) for name in ("reversal", "capture", "amount")),
    ("reverse", "amount", [*_NUMBERS, *_ZERO, "available"]),
    ("reverse", "reason", _TEXTS),
    ("budget", "limit", [*_NUMBERS, _ABSENT]),
    ("budget", "steps", [None, 1, "stop", {}, [], [{"kind": "stop"}] * 17, _ABSENT]),
    (
        "budget",
        "scope",
        [
            "",
            "user",
            "user=",
            "tenant=a",
            "label=a",
            "label:a",
            "label:=a",
            "team=a",
            "user=" + "a" * 257,
            "user=a\n",
            1,
            None,
        ],
    ),
    ("budget", "measure", ["", "price", "tokens", "tokens*", "tok.*", "*", ".*", 1, None]),
    ("budget", "currency", ["usd", "EUR", 1, None]),
    ("budget", "window", ["", "year", "rolling:0d", "rolling:101d", "rolling:1w", 1, None]),
    ("budget", "on_unpriced", ["", "ask", True, None]),
    (
        "budget",
        "on_outage",
        ["", "open", "lease", "lease:", "lease:0", "lease:-1", "lease:1e3", 1, None],
    ),
    ("budget", "state", ["", "gone", None]),
    ("budget", "filter", _MAPPINGS),
    *(("confirm", name, ["", *_TEXTS, _ABSENT]) for name in ("id", "by")),
    ("confirm", "ceiling", [*_NUMBERS, *_ZERO, _ABSENT]),
    ("confirm", "until", _TIMES),
    ("confirm", "reason", _TEXTS),
    ("grant", "id", ["", *_TEXTS, _ABSENT]),
    ("grant", "amount", [*_NUMBERS, *_ZERO, "available", _ABSENT]),
    ("grant", "currency", ["usd", 1, None]),
    ("grant", "kind", ["", "free", None]),
    ("grant", "priority", [-1, 1.0, True, "1", None, 10**6 + 1]),
    ("grant", "expires_at", _TIMES),
    ("grant", "filter", _MAPPINGS),
    *(("grant", name, _TEXTS) for name in ("by", "reason")),
    *(("withdraw", name, ["", *_TEXTS, _ABSENT]) for name in ("id", "grant")),
    ("withdraw", "amount", [*_NUMBERS, *_ZERO, _ABSENT]),
    ("withdraw", "to", ["acme", *_TEXTS]),
    *(("withdraw", name, _TEXTS) for name in ("by", "reason")),
    ("entitlements", "default", ["", "ask", None]),
    *(
        ("entitlements", name, [None, 1, "a", {"a": 1}, ["a"] * 1001])
        for name in ("providers", "models", "meters", "plugins", "tools")
    ),
]


@pytest.mark.parametrize(
    ("kind", "member", "values"), _BAD, ids=[f"{kind}-{name}" for kind, name, _ in _BAD]
)
def test_a_bad_member_is_named(kind: str, member: str, values: list[Any]) -> None:
    """Whatever is wrong with it, or that it is missing: its code and its pointer."""
    for value in values:
        reader, document = _changed(kind, **{member: value})
        if kind == "capture" and member == "occurred_at" and isinstance(value, datetime):
            document = MappingProxyType(document)  # type: ignore[assignment] # any mapping is read
        found = _problem(lambda: reader(document))  # noqa: B023 - called at once
        assert found == (f"invalid_{member}", f"/{member}"), value


def test_a_bad_amount_of_an_ask_is_named() -> None:
    """There are no quantities beside it that could be blamed."""
    for value in _NUMBERS:
        document = {"hold": "h", "amount": value}
        assert _problem(lambda: _authorize(document)) == ("invalid_amount", "/amount"), value  # noqa: B023 - called at once


def test_the_most_that_is_possible_is_possible() -> None:
    """Limits are inclusive where they say "at most"."""
    most = "999999999999999999.999999999999999999"
    assert _authorize({"hold": "h" * 256, "amount": most}).ask.amount == 10**36 - 1
    assert _authorize(ask(ttl=86400)).ask.ttl_us == 86_400_000_000
    assert _authorize(ask(ttl=1)).ask.ttl_us == 1_000_000
    assert len(_authorize(ask(labels={str(n): "" for n in range(20)})).ask.labels) == 20
    assert len(_authorize(ask(tools=[str(n) for n in range(100)])).ask.tools) == 100
    assert len(_terms({"limit": 1, "steps": [{"kind": "stop"}] * 16}).steps) == 16
    patterns = [str(n) for n in range(100)]
    assert len(_terms({"cap": 1, "filter": {"models": patterns}}).filter.models) == 100
    assert len(_authorize(ask(user="é" * 256)).ask.user) == 256
    assert (
        _terms({"limit": 0, "steps": [{"kind": "stop", "percent": "0.01"}]}).steps[0].percent == 1
    )


@pytest.mark.parametrize("kind", READERS)
def test_an_unknown_member_has_a_code_of_its_own(kind: str) -> None:
    """However long or odd its name is."""
    reader, document = READERS[kind]
    for name, pointer in (
        ("colour", "/colour"),
        ("a/b~", "/a~1b~0"),
        ("x" * 100, "/" + "x" * 64),
        ("\ud800", "/?"),
        (7, "/int"),
    ):
        found = _problem(lambda: reader(document | {name: 1}))  # noqa: B023 - called at once
        assert found == ("unknown_member", pointer)


@pytest.mark.parametrize("kind", READERS)
def test_what_is_no_object_is_no_document(kind: str) -> None:
    """The pointer is that of the whole."""
    reader, _ = READERS[kind]
    for value in (None, 1, "a", [], [("hold", "h")], b"{}"):
        assert _problem(lambda: reader(value)) == ("invalid_document", "")  # noqa: B023 - called at once


@pytest.mark.parametrize(
    ("document", "found"),
    [
        (ask(amount=1), ("invalid_amount", "/amount")),
        (ask(quantities=None), ("invalid_quantities", "/quantities")),
        (ask(kind="lease"), ("invalid_quantities", "/quantities")),
        ({"hold": "h", "kind": "lease"}, ("invalid_amount", "/amount")),
        (ask(provider=""), ("invalid_provider", "/provider")),
        (ask(provider=None), ("invalid_provider", "/provider")),
        ({"amount": 1}, ("invalid_hold", "/hold")),
        (
            {"hold": "h", "amount": 1, "on_expiry": "capture_full"},
            ("invalid_on_expiry", "/on_expiry"),
        ),
        ({"hold": "h", "amount": 1, "min_amount": "1.1"}, ("invalid_min_amount", "/min_amount")),
        (ask(labels={"a/b": 1}), ("invalid_labels", "/labels/a~1b")),
        (ask(labels={"": "x"}), ("invalid_labels", "/labels/")),
        (ask(labels={"a": "x\n"}), ("invalid_labels", "/labels/a")),
        (ask(labels={"\ud800": "x"}), ("invalid_labels", "/labels/?")),
        (ask(labels={1: "x"}), ("invalid_labels", "/labels/int")),
        (ask(tools=["a", ""]), ("invalid_tools", "/tools/1")),
        (ask(tools=["a", 1]), ("invalid_tools", "/tools/1")),
        (ask(quantities={"gold": 1}), ("invalid_quantities", "/quantities/gold")),
        (ask(quantities={1: 1}), ("invalid_quantities", "/quantities/int")),
        (ask(quantities={1: 1, "a": 1}), ("invalid_quantities", "/quantities/int")),
        (ask(quantities={"\ud800": 1}), ("invalid_quantities", "/quantities/?")),
        (ask(quantities={"requests": "1.5"}), ("invalid_quantities", "/quantities/requests")),
    ],
)
def test_what_members_say_together_is_checked(document: Any, found: tuple[str, str]) -> None:
    """The pointer goes inside a member where that is known."""
    assert _problem(lambda: _authorize(document)) == found


def test_every_bad_quantity_is_found_where_it_is() -> None:
    """In all documents that have quantities; a float is never read."""
    for value in _NUMBERS:
        if value in ("0.0000000000000000001",):
            continue
        bad = {"tokens.input": 1, "tokens.output": value}
        for kind in ("authorize", "progress", "capture"):
            reader, document = _changed(kind, quantities=bad)
            assert _problem(lambda: reader(document)) == (  # noqa: B023 - called at once
                "invalid_quantities",
                "/quantities/tokens.output",
            ), value


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"step": 1}, ("invalid_quantities", "/quantities")),
        ({"step": 1, "ttl": 5}, ("invalid_quantities", "/quantities")),
        ({"step": 1, "amount": 1, "quantities": QUANTITIES}, ("invalid_amount", "/amount")),
    ],
)
def test_an_extension_has_one_target(document: Any, found: tuple[str, str]) -> None:
    """An amount or quantities."""
    assert _problem(lambda: READERS["extend"][0](document)) == found


def _budget(**members: Any) -> dict[str, Any]:
    return _changed("budget", **members)[1]


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({}, ("invalid_limit", "/limit")),
        ({"cap": 1, "limit": 1}, ("invalid_cap", "/cap")),
        ({"cap": 1, "steps": []}, ("invalid_cap", "/cap")),
        ({"cap": 1, "alert": 1}, ("invalid_cap", "/cap")),
        ({"alert": 1, "limit": 1}, ("invalid_alert", "/alert")),
        ({"cap": "x"}, ("invalid_cap", "/cap")),
        ({"alert": 0.5}, ("invalid_alert", "/alert")),
        ({"alert": 1, "on_unpriced": "deny"}, ("invalid_on_unpriced", "/on_unpriced")),
        (_budget(steps=["stop"]), ("invalid_steps", "/steps/0")),
        (_budget(steps=[{}]), ("invalid_steps", "/steps/0/kind")),
        (_budget(steps=[{"kind": "halt"}]), ("invalid_steps", "/steps/0/kind")),
        (_budget(steps=[{"kind": "stop", "at": 1}]), ("unknown_member", "/steps/0/at")),
        (
            _budget(steps=[{"kind": "stop"}, {"kind": "stop", "percent": 1, "amount": 1}]),
            ("invalid_steps", "/steps/1"),
        ),
        *(
            (
                _budget(steps=[{"kind": "stop", "percent": value}]),
                ("invalid_steps", "/steps/0/percent"),
            )
            for value in (0, "0.009", "0.001", "1000.01", 1001, "100.001", 50.0, True, "x", None)
        ),
        *(
            (
                _budget(steps=[{"kind": "stop", "amount": value}]),
                ("invalid_steps", "/steps/0/amount"),
            )
            for value in _NUMBERS
        ),
        (_budget(steps=[{"kind": "downgrade"}]), ("invalid_steps", "/steps/0/model")),
        (
            _budget(steps=[{"kind": "downgrade", "model": ""}]),
            ("invalid_steps", "/steps/0/model"),
        ),
        (
            _budget(steps=[{"kind": "stop", "model": "mini"}]),
            ("invalid_steps", "/steps/0/model"),
        ),
        *(
            (
                _budget(steps=[{"kind": "stop"}, {"kind": "projected"}], window=window),
                ("invalid_steps", "/steps/1"),
            )
            for window in ("lifetime", "rolling:24h")
        ),
        (_budget(filter={"colour": 1}), ("unknown_member", "/filter/colour")),
        (_budget(filter={"models": "gpt"}), ("invalid_filter", "/filter/models")),
        (_budget(filter={"models": ["a", 1]}), ("invalid_filter", "/filter/models/1")),
        (_budget(filter={"models": ["a*b"]}), ("invalid_filter", "/filter/models")),
        (_budget(filter={"models": ["a"] * 101}), ("invalid_filter", "/filter/models")),
        (_budget(filter={"meters": ["gold"]}), ("invalid_filter", "/filter/meters")),
        (_budget(filter={"meters": ["gold*"]}), ("invalid_filter", "/filter/meters")),
        (_budget(filter={"byok": True}), ("invalid_filter", "/filter/byok")),
        (_budget(measure="tokens.*", limit="0.0000001"), ("invalid_limit", "/limit")),
        (_budget(measure="tokens.*", currency="USD"), ("invalid_currency", "/currency")),
        (
            _budget(measure="tokens.*", steps=[{"kind": "stop", "amount": "0.0000001"}]),
            ("invalid_steps", "/steps/0/amount"),
        ),
    ],
)
def test_what_is_wrong_inside_a_budget_is_pointed_at(document: Any, found: tuple[str, str]) -> None:
    """The code names the budget's member, the pointer goes on inside."""
    assert _problem(lambda: _terms(document)) == found


def test_what_is_wrong_inside_entitlements_is_pointed_at() -> None:
    """Patterns end in their only star; meters exist."""
    for document, pointer in (
        ({"tools": ["a", ""]}, "/tools/1"),
        ({"models": ["*a"]}, "/models"),
        ({"meters": ["gold"]}, "/meters"),
    ):
        found = _problem(lambda: entitlements(document))  # noqa: B023 - called at once
        assert found == (f"invalid_{pointer.split('/')[1]}", pointer)


def test_ids_beside_the_document_are_checked_too() -> None:
    """Of tenant, hold and budget, with the same codes as members have."""
    for bad in ("", "a" * 257, "a\n", "\ud800", None, 1):
        value: Any = bad
        for kind in ("extend", "progress", "capture", "void"):
            document = READERS[kind][1]
            read: Any = {
                "extend": extend_hold,
                "progress": progress_hold,
                "capture": capture_hold,
                "void": void_hold,
            }[kind]
            for member, names in (
                ("tenant", {"tenant": value, "hold": "h"}),
                ("hold", {"tenant": "acme", "hold": value}),
            ):
                found = _problem(lambda: read(document, **names))  # noqa: B023 - called at once
                assert found == (f"invalid_{member}", f"/{member}")
        for read, document in (
            (authorize_hold, ask()),
            (reverse_charge, REVERSE),
            (grant_credit, GRANT),
            (withdraw_credit, WITHDRAW),
        ):
            found = _problem(lambda: read(document, tenant=value))  # noqa: B023 - called at once
            assert found == ("invalid_tenant", "/tenant")
        assert _problem(lambda: _terms(BUDGET, value)) == ("invalid_name", "/name")  # noqa: B023 - called at once
        for member in ("tenant", "budget"):
            place = {"tenant": "acme", "budget": "b"} | {member: value}
            found = _problem(lambda: confirm_budget(CONFIRM, terms=TERMS, **place))  # noqa: B023 - called at once
            assert found == (f"invalid_{member}", f"/{member}")


def test_text_that_only_looks_odd_is_text() -> None:
    """Spaces of all widths, joiners, and what this Unicode does not name yet."""
    for odd in ("a b", "a\u200db", "\u2028", "\U000e0001", "\u0378"):
        assert _authorize(ask(user=odd, labels={odd: odd})).ask.user == odd


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
