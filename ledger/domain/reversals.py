"""Reversals: part of a usage event's charge is taken back. Pure.

A reversal first takes what no credit paid, then what is owed, then refills the grants that paid,
the last first. Where a correction changes what stands, the reversals of it are undone, and as
much as fits is taken back again, so that nobody gets back more than they were charged.
"""

from __future__ import annotations

import msgspec

from ledger.domain.commands import Decision, Known, Outcome
from ledger.domain.entries import Entry, Posting, UsageRecorded
from ledger.domain.entry_parts import Extra
from ledger.domain.errors import Problem
from ledger.domain.hold_usage import with_credit
from ledger.domain.holds import HoldAnswer, ReverseCharge, act_digest, command_digest
from ledger.domain.ledger import CorrectionState, LedgerState, standing_posting
from ledger.domain.money import scaled_text
from ledger.domain.protection_entries import ChargeReversed, HoldCaptured
from ledger.domain.shapes import CompiledShape
from ledger.domain.usage import key_digest


def reverse(state: LedgerState, command: ReverseCharge, known: Known, now: int) -> Decision:
    """Return what a reversal does; see `ledger.domain.hold_codes.CODES` for the outcomes."""
    key = act_digest("reversal", command.reversal)
    fingerprint = command_digest(command)
    taken = known.keys.get(key)
    if taken is not None:
        return answer_known_act(
            known, (taken.version, taken.index), taken.fingerprint == fingerprint, command
        )
    source, id = command.source, command.capture
    row = known.keys.get(key_digest(source, id))
    entry = known.entry((row.version, row.index)) if row is not None else None
    if isinstance(entry, HoldCaptured):
        source, id = entry.usage
        row = known.keys.get(key_digest(source, id))
        entry = known.entry((row.version, row.index)) if row is not None else None
    if row is None or not isinstance(entry, UsageRecorded):
        return _refused("capture_not_found", f"there is no capture {command.capture!r}")
    correction = state.corrections.get(key_digest(source, id)) or CorrectionState()
    posting = standing_posting(known.entry(correction.standing or (row.version, row.index)))
    left = 0
    if posting is not None:
        shape = state.shapes[posting.shape]
        left = posting.charge * shape.charge_factor - correction.reversed
    if posting is None or command.amount > left:
        return _refused(
            "exceeds_capture",
            f"{scaled_text(left, 18)} {state.currency} of the capture can still be reversed",
        )
    reversed_ = _entry(
        posting,
        shape,
        correction,
        command.amount,
        now,
        command.reason,
        (source, id),
        id=command.reversal,
        capture=(command.source, command.capture),
        fingerprint=fingerprint,
    )
    detail = HoldAnswer("", amount=command.amount, currency=state.currency)
    return Decision((reversed_,), Outcome("reversed", detail=detail), key, fingerprint)


def _refused(code: str, message: str) -> Decision:
    pointer = "/amount" if code == "exceeds_capture" else "/capture"
    return Decision((), Outcome(code, problem=Problem(code, message, pointer)))


def answer_known_act(
    known: Known, ref: tuple[int, int], same: bool, command: msgspec.Struct
) -> Decision:
    """Answer for the id of a void, reversal, grant or the like that is known."""
    if same:
        return Decision((), Outcome("exists", *ref))
    entry = known.entry(ref)
    names = {"hold": "id", "force": "forced", "amount": "amount", "reason": "reason"}
    field = "payload"
    for name in sorted(command.__struct_fields__):
        said = getattr(entry, names.get(name, name), None)
        if name in names and said is not None and said != getattr(command, name):
            field = name
            break
    code = f"exists_with_different_{field}"
    problem = Problem(code, f"the id is known with another {field}", f"/{field}")
    return Decision((), Outcome(code, *ref, problem=problem))


def given_back(
    posting: Posting, shape: CompiledShape, correction: CorrectionState, amount: int
) -> tuple[tuple[tuple[int, int], ...], int]:
    """Return what a reversal gives back to grants, by number, and what it takes off what is owed.

    Args:
        posting: that stands.
        shape: of it.
        correction: of its event, before this reversal.
        amount: that is reversed.
    """
    extra = posting.extra or Extra()
    charge = posting.charge * shape.charge_factor
    paid = sum(part for _, part in extra.credit)
    plain = charge - paid - extra.owed
    returned = dict(correction.returned)
    plain -= correction.reversed - sum(returned.values()) - correction.forgiven
    rest = amount - min(amount, max(plain, 0))
    owed = min(rest, extra.owed - correction.forgiven)
    rest -= owed
    parts = []
    for number, part in reversed(extra.credit):
        give = min(rest, part - returned.get(number, 0))
        if give > 0:
            parts.append((number, give))
            rest -= give
    return tuple(parts), owed


def _entry(
    posting: Posting,
    shape: CompiledShape,
    correction: CorrectionState,
    amount: int,
    now: int,
    reason: str,
    target: tuple[str, str],
    *,
    id: str = "",
    capture: tuple[str, str] = ("", ""),
    fingerprint: bytes = b"",
) -> ChargeReversed:
    extra = posting.extra or Extra()
    parts, owed = given_back(posting, shape, correction, amount)
    return ChargeReversed(
        id,
        *target,
        amount,
        now,
        reason,
        posting.occurred_at,
        posting.shape,
        with_credit(_bare(extra), parts, owed),
        capture,
        fingerprint,
    )


def _bare(extra: Extra) -> Extra | None:
    """Return attribution alone."""
    bare = msgspec.structs.replace(
        extra,
        raw=b"",
        leaf_charges=(),
        leaf_costs=(),
        leaf_before=(),
        fingerprint=b"",
        credit=(),
        owed=0,
    )
    return bare if bare != _NOBODY else None


_NOBODY = Extra()


def around(
    state: LedgerState,
    target: tuple[str, str],
    correction: CorrectionState,
    standing: Posting,
    posted: Posting | None,
    posted_shape: CompiledShape | None,
    now: int,
) -> tuple[list[Entry], list[Entry]]:
    """Return what stands before and after a correction of an event whose charge was reversed.

    Args:
        state: of the ledger.
        target: source and id of the event.
        correction: of it.
        standing: what is taken back.
        posted: what is posted instead; None for nothing.
        posted_shape: of ``posted``.
        now: when.
    """
    if not correction.reversed:
        return [], []
    extra = with_credit(_bare(standing.extra or Extra()), correction.returned, correction.forgiven)
    undone = ChargeReversed(
        "",
        *target,
        -correction.reversed,
        now,
        "capture_lowered",
        standing.occurred_at,
        standing.shape,
        extra,
        ("", ""),
        b"",
    )
    if posted is None or posted_shape is None:
        return [undone], []
    amount = min(correction.reversed, posted.charge * posted_shape.charge_factor)
    if amount <= 0:
        return [undone], []
    again = _entry(posted, posted_shape, CorrectionState(), amount, now, "capture_lowered", target)
    return [undone], [again]
