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
from ledger.domain.money import scaled_text
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
    return None


def taken_fingerprint(*, tenant: str, shape: CompiledShape | None, entry: Entry) -> bytes:
    """Return the fingerprint of the payload that an entry holds; b"" if it takes no key.

    Args:
        tenant: whose ledger.
        shape: the entry's shape, for recorded usage.
        entry: any entry.
    """
    if isinstance(entry, UsageRecorded) and shape is not None:
        return fingerprint_of(recorded_event(tenant=tenant, shape=shape, entry=entry))
    if isinstance(entry, UsageVoided | UsageAdjusted):
        return correction_fingerprint(recorded_correction(tenant=tenant, entry=entry))
    if isinstance(entry, ConflictKept):
        return refused_fingerprint(entry.payload)
    return b""


def refused_fingerprint(payload: bytes) -> bytes:
    """Return the fingerprint of a payload that was refused and kept as evidence.

    A usage event is kept in canonical form, so its bytes are what was digested; a correction is
    kept as its command.
    """
    correction = refused_correction(payload)
    if correction is not None:
        return correction_fingerprint(correction)
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
