"""Bodies read in one step say the same as those read member by member."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from ledger.application.ask_forms import sent_ask, sent_capture
from ledger.application.asks import authorize_hold, capture_hold
from ledger.domain.errors import InvalidInput

_tree = msgspec.json.Decoder(float_hook=Decimal).decode
ASK = {
    "hold": "h-1",
    "tenant": "acme",
    "provider": "openai",
    "model": "gpt-4o",
    "quantities": {"tokens.output": 500, "tokens.input": "900.5"},
    "labels": {"team": "blue", "app": "x"},
    "tools": ["search", "code"],
    "ttl": 60,
    "min_amount": "0.01",
    "billable": "tenant",
    "kind": "call",
    "batch": True,
    "currency": "USD",
}
CAPTURE = {
    "capture": "c-1",
    "quantities": {"tokens.output": 212, "tokens.input": 880},
    "final": False,
    "occurred_at": "2026-11-03T10:00:00+01:00",
    "outcome": "ok",
    "source": "gateway-1",
}
NUMBERS = ("0.25", "1e3", "-1", "1.0", "1e400", "1e99999999999999999999", "9" * 40, "true", "null")
TEXTS = ('"a\\u0001"', '"a\\n"', '"a\x7f"', '"\u00e4"', '"\u200b"', '"a\\ud800"', '""', "1", "[]")


def _bodies(document: dict[str, Any], changed: tuple[str, ...]) -> list[bytes]:
    whole = json.dumps(document)
    bodies = [whole, json.dumps(document, indent=2), whole[:-1], f"[{whole}]", "", "{}", "null"]
    bodies += [json.dumps(document | more) for more in ({"x": 1}, {"tenant": "globex"})]
    bodies += [json.dumps({k: v for k, v in document.items() if k != name}) for name in document]
    for name in changed:
        rest = json.dumps({k: v for k, v in document.items() if k != name})[1:-1]
        bodies += [f'{{{rest}, "{name}": {value}}}' for value in (*NUMBERS, *TEXTS)]
        # Said twice, the last counts.
        bodies.append(f'{{"{name}": "once", {whole[1:-1]}}}')
    return [body.encode("utf-8", "surrogatepass") for body in bodies]


def _read(read: Any, document: Any) -> object:
    try:
        return read(document)
    except InvalidInput as error:
        return error.code, error.pointer, error.message


@pytest.mark.parametrize(
    ("sent", "read", "document", "changed"),
    [
        (
            sent_ask,
            lambda one: authorize_hold(one, tenant="acme"),
            ASK,
            ("hold", "model", "ttl", "min_amount", "currency", "kind", "batch", "labels", "tools"),
        ),
        (
            sent_capture,
            lambda one: capture_hold(one, tenant="acme", hold="h-1"),
            CAPTURE,
            ("capture", "final", "occurred_at", "outcome", "source", "quantities", "raw"),
        ),
    ],
    ids=["ask", "capture"],
)
def test_what_is_read_in_one_step_says_the_same(
    sent: Any, read: Any, document: dict[str, Any], changed: tuple[str, ...]
) -> None:
    """Or it is not read in one step."""
    taken = 0
    for body in _bodies(document, changed):
        form = sent(body)
        if form is None:
            continue
        taken += 1
        plain = _tree(body)
        named = plain.pop("tenant", msgspec.UNSET)
        assert (form.tenant, _read(read, form)) == (named, _read(read, plain)), body
    assert taken > len(changed)


def test_an_ordinary_body_is_read_in_one_step() -> None:
    """What gateways send all the time does not take the long way."""
    assert sent_ask(json.dumps(ASK).encode()) is not None
    assert sent_capture(json.dumps(CAPTURE).encode()) is not None


@pytest.mark.parametrize("text", ["\\u0041", "a\x7f", "\u00e4"])
def test_text_that_needs_a_closer_look_gets_it(text: str) -> None:
    """The one step does not see whether it is printable."""
    body = f'{{"hold": "{text}", "amount": "1"}}'
    assert sent_ask(body.encode()) is None
