"""Corrections: voids, adjustments and re-ratings of recorded usage. Pure.

A correction's entry carries the posting that stood (``reversed``) and the one that stands from
now on (``posted``), so folding needs no look-up. Where amounts depend on a session's history,
taking a segment q back is worth F(Q) - F(Q - q) at the moment it is taken back.
"""

from __future__ import annotations

import msgspec

from ledger.domain.catalog import Catalog
from ledger.domain.commands import Decision, KeyRow, Known, Outcome, RerateUsage
from ledger.domain.entries import (
    ConflictKept,
    CorrectionApplied,
    Entry,
    Posting,
    ShapeDefined,
    UsageAdjusted,
    UsageRecorded,
    UsageRerated,
    UsageVoided,
)
from ledger.domain.entry_parts import Extra
from ledger.domain.errors import InvariantViolation, Problem
from ledger.domain.hold_usage import pay, with_credit
from ledger.domain.holds import HoldState
from ledger.domain.ledger import (
    CorrectionState,
    LedgerState,
    Ref,
    standing_posting,
)
from ledger.domain.money import scaled_text
from ledger.domain.postings import rated_posting, reversal_of
from ledger.domain.reversals import around
from ledger.domain.shapes import CompiledShape, shape_from_body
from ledger.domain.usage import (
    AdjustUsage,
    Correction,
    RecordUsage,
    UsageEvent,
    VoidUsage,
    canonical_payload,
    conflict_digest,
    correction_fingerprint,
    key_digest,
    scaled_quantities,
)


def answer_for_taken_key(
    known: Known,
    source: str,
    id: str,
    key: bytes,
    taken: KeyRow,
    command: RecordUsage | Correction,
) -> Decision:
    """Answer for a key that is taken: a duplicate, or a conflict kept as evidence once."""
    if isinstance(command, RecordUsage):
        fingerprint = command.fingerprint
    else:
        fingerprint = correction_fingerprint(command)
    if fingerprint == taken.fingerprint:
        return Decision((), Outcome("duplicate", taken.version, taken.index))
    problem = Problem(
        code="conflict",
        message=(
            f"id {id!r} of source {source!r} was recorded with another payload;"
            " nothing was charged for this one"
        ),
        pointer="/id",
    )
    evidence = conflict_digest(key, fingerprint)
    outcome = Outcome("conflict", taken.version, taken.index, problem=problem)
    if evidence in known.keys:
        return Decision((), outcome)
    body = (
        canonical_payload(command.event)
        if isinstance(command, RecordUsage)
        else msgspec.json.encode(command)
    )
    kept = ConflictKept(source, id, fingerprint, body, taken.version, taken.index)
    return Decision((kept,), outcome, evidence, fingerprint)


def apply_pending(
    state: LedgerState,
    shape: CompiledShape,
    recorded: UsageRecorded,
    known: Known,
    catalog: Catalog,
    before: list[Entry],
    *,
    hold: HoldState | None = None,
    keeps: tuple[tuple[int, int], ...] = (),
) -> list[Entry]:
    """Return what corrections that came before their event do now.

    Args:
        state: of the ledger.
        shape: of the event.
        recorded: the event.
        known: keys and entries that bear on it.
        catalog: prices.
        before: entries of the same decision.
        hold: that the event draws upon; what it releases pays for the corrected charge, too.
        keeps: what the hold goes on reserving of grants.
    """
    correction = state.corrections.get(key_digest(shape.shape.source, recorded.id))
    if correction is None:
        return []
    standing = _bare(standing_posting(recorded))
    if correction.void is not None:
        reversed_ = reversal_of(state, shape, standing, after_recording=True)
        applied = CorrectionApplied(
            shape.shape.source, recorded.id, *correction.void, reversed_, None
        )
        return [applied]
    if correction.adjust is None:
        return []
    command = known.entry(correction.adjust)
    if not isinstance(command, UsageAdjusted):
        raise InvariantViolation(f"{correction.adjust} is no adjustment")
    quantities = dict(
        zip(command.meters, (scaled_text(n, 6) for n in command.quantities), strict=True)
    )
    reversed_ = reversal_of(state, shape, standing, after_recording=True)
    posted, defined = _repost(
        *(state, shape, standing, quantities, catalog, before),
        reversed_=None,
        correction=correction,
        hold=hold,
        keeps=keeps,
    )
    applied = CorrectionApplied(
        shape.shape.source, recorded.id, *correction.adjust, reversed_, posted
    )
    return [*defined, applied]


