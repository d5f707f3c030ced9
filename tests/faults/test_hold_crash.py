"""kill -9 of a gateway between a checkpoint and its capture: nothing is lost, nothing doubled."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from adapters.bootstrap import Tallybook, open_ledger
from ledger.application.verify import verify
from ledger.domain.holds import ExpireHolds
from ledger.domain.prices import PriceKey, PriceKind, PriceRow

TENANT = "acme"
RATES = {"tokens.input": Decimal("2.5"), "tokens.output": Decimal(10)}
"""Price of a million."""
ESTIMATE = {"tokens.input": 1200, "tokens.output": 4000}
CHECKPOINT = {"tokens.input": 1200, "tokens.output": 700}
FINAL = {"tokens.input": 1201, "tokens.output": 913}
GATEWAY = """
import sys, time
from adapters.bootstrap import open_ledger
with open_ledger(sys.argv[1]) as tallybook:
    ask = {"hold": "h-1", "provider": "openai", "model": "gpt", "ttl": 1, "quantities": %r}
    print(tallybook.holds.authorize(ask, tenant="acme").status, flush=True)
    step = {"step": 1, "quantities": %r}
    print(tallybook.holds.progress(step, tenant="acme", hold="h-1").status, flush=True)
    time.sleep(60)
"""


def price(quantities: dict[str, int]) -> Decimal:
    """Return what quantities cost: the obvious sum."""
    return sum((RATES[meter] * count / 1_000_000 for meter, count in quantities.items()), Decimal())


def prepare(tallybook: Tallybook) -> None:
    """Open the ledger with a cap and price the call."""
    tallybook.tenants.open(TENANT, currency="USD", timezone="UTC", book="default")
    for meter, rate in RATES.items():
        row = PriceRow(
            key=PriceKey("openai", "gpt", meter),
            effective_from=datetime(2020, 1, 1, tzinfo=UTC),
            rate=rate,
            unit_size=Decimal(1_000_000),
        )
        tallybook.prices.set(row, kind=PriceKind.COST, by="test")
        tallybook.prices.set(row, kind=PriceKind.SELL, book="default", by="test")
    document = {"cap": "1", "window": "lifetime"}
    tallybook.budgets.set(document, tenant=TENANT, name="cap", by="test")


def charged(tallybook: Tallybook) -> Decimal:
    """Return what the tenant is charged."""
    balances = tallybook.reads.balances(TENANT)
    return sum((one.decimal_charge() for one in balances), Decimal())


def spent_and_held(tallybook: Tallybook) -> tuple[Decimal, Decimal]:
    """Return where the cap stands."""
    [budget] = tallybook.budgets.list(tenant=TENANT)
    return Decimal(budget.spent) / 10**18, Decimal(budget.held) / 10**18


@pytest.mark.parametrize("swept", [True, False])
def test_a_killed_gateway_s_call_is_charged_its_checkpoint_and_then_its_final_quantities(
    database_url: str, swept: bool
) -> None:
    """The hold expires into its last checkpoint; the late capture posts the difference alone."""
    with open_ledger(database_url) as tallybook:
        prepare(tallybook)
        process = subprocess.Popen(
            [sys.executable, "-c", GATEWAY % (ESTIMATE, CHECKPOINT), database_url],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "created\n"
            assert process.stdout.readline() == "progressed\n"
            assert charged(tallybook) == 0
            assert spent_and_held(tallybook) == (0, price(ESTIMATE))
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        time.sleep(1.2)
        if swept:
            tallybook.ledger.run([ExpireHolds(TENANT), ExpireHolds(TENANT)])
            assert charged(tallybook) == price(CHECKPOINT)
            assert spent_and_held(tallybook) == (price(CHECKPOINT), 0)

        capture = {"capture": "c-1", "quantities": FINAL}
        late = tallybook.holds.capture(capture, tenant=TENANT, hold="h-1")
        assert late.status == "captured_late"
        again = tallybook.holds.capture(capture, tenant=TENANT, hold="h-1")
        assert again.status == "exists"
        assert charged(tallybook) == price(FINAL)
        assert spent_and_held(tallybook) == (price(FINAL), 0)
        [balance] = tallybook.reads.balances(TENANT)
        assert balance.events == 1
        with tallybook.audit() as view:
            report = verify(view=view, deep=True)
        assert report.clean, report.differences
