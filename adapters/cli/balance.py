"""``tallybook balance``: what tenants owe and used, month by month.

Balances are written in the same commit as the usage they count, so they are never behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated

import typer

from adapters.cli.output import JsonOption, err, number, out, print_json, table
from adapters.cli.services import OpenServices
from ledger.application.documents.usage import balance_document, total_of
from ledger.application.ports import TenantRow
from ledger.application.reads import Reads
from ledger.domain.balance import Balance
from ledger.domain.money import minor_units, round_money
from ledger.domain.periods import named_period

PeriodOption = Annotated[
    str | None, typer.Option("--period", "-p", help="One month, as YYYY-MM in the tenant's zone.")
]


def register(app: typer.Typer, open_services: OpenServices) -> None:
    """Add ``balance``."""

    @app.command("balance")
    def command(
        *,
        tenant: Annotated[
            str | None, typer.Option("--tenant", "-t", help="Whose ledger; all when left out.")
        ] = None,
        period: PeriodOption = None,
        json: JsonOption = False,
    ) -> None:
        """Show charge, provider cost and quantities of each month."""
        with open_services() as services:
            reads = services.reads
            tenants = reads.tenants() if tenant is None else [reads.tenant(tenant)]
            found = [(row, _balances(reads, row, period)) for row in tenants]
        if json:
            shown = [balance_document(row, balances) for row, balances in found]
            print_json(shown[0] if tenant is not None else {"tenants": shown})
            return
        if not found:
            err().print(
                "no tenants yet: usage opens a ledger, and so does `tallybook tenants open`"
            )
        for place, (row, balances) in enumerate(found):
            if place:
                out().print()
            _show(row, balances, period)


def _balances(reads: Reads, tenant: TenantRow, period: str | None) -> list[Balance]:
    balances = reads.balances(tenant.tenant)
    if period is None:
        return list(balances)
    name = named_period(tenant.timezone, period).name
    return [balance for balance in balances if balance.period == name]


def _show(tenant: TenantRow, balances: Sequence[Balance], period: str | None) -> None:
    title = f"{tenant.tenant} ({tenant.currency}, {tenant.timezone})"
    out().print(title, style="bold", markup=False)
    if not balances:
        when = f" in {period}" if period else ""
        out().print(f"nothing recorded{when}", markup=False)
        return
    total = total_of(balances)
    lines = [*balances, total] if len(balances) > 1 else list(balances)
    columns = [
        ("period", False),
        (f"charge {tenant.currency}", True),
        ("provider cost", True),
        ("events", True),
        ("voided", True),
        ("unpriced", True),
    ]
    out().print(
        table(
            columns,
            (
                (
                    one.period,
                    _money(one.decimal_charge(), tenant.currency),
                    _costs(one),
                    number(one.events),
                    number(one.voided),
                    number(one.unpriced),
                )
                for one in lines
            ),
        )
    )
    quantities = sorted(total.decimal_quantities().items())
    out().print()
    meters = [(meter, number(quantity)) for meter, quantity in quantities if quantity]
    out().print(table([("meter", False), ("quantity", True)], meters))
    if total.unpriced:
        err().print(
            f"{total.unpriced:,} events wait for a price; what has none is in no amount, and only"
            " their cost waits where a plan charges them; `tallybook events --unpriced` lists them",
            markup=False,
        )


def _money(amount: Decimal, currency: str) -> str:
    return number(round_money(amount, currency), minor_units(currency))


def _costs(balance: Balance) -> str:
    costs = sorted(balance.decimal_costs().items())
    return "\n".join(f"{_money(cost, currency)} {currency}" for currency, cost in costs) or "-"
