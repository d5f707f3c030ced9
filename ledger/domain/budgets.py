"""Budgets: their terms, what they apply to, and the counters of their windows.

A budget is a cap if its ladder has a ``stop`` or a ``confirm`` step; otherwise it is an alert,
which only tells. Amounts are x 10^18, quantities x 10^6; a budget's numbers are all of one kind.
Semantics: docs/spec/holds.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from ledger.domain.amounts import leaf_amounts
from ledger.domain.entry_parts import Extra
from ledger.domain.patterns import matches
from ledger.domain.shapes import CompiledShape
from ledger.domain.windows import rolling, window_at

if TYPE_CHECKING:
    from ledger.domain.entries import Posting, UsageRecorded

SCOPES = ("tenant", "project", "user", "api_key", "session", "plugin", "label")
CHARGE = "charge"
COST = "cost"
STEP_KINDS = ("inform", "warn", "projected", "downgrade", "confirm", "stop")
DEFAULT_PERCENT = {
    "inform": 5000,
    "warn": 8000,
    "projected": 10000,
    "downgrade": 9500,
    "confirm": 10000,
    "stop": 10000,
}
"""Percent x 100 of each step where none is given."""
MAX_STEPS = 16
MAX_BUDGETS = 200
"""Most budgets of one tenant that are not ended."""

StepKind = Literal["inform", "warn", "projected", "downgrade", "confirm", "stop"]


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step of a ladder.

    Attributes:
        kind: what it does.
        percent: of the limit, x 100; 0 where ``amount`` says it.
        amount: threshold in the budget's measure; None where ``percent`` says it.
        model: for ``downgrade``: the model to call instead.
    """

    kind: StepKind
    percent: int = 0
    amount: int | None = None
    model: str = ""

    def threshold(self, limit: int) -> int:
        """Return where the step is, in the budget's measure, rounded down."""
        return self.amount if self.amount is not None else limit * self.percent // 10_000


