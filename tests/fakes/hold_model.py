"""Cost protection in plain Python, written from docs/spec/holds.md: the obvious way, with lists.

It keeps what was accepted (usage, holds, budgets, confirmations) and computes every sum anew out
of that, in `Decimal`. It knows nothing of entries, shapes, counters or scaled integers; the state
machine in tests/property compares it with the ledger after every step. Instants are microseconds
since the epoch, the zone is UTC, there is one provider, and credit is a model of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal, NamedTuple

SECOND = 1_000_000
UNITS = {"m": 60 * SECOND, "h": 3600 * SECOND, "d": 86400 * SECOND}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SOURCE = "tallybook:hold"
EXPIRY = "tallybook:expiry"
ZERO = Decimal(0)
LEAST = Decimal(1).scaleb(-18)
Quantities = dict[str, Decimal]
Available = Literal["available"]


class Price(NamedTuple):
    """What one unit of a meter sells for and costs."""

    sell: Decimal
    cost: Decimal


PRICES: dict[str, dict[str, Price]] = {
    "big": {
        "tokens.input": Price(Decimal(2), Decimal(1)),
        "tokens.output": Price(Decimal(5), Decimal(3)),
    },
    "small": {
        "tokens.input": Price(Decimal(1), Decimal("0.5")),
        "tokens.output": Price(Decimal(2), Decimal("1.5")),
    },
}
"""Prices by model and meter; a model that is not here has none."""


@dataclass(frozen=True)
class Rung:
    """A step of a ladder, at a threshold in the budget's measure."""

    kind: str
    at: Decimal
    model: str = ""


@dataclass(frozen=True)
class Terms:
    """A budget's terms; empty filters admit everything."""

    name: str
    limit: Decimal
    steps: tuple[Rung, ...]
    scope: str = "tenant"
    value: str = ""
    models: tuple[str, ...] = ()
    meters: tuple[str, ...] = ()
    measure: str = "charge"
    window: str = "day"
    on_unpriced: str = "deny"
    state: str = "open"

    @property
    def cap(self) -> bool:
        """Tell whether it stops calls."""
        return any(step.kind in ("stop", "confirm") for step in self.steps)

    def lowest(self, kind: str) -> Decimal | None:
        """Return the lowest threshold of a kind of step."""
        return min((step.at for step in self.steps if step.kind == kind), default=None)

    def identity(self) -> tuple[object, ...]:
        """Return what makes another budget of it when it changes."""
        return (self.scope, self.value, self.models, self.meters, self.measure, self.window)


@dataclass
class Budget:
    """A budget, and the confirmations of its windows."""

    number: int
    terms: Terms
    confirmed: list[tuple[int, int, Decimal]] = field(default_factory=list)


@dataclass(frozen=True)
class Who:
    """Attribution of a call."""

    user: str = ""
    label: str = ""


@dataclass(frozen=True)
class Ask:
    """What an authorization asks for; ``quantities`` as sorted pairs, ``ttl`` in seconds."""

    model: str
    who: Who = Who()
    amount: Decimal | Available | None = None
    quantities: tuple[tuple[str, Decimal], ...] = ()
    min_amount: Decimal | None = None
    ttl: int = 300
    on_expiry: str = "capture_progress"


@dataclass
class Usage:
    """A usage event: what was recorded, and what corrections say of it."""

    source: str
    id: str
    model: str
    who: Who
    at: int
    quantities: Quantities
    hold: str = ""
    void: bool = False
    adjusted: Quantities | None = None
    reversed: Decimal = ZERO
    named: bool = True
    event: bool = False

    def standing(self) -> Quantities | None:
        """Return the quantities that count; None after a void."""
        if self.void:
            return None
        return self.quantities if self.adjusted is None else self.adjusted


class Answer(NamedTuple):
    """What an operation answers: code, decision, charge reserved, model to call."""

    code: str
    decision: str = ""
    amount: Decimal = ZERO
    model: str = ""


@dataclass
class Hold:
    """What is known of a hold's id.

    Attributes:
        amount: charge that it still reserves.
        reserved: charge that it reserved in all.
        bindings: what it still reserves in budgets, by number.
    """

    id: str
    status: str = "unmatched"
    ask: Ask | None = None
    code: str = ""
    first: Answer = field(default_factory=lambda: Answer(""))
    model: str = ""
    at: int = 0
    expires_at: int = 0
    amount: Decimal = ZERO
    reserved: Decimal = ZERO
    estimate: Quantities = field(default_factory=dict)
    bindings: dict[int, Decimal] = field(default_factory=dict)
    step: tuple[int, object] = (0, None)
    checkpoint: tuple[int, Quantities] = (0, {})
    final: bool = False
    usage: Usage | None = None


