"""A ledger in memory with a clock that tests set, two processes, and its state folded anew."""

from __future__ import annotations

from typing import Any

from fakes.building import both, us
from fakes.hold_values import PRICES

from adapters.memory import MemoryPrices, MemoryStore
from ledger.application.sequencer import Sequencer
from ledger.domain.budget_opening import opening_of
from ledger.domain.budgets import Budget, BudgetTerms, terms_body
from ledger.domain.catalog import Catalog
from ledger.domain.commands import Command, OpenLedger, Outcome
from ledger.domain.entries import decode_commit
from ledger.domain.ledger import LedgerState, evolve
from ledger.domain.protection import Protection
from ledger.domain.protection_commands import SetBudget

START = us("2026-11-23T10:10:00Z")


def catalog() -> Catalog:
    """Return the model's prices."""
    return Catalog(
        row
        for model, meters in PRICES.items()
        for meter, price in meters.items()
        for row in both(meter, price.sell, price.cost, model=model)
    )


CATALOG = catalog()


class World:
    """A ledger in memory with a clock, and its state folded from the log alone."""

    def __init__(self) -> None:
        self.now = START
        self.store = MemoryStore(clock=lambda: self.now)
        self.sequencers = self.sequencers_of()
        self.turn = 0
        self.state = LedgerState(1, "")
        self.log: list[Any] = []
        self.run(OpenLedger("acme", "USD", "UTC", "default"))

    def sequencers_of(self) -> list[Sequencer]:
        """Return both processes."""
        return [
            Sequencer(self.store, MemoryPrices(self.store, CATALOG), retry_delays_s=())
            for _ in range(2)
        ]

    def run(self, command: Command) -> Outcome:
        """Run one command, in one process and the other by turns."""
        self.turn += 1
        sequencer = self.sequencers[self.turn % 2]
        [outcome] = sequencer.submit([sequencer.prepare(command)]).result()
        self.catch_up()
        return outcome

    def catch_up(self) -> None:
        """Fold what is new in the log."""
        for commit in self.store.commits()[self.state.version :]:
            for index, entry in enumerate(decode_commit(commit.state).entries):
                evolve(self.state, entry, (commit.version, index))
                self.log.append(entry)
            self.state.version = commit.version

    @property
    def guard(self) -> Protection:
        """Return the protection that the log implies."""
        return self.state.protection()

    def set_budget(self, terms: BudgetTerms) -> Outcome:
        """Set a budget as its use case does: what was spent until now is read from the log."""
        commits = [decode_commit(one.state) for one in self.store.commits()]
        opening, counted = opening_of(
            Budget(0, terms_body(terms)), timezone="UTC", commits=commits, now=self.now
        )
        return self.run(SetBudget("acme", terms, "test", opening, counted))

    def close(self) -> None:
        """End both processes."""
        for sequencer in self.sequencers:
            sequencer.close()


def assert_rows_are_the_fold(world: World) -> None:
    """Assert that the store's rows say what the log folded from nothing says."""
    if not world.state.version:
        return
    rows, folded = world.store.protection("acme"), world.guard
    for guard in (rows, folded):
        assert guard is not None
    assert [one.body for one in rows.budgets] == [one.body for one in folded.budgets]
    zero = (0, 0, 0, 0, 0, 0)
    kept = {key: one.as_tuple() for key, one in rows.counters.items()}
    implied = {key: one.as_tuple() for key, one in folded.counters.items()}
    assert {k: v for k, v in kept.items() if v != zero} == {
        k: v for k, v in implied.items() if v != zero
    }
    assert rows.holds == folded.holds
