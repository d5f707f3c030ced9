"""What a price book keeps of its rows: their stored form, where each stands, and its history."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import msgspec

from ledger.domain.money import RoundingMode
from ledger.domain.prices import (
    EXACT_QUANTITY,
    PriceKey,
    PriceKind,
    PriceRow,
    PriceStatus,
    QuantityRule,
    RoundingScope,
)

Ref = tuple[int, int]
"""Revision of the event that proposed a row, and the row's place in it, from 0."""
Terms = tuple[Decimal, str, QuantityRule]
"""What two rows must share to be the same price: unit rate, currency, quantity rule."""
Dated = tuple[PriceKey, datetime]
"""What a row prices, and from when."""


class RetireReason:
    """Why a row stopped counting."""

    PERSON = "retired"
    """A person decided so: the same row is not proposed again by the same source."""
    REPLACED = "replaced"
    """Its source no longer says so."""
    SUPERSEDED = "superseded"
    """Another row for the same key and date was approved."""


class StoredPrice(msgspec.Struct, frozen=True, array_like=True):
    """A row as its event has it; provider, source and digest are the event's.

    Members are only ever appended, with a default, so old events stay readable.
    """

    model: str
    meter: str
    region: str
    tier: str
    batch: bool
    context_over: int
    effective_from: datetime
    rate: Decimal
    unit_size: Decimal
    currency: str
    increment: Decimal
    minimum: Decimal
    mode: RoundingMode
    scope: RoundingScope
    note: str

    @classmethod
    def of(cls, row: PriceRow) -> StoredPrice:
        """Return the stored form of a row."""
        key, rule = row.key, row.quantity_rule
        return cls(
            key.model,
            key.meter,
            key.region,
            key.tier,
            key.batch,
            key.context_over,
            row.effective_from,
            row.rate,
            row.unit_size,
            row.currency,
            rule.increment,
            rule.minimum,
            rule.mode,
            rule.scope,
            row.note,
        )

    def row(self, *, provider: str, source: str, digest: str) -> PriceRow:
        """Return the row of a stored form."""
        rule = EXACT_QUANTITY
        if self.increment or self.minimum or self.scope is not RoundingScope.NONE:
            rule = QuantityRule(self.increment, self.minimum, self.mode, self.scope)
        return PriceRow(
            key=PriceKey(
                provider,
                self.model,
                self.meter,
                self.region,
                self.tier,
                self.batch,
                self.context_over,
            ),
            effective_from=self.effective_from,
            rate=self.rate,
            unit_size=self.unit_size,
            currency=self.currency,
            quantity_rule=rule,
            source=source,
            source_digest=digest,
            note=self.note,
        )


class StoredMatch(msgspec.Struct, frozen=True, array_like=True):
    """A `ModelMatch` as its event has it; the provider is the book's."""

    model: str
    clause: dict[str, object]


class PriceRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A row and all that is known of it.

    Attributes:
        version: ``<book>/<provider>@<revision>.<row>``, stored with every entry it rates.
        kind: cost or sell.
        book: sell book; "" for costs.
        row: the price.
        status: proposed, approved or retired.
        proposed_at: database time.
        source: who proposed it.
        digest: of the source's data.
        approver: who approved it; "" if nobody has.
        approved_at: database time.
        retired_by: who ended it, or whose approval superseded it.
        retired_at: database time.
        reason: why it was retired, one of `RetireReason`.
        note: how the rate was derived, where the source does not say it literally.
    """

    version: str
    kind: PriceKind
    book: str
    row: PriceRow
    status: PriceStatus
    proposed_at: datetime
    source: str
    digest: str = ""
    approver: str = ""
    approved_at: datetime | None = None
    retired_by: str = ""
    retired_at: datetime | None = None
    reason: str = ""
    note: str = ""


class Markup(msgspec.Struct, frozen=True):
    """A sell book's standing mark-up.

    Attributes:
        percent: added to the cost; -100 or more.
        effective_from: sell rows from this instant on have it.
        by: who set it.
        at: when it was set.
    """

    percent: Decimal
    effective_from: datetime
    by: str
    at: datetime


class Standing:
    """A row and where it stands; changed by the events of its book only."""

    __slots__ = (
        "_terms",
        "approved_at",
        "approver",
        "proposed_at",
        "reason",
        "ref",
        "retired_at",
        "retired_by",
        "row",
        "status",
    )

    def __init__(self, ref: Ref, row: PriceRow, proposed_at: datetime) -> None:
        self.ref = ref
        self.row = row
        self.proposed_at = proposed_at
        self.status = PriceStatus.PROPOSED
        self.approver = ""
        self.approved_at: datetime | None = None
        self.retired_by = ""
        self.retired_at: datetime | None = None
        self.reason = ""
        self._terms: Terms | None = None

    @property
    def terms(self) -> Terms:
        """Return what two rows must share to be the same price."""
        if self._terms is None:
            self._terms = terms_of(self.row)
        return self._terms

    def retire(self, by: str, at: datetime, reason: str) -> None:
        """Fold the end of the row."""
        self.status = PriceStatus.RETIRED
        self.retired_by, self.retired_at, self.reason = by, at, reason


def terms_of(row: PriceRow) -> Terms:
    """Return what two rows must share to be the same price."""
    return row.unit_rate(), row.currency, row.quantity_rule
