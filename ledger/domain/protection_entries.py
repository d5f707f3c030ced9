"""Entries of cost protection: budgets, holds, credit and entitlements.

Amounts are x 10^18 in the ledger's currency, quantities in the shape's decimals, what a budget
measures x 10^18 (money) or x 10^6 (a quantity); instants are microseconds since the epoch. As in
`ledger.domain.entries`, tags are never reused and members are only ever appended, with a default.
"""

from __future__ import annotations

import msgspec

from ledger.domain.entry_parts import Extra

Binding = tuple[int, int, int]
"""Number of a budget, start of one of its windows, what is reserved there."""
Allocation = tuple[int, int]
"""Number of a grant and what is reserved of it."""
Promise = tuple[str, int, int]
"""Of a plan's charge: its accumulator key, what a hold may still use of it x 10^6, and what the
hold has reserved for that x 10^18, below zero where captures came to more."""


class Reason(msgspec.Struct, gc=False, frozen=True, array_like=True):
    """Why a decision is not a plain ``allow``, or what bounds it.

    Attributes:
        code: ``budget``, ``budget_closed``, ``confirm``, ``credit``, ``unpriced``,
            ``entitlement``, ``downgrade``.
        name: the budget's name, the missing price or the missing entitlement.
        limit: what applies now: the limit, or the ceiling that was confirmed.
        spent: by usage so far.
        held: by other holds.
        asked: by this call, in the budget's measure.
        measure: ``charge``, ``cost`` or a meter; "" where there are no numbers.
        window: start of the budget's window.
        detail: for people.
    """

    code: str
    name: str
    limit: int = 0
    spent: int = 0
    held: int = 0
    asked: int = 0
    measure: str = ""
    window: int = 0
    detail: str = ""


class BudgetSet(msgspec.Struct, gc=False, frozen=True, array_like=True, tag=8):
    """A budget got these terms; its first, or others.

    Attributes:
        number: the count of budgets before it, for a new one.
        terms: canonical JSON of `ledger.domain.budgets.BudgetTerms`.
        opening: for a new one: window starts and what was spent in them until now.
        by: who set it.
    """

    number: int
    terms: bytes
    opening: tuple[tuple[int, int], ...] = ()
    by: str = ""


class CapWaived(msgspec.Struct, gc=False, frozen=True, array_like=True, tag=9):
    """Somebody said in as many words that this ledger has no cap."""

    by: str


class BudgetConfirmed(msgspec.Struct, gc=False, frozen=True, array_like=True, tag=10):
    """A person raised the confirm ceiling of one window.

    Attributes:
        id: of the confirmation, used once.
        budget: number.
        window: start.
        ceiling: in the budget's measure.
        until: exclusive.
        by: who confirmed.
        reason: for people.
        fingerprint: of the command.
    """

    id: str
    budget: int
    window: int
    ceiling: int
    until: int
    by: str
    reason: str
    fingerprint: bytes


class BudgetStepReached(msgspec.Struct, gc=False, frozen=True, array_like=True, tag=11):
    """A step of a budget's ladder fired, once in this window.

    Attributes:
        budget: number.
        window: start.
        step: place in the ladder.
        kind: of the step.
        threshold: in the budget's measure.
        used: spent + held, and asked for a call that was kept back.
        at: when.
        limit_at: for ``projected``: when the limit will be passed.
        forecast: for ``projected``: what the window will come to.
    """

    budget: int
    window: int
    step: int
    kind: str
    threshold: int
    used: int
    at: int
    limit_at: int = 0
    forecast: int = 0


class HoldAuthorized(msgspec.Struct, gc=False, frozen=True, array_like=True, tag=12):
    """A call was allowed and its estimate reserved.

    Attributes:
        id: the client's.
        fingerprint: of the ask.
        decision: ``allow``, ``allow_partial`` or ``allow_downgraded``; for a hold whose capture
            came first ``deny``, with nothing reserved.
        at: when.
        expires_at: when it expires.
        on_expiry: ``capture_progress``, ``void`` or ``capture_full``.
        kind: ``call`` or ``lease``.
        shape: number of the shape that the estimate was rated with.
        quantities: estimated, in the order of the shape's meters; empty for an ask by amount.
        asked: charge asked for.
        amount: charge reserved.
        bindings: what is reserved in budgets.
        allocations: what is reserved of grants.
        model: that was asked for, where another is allowed; else "".
        reasons: where the decision is not a plain ``allow``.
        ask: canonical JSON of what the rest of the entry does not say; see `ledger.domain.holds`.
        extra: attribution.
    """

    id: str
    fingerprint: bytes
    decision: str
    at: int
    expires_at: int
    on_expiry: str
    kind: str
    shape: int
    quantities: tuple[int, ...]
    asked: int
    amount: int
    bindings: tuple[Binding, ...]
    allocations: tuple[Allocation, ...]
    model: str
    reasons: tuple[Reason, ...]
    ask: bytes
    extra: Extra | None


