"""Verdicts: what a cap, credit and entitlements say of an estimate. Pure.

A call is bound to every budget that applies and to credit, or to nothing. What open holds may come
to beyond what they have reserved counts as held in budgets of all of the tenant's charge, and is
not free in credit.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ledger.domain.budgets import CHARGE, Budget
from ledger.domain.catalog import Catalog
from ledger.domain.estimates import Estimate, ask_extra, estimate
from ledger.domain.holds import AVAILABLE, Ask, AuthorizeHold
from ledger.domain.ledger import LedgerState
from ledger.domain.promises import unreserved
from ledger.domain.protection import Protection
from ledger.domain.protection_entries import Allocation, Binding, Reason

ALLOW = "allow"
DENY = "deny"


class Claim(msgspec.Struct, gc=False):
    """What one ask needs of one budget, and what is there.

    Attributes:
        budget: that applies.
        need: in its measure; None where it is unknown.
        spent: in the window of now.
        held: in the window of now, with what open holds have not reserved yet.
        stop: nothing passes it; None for none.
        confirm: what passes it needs a person; None for none.
    """

    budget: Budget
    need: int | None
    spent: int
    held: int
    stop: int | None
    confirm: int | None

    def reason(self, code: str, guard: Protection, now: int, detail: str = "") -> Reason:
        """Return what the budget has to say, with its numbers.

        Args:
            code: of the reason; ``applies`` where the budget neither bounds nor refuses.
            guard: of the ledger.
            now: of the decision.
            detail: for people.
        """
        terms = self.budget.terms
        limit = self.stop if code != "confirm" else self.confirm
        if code == "applies":
            limit = min((one for one in (self.stop, self.confirm) if one is not None), default=None)
        return Reason(
            code,
            terms.name,
            terms.limit if limit is None else limit,
            self.spent,
            self.held,
            self.need or 0,
            terms.measure,
            self.budget.window(guard.timezone, now),
            detail,
        )


class Verdict(msgspec.Struct, gc=False):
    """What is decided of an estimate.

    Attributes:
        code: of the outcome.
        decision: for the gateway.
        amount: charge to reserve.
        bindings: in budgets.
        allocations: of grants.
        reasons: what bounds or refuses.
        steps: budgets whose step kept the call back, with what they would have come to.
    """

    code: str
    decision: str
    amount: int = 0
    bindings: tuple[Binding, ...] = ()
    allocations: tuple[Allocation, ...] = ()
    reasons: tuple[Reason, ...] = ()
    steps: Sequence[tuple[Budget, str, int]] = ()


def judge(
    state: LedgerState,
    guard: Protection,
    command: AuthorizeHold,
    asked: Estimate,
    catalog: Catalog,
    now: int,
) -> tuple[Verdict, Estimate, str]:
    """Return the verdict, the estimate that it is about, and the model asked for if another."""
    ask = command.ask
    missing = _not_entitled(guard, asked, ask)
    if missing:
        reasons = tuple(Reason("entitlement", name) for name in missing)
        return Verdict("denied_no_entitlement", DENY, reasons=reasons), asked, ""
    missed = unreserved(state, now)
    claims = claims_of(guard, asked, now, missed)
    cheaper = _downgrade(claims, asked)
    verdict = _verdict(guard, claims, asked, ask, now, missed)
    if cheaper and ask.quantities:
        other = estimate(state, catalog, ask, now=now, model=cheaper, extra=ask_extra(ask))
        if not other.shape.unpriced and other.amount < asked.amount:
            missing = _not_entitled(guard, other, ask)
            claims = claims_of(guard, other, now, missed)
            instead = _verdict(guard, claims, other, ask, now, missed)
            reason = Reason("downgrade", cheaper, asked=asked.amount, measure=CHARGE)
            instead.reasons = (reason, *instead.reasons)
            if not missing and instead.decision in (ALLOW, "allow_partial"):
                instead.decision = "allow_downgraded"
                return instead, other, ask.model
            # A refusal is for good; where a person may still allow the cheaper call, ask one.
            if not missing and instead.decision == "confirm" and verdict.decision == DENY:
                return instead, asked, ""
    return verdict, asked, ""


def _not_entitled(guard: Protection, asked: Estimate, ask: Ask) -> list[str]:
    if not guard.entitlements_body:
        return []
    of = asked.shape.shape
    return guard.entitlements.missing(
        provider=of.provider,
        model=of.model,
        meters=of.meters,
        plugin=ask.plugin,
        tools=ask.tools,
    )


def claims_of(guard: Protection, asked: Estimate, now: int, missed: int) -> list[Claim]:
    """Return what an ask needs of every budget that applies, in order.

    Args:
        guard: of the ledger.
        asked: the estimate.
        now: of the decision.
        missed: what open holds may come to beyond what they have reserved.
    """
    claims = []
    for budget in guard.live:
        if asked.applies(budget):
            spent, held = guard.used(budget, now)
            held += missed if budget.whole else 0
            stop, confirm = ceilings(guard, budget, now)
            claims.append(Claim(budget, asked.needs(budget), spent, held, stop, confirm))
    return claims


def ceilings(guard: Protection, budget: Budget, now: int) -> tuple[int | None, int | None]:
    """Return what stops calls in a budget's current window, and what asks a person."""
    confirm = budget.confirm_at
    if confirm is not None:
        counter = guard.counters.get((budget.number, budget.window(guard.timezone, now)))
        if counter is not None and counter.until > now:
            confirm = max(confirm, counter.ceiling)
    return budget.stop_at, confirm


