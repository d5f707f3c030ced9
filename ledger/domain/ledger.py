"""A tenant's ledger: its state, and `evolve`, which folds entries into it.

The same fold serves the write path, recovery and the audit: folding a stream from its first
commit gives exactly the rows that the write path keeps. `evolve` does no I/O, reads no clock and
changes nothing but the state it is given.

Invariants: commit numbers are gapless from 1; shape numbers are gapless from 0; per period the
balance is the sum of the standing postings; a correction's reversed posting equals what stood.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ledger.domain.amounts import running_after, session_amounts
from ledger.domain.balance import Balance
from ledger.domain.entries import (
    ConflictKept,
    CorrectionApplied,
    Entry,
    LedgerOpened,
    Posting,
    ShapeDefined,
    UsageAdjusted,
    UsageRecorded,
    UsageRerated,
    UsageVoided,
)
from ledger.domain.errors import InvariantViolation
from ledger.domain.periods import Period, period_of
from ledger.domain.plan_rates import RUNNING
from ledger.domain.protection import Protection
from ledger.domain.protection_entries import ChargeReversed
from ledger.domain.protection_folds import FOLDS as PROTECTION_FOLDS
from ledger.domain.shapes import CompiledShape, shape_from_body
from ledger.domain.tenant_plans import TenantPlan
from ledger.domain.usage import key_digest

Ref = tuple[int, int]
"""Commit number and place in the commit: where an entry is."""


@dataclass(slots=True)
class CorrectionState:
    """What corrections say of one event.

    Attributes:
        void: where its void is.
        adjust: where its adjustment is.
        standing: where the entry is whose posting stands; None before the event is here.
        reversed: charge taken back by reversals, x 10^18.
        returned: of that, what grants got back, by number.
        forgiven: of that, what was owed.
    """

    void: Ref | None = None
    adjust: Ref | None = None
    standing: Ref | None = None
    reversed: int = 0
    returned: tuple[tuple[int, int], ...] = ()
    forgiven: int = 0


_NO_PERIOD = Period("", 0, 0)


@dataclass(slots=True, frozen=True)
class UnpricedUsage:
    """A standing event without a price.

    Attributes:
        source: the event's source.
        id: the event's id.
        provider: of its shape.
        model: of its shape.
        occurred_at: microseconds since the epoch.
    """

    source: str
    id: str
    provider: str
    model: str
    occurred_at: int


@dataclass(slots=True)
class LedgerState:
    """The state of one tenant's ledger.

    Attributes:
        tenant_id: number of the tenant in this database.
        tenant: its name.
        currency: of charges.
        timezone: of days and periods.
        book: sell price book.
        version: number of the last commit, 0 before the first.
        digest: digest of the last commit.
        shapes: by number.
        numbers: numbers by shape body.
        balances: by period name; the write path loads those that it touches.
        corrections: by the digest of the corrected event's key.
        pending: corrections whose event has not arrived.
        accumulators: running quantities x 10^6 of sessions, by accumulator key.
        plan: what the tenant's plan charges; None for list prices. As prices, no entry says it.
        running: running quantities x 10^6 of the plan's charges, by accumulator key, and what open
            holds promise and reserve of them; the write path loads those that it touches.
        ran: keys of those that a commit changed.
        partial: ``running`` has only what was loaded; else what it has not is 0.
        conflicts: conflicting payloads kept.
        unpriced: by the digest of the event's key, what stands unpriced; None once it no longer
            does. The write path starts each commit with an empty one.
        guard: budgets, holds, credit and entitlements; None before the first of them.
        touched: names of the periods whose balance a commit changed.
        loaded: a period whose balance is here for sure, a shortcut.
    """

    tenant_id: int
    tenant: str
    currency: str = "USD"
    timezone: str = "UTC"
    book: str = "default"
    version: int = 0
    digest: bytes = b""
    shapes: list[CompiledShape] = field(default_factory=list)
    numbers: dict[bytes, int] = field(default_factory=dict)
    balances: dict[str, Balance] = field(default_factory=dict)
    corrections: dict[bytes, CorrectionState] = field(default_factory=dict)
    pending: int = 0
    accumulators: dict[str, int] = field(default_factory=dict)
    plan: TenantPlan | None = None
    running: dict[str, int] = field(default_factory=dict)
    ran: set[str] = field(default_factory=set)
    partial: bool = False
    conflicts: int = 0
    unpriced: dict[bytes, UnpricedUsage | None] = field(default_factory=dict)
    guard: Protection | None = None
    touched: set[str] = field(default_factory=set)
    loaded: Period = _NO_PERIOD
    _period: Period = _NO_PERIOD
    _balance: Balance | None = None

    def period(self, at: int) -> Period:
        """Return the period of an instant."""
        period = self._period
        if period.start <= at < period.end:
            return period
        self._period = period_of(self.timezone, at)
        self._balance = None
        return self._period

    def balance(self, at: int) -> Balance:
        """Return the balance of the period that holds an instant, new if there is none."""
        period = self._period
        if period.start <= at < period.end and self._balance is not None:
            return self._balance
        name = self.period(at).name
        balance = self.balances.get(name)
        if balance is None:
            balance = self.balances[name] = Balance(name)
        self._balance = balance
        self.loaded = self._period
        self.touched.add(name)
        return balance

    def forget_balances(self) -> None:
        """Forget all balances; whoever needs one loads it again."""
        self.balances = {}
        self.loaded = _NO_PERIOD
        self._balance = None

    def so_far(self, key: str) -> int:
        """Return a running quantity x 10^6 by its accumulator key.

        Raises:
            InvariantViolation: it was not loaded.
        """
        if key[:1] != RUNNING:
            return self.accumulators.get(key, 0)
        quantity = self.running.get(key)
        if quantity is None:
            if self.partial:
                raise InvariantViolation(
                    f"ledger {self.tenant_id}: the running quantity {key!r} was not loaded"
                )
            return 0
        return quantity

    def run_to(self, after: Mapping[str, int]) -> None:
        """Take note of running quantities as they have become, by accumulator key."""
        for key, quantity in after.items():
            if key[:1] == RUNNING:
                self.running[key] = quantity
                self.ran.add(key)
            else:
                self.accumulators[key] = quantity

    def start_commit(self) -> None:
        """Forget what is kept for one commit only; balances and shapes stay."""
        self._balance = None
        self.touched = set()
        self.corrections = {}
        self.accumulators = {}
        self.ran = set()
        self.unpriced = {}
        if self.guard is not None:
            self.guard.start_commit()

    def protection(self) -> Protection:
        """Return the ledger's protection, new if it has none."""
        if self.guard is None:
            self.guard = Protection(self.timezone)
        return self.guard


