"""Decide: what a command does to a ledger, as entries and an outcome. Pure.

Precedence of outcomes, first that holds:

RecordUsage   duplicate, conflict, accepted
VoidUsage     duplicate, conflict, rejected ``already_voided``, accepted
AdjustUsage   duplicate, conflict, rejected ``already_adjusted``, accepted
RerateUsage   unchanged, accepted
OpenLedger    accepted (new), duplicate (same settings), conflict

Recording never refuses. A correction may come before its event: it is kept, and takes effect
when the event arrives; a void outweighs an adjustment, whichever came first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from ledger.domain.catalog import Catalog, Rated, session_amounts
from ledger.domain.entries import (
    ConflictKept,
    CorrectionApplied,
    Entry,
    Extra,
    Posting,
    ShapeDefined,
    UsageAdjusted,
    UsageRecorded,
    UsageRerated,
    UsageVoided,
)
from ledger.domain.errors import InvariantViolation, Problem
from ledger.domain.ledger import CorrectionState, LedgerState, Ref, standing_posting
from ledger.domain.money import from_scaled, text
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


class RerateUsage(msgspec.Struct, frozen=True):
    """Rate one event again with the catalog as it is now.

    Attributes:
        tenant: whose ledger.
        source: the event's source.
        id: the event's id.
        reason: ``price_approved`` or ``price_changed``.
    """

    tenant: str
    source: str
    id: str
    reason: str


class OpenLedger(msgspec.Struct, frozen=True):
    """Open a tenant's ledger; its settings cannot change afterwards.

    Attributes:
        tenant: its name.
        currency: of every charge, ISO 4217.
        timezone: of its days and months, IANA name.
        book: sell price book.
    """

    tenant: str
    currency: str
    timezone: str
    book: str


Command = RecordUsage | VoidUsage | AdjustUsage | RerateUsage | OpenLedger


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to one command.

    Attributes:
        status: ``accepted``, ``duplicate``, ``conflict``, ``rejected`` or ``unchanged``.
        version: commit of the entry that answers for the key; 0 where there is none.
        index: its place there.
        flags: ``unpriced``, ``time_defaulted``, ``unmatched``, ``superseded_by_void``.
        problem: why it was rejected or conflicts.
    """

    status: str
    version: int = 0
    index: int = 0
    flags: tuple[str, ...] = ()
    problem: Problem | None = None


class KeyRow(msgspec.Struct, frozen=True):
    """What is known of an idempotency key: where its entry is, and the payload's digest."""

    version: int
    index: int
    fingerprint: bytes


class Decision(msgspec.Struct, frozen=True):
    """Entries to append and the answer.

    Attributes:
        entries: to append in order; empty where nothing changes.
        outcome: the answer; for new keys ``version`` and ``index`` are those of entry ``at``.
        key: digest of the key that the entry ``at`` takes, b"" for none.
        fingerprint: digest of the payload that took it.
        at: place in ``entries`` of the entry that holds the key.
    """

    entries: tuple[Entry, ...]
    outcome: Outcome
    key: bytes = b""
    fingerprint: bytes = b""
    at: int = 0


class Known(Protocol):
    """What the log and the state rows say beyond a `LedgerState`, loaded before deciding."""

    @property
    def keys(self) -> Mapping[bytes, KeyRow]:
        """Keys taken, by digest."""
        ...

    def entry(self, ref: Ref) -> Entry:
        """Return the entry at a place of this ledger."""
        ...


_ACCEPTED = "accepted"


def decide(
    state: LedgerState,
    command: Command,
    *,
    known: Known,
    catalog: Catalog,
    now: int,
    rated: Rated | None = None,
) -> Decision:
    """Return what a command does.

    Args:
        state: of the command's tenant; not changed.
        command: what is asked.
        known: keys and entries that bear on it.
        catalog: approved prices.
        now: database time, microseconds; the time of events that have none.
        rated: amounts found earlier; taken if made by this catalog for this ledger's book.
    """
    if type(command) is RecordUsage:
        return _record(state, command, known, catalog, now, rated)
    if isinstance(command, VoidUsage):
        return _void(state, command, known)
    if isinstance(command, AdjustUsage):
        return _adjust(state, command, known, catalog)
    if isinstance(command, RerateUsage):
        return _rerate(state, command, known, catalog)
    if isinstance(command, OpenLedger):
        return _open(state, command)
    raise InvariantViolation(f"no rule decides {type(command).__name__}")