class Refused(NamedTuple):
    """Why an ask does not fit."""

    code: str


def charge_of(model: str, quantities: Quantities) -> Decimal | None:
    """Return what quantities sell for; None where one of them has no price."""
    prices = PRICES.get(model, {})
    if any(quantity and meter not in prices for meter, quantity in quantities.items()):
        return None
    return sum((q * prices[m].sell for m, q in quantities.items() if q), ZERO)


def merged(one: Quantities, other: Quantities) -> Quantities:
    """Return the larger quantity of each meter."""
    return {meter: max(one.get(meter, ZERO), other.get(meter, ZERO)) for meter in {**one, **other}}


def filled(who: Who, asked: Who) -> Who:
    """Return attribution, with what was asked for where it says nothing."""
    return Who(who.user or asked.user, who.label or asked.label)


def _call(usage: Usage) -> tuple[str, int, bool]:
    return usage.model, usage.at, usage.named


def _nonzero(quantities: Quantities) -> Quantities:
    return {meter: quantity for meter, quantity in quantities.items() if quantity}


def window_of(window: str, at: int) -> object:
    """Return a name of the window, or the rolling window's bucket, that holds an instant."""
    if window == "lifetime":
        return "ever"
    if window.startswith("rolling:"):
        return at // UNITS[window[-1]]
    moment = EPOCH + timedelta(microseconds=at)
    form = {"hour": "%Y-%m-%d %H", "day": "%Y-%m-%d", "week": "%G-%V", "month": "%Y-%m"}
    return moment.strftime(form[window])


def window_end(window: str, at: int) -> int:
    """Return the end of the hour or day that holds an instant."""
    length = UNITS["h"] if window == "hour" else UNITS["d"]
    return at - at % length + length


def counts_at(window: str, at: int, now: int) -> bool:
    """Tell whether what happened at an instant is in the window that is current at ``now``."""
    if window.startswith("rolling:"):
        unit = UNITS[window[-1]]
        return 0 <= now // unit - at // unit <= int(window[len("rolling:") : -1])
    return window_of(window, at) == window_of(window, now)


def measured(terms: Terms, model: str, quantities: Quantities) -> Decimal:
    """Return what quantities count in a budget, in its measure."""
    counted = {m: q for m, q in quantities.items() if not terms.meters or m in terms.meters}
    if terms.measure not in ("charge", "cost"):
        return counted.get(terms.measure, ZERO)
    if charge_of(model, quantities) is None:
        return ZERO
    prices = PRICES.get(model, {})
    side = 0 if terms.measure == "charge" else 1
    return sum((q * prices[m][side] for m, q in counted.items() if q), ZERO)