class HoldRefused(msgspec.Struct, gc=False, frozen=True, array_like=True, tag=13):
    """A call was not allowed; with a sticky code its id stays refused.

    Attributes:
        id: the client's.
        fingerprint: of the ask.
        code: ``denied_…`` or ``confirmation_required``, which is not sticky.
        at: when.
        shape: number of the shape that the estimate was rated with.
        quantities: estimated.
        asked: charge asked for.
        reasons: what refused it.
        ask: as in `HoldAuthorized`.
        extra: attribution.
    """

    id: str
    fingerprint: bytes
    code: str
    at: int
    shape: int
    quantities: tuple[int, ...]
    asked: int
    reasons: tuple[Reason, ...]
    ask: bytes
    extra: Extra | None


class HoldExtended(msgspec.Struct, gc=False, frozen=True, array_like=True, tag=14):
    """A hold reserves more, or for longer.

    Attributes:
        id: of the hold.
        step: rising.
        digest: of the ask.
        at: when.
        expires_at: from now on.
        amount: charge reserved from now on.
        quantities: estimated from now on, in the decimals of the hold's shape; empty to leave them.
        bindings: reserved from now on, one for each of the hold's.
        allocations: reserved from now on.
    """

    id: str
    step: int
    digest: bytes
    at: int
    expires_at: int
    amount: int
    quantities: tuple[int, ...]
    bindings: tuple[Binding, ...]
    allocations: tuple[Allocation, ...]


class HoldProgressed(msgspec.Struct, gc=False, frozen=True, array_like=True, tag=15):
    """A checkpoint of a running call; moves no money.

    Attributes:
        id: of the hold.
        step: rising.
        at: when.
        meters: in order.
        quantities: cumulative, x 10^6.
    """

    id: str
    step: int
    at: int
    meters: tuple[str, ...]
    quantities: tuple[int, ...]


class HoldCaptured(msgspec.Struct, gc=False, frozen=True, array_like=True, tag=16):
    """A hold was drawn upon; stands before the entry that posts its usage, if one does.

    Attributes:
        id: of the hold.
        source: of the capture, where it takes a key of its own; else "".
        capture: id of the capture.
        fingerprint: of the capture, where it takes a key of its own.
        at: when.
        final: nothing more is to come.
        meters: of the hold's quantities, in order.
        quantities: cumulative from now on, x 10^6.
        remaining: charge still reserved.
        bindings: still reserved in budgets; empty for nothing.
        allocations: still reserved of grants; empty for nothing.
        overrun: charge beyond what was reserved.
        usage: source and id of the hold's usage event.
        first: the usage event follows as the next recorded usage of this commit.
        flags: ``late``, ``unmatched``, and ``event`` for a usage event before its authorization.
    """

    id: str
    source: str
    capture: str
    fingerprint: bytes
    at: int
    final: bool
    meters: tuple[str, ...]
    quantities: tuple[int, ...]
    remaining: int
    bindings: tuple[Binding, ...]
    allocations: tuple[Allocation, ...]
    overrun: int
    usage: tuple[str, str]
    first: bool
    flags: tuple[str, ...] = ()


class HoldVoided(msgspec.Struct, gc=False, frozen=True, array_like=True, tag=17):
    """A hold was given up and released; or will not be given, where it is not known yet.

    Attributes:
        id: of the hold.
        void: id of the void.
        at: when.
        reason: for people.
        forced: although a checkpoint says that the provider was called.
        fingerprint: of the command.
    """

    id: str
    void: str
    at: int
    reason: str
    forced: bool
    fingerprint: bytes


class HoldExpired(msgspec.Struct, gc=False, frozen=True, array_like=True, tag=18):
    """A hold's time is over and it is released; usage that it posts follows in the same commit.

    Attributes:
        id: of the hold.
        at: when that was found; not before ``expires_at``.
        meters: of what it posts, in order; empty for nothing.
        quantities: that it posts, cumulative, x 10^6.
        overrun: charge beyond what was reserved.
        usage: source and id of the hold's usage event, ("", "") for none.
        first: the usage event follows as the next recorded usage of this commit.
    """

    id: str
    at: int
    meters: tuple[str, ...] = ()
    quantities: tuple[int, ...] = ()
    overrun: int = 0
    usage: tuple[str, str] = ("", "")
    first: bool = False


