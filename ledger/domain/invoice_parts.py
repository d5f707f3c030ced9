"""What an invoice is made of: parties, days, taxes, lines and the evidence behind them.

All of it is immutable and becomes part of a document whose digest must stay the same for good:
members are only ever added, with a default, and a member that equals its default is left out of
the document (`document_tree`).
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from functools import cache
from hashlib import sha256
from typing import Any

import msgspec

from ledger.domain.errors import InvalidInput
from ledger.domain.money import RoundingMode, minor_units, plain, round_money, text
from ledger.domain.taxes import check_tax_percent
from ledger.domain.tiers import ZERO


class LineKind(StrEnum):
    """What a line is for."""

    FEE = "fee"
    CHARGE = "charge"
    USAGE = "usage"
    REVERSAL = "reversal"
    OVERAGE = "overage"
    TRUE_UP = "true_up"
    MINIMUM = "minimum"


class TaxCategory(StrEnum):
    """Why a rate applies; the codes of UN/CEFACT 5305 that EN 16931 uses."""

    STANDARD = "S"
    ZERO = "Z"
    EXEMPT = "E"
    REVERSE_CHARGE = "AE"
    INTRA_COMMUNITY = "K"
    EXPORT = "G"
    OUTSIDE_SCOPE = "O"


class Tax(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A tax rate and why it applies.

    Attributes:
        category: code.
        percent: 0 to 100; above 0 in the standard category only.

    Raises:
        InvalidInput: ``invalid_tax_rate``.
    """

    category: TaxCategory = TaxCategory.OUTSIDE_SCOPE
    percent: Decimal = ZERO

    def __post_init__(self) -> None:
        check_tax_percent(self.percent, pointer="/percent")
        if self.percent and self.category is not TaxCategory.STANDARD:
            raise InvalidInput(
                f"category {self.category.value} has no tax, so its rate is 0, not"
                f" {text(self.percent)} %; a rate belongs to category S",
                code="invalid_tax_rate",
                pointer="/percent",
            )


class TaxTotal(msgspec.Struct, frozen=True, kw_only=True):
    """The tax of one rate and category, on the sum of its lines.

    Attributes:
        category: code.
        percent: rate.
        net: sum of the lines' amounts.
        tax: on that sum, rounded once, half-even to the minor unit.
    """

    category: TaxCategory
    percent: Decimal
    net: Decimal
    tax: Decimal


