"""What the use cases of price books answer."""

from __future__ import annotations

import msgspec

from ledger.application.rerating import RatingCounts
from ledger.domain.price_records import PriceRecord


class PullResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a pull or an import.

    Attributes:
        listed: rows that the sources list.
        known: of those, proposed or in force as they are.
        decided: of those, decided against by a person before.
        proposed: of those, new.
        approved: rows approved now.
        held: proposed rows that another source contradicts.
        waiting: proposed rows that nobody contradicts.
        dropped: earlier proposals that their source no longer makes.
        gone: versions of approved rows that their source no longer lists.
        unsaid: what the sources list and a row cannot say.
        published: sell rows published by mark-ups.
        renamed: providers whose model names changed.
        rating: what was rated afterwards; None if nothing was approved.
    """

    listed: int
    known: int
    decided: int
    proposed: int
    approved: int
    held: int
    waiting: int
    dropped: int
    gone: tuple[str, ...]
    unsaid: int
    published: int
    renamed: int
    rating: RatingCounts | None = None


class ChangeResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a person's decision.

    Attributes:
        records: the rows decided upon, as they are now.
        dropped: versions of proposals that were decided against by it.
        held: rows left for an explicit decision.
        published: sell rows published by mark-ups.
        rating: what was rated afterwards; None where nothing was approved.
    """

    records: tuple[PriceRecord, ...] = ()
    dropped: tuple[str, ...] = ()
    held: int = 0
    published: int = 0
    rating: RatingCounts | None = None


class Contradiction(msgspec.Struct, frozen=True):
    """A held row, and the rows that contradict it."""

    held: PriceRecord
    rivals: tuple[PriceRecord, ...]


class RecordPage(msgspec.Struct, frozen=True):
    """Some of the rows found, and how many there are."""

    records: tuple[PriceRecord, ...]
    total: int
