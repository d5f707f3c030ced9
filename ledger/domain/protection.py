"""Protection: the part of a ledger's state that guards spend; `protection_folds` change it.

A ledger has it from its first entry of that kind on. Invariants: a counter's held is the sum of
the open holds' bindings to it; a grant's held is the sum of their allocations; a hold leaves
``open`` once; what a commit changed is in the ``touched`` sets, for the write path.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ledger.domain.budgets import CHARGE, Budget, Counter
from ledger.domain.credits import CreditBook
from ledger.domain.entitlements import Entitlements, entitlements_of
from ledger.domain.holds import (
    OPEN,
    UNMATCHED,
    HoldState,
    hold_digest,
)
from ledger.domain.periods import LATEST_US
from ledger.domain.plan_rates import promised_key, reserved_key
from ledger.domain.protection_entries import (
    Allocation,
    Binding,
    ChargeReversed,
    Promise,
)
from ledger.domain.shapes import CompiledShape

if TYPE_CHECKING:
    from ledger.domain.entries import Posting, UsageRecorded

_Ref = tuple[int, int]
CounterKey = tuple[int, int]
"""Number of a budget and start of one of its windows, or buckets."""


class Protection:
    """Budgets, holds, credit and entitlements of one ledger.

    Attributes:
        timezone: of the ledger.
        budgets: by number; ended ones too.
        names: numbers by name, of budgets that are not ended.
        counters: by `CounterKey`; the write path loads those that it touches.
        holds: by `hold_digest`; the write path loads those that it touches.
        credit: grants.
        entitlements: what the tenant may use.
        entitlements_body: their stored form, b"" before any were set.
        capped: a cap was set, or waived in as many words.
        next_expiry: nothing expires before; may be too early, never too late.
        moved: accumulator keys of plans' charges, and by how much the entry that was just folded
            changes what open holds promise and reserve there.
        head_touched: ``capped``, ``next_expiry``, entitlements, credit policy or what is owed
            changed.
        stored: the ledger's row of it is written.
        touched_budgets: numbers.
        touched_counters: keys.
        touched_holds: digests.
        awaiting: the hold that was just drawn upon, whose usage event follows.
    """

    __slots__ = (
        "_dirty",
        "_owed",
        "awaiting",
        "budgets",
        "capped",
        "counters",
        "credit",
        "entitlements",
        "entitlements_body",
        "head_touched",
        "holds",
        "live",
        "moved",
        "names",
        "next_expiry",
        "stored",
        "timezone",
        "touched_budgets",
        "touched_counters",
        "touched_holds",
    )

    def __init__(self, timezone: str) -> None:
        self.timezone = timezone
        self.budgets: list[Budget] = []
        self.live: list[Budget] = []
        self.names: dict[str, int] = {}
        self.counters: dict[CounterKey, Counter] = {}
        self.holds: dict[bytes, HoldState] = {}
        self.credit = CreditBook()
        self.entitlements = Entitlements()
        self.entitlements_body = b""
        self.capped = False
        self.next_expiry = LATEST_US
        self.moved: list[tuple[str, int]] = []
        self.head_touched = False
        self.stored = False
        self.touched_budgets: set[int] = set()
        self.touched_counters: set[CounterKey] = set()
        self.touched_holds: set[bytes] = set()
        self.awaiting: HoldState | None = None
        self._dirty: set[CounterKey] = set()
        self._owed = 0

    # -- between commits --------------------------------------------------------------

    def start_commit(self) -> None:
        """Forget what the last commit touched."""
        self.head_touched = False
        self.touched_budgets = set()
        self.touched_counters = set()
        self.touched_holds = set()
        self._dirty = set()
        self.credit.touched = set()
        self._owed = self.credit.owed

    def head_changed(self) -> bool:
        """Tell whether the row of the ledger's protection must be written."""
        return self.head_touched or self.credit.owed != self._owed

    def trim(self, *, holds: int, counters: int) -> None:
        """Forget holds that are over, and everything above these counts; it is loaded again."""
        if self.touched_holds:
            for digest in self.touched_holds:
                hold = self.holds.get(digest)
                if hold is not None and hold.status != OPEN:
                    del self.holds[digest]
        if len(self.holds) > holds:
            self.holds = {}
        if len(self.counters) > counters:
            self.counters = {}

    def load_budgets(self, budgets: Iterable[Budget]) -> None:
        """Take the budgets of a ledger, in order of their numbers."""
        self.budgets = list(budgets)
        self.index()

    def index(self) -> None:
        """Say which budgets are not ended, after one changed."""
        self.live = [one for one in self.budgets if one.terms.state != "ended"]
        self.names = {one.terms.name: one.number for one in self.live}

    def load_entitlements(self, body: bytes) -> None:
        """Take the stored form of entitlements."""
        self.entitlements_body = body
        self.entitlements = entitlements_of(body)

    # -- counters ---------------------------------------------------------------------

    def counter(self, key: CounterKey) -> Counter:
        """Return a counter to be changed, new if there is none."""
        counter = self.counters.get(key)
        if counter is None:
            counter = self.counters[key] = Counter()
        self.touched_counters.add(key)
        self._dirty.add(key)
        return counter

    def take_dirty(self) -> list[CounterKey]:
        """Return the counters that changed since this was last asked, in order."""
        if not self._dirty:
            return []
        dirty = sorted(self._dirty)
        self._dirty = set()
        return dirty

    def used(self, budget: Budget, at: int) -> tuple[int, int]:
        """Return spent and held of the window that holds an instant."""
        start = budget.window(self.timezone, at)
        if budget.rolls is None:
            counter = self.counters.get((budget.number, start))
            return (counter.spent, counter.held) if counter is not None else (0, 0)
        count, length = budget.rolls
        spent = held = 0
        for back in range(count + 1):
            counter = self.counters.get((budget.number, start - back * length))
            if counter is not None:
                spent += counter.spent
                held += counter.held
        return spent, held

    def count(
        self, shape: CompiledShape, posting: Posting | UsageRecorded, sign: int, at: int
    ) -> None:
        """Count a posting in every budget that it applies to, and in credit."""
        extra = posting.extra
        for budget in self.live:
            if budget.applies(shape, extra):
                amount = budget.of_posting(shape, posting)
                if amount:
                    key = (budget.number, budget.window(self.timezone, at))
                    self.counter(key).spent += sign * amount
        if extra is not None and (extra.credit or extra.owed):
            self.credit.post(extra, sign)

    def count_reversal(self, shape: CompiledShape, entry: ChargeReversed) -> None:
        """Take a reversed charge out of the budgets that count all of an event's charge."""
        extra = entry.extra
        for budget in self.live:
            terms = budget.terms
            if terms.measure == CHARGE and not terms.filter.meters and budget.applies(shape, extra):
                key = (budget.number, budget.window(self.timezone, entry.occurred_at))
                self.counter(key).spent -= entry.amount
        if extra is not None and (extra.credit or extra.owed):
            self.credit.post(extra, -1 if entry.amount >= 0 else 1)

    def recorded(self, ref: _Ref) -> None:
        """Note where the usage event of the hold that was just drawn upon is."""
        hold = self.awaiting
        if hold is not None:
            hold.usage_version, hold.usage_index = ref
            self.awaiting = None

    # -- holds ------------------------------------------------------------------------

    def hold(self, id: str) -> HoldState | None:
        """Return a hold that is loaded."""
        return self.holds.get(hold_digest(id))

    def due(self, now: int) -> list[HoldState]:
        """Return the loaded open holds whose time is over, by expiry and id."""
        if now < self.next_expiry:
            return []
        due = [one for one in self.holds.values() if one.status == OPEN and one.expires_at <= now]
        due.sort(key=lambda one: (one.expires_at, one.id))
        return due

    def touch(self, id: str) -> HoldState:
        """Return a hold to be changed, one that was never authorized if there is none."""
        digest = hold_digest(id)
        hold = self.holds.get(digest)
        if hold is None:
            hold = self.holds[digest] = HoldState(id, UNMATCHED)
        self.touched_holds.add(digest)
        return hold

    def _bind(self, bindings: Iterable[Binding], sign: int) -> None:
        for number, start, amount in bindings:
            self.counter((number, start)).held += sign * amount

    def keep(
        self, hold: HoldState, bindings: tuple[Binding, ...], allocations: tuple[Allocation, ...]
    ) -> None:
        """Let a hold reserve this and nothing else."""
        if hold.bindings:
            self._bind(hold.bindings, -1)
        if bindings:
            self._bind(bindings, 1)
        if hold.allocations or allocations:
            # What is kept is reserved before the rest is released: releasing pays what is owed.
            self.credit.reserve(allocations)
            self.credit.reserve(hold.allocations, -1)
        hold.bindings = bindings
        hold.allocations = allocations

    def promise(self, hold: HoldState, promises: tuple[Promise, ...]) -> None:
        """Let a hold promise this and nothing else."""
        for sign, of in ((-1, hold.promises), (1, promises)):
            for key, quantity, amount in of:
                self.moved.append((promised_key(key), sign * quantity))
                self.moved.append((reserved_key(key), sign * amount))
        hold.promises = promises

    def end(self, hold: HoldState, status: str) -> None:
        """Let a hold be over, so that it reserves nothing any more."""
        hold.status = status
        hold.amount = 0
        self.keep(hold, (), ())
        if hold.promises:
            self.promise(hold, ())

    def expires(self, at: int) -> None:
        """Take note that something expires then, microseconds since the epoch."""
        if at < self.next_expiry:
            self.next_expiry = at
            self.head_touched = True