def _bare(posting: Posting | None) -> Posting:
    """Return a posting without the evidence that the usage entry keeps already."""
    if posting is None:
        raise InvariantViolation("a voided event has no posting to take back")
    if posting.extra is None or not posting.extra.raw:
        return posting
    return msgspec.structs.replace(posting, extra=msgspec.structs.replace(posting.extra, raw=b""))


def _repost(
    state: LedgerState,
    shape: CompiledShape,
    standing: Posting,
    quantities: dict[str, str],
    catalog: Catalog,
    before: list[Entry],
    *,
    reversed_: Posting | None,
    correction: CorrectionState,
    hold: HoldState | None = None,
    keeps: tuple[tuple[int, int], ...] = (),
) -> tuple[Posting, list[Entry]]:
    """Return the event's posting with other quantities, and a shape definition if it needs one."""
    was = shape.shape
    numbers, decimals = scaled_quantities(quantities)
    event = UsageEvent(
        id="-",
        tenant=state.tenant,
        source=was.source,
        provider=was.provider,
        model=was.model,
        tier=was.tier,
        region=was.region,
        batch=was.batch,
        provider_account=was.provider_account,
        outcome=was.outcome,
        attempt=was.attempt,
        billable=was.billable,
        byok=was.byok,
        quantities=quantities,
    )
    extra = standing.extra
    if extra is not None and extra.leaf_charges + extra.leaf_costs:
        extra = msgspec.structs.replace(extra, leaf_charges=(), leaf_costs=(), leaf_before=())
    posting, shape_after, defined = rated_posting(
        state,
        catalog,
        event,
        numbers,
        decimals,
        at=standing.occurred_at,
        extra=extra,
        before=before,
        without=None if reversed_ is None else (shape, reversed_),
    )
    if extra is not None and (extra.credit or extra.owed):
        posting = msgspec.structs.replace(posting, extra=with_credit(posting.extra, (), 0))
    # What was recorded in this same decision has burned no credit yet that could come back.
    back = (reversed_.extra or Extra()) if reversed_ is not None else None
    paid = pay(
        *(state, shape_after, posting.charge, posting.extra),
        back=back,
        correction=correction,
        hold=hold,
        keeps=keeps,
    )
    return msgspec.structs.replace(posting, extra=paid), defined


def _correction_start(
    state: LedgerState, command: Correction, known: Known
) -> tuple[bytes, Decision | None, CorrectionState, Ref | None]:
    """Return key digest, the answer if one is certain, corrections so far, what stands where."""
    key = key_digest(command.source, command.id)
    taken = known.keys.get(key)
    if taken is not None:
        answer = answer_for_taken_key(known, command.source, command.id, key, taken, command)
        return key, answer, CorrectionState(), None
    target = key_digest(command.target_source, command.target_id)
    return key, *_target(state, target, known)


def _target(
    state: LedgerState, target: bytes, known: Known
) -> tuple[Decision | None, CorrectionState, Ref | None]:
    """Return a refusal if a key is no usage event's, corrections of it, and what stands where."""
    correction = state.corrections.get(target) or CorrectionState()
    row = known.keys.get(target)
    if row is None:
        return None, correction, None
    place = (row.version, row.index)
    refusal = None
    if not isinstance(known.entry(place), UsageRecorded):
        refusal = _refused(
            "not_usage", "the target is not a usage event; only those can be corrected"
        )
    return refusal, correction, correction.standing or place


def _refused(code: str, message: str) -> Decision:
    return Decision((), Outcome("rejected", problem=Problem(code, message, "/data/id")))


def void(state: LedgerState, command: VoidUsage, known: Known, now: int) -> Decision:
    """Return what a void does; see `ledger.domain.decide` for the precedence of outcomes."""
    key, answer, correction, standing = _correction_start(state, command, known)
    if answer is not None:
        return answer
    if correction.void is not None:
        return _refused("already_voided", f"event {command.target_id!r} is voided already")
    reversed_: Posting | None = None
    undone: list[Entry] = []
    flags: tuple[str, ...] = ("unmatched",)
    if standing is not None:
        posting = _bare(standing_posting(known.entry(standing)))
        reversed_ = reversal_of(state, state.shapes[posting.shape], posting)
        flags = ()
        target = (command.target_source, command.target_id)
        undone, _ = around(state, target, correction, posting, None, None, now)
    entry = UsageVoided(
        command.source,
        command.id,
        command.target_source,
        command.target_id,
        command.reason,
        reversed_,
    )
    return Decision(
        (*undone, entry),
        Outcome("accepted", flags=flags),
        key,
        correction_fingerprint(command),
        len(undone),
    )


