"""Readers of decisions on prices: plain documents become values, or `InvalidInput`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from ledger.application import ask_fields as fields
from ledger.domain.catalog import DEFAULT_BOOK
from ledger.domain.money import RoundingMode
from ledger.domain.periods import EPOCH, from_us
from ledger.domain.prices import (
    EXACT_QUANTITY,
    PriceKey,
    PriceKind,
    PriceRow,
    QuantityRule,
    RoundingScope,
)

MAX_VERSIONS = 1000
"""Most rows that one document names."""
_MAX_DIGITS = 60


class PullAsk(msgspec.Struct, frozen=True):
    """What is to be pulled."""

    approve: bool = False
    providers: tuple[str, ...] = ()


class ApproveAsk(msgspec.Struct, frozen=True):
    """What is to be approved: some versions, or all if there are none."""

    versions: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()


class MarkupAsk(msgspec.Struct, frozen=True):
    """A mark-up."""

    percent: Decimal
    book: str = DEFAULT_BOOK
    effective_from: datetime | None = None


class PriceAsk(msgspec.Struct, frozen=True):
    """A price that is set by hand."""

    row: PriceRow
    kind: PriceKind
    book: str
    effective_from: datetime | None


def pull(document: Mapping[str, object]) -> PullAsk:
    """Return what is to be pulled.

    Args:
        document: ``approve`` (false unless said), ``providers``.

    Raises:
        InvalidInput: ``invalid_<member>`` or ``unknown_member``.
    """
    checks: dict[str, fields.Check] = {"approve": fields.flag, "providers": _names}
    return PullAsk(**fields.read_members(document, checks))


def approve(document: Mapping[str, object]) -> ApproveAsk:
    """Return what is to be approved.

    Args:
        document: ``versions``, or ``all`` with ``providers``.

    Raises:
        InvalidInput: ``invalid_<member>`` or ``unknown_member``.
    """
    checks: dict[str, fields.Check] = {"versions": _names, "all": _true, "providers": _names}
    said = fields.read_members(document, checks)
    if said.pop("all", False) == bool(said.get("versions")):
        fields.fail("/versions", "give versions, or all, and not both")
    if said.get("providers") and said.get("versions"):
        fields.fail("/providers", "the versions say which; providers go with all")
    return ApproveAsk(**said)


def retire(document: Mapping[str, object]) -> tuple[str, ...]:
    """Return the versions of a document ``{"versions": […]}``; at least one.

    Raises:
        InvalidInput: ``invalid_versions`` or ``unknown_member``.
    """
    said = fields.read_members(document, {"versions": _names}, required=("versions",))
    found: tuple[str, ...] = said["versions"]
    if not found:
        fields.fail("/versions", "is empty; name the rows")
    return found


def markup(document: Mapping[str, object]) -> MarkupAsk:
    """Return a mark-up.

    Args:
        document: ``percent``; ``book``, ``effective_from``.

    Raises:
        InvalidInput: ``invalid_<member>`` or ``unknown_member``.
    """
    checks: dict[str, fields.Check] = {
        "percent": _number,
        "book": fields.name,
        "effective_from": _since,
    }
    return MarkupAsk(**fields.read_members(document, checks, required=("percent",)))


def price(document: Mapping[str, object]) -> PriceAsk:
    """Return a price that is set by hand.

    Args:
        document: ``provider``, ``model``, ``meter``, ``rate``; ``per`` (units that it buys),
            ``kind`` (``cost`` unless said), ``book`` of a sell price, ``region``, ``tier``,
            ``batch``, ``context_over``, ``effective_from``, ``increment``, ``minimum``, ``mode``,
            ``scope``, ``currency``, ``note``.

    Raises:
        InvalidInput: ``invalid_<member>`` or ``unknown_member``.
    """
    said = fields.read_members(document, _PRICE, required=("provider", "model", "meter", "rate"))
    kind = PriceKind(said.get("kind", PriceKind.COST))
    key = PriceKey(
        provider=said["provider"].lower(),
        model=said["model"],
        meter=said["meter"],
        region=said.get("region", ""),
        tier=said.get("tier", ""),
        batch=said.get("batch", False),
        context_over=said.get("context_over", 0),
    )
    row = PriceRow(
        key=key,
        effective_from=EPOCH,
        rate=said["rate"],
        unit_size=said.get("per", Decimal(1)),
        currency=said.get("currency", "USD").upper(),
        quantity_rule=_rule(said),
        note=said.get("note", ""),
    )
    book = said.get("book", DEFAULT_BOOK) if kind is PriceKind.SELL else ""
    return PriceAsk(row, kind, book, said.get("effective_from"))


def _rule(said: Mapping[str, Any]) -> QuantityRule:
    step, least = said.get("increment", Decimal(0)), said.get("minimum", Decimal(0))
    scope = said.get("scope")
    if not step and not least and scope is None:
        return EXACT_QUANTITY
    mode = RoundingMode(said.get("mode", RoundingMode.UP))
    return QuantityRule(step, least, mode, RoundingScope(scope or RoundingScope.REQUEST))


_names = fields.names(MAX_VERSIONS)


def _true(value: object, pointer: str) -> bool:
    if value is not True:
        fields.fail(pointer, "give true, or leave it out")
    return True


def _number(value: object, pointer: str) -> Decimal:
    """Return a decimal of a number or of plain decimal text; it may be below 0."""
    if isinstance(value, str):
        sign, digits = ("-", value[1:]) if value.startswith("-") else ("", value)
        if len(digits) <= _MAX_DIGITS and fields.is_plain(digits):
            return Decimal(sign + digits)
    elif isinstance(value, Decimal) or (isinstance(value, int) and not isinstance(value, bool)):
        number = Decimal(value)
        if number.is_finite() and len(number.as_tuple().digits) <= _MAX_DIGITS:
            return number
    fields.fail(pointer, f"give a number or decimal text such as 2.50, not {fields.shown(value)}")


def _since(value: object, pointer: str) -> datetime:
    """Return a moment in UTC; a day is its start."""
    if isinstance(value, str) and len(value) == 10:
        value = f"{value}T00:00:00Z"
    return from_us(fields.instant(value, pointer))


_PRICE: dict[str, fields.Check] = {
    "provider": fields.name,
    "model": fields.name,
    "meter": fields.name,
    "rate": _number,
    "per": _number,
    "kind": fields.choice(*(str(one) for one in PriceKind)),
    "book": fields.name,
    "region": fields.text,
    "tier": fields.text,
    "batch": fields.flag,
    "context_over": fields.whole(0, 10**9),
    "effective_from": _since,
    "increment": _number,
    "minimum": _number,
    "mode": fields.choice(*(str(one) for one in RoundingMode)),
    "scope": fields.choice(*(str(one) for one in RoundingScope)),
    "currency": fields.name,
    "note": fields.text,
}