class Filter(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which usage counts; an empty list is all. ``*`` at the end of a pattern matches any rest.

    Attributes:
        providers: patterns.
        models: patterns.
        meters: patterns; of charge and cost only these meters' share counts.
        byok: whether calls with the tenant's own provider key count.
    """

    providers: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    meters: tuple[str, ...] = ()
    byok: bool = True

    def admits(self, shape: CompiledShape) -> bool:
        """Tell whether usage of a shape counts at all."""
        of = shape.shape
        return (
            (self.byok or not of.byok)
            and (not self.providers or matches(self.providers, of.provider))
            and (not self.models or matches(self.models, of.model))
            and (not self.meters or any(matches(self.meters, meter) for meter in of.meters))
        )


class BudgetTerms(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a budget says.

    Attributes:
        name: unique in the ledger.
        limit: in the measure.
        scope: one of `SCOPES`.
        value: of the scope: an id, or for a label ``NAME=value``; "" for the tenant.
        filter: which usage counts.
        measure: ``charge``, ``cost`` or a meter.
        currency: of money.
        window: see `ledger.domain.windows`.
        steps: the ladder.
        on_unpriced: what happens to a call without a price.
        lease: most that a gateway may lease for an outage; 0 fails closed.
        state: ``closed`` refuses all that it applies to; ``ended`` applies to nothing.
    """

    name: str
    limit: int
    scope: str = "tenant"
    value: str = ""
    filter: Filter = Filter()
    measure: str = CHARGE
    currency: str = ""
    window: str = "month"
    steps: tuple[Step, ...] = ()
    on_unpriced: Literal["deny", "allow"] = "deny"
    lease: int = 0
    state: Literal["open", "closed", "ended"] = "open"

    @property
    def cap(self) -> bool:
        """Return whether it stops calls."""
        return any(step.kind in ("confirm", "stop") for step in self.steps)

    @property
    def is_money(self) -> bool:
        """Return whether it measures money, not a quantity."""
        return self.measure in (CHARGE, COST)

    def identity(self) -> tuple[object, ...]:
        """Return what cannot change without starting the counters again."""
        return (
            self.scope,
            self.value,
            self.filter,
            self.measure,
            self.currency,
            self.window,
        )


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(BudgetTerms)
_filter_decoder = msgspec.json.Decoder(Filter)


def terms_body(terms: BudgetTerms) -> bytes:
    """Return the stored form of terms; equal terms have equal bodies."""
    return _encoder.encode(terms)


def terms_of(body: bytes) -> BudgetTerms:
    """Return the terms of a stored form."""
    return _decoder.decode(body)


def filter_body(filter_: Filter) -> bytes:
    """Return the stored form of a filter; b"" for one that admits everything."""
    return b"" if filter_ == Filter() else _encoder.encode(filter_)


def filter_of(body: bytes) -> Filter:
    """Return the filter of a stored form."""
    return _filter_decoder.decode(body) if body else Filter()


class Counter:
    """What one window of a budget holds.

    Attributes:
        spent: by standing usage.
        held: by open holds.
        fired: bits of the ladder's steps that fired, by place.
        ladder: revision of the ladder that ``fired`` is about.
        ceiling: confirmed by a person; 0 for none.
        until: end of the confirmation.
    """

    __slots__ = ("ceiling", "fired", "held", "ladder", "spent", "until")

    def __init__(self) -> None:
        self.spent = 0
        self.held = 0
        self.fired = 0
        self.ladder = 0
        self.ceiling = 0
        self.until = 0

    def as_tuple(self) -> tuple[int, ...]:
        """Return spent, held, fired, ladder, ceiling and until, in this order."""
        return (self.spent, self.held, self.fired, self.ladder, self.ceiling, self.until)

    @classmethod
    def of(cls, row: Sequence[int]) -> Counter:
        """Return the counter of a tuple as `as_tuple` gives it."""
        counter = cls()
        (
            counter.spent,
            counter.held,
            counter.fired,
            counter.ladder,
            counter.ceiling,
            counter.until,
        ) = row
        return counter


class Budget:
    """A budget of a ledger: its terms, compiled, and its current window.

    Attributes:
        number: count of those before it.
        terms: what it says.
        body: stored form of the terms.
        ladder: counts changes of limit or steps; a change lets the steps fire again.
        cap: whether it stops calls.
        rolls: count and bucket length of a rolling window.
        thresholds: of the steps.
        first_threshold: the lowest at which a step may fire.
        stop_at: threshold of the first stop step, None for none.
        confirm_at: threshold of the first confirm step, None for none.
        downgrades: whether a step names a cheaper model.
        whole: whether it counts all of the tenant's charge.
    """

    __slots__ = (
        "_label",
        "_plans",
        "_window",
        "body",
        "cap",
        "confirm_at",
        "downgrades",
        "first_threshold",
        "ladder",
        "number",
        "rolls",
        "stop_at",
        "terms",
        "thresholds",
        "whole",
    )

    def __init__(self, number: int, body: bytes, ladder: int = 0) -> None:
        self.number = number
        self.ladder = ladder
        self._window = (0, 0)
        self._plans: dict[bytes, bool] = {}
        self.load(body)

    def load(self, body: bytes) -> None:
        """Take terms; counters stay as they are."""
        self.body = body
        self.terms = terms = terms_of(body)
        self.cap = terms.cap
        self.rolls = rolling(terms.window)
        self.whole = (terms.scope, terms.measure, terms.filter) == ("tenant", CHARGE, Filter())
        self.thresholds = tuple(step.threshold(terms.limit) for step in terms.steps)
        self.first_threshold = min(
            (
                0 if step.kind == "projected" else threshold
                for step, threshold in zip(terms.steps, self.thresholds, strict=True)
            ),
            default=0,
        )
        self.stop_at = self._lowest("stop")
        self.confirm_at = self._lowest("confirm")
        self.downgrades = any(step.kind == "downgrade" for step in terms.steps)
        name, _, value = terms.value.partition("=")
        self._label = (name, value)
        self._plans.clear()

    def _lowest(self, kind: str) -> int | None:
        return min(
            (
                threshold
                for step, threshold in zip(self.terms.steps, self.thresholds, strict=True)
                if step.kind == kind
            ),
            default=None,
        )

    def applies(self, shape: CompiledShape, extra: Extra | None) -> bool:
        """Tell whether usage of a shape and attribution counts in it."""
        admits = self._plans.get(shape.body)
        if admits is None:
            if len(self._plans) > 1000:
                self._plans.clear()
            admits = self._plans[shape.body] = (
                self.terms.state != "ended" and self.terms.filter.admits(shape)
            )
        return admits and self._in_scope(extra)

    def applies_to_amount(self, shape: CompiledShape, extra: Extra | None) -> bool:
        """Tell whether an ask by amount counts in it; its meters are not known."""
        terms = self.terms
        filter_ = terms.filter
        of = shape.shape
        return (
            terms.state != "ended"
            and (filter_.byok or not of.byok)
            and (not filter_.providers or matches(filter_.providers, of.provider))
            and (not filter_.models or matches(filter_.models, of.model))
            and self._in_scope(extra)
        )

    def _in_scope(self, extra: Extra | None) -> bool:
        scope = self.terms.scope
        if scope == "tenant":
            return True
        if extra is None:
            return False
        if scope == "label":
            name, value = self._label
            return extra.labels.get(name) == value
        return bool(getattr(extra, scope) == self.terms.value)

    def window(self, timezone: str, at: int) -> int:
        """Return the start of the window, or bucket, that holds an instant."""
        start, end = self._window
        if start <= at < end:
            return start
        self._window = window_at(timezone, self.terms.window, at)
        return self._window[0]

    def measured(
        self,
        shape: CompiledShape,
        numbers: Sequence[int],
        charge: int,
        cost: int,
        extra: Extra | None,
    ) -> int:
        """Return what usage counts in this budget, in its measure.

        Args:
            shape: of the usage.
            numbers: quantities, in the shape's decimals.
            charge: in the shape's charge decimals.
            cost: in the shape's cost decimals.
            extra: has amounts by leaf where they depend on a session's history.
        """
        terms = self.terms
        meters = terms.filter.meters
        if not terms.is_money:
            scale: int = shape.quantity_factor
            pattern = (terms.measure,)
            return sum(
                number * scale
                for meter, number in zip(shape.meters, numbers, strict=True)
                if matches(pattern, meter) and (not meters or matches(meters, meter))
            )
        if shape.unpriced:
            return 0
        is_charge = terms.measure == CHARGE
        if not is_charge and shape.cost_currency != terms.currency:
            return 0
        factor: int = shape.charge_factor if is_charge else shape.cost_factor
        if not meters:
            return (charge if is_charge else cost) * factor
        if shape.stateful and extra is not None:
            leaves = extra.leaf_charges if is_charge else extra.leaf_costs
        else:
            leaves = leaf_amounts(shape, numbers)[0 if is_charge else 1]
        return factor * sum(
            amount
            for meter, amount in zip(shape.meters, leaves, strict=bool(leaves))
            if matches(meters, meter)
        )

    def of_posting(self, shape: CompiledShape, posting: Posting | UsageRecorded) -> int:
        """Return what a posting counts in this budget, in its measure."""
        return self.measured(shape, posting.quantities, posting.charge, posting.cost, posting.extra)
