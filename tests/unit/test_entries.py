"""The codec of commits: what was stored once decodes to the same entries forever."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ledger.domain.entries import (
    COMMIT_TOPIC,
    Commit,
    ConflictKept,
    CorrectionApplied,
    Entry,
    LedgerOpened,
    Posting,
    ShapeDefined,
    UsageAdjusted,
    UsageRecorded,
    UsageRerated,
    UsageVoided,
    commit_digest,
    decode_commit,
    encode_commit,
    stream_of,
    tenant_of_stream,
)
from ledger.domain.entry_parts import Extra
from ledger.domain.errors import InvariantViolation
from ledger.domain.money import RoundingMode
from ledger.domain.prices import RoundingScope
from ledger.domain.protection_entries import (
    BudgetConfirmed,
    BudgetSet,
    BudgetStepReached,
    CapWaived,
    ChargeReversed,
    CreditExpired,
    CreditGranted,
    CreditPolicySet,
    CreditWithdrawn,
    EntitlementsSet,
    HoldAuthorized,
    HoldCaptured,
    HoldEstimated,
    HoldExpired,
    HoldExtended,
    HoldProgressed,
    HoldPromised,
    HoldRefused,
    HoldVoided,
    Reason,
)
from ledger.domain.shapes import LeafRate, RateCard, Shape, compile_shape, shape_from_body

GOLDEN = Path(__file__).parents[1] / "golden" / "commit-1.hex"
PROTECTION_GOLDEN = Path(__file__).parents[1] / "golden" / "commit-2.hex"
LATER_GOLDEN = Path(__file__).parents[1] / "golden" / "commit-3.hex"
PROMISE_GOLDEN = Path(__file__).parents[1] / "golden" / "commit-4.hex"
BEFORE = bytes(range(32))
RECORDED_AT = 1_793_707_200_123_456

SHAPE = Shape(
    source="gateway",
    provider="openai",
    model="gpt",
    tier="priority",
    region="eu",
    batch=True,
    provider_account="main",
    outcome="error",
    attempt=2,
    billable="platform",
    byok=False,
    meters=("audio.stt.seconds", "tokens.input"),
    decimals=6,
    card=RateCard(
        currency="USD",
        sell=(),
        sell_decimals=0,
        cost_currency="EUR",
        cost=(
            LeafRate(
                "v1", 3, 15_000_000, 10_000_000, RoundingMode.HALF_EVEN, RoundingScope.SESSION
            ),
            LeafRate("v2", 25),
        ),
        cost_decimals=7,
    ),
    missing=(),
)
UNPRICED = Shape(
    *("gateway", "openai", "new", "", "", False, "", "ok", 1, "tenant", True),
    meters=("images",),
    decimals=0,
    card=None,
    missing=("sell:images",),
)
EXTRA = Extra(
    api_key="k",
    conversation="c",
    hold="h",
    labels={"team": "blue"},
    plugin="g",
    project="p",
    raw=b'{"a":1}',
    request_id="r",
    session="s",
    time_defaulted=True,
    user="u",
    leaf_charges=(1, -2),
    leaf_costs=(3, 4),
)
POSTING = Posting(0, 1_793_707_200_000_000, (15_000_000, 1), 10**24, 7, EXTRA)
ENTRIES: list[Entry] = [
    LedgerOpened("acme", "USD", "Pacific/Auckland", "gold"),
    ShapeDefined(0, compile_shape(SHAPE).body),
    ShapeDefined(1, compile_shape(UNPRICED).body),
    UsageRecorded("e-1", 1_793_707_200_000_000, 0, (15_000_000, 1), -5, 2**70, EXTRA),
    UsageRecorded("ключ", 0, 1, (), 0, 0, None),
    UsageVoided("gateway", "v-1", "gateway", "e-1", "a mistake", POSTING),
    UsageVoided("gateway", "v-2", "gateway", "e-2", "", None),
    UsageAdjusted("g", "a-1", "g", "e-1", "", ("images",), (2_000_000,), POSTING, POSTING),
    UsageAdjusted("g", "a-2", "g", "e-3", "", ("images",), (2_000_000,), None, None),
    UsageRerated("gateway", "e-1", "price_changed", POSTING, POSTING),
    CorrectionApplied("gateway", "e-2", 3, 1, POSTING, None),
    CorrectionApplied("gateway", "e-3", 3, 2, POSTING, POSTING),
    ConflictKept("gateway", "e-1", bytes(16), b"{}", 1, 3),
]
"""Usage and its corrections, every member with another value than its default somewhere."""

AT = 1_793_707_200_000_000
PRINT = bytes(range(16))
PAID = Extra(user="u", fingerprint=PRINT, credit=((0, 5), (1, 2**70)), owed=7)
BINDINGS = ((0, 1_793_491_200_000_000, 5 * 10**18), (1, 0, 2**70))
ALLOCATIONS = ((0, 3 * 10**18), (1, 2**70))
REASONS = (
    Reason("budget", "team", 10**20, 2**70, -1, 3, "charge", 1_793_491_200_000_000, "too much"),
    Reason("unpriced", "sell:images"),
)
PROTECTION_ENTRIES: list[Entry] = [
    BudgetSet(3, b'{"name":"team","limit":1}', ((0, -5), (1_793_491_200_000_000, 2**70)), "ann"),
    BudgetSet(0, b"{}"),
    CapWaived("ann"),
    BudgetConfirmed("c-1", 4, 1_793_491_200_000_000, 2**70, AT, "ann", "a demo", PRINT),
    BudgetStepReached(0, 1_793_491_200_000_000, 2, "projected", 2**70, 10**18, AT, AT + 1, 2**71),
    BudgetStepReached(1, 0, 0, "inform", 1, 2, AT),
    HoldAuthorized(
        *("h-1", PRINT, "allow_downgraded", AT, AT + 300_000_000, "capture_full", "lease", 5),
        *((15_000_000, 1), 2**70, 10**18, BINDINGS, ALLOCATIONS, "gpt-big", REASONS, b"{}", EXTRA),
    ),
    HoldRefused(
        *("h-2", PRINT, "denied_exceeds_budget", AT, 1, (7, 0), 9, REASONS, b'{"amount":1}', EXTRA)
    ),
    HoldExtended(
        *("h-1", 1, PRINT, AT, AT + 600_000_000, 2**70, (15_000_000, 2), BINDINGS, ALLOCATIONS)
    ),
    HoldProgressed("h-1", 2, AT, ("images", "tokens.input"), (2_000_000, 2**70)),
    HoldCaptured(
        *("h-1", "gateway", "k-2", PRINT, AT, True, ("images",), (2_000_000,), 10**18, BINDINGS),
        *(ALLOCATIONS, 2**70, ("gateway", "k-1"), True, ("late", "unmatched")),
    ),
    HoldCaptured("h-3", "", "", b"", AT, False, (), (), 0, (), (), 0, ("", ""), False),
    HoldVoided("h-1", "v-1", AT, "changed my mind", True, PRINT),
    HoldExpired("h-1", AT, ("images",), (2_000_000,), 2**70, ("tallybook:expiry", "h-1"), True),
    HoldExpired("h-4", AT),
    ChargeReversed(
        *("r-1", "gateway", "k-1", 2**70, AT, "a bad answer", AT - 1, 1, PAID),
        *(("gateway", "k-2"), PRINT),
    ),
    ChargeReversed("", "g", "k", -(2**70), AT, "capture_lowered", AT, 0, None, ("", ""), b""),
    CreditGranted(
        *(1, "g-1", "promotional", 2**70, -3, AT, AT + 1, b'{"models":["gpt*"]}', "ann"),
        *("welcome", PRINT, ("birch", "t-1")),
    ),
    CreditGranted(0, "g-0", "paid", 10**18, 0, AT, 0, b"", "ann", "", PRINT),
    CreditExpired(1, AT, 2**70),
    CreditWithdrawn("w-1", 2, 2**70, AT, "transfer", "birch", "ann", "moved", PRINT),
    CreditPolicySet(True, "ann"),
    EntitlementsSet(b'{"default":"deny"}', "ann"),
    UsageRecorded("k-1", AT, 1, (), 0, 0, PAID),
]
"""Cost protection, likewise; and usage that credit paid."""
LATER_ENTRIES: list[Entry] = [HoldEstimated("h-1", 3, (1_500_000, 2**70))]
"""Kinds that were added later."""
PROMISES = (("\tplan/team@1#tokens:2026-11-01/2026-12-01\t", 2**70, -(2**70)), ("\tp", 1, 0))
PROMISE_ENTRIES: list[Entry] = [HoldPromised("h-1", PROMISES), HoldPromised("h-2", ())]
"""Likewise, later still."""


def _golden(path: Path = GOLDEN) -> bytes:
    return bytes.fromhex(path.read_text("ascii"))


BOTH = pytest.mark.parametrize(
    ("path", "entries"),
    [
        (GOLDEN, ENTRIES),
        (PROTECTION_GOLDEN, PROTECTION_ENTRIES),
        (LATER_GOLDEN, LATER_ENTRIES),
        (PROMISE_GOLDEN, PROMISE_ENTRIES),
    ],
)


@BOTH
def test_the_golden_commits_decode_to_the_same_entries_forever(
    path: Path, entries: list[Entry]
) -> None:
    """A failure here means that stored ledgers can no longer be read: add an upcast instead."""
    assert decode_commit(_golden(path)) == Commit(BEFORE, RECORDED_AT, tuple(entries))


def test_the_golden_shapes_decode_to_the_same_shapes_forever() -> None:
    """Bodies are the identity of shapes, so they encode to the same bytes, too."""
    bodies = [
        entry.body
        for entry in decode_commit(_golden()).entries[1:3]
        if isinstance(entry, ShapeDefined)
    ]
    assert [shape_from_body(body).shape for body in bodies] == [SHAPE, UNPRICED]
    assert [compile_shape(shape).body for shape in (SHAPE, UNPRICED)] == bodies


@BOTH
def test_entries_are_encoded_as_they_were(path: Path, entries: list[Entry]) -> None:
    """Digests are over stored bytes; a new form would need a new topic."""
    assert encode_commit(BEFORE, RECORDED_AT, entries) == _golden(path)
    assert COMMIT_TOPIC == "tb.commit:1"


def test_every_kind_of_entry_has_a_golden_example_and_a_tag_of_its_own() -> None:
    """A new kind needs a line above; a tag is never used twice."""
    kinds = list(Entry.__args__)
    examples = (*ENTRIES, *PROTECTION_ENTRIES, *LATER_ENTRIES, *PROMISE_ENTRIES)
    assert {type(entry) for entry in examples} == set(kinds)
    tags = {kind.__name__: kind.__struct_config__.tag for kind in kinds}
    assert tags == {
        "LedgerOpened": 0,
        "ShapeDefined": 1,
        "UsageRecorded": 2,
        "UsageVoided": 3,
        "UsageAdjusted": 4,
        "UsageRerated": 5,
        "CorrectionApplied": 6,
        "ConflictKept": 7,
        "BudgetSet": 8,
        "CapWaived": 9,
        "BudgetConfirmed": 10,
        "BudgetStepReached": 11,
        "HoldAuthorized": 12,
        "HoldRefused": 13,
        "HoldExtended": 14,
        "HoldProgressed": 15,
        "HoldCaptured": 16,
        "HoldVoided": 17,
        "HoldExpired": 18,
        "ChargeReversed": 19,
        "CreditGranted": 20,
        "CreditExpired": 21,
        "CreditWithdrawn": 22,
        "CreditPolicySet": 23,
        "EntitlementsSet": 24,
        "HoldEstimated": 25,
        "HoldPromised": 26,
    }


def test_every_member_of_cost_protection_has_a_golden_value_of_its_own() -> None:
    """A member that only ever holds its default could move to another place unseen."""
    seen: dict[tuple[str, str], set[object]] = {}
    for entry in (*PROTECTION_ENTRIES[:-1], *LATER_ENTRIES, *PROMISE_ENTRIES):
        for name in entry.__struct_fields__:
            seen.setdefault((type(entry).__name__, name), set()).add(repr(getattr(entry, name)))
    empty = {repr(value) for value in ("", b"", 0, (), ("", ""), None, False)}
    assert [member for member, values in seen.items() if values <= empty] == []


def test_members_that_later_versions_append_are_passed_over() -> None:
    """An older reader meets a newer commit: known members keep their places."""
    parts = msgspec.msgpack.decode(_golden())
    parts[2][0].append("a member of tomorrow")
    assert decode_commit(msgspec.msgpack.encode(parts)).entries[0] == ENTRIES[0]


@pytest.mark.parametrize("state", [b"", b"\x90", b"not a commit", b"\x93\xc4\x00\x01\x91\x91\x63"])
def test_bytes_that_are_no_commit_are_a_violation(state: bytes) -> None:
    """The log was changed, or is newer than this code."""
    with pytest.raises(InvariantViolation, match="cannot be read"):
        decode_commit(state)


def test_a_digest_is_of_stream_number_and_bytes() -> None:
    """Any other place or content has another digest."""
    digest = commit_digest("ledger-1", 1, b"x")
    assert len(digest) == 32
    assert (
        len(
            {
                digest,
                commit_digest("ledger-2", 1, b"x"),
                commit_digest("ledger-1", 2, b"x"),
                commit_digest("ledger-1", 1, b"y"),
                commit_digest("ledger-11", 1, b"x"),
            }
        )
        == 5
    )
    assert digest.hex() == "adb94db998a43fed887330f77ed7c3511f64edf5ccc4551b02ba2e6a0c94c283"


@pytest.mark.parametrize(
    ("stream", "tenant_id"),
    [("ledger-7", 7), ("prices-7", None), ("ledger-", None), ("ledger-x", None), ("7", None)],
)
def test_a_ledger_s_stream_names_its_tenant(stream: str, tenant_id: int | None) -> None:
    """Other streams of the log name none."""
    assert tenant_of_stream(stream) == tenant_id
    if tenant_id is not None:
        assert stream_of(tenant_id) == stream