def _record(
    state: LedgerState,
    command: RecordUsage,
    known: Known,
    catalog: Catalog,
    now: int,
    rated: Rated | None,
) -> Decision:
    event, key = command.event, command.key
    taken = known.keys.get(key)
    if taken is not None:
        return _taken(known, event.source, event.id, key, taken, command)
    at = event.occurred_at
    defaulted = at is None
    if at is None:
        at = now
    if (
        rated is None
        or rated.catalog is not catalog
        or rated.book != state.book
        or rated.currency != state.currency
    ):
        rated = catalog.rate(
            event,
            numbers=command.numbers,
            decimals=command.decimals,
            occurred_at=at,
            book=state.book,
            currency=state.currency,
        )
    shape = rated.shape
    number = state.numbers.get(shape.body)
    entries: list[Entry] = []
    if number is None:
        number = len(state.shapes)
        entries.append(ShapeDefined(number, shape.body))
    extra = _extra(event, defaulted)
    charge, cost = rated.charge, rated.cost
    if shape.stateful:
        charge, cost, extra = _session(state, shape, command.numbers, extra)
    recorded = UsageRecorded(event.id, at, number, command.numbers, charge, cost, extra)
    place = len(entries)
    entries.append(recorded)
    if state.pending:
        entries.extend(_pending(state, shape, recorded, known, catalog, entries))
    return Decision(
        tuple(entries),
        _PLAIN
        if not (defaulted or shape.unpriced)
        else Outcome(_ACCEPTED, flags=_flags(shape, at=defaulted)),
        key,
        command.fingerprint,
        place,
    )


_PLAIN = Outcome(_ACCEPTED)


def _flags(shape: CompiledShape, *, at: bool) -> tuple[str, ...]:
    flags = (("time_defaulted", at), ("unpriced", shape.unpriced))
    return tuple(name for name, holds in flags if holds)


def _extra(event: UsageEvent, defaulted: bool) -> Extra | None:
    if not (
        event.user
        or event.project
        or event.request_id
        or event.session
        or event.api_key
        or event.conversation
        or event.plugin
        or event.hold
        or event.labels
        or event.raw is not None
        or defaulted
    ):
        return None
    return Extra(
        api_key=event.api_key,
        conversation=event.conversation,
        hold=event.hold,
        labels=event.labels,
        plugin=event.plugin,
        project=event.project,
        raw=b"" if event.raw is None else bytes(event.raw),
        request_id=event.request_id,
        session=event.session,
        time_defaulted=defaulted,
        user=event.user,
    )


def _session(
    state: LedgerState,
    shape: CompiledShape,
    numbers: tuple[int, ...],
    extra: Extra | None,
    so_far: Callable[[str], int] | None = None,
) -> tuple[int, int, Extra]:
    """Return charge, cost and extra of quantities that are rounded over their session."""
    extra = extra or Extra()
    charges, costs, _ = session_amounts(
        shape, numbers, extra.session, so_far or (lambda key: state.accumulators.get(key, 0))
    )
    extra = msgspec.structs.replace(extra, leaf_charges=charges, leaf_costs=costs)
    return sum(charges), sum(costs), extra


def _taken(
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


def _pending(
    state: LedgerState,
    shape: CompiledShape,
    recorded: UsageRecorded,
    known: Known,
    catalog: Catalog,
    before: list[Entry],
) -> list[Entry]:
    """Return what corrections that came before their event do now."""
    correction = state.corrections.get(key_digest(shape.shape.source, recorded.id))
    if correction is None:
        return []
    standing = _bare(standing_posting(recorded))
    if correction.void is not None:
        reversed_ = _reversal(state, shape, standing, after_recording=True)
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
        zip(command.meters, (text(from_scaled(n, 6)) for n in command.quantities), strict=True)
    )
    reversed_ = _reversal(state, shape, standing, after_recording=True)
    posted, defined = _repost(state, shape, standing, quantities, catalog, before, reversed_=None)
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


