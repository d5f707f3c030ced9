"""Extend and progress: what happens to a hold while its call runs. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ledger.domain.authorize import define, invalid
from ledger.domain.budgets import Budget, Counter
from ledger.domain.catalog import Catalog, Rated
from ledger.domain.commands import Decision, Known, Outcome
from ledger.domain.draws import standing_of
from ledger.domain.entries import Entry
from ledger.domain.estimates import Estimate, formula, of_numbers
from ledger.domain.hold_usage import larger, micro, quantities_of, usage_of_hold
from ledger.domain.holds import (
    AVAILABLE,
    EXPIRED,
    OPEN,
    UNMATCHED,
    ExtendHold,
    HoldAnswer,
    HoldState,
    ProgressHold,
    command_digest,
)
from ledger.domain.ledger import LedgerState
from ledger.domain.postings import without_posting
from ledger.domain.promises import grown, taken, together, unreserved
from ledger.domain.protection import Protection
from ledger.domain.protection_entries import (
    Allocation,
    Binding,
    HoldEstimated,
    HoldExtended,
    HoldProgressed,
    HoldPromised,
    Promise,
    Reason,
)
from ledger.domain.usage import scaled_quantities
from ledger.domain.verdicts import ALLOW, ceilings


def extend(
    state: LedgerState, command: ExtendHold, known: Known, catalog: Catalog, now: int
) -> Decision:
    """Return what an extension does: reserve up to a target, or refuse and leave the hold."""
    guard = state.guard
    hold = guard.hold(command.hold) if guard is not None else None
    digest = command_digest(command)
    if guard is None or hold is None or hold.status == UNMATCHED:
        return _answer(state, "hold_not_found", command.hold)
    if hold.step == command.step and hold.step_digest == digest:
        return _answer(state, "exists", command.hold, hold)
    if command.step <= hold.step:
        return _answer(state, "stale_step", command.hold, hold)
    over = _over(hold)
    if over:
        return _answer(state, over, command.hold, hold)
    return _Extension(state, guard, hold, command, known, catalog, now).decide(digest)


def _over(hold: HoldState) -> str:
    """Return why a hold can neither be extended nor progress; "" if it can."""
    if hold.status == OPEN:
        return ""
    return "hold_expired" if hold.status == EXPIRED else "hold_resolved"


def _answer(
    state: LedgerState,
    status: str,
    id: str,
    hold: HoldState | None = None,
    reasons: tuple[Reason, ...] = (),
) -> Decision:
    amount = hold.amount if hold is not None else 0
    expires_at = hold.expires_at if hold is not None else 0
    detail = HoldAnswer(
        id, amount=amount, currency=state.currency, expires_at=expires_at, reasons=reasons
    )
    return Decision((), Outcome(status, detail=detail))


_EMPTY = Counter()


class _Extension:
    """One extension of one open hold.

    A target is of the hold in all: what its captures posted counts towards it.
    """

    def __init__(
        self,
        state: LedgerState,
        guard: Protection,
        hold: HoldState,
        command: ExtendHold,
        known: Known,
        catalog: Catalog,
        now: int,
    ) -> None:
        self.state = state
        self.guard = guard
        self.hold = hold
        self.command = command
        self.catalog = catalog
        self.now = now
        self.shape = state.shapes[hold.shape]
        self.standing = standing_of(state, hold, known)
        self.drawn = self._drawn_charge()
        self.used = (
            taken(self.standing.shape, self.standing.posting, state.timezone)
            if self.standing is not None
            else {}
        )
        self.asked = self._estimate() if command.quantities else None
        self.promises = self._promised()
        self.missed = unreserved(state, now)
        self.widened = self._widened()

    def _drawn_charge(self) -> int:
        """Return the charge that stands of the hold's usage."""
        standing = self.standing
        if standing is None or standing.posting is None or standing.shape is None:
            return 0
        charge: int = standing.posting.charge * standing.shape.charge_factor
        return charge

    def _drawn(self, budget: Budget) -> int:
        """Return what the hold's usage counts in a budget, in its measure."""
        standing = self.standing
        if standing is None or standing.posting is None or standing.shape is None:
            return 0
        return budget.of_posting(standing.shape, standing.posting)

    def _rate(self, quantities: Mapping[str, str]) -> tuple[Rated, tuple[int, ...]]:
        numbers, decimals = scaled_quantities(quantities)
        rated = self.catalog.rate(
            usage_of_hold(self.state, self.hold, dict(quantities)),
            numbers=numbers,
            decimals=decimals,
            occurred_at=self.now,
            book=self.state.book,
            currency=self.state.currency,
            plan=self.state.plan,
        )
        return rated, numbers

    def _estimate(self) -> Estimate:
        rated, numbers = self._rate(self.command.quantities)
        standing = self.standing
        so_far = None
        if standing is not None and standing.posting is not None and standing.shape is not None:
            # The quantities are the whole call's, also of what is recorded of it already.
            so_far = without_posting(self.state, standing.shape, standing.posting)
        return of_numbers(
            *(self.state, rated.shape, numbers, rated.charge, rated.cost, self.hold.extra),
            now=self.now,
            so_far=so_far,
            own=together(self.hold.promises, self.used),
        )

    def _promised(self) -> tuple[Promise, ...]:
        """Return what the hold promises from now on."""
        if self.asked is None:
            return self.hold.promises
        return grown(self.hold.promises, self.asked.promises, self.used)

    def _widened(self) -> int:
        """Return by how much open holds may come to more than is reserved, because of this."""
        if self.promises == self.hold.promises:
            return 0
        of = {"without": self.hold.promises, "instead": self.promises}
        return max(0, unreserved(self.state, self.now, **of) - self.missed)

    def _grown(self) -> tuple[tuple[Entry, ...], int, tuple[int, ...]]:
        """Return the estimate from now on: definition and number of its shape, quantities.

        The larger of each meter, as nothing that was reserved is released.
        """
        if self.asked is None:
            return (), self.hold.shape, ()
        factor = self.shape.quantity_factor
        before = tuple(number * factor for number in self.hold.quantities)
        meters = self.shape.meters if before else ()
        meters, micros = larger(meters, before, *micro(self.command.quantities))
        rated, numbers = self._rate(quantities_of(meters, micros))
        defined, number = define(self.state, rated.shape)
        return defined, number, numbers

    def decide(self, digest: bytes) -> Decision:
        """Return the extension, or what refuses it."""
        command, hold = self.command, self.hold
        asked = self.asked
        if asked is not None and asked.shape.unpriced and self._capped():
            unpriced = Reason("unpriced", ", ".join(asked.shape.shape.missing))
            return _answer(self.state, "denied_unpriced", hold.id, hold, (unpriced,))
        target = asked.amount if asked is not None else command.amount or 0
        if command.amount == AVAILABLE:
            left = self._left()
            if left is None:
                return invalid("reserve_to", "nothing bounds what is available; ask for a number")
            target = hold.amount + self.drawn + max(left, 0)
        bindings: list[Binding] = []
        reasons: list[Reason] = []
        for budget in self._others():
            need = self._ask(target).needs(budget)
            if need is None:
                if budget.cap and budget.terms.on_unpriced == "deny":
                    unknown = Reason("unpriced", budget.terms.name, detail="not known of this ask")
                    return _answer(self.state, "denied_unpriced", hold.id, hold, (unknown,))
                continue
            more = max(0, need - self._drawn(budget))
            start = budget.window(self.guard.timezone, hold.at)
            reason = self._refusal(budget.number, start, more)
            if reason is not None:
                reasons.append(reason)
            if more:
                bindings.append((budget.number, start, more))
        for number, start, bound in hold.bindings:
            after = max(bound, self._need(number, bound, target))
            bindings.append((number, start, after))
            reason = self._refusal(number, start, after - bound)
            if reason is not None:
                reasons.append(reason)
        amount = max(hold.amount, target - self.drawn)
        allocations, short = self._credit(amount - hold.amount)
        if short is not None:
            reasons.append(short)
        if reasons:
            return _answer(self.state, "denied_exceeds_budget", hold.id, hold, tuple(reasons))
        expires_at = self.now + command.ttl_us if command.ttl_us else hold.expires_at
        defined, shape_number, quantities = self._grown()
        same = shape_number == hold.shape
        entry = HoldExtended(
            hold.id,
            command.step,
            digest,
            self.now,
            expires_at,
            amount,
            quantities if same else (),
            tuple(bindings),
            allocations,
        )
        estimated: tuple[Entry, ...] = ()
        if quantities and not same:
            estimated = (HoldEstimated(hold.id, shape_number, quantities),)
        shape = asked.shape if asked is not None else self.shape
        detail = HoldAnswer(
            hold.id,
            ALLOW,
            amount,
            target,
            self.state.currency,
            self.shape.shape.provider,
            self.shape.shape.model,
            expires_at,
            estimate=formula(shape, asked.numbers, asked.extra) if asked is not None else (),
        )
        promised: tuple[Entry, ...] = ()
        if self.promises != hold.promises:
            promised = (HoldPromised(hold.id, self.promises),)
        entries = (*defined, entry, *estimated, *promised)
        return Decision(entries, Outcome("extended", detail=detail), at=len(defined))

    def _ask(self, target: int) -> Estimate:
        """Return what is asked for: quantities, or a charge and no more."""
        if self.asked is not None:
            return self.asked
        return Estimate(self.shape, (), 0, 0, target, self.hold.extra, by_amount=True)

    def _others(self) -> list[Budget]:
        """Return the budgets that apply and in which the hold has reserved nothing yet."""
        bound = {number for number, _, _ in self.hold.bindings}
        asked = self._ask(0)
        return [one for one in self.guard.live if one.number not in bound and asked.applies(one)]

    def _capped(self) -> bool:
        """Tell whether what has no price must not pass: credit or a cap on money asks for one."""
        guard = self.guard
        bound = [guard.budgets[number] for number, _, _ in self.hold.bindings]
        return guard.credit.required or any(
            budget.cap
            and budget.terms.is_money
            and budget.terms.on_unpriced == "deny"
            and budget.terms.state != "ended"
            for budget in (*bound, *self._others())
        )

    def _need(self, number: int, bound: int, target: int) -> int:
        """Return what the rest of the target needs in one of the hold's budgets."""
        budget = self.guard.budgets[number]
        drawn = self._drawn(budget)
        terms = budget.terms
        if self.asked is not None:
            return (self.asked.needs(budget) or 0) - drawn
        if terms.measure == "charge" and not terms.filter.meters:
            return target - drawn
        if not self.hold.quantities:
            return (self._ask(target).needs(budget) or 0) - drawn
        # What is not charge grows as the charge does.
        before = self.hold.amount + self.drawn
        return -(-(bound + drawn) * target // before) - drawn if before else bound

    def _left(self) -> int | None:
        rooms = []
        at = self.hold.at
        places = [(number, start) for number, start, _ in self.hold.bindings]
        places += [(one.number, one.window(self.guard.timezone, at)) for one in self._others()]
        for number, start in places:
            budget = self.guard.budgets[number]
            if budget.terms.measure == "charge" and budget.cap and budget.terms.state == "open":
                used = self._used(number, start)
                limits = ceilings(self.guard, budget, self.now)
                rooms += [limit - used for limit in limits if limit is not None]
        if self.guard.credit.required:
            rooms.append(self.guard.credit.free(self.shape) - self.missed)
        return min(rooms, default=None)

    def _used(self, number: int, start: int) -> int:
        budget = self.guard.budgets[number]
        missed = self.missed if budget.whole else 0
        if budget.rolls is not None:
            return sum(self.guard.used(budget, self.now)) + missed
        counter = self.guard.counters.get((number, start), _EMPTY)
        return counter.spent + counter.held + missed

    def _refusal(self, number: int, start: int, more: int) -> Reason | None:
        """Return why one of the hold's budgets cannot reserve this much more."""
        budget = self.guard.budgets[number]
        terms = budget.terms
        more += self.widened if budget.whole else 0
        if more <= 0 or terms.state == "ended":
            return None
        used = self._used(number, start)
        counter = self.guard.counters.get((number, start), _EMPTY)
        code = "budget_closed" if terms.state == "closed" else ""
        limit = terms.limit
        stop, confirm = ceilings(self.guard, budget, self.now)
        for name, ceiling in (("budget", stop), ("confirm", confirm)):
            if not code and ceiling is not None and used + more > ceiling:
                code, limit = name, ceiling
        if not code:
            return None
        return Reason(
            code, terms.name, limit, counter.spent, counter.held, more, terms.measure, start
        )

    def _credit(self, more: int) -> tuple[tuple[Allocation, ...], Reason | None]:
        credit = self.guard.credit
        had = self.hold.allocations
        if more + self.widened <= 0 or not credit.active:
            return had, None
        free = credit.free(self.shape) - self.missed
        if credit.required and more + self.widened > free:
            return had, Reason("credit", "credit", free, credit.owed, credit.held(), more, "charge")
        parts = dict(had)
        for number, part in credit.plan(self.shape, more)[0]:
            parts[number] = parts.get(number, 0) + part
        return tuple(sorted(parts.items())), None


def progress(state: LedgerState, command: ProgressHold, now: int) -> Decision:
    """Return what a checkpoint does: it is kept; no money moves."""
    guard = state.guard
    hold = guard.hold(command.hold) if guard is not None else None
    if hold is None or hold.status == UNMATCHED:
        return _answer(state, "hold_not_found", command.hold)
    meters, numbers = micro(command.quantities)
    if hold.progress_step == command.step and (hold.meters, hold.numbers) == (meters, numbers):
        return _answer(state, "exists", command.hold, hold)
    if command.step <= hold.progress_step:
        return _answer(state, "stale_step", command.hold, hold)
    over = _over(hold)
    if over:
        return _answer(state, over, command.hold, hold)
    entry = HoldProgressed(hold.id, command.step, now, meters, numbers)
    detail = HoldAnswer(
        hold.id, amount=hold.amount, currency=state.currency, expires_at=hold.expires_at
    )
    return Decision((entry,), Outcome("progressed", detail=detail))
