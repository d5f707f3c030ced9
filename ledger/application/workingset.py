"""The working set: what one batch reads before it decides, and what it writes after.

The sequencer keeps ledgers' states between batches. They are current as long as nobody else
wrote to those streams, which every batch checks under the writer lock; what others changed is
dropped and read again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from ledger.application.live import TOLD_BY, News, news_of
from ledger.application.ports import Batch, LedgerWrite, NewKey
from ledger.domain.billing_account import tenant_of_billing
from ledger.domain.catalog import Rated
from ledger.domain.commands import Command, Decision, KeyRow, Outcome
from ledger.domain.entries import (
    Commit,
    ConflictKept,
    CorrectionApplied,
    Entry,
    LedgerOpened,
    Posting,
    ShapeDefined,
    UsageAdjusted,
    UsageRecorded,
    UsageRerated,
    commit_digest,
    encode_commit,
    stream_of,
    tenant_of_stream,
)
from ledger.domain.errors import InvariantViolation
from ledger.domain.ladder import steps_reached
from ledger.domain.ledger import LedgerState, Ref, evolve

_BALANCES_KEPT = 36
_RUNNING_KEPT = 4_000
_HOLDS_KEPT = 20_000
_COUNTERS_KEPT = 2_000


class Prepared(msgspec.Struct, gc=False, frozen=True):
    """A command, and for usage its amounts, found before the lock is taken."""

    tenant: str
    command: Command
    rated: Rated | None = None


class TenantWork:
    """One tenant's part of a batch: its state, what is known, and the commit that grows.

    Satisfies `ledger.domain.decide.Known`.
    """

    __slots__ = (
        "answers",
        "commits",
        "conflicts",
        "entries",
        "has_due",
        "holds",
        "keys",
        "new_keys",
        "new_shapes",
        "news",
        "next_expiry",
        "now",
        "state",
    )

    def __init__(self, state: LedgerState, now: int = 0) -> None:
        self.state = state
        self.now = now
        self.holds: set[bytes] = set()
        self.answers: dict[bytes, int] = {}
        self.has_due = False
        self.next_expiry: int | None = None
        self.keys: dict[bytes, KeyRow] = {}
        self.commits: dict[int, Commit] = {}
        self.entries: list[Entry] = []
        self.new_keys: list[NewKey] = []
        self.new_shapes: list[tuple[int, bytes]] = []
        self.conflicts: list[int] = []
        self.news: list[News] = []
        state.start_commit()

    @property
    def version(self) -> int:
        """Return the number of the commit that grows."""
        return self.state.version + 1

    def entry(self, ref: Ref) -> Entry:
        """Return the entry at a place: of this commit, or of one that was loaded."""
        version, index = ref
        if version == self.version:
            return self.entries[index]
        try:
            return self.commits[version].entries[index]
        except (KeyError, IndexError):
            raise InvariantViolation(
                f"ledger {self.state.tenant_id} has no entry {index} in commit {version}"
            ) from None

    def standing(self) -> Iterator[UsageRecorded | Posting]:
        """Yield what entries of the commits that were loaded let stand of usage."""
        for commit in self.commits.values():
            for entry in commit.entries:
                if isinstance(entry, UsageRecorded):
                    yield entry
                elif (
                    isinstance(entry, UsageAdjusted | UsageRerated | CorrectionApplied)
                    and entry.posted is not None
                ):
                    yield entry.posted

    def since(self, version: int) -> list[Entry]:
        """Return the entries after a commit, those of this one included."""
        found = [
            entry
            for number in range(version + 1, self.version)
            for entry in self.commits[number].entries
        ]
        return found + self.entries

    def append(self, decision: Decision) -> Outcome:
        """Add a decision's entries to the commit, fold them, and return the answer."""
        outcome = decision.outcome
        if not decision.entries:
            return outcome
        state = self.state
        version = state.version + 1
        entries = self.entries
        first = len(entries)
        for index, entry in enumerate(decision.entries, first):
            entries.append(entry)
            evolve(state, entry, (version, index))
            if type(entry) is UsageRecorded:
                continue
            if type(entry) is ShapeDefined:
                self.new_shapes.append((entry.number, entry.body))
            elif type(entry) is ConflictKept:
                self.conflicts.append(index)
            elif type(entry) in TOLD_BY:
                self.news += news_of(entry, state.guard)
        if state.guard is not None:
            for step in steps_reached(state.guard, self.now):
                evolve(state, step, (version, len(entries)))
                entries.append(step)
                self.news += news_of(step, state.guard)
        place = first + decision.at
        if decision.key:
            self.keys[decision.key] = KeyRow(version, place, decision.fingerprint)
            self.new_keys.append(NewKey(decision.key, decision.fingerprint, place))
        if outcome.version:
            return outcome
        return Outcome(
            outcome.status, version, place, outcome.flags, outcome.problem, outcome.detail
        )

    def open(self) -> None:
        """Make opening the ledger the first entry of its first commit."""
        state = self.state
        opened = LedgerOpened(state.tenant, state.currency, state.timezone, state.book)
        self.entries.append(opened)
        evolve(state, opened, (1, 0))

    def write(self, now: int) -> LedgerWrite:
        """Seal the commit: number it, chain it, and return it with the rows that change."""
        state = self.state
        body = encode_commit(state.digest, now, self.entries)
        state.version += 1
        state.digest = commit_digest(stream_of(state.tenant_id), state.version, body)
        return LedgerWrite(state, body, self.new_keys, self.new_shapes, self.conflicts, self.news)