def _reversal(
    state: LedgerState, shape: CompiledShape, posting: Posting, *, after_recording: bool = False
) -> Posting:
    """Return what taking a posting back takes back: F(Q) - F(Q - q) where history counts.

    Args:
        state: before this decision.
        shape: the posting's shape.
        posting: what stands.
        after_recording: the posting's usage was recorded in this same decision, so that what it
            added is what it takes back.
    """
    if not shape.stateful or after_recording:
        return posting
    negative = tuple(-number for number in posting.quantities)
    charge, cost, extra = _session(state, shape, negative, posting.extra)
    extra = msgspec.structs.replace(
        extra,
        leaf_charges=tuple(-leaf for leaf in extra.leaf_charges),
        leaf_costs=tuple(-leaf for leaf in extra.leaf_costs),
    )
    return msgspec.structs.replace(posting, charge=-charge, cost=-cost, extra=extra)


def _repost(
    state: LedgerState,
    shape: CompiledShape,
    standing: Posting,
    quantities: dict[str, str],
    catalog: Catalog,
    before: list[Entry],
    *,
    reversed_: Posting | None,
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
    rated = catalog.rate(
        event,
        numbers=numbers,
        decimals=decimals,
        occurred_at=standing.occurred_at,
        book=state.book,
        currency=state.currency,
    )
    number = state.numbers.get(rated.shape.body)
    defined: list[Entry] = []
    if number is None:
        already = [entry for entry in before if isinstance(entry, ShapeDefined)]
        same = next((entry for entry in already if entry.body == rated.shape.body), None)
        number = same.number if same else len(state.shapes) + len(already)
        if same is None:
            defined.append(ShapeDefined(number, rated.shape.body))
    charge, cost, extra = rated.charge, rated.cost, standing.extra
    if extra is not None and extra.leaf_charges + extra.leaf_costs:
        extra = msgspec.structs.replace(extra, leaf_charges=(), leaf_costs=())
    if rated.shape.stateful:
        so_far = _without(state, shape, reversed_)
        charge, cost, extra = _session(state, rated.shape, numbers, extra, so_far)
    return Posting(number, standing.occurred_at, numbers, charge, cost, extra), defined


def _without(
    state: LedgerState, shape: CompiledShape, reversed_: Posting | None
) -> Callable[[str], int]:
    """Return running quantities as they are once a posting has been taken back."""
    after: dict[str, int] = {}
    if reversed_ is not None and shape.stateful and reversed_.extra is not None:
        _, _, after = session_amounts(
            shape,
            [-number for number in reversed_.quantities],
            reversed_.extra.session,
            lambda key: state.accumulators.get(key, 0),
        )
    return lambda key: after.get(key, state.accumulators.get(key, 0))


def _correction_start(
    state: LedgerState, command: Correction, known: Known
) -> tuple[bytes, Decision | None, CorrectionState, Ref | None]:
    """Return key digest, the answer if the key is taken, what stands against the target, where."""
    key = key_digest(command.source, command.id)
    taken = known.keys.get(key)
    answer = _taken(known, command.source, command.id, key, taken, command) if taken else None
    target = key_digest(command.target_source, command.target_id)
    correction = state.corrections.get(target) or CorrectionState()
    standing = correction.standing
    if standing is None:
        row = known.keys.get(target)
        standing = (row.version, row.index) if row is not None else None
    return key, answer, correction, standing


def _refused(code: str, message: str) -> Decision:
    return Decision((), Outcome("rejected", problem=Problem(code, message, "/target_id")))


def _target_posting(known: Known, standing: Ref) -> Posting | Decision | None:
    entry = known.entry(standing)
    if isinstance(
        entry, UsageRecorded | UsageAdjusted | UsageRerated | CorrectionApplied | UsageVoided
    ):
        return standing_posting(entry)
    return _refused("not_usage", "the target is not a usage event; only those can be corrected")


def _void(state: LedgerState, command: VoidUsage, known: Known) -> Decision:
    key, answer, correction, standing = _correction_start(state, command, known)
    if answer is not None:
        return answer
    if correction.void is not None:
        return _refused("already_voided", f"event {command.target_id!r} is voided already")
    reversed_: Posting | None = None
    flags: tuple[str, ...] = ("unmatched",)
    if standing is not None:
        posting = _target_posting(known, standing)
        if isinstance(posting, Decision):
            return posting
        posting = _bare(posting)
        reversed_ = _reversal(state, state.shapes[posting.shape], posting)
        flags = ()
    entry = UsageVoided(
        command.source,
        command.id,
        command.target_source,
        command.target_id,
        command.reason,
        reversed_,
    )
    return Decision((entry,), Outcome(_ACCEPTED, flags=flags), key, correction_fingerprint(command))


def _adjust(state: LedgerState, command: AdjustUsage, known: Known, catalog: Catalog) -> Decision:
    key, answer, correction, standing = _correction_start(state, command, known)
    if answer is not None:
        return answer
    if correction.adjust is not None:
        return _refused("already_adjusted", f"event {command.target_id!r} is adjusted already")
    flags: tuple[str, ...] = ()
    reversed_ = posted = None
    defined: list[Entry] = []
    if correction.void is not None:
        flags = ("superseded_by_void",)
    elif standing is None:
        flags = ("unmatched",)
    else:
        posting = _target_posting(known, standing)
        if isinstance(posting, Decision):
            return posting
        posting = _bare(posting)
        shape = state.shapes[posting.shape]
        reversed_ = _reversal(state, shape, posting)
        posted, defined = _repost(
            state, shape, posting, command.quantities, catalog, [], reversed_=posting
        )
        if _is_unpriced(state, defined, posted):
            flags = ("unpriced",)
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
        (*defined, entry),
        Outcome(_ACCEPTED, flags=flags),
        key,
        correction_fingerprint(command),
        len(defined),
    )


