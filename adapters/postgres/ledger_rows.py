"""Rows that nearly every commit writes: idempotency keys, heads of ledgers, balances."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.postgres import arrays
from adapters.postgres.exchange import Exchange
from adapters.postgres.rows import amount_text, costs_text, quantities_text
from ledger.application.ports import LedgerWrite
from ledger.domain.ledger import LedgerState


def write_ledgers(
    exchange: Exchange, writes: Sequence[LedgerWrite], opened: Sequence[LedgerState]
) -> None:
    """Ask for writing what commits changed, one statement a table.

    Args:
        exchange: to be run by the caller.
        writes: commits.
        opened: ledgers that have no row yet; each is written to.
    """
    _write_keys(exchange, writes)
    if opened:
        _open_tenants(exchange, opened)
    states = [write.state for write in writes]
    exchange.ask(
        "update_tenants",
        {
            "ids": arrays.int4s([state.tenant_id for state in states]),
            "versions": arrays.int8s([state.version for state in states]),
            "digests": arrays.byteas([state.digest for state in states]),
            "shapes": arrays.int4s([len(state.shapes) for state in states]),
            "pending": arrays.int4s([state.pending for state in states]),
            "conflicts": arrays.int8s([state.conflicts for state in states]),
        },
    )
    _write_balances(exchange, states)


def _write_keys(exchange: Exchange, writes: Sequence[LedgerWrite]) -> None:
    keys = [key for write in writes for key in write.keys]
    if keys:
        sizes = [(write.state, len(write.keys)) for write in writes]
        exchange.ask(
            "insert_keys",
            {
                "tenants": arrays.repeated_int4s([(s.tenant_id, n) for s, n in sizes]),
                "keys": arrays.uuids([key.digest for key in keys]),
                "versions": arrays.repeated_int8s([(s.version, n) for s, n in sizes]),
                "indexes": arrays.int4s([key.index for key in keys]),
                "fingerprints": arrays.uuids([key.fingerprint for key in keys]),
            },
        )


def _open_tenants(exchange: Exchange, opened: Sequence[LedgerState]) -> None:
    exchange.ask(
        "insert_tenants",
        {
            "ids": arrays.int4s([state.tenant_id for state in opened]),
            "names": arrays.texts([state.tenant for state in opened]),
            "currencies": arrays.texts([state.currency for state in opened]),
            "timezones": arrays.texts([state.timezone for state in opened]),
            "books": arrays.texts([state.book for state in opened]),
        },
    )


def _write_balances(exchange: Exchange, states: Sequence[LedgerState]) -> None:
    rows = [
        (state.tenant_id, state.balances[period]) for state in states for period in state.touched
    ]
    if rows:
        balances = [balance for _, balance in rows]
        exchange.ask(
            "upsert_balances",
            {
                "tenants": arrays.int4s([tenant_id for tenant_id, _ in rows]),
                "periods": arrays.texts([one.period for one in balances]),
                "charges": arrays.texts([amount_text(one.charge) for one in balances]),
                "costs": arrays.texts([costs_text(one) for one in balances]),
                "quantities": arrays.texts([quantities_text(one) for one in balances]),
                "events": arrays.int8s([one.events for one in balances]),
                "voided": arrays.int8s([one.voided for one in balances]),
                "unpriced": arrays.int8s([one.unpriced for one in balances]),
            },
        )
