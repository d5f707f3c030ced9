"""Numbers beyond 64 bits: a commit that holds them is stored and read like any other."""

from __future__ import annotations

import pytest

from ledger.domain.entries import (
    ConflictKept,
    LedgerOpened,
    Posting,
    UsageRecorded,
    UsageVoided,
    decode_commit,
    encode_commit,
)
from ledger.domain.entry_parts import Extra
from ledger.domain.errors import InvariantViolation

POSTING = Posting(0, 1, (2**65,), -(2**80), 2**64, Extra(session="s", leaf_costs=(2**70, 1)))
ENTRIES = [
    LedgerOpened("acme", "USD", "UTC", "default"),
    UsageRecorded("a", 5, 0, (1, 10**24), 35 * (10**18 - 1), 7, Extra(user="u", raw=b"{}")),
    UsageVoided("s", "i", "s", "a", "", POSTING),
    ConflictKept("s", "i", b"1" * 16, b"{}", 1, 2),
]


def test_a_commit_with_wide_numbers_reads_back_equal() -> None:
    """Amounts of large fractional quantities at fine rates pass 64 bits and are kept exactly."""
    commit = decode_commit(encode_commit(b"d" * 32, 9, list(ENTRIES)))
    assert list(commit.entries) == ENTRIES
    assert (commit.before, commit.recorded_at) == (b"d" * 32, 9)


@pytest.mark.parametrize("number", [2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1])
def test_numbers_at_the_edges_of_64_bits_read_back_equal(number: int) -> None:
    """Either side of each edge is the same number after a round trip."""
    entry = UsageRecorded("a", 5, 0, (1,), number, number, None)
    assert decode_commit(encode_commit(b"", 1, [entry])).entries == (entry,)


@pytest.mark.parametrize(
    "state", [b"", b"\x93", b"\xc1", b"\x93\x01\x02\x03", encode_commit(b"", 1, [])[:-1]]
)
def test_bytes_that_are_no_commit_are_an_invariant_violation(state: bytes) -> None:
    """A damaged log is told apart from every client's fault."""
    with pytest.raises(InvariantViolation, match="cannot be read"):
        decode_commit(state)
