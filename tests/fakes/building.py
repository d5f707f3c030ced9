"""Events, commands and prices in few words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from ledger.application.intake import ADJUST_TYPE, USAGE_TYPE, VOID_TYPE
from ledger.domain.catalog import Catalog, PricedRow
from ledger.domain.money import RoundingMode
from ledger.domain.periods import to_us
from ledger.domain.prices import (
    EXACT_QUANTITY,
    PriceKey,
    PriceKind,
    PriceRow,
    QuantityRule,
    RoundingScope,
)
from ledger.domain.usage import (
    AdjustUsage,
    RecordUsage,
    UsageEvent,
    VoidUsage,
    canonical_quantities,
    record_usage,
)

NOON = "2026-11-03T12:00:00Z"
TOKENS = {"tokens.input": 1000, "tokens.output": 200}
Amount = int | str | Decimal


def us(text: str) -> int:
    """Return an RFC 3339 instant as microseconds since the epoch."""
    return to_us(datetime.fromisoformat(text))


def _numbers(quantities: Mapping[str, Amount]) -> dict[str, str]:
    return canonical_quantities(
        {
            name: Decimal(value) if isinstance(value, str) else value
            for name, value in quantities.items()
        }
    )


def usage(
    id: str = "e-1",
    *,
    tenant: str = "acme",
    source: str = "gateway",
    time: str | None = NOON,
    quantities: Mapping[str, Amount] = TOKENS,
    provider: str = "openai",
    model: str = "gpt",
    **members: Any,
) -> RecordUsage:
    """Return the command that records an event; ``members`` are further members of `UsageEvent`."""
    return record_usage(
        UsageEvent(
            id=id,
            tenant=tenant,
            source=source,
            occurred_at=None if time is None else us(time),
            quantities=_numbers(quantities),
            provider=provider,
            model=model,
            **members,
        )
    )


def void(target: str = "e-1", *, id: str = "v-1", tenant: str = "acme", **more: str) -> VoidUsage:
    """Return the command that takes an event back."""
    members = {"source": "gateway", "target_source": "gateway", **more}
    return VoidUsage(tenant=tenant, id=id, target_id=target, **members)


def adjust(
    target: str = "e-1",
    *,
    id: str = "a-1",
    tenant: str = "acme",
    quantities: Mapping[str, Amount] = TOKENS,
    **more: str,
) -> AdjustUsage:
    """Return the command that replaces an event's quantities."""
    members = {"source": "gateway", "target_source": "gateway", **more}
    return AdjustUsage(
        tenant=tenant, id=id, target_id=target, quantities=_numbers(quantities), **members
    )


def document(
    id: str = "e-1",
    *,
    tenant: str = "acme",
    type: str = USAGE_TYPE,
    data: Mapping[str, Any] | None = None,
    **members: Any,
) -> dict[str, Any]:
    """Return a CloudEvent as a document; ``data`` replaces members of a plain call."""
    call = {"provider": "openai", "model": "gpt", "quantities": TOKENS}
    return {
        "specversion": "1.0",
        "type": type,
        "source": "gateway",
        "id": id,
        "subject": tenant,
        "time": NOON,
        "data": {**call, **(data or {})} if type == USAGE_TYPE else dict(data or {}),
        **members,
    }


def wire(id: str = "e-1", **more: Any) -> bytes:
    """Return a CloudEvent as JSON; see `document`."""
    return json.dumps(document(id, **more)).encode()


def wire_void(target: str = "e-1", *, id: str = "v-1", **more: Any) -> bytes:
    """Return a void as JSON."""
    return wire(id, type=VOID_TYPE, data={"id": target}, **more)


def wire_adjust(
    quantities: Mapping[str, Amount], target: str = "e-1", *, id: str = "a-1", **more: Any
) -> bytes:
    """Return an adjustment as JSON."""
    return wire(id, type=ADJUST_TYPE, data={"id": target, "quantities": quantities}, **more)


def rule(
    increment: Amount = 0,
    minimum: Amount = 0,
    mode: RoundingMode = RoundingMode.UP,
    scope: RoundingScope = RoundingScope.REQUEST,
) -> QuantityRule:
    """Return how a quantity is rounded; over the request unless said otherwise."""
    return QuantityRule(Decimal(increment), Decimal(minimum), mode, scope)


def _row(kind: PriceKind, meter: str, rate: Amount, more: dict[str, Any]) -> PricedRow:
    place = {
        name: more.pop(name) for name in ("region", "tier", "batch", "context_over") if name in more
    }
    key = PriceKey(more.pop("provider", "openai"), more.pop("model", "gpt"), meter, **place)
    book = more.pop("book", "default") if kind is PriceKind.SELL else ""
    effective = datetime.fromisoformat(more.pop("since", "2026-01-01T00:00:00Z"))
    version = more.pop("version", None)
    row = PriceRow(
        key=key,
        effective_from=effective,
        rate=Decimal(rate),
        unit_size=Decimal(more.pop("per", 1)),
        quantity_rule=more.pop("rule", EXACT_QUANTITY),
        **more,
    )
    row.check()
    if version is None:
        version = f"{kind}/{key.provider}/{key.model}/{meter}@{effective:%Y%m%d}={rate}"
    return PricedRow(kind, book, row, version)


def sell(meter: str, rate: Amount, **more: Any) -> PricedRow:
    """Return what tenants are charged: ``rate`` for ``per`` units ``since`` a date."""
    return _row(PriceKind.SELL, meter, rate, more)


def cost(meter: str, rate: Amount, **more: Any) -> PricedRow:
    """Return what the provider charges; members as in `sell`."""
    return _row(PriceKind.COST, meter, rate, more)


def both(meter: str, sell_rate: Amount, cost_rate: Amount, **more: Any) -> list[PricedRow]:
    """Return a sell and a cost row of one meter."""
    return [sell(meter, sell_rate, **more), cost(meter, cost_rate, **more)]


STANDARD = (
    *both("tokens.input", "3", "2.5", per=1_000_000),
    *both("tokens.output", "12", "10", per=1_000_000),
    *both("tool.calls", "0.01", "0.007", model="tool"),
    *both(
        "audio.stt.seconds",
        "0.0002",
        "0.0001",
        model="whisper",
        rule=rule(increment=1, minimum=10, scope=RoundingScope.REQUEST),
    ),
    *both(
        "audio.session.seconds",
        "0.001",
        "0.0004",
        model="live",
        rule=rule(increment=15, minimum=15, scope=RoundingScope.SESSION),
    ),
)
"""Prices of tokens (exact), of tools, of audio (rounded each request) and of live sessions."""


def catalog(*rows: PricedRow) -> Catalog:
    """Return a catalog of those rows, or of `STANDARD` when none are given."""
    return Catalog(rows or STANDARD)