def adjust(
    state: LedgerState, command: AdjustUsage, known: Known, catalog: Catalog, now: int
) -> Decision:
    """Return what an adjustment does; one that follows a void is kept without effect."""
    key, answer, correction, standing = _correction_start(state, command, known)
    if answer is not None:
        return answer
    if correction.adjust is not None:
        return _refused("already_adjusted", f"event {command.target_id!r} is adjusted already")
    flags: tuple[str, ...] = ()
    reversed_ = posted = None
    defined: list[Entry] = []
    undone: list[Entry] = []
    again: list[Entry] = []
    if correction.void is not None:
        flags = ("superseded_by_void",)
    elif standing is None:
        flags = ("unmatched",)
    else:
        posting = _bare(standing_posting(known.entry(standing)))
        shape = state.shapes[posting.shape]
        reversed_ = reversal_of(state, shape, posting)
        posted, defined = _repost(
            state,
            shape,
            posting,
            command.quantities,
            catalog,
            [],
            reversed_=reversed_,
            correction=correction,
        )
        if _is_unpriced(state, defined, posted):
            flags = ("unpriced",)
        target = (command.target_source, command.target_id)
        after = _shape_of(state, defined, posted)
        undone, again = around(state, target, correction, posting, posted, after, now)
    numbers, decimals = scaled_quantities(command.quantities)
    factor = 10 ** (6 - decimals)
    entry = UsageAdjusted(
        command.source,
        command.id,
        command.target_source,
        command.target_id,
        command.reason,
        tuple(command.quantities),
        tuple(number * factor for number in numbers),
        reversed_,
        posted,
    )
    return Decision(
        (*defined, *undone, entry, *again),
        Outcome("accepted", flags=flags),
        key,
        correction_fingerprint(command),
        len(defined) + len(undone),
    )


def _is_unpriced(state: LedgerState, defined: list[Entry], posting: Posting) -> bool:
    return _shape_of(state, defined, posting).unpriced


def _shape_of(state: LedgerState, defined: list[Entry], posting: Posting) -> CompiledShape:
    """Return a posting's shape, which may be defined in the same decision."""
    if posting.shape < len(state.shapes):
        return state.shapes[posting.shape]
    last = defined[-1]
    if not isinstance(last, ShapeDefined):
        raise InvariantViolation(f"shape {posting.shape} is not defined")
    return shape_from_body(last.body)


def rerate(
    state: LedgerState, command: RerateUsage, known: Known, catalog: Catalog, now: int
) -> Decision:
    """Return what rating an event again does; nothing where its shape stays the same."""
    key = key_digest(command.source, command.id)
    refusal, correction, standing = _target(state, key, known)
    if refusal is not None:
        return refusal
    if standing is None:
        return _refused("unknown_event", f"there is no event {command.id!r}")
    posting = standing_posting(known.entry(standing))
    if posting is None:
        return Decision((), Outcome("unchanged", *standing))
    posting = _bare(posting)
    shape = state.shapes[posting.shape]
    quantities = dict(
        zip(
            shape.shape.meters,
            (scaled_text(n, shape.shape.decimals) for n in posting.quantities),
            strict=True,
        )
    )
    reversed_ = reversal_of(state, shape, posting)
    posted, defined = _repost(
        state, shape, posting, quantities, catalog, [], reversed_=reversed_, correction=correction
    )
    if posted.shape == posting.shape:
        return Decision((), Outcome("unchanged", *standing))
    entry = UsageRerated(command.source, command.id, command.reason, reversed_, posted)
    after = _shape_of(state, defined, posted)
    target = (command.source, command.id)
    undone, again = around(state, target, correction, posting, posted, after, now)
    return Decision(
        (*defined, *undone, entry, *again),
        Outcome("accepted", flags=("unpriced",) if after.unpriced else ()),
        at=len(defined) + len(undone),
    )
