"""What became of items that were sent to be recorded, as documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from ledger.domain.commands import Outcome
from ledger.domain.errors import Problem


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """An item that is in the ledger.

    Attributes:
        status: ``accepted`` or ``duplicate``.
        receipt: ``<version>.<index>`` of its entry; of a duplicate that of the original.
        flags: ``unpriced``, ``time_defaulted``, ``unmatched``, ``superseded_by_void``.
    """

    status: str
    receipt: str
    flags: tuple[str, ...]


class Unrecorded(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An item that changed nothing.

    Attributes:
        status: ``conflict`` or ``rejected``.
        code: stable code.
        detail: what is wrong and what would be right.
        pointer: JSON pointer into the item; None where the whole item conflicts.
        receipt: of the entry that holds the key; None where there is none.
    """

    status: str
    code: str
    detail: str
    pointer: str | None = None
    receipt: str | None = None


Item = Recorded | Unrecorded


class Batch(msgspec.Struct, frozen=True):
    """The answer to a batch: how many of each status, and its items in order."""

    accepted: int
    duplicate: int
    conflict: int
    rejected: int
    items: list[Item]


encode = msgspec.json.Encoder().encode


def item_of(outcome: Outcome) -> Item:
    """Return what became of one item."""
    status = outcome.status
    if status in ("accepted", "duplicate"):
        return Recorded(status, f"{outcome.version}.{outcome.index}", outcome.flags)
    problem = outcome.problem or Problem(status, f"the answer is {status}")
    receipt = f"{outcome.version}.{outcome.index}" if outcome.version else None
    pointer = None if status == "conflict" else problem.pointer
    return Unrecorded(status, problem.code, problem.message, pointer, receipt)


def batch_of(outcomes: Sequence[Outcome]) -> Batch:
    """Return what became of a batch."""
    counts = Counter([outcome.status for outcome in outcomes])
    return Batch(
        counts["accepted"],
        counts["duplicate"],
        counts["conflict"],
        counts["rejected"],
        [item_of(outcome) for outcome in outcomes],
    )
