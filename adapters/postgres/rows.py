"""Rows of the state tables as domain values, and back."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
from psycopg import Cursor

from ledger.application.ports import TenantKey
from ledger.domain.balance import Balance
from ledger.domain.commands import KeyRow
from ledger.domain.errors import InvariantViolation
from ledger.domain.ledger import CorrectionState, LedgerState
from ledger.domain.meters import QUANTITY_DECIMALS
from ledger.domain.money import AMOUNT_DECIMALS, scaled_text, to_scaled

Row = tuple[Any, ...]
_json = msgspec.json.Encoder().encode
_reversal = msgspec.msgpack.Decoder(tuple[str, list[tuple[int, str]], str]).decode


def one(cursor: Cursor[Row]) -> Row:
    """Return the row of a query that always has one."""
    row = cursor.fetchone()
    if row is None:
        raise InvariantViolation("a query that always returns a row returned none")
    return row


def key_rows(rows: Sequence[Row]) -> dict[TenantKey, KeyRow]:
    """Return rows of ``usage_keys`` by tenant number and digest."""
    return {(row[0], row[1]): KeyRow(*row[2:]) for row in rows}


def ledger_state(row: Row) -> LedgerState:
    """Return a ledger of a row of ``tenants``, without shapes and balances."""
    return LedgerState(
        row[0],
        row[1],
        currency=row[2],
        timezone=row[3],
        book=row[4],
        version=row[5],
        digest=bytes(row[6]),
        pending=row[7],
        conflicts=row[8],
    )


def amount_text(value: int) -> str:
    """Return an amount x 10^18 as decimal text."""
    return scaled_text(value, AMOUNT_DECIMALS)


def costs_text(balance: Balance) -> str:
    """Return costs by currency as JSON text."""
    return _json({name: amount_text(cost) for name, cost in balance.costs.items()}).decode()


def quantities_text(balance: Balance) -> str:
    """Return quantities by meter as JSON text."""
    return _json(
        {
            name: scaled_text(quantity, QUANTITY_DECIMALS)
            for name, quantity in balance.quantities.items()
        }
    ).decode()


def balance_of(row: Row) -> Balance:
    """Return the balance of a row ``(period, charge, costs, quantities, events, …)``."""
    balance = Balance(row[0])
    balance.charge = to_scaled(row[1], AMOUNT_DECIMALS)
    balance.costs = {
        name: to_scaled(Decimal(cost), AMOUNT_DECIMALS) for name, cost in row[2].items()
    }
    balance.quantities = {
        name: to_scaled(Decimal(quantity), QUANTITY_DECIMALS) for name, quantity in row[3].items()
    }
    balance.events, balance.voided, balance.unpriced = row[4:7]
    return balance


def correction_of(row: Row) -> CorrectionState:
    """Return the correction state of a row's six places and its reversal."""
    void, adjust, standing = (
        None if row[start] is None else (row[start], row[start + 1]) for start in (0, 2, 4)
    )
    correction = CorrectionState(void, adjust, standing)
    if row[6] is not None:
        reversed_, returned, forgiven = _reversal(bytes(row[6]))
        correction.reversed, correction.forgiven = int(reversed_), int(forgiven)
        correction.returned = tuple((number, int(amount)) for number, amount in returned)
    return correction


def reversal_body(correction: CorrectionState) -> bytes | None:
    """Return what reversals took back, stored; amounts are text, as they may be wide."""
    if not (correction.reversed or correction.returned or correction.forgiven):
        return None
    returned = [(number, str(amount)) for number, amount in correction.returned]
    parts = (str(correction.reversed), returned, str(correction.forgiven))
    return msgspec.msgpack.encode(parts)
