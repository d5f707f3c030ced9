"""Platform fees: what a call with the tenant's own provider key is charged."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from ledger.domain.catalog import ANY, BYOK_TIER, Catalog, PricedRow
from ledger.domain.prices import PriceKey, PriceKind, PriceRow
from ledger.domain.usage import UsageEvent

AT = 1_790_000_000_000_000


def _row(kind: PriceKind, key: PriceKey, rate: str, version: str) -> PricedRow:
    row = PriceRow(key=key, effective_from=datetime(2020, 1, 1, tzinfo=UTC), rate=Decimal(rate))
    return PricedRow(kind, "" if kind is PriceKind.COST else "default", row, version)


MODEL = (
    _row(PriceKind.COST, PriceKey("openai", "m1", "tokens.input"), "0.5", "cost/openai@1.0"),
    _row(PriceKind.SELL, PriceKey("openai", "m1", "tokens.input"), "0.6", "default/openai@1.0"),
)
FEE = _row(PriceKind.SELL, PriceKey(ANY, ANY, "requests", tier=BYOK_TIER), "1", "default/*@1.0")


def _charge_and_cost(catalog: Catalog, **members: object) -> tuple[int, int, bool]:
    event = UsageEvent(
        id="e",
        source="s",
        tenant="t",
        provider="openai",
        model="m1",
        quantities={"requests": "1", "tokens.input": "10"},
        **members,  # type: ignore[arg-type]
    )
    rated = catalog.rate(
        event, numbers=(1, 10), decimals=0, occurred_at=AT, book="default", currency="USD"
    )
    return rated.charge, rated.cost, rated.shape.unpriced


def test_a_fee_for_any_model_applies_to_a_model_with_sell_rows_of_its_own() -> None:
    """The model's ordinary sell rows do not hide the fee, and its cost is not ours."""
    assert _charge_and_cost(Catalog([*MODEL, FEE]), byok=True) == (1, 0, False)


def test_without_a_fee_an_own_key_call_is_charged_nothing() -> None:
    """No fee row is no fee; nothing else is charged and nothing is unpriced."""
    assert _charge_and_cost(Catalog(MODEL), byok=True) == (0, 0, False)


def test_a_fee_is_no_price_for_ordinary_calls() -> None:
    """Without the tenant's own key the request leaf has no price, so the event is unpriced."""
    assert _charge_and_cost(Catalog([*MODEL, FEE]))[2] is True


def test_a_fee_of_the_model_itself_outweighs_the_one_for_all() -> None:
    """The nearest fee applies."""
    own = _row(
        PriceKind.SELL, PriceKey("openai", "m1", "requests", tier=BYOK_TIER), "3", "default/o@2.0"
    )
    assert _charge_and_cost(Catalog([*MODEL, FEE, own]), byok=True) == (3, 0, False)


def test_a_fee_applies_to_batch_calls_too() -> None:
    """The provider's batch price is no part of a platform fee."""
    assert _charge_and_cost(Catalog([*MODEL, FEE]), byok=True, batch=True) == (1, 0, False)
