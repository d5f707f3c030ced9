"""The use cases over one database, as the commands of cost protection are given them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from fakes.building import wire
from typer.testing import Result

from adapters.bootstrap import Tallybook
from adapters.postgres.protection_reads import PostgresProtectionReads
from ledger.application.budgets import Budgets
from ledger.application.credits import Credits

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Run = Callable[..., Result]
Ask = Callable[..., Any]
TOKENS = ("--provider", "openai", "--model", "gpt", "-q", "tokens.input=1000")


class Wired:
    """The use cases that the commands need, over one database."""

    def __init__(self, tallybook: Tallybook) -> None:
        self.tallybook = tallybook
        self.ledger = tallybook.ledger
        self.reads = tallybook.reads
        self.holds = tallybook.holds
        self.policies = tallybook.policies
        self.entitlements = tallybook.entitlements
        self.tenants = tallybook.tenants
        self.protection_reads = PostgresProtectionReads(tallybook.database)
        self.budgets = Budgets(self.ledger, self.reads, self.protection_reads, tallybook.audit)
        self.credits = Credits(self.ledger, self.reads, self.protection_reads)


def spend(wired: Wired, id: str, tokens: int, *, tenant: str = "acme", **data: object) -> None:
    """Record usage of a thousandth of a dollar a token, now."""
    now = datetime.now(UTC).isoformat()
    body = wire(
        id,
        tenant=tenant,
        data={"quantities": {"tokens.input": tokens}, **data},
        time=now,
    )
    [outcome] = wired.ledger.record([body])
    assert outcome.status == "accepted"


def words(result: Result) -> str:
    """Return what was printed, without the frames of tables."""
    return " ".join(re.sub(r"[│┃━─┏┓┗┛├┤┼╇┡┩╋╂╴╶]", " ", result.stdout).split())