class Party(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who sells or buys.

    Attributes:
        name: legal name.
        address: lines, without the country.
        country: ISO 3166-1 alpha-2.
        tax_id: VAT or other tax id, as it is printed.
        email: where invoices go.
        reference: what the buyer wants to read: an order number, a cost centre.
    """

    name: str = ""
    address: tuple[str, ...] = ()
    country: str = ""
    tax_id: str = ""
    email: str = ""
    reference: str = ""


class ServiceDays(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """Local days of a tenant, ``[first_day, after_day)``.

    Attributes:
        first_day: first one.
        after_day: the one after the last.
    """

    first_day: date
    after_day: date


class PlanDays(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A plan version and the days on which it held."""

    plan: str
    version: int
    first_day: date
    after_day: date


class EvidenceQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries of a ledger are behind a line: those with a posting that all members fit.

    Attributes:
        tenant: whose ledger.
        since: the posting's ``occurred_at`` is at or after this.
        until: and before this.
        after_commit: entries of commits after this one,
        through_commit: up to this one.
        plan: plan and version whose charges share the usage out; "" without a plan.
        plan_version: 0 without a plan.
        charge: of the plan, that takes the usage; "" is usage that no charge takes.
        provider: who ran it; a line of list prices only.
        model: as the response says; likewise.
        meter: likewise; "" there is a reversal, which belongs to no meter.
        price_version: likewise.
        byok: likewise.
    """

    tenant: str
    since: datetime
    until: datetime
    through_commit: int
    after_commit: int = 0
    plan: str = ""
    plan_version: int = 0
    charge: str = ""
    provider: str = ""
    model: str = ""
    meter: str = ""
    price_version: str = ""
    byok: bool = False


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """The query behind a line, and what pins its answer.

    Attributes:
        query: returns exactly the entries.
        chain: SHA-256 of commit ``through_commit``, hexadecimal. It stands for every commit up to
            there, so for every entry that the query can return.
        digest: SHA-256 of the canonical query and ``chain``, hexadecimal.
    """

    query: EvidenceQuery
    chain: str
    digest: str


def evidence_of(query: EvidenceQuery, *, chain: bytes) -> Evidence:
    """Return evidence with its digest.

    Args:
        query: which entries.
        chain: digest of the ledger's commit ``query.through_commit``; empty where there is none.
    """
    tree = {"query": document_tree(query), "chain": chain.hex()}
    digest = sha256(canonical(tree)).hexdigest()
    return Evidence(query=query, chain=chain.hex(), digest=digest)


class LinePart(msgspec.Struct, frozen=True, kw_only=True):
    """A tier's share of a line.

    Attributes:
        kind: ``usage``, ``flat`` or ``cap``.
        tier: its place, from 1.
        quantity: billed units that it prices.
        amount: what they cost, unrounded.
        unit_price: price of ``unit_size`` units; None for a fee or a cap.
        unit_size: units that the price buys.
    """

    kind: str
    tier: int
    quantity: Decimal
    amount: Decimal
    unit_price: Decimal | None = None
    unit_size: Decimal | None = None


class LineRounding(msgspec.Struct, frozen=True, kw_only=True):
    """How a line's amount was rounded: once, to the currency's minor unit."""

    decimals: int
    mode: RoundingMode = RoundingMode.HALF_EVEN


class InvoiceLine(msgspec.Struct, frozen=True, kw_only=True):
    """One position of an invoice or a credit note.

    Attributes:
        number: its place, from 1.
        kind: what it is for.
        description: for people.
        service: local days on which the usage happened or that a fee is for.
        unrounded: exact amount.
        amount: the same rounded to the minor unit; the sum of these is the net amount.
        rounding: how.
        tax: rate and category.
        name: of the plan's charge or fee.
        quantity: metered units; None where there are none.
        billed: billed units, after rounding, conversion and free units.
        unit: of the metered quantity.
        unit_size: billed units that the unit price buys; None where tiers price them.
        unit_price: unrounded; None likewise.
        price_version: ``default/openai@3.0`` of a price row, ``plan/team@2`` of a plan.
        parts: what tiers charged.
        formula: how the amount came about; empty where it is quantity times price or the sum of
            parts.
        late: whether an invoice of these days was closed before.
        of_line: of a credit note: the cited invoice's line.
        evidence: which entries; None where no entry is behind it, as of a fee.
    """

    number: int
    kind: LineKind
    description: str
    service: ServiceDays
    unrounded: Decimal
    amount: Decimal
    rounding: LineRounding
    tax: Tax
    name: str = ""
    quantity: Decimal | None = None
    billed: Decimal | None = None
    unit: str = ""
    unit_size: Decimal | None = None
    unit_price: Decimal | None = None
    price_version: str = ""
    parts: tuple[LinePart, ...] = ()
    formula: str = ""
    late: bool = False
    of_line: int = 0
    evidence: Evidence | None = None


def invoice_line(
    *,
    kind: LineKind,
    description: str,
    service: ServiceDays,
    unrounded: Decimal,
    currency: str,
    tax: Tax,
    **members: Any,
) -> InvoiceLine:
    """Return a line, its amount rounded half-even to the minor unit; numbered by its invoice.

    Args:
        kind: what it is for.
        description: for people.
        service: days.
        unrounded: exact amount.
        currency: of the amount.
        tax: rate and category.
        members: the rest of `InvoiceLine`, by name.
    """
    return InvoiceLine(
        number=0,
        kind=kind,
        description=description,
        service=service,
        unrounded=plain(unrounded),
        amount=plain(round_money(unrounded, currency)),
        rounding=LineRounding(decimals=minor_units(currency)),
        tax=tax,
        **members,
    )


_PLAIN = frozenset((str, int, bool))


def document_tree(value: Any) -> Any:
    """Return a value as it stands in a document: members that equal their default left out.

    Decimals are canonical text, instants RFC 3339 in UTC, days ISO 8601.
    """
    # By how often they come: a close makes some hundred thousand members.
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is Decimal:
        return text(value)
    if isinstance(value, msgspec.Struct):
        return _struct_tree(value)
    if isinstance(value, Decimal):
        return text(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [document_tree(one) for one in value]
    return value


def _struct_tree(value: msgspec.Struct) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    members = zip(_members(type(value)), msgspec.structs.astuple(value), strict=True)
    for (name, default), one in members:
        if one is default or one == default:
            continue
        kind = type(one)
        if kind in _PLAIN:
            tree[name] = one
        else:
            tree[name] = text(one) if kind is Decimal else document_tree(one)
    return tree


def canonical(tree: Any) -> bytes:
    """Return a document's tree as canonical JSON (RFC 8785).

    Member names are ASCII, numbers are integers, the rest is text: there sorted JSON without
    spaces is the canonical form, many times faster than by a library that takes any value.
    """
    return msgspec.json.encode(tree, order="sorted")


@cache
def _members(kind: type[msgspec.Struct]) -> tuple[tuple[str, object], ...]:
    # A required member has NODEFAULT, which equals nothing that a member can be.
    return tuple((field.name, field.default) for field in msgspec.structs.fields(kind))
