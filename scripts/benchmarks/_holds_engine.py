"""The engine's side of `scripts/bench holds`: pairs by the sequencer; tenants with three caps."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from itertools import islice

from adapters.postgres.database import Database
from ledger.application import asks
from ledger.application.protection import Holds
from ledger.application.sequencer import Sequencer
from ledger.domain.catalog import DEFAULT_BOOK
from ledger.domain.commands import Command, OpenLedger, Outcome
from ledger.domain.protection_commands import SetBudget
from scripts.benchmarks import _holds_baseline as baseline
from scripts.benchmarks._common import FixedPrices, say
from scripts.benchmarks._holds_baseline import Call

FILL_PAIRS = 1_000
FILL_IN_FLIGHT = 4
USER = "user-0"
LIMIT = 10**12
BUDGETS: dict[str, dict[str, object]] = {
    "month": {"cap": str(LIMIT)},
    "day": {"cap": str(LIMIT), "window": "day"},
    "user": {"cap": str(LIMIT), "scope": f"user={USER}"},
}


class Engine:
    """The ledger's way, over a database of its own.

    Args:
        url: of a migrated database.
        tenants: opened with three budgets each.
    """

    def __init__(self, url: str, tenants: Sequence[str]) -> None:
        self._db = Database(url)
        self._sequencer = Sequencer(self._db.store, FixedPrices())
        self._holds = Holds(self._sequencer)
        commands: list[Command] = [
            OpenLedger(tenant, "USD", "UTC", DEFAULT_BOOK) for tenant in tenants
        ]
        for name, document in BUDGETS.items():
            terms = asks.budget_terms(document, name=name, currency="USD")
            commands.extend(SetBudget(tenant, terms) for tenant in tenants)
        _expect_all(self._submit(commands), "accepted")

    async def authorize(self, call: Call) -> Outcome:
        """Reserve."""
        answer = await self._holds.authorize_async(_ask(call), tenant=call.tenant)
        return _expect(answer, "created")

    async def capture(self, call: Call) -> Outcome:
        """Settle."""
        answer = await self._holds.capture_async(_used(call), tenant=call.tenant, hold=call.hold)
        return _expect(answer, "captured")

    def fill(self, tenant: str, count: int) -> None:
        """Authorize and capture so many calls, many a submission."""
        source = islice(baseline.calls((tenant,), user=USER, seed=count), count)
        flying: deque[tuple[str, Future[list[Outcome]]]] = deque()
        done = 0
        while batch := list(islice(source, FILL_PAIRS)):
            ask = [asks.authorize_hold(_ask(call), tenant=tenant) for call in batch]
            use = [asks.capture_hold(_used(call), tenant=tenant, hold=call.hold) for call in batch]
            flying.append(("created", self._submit(ask)))
            flying.append(("captured", self._submit(use)))
            while len(flying) > 2 * FILL_IN_FLIGHT:
                status, answers = flying.popleft()
                _expect_all(answers, status)
            done += len(batch)
            if done % 100_000 == 0:
                say(f"{done:,} past holds of {count:,}")
        for status, answers in flying:
            _expect_all(answers, status)

    def close(self) -> None:
        """Answer what waits and disconnect."""
        self._sequencer.close()
        self._db.close()

    def _submit(self, commands: Sequence[Command]) -> Future[list[Outcome]]:
        prepare = self._sequencer.prepare
        with self._sequencer.deciding:
            prepared = [prepare(command) for command in commands]
        return self._sequencer.submit(prepared)


def _ask(call: Call) -> dict[str, object]:
    return {
        "hold": call.hold,
        "provider": "openai",
        "model": call.model,
        "quantities": call.asked,
        "user": call.user,
    }


def _used(call: Call) -> dict[str, object]:
    return {"capture": call.capture, "quantities": call.used}


def _expect(outcome: Outcome, status: str) -> Outcome:
    if outcome.status != status:
        raise RuntimeError(f"{status} was expected: {outcome}")
    return outcome


def _expect_all(answers: Future[list[Outcome]], status: str) -> None:
    for outcome in answers.result():
        _expect(outcome, status)
