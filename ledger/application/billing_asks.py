"""Readers of commands of billing: plain documents become values, or `InvalidInput`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal

import msgspec

from ledger.application import ask_fields as fields
from ledger.application.billing_close import MAX_GRACE_HOURS
from ledger.application.period_lists import GRACE_HOURS
from ledger.domain.money import AMOUNT_DECIMALS, from_scaled

MAX_VERSION = 10**9
"""Highest version of a plan that anybody asks for."""
MAX_LINES = 100_000
"""Most lines that one credit note names."""


class SubscribeAsk(msgspec.Struct, frozen=True):
    """Which plan from which day on."""

    plan: str
    from_day: date
    version: int | None = None
    anchor: date | None = None


class CloseAsk(msgspec.Struct, frozen=True):
    """Which periods to close."""

    grace_hours: int = GRACE_HOURS
    finalize: bool = False


class ReopenAsk(msgspec.Struct, frozen=True):
    """Which period to open again, and why."""

    first_day: date
    reason: str


class CreditAsk(msgspec.Struct, frozen=True):
    """What to give back: a total with tax, net amounts of lines, or all that is left."""

    invoice: str
    reason: str
    total: Decimal | None = None
    lines: dict[int, Decimal] | None = None
    id: str = ""


def subscribe(document: Mapping[str, object]) -> SubscribeAsk:
    """Return what is to be subscribed to.

    Args:
        document: ``plan``, ``from_day``; ``version``, ``anchor`` where they are said.

    Raises:
        InvalidInput: ``invalid_<member>`` or ``unknown_member``.
    """
    checks: dict[str, fields.Check] = {
        "plan": fields.name,
        "from_day": fields.day,
        "version": fields.whole(1, MAX_VERSION),
        "anchor": fields.day,
    }
    return SubscribeAsk(**fields.read_members(document, checks, required=("plan", "from_day")))


def end(document: Mapping[str, object]) -> date:
    """Return the first day at list prices.

    Args:
        document: ``from_day``.

    Raises:
        InvalidInput: ``invalid_<member>`` or ``unknown_member``.
    """
    said = fields.read_members(document, {"from_day": fields.day}, required=("from_day",))
    first: date = said["from_day"]
    return first


def close(document: Mapping[str, object]) -> CloseAsk:
    """Return which periods are to be closed.

    Args:
        document: ``grace_hours``, ``finalize``; both may be left out.

    Raises:
        InvalidInput: ``invalid_<member>`` or ``unknown_member``.
    """
    checks: dict[str, fields.Check] = {
        "grace_hours": fields.whole(0, MAX_GRACE_HOURS),
        "finalize": fields.flag,
    }
    return CloseAsk(**fields.read_members(document, checks))


def reopen(document: Mapping[str, object]) -> ReopenAsk:
    """Return which period is to be opened again.

    Args:
        document: ``first_day``, ``reason``.

    Raises:
        InvalidInput: ``invalid_<member>`` or ``unknown_member``.
    """
    checks: dict[str, fields.Check] = {"first_day": fields.day, "reason": fields.name}
    return ReopenAsk(**fields.read_members(document, checks, required=tuple(checks)))


def reason(document: Mapping[str, object]) -> str:
    """Return why an invoice goes elsewhere; "" where nobody says.

    Args:
        document: ``reason``.

    Raises:
        InvalidInput: ``invalid_reason`` or ``unknown_member``.
    """
    said = fields.read_members(document, {"reason": fields.text})
    found: str = said.get("reason", "")
    return found


def credit(document: Mapping[str, object]) -> CreditAsk:
    """Return what is to be given back.

    Args:
        document: ``invoice``, ``reason``; ``total`` or ``lines``, an object of net amounts by
            number of the line; ``id``, which the note gets.

    Raises:
        InvalidInput: ``invalid_<member>`` or ``unknown_member``.
    """
    checks: dict[str, fields.Check] = {
        "invoice": fields.name,
        "reason": fields.name,
        "total": _amount,
        "lines": _lines,
        "id": fields.name,
    }
    return CreditAsk(**fields.read_members(document, checks, required=("invoice", "reason")))


def _amount(value: object, pointer: str) -> Decimal:
    return from_scaled(fields.money(value, pointer), AMOUNT_DECIMALS)


def _lines(value: object, pointer: str) -> dict[int, Decimal]:
    if not isinstance(value, Mapping) or not 1 <= len(value) <= MAX_LINES:
        fields.fail(pointer, "give an object of net amounts by number of the line")
    found = {}
    for number, amount in value.items():
        at = f"{pointer}/{fields.token(number)}"
        if not isinstance(number, str) or not number.isascii() or not number.isdecimal():
            fields.fail(at, "the name of a member here is the number of a line, such as 2")
        if len(number) > 9 or number.startswith("0"):
            fields.fail(at, "no line has this number")
        found[int(number)] = _amount(amount, at)
    return found
