"""Balances and grouped usage as documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from ledger.application.documents.amounts import texts
from ledger.application.ports import TenantRow
from ledger.application.reads import UsageRow
from ledger.domain.balance import Balance
from ledger.domain.money import round_money, text


def balance_document(tenant: TenantRow, balances: Sequence[Balance]) -> dict[str, Any]:
    """Return a tenant's balances as a document; ``charge`` is unrounded."""
    return {
        "tenant": tenant.tenant,
        "currency": tenant.currency,
        "timezone": tenant.timezone,
        "periods": [{"period": one.period, **_sums(tenant.currency, one)} for one in balances],
        "total": _sums(tenant.currency, total_of(balances)),
    }


def total_of(balances: Sequence[Balance]) -> Balance:
    """Return the sum of balances; its charge is rounded once, not the sum of rounded ones."""
    total = Balance("total")
    for one in balances:
        total.charge += one.charge
        for currency, cost in one.costs.items():
            total.costs[currency] = total.costs.get(currency, 0) + cost
        for meter, quantity in one.quantities.items():
            total.quantities[meter] = total.quantities.get(meter, 0) + quantity
        total.events += one.events
        total.voided += one.voided
        total.unpriced += one.unpriced
    return total


def _sums(currency: str, balance: Balance) -> dict[str, Any]:
    charge = balance.decimal_charge()
    return {
        "charge": text(charge),
        "charge_rounded": format(round_money(charge, currency), "f"),
        "costs": _sorted(balance.decimal_costs()),
        "quantities": _sorted(balance.decimal_quantities()),
        "events": balance.events,
        "voided": balance.voided,
        "unpriced": balance.unpriced,
    }


def _sorted(numbers: Mapping[str, Decimal]) -> dict[str, str]:
    return texts(dict(sorted(numbers.items())))


def usage_document(
    tenant: TenantRow,
    start: date | None,
    end: date | None,
    groups: Sequence[str],
    rows: Sequence[UsageRow],
    lag: int,
) -> dict[str, Any]:
    """Return grouped usage of local days in ``[start, end)``; ``lag`` in log positions."""
    return {
        "tenant": tenant.tenant,
        "currency": tenant.currency,
        "timezone": tenant.timezone,
        "from": start.isoformat() if start else None,
        "to": end.isoformat() if end else None,
        "by": list(groups),
        "lag": lag,
        "rows": [
            {
                **dict(zip(groups, row.group, strict=True)),
                "quantity": _text(row.quantity),
                "charge": text(row.charge),
                "costs": texts(row.costs),
                "unpriced": _text(row.unpriced),
            }
            for row in rows
        ],
    }


def _text(number: Decimal | None) -> str | None:
    return None if number is None else text(number)