def _downgrade(claims: list[Claim], asked: Estimate) -> str:
    """Return the model that a reached ``downgrade`` step names; "" for none."""
    for claim in claims:
        budget = claim.budget
        if not budget.downgrades:
            continue
        for step, threshold in zip(budget.terms.steps, budget.thresholds, strict=True):
            if (
                step.kind == "downgrade"
                and step.model != asked.shape.shape.model
                and claim.spent + claim.held + (claim.need or 0) >= threshold
            ):
                return step.model
    return ""


def _verdict(
    guard: Protection, claims: list[Claim], asked: Estimate, ask: Ask, now: int, missed: int
) -> Verdict:
    credit = guard.credit
    required = credit.required
    unpriced = [
        claim
        for claim in claims
        if claim.need is None and claim.budget.cap and claim.budget.terms.on_unpriced == "deny"
    ]
    no_price = asked.shape.unpriced and not asked.by_amount
    if unpriced or (required and no_price):
        detail = ", ".join(asked.shape.shape.missing) or "not known of this ask"
        reasons = [claim.reason("unpriced", guard, now, detail) for claim in unpriced]
        if required and no_price:
            reasons.append(Reason("unpriced", "credit", detail=detail))
        return Verdict("denied_unpriced", DENY, reasons=tuple(reasons))
    closed = [claim for claim in claims if claim.budget.terms.state == "closed"]
    if closed:
        reasons = [claim.reason("budget_closed", guard, now) for claim in closed]
        return Verdict("denied_budget_closed", DENY, reasons=tuple(reasons))
    free = credit.free(asked.shape) - missed if credit.active else 0
    wanted = asked.amount
    if ask.amount == AVAILABLE:
        left = _left(claims, free if required else None)
        if left is None:
            return Verdict("invalid_amount", DENY, reasons=(Reason("unbounded", "no cap applies"),))
        # Where there is nothing to have, refuse it as an ask for the least that is worth having.
        least = max(ask.min_amount or 1, 1)
        wanted = max(left, least)
        for claim in claims:
            if claim.need is not None:
                claim.need = wanted
    over = [
        claim
        for claim in claims
        if claim.stop is not None and claim.spent + claim.held + (claim.need or 0) > claim.stop
    ]
    short = required and (wanted > free or free < 0)
    if over or short:
        return _partly(guard, claims, over, asked, ask, wanted, free if short else None, now)
    asks = [
        claim
        for claim in claims
        if claim.confirm is not None
        and claim.spent + claim.held + (claim.need or 0) > claim.confirm
    ]
    if asks:
        return Verdict(
            "confirmation_required",
            "confirm",
            reasons=tuple(claim.reason("confirm", guard, now) for claim in asks),
            steps=[(one.budget, "confirm", one.spent + one.held + (one.need or 0)) for one in asks],
        )
    return _reserve(guard, claims, asked, wanted, wanted, ALLOW, (), now)


def _left(claims: list[Claim], free: int | None) -> int | None:
    """Return all that is left for an ask by amount; None where nothing bounds it."""
    rooms = [
        ceiling - claim.spent - claim.held
        for claim in claims
        if claim.need is not None
        for ceiling in (claim.stop, claim.confirm)
        if ceiling is not None
    ]
    if free is not None:
        rooms.append(free)
    return min(rooms, default=None)


def _partly(
    guard: Protection,
    claims: list[Claim],
    over: list[Claim],
    asked: Estimate,
    ask: Ask,
    wanted: int,
    free: int | None,
    now: int,
) -> Verdict:
    """Return a partial allowance where that is worth having, else the refusal."""
    reasons = [claim.reason("budget", guard, now) for claim in over]
    if free is not None:
        credit = guard.credit
        reasons.append(Reason("credit", "credit", free, credit.owed, credit.held(), wanted, CHARGE))
    least = ask.min_amount
    if least is not None and wanted > 0 and ask.amount != AVAILABLE:
        part = wanted if free is None else min(wanted, free)
        for claim in claims:
            need = claim.need or 0
            if claim.stop is not None and need:
                room = claim.stop - claim.spent - claim.held
                part = min(part, wanted * room // need) if room < need else part
        blocked = any(claim.spent + claim.held > (claim.stop or 0) for claim in over)
        fits = not blocked and part >= max(least, 1)
        if fits and not any(
            claim.confirm is not None
            and claim.spent + claim.held + _share(claim.need or 0, part, wanted) > claim.confirm
            for claim in claims
        ):
            return _reserve(
                guard, claims, asked, part, wanted, "allow_partial", tuple(reasons), now
            )
    return Verdict(
        "denied_exceeds_budget",
        DENY,
        reasons=tuple(reasons),
        steps=[(one.budget, "stop", one.spent + one.held + (one.need or 0)) for one in over],
    )


def _share(need: int, part: int, whole: int) -> int:
    """Return what a part of an ask needs, rounded up, at most all of it."""
    return need if part == whole else -(-need * part // whole)


def _reserve(
    guard: Protection,
    claims: list[Claim],
    asked: Estimate,
    part: int,
    whole: int,
    decision: str,
    reasons: tuple[Reason, ...],
    now: int,
) -> Verdict:
    bindings = tuple(
        (
            claim.budget.number,
            claim.budget.window(guard.timezone, now),
            _share(claim.need, part, whole),
        )
        for claim in claims
        if claim.need
    )
    allocations: tuple[Allocation, ...] = ()
    if guard.credit.active:
        allocations = guard.credit.plan(asked.shape, part)[0]
    return Verdict("created", decision, part, bindings, allocations, reasons)
