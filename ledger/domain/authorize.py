"""Authorize: may this tenant make this call? Pure.

The order of outcomes is `ledger.domain.holds.CODES`; what they mean is docs/spec/holds.md. A hold
is bound to every budget that applies and to credit, or to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ledger.domain.budgets import CHARGE, Budget
from ledger.domain.catalog import Catalog, Rated
from ledger.domain.commands import Decision, Known, Outcome
from ledger.domain.draws import Draw
from ledger.domain.entries import Entry, ShapeDefined
from ledger.domain.errors import InvariantViolation, Problem
from ledger.domain.estimates import Estimate, ask_event, ask_extra, estimate, formula
from ledger.domain.holds import (
    AVAILABLE,
    OPEN,
    VOIDED,
    Ask,
    AuthorizeHold,
    HoldAnswer,
    HoldState,
)
from ledger.domain.kept_asks import asked_before, differing_field, residue
from ledger.domain.ladder import kept_back
from ledger.domain.ledger import LedgerState
from ledger.domain.money import scaled_text
from ledger.domain.protection import Protection
from ledger.domain.protection_entries import (
    Allocation,
    Binding,
    HoldAuthorized,
    HoldRefused,
    Reason,
)
from ledger.domain.shapes import CompiledShape

ALLOW = "allow"
DENY = "deny"


class _Claim(msgspec.Struct, gc=False):
    """What one ask needs of one budget, and what is there.

    Attributes:
        budget: that applies.
        need: in its measure; None where it is unknown.
        spent: in the window of now.
        held: in the window of now.
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


class _Verdict(msgspec.Struct, gc=False):
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


def authorize(
    state: LedgerState,
    command: AuthorizeHold,
    known: Known,
    catalog: Catalog,
    now: int,
    rated: Rated | None,
) -> Decision:
    """Return what an authorization does; the default cap is in force already."""
    ask = command.ask
    guard = state.protection()
    if ask.currency and ask.currency != state.currency:
        return invalid(
            "currency", f"amounts are in {ask.currency}, the ledger's in {state.currency}"
        )
    hold = guard.holds.get(command.key)
    if hold is not None and hold.version:
        return _again(state, hold, command, known)
    extra = ask_extra(ask)
    asked = estimate(state, catalog, ask, now=now, rated=rated, extra=extra)
    if hold is not None:
        return _too_late(state, hold, command, asked, known, catalog, now)
    most = _most_lease(guard, asked) if ask.kind == "lease" else 0
    if ask.kind == "lease" and (ask.amount == AVAILABLE or asked.amount > most):
        return invalid(
            "amount",
            f"the budgets allow a lease of at most {scaled_text(most, 18)} {state.currency};"
            " set on_outage to lease:AMOUNT to allow more",
        )
    verdict, asked, model = _judge(state, guard, command, asked, catalog, now)
    if verdict.code == "invalid_amount":
        return invalid("amount", "nothing bounds what is available; ask for a number")
    if command.dry:
        return _simulated(state, guard, command, verdict, asked, now)
    defined, number = define(state, asked.shape)
    if verdict.decision in (DENY, "confirm"):
        refused = HoldRefused(
            command.hold,
            command.fingerprint,
            verdict.code,
            now,
            number,
            asked.numbers,
            asked.amount,
            verdict.reasons,
            residue(ask, refused=True),
            extra,
        )
        steps: list[Entry] = []
        for budget, kind, used in verdict.steps:
            steps += kept_back(guard, budget, kind, used, now)
        detail = _answer(state, command.hold, verdict, asked, 0)
        return Decision(
            (*defined, refused, *steps), Outcome(verdict.code, detail=detail), at=len(defined)
        )
    expires_at = now + ask.ttl_us
    authorized = HoldAuthorized(
        command.hold,
        command.fingerprint,
        verdict.decision,
        now,
        expires_at,
        ask.on_expiry,
        ask.kind,
        number,
        asked.numbers,
        asked.amount,
        verdict.amount,
        verdict.bindings,
        verdict.allocations,
        model,
        verdict.reasons,
        residue(ask),
        extra,
    )
    detail = _answer(state, command.hold, verdict, asked, expires_at)
    return Decision((*defined, authorized), Outcome("created", detail=detail), at=len(defined))


def _most_lease(guard: Protection, asked: Estimate) -> int:
    """Return the smallest lease of the caps that apply; 0 where none does."""
    return min((one.terms.lease for one in guard.live if one.cap and asked.applies(one)), default=0)


def invalid(field: str, message: str) -> Decision:
    """Return the refusal of a field; it is not kept."""
    code = f"invalid_{field}"
    return Decision((), Outcome(code, problem=Problem(code, message, f"/{field}")))