def evolve(state: LedgerState, entry: Entry, ref: Ref) -> LedgerState:
    """Fold one entry into the state it is given, and return that state.

    Args:
        state: owned by the caller; changed in place.
        entry: the next entry of the stream.
        ref: where the entry is.

    Raises:
        InvariantViolation: the entry cannot follow in this stream.
    """
    try:
        if type(entry) is UsageRecorded:
            _fold_usage(state, entry, ref)
        else:
            _FOLDS[type(entry)](state, entry, ref)  # type: ignore[operator] # keyed by its type
    except (IndexError, ValueError) as error:
        raise InvariantViolation(
            f"ledger {state.tenant_id}: entry {ref[1]} of commit {ref[0]} does not fit its shape"
        ) from error
    return state


def _fold_usage(state: LedgerState, entry: UsageRecorded, ref: Ref) -> None:
    shape = state.shapes[entry.shape]
    at = entry.occurred_at
    balance = state.balance(at)
    quantities = balance.quantities
    factor = shape.quantity_factor
    meters = shape.meters
    if len(meters) != len(entry.quantities):
        raise ValueError("the entry has not as many quantities as its shape has meters")
    for meter, number in zip(meters, entry.quantities):  # noqa: B905 - lengths were compared
        quantities[meter] = quantities.get(meter, 0) + number * factor
    balance.events += 1
    if shape.waits:
        balance.unpriced += 1
        _mark_unpriced(state, shape, entry.id, at)
    if not shape.unpriced:
        balance.charge += entry.charge * shape.charge_factor
        if entry.cost:
            cost = entry.cost * shape.cost_factor
            costs = balance.costs
            costs[shape.cost_currency] = costs.get(shape.cost_currency, 0) + cost
        if shape.stateful:
            _accumulate(state, shape, entry, 1)
    if state.pending:
        correction = state.corrections.get(key_digest(shape.shape.source, entry.id))
        if correction is not None and correction.standing is None:
            correction.standing = ref
            state.pending -= 1
    guard = state.guard
    if guard is not None:
        guard.count(shape, entry, 1, at)
        guard.recorded(ref)