def _is_unpriced(state: LedgerState, defined: list[Entry], posting: Posting) -> bool:
    if posting.shape < len(state.shapes):
        return state.shapes[posting.shape].unpriced
    last = defined[-1]
    return isinstance(last, ShapeDefined) and shape_from_body(last.body).unpriced


def _rerate(state: LedgerState, command: RerateUsage, known: Known, catalog: Catalog) -> Decision:
    key = key_digest(command.source, command.id)
    correction = state.corrections.get(key) or CorrectionState()
    row = known.keys.get(key)
    standing = correction.standing or ((row.version, row.index) if row else None)
    if standing is None:
        return _refused("unknown_event", f"there is no event {command.id!r}")
    posting = _target_posting(known, standing)
    if isinstance(posting, Decision):
        return posting
    if posting is None:
        return Decision((), Outcome("unchanged", *standing))
    posting = _bare(posting)
    shape = state.shapes[posting.shape]
    quantities = dict(
        zip(
            shape.shape.meters,
            (text(from_scaled(n, shape.shape.decimals)) for n in posting.quantities),
            strict=True,
        )
    )
    reversed_ = _reversal(state, shape, posting)
    posted, defined = _repost(state, shape, posting, quantities, catalog, [], reversed_=posting)
    if posted.shape == posting.shape:
        return Decision((), Outcome("unchanged", *standing))
    entry = UsageRerated(command.source, command.id, command.reason, reversed_, posted)
    flags = ("unpriced",) if _is_unpriced(state, defined, posted) else ()
    return Decision((*defined, entry), Outcome(_ACCEPTED, flags=flags), at=len(defined))


def _open(state: LedgerState, command: OpenLedger) -> Decision:
    """Answer for a ledger that the batch opened if it was not there."""
    asked = (command.currency, command.timezone, command.book)
    if asked == (state.currency, state.timezone, state.book):
        return Decision((), Outcome("duplicate" if state.version else _ACCEPTED, 1, 0))
    problem = Problem(
        code="tenant_exists",
        message=(
            f"tenant {state.tenant!r} is open with currency {state.currency}, time zone"
            f" {state.timezone} and price book {state.book}; these cannot change"
        ),
        pointer="/tenant",
    )
    return Decision((), Outcome("conflict", 1, 0, problem=problem))
