"""Many processes at one cap: exactly as many calls are allowed as fit, and each hold ends once.

The workers are this file, run as a script: each is a process with a ledger of its own.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from adapters.bootstrap import Tallybook, open_ledger
from ledger.application.verify import verify
from ledger.domain.entries import decode_commit
from ledger.domain.holds import ExpireHolds
from ledger.domain.prices import PriceKey, PriceKind, PriceRow
from ledger.domain.protection_entries import (
    HoldAuthorized,
    HoldCaptured,
    HoldExpired,
    HoldRefused,
    HoldVoided,
)

TENANT = "acme"
PROCESSES = 8
IN_FLIGHT = 64
ROUNDS = 2
FITTING = 700
PRICE = Decimal("0.01")
CALL = {"tokens.output": 1000}
HOLDS_AT_EXPIRY = 60


def prepare(tallybook: Tallybook) -> None:
    """Open the ledger and price the call."""
    tallybook.tenants.open(TENANT, currency="USD", timezone="UTC", book="default")
    row = PriceRow(
        key=PriceKey("openai", "gpt", "tokens.output"),
        effective_from=datetime(2020, 1, 1, tzinfo=UTC),
        rate=Decimal(10),
        unit_size=Decimal(1_000_000),
    )
    tallybook.prices.set(row, kind=PriceKind.COST, by="test")
    tallybook.prices.set(row, kind=PriceKind.SELL, book="default", by="test")


def ask(id: str, **members: object) -> dict[str, object]:
    """Return the ask of one call."""
    return {"hold": id, "provider": "openai", "model": "gpt", "quantities": CALL, **members}


def entries(tallybook: Tallybook) -> list[Any]:
    """Return the tenant's entries, read from the log."""
    with tallybook.audit() as view:
        return [
            entry
            for stored in view.commits()
            for commit in stored
            for entry in decode_commit(commit.state).entries
        ]


def is_end(entry: Any) -> bool:
    """Tell whether an entry ends an open hold."""
    if isinstance(entry, HoldCaptured):
        return entry.final and "late" not in entry.flags
    return isinstance(entry, HoldExpired | HoldVoided)


def assert_sound(tallybook: Tallybook) -> None:
    """Assert that the state rows say what the log says."""
    with tallybook.audit() as view:
        report = verify(view=view, deep=True)
    assert report.clean, report.differences


