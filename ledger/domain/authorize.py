"""Authorize: may this tenant make this call? Pure.

The order of outcomes is `ledger.domain.hold_codes.CODES`; what they mean is docs/spec/holds.md.
"""

from __future__ import annotations

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
    AuthorizeHold,
    HoldAnswer,
    HoldState,
)
from ledger.domain.kept_asks import asked_before, differing_field, residue
from ledger.domain.ladder import kept_back
from ledger.domain.ledger import LedgerState
from ledger.domain.money import scaled_text
from ledger.domain.promises import share, unreserved
from ledger.domain.protection import Protection
from ledger.domain.protection_entries import (
    HoldAuthorized,
    HoldPromised,
    HoldRefused,
)
from ledger.domain.shapes import CompiledShape
from ledger.domain.verdicts import DENY, Verdict, claims_of, judge


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
    verdict, asked, model = judge(state, guard, command, asked, catalog, now)
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
            asked.extra,
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
        asked.extra,
    )
    entries: list[Entry] = [*defined, authorized]
    promises = share(asked.promises, verdict.amount, asked.amount)
    if promises:
        entries.append(HoldPromised(command.hold, promises))
    detail = _answer(state, command.hold, verdict, asked, expires_at)
    return Decision(tuple(entries), Outcome("created", detail=detail), at=len(defined))


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
    state: LedgerState, hold: str, verdict: Verdict, asked: Estimate, expires_at: int
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
        formula(asked.shape, asked.numbers, asked.extra),
        code=verdict.code,
    )


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
    verdict = Verdict(code, DENY)
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
        formula(shape, entry.quantities, entry.extra),
        code=hold.code,
    )
    status = "exists" if hold.code == "created" else hold.code
    return Decision((), Outcome(status, *ref, detail=detail))


def _simulated(
    state: LedgerState,
    guard: Protection,
    command: AuthorizeHold,
    verdict: Verdict,
    asked: Estimate,
    now: int,
) -> Decision:
    """Return what the answer would be, with every budget that applies among the reasons."""
    told = {reason.name for reason in verdict.reasons}
    more = [
        claim.reason("applies", guard, now)
        for claim in claims_of(guard, asked, now, unreserved(state, now))
        if claim.budget.terms.name not in told
    ]
    verdict.reasons = (*verdict.reasons, *more)
    return Decision(
        (), Outcome(verdict.code, detail=_answer(state, command.hold, verdict, asked, 0))
    )