def define(state: LedgerState, shape: CompiledShape) -> tuple[tuple[Entry, ...], int]:
    """Return the definition of a shape, if it needs one, and its number."""
    number = state.numbers.get(shape.body)
    if number is not None:
        return (), number
    number = len(state.shapes)
    return (ShapeDefined(number, shape.body),), number


def _answer(
    state: LedgerState, hold: str, verdict: _Verdict, asked: Estimate, expires_at: int
) -> HoldAnswer:
    of = asked.shape.shape
    return HoldAnswer(
        hold,
        verdict.decision,
        verdict.amount,
        asked.amount,
        state.currency,
        of.provider,
        of.model,
        expires_at,
        verdict.reasons,
        formula(asked.shape, asked.numbers),
        code=verdict.code,
    )


# -- the verdict ----------------------------------------------------------------------


def _judge(
    state: LedgerState,
    guard: Protection,
    command: AuthorizeHold,
    asked: Estimate,
    catalog: Catalog,
    now: int,
) -> tuple[_Verdict, Estimate, str]:
    """Return the verdict, the estimate that it is about, and the model asked for if another."""
    ask = command.ask
    missing = _not_entitled(guard, asked, ask)
    if missing:
        reasons = tuple(Reason("entitlement", name) for name in missing)
        return _Verdict("denied_no_entitlement", DENY, reasons=reasons), asked, ""
    claims = _claims(guard, asked, now)
    cheaper = _downgrade(claims, asked)
    if cheaper and ask.quantities:
        other = estimate(state, catalog, ask, now=now, model=cheaper, extra=ask_extra(ask))
        if not other.shape.unpriced and other.amount < asked.amount:
            missing = _not_entitled(guard, other, ask)
            verdict = _verdict(guard, _claims(guard, other, now), other, ask, now)
            if not missing and verdict.decision in (ALLOW, "allow_partial"):
                reason = Reason("downgrade", cheaper, asked=asked.amount, measure=CHARGE)
                verdict.reasons = (reason, *verdict.reasons)
                verdict.decision = "allow_downgraded"
                return verdict, other, ask.model
    return _verdict(guard, claims, asked, ask, now), asked, ""


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


def _claims(guard: Protection, asked: Estimate, now: int) -> list[_Claim]:
    claims = []
    for budget in guard.live:
        if asked.applies(budget):
            spent, held = guard.used(budget, now)
            stop, confirm = ceilings(guard, budget, now)
            claims.append(_Claim(budget, asked.needs(budget), spent, held, stop, confirm))
    return claims


def ceilings(guard: Protection, budget: Budget, now: int) -> tuple[int | None, int | None]:
    """Return what stops calls in a budget's current window, and what asks a person."""
    confirm = budget.confirm_at
    if confirm is not None:
        counter = guard.counters.get((budget.number, budget.window(guard.timezone, now)))
        if counter is not None and counter.until > now:
            confirm = max(confirm, counter.ceiling)
    return budget.stop_at, confirm


def _downgrade(claims: list[_Claim], asked: Estimate) -> str:
    """Return the model that a reached ``downgrade`` step names; "" for none."""
    for claim in claims:
        budget = claim.budget
        for step, threshold in zip(budget.terms.steps, budget.thresholds, strict=True):
            if (
                step.kind == "downgrade"
                and step.model != asked.shape.shape.model
                and claim.spent + claim.held + (claim.need or 0) >= threshold
            ):
                return step.model
    return ""


def _verdict(
    guard: Protection, claims: list[_Claim], asked: Estimate, ask: Ask, now: int
) -> _Verdict:
    credit = guard.credit
    required = credit.required
    unpriced = [
        claim
        for claim in claims
        if claim.need is None and claim.budget.cap and claim.budget.terms.on_unpriced == "deny"
    ]
    no_price = asked.shape.unpriced and not asked.by_amount
    if unpriced or (required and no_price):
        detail = ", ".join(asked.shape.shape.missing) if no_price else "not known of this ask"
        reasons = [claim.reason("unpriced", guard, now, detail) for claim in unpriced]
        if required and no_price:
            reasons.append(Reason("unpriced", "credit", detail=detail))
        return _Verdict("denied_unpriced", DENY, reasons=tuple(reasons))
    closed = [claim for claim in claims if claim.budget.terms.state == "closed"]
    if closed:
        reasons = [claim.reason("budget_closed", guard, now) for claim in closed]
        return _Verdict("denied_budget_closed", DENY, reasons=tuple(reasons))
    free = credit.free(asked.shape) if credit.active else 0
    wanted = asked.amount
    if ask.amount == AVAILABLE:
        left = _left(claims, free if required else None)
        if left is None:
            return _Verdict(
                "invalid_amount", DENY, reasons=(Reason("unbounded", "no cap applies"),)
            )
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
        return _Verdict(
            "confirmation_required",
            "confirm",
            reasons=tuple(claim.reason("confirm", guard, now) for claim in asks),
            steps=[(one.budget, "confirm", one.spent + one.held + (one.need or 0)) for one in asks],
        )
    return _reserve(guard, claims, asked, wanted, wanted, ALLOW, (), now)


