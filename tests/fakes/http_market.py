"""The HTTP application with prices and two tenants, for tests of what costs money."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from fakes.http_world import Api, http_world

from ledger.domain.prices import PriceKey, PriceList, PriceRow

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PRICES = (
    ("gpt", "tokens.input", "1"),
    ("gpt", "tokens.output", "10"),
    ("mini", "tokens.input", "0.1"),
)
"""Model, meter and USD a thousand, cost and charge alike."""


@contextmanager
def http_market(url: str) -> Iterator[Api]:
    """Open the application with prices and the ledgers of acme and globex."""
    with http_world(url) as api:
        rows = tuple(
            PriceRow(
                key=PriceKey("openai", model, meter),
                effective_from=EPOCH,
                rate=Decimal(rate),
                unit_size=Decimal(1000),
                source="one",
            )
            for model, meter, rate in PRICES
        )
        list_ = PriceList(source="one", digest="d", rows=rows)
        api.tallybook.prices.pull([list_], approve=True, by="ann")
        for tenant in ("acme", "globex"):
            api.tallybook.tenants.open(tenant)
        yield api


def authorize(api: Api, hold: str, *, key: str = "acme", **more: Any) -> dict[str, Any]:
    """Authorize a call of 1 USD unless said otherwise; return the answer."""
    ask = {"hold": hold, "provider": "openai", "model": "gpt", **more}
    if "amount" not in ask:
        ask.setdefault("quantities", {"tokens.input": 1000})
    answer = api.post("/v2/holds", ask, key=key)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def capture(api: Api, hold: str, tokens: int, *, key: str = "acme", **more: Any) -> dict[str, Any]:
    """Capture input tokens of a hold, as ``c-<hold>``; return the answer."""
    document = {"capture": f"c-{hold}", "quantities": {"tokens.input": tokens}, **more}
    answer = api.post(f"/v2/holds/{hold}/capture", document, key=key)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is a problem document and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["code"] == code, document
    return document
