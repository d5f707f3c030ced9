"""A close that is killed at every step, and run again by two processes at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fakes.billing_world import Clock, postgres_world
from fakes.close_process import STEPS

from ledger.domain.billing_account import BillingAccount, evolve
from ledger.domain.invoices import InvoiceStatus, from_document

ROOT = Path(__file__).parents[2]
OTHERS = 25


def test_each_tenant_has_one_invoice_and_numbers_are_gapless(database_url: str) -> None:
    """Whatever was killed wherever; and each account is what its events fold to."""
    names = [f"kill-{step}" for step in range(1, STEPS + 1)]
    names += [f"other-{number}" for number in range(OTHERS)]
    with postgres_world(Clock(), database_url) as world:
        world.publish()
        world.open(*names)
        for name in names:
            world.subscriptions.subscribe(name, "team", by="ann")
            world.use(name, "2026-11-20T10:00:00Z", tokens_input=2000, tool_calls=10)
        run = subprocess.run(
            [sys.executable, "-m", "fakes.close_process", database_url],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        )
        assert run.stdout.split() == ["killed"] * STEPS + ["exit-0"] * 2, run.stderr
        rows = world.invoicing.list()
        assert sorted(row.tenant for row in rows) == sorted(names)
        assert {row.status for row in rows} == {InvoiceStatus.FINALIZED}
        assert sorted(row.number for row in rows) == [
            f"INV-{number:06d}" for number in range(1, len(names) + 1)
        ]
        [series] = world.invoicing.series()
        assert (series.last, series.missing) == (len(names), [])
        for row in rows:
            account = world.store.accounts([row.tenant_id])[row.tenant_id]
            folded = BillingAccount()
            for commit in world.store.history(row.tenant_id):
                folded = evolve(folded, commit)
            assert folded == account
            assert len(account.closes) == 1
            assert from_document(row.document).number == row.number
