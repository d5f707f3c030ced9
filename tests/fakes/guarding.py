"""A guarded ledger in memory, with a clock that tests move."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from fakes.building import both, catalog, us

from adapters.memory import MemoryStore
from ledger.application import asks
from ledger.application.protection import Holds
from ledger.application.sequencer import Sequencer
from ledger.domain.catalog import Catalog
from ledger.domain.commands import Command, OpenLedger, Outcome
from ledger.domain.default_cap import DefaultCap
from ledger.domain.holds import HoldState, hold_digest
from ledger.domain.protection_commands import SetBudget

PRICES = (
    *both("tokens.input", "1", "0.5", per=100),
    *both("tokens.output", "4", "2", per=100),
    *both("tokens.input", "0.25", "0.1", per=100, model="mini"),
    *both("tokens.output", "1", "0.5", per=100, model="mini"),
    *both("tool.calls", "0.5", "0.3", model="search"),
)
"""Round figures: 100 input tokens cost 1, of the model ``mini`` a quarter of that."""
START = us("2026-11-03T12:00:00Z")
SECOND = 1_000_000


class _Fixed:
    def __init__(self, value: Any) -> None:
        self._value = value

    def load(self) -> Any:
        return self._value


class Guarded:
    """One tenant, ``acme``, in USD and UTC, without a cap unless told.

    Attributes:
        now: the store's clock, microseconds.
        store: what is kept.
        holds: the facade.
    """

    def __init__(
        self,
        *,
        default: DefaultCap | None = None,
        prices: Catalog | None = None,
        timezone: str = "UTC",
    ) -> None:
        self.now = START
        self.store = MemoryStore(clock=lambda: self.now)
        policy = _Fixed(default or DefaultCap(waived=True))
        self.sequencer = Sequencer(self.store, _Fixed(prices or catalog(*PRICES)), policies=policy)
        self.holds = Holds(self.sequencer)
        self.run(OpenLedger("acme", "USD", timezone, "default"))

    def run(self, command: Command) -> Outcome:
        """Run one command."""
        return self.sequencer.submit([self.sequencer.prepare(command)]).result()[0]

    def together(self, *commands: Command) -> list[Outcome]:
        """Run commands in one batch."""
        prepare = self.sequencer.prepare
        return self.sequencer.submit([prepare(command) for command in commands]).result()

    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.now += seconds * SECOND

    def budget(self, name: str = "cap", **document: Any) -> Outcome:
        """Set a budget."""
        terms = asks.budget_terms(document, name=name, currency="USD")
        return self.run(SetBudget("acme", terms))

    def ask(self, hold: str = "h", **document: Any) -> Outcome:
        """Authorize; 100 input tokens unless told."""
        if "amount" not in document:
            document = {
                "provider": "openai",
                "model": "gpt",
                "quantities": {"tokens.input": 100},
                **document,
            }
        return self.holds.authorize({"hold": hold, **document}, tenant="acme")

    def capture(self, hold: str = "h", tokens: int = 100, *, id: str = "", **more: Any) -> Outcome:
        """Capture so many input tokens."""
        document = {
            "capture": id or f"{hold}-capture",
            "quantities": {"tokens.input": tokens},
            **more,
        }
        return self.holds.capture(document, tenant="acme", hold=hold)

    def extend(self, step: int, hold: str = "h", **document: Any) -> Outcome:
        """Extend."""
        return self.holds.extend({"step": step, **document}, tenant="acme", hold=hold)

    def progress(self, step: int, tokens: int, hold: str = "h") -> Outcome:
        """Keep a checkpoint of so many input tokens."""
        document = {"step": step, "quantities": {"tokens.input": tokens}}
        return self.holds.progress(document, tenant="acme", hold=hold)

    def void(self, hold: str = "h", *, id: str = "v", **document: Any) -> Outcome:
        """Give a hold up."""
        return self.holds.void({"void": id, **document}, tenant="acme", hold=hold)

    def reverse(self, amount: str, *, capture: str = "h-capture", id: str = "r") -> Outcome:
        """Reverse part of a capture."""
        document = {"reversal": id, "capture": capture, "amount": amount}
        return self.holds.reverse(document, tenant="acme")

    def hold(self, id: str = "h") -> HoldState:
        """Return a hold as it is kept."""
        return self.store.protection("acme").holds[hold_digest(id)]

    def counter(self, number: int = 0, start: int | None = None) -> tuple[Decimal, Decimal]:
        """Return spent and held of a budget, of all its windows or of one."""
        spent = held = 0
        for (budget, window), counter in self.store.protection("acme").counters.items():
            if budget == number and start in (None, window):
                spent += counter.spent
                held += counter.held
        return _money(spent), _money(held)

    def charge(self) -> Decimal:
        """Return what the tenant is charged in all."""
        return sum((one.decimal_charge() for one in self.store.balances("acme")), Decimal())

    def kinds(self) -> list[str]:
        """Return the kinds of all entries, in order."""
        return [type(entry).__name__ for entry in self.store.entries("acme")]


def _money(value: int) -> Decimal:
    return Decimal(value).scaleb(-18).normalize() + 0


def amount(outcome: Outcome) -> Decimal:
    """Return the amount of an answer."""
    if outcome.detail is None:
        raise ValueError("the answer has no detail")
    return _money(outcome.detail.amount)


def decision(outcome: Outcome) -> str:
    """Return the decision of an answer."""
    return outcome.detail.decision if outcome.detail is not None else ""