def _left(claims: list[_Claim], free: int | None) -> int | None:
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
    claims: list[_Claim],
    over: list[_Claim],
    asked: Estimate,
    ask: Ask,
    wanted: int,
    free: int | None,
    now: int,
) -> _Verdict:
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
    return _Verdict(
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
    claims: list[_Claim],
    asked: Estimate,
    part: int,
    whole: int,
    decision: str,
    reasons: tuple[Reason, ...],
    now: int,
) -> _Verdict:
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
    return _Verdict("created", decision, part, bindings, allocations, reasons)


# -- ids that are known ---------------------------------------------------------------


def _too_late(
    state: LedgerState,
    hold: HoldState,
    command: AuthorizeHold,
    asked: Estimate,
    known: Known,
    catalog: Catalog,
    now: int,
) -> Decision:
    """Answer for a hold whose capture or void came first; its usage learns what the ask says."""
    defined, number = define(state, asked.shape)
    voided = hold.status == VOIDED
    code = "denied_voided" if voided else "created_resolved"
    verdict = _Verdict(code, DENY)
    detail = _answer(state, command.hold, verdict, asked, 0)
    if command.dry:
        return Decision((), Outcome(code, detail=detail))
    ask = command.ask
    if voided:
        entry: Entry = HoldRefused(
            command.hold,
            command.fingerprint,
            code,
            now,
            number,
            asked.numbers,
            asked.amount,
            (),
            residue(ask, refused=True),
            asked.extra,
        )
    else:
        entry = HoldAuthorized(
            command.hold,
            command.fingerprint,
            DENY,
            now,
            now + ask.ttl_us,
            ask.on_expiry,
            ask.kind,
            number,
            asked.numbers,
            asked.amount,
            0,
            (),
            (),
            "",
            (),
            residue(ask),
            asked.extra,
        )
    entries = [*defined, entry]
    draw = Draw(state, state.protection(), hold, hold.id, known, catalog, now)
    entries += draw.take_from(ask_event(state.tenant, ask), entries)
    return Decision(tuple(entries), Outcome(code, detail=detail), at=len(defined))


def _again(state: LedgerState, hold: HoldState, command: AuthorizeHold, known: Known) -> Decision:
    """Answer for a hold id that was asked with before: the original decision again."""
    ref = (hold.version, hold.index)
    entry = known.entry(ref)
    if not isinstance(entry, HoldAuthorized | HoldRefused):
        raise InvariantViolation(f"hold {hold.id!r} is not at {ref}")
    if hold.fingerprint != command.fingerprint:
        field = differing_field(asked_before(state, entry), command.ask)
        code = f"exists_with_different_{field}"
        problem = Problem(code, f"hold {hold.id!r} was asked for with another {field}", f"/{field}")
        answer = HoldAnswer(hold.id, DENY, currency=state.currency, code=hold.code)
        return Decision((), Outcome(code, *ref, problem=problem, detail=answer))
    shape = state.shapes[entry.shape]
    # Once the hold is over nothing is reserved for the call any more.
    stands = isinstance(entry, HoldAuthorized) and hold.status == OPEN
    detail = HoldAnswer(
        hold.id,
        entry.decision if stands and isinstance(entry, HoldAuthorized) else DENY,
        hold.amount if stands else 0,
        entry.asked,
        state.currency,
        shape.shape.provider,
        shape.shape.model,
        hold.expires_at,
        entry.reasons,
        formula(shape, entry.quantities),
        code=hold.code,
    )
    status = "exists" if hold.code == "created" else hold.code
    return Decision((), Outcome(status, *ref, detail=detail))


def _simulated(
    state: LedgerState,
    guard: Protection,
    command: AuthorizeHold,
    verdict: _Verdict,
    asked: Estimate,
    now: int,
) -> Decision:
    """Return what the answer would be, with every budget that applies among the reasons."""
    told = {reason.name for reason in verdict.reasons}
    more = [
        claim.reason("applies", guard, now)
        for claim in _claims(guard, asked, now)
        if claim.budget.terms.name not in told
    ]
    verdict.reasons = (*verdict.reasons, *more)
    return Decision(
        (), Outcome(verdict.code, detail=_answer(state, command.hold, verdict, asked, 0))
    )
