"""One ledger on a desk: decide, fold, look; no store, no threads, no clock."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fakes.building import catalog, us

from ledger.domain.balance import Balance
from ledger.domain.catalog import Catalog
from ledger.domain.commands import Command, Decision, KeyRow, Outcome
from ledger.domain.decide import decide
from ledger.domain.entries import Entry, LedgerOpened
from ledger.domain.ledger import LedgerState, Ref, evolve

NOW = us("2026-11-20T10:00:00Z")


class Desk:
    """Decides commands one by one and folds what they cause, one commit a command.

    Args:
        prices: the catalog; change it by assignment.
        timezone: of the ledger.
        currency: of the ledger.
        book: of the ledger.

    Attributes:
        state: the ledger's state.
        keys: keys taken.
        log: entries by place.
    """

    def __init__(
        self,
        prices: Catalog | None = None,
        *,
        timezone: str = "UTC",
        currency: str = "USD",
        book: str = "default",
    ) -> None:
        self.prices = prices or catalog()
        self.state = LedgerState(1, "acme", currency=currency, timezone=timezone, book=book)
        self.keys: dict[bytes, KeyRow] = {}
        self.log: dict[Ref, Entry] = {}
        self._append([LedgerOpened("acme", currency, timezone, book)])

    def entry(self, ref: Ref) -> Entry:
        """Return the entry at a place."""
        return self.log[ref]

    def _append(self, entries: Iterable[Entry]) -> None:
        version = self.state.version + 1
        for index, entry in enumerate(entries):
            self.log[version, index] = entry
            evolve(self.state, entry, (version, index))
        self.state.version = version

    def decide(self, command: Command) -> Decision:
        """Decide a command without doing it."""
        return decide(self.state, command, known=self, catalog=self.prices, now=NOW)

    def do(self, *commands: Command) -> list[Outcome]:
        """Decide commands, fold what they cause, and return the answers."""
        outcomes = []
        for command in commands:
            decision = self.decide(command)
            version = self.state.version + 1
            if decision.entries:
                self._append(decision.entries)
            if decision.key:
                self.keys[decision.key] = KeyRow(version, decision.at, decision.fingerprint)
            outcomes.append(decision.outcome)
        return outcomes

    def balance(self, period: str = "2026-11") -> Balance:
        """Return the balance of a period, an empty one if there is none."""
        return self.state.balances.get(period) or Balance(period)

    def last(self) -> list[Entry]:
        """Return the entries of the last commit."""
        version = self.state.version
        return [entry for (commit, _), entry in self.log.items() if commit == version]


def snapshot(state: LedgerState) -> dict[str, Any]:
    """Return everything a state says, as values that later changes do not reach."""
    return {
        "head": (state.tenant_id, state.tenant, state.currency, state.timezone, state.book),
        "place": (state.version, state.digest, state.pending, state.conflicts),
        "shapes": [shape.body for shape in state.shapes],
        "numbers": dict(state.numbers),
        "balances": {name: one.as_tuple() for name, one in state.balances.items()},
        "corrections": {key: repr(one) for key, one in state.corrections.items()},
        "accumulators": dict(state.accumulators),
        "unpriced": dict(state.unpriced),
        "touched": set(state.touched),
    }
