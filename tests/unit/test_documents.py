"""Documents: what every interface answers, and how it becomes JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from ledger.application.documents.encoding import as_json, to_json, to_plain
from ledger.application.documents.usage import balance_document, usage_document
from ledger.application.ports import TenantRow
from ledger.application.reads import UsageRow
from ledger.domain.balance import Balance
from ledger.domain.money import AMOUNT_DECIMALS


class Rated(msgspec.Struct):
    """A struct with what documents are made of."""

    amount: Decimal
    at: datetime
    parts: tuple[Decimal, ...] = ()


@pytest.mark.parametrize(
    ("number", "expected"),
    [("1E+2", "100"), ("1E-9", "0.000000001"), ("2.500", "2.5"), ("-0", "0"), ("7", "7")],
)
@pytest.mark.parametrize("deep", [False, True])
def test_a_decimal_is_canonical_text_wherever_it_stands(
    number: str, expected: str, deep: bool
) -> None:
    """Neither exponent nor trailing zeros reach a reader, at any depth."""
    value: Any = Decimal(number)
    wrapped = {"a": [{"b": (value,)}]} if deep else value
    quoted = f'"{expected}"'
    assert as_json(wrapped) == (f'{{"a":[{{"b":[{quoted}]}}]}}' if deep else quoted)


def test_a_decimal_in_a_struct_is_canonical_text_too() -> None:
    """Structs are taken apart before decimals become text; times are RFC 3339 in UTC."""
    rated = Rated(Decimal("1E+1"), datetime(2026, 3, 1, tzinfo=UTC), (Decimal("0.10"),))
    assert to_plain(rated) == {"amount": "10", "at": "2026-03-01T00:00:00Z", "parts": ["0.1"]}
    assert to_json(rated) == b'{"amount":"10","at":"2026-03-01T00:00:00Z","parts":["0.1"]}'


def test_bytes_and_text_of_a_document_are_the_same_json() -> None:
    """One encoder: an interface that sends bytes answers what the command line prints."""
    value = {"name": "é", "amount": Decimal("1E-7"), "count": 3, "none": None, "yes": True}
    assert to_json(value).decode() == as_json(value)
    assert to_json(value) == (
        '{"name":"é","amount":"0.0000001","count":3,"none":null,"yes":true}'.encode()
    )


def test_a_document_without_decimals_is_not_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is plain already is encoded as it is."""

    def never(value: Any) -> Any:
        raise NotImplementedError(type(value).__name__)

    monkeypatch.setattr("ledger.application.documents.encoding.to_plain", never)
    assert (
        to_json({"amount": "1", "rows": [{"count": 2}]}) == b'{"amount":"1","rows":[{"count":2}]}'
    )
    with pytest.raises(NotImplementedError):
        to_json({"amount": Decimal(1)})


def test_documents_of_usage_are_plain() -> None:
    """Amounts and quantities are text in the document itself, not only in its JSON."""
    tenant = TenantRow(1, "acme", "USD", "UTC", "default", 1, b"", 0, 0, 0)
    balance = Balance("2026-03")
    balance.charge = 15 * 10**AMOUNT_DECIMALS // 1000
    balance.costs = {"USD": 10**AMOUNT_DECIMALS}
    [period] = balance_document(tenant, [balance])["periods"]
    assert (period["charge"], period["charge_rounded"]) == ("0.015", "0.02")
    assert period["costs"] == {"USD": "1"}
    row = UsageRow(
        group=("gpt",),
        quantity=Decimal("1E+3"),
        charge=Decimal("0.50"),
        costs={"USD": Decimal("1E-7")},
        unpriced=None,
    )
    [shown] = usage_document(tenant, None, None, ["model"], [row], 0)["rows"]
    assert shown == {
        "model": "gpt",
        "quantity": "1000",
        "charge": "0.5",
        "costs": {"USD": "0.0000001"},
        "unpriced": None,
    }
