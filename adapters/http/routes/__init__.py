"""Routes of the API, a module a noun.

A module offers ``operations(services)``, hot routes in the order in which they match, or
``router(services)``, routes of the management surface, or both; they are collected here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import APIRouter
from pydantic import BaseModel

from adapters.http.lifecycle import Lifecycle
from adapters.http.operations import Operation
from adapters.http.routes import (
    audit,
    balance,
    budgets,
    compat,
    credits,
    entitlements,
    entries,
    events,
    holds,
    invoice_changes,
    invoices,
    journal,
    keys,
    normalize,
    ops,
    periods,
    plans,
    price_decisions,
    prices,
    questions,
    reads,
    tenants,
)
from adapters.http.scraping import Scrape
from ledger.application.services import Services


def operations(
    services: Services,
    schema: Callable[[], bytes],
    lifecycle: Lifecycle,
    *,
    scrape: Scrape,
    open_metrics: bool,
) -> list[Operation]:
    """Return all hot routes.

    Args:
        services: that they call.
        schema: gives the OpenAPI document.
        lifecycle: of the process.
        scrape: gives the metrics.
        open_metrics: whether they need no key.
    """
    return [
        *events.operations(services),
        *compat.operations(services),
        *normalize.operations(services),
        *holds.operations(services),
        *balance.operations(services),
        *ops.operations(services, schema, lifecycle),
        ops.metrics(scrape, open=open_metrics),
    ]


def routers(services: Services, operations: Sequence[Operation]) -> list[APIRouter]:
    """Return all routers of the management surface.

    Args:
        services: that they call.
        operations: the hot routes, of which one reports.
    """
    modules = (
        entries,
        reads,
        questions,
        budgets,
        credits,
        entitlements,
        prices,
        price_decisions,
        plans,
        periods,
        invoices,
        invoice_changes,
        journal,
        tenants,
        keys,
    )
    return [*(module.router(services) for module in modules), audit.router(services, operations)]


def models() -> list[type[BaseModel]]:
    """Return the models that bodies refer to, of hot routes and of requests to the others."""
    modules = (
        balance,
        compat,
        entries,
        events,
        holds,
        keys,
        normalize,
        budgets,
        credits,
        entitlements,
        price_decisions,
        plans,
        periods,
        invoice_changes,
        tenants,
    )
    return [model for module in modules for model in module.MODELS]