class Model:
    """One tenant's cost protection.

    Args:
        now: the time; set it by assignment and call `expire`.
        waived: whether somebody said "no cap" in as many words.
    """

    def __init__(self, now: int, *, waived: bool) -> None:
        self.now = now
        self.capped = waived
        self.budgets: list[Budget] = []
        self.usages: dict[tuple[str, str], Usage] = {}
        self.early: dict[tuple[str, str], tuple[bool, Quantities | None]] = {}
        self.captures: dict[tuple[str, str], tuple[object, str]] = {}
        self.holds: dict[str, Hold] = {}
        self.voids: dict[str, object] = {}
        self.reversals: dict[str, object] = {}
        self.confirmations: dict[str, object] = {}
        self._posted = ZERO

    # -- sums, each out of everything that was accepted --------------------------------

    def live(self) -> list[Budget]:
        """Return the budgets that are not ended."""
        return [one for one in self.budgets if one.terms.state != "ended"]

    def by_name(self, name: str) -> Budget | None:
        """Return the budget that has a name now."""
        return next((one for one in self.live() if one.terms.name == name), None)

    def spent(self, budget: Budget, now: int | None = None) -> Decimal:
        """Return what standing usage counts in the current window."""
        terms = budget.terms
        total = ZERO
        for usage in self.usages.values():
            standing = usage.standing()
            if standing is None or not counts_at(terms.window, usage.at, now or self.now):
                continue
            if self.applies(terms, usage.model, usage.who, standing):
                total += measured(terms, usage.model, standing)
                if terms.measure == "charge" and not terms.meters:
                    total -= usage.reversed
        return total

    def held(self, budget: Budget, now: int | None = None) -> Decimal:
        """Return what open holds reserve in the current window."""
        return sum(
            (
                self.remaining(hold, budget)
                for hold in self.holds.values()
                if counts_at(budget.terms.window, hold.at, now or self.now)
            ),
            ZERO,
        )

    @staticmethod
    def remaining(hold: Hold, budget: Budget) -> Decimal:
        """Return what one hold still reserves in a budget: what captures have not drawn."""
        return hold.bindings.get(budget.number, ZERO) if hold.status == "open" else ZERO

    def used(self, budget: Budget, now: int | None = None) -> Decimal:
        """Return spent + held."""
        return self.spent(budget, now) + self.held(budget, now)

    @staticmethod
    def applies(terms: Terms, model: str, who: Who, quantities: Quantities | None) -> bool:
        """Tell whether a call counts in a budget; the meters of an ask by amount are unknown."""
        if terms.state == "ended" or (terms.models and model not in terms.models):
            return False
        if quantities is not None and terms.meters and not set(terms.meters) & set(quantities):
            return False
        return {
            "tenant": True,
            "user": who.user == terms.value,
            "label": f"team={who.label}" == terms.value,
        }[terms.scope]

    def charge(self, usage: Usage) -> Decimal:
        """Return what stands of a usage event's charge."""
        standing = usage.standing()
        charge = None if standing is None else charge_of(usage.model, standing)
        return ZERO if charge is None else charge - usage.reversed

    def total(self) -> Decimal:
        """Return what all standing usage is charged."""
        return sum((self.charge(usage) for usage in self.usages.values()), ZERO)

    # -- the clock ------------------------------------------------------------------------

    def expire(self) -> None:
        """Expire what is due, before any command."""
        due = [
            one
            for one in self.holds.values()
            if one.status == "open" and one.expires_at <= self.now
        ]
        for hold in sorted(due, key=lambda one: (one.expires_at, one.id)):
            assert hold.ask is not None
            posts: Quantities = {}
            if hold.ask.on_expiry == "capture_progress":
                posts = hold.checkpoint[1]
            elif hold.ask.on_expiry == "capture_full":
                posts = merged(hold.estimate, hold.checkpoint[1])
            if posts:
                posts = merged(self._captured(hold), posts)
                usage = hold.usage
                if usage is None:
                    usage = Usage(EXPIRY, hold.id, hold.model, hold.ask.who, hold.expires_at, {})
                    usage.named = False
                self._restate(hold, replace(usage, quantities=posts))
            hold.status = "expired"

    # -- holds ------------------------------------------------------------------------------

    def authorize(self, id: str, ask: Ask, *, dry: bool = False) -> Answer:
        """Say whether a call may be made."""
        hold = self.holds.get(id)
        if hold is not None and hold.ask is not None:
            if hold.ask != ask:
                return Answer(f"exists_with_different_{_differs(hold.ask, ask)}", "deny")
            if hold.code != "created":
                return hold.first
            if hold.status != "open":
                return Answer("exists", "deny", ZERO, hold.model)
            return Answer("exists", hold.first.decision, hold.amount, hold.model)
        if not self.capped and not dry:
            self.default_cap()
        answer, bindings = self._decide(hold, ask)
        if dry or answer.code in ("confirmation_required", "invalid_amount"):
            return answer
        made = hold or Hold(id)
        self.holds[id] = replace(
            made,
            ask=ask,
            code=answer.code,
            model=answer.model,
            at=self.now,
            amount=answer.amount,
            first=answer,
        )
        made = self.holds[id]
        if answer.code == "created":
            made.status = "open"
            made.expires_at = self.now + ask.ttl * SECOND
            made.reserved = answer.amount
            made.bindings = bindings
            made.estimate = dict(ask.quantities)
        elif answer.code == "created_resolved":
            made.status = "captured"
        elif answer.code != "denied_voided":
            made.status = "refused"
        if made.usage is not None:
            self._learn(made.usage, ask)
        return answer

    def _learn(self, usage: Usage, ask: Ask) -> None:
        """Let usage that came before its authorization say what nobody said of it."""
        if not usage.event:
            usage.model = usage.model or ask.model
        usage.who = filled(usage.who, ask.who)
        self._compensate(usage)

    def default_cap(self) -> None:
        """Give the ledger the cap that it gets with its first authorization."""
        steps = (Rung("inform", Decimal(50)), Rung("warn", Decimal(80)), Rung("stop", Decimal(100)))
        self.set_budget(Terms("default", Decimal(100), steps, window="month"))

    def _decide(self, hold: Hold | None, ask: Ask) -> tuple[Answer, dict[int, Decimal]]:
        if hold is not None and hold.status == "voided":
            return Answer("denied_voided", "deny", ZERO, ask.model), {}
        if hold is not None and hold.usage is not None:
            return Answer("created_resolved", "deny", ZERO, ask.model), {}
        downgraded = self._downgrade(ask)
        model = downgraded or ask.model
        result = self._fit(ask, model)
        if isinstance(result, Refused):
            decision = "confirm" if result.code == "confirmation_required" else "deny"
            return Answer(result.code, decision, ZERO, ask.model), {}
        amount, partial, bindings = result
        decision = "allow_downgraded" if downgraded else "allow_partial" if partial else "allow"
        return Answer("created", decision, amount, model), bindings

    def _applying(self, ask: Ask, model: str) -> list[Budget]:
        quantities = dict(ask.quantities) if ask.amount is None else None
        return [one for one in self.live() if self.applies(one.terms, model, ask.who, quantities)]

    def _downgrade(self, ask: Ask) -> str:
        """Return the model that a downgrade step authorizes instead; "" for none."""
        if ask.amount is not None:
            return ""
        quantities = dict(ask.quantities)
        before = charge_of(ask.model, quantities)
        if before is None:
            return ""
        for budget in self._applying(ask, ask.model):
            need = measured(budget.terms, ask.model, quantities)
            for step in budget.terms.steps:
                if step.kind != "downgrade" or self.used(budget) + need < step.at:
                    continue
                after = charge_of(step.model, quantities)
                if after is not None and after < before:
                    return step.model
        return ""

    def _fit(self, ask: Ask, model: str) -> Refused | tuple[Decimal, bool, dict[int, Decimal]]:
        """Return amount, whether it is less than asked, and what each budget reserves."""
        budgets = self._applying(ask, model)
        quantities = dict(ask.quantities)
        caps = [one for one in budgets if one.terms.cap]
        if any(one.terms.on_unpriced == "deny" and self._unknown(one, ask, model) for one in caps):
            return Refused("denied_unpriced")
        if any(one.terms.state == "closed" for one in budgets):
            return Refused("denied_budget_closed")

        def needs(amount: Decimal) -> dict[int, Decimal]:
            if ask.amount is None:
                return {one.number: measured(one.terms, model, quantities) for one in budgets}
            return {one.number: amount for one in budgets if not self._unknown(one, ask, model)}

        asked = charge_of(model, quantities) or ZERO
        partial = False
        if ask.amount is not None:
            room = self._room(caps)
            if ask.amount == "available":
                rooms = [room, *(self._below(one, self.ceiling(one)) for one in caps)]
                bounded = [one for one in rooms if one is not None]
                if not bounded:
                    return Refused("invalid_amount")
                # Where there is nothing to have, it is as if the least worth having was asked for.
                asked = max(min(bounded), ask.min_amount or LEAST)
            else:
                asked = ask.amount
                least = ask.min_amount
                if room is not None and asked > room and least is not None and room >= least:
                    asked, partial = room, True
        reserve = needs(asked)
        # What is unknown and may pass counts nothing; a cap that is passed already refuses it, too.
        for budget in caps:
            stop = budget.terms.lowest("stop")
            if stop is not None and self.used(budget) + reserve.get(budget.number, ZERO) > stop:
                return Refused("denied_exceeds_budget")
        for budget in caps:
            ceiling = self.ceiling(budget)
            need = reserve.get(budget.number, ZERO)
            if ceiling is not None and self.used(budget) + need > ceiling:
                # An ask of which only a part fits below the stops is not one that a person allows.
                return Refused("denied_exceeds_budget" if partial else "confirmation_required")
        return asked, partial, reserve

    @staticmethod
    def _unknown(budget: Budget, ask: Ask, model: str) -> bool:
        """Tell whether nobody knows what an ask counts in a budget; that is never held as zero."""
        money = budget.terms.measure in ("charge", "cost")
        if ask.amount is not None:
            return not money or bool(budget.terms.meters)
        return money and charge_of(model, dict(ask.quantities)) is None

    def _room(self, caps: list[Budget]) -> Decimal | None:
        """Return the charge that fits below every stop; None where there is none."""
        rooms = [self._below(one, one.terms.lowest("stop")) for one in caps]
        return min((room for room in rooms if room is not None), default=None)

    def _below(self, budget: Budget, ceiling: Decimal | None) -> Decimal | None:
        money = budget.terms.measure in ("charge", "cost") and not budget.terms.meters
        if ceiling is None or not money:
            return None
        return ceiling - self.used(budget)

    def ceiling(self, budget: Budget) -> Decimal | None:
        """Return the confirm ceiling of the current window, raised by what was confirmed."""
        ceiling = budget.terms.lowest("confirm")
        if ceiling is None:
            return None
        raised = [
            to
            for at, until, to in budget.confirmed
            if self.now < until and counts_at(budget.terms.window, at, self.now)
        ]
        return max(ceiling, raised[-1]) if raised else ceiling

    def extend(self, id: str, step: int, target: Decimal | Quantities, ttl: int = 0) -> Answer:
        """Reserve up to a charge, or the price of quantities, in all."""
        hold = self.holds.get(id)
        if hold is None or (hold.ask is None and hold.status == "unmatched"):
            return Answer("hold_not_found")
        if hold.step == (step, (target, ttl)):
            return Answer("exists")
        if step <= hold.step[0]:
            return Answer("stale_step")
        if hold.status != "open":
            return Answer("hold_expired" if hold.status == "expired" else "hold_resolved")
        assert hold.ask is not None
        needs = self._targets(hold, target)
        if isinstance(needs, Answer):
            return needs
        after = dict(hold.bindings)
        for budget, need in needs:
            # What captures posted counts towards a target.
            more = need - self._drawn(hold, budget.terms) - after.get(budget.number, ZERO)
            if more > 0:
                if self._refuses(budget, hold, more):
                    return Answer("denied_exceeds_budget")
                after[budget.number] = after.get(budget.number, ZERO) + more
        hold.bindings = after
        charge = charge_of(hold.model, target) if isinstance(target, dict) else target
        more = (charge or ZERO) - self._drawn(hold) - hold.amount
        hold.amount += max(more, ZERO)
        hold.reserved += max(more, ZERO)
        if isinstance(target, dict):
            hold.estimate = merged(hold.estimate, target)
        hold.step = (step, (target, ttl))
        if ttl:
            hold.expires_at = self.now + ttl * SECOND
        return Answer("extended", amount=hold.amount)

    def _targets(
        self, hold: Hold, target: Decimal | Quantities
    ) -> list[tuple[Budget, Decimal]] | Answer:
        """Return what a target needs in every budget that applies, or why that is not known."""
        assert hold.ask is not None
        quantities = target if isinstance(target, dict) else None
        needs = []
        for budget in self.live():
            terms = budget.terms
            bound = hold.bindings.get(budget.number)
            if not bound and not self.applies(terms, hold.model, hold.ask.who, quantities):
                continue
            money = terms.measure in ("charge", "cost")
            if isinstance(target, dict):
                known = not money or charge_of(hold.model, target) is not None
                need = measured(terms, hold.model, target)
            else:
                known, need = money and not terms.meters, target
            if not known and terms.cap and terms.on_unpriced == "deny":
                return Answer("denied_unpriced")
            if known:
                needs.append((budget, need))
        return needs

    @staticmethod
    def _drawn(hold: Hold, terms: Terms | None = None) -> Decimal:
        """Return what a hold's standing usage counts in a budget; without one its charge."""
        standing = hold.usage.standing() if hold.usage is not None else None
        if hold.usage is None or standing is None:
            return ZERO
        if terms is None:
            return charge_of(hold.usage.model, standing) or ZERO
        return measured(terms, hold.usage.model, standing)

    def _refuses(self, budget: Budget, hold: Hold, more: Decimal) -> bool:
        """Tell whether a budget has no room for more of a hold that it counts."""
        terms = budget.terms
        if terms.state == "ended":
            return False
        at = self.now if terms.window.startswith("rolling") else hold.at
        limits = [one for one in (terms.lowest("stop"), self.ceiling(budget)) if one is not None]
        return terms.state == "closed" or any(self.used(budget, at) + more > one for one in limits)

    def progress(self, id: str, step: int, quantities: Quantities) -> Answer:
        """Keep a checkpoint."""
        hold = self.holds.get(id)
        if hold is None or (hold.ask is None and hold.status == "unmatched"):
            return Answer("hold_not_found")
        if hold.checkpoint == (step, quantities):
            return Answer("exists")
        if step <= hold.checkpoint[0]:
            return Answer("stale_step")
        if hold.status != "open":
            return Answer("hold_expired" if hold.status == "expired" else "hold_resolved")
        hold.checkpoint = (step, quantities)
        return Answer("progressed")

    # -- captures ---------------------------------------------------------------------------

    def capture(
        self,
        id: str,
        capture: str,
        quantities: Quantities,
        *,
        final: bool,
        model: str = "",
        at: int | None = None,
        event: Who | None = None,
    ) -> Answer:
        """Record what a call took; recording never refuses.

        Args:
            id: of the hold.
            capture: of the capture, or the usage event.
            quantities: so far.
            final: nothing more comes.
            model: that it names; "" for none.
            at: that it names; None for none.
            event: attribution, of a usage event that names the hold; None for a capture.
        """
        source = SOURCE if event is None else "gateway"
        payload = (id, sorted(quantities.items()), final, model, at, event)
        if (source, capture) in self.captures:
            same = self.captures[source, capture][0] == payload
            return Answer("exists" if same else "capture_conflict")
        hold = self.holds.get(id) or Hold(id)
        asked = hold.ask.who if hold.ask is not None else Who()
        when = at
        if when is None:
            late = hold.status == "expired"
            when = min(self.now, hold.expires_at) if late else self.now
        said = Usage(
            *(source, capture, model or hold.model),
            *(asked if event is None else filled(event, asked), when, quantities, id),
            named=at is not None,
            event=event is not None,
        )
        was = hold.usage
        if was is not None and hold.final:
            if not final:
                return Answer("stale_capture")
            same = _nonzero(was.quantities) == _nonzero(quantities)
            # Of usage that was voided nothing stands that could differ.
            same = same and (was.void or said.model == was.model)
            return Answer("exists" if same else "capture_conflict")
        if was is not None and not final:
            said = self._merged(hold, was, said)
            same = _nonzero(was.quantities) == _nonzero(said.quantities)
            if same and (was.void or (was.model, was.at, was.named) == _call(said)):
                return Answer("stale_capture")
        self.holds[id] = hold
        self.captures[source, capture] = (payload, id)
        if was is not None:
            said = replace(
                was,
                **{name: getattr(said, name) for name in ("model", "at", "quantities", "named")},
                who=said.who if event is not None else was.who,
                event=was.event or said.event,
            )
        self._restate(hold, said)
        hold.final = final
        if hold.status == "unmatched" or hold.code == "created_resolved":
            return Answer("captured_unmatched")
        if hold.status != "open":
            return Answer("captured_late")
        if final:
            hold.status = "captured"
        over = self._posted > hold.reserved
        return Answer("captured_over_hold" if over else "captured")

    @staticmethod
    def _merged(hold: Hold, was: Usage, said: Usage) -> Usage:
        """Return what captures that are not final say together, in whatever order they came.

        The larger quantities, the greatest model of those that were named, the earliest time of
        those that were named.
        """
        models = [one for one in (was.model, said.model) if one not in ("", hold.model)]
        at, named = (said.at, True) if said.named else (was.at, was.named)
        if said.named and was.named:
            at = min(was.at, said.at)
        return replace(
            said,
            quantities=merged(was.quantities, said.quantities),
            model=max(models, default=hold.model),
            at=at,
            named=named,
        )

    @staticmethod
    def _captured(hold: Hold) -> Quantities:
        return hold.usage.quantities if hold.usage is not None else {}

    def _restate(self, hold: Hold, usage: Usage) -> None:
        """Let the hold's one usage event say this; what it posts more than before is drawn."""
        before = {one.number: self._drawn(hold, one.terms) for one in self.budgets}
        charged = self._drawn(hold)
        first = hold.usage is None
        hold.usage = usage
        self._posted = self._drawn(hold)
        if hold.status == "open":
            for budget in self.budgets:
                more = self._drawn(hold, budget.terms) - before[budget.number]
                if budget.number in hold.bindings:
                    left = hold.bindings[budget.number] - max(more, ZERO)
                    hold.bindings[budget.number] = max(left, ZERO)
            hold.amount = max(hold.amount - max(self._posted - charged, ZERO), ZERO)
        self.usages[usage.source, usage.id] = usage
        if first:
            # Corrections that came before change what is charged, not what the call drew.
            usage.void, usage.adjusted = self.early.pop((usage.source, usage.id), (False, None))
        self._compensate(usage)

    def _arrive(self, usage: Usage) -> None:
        key = (usage.source, usage.id)
        self.usages[key] = usage
        usage.void, usage.adjusted = self.early.pop(key, (False, None))

    def _compensate(self, usage: Usage) -> None:
        """Undo what of the reversals passes what stands of the charge."""
        standing = usage.standing()
        charge = charge_of(usage.model, standing) if standing is not None else ZERO
        usage.reversed = min(usage.reversed, charge or ZERO)

    def void(self, id: str, void: str, *, force: bool = False) -> Answer:
        """Give a hold up."""
        payload = (id, force)
        if void in self.voids:
            return Answer("exists" if self.voids[void] == payload else "exists_with_different_")
        hold = self.holds.get(id)
        if hold is not None and hold.status == "unmatched":
            # Its capture came first, so there is nothing to give up.
            return Answer("hold_already_captured")
        if hold is None:
            self.voids[void] = payload
            hold = self.holds.setdefault(id, Hold(id))
            hold.status = "voided"
            return Answer("voided_unmatched")
        if hold.status != "open":
            return Answer(f"hold_already_{hold.status}")
        if (hold.checkpoint[0] or hold.usage is not None) and not force:
            return Answer("hold_has_progress")
        self.voids[void] = payload
        hold.status = "voided"
        return Answer("voided")

    def reverse(self, reversal: str, key: tuple[str, str], amount: Decimal) -> Answer:
        """Take part of a captured charge back."""
        payload = (key, amount)
        if reversal in self.reversals:
            same = self.reversals[reversal] == payload
            return Answer("exists" if same else "exists_with_different_")
        usage = self.usages.get(key)
        if usage is None and key in self.captures:
            usage = self.holds[self.captures[key][1]].usage
        if usage is None:
            return Answer("capture_not_found")
        if amount > self.charge(usage):
            return Answer("exceeds_capture")
        self.reversals[reversal] = payload
        usage.reversed += amount
        return Answer("reversed")

    # -- usage without a hold, and corrections ------------------------------------------------

    def record(self, id: str, model: str, who: Who, at: int, quantities: Quantities) -> str:
        """Record usage that names no hold."""
        key = ("gateway", id)
        if key in self.usages:
            was = self.usages[key]
            same = (was.model, was.who, was.at) == (model, who, at)
            return "duplicate" if same and was.quantities == quantities else "conflict"
        self._arrive(Usage(*key, model, who, at, quantities))
        return "accepted"

    def correct(self, key: tuple[str, str], quantities: Quantities | None) -> None:
        """Void (None) or adjust an event, whether it is here or not; a void outweighs."""
        usage = self.usages.get(key)
        if usage is None:
            void, adjusted = self.early.get(key, (False, None))
            self.early[key] = (void or quantities is None, quantities or adjusted)
        elif quantities is None:
            usage.void = True
        else:
            usage.adjusted = quantities
        if usage is not None:
            self._compensate(usage)

    # -- budgets ------------------------------------------------------------------------------

    def set_budget(self, terms: Terms) -> None:
        """Give a budget terms; another identity makes another budget."""
        budget = self.by_name(terms.name)
        if budget is not None and budget.terms.identity() == terms.identity():
            budget.terms = terms
        else:
            if budget is not None:
                budget.terms = replace(budget.terms, state="ended")
            self.budgets.append(Budget(len(self.budgets), terms))
        self.capped = self.capped or terms.cap

    def confirm(self, id: str, name: str, ceiling: Decimal, until: int) -> None:
        """Raise the confirm ceiling of the current window."""
        budget = self.by_name(name)
        assert budget is not None
        self.confirmations[id] = (name, ceiling, until)
        budget.confirmed.append((self.now, until, ceiling))


def _differs(one: Ask, other: Ask) -> str:
    """Return the first member, by name, in which two asks differ."""
    flat = [{**vars(ask), "user": ask.who.user, "labels": ask.who.label} for ask in (one, other)]
    return min(name for name in flat[0] if name != "who" and flat[0][name] != flat[1][name])