class LedgerCache:
    """States of ledgers between batches, the most recently used ones.

    Args:
        limit: most ledgers to keep.

    Attributes:
        position: notification id up to which every kept state is current.
    """

    def __init__(self, *, limit: int = 20_000) -> None:
        self._limit = limit
        self._states: OrderedDict[str, LedgerState] = OrderedDict()
        self._names: dict[int, str] = {}
        self.position = 0

    def get(self, name: str) -> LedgerState | None:
        """Return a kept state."""
        state = self._states.get(name)
        if state is not None:
            self._states.move_to_end(name)
        return state

    def peek(self, name: str) -> LedgerState | None:
        """Return a kept state without marking it used; safe from any thread."""
        return self._states.get(name)

    def keep(self, states: Iterable[LedgerState], *, position: int) -> None:
        """Keep the states of a batch that was committed, current up to ``position``."""
        for state in states:
            if len(state.balances) > _BALANCES_KEPT:
                state.forget_balances()
            if len(state.running) > _RUNNING_KEPT:
                state.running = {}
            if state.guard is not None:
                state.guard.trim(holds=_HOLDS_KEPT, counters=_COUNTERS_KEPT)
            self._states[state.tenant] = state
            self._states.move_to_end(state.tenant)
            self._names[state.tenant_id] = state.tenant
        while len(self._states) > self._limit:
            _, dropped = self._states.popitem(last=False)
            del self._names[dropped.tenant_id]
        self.position = position

    def drop(self, streams: Sequence[str] | None) -> bool:
        """Drop what others changed; None drops everything.

        Returns:
            Whether a stream changed that is no tenant's ledger: prices may be others now.
        """
        if streams is None:
            self.clear()
            return True
        others = False
        for stream in streams:
            # Who is on another plan is rated anew, so what is kept of its ledger goes too.
            tenant_id = tenant_of_stream(stream)
            if tenant_id is None:
                tenant_id = tenant_of_billing(stream)
            if tenant_id is None:
                others = True
            elif (name := self._names.pop(tenant_id, None)) is not None:
                del self._states[name]
        return others

    def clear(self) -> None:
        """Drop everything, as after a batch that failed half-way."""
        self._states.clear()
        self._names.clear()


def load_balances(batch: Batch, wanted: dict[int, tuple[LedgerState, set[str]]]) -> None:
    """Load the balances that a batch will touch into their states."""
    missing = [
        (tenant_id, period)
        for tenant_id, (state, periods) in wanted.items()
        for period in periods
        if period not in state.balances
    ]
    if missing:
        for (tenant_id, period), balance in batch.balances(missing).items():
            wanted[tenant_id][0].balances[period] = balance