class Workers:
    """Processes that start together.

    Args:
        url: of the database.
        modes: what each of them does, with its arguments.
    """

    def __init__(self, url: str, modes: Iterable[Sequence[str]]) -> None:
        self.processes = [
            subprocess.Popen(
                [sys.executable, __file__, url, *mode],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for mode in modes
        ]

    def run(self) -> list[Any]:
        """Wait until all are ready, let them go, and return what each one says."""
        for process in self.processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        results = []
        for process in self.processes:
            out, _ = process.communicate(timeout=50)
            assert process.returncode == 0
            results.append(json.loads(out))
        return results

    def end(self) -> None:
        """Leave no process behind."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.communicate()


@contextmanager
def workers(url: str, modes: Iterable[Sequence[str]]) -> Iterator[Workers]:
    """Start workers, and end them whatever happens."""
    group = Workers(url, modes)
    try:
        yield group
    finally:
        group.end()


def test_as_many_calls_are_allowed_as_fit_below_a_cap_and_no_more(database_url: str) -> None:
    """8 processes with 64 asks in flight each: N fit, N are allowed; held + spent = the limit."""
    asked = PROCESSES * IN_FLIGHT * ROUNDS
    limit = FITTING * PRICE
    with open_ledger(database_url) as tallybook:
        prepare(tallybook)
        for name, window in (("ever", "lifetime"), ("daily", "rolling:2d")):
            tallybook.budgets.set(
                {"cap": str(limit), "window": window}, tenant=TENANT, name=name, by="test"
            )
        names = [("authorize", str(number)) for number in range(PROCESSES)]
        with workers(database_url, names) as group:
            answers = [answer for worker in group.run() for answer in worker]
        assert len({id for id, _ in answers}) == asked
        codes = Counter(code for _, code in answers)
        assert codes == {"created": FITTING, "denied_exceeds_budget": asked - FITTING}

        log = entries(tallybook)
        assert sum(isinstance(one, HoldAuthorized) for one in log) == FITTING
        assert sum(isinstance(one, HoldRefused) for one in log) == asked - FITTING
        for budget in tallybook.budgets.list(tenant=TENANT):
            assert (budget.spent, budget.held) == (0, limit * 10**18)

        with workers(database_url, [("capture", str(n)) for n in range(PROCESSES)]) as group:
            group_answers = group.run()
        captures = Counter(code for worker in group_answers for _, code in worker)
        # Whoever captures a hold that was refused records usage all the same, but nobody does.
        assert captures == {"captured": FITTING}
        for budget in tallybook.budgets.list(tenant=TENANT):
            assert (budget.spent, budget.held) == (limit * 10**18, 0)
        charged = sum(one.decimal_charge() for one in tallybook.reads.balances(TENANT))
        assert charged == limit
        late = tallybook.holds.authorize(ask("one-more"), tenant=TENANT)
        assert late.status == "denied_exceeds_budget"
        assert_sound(tallybook)


def test_a_hold_ends_once_though_sweepers_and_captures_race_at_its_expiry(
    database_url: str,
) -> None:
    """Two sweepers and two capturers at the moment of expiry: one end each, the charge exact."""
    with open_ledger(database_url) as tallybook:
        prepare(tallybook)
        tallybook.budgets.set({"cap": "100"}, tenant=TENANT, name="cap", by="test")
        modes = [("sweep",), ("sweep",), ("race", "0"), ("race", "1")]
        with workers(database_url, modes) as group:
            for number in range(HOLDS_AT_EXPIRY):
                outcome = tallybook.holds.authorize(ask(f"h-{number}", ttl=1), tenant=TENANT)
                assert outcome.status == "created"
            results = group.run()
        codes = Counter(code for worker in results[2:] for _, code in worker)
        assert set(codes) <= {"captured", "captured_late", "exists"}
        # Both capturers send the same captures: one of the two posts each.
        assert codes["exists"] == HOLDS_AT_EXPIRY
        ends = Counter(entry.id for entry in entries(tallybook) if is_end(entry))
        assert ends == {f"h-{number}": 1 for number in range(HOLDS_AT_EXPIRY)}
        [budget] = tallybook.budgets.list(tenant=TENANT)
        assert (budget.spent, budget.held) == (HOLDS_AT_EXPIRY * PRICE * 10**18, 0)
        assert_sound(tallybook)


# -- what a worker does -------------------------------------------------------------------


async def _authorize(tallybook: Tallybook, name: str) -> list[tuple[str, str]]:
    answers = []
    for turn in range(ROUNDS):
        ids = [f"{name}-{turn}-{number}" for number in range(IN_FLIGHT)]
        outcomes = await asyncio.gather(
            *(tallybook.holds.authorize_async(ask(id, ttl=3600), tenant=TENANT) for id in ids)
        )
        answers += [(id, one.status) for id, one in zip(ids, outcomes, strict=True)]
    return answers


async def _capture(tallybook: Tallybook, name: str) -> list[tuple[str, str]]:
    """Capture those of the worker's holds that are open; asking again says which."""
    answers = []
    for turn in range(ROUNDS):
        ids = [f"{name}-{turn}-{number}" for number in range(IN_FLIGHT)]
        again = await asyncio.gather(
            *(tallybook.holds.authorize_async(ask(id, ttl=3600), tenant=TENANT) for id in ids)
        )
        held = [id for id, one in zip(ids, again, strict=True) if one.status == "exists"]
        outcomes = await asyncio.gather(
            *(
                tallybook.holds.capture_async(
                    {"capture": f"c-{id}", "quantities": CALL}, tenant=TENANT, hold=id
                )
                for id in held
            )
        )
        answers += [(id, one.status) for id, one in zip(held, outcomes, strict=True)]
    return answers


def _sweep(tallybook: Tallybook) -> list[tuple[str, str]]:
    sequencer = tallybook.sequencer
    for _ in range(150):
        sequencer.submit([sequencer.prepare(ExpireHolds(TENANT))]).result()
        time.sleep(0.01)
    return []


def _race(tallybook: Tallybook, name: str) -> list[tuple[str, str]]:
    """Capture all holds one by one, in one order or the other."""
    answers = []
    for number in range(HOLDS_AT_EXPIRY) if name == "0" else reversed(range(HOLDS_AT_EXPIRY)):
        document = {"capture": f"c-{number}", "quantities": CALL}
        outcome = tallybook.holds.capture(document, tenant=TENANT, hold=f"h-{number}")
        answers.append((f"h-{number}", outcome.status))
        # The captures are spread over the second at whose end the holds expire, and the next.
        time.sleep(0.03)
    return answers


def _work(url: str, mode: str, *arguments: str) -> None:
    with open_ledger(url) as tallybook:
        tallybook.sequencer.catalog()
        print("ready", flush=True)
        sys.stdin.readline()
        if mode == "authorize":
            result = asyncio.run(_authorize(tallybook, *arguments))
        elif mode == "capture":
            result = asyncio.run(_capture(tallybook, *arguments))
        else:
            result = _sweep(tallybook) if mode == "sweep" else _race(tallybook, *arguments)
    print(json.dumps(result))


if __name__ == "__main__":
    _work(*sys.argv[1:])