def _mark_unpriced(state: LedgerState, shape: CompiledShape, id: str, at: int) -> None:
    was = shape.shape
    usage = UnpricedUsage(was.source, id, was.provider, was.model, at)
    state.unpriced[key_digest(was.source, id)] = usage


def _replace_posting(
    state: LedgerState, source: str, id: str, reversed_: Posting, posted: Posting | None
) -> None:
    """Take one posting of an event back and let another, or none, stand in its place."""
    _fold_posting(state, reversed_, -1)
    if state.shapes[reversed_.shape].waits:
        state.unpriced[key_digest(source, id)] = None
    if posted is None:
        state.balance(reversed_.occurred_at).voided += 1
        return
    _fold_posting(state, posted, 1)
    shape = state.shapes[posted.shape]
    if shape.waits:
        _mark_unpriced(state, shape, id, posted.occurred_at)


def _fold_posting(state: LedgerState, posting: Posting, sign: int) -> None:
    """Add (1) or take back (-1) a posting; the counts of events stay with the callers."""
    shape = state.shapes[posting.shape]
    balance = state.balance(posting.occurred_at)
    if state.guard is not None:
        state.guard.count(shape, posting, sign, posting.occurred_at)
    quantities = balance.quantities
    factor = shape.quantity_factor * sign
    for meter, number in zip(shape.shape.meters, posting.quantities, strict=True):
        quantities[meter] = quantities.get(meter, 0) + number * factor
    if shape.waits:
        balance.unpriced += sign
    if shape.unpriced:
        return
    balance.charge += posting.charge * shape.charge_factor * sign
    if posting.cost:
        cost = posting.cost * shape.cost_factor * sign
        balance.costs[shape.cost_currency] = balance.costs.get(shape.cost_currency, 0) + cost
    if shape.stateful:
        _accumulate(state, shape, posting, sign)


def session_of_period(timezone: str, session: str, at: int) -> str:
    """Return what names a session's part in the period of an instant; "" without a session.

    Quantities are rounded over a session within a period: were they rounded across its end,
    the order of arrival would say which of two months pays for the rounding.
    """
    return f"{session}\t{period_of(timezone, at).name}" if session else ""


def _accumulate(
    state: LedgerState, shape: CompiledShape, posting: Posting | UsageRecorded, sign: int
) -> None:
    extra, at = posting.extra, posting.occurred_at
    session = session_of_period(state.timezone, extra.session if extra is not None else "", at)
    if session or shape.tracks:
        signed = [sign * number for number in posting.quantities]
        of = (shape, signed, session, state.so_far)
        state.run_to(running_after(*of, timezone=state.timezone, at=at))


def amounts_now(
    state: LedgerState,
    shape: CompiledShape,
    numbers: Sequence[int],
    session: str,
    at: int,
    so_far: Callable[[str], int] | None = None,
) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, int]]:
    """Return what quantities come to upon a ledger's running quantities; see `session_amounts`.

    Args:
        state: of the ledger.
        shape: a stateful one.
        numbers: quantities in the shape's decimals; negative to take back.
        session: as `session_of_period` names it.
        at: when.
        so_far: running quantities other than the state's.
    """
    return session_amounts(
        *(shape, numbers, session, so_far or state.so_far), timezone=state.timezone, at=at
    )


def _fold_opened(state: LedgerState, entry: LedgerOpened, ref: Ref) -> None:
    if ref != (1, 0):
        raise InvariantViolation(f"ledger {state.tenant_id} opens again at {ref}")
    state.tenant = entry.tenant
    state.currency = entry.currency
    state.timezone = entry.timezone
    state.book = entry.book


def _fold_shape(state: LedgerState, entry: ShapeDefined, ref: Ref) -> None:
    if entry.number != len(state.shapes):
        raise InvariantViolation(
            f"ledger {state.tenant_id}: shape {entry.number} at {ref}, expected {len(state.shapes)}"
        )
    shape = shape_from_body(entry.body)
    state.shapes.append(shape)
    state.numbers[shape.body] = entry.number


