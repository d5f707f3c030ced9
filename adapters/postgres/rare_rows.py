"""Rows that few commits write: shapes, conflicts, corrections, running totals, unpriced usage."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.postgres import arrays
from adapters.postgres.exchange import Exchange
from adapters.postgres.rows import reversal_body
from ledger.application.ports import LedgerWrite, TenantKey
from ledger.domain.ledger import UnpricedUsage
from ledger.domain.meters import QUANTITY_DECIMALS
from ledger.domain.money import scaled_text


def write_rare(exchange: Exchange, writes: Sequence[LedgerWrite]) -> None:
    """Ask for writing what commits have of these rows, at most one statement a table and kind."""
    _write_shapes(exchange, writes)
    _write_conflicts(exchange, writes)
    _write_corrections(exchange, writes)
    _write_accumulators(exchange, writes)
    _write_unpriced(exchange, writes)


def _write_shapes(exchange: Exchange, writes: Sequence[LedgerWrite]) -> None:
    shapes = [
        (write.state.tenant_id, number, body) for write in writes for number, body in write.shapes
    ]
    if shapes:
        exchange.ask(
            "insert_shapes",
            {
                "tenants": arrays.int4s([row[0] for row in shapes]),
                "numbers": arrays.int4s([row[1] for row in shapes]),
                "bodies": arrays.byteas([row[2] for row in shapes]),
            },
        )


def _write_conflicts(exchange: Exchange, writes: Sequence[LedgerWrite]) -> None:
    conflicts = [
        (write.state.tenant_id, write.state.version, index)
        for write in writes
        for index in write.conflicts
    ]
    if conflicts:
        exchange.ask(
            "insert_conflicts",
            {
                "tenants": arrays.int4s([row[0] for row in conflicts]),
                "versions": arrays.int8s([row[1] for row in conflicts]),
                "indexes": arrays.int4s([row[2] for row in conflicts]),
            },
        )


def _write_corrections(exchange: Exchange, writes: Sequence[LedgerWrite]) -> None:
    rows = [
        ((write.state.tenant_id, key), correction)
        for write in writes
        for key, correction in write.state.corrections.items()
    ]
    if not rows:
        return
    parameters: dict[str, arrays.Packed] = {
        "tenants": arrays.int4s([tenant_id for (tenant_id, _), _ in rows]),
        "keys": arrays.uuids([key for (_, key), _ in rows]),
        "reversals": arrays.byteas([reversal_body(one) or b"" for _, one in rows]),
    }
    for name in ("void", "adjust", "standing"):
        # Commits are numbered from 1: number 0 stands for none.
        places = [getattr(one, name) or (0, 0) for _, one in rows]
        parameters[f"{name}_versions"] = arrays.int8s([version for version, _ in places])
        parameters[f"{name}_indexes"] = arrays.int4s([index for _, index in places])
    exchange.ask("upsert_corrections", parameters)


def _write_accumulators(exchange: Exchange, writes: Sequence[LedgerWrite]) -> None:
    rows = [
        (write.state.tenant_id, key.split("\t", 1), quantity)
        for write in writes
        for key, quantity in write.state.accumulators.items()
    ]
    rows += [
        (write.state.tenant_id, key.split("\t", 1), write.state.running[key])
        for write in writes
        for key in write.state.ran
    ]
    if rows:
        quantities = [scaled_text(row[2], QUANTITY_DECIMALS) for row in rows]
        exchange.ask(
            "upsert_accumulators",
            {
                "tenants": arrays.int4s([row[0] for row in rows]),
                "sessions": arrays.texts([row[1][0] for row in rows]),
                "keys": arrays.texts([row[1][1] for row in rows]),
                "quantities": arrays.texts(quantities),
            },
        )


def _write_unpriced(exchange: Exchange, writes: Sequence[LedgerWrite]) -> None:
    gone: list[TenantKey] = []
    new: list[tuple[TenantKey, UnpricedUsage]] = []
    for write in writes:
        for key, usage in write.state.unpriced.items():
            place = (write.state.tenant_id, key)
            if usage is None:
                gone.append(place)
            else:
                new.append((place, usage))
    if gone:
        exchange.ask(
            "delete_unpriced",
            {
                "tenants": arrays.int4s([tenant_id for tenant_id, _ in gone]),
                "keys": arrays.uuids([key for _, key in gone]),
            },
        )
    if new:
        exchange.ask(
            "insert_unpriced",
            {
                "tenants": arrays.int4s([place[0] for place, _ in new]),
                "keys": arrays.uuids([place[1] for place, _ in new]),
                "times": arrays.int8s([usage.occurred_at for _, usage in new]),
                "sources": arrays.texts([usage.source for _, usage in new]),
                "ids": arrays.texts([usage.id for _, usage in new]),
                "providers": arrays.texts([usage.provider for _, usage in new]),
                "models": arrays.texts([usage.model for _, usage in new]),
            },
        )
