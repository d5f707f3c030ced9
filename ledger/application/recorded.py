"""What was recorded, back in the form in which it came.

An entry and its shape hold all that an event's canonical form had, so its key and fingerprint
can be found again from the log alone. The audit compares them with the key rows; `explain`
shows the event.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from ledger.domain.entries import (
    ConflictKept,
    Entry,
    UsageAdjusted,
    UsageRecorded,
    UsageVoided,
)
from ledger.domain.entry_parts import Extra
from ledger.domain.holds import CaptureHold, act_digest, command_digest
from ledger.domain.money import scaled_text
from ledger.domain.protection_entries import (
    BudgetConfirmed,
    ChargeReversed,
    CreditGranted,
    CreditWithdrawn,
    HoldCaptured,
    HoldVoided,
)
from ledger.domain.shapes import CompiledShape
from ledger.domain.usage import (
    DIGEST_BYTES,
    AdjustUsage,
    Correction,
    UsageEvent,
    VoidUsage,
    conflict_digest,
    correction_fingerprint,
    fingerprint_of,
    key_digest,
)

_NONE = Extra()


def recorded_event(*, tenant: str, shape: CompiledShape, entry: UsageRecorded) -> UsageEvent:
    """Return the canonical form of a recorded event.

    A time that the server gave is left out again: the producer did not say it.
    """
    of = shape.shape
    extra = entry.extra or _NONE
    decimals = of.decimals
    return UsageEvent(
        api_key=extra.api_key,
        attempt=of.attempt,
        batch=of.batch,
        billable=of.billable,
        byok=of.byok,
        conversation=extra.conversation,
        hold=extra.hold,
        id=entry.id,
        labels=extra.labels,
        model=of.model,
        occurred_at=None if extra.time_defaulted else entry.occurred_at,
        outcome=of.outcome,
        plugin=extra.plugin,
        project=extra.project,
        provider=of.provider,
        provider_account=of.provider_account,
        quantities={
            meter: scaled_text(number, decimals)
            for meter, number in zip(of.meters, entry.quantities, strict=True)
        },
        raw=extra.raw.decode(),
        region=of.region,
        request_id=extra.request_id,
        session=extra.session,
        source=of.source,
        tenant=tenant,
        tier=of.tier,
        user=extra.user,
    )


def recorded_correction(*, tenant: str, entry: UsageVoided | UsageAdjusted) -> Correction:
    """Return the command that a correction's entry recorded."""
    if isinstance(entry, UsageVoided):
        return VoidUsage(
            tenant=tenant,
            source=entry.source,
            id=entry.id,
            target_source=entry.target_source,
            target_id=entry.target_id,
            reason=entry.reason,
        )
    return AdjustUsage(
        tenant=tenant,
        source=entry.source,
        id=entry.id,
        target_source=entry.target_source,
        target_id=entry.target_id,
        quantities={
            meter: scaled_text(number, 6)
            for meter, number in zip(entry.meters, entry.quantities, strict=True)
        },
        reason=entry.reason,
    )


def taken_key(entry: Entry) -> bytes | None:
    """Return the key digest that an entry takes; None for one that takes none.

    Usage takes the key of its event, which needs the shape: see `ledger.domain.usage.key_digest`.
    """
    if isinstance(entry, UsageVoided | UsageAdjusted):
        return key_digest(entry.source, entry.id)
    if isinstance(entry, ConflictKept):
        return conflict_digest(key_digest(entry.source, entry.id), entry.fingerprint)
    if isinstance(entry, _ACTS):
        return _act_key(entry)
    return None


_Act = (
    HoldCaptured | HoldVoided | ChargeReversed | BudgetConfirmed | CreditGranted | CreditWithdrawn
)
_ACTS = (HoldCaptured, HoldVoided, ChargeReversed, BudgetConfirmed, CreditGranted, CreditWithdrawn)


def _act_key(entry: _Act) -> bytes | None:
    """Return the key that an entry of cost protection takes; not all of them take one."""
    if isinstance(entry, HoldCaptured):
        return key_digest(entry.source, entry.capture) if entry.source else None
    if isinstance(entry, HoldVoided):
        return act_digest("void", entry.void)
    if isinstance(entry, ChargeReversed):
        return act_digest("reversal", entry.id) if entry.id else None
    if isinstance(entry, BudgetConfirmed):
        return act_digest("confirmation", entry.id)
    kind = "grant" if isinstance(entry, CreditGranted) else "withdrawal"
    return act_digest(kind, entry.id)


def taken_fingerprint(*, tenant: str, shape: CompiledShape | None, entry: Entry) -> bytes:
    """Return the fingerprint of the payload that an entry holds; b"" if it takes no key.

    Entries of cost protection, and usage that a capture or an expiry recorded, do not hold all of
    their command; what they say of its fingerprint is all there is.

    Args:
        tenant: whose ledger.
        shape: the entry's shape, for recorded usage.
        entry: any entry.
    """
    if isinstance(entry, UsageRecorded) and shape is not None:
        if entry.extra is not None and entry.extra.fingerprint:
            return entry.extra.fingerprint
        return fingerprint_of(recorded_event(tenant=tenant, shape=shape, entry=entry))
    if isinstance(entry, UsageVoided | UsageAdjusted):
        return correction_fingerprint(recorded_correction(tenant=tenant, entry=entry))
    if isinstance(entry, ConflictKept):
        return refused_fingerprint(entry.payload)
    if isinstance(entry, _ACTS):
        return entry.fingerprint
    return b""


def refused_fingerprint(payload: bytes) -> bytes:
    """Return the fingerprint of a payload that was refused and kept as evidence.

    A usage event is kept in canonical form, so its bytes are what was digested; a correction and
    a capture are kept as their commands.
    """
    correction = refused_correction(payload)
    if correction is not None:
        return correction_fingerprint(correction)
    capture = refused_capture(payload)
    if capture is not None:
        return command_digest(capture)
    return blake2b(payload, digest_size=DIGEST_BYTES).digest()


def refused_correction(payload: bytes) -> Correction | None:
    """Return the correction that was refused; None if the payload is a usage event."""
    try:
        return msgspec.json.decode(payload, type=AdjustUsage)
    except msgspec.DecodeError:
        pass
    try:
        return msgspec.json.decode(payload, type=VoidUsage)
    except msgspec.DecodeError:
        return None


def refused_capture(payload: bytes) -> CaptureHold | None:
    """Return the capture that was refused; None if the payload is anything else.

    A usage event that names a hold has all members of a capture and more, so only what is encoded
    as a capture, to the byte, is one.
    """
    try:
        capture = msgspec.json.decode(payload, type=CaptureHold)
    except msgspec.DecodeError:
        return None
    return capture if msgspec.json.encode(capture) == payload else None
