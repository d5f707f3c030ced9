"""Asks in the log: what an entry and its shape do not say is kept and read back. Pure."""

from __future__ import annotations

import msgspec

from ledger.domain.holds import AVAILABLE, Ask
from ledger.domain.ledger import LedgerState
from ledger.domain.money import scaled_text
from ledger.domain.protection_entries import HoldAuthorized, HoldRefused


def residue(ask: Ask, *, refused: bool = False) -> bytes:
    """Return what of an ask neither the entry nor its shape says; b"" for nothing."""
    rest = Ask(
        amount=AVAILABLE if ask.amount == AVAILABLE else None,
        currency=ask.currency,
        min_amount=ask.min_amount,
        tools=ask.tools,
    )
    if refused:
        rest = msgspec.structs.replace(
            rest, kind=ask.kind, on_expiry=ask.on_expiry, ttl_us=ask.ttl_us
        )
    return b"" if rest == _NOTHING else msgspec.json.encode(rest)


_NOTHING = Ask()


def asked_before(state: LedgerState, entry: HoldAuthorized | HoldRefused) -> Ask:
    """Return the ask that an entry answered."""
    rest = msgspec.json.decode(entry.ask, type=Ask) if entry.ask else Ask()
    shape = state.shapes[entry.shape].shape
    extra = entry.extra
    amount = rest.amount if shape.meters or rest.amount is not None else entry.asked
    asked = msgspec.structs.replace(
        rest,
        amount=amount,
        batch=shape.batch,
        billable=shape.billable,
        byok=shape.byok,
        model=shape.model,
        provider=shape.provider,
        provider_account=shape.provider_account,
        quantities={
            meter: scaled_text(number, shape.decimals)
            for meter, number in zip(shape.meters, entry.quantities, strict=True)
        },
        region=shape.region,
        tier=shape.tier,
    )
    if extra is not None:
        asked = msgspec.structs.replace(
            asked,
            api_key=extra.api_key,
            conversation=extra.conversation,
            labels=extra.labels,
            plugin=extra.plugin,
            project=extra.project,
            session=extra.session,
            user=extra.user,
        )
    if isinstance(entry, HoldAuthorized):
        asked = msgspec.structs.replace(
            asked,
            kind=entry.kind,
            model=entry.model or shape.model,
            on_expiry=entry.on_expiry,
            ttl_us=entry.expires_at - entry.at,
        )
    return asked


def differing_field(first: Ask, second: Ask) -> str:
    """Return the first member, in alphabetical order, in which two asks differ."""
    for name in Ask.__struct_fields__:
        if getattr(first, name) != getattr(second, name):
            return "ttl" if name == "ttl_us" else name
    return "payload"