def _correction(state: LedgerState, source: str, target_id: str) -> CorrectionState:
    return state.corrections.setdefault(key_digest(source, target_id), CorrectionState())


def _fold_voided(state: LedgerState, entry: UsageVoided, ref: Ref) -> None:
    correction = _correction(state, entry.target_source, entry.target_id)
    if correction == CorrectionState() and entry.reversed is None:
        state.pending += 1
    correction.void = ref
    if entry.reversed is not None:
        _replace_posting(state, entry.target_source, entry.target_id, entry.reversed, None)
        correction.standing = ref


def _fold_adjusted(state: LedgerState, entry: UsageAdjusted, ref: Ref) -> None:
    correction = _correction(state, entry.target_source, entry.target_id)
    if correction == CorrectionState() and entry.reversed is None:
        state.pending += 1
    correction.adjust = ref
    if entry.reversed is not None and entry.posted is not None:
        _replace_posting(state, entry.target_source, entry.target_id, entry.reversed, entry.posted)
        correction.standing = ref


def _fold_rerated(state: LedgerState, entry: UsageRerated, ref: Ref) -> None:
    _replace_posting(state, entry.target_source, entry.target_id, entry.reversed, entry.posted)
    _correction(state, entry.target_source, entry.target_id).standing = ref


def _fold_applied(state: LedgerState, entry: CorrectionApplied, ref: Ref) -> None:
    _replace_posting(state, entry.target_source, entry.target_id, entry.reversed, entry.posted)
    _correction(state, entry.target_source, entry.target_id).standing = ref


def _fold_conflict(state: LedgerState, entry: ConflictKept, ref: Ref) -> None:
    del entry, ref
    state.conflicts += 1


def _fold_reversed(state: LedgerState, entry: ChargeReversed, ref: Ref) -> None:
    """Take part of an event's charge back, or, negative, undo that."""
    del ref
    state.balance(entry.occurred_at).charge -= entry.amount
    correction = _correction(state, entry.target_source, entry.target_id)
    correction.reversed += entry.amount
    guard = state.guard
    if guard is not None:
        guard.count_reversal(state.shapes[entry.shape], entry)
    extra = entry.extra
    if extra is not None and (extra.credit or extra.owed):
        sign = 1 if entry.amount >= 0 else -1
        correction.returned = _merged(correction.returned, extra.credit, sign)
        correction.forgiven += sign * extra.owed


def _merged(
    parts: tuple[tuple[int, int], ...], more: tuple[tuple[int, int], ...], sign: int
) -> tuple[tuple[int, int], ...]:
    """Return the sums of two lists of parts by number."""
    sums = dict(parts)
    for number, amount in more:
        sums[number] = sums.get(number, 0) + sign * amount
    return tuple((number, amount) for number, amount in sorted(sums.items()) if amount)


def _fold_protection(state: LedgerState, entry: Entry, ref: Ref) -> None:
    guard = state.protection()
    PROTECTION_FOLDS[type(entry)](guard, entry, ref)
    if guard.moved:
        moved, guard.moved = guard.moved, []
        for key, change in moved:
            state.run_to({key: state.so_far(key) + change})


_FOLDS = {
    LedgerOpened: _fold_opened,
    ShapeDefined: _fold_shape,
    UsageVoided: _fold_voided,
    UsageAdjusted: _fold_adjusted,
    UsageRerated: _fold_rerated,
    CorrectionApplied: _fold_applied,
    ConflictKept: _fold_conflict,
    ChargeReversed: _fold_reversed,
    **dict.fromkeys(PROTECTION_FOLDS, _fold_protection),
}


def standing_posting(entry: Entry) -> Posting | None:
    """Return the posting that stands after an entry; None after a void.

    Raises:
        InvariantViolation: the entry posts nothing.
    """
    if isinstance(entry, UsageRecorded):
        return Posting(
            entry.shape,
            entry.occurred_at,
            entry.quantities,
            entry.charge,
            entry.cost,
            entry.extra,
        )
    if isinstance(entry, UsageAdjusted | UsageRerated | CorrectionApplied):
        return entry.posted
    if isinstance(entry, UsageVoided):
        return None
    raise InvariantViolation(f"{type(entry).__name__} posts nothing")