class ChargeReversed(msgspec.Struct, gc=False, frozen=True, array_like=True, tag=19):
    """Part of a usage event's charge was taken back; its quantities stand.

    Attributes:
        id: of the reversal; "" for a compensation, which follows from a correction.
        target_source: source of the usage event.
        target_id: its id.
        amount: taken back; negative for a compensation.
        at: when.
        reason: for people; of a compensation ``capture_lowered``.
        occurred_at: of the usage: says the period and the windows.
        shape: number of the usage's shape.
        extra: attribution of the usage.
        capture: source and id that the client named.
        fingerprint: of the command.
    """

    id: str
    target_source: str
    target_id: str
    amount: int
    at: int
    reason: str
    occurred_at: int
    shape: int
    extra: Extra | None
    capture: tuple[str, str]
    fingerprint: bytes


class CreditGranted(msgspec.Struct, gc=False, frozen=True, array_like=True, tag=20):
    """Prepaid credit was given.

    Attributes:
        number: the count of grants before it.
        id: the client's.
        kind: ``paid`` or ``promotional``.
        amount: given.
        priority: lower burns first.
        at: when.
        expires_at: exclusive; 0 for never.
        filter: canonical JSON of `ledger.domain.budgets.Filter`; b"" for all usage.
        by: who gave it.
        reason: for people.
        fingerprint: of the command.
        transferred_from: tenant and transfer id, ("", "") for none.
    """

    number: int
    id: str
    kind: str
    amount: int
    priority: int
    at: int
    expires_at: int
    filter: bytes
    by: str
    reason: str
    fingerprint: bytes
    transferred_from: tuple[str, str] = ("", "")


class CreditExpired(msgspec.Struct, gc=False, frozen=True, array_like=True, tag=21):
    """A grant's time is over: its free rest is gone."""

    number: int
    at: int
    amount: int


class CreditWithdrawn(msgspec.Struct, gc=False, frozen=True, array_like=True, tag=22):
    """Free credit of a grant was refunded or transferred.

    Attributes:
        id: the client's.
        number: of the grant.
        amount: taken.
        at: when.
        why: ``refund`` or ``transfer``.
        to: tenant that gets it; "" for a refund.
        by: who did it.
        reason: for people.
        fingerprint: of the command.
    """

    id: str
    number: int
    amount: int
    at: int
    why: str
    to: str
    by: str
    reason: str
    fingerprint: bytes


class CreditPolicySet(msgspec.Struct, gc=False, frozen=True, array_like=True, tag=23):
    """Whether holds need prepaid credit for their whole amount."""

    required: bool
    by: str


class EntitlementsSet(msgspec.Struct, gc=False, frozen=True, array_like=True, tag=24):
    """What the tenant may use from now on.

    Attributes:
        document: canonical JSON of `ledger.domain.entitlements.Entitlements`.
        by: who set it.
    """

    document: bytes
    by: str


class HoldEstimated(msgspec.Struct, gc=False, frozen=True, array_like=True, tag=25):
    """An extension expects other meters of a hold's call, or finer quantities; moves no money.

    Attributes:
        id: of the hold.
        shape: number of the shape of the estimate from now on.
        quantities: in the order of its meters, in its decimals.
    """

    id: str
    shape: int
    quantities: tuple[int, ...]


class HoldPromised(msgspec.Struct, gc=False, frozen=True, array_like=True, tag=26):
    """What an open hold may use of a plan's charges from now on; moves no money.

    Follows the entry that changes what the hold reserves, where a plan charges its usage by what
    was used so far. A hold that ends promises nothing any more.

    Attributes:
        id: of the hold.
        promises: one for each charge and window.
    """

    id: str
    promises: tuple[Promise, ...]


ProtectionEntry = (
    BudgetSet
    | CapWaived
    | BudgetConfirmed
    | BudgetStepReached
    | HoldAuthorized
    | HoldRefused
    | HoldExtended
    | HoldProgressed
    | HoldCaptured
    | HoldVoided
    | HoldExpired
    | ChargeReversed
    | CreditGranted
    | CreditExpired
    | CreditWithdrawn
    | CreditPolicySet
    | EntitlementsSet
    | HoldEstimated
    | HoldPromised
)
