"""Reading asks: for each mistake its code and pointer."""

from __future__ import annotations

from datetime import datetime
from types import MappingProxyType
from typing import Any

import pytest
from fakes.ask_documents import (
    ABSENT,
    BUDGET,
    CONFIRM,
    FLAGS,
    GRANT,
    MAPPINGS,
    NUMBERS,
    READERS,
    REVERSE,
    STEPS,
    TERMS,
    TEXTS,
    TIMES,
    TTLS,
    WITHDRAW,
    ZERO,
    authorize,
    changed,
    problem,
    read_terms,
)
from fakes.asking import QUANTITIES, ask

from ledger.application.asks import (
    authorize_hold,
    capture_hold,
    confirm_budget,
    extend_hold,
    grant_credit,
    progress_hold,
    reverse_charge,
    void_hold,
    withdraw_credit,
)

_BAD: list[tuple[str, str, list[Any]]] = [
    *(("authorize", name, ["", *TEXTS]) for name in ("hold",)),
    *(
        ("authorize", name, TEXTS)
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
    *(("authorize", name, FLAGS) for name in ("batch", "byok")),
    *(
        ("authorize", name, ["", "other", 1, None, ["call"]])
        for name in ("billable", "kind", "on_expiry")
    ),
    ("authorize", "currency", ["usd", "ZZZ", 1, None, "\ud800"]),
    ("authorize", "min_amount", [*NUMBERS, *ZERO, "available"]),
    ("authorize", "ttl", TTLS),
    ("authorize", "tools", [1, None, "a", {"a": 1}, ["a"] * 101]),
    ("authorize", "labels", [*MAPPINGS, {str(n): "" for n in range(21)}]),
    ("authorize", "quantities", [*MAPPINGS, {}, {f"m{n}": 1 for n in range(33)}, ABSENT]),
    ("extend", "step", [*STEPS, ABSENT]),
    ("extend", "amount", NUMBERS),
    ("extend", "ttl", TTLS),
    ("progress", "step", [*STEPS, ABSENT]),
    ("progress", "quantities", [*MAPPINGS, {}, ABSENT]),
    ("capture", "capture", ["", *TEXTS, ABSENT]),
    ("capture", "source", ["", "tallybook:expiry", "tallybook:x", *TEXTS]),
    *(("capture", name, TEXTS) for name in ("provider", "model", "tier", "region", "request_id")),
    ("capture", "final", FLAGS),
    ("capture", "quantities", [*MAPPINGS, {}, ABSENT]),
    ("capture", "occurred_at", TIMES),
    ("capture", "outcome", ["", "fine", 1, None]),
    (
        "capture",
        "raw",
        ["{", "", "\ud800", object(), {"a": 2**60}, {"a": object()}, "x" * 65537],
    ),
    ("void", "void", ["", *TEXTS, ABSENT]),
    ("void", "reason", TEXTS),
    ("void", "force", FLAGS),
    *(("reverse", name, ["", *TEXTS]) for name in ("reversal", "capture", "source")),
    *(("reverse", name, [ABSENT]) for name in ("reversal", "capture", "amount")),
    ("reverse", "amount", [*NUMBERS, *ZERO, "available"]),
    ("reverse", "reason", TEXTS),
    ("budget", "limit", [*NUMBERS, ABSENT]),
    ("budget", "steps", [None, 1, "stop", {}, [], [{"kind": "stop"}] * 17, ABSENT]),
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
    ("budget", "filter", MAPPINGS),
    *(("confirm", name, ["", *TEXTS, ABSENT]) for name in ("id", "by")),
    ("confirm", "ceiling", [*NUMBERS, *ZERO, ABSENT]),
    ("confirm", "until", TIMES),
    ("confirm", "reason", TEXTS),
    ("grant", "id", ["", *TEXTS, ABSENT]),
    ("grant", "amount", [*NUMBERS, *ZERO, "available", ABSENT]),
    ("grant", "currency", ["usd", 1, None]),
    ("grant", "kind", ["", "free", None]),
    ("grant", "priority", [-1, 1.0, True, "1", None, 10**6 + 1]),
    ("grant", "expires_at", TIMES),
    ("grant", "filter", MAPPINGS),
    *(("grant", name, TEXTS) for name in ("by", "reason")),
    *(("withdraw", name, ["", *TEXTS, ABSENT]) for name in ("id", "grant")),
    ("withdraw", "amount", [*NUMBERS, *ZERO, ABSENT]),
    ("withdraw", "to", ["acme", *TEXTS]),
    *(("withdraw", name, TEXTS) for name in ("by", "reason")),
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
        reader, document = changed(kind, **{member: value})
        if kind == "capture" and member == "occurred_at" and isinstance(value, datetime):
            document = MappingProxyType(document)  # type: ignore[assignment] # any mapping is read
        found = problem(lambda: reader(document))  # noqa: B023 - called at once
        assert found == (f"invalid_{member}", f"/{member}"), value


def test_a_bad_amount_of_an_ask_is_named() -> None:
    """There are no quantities beside it that could be blamed."""
    for value in NUMBERS:
        document = {"hold": "h", "amount": value}
        assert problem(lambda: authorize(document)) == ("invalid_amount", "/amount"), value  # noqa: B023 - called at once


def test_the_most_that_is_possible_is_possible() -> None:
    """Limits are inclusive where they say "at most"."""
    most = "999999999999999999.999999999999999999"
    assert authorize({"hold": "h" * 256, "amount": most}).ask.amount == 10**36 - 1
    assert authorize(ask(ttl=86400)).ask.ttl_us == 86_400_000_000
    assert authorize(ask(ttl=1)).ask.ttl_us == 1_000_000
    assert len(authorize(ask(labels={str(n): "" for n in range(20)})).ask.labels) == 20
    assert len(authorize(ask(tools=[str(n) for n in range(100)])).ask.tools) == 100
    assert len(read_terms({"limit": 1, "steps": [{"kind": "stop"}] * 16}).steps) == 16
    patterns = [str(n) for n in range(100)]
    assert len(read_terms({"cap": 1, "filter": {"models": patterns}}).filter.models) == 100
    assert len(authorize(ask(user="é" * 256)).ask.user) == 256
    assert (
        read_terms({"limit": 0, "steps": [{"kind": "stop", "percent": "0.01"}]}).steps[0].percent
        == 1
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
        found = problem(lambda: reader(document | {name: 1}))  # noqa: B023 - called at once
        assert found == ("unknown_member", pointer)


@pytest.mark.parametrize("kind", READERS)
def test_what_is_no_object_is_no_document(kind: str) -> None:
    """The pointer is that of the whole."""
    reader, _ = READERS[kind]
    for value in (None, 1, "a", [], [("hold", "h")], b"{}"):
        assert problem(lambda: reader(value)) == ("invalid_document", "")  # noqa: B023 - called at once


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
    assert problem(lambda: authorize(document)) == found


def test_every_bad_quantity_is_found_where_it_is() -> None:
    """In all documents that have quantities; a float is never read."""
    for value in NUMBERS:
        if value in ("0.0000000000000000001",):
            continue
        bad = {"tokens.input": 1, "tokens.output": value}
        for kind in ("authorize", "progress", "capture"):
            reader, document = changed(kind, quantities=bad)
            assert problem(lambda: reader(document)) == (  # noqa: B023 - called at once
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
    assert problem(lambda: READERS["extend"][0](document)) == found


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
                found = problem(lambda: read(document, **names))  # noqa: B023 - called at once
                assert found == (f"invalid_{member}", f"/{member}")
        for read, document in (
            (authorize_hold, ask()),
            (reverse_charge, REVERSE),
            (grant_credit, GRANT),
            (withdraw_credit, WITHDRAW),
        ):
            found = problem(lambda: read(document, tenant=value))  # noqa: B023 - called at once
            assert found == ("invalid_tenant", "/tenant")
        assert problem(lambda: read_terms(BUDGET, value)) == ("invalid_name", "/name")  # noqa: B023 - called at once
        for member in ("tenant", "budget"):
            place = {"tenant": "acme", "budget": "b"} | {member: value}
            found = problem(lambda: confirm_budget(CONFIRM, terms=TERMS, **place))  # noqa: B023 - called at once
            assert found == (f"invalid_{member}", f"/{member}")


def test_text_that_only_looks_odd_is_text() -> None:
    """Spaces of all widths, joiners, and what this Unicode does not name yet."""
    for odd in ("a b", "a\u200db", "\u2028", "\U000e0001", "\u0378"):
        assert authorize(ask(user=odd, labels={odd: odd})).ask.user == odd
