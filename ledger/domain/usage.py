"""Usage events: the canonical form, its fingerprint, and the commands that record and correct.

A usage event is identified per tenant by ``(source, id)``, forever. Its fingerprint digests the
canonical payload (RFC 8785 JSON: sorted members, defaults left out, quantities as plain decimal
text), so neither member order nor the spelling of a number makes a retry look different.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from hashlib import blake2b

import msgspec
import rfc8785

from ledger.domain.errors import InvalidInput
from ledger.domain.meters import (
    MAX_METERS_PER_EVENT,
    QUANTITY_DECIMALS,
    QUANTITY_LIMIT,
    STANDARD_METERS,
)
from ledger.domain.money import decimals_of, text
from ledger.domain.periods import EARLIEST_US, LATEST_US

RESERVED_SOURCES = "tallybook:"
"""Sources that start so are the ledger's own."""
MAX_TEXT = 256
"""Most characters of an id or a name."""
MAX_LABELS = 20
"""Most labels of one event."""
MAX_RAW_BYTES = 65_536
"""Most bytes of an event's ``raw`` evidence, as JSON."""
DIGEST_BYTES = 16
_OK = "ok"
_TENANT = "tenant"
OUTCOMES = (_OK, "error", "aborted")
PAYERS = (_TENANT, "platform")
_QUANTITY_SCALE = 10**QUANTITY_DECIMALS


class UsageEvent(msgspec.Struct, gc=False, frozen=True, omit_defaults=True):
    """One usage event in canonical form; members are in canonical (alphabetical) order.

    Every member has a default only so that the hot path may give them by position; ``id``,
    ``provider``, ``quantities``, ``source`` and ``tenant`` are never empty in a valid event.

    Attributes:
        api_key: alias of the caller's key at the gateway.
        attempt: 1, 2, … of the same request; each attempt is its own event.
        batch: whether the provider ran it at its batch price.
        billable: ``tenant``, or ``platform`` when the cost is ours and nothing is charged.
        byok: the tenant's own provider key: no cost of ours, platform fees still apply.
        conversation: opaque id.
        hold: the hold that it settles.
        id: the producer's idempotency key, 1 to 256 characters.
        labels: at most 20, name to value.
        model: as the provider's response says; for a tool call the tool.
        occurred_at: microseconds since the epoch; None when the producer gave no time.
        outcome: ``ok``, ``error`` or ``aborted``.
        plugin: opaque id.
        project: opaque id.
        provider: who ran it.
        provider_account: alias of the account or key at the provider.
        quantities: meter to canonical decimal text, each >= 0 and below 10^18.
        raw: the provider's usage object as JSON text, evidence only.
        region: as the response says; "" is unspecified.
        request_id: the provider's id of the request.
        session: opaque id.
        source: who produced the event, 1 to 256 characters.
        tenant: whose ledger, 1 to 256 characters.
        tier: service tier as the response says; "" is the standard one.
        user: opaque id.
    """

    api_key: str = ""
    attempt: int = 1
    batch: bool = False
    billable: str = _TENANT
    byok: bool = False
    conversation: str = ""
    hold: str = ""
    id: str = ""
    labels: dict[str, str] = {}
    model: str = ""
    occurred_at: int | None = None
    outcome: str = _OK
    plugin: str = ""
    project: str = ""
    provider: str = ""
    provider_account: str = ""
    quantities: dict[str, str] = {}
    raw: str = ""
    region: str = ""
    request_id: str = ""
    session: str = ""
    source: str = ""
    tenant: str = ""
    tier: str = ""
    user: str = ""


class RecordUsage(msgspec.Struct, gc=False, frozen=True, array_like=True):
    """Record one usage event.

    Attributes:
        event: what was used.
        key: digest of ``(source, id)``.
        fingerprint: digest of the canonical payload.
        numbers: the quantities as integers, in the order of ``event.quantities``.
        decimals: decimals of those integers, 0 or 6.
    """

    event: UsageEvent
    key: bytes
    fingerprint: bytes
    numbers: tuple[int, ...]
    decimals: int


class VoidUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Take a whole usage event back.

    Attributes:
        tenant: whose ledger.
        source: who sends this correction.
        id: idempotency key of this correction.
        target_source: source of the event to take back.
        target_id: id of the event to take back.
        reason: for people, at most 256 characters.
    """

    tenant: str
    source: str
    id: str
    target_source: str
    target_id: str
    reason: str = ""


class AdjustUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Replace the quantities of a usage event; the other members are as in `VoidUsage`."""

    tenant: str
    source: str
    id: str
    target_source: str
    target_id: str
    quantities: dict[str, str]
    reason: str = ""


Correction = VoidUsage | AdjustUsage


def key_digest(source: str, id: str) -> bytes:
    """Return the 16-byte digest of an idempotency key."""
    return blake2b(f"{len(source)}:{source}{id}".encode(), digest_size=16).digest()


def conflict_digest(key: bytes, fingerprint: bytes) -> bytes:
    """Return the key under which a conflicting payload is kept as evidence, once."""
    return blake2b(b"conflict" + key + fingerprint, digest_size=DIGEST_BYTES).digest()


_encode = msgspec.json.Encoder().encode


def canonical_payload(event: UsageEvent) -> bytes:
    """Return the RFC 8785 form of an event.

    The members stand in order already and all text is JSON-escaped the same way, so the plain
    encoding is canonical unless free-form members are present; those go through the library.
    ``occurred_at`` is an integer number of microseconds, below 2^53.

    Raises:
        InvalidInput: ``invalid_raw`` if ``raw`` holds a number that JSON cannot say exactly.
    """
    if event.outcome is not _OK or event.billable is not _TENANT:
        event = _with_own_defaults(event)
    if not event.labels and not event.raw:
        return _encode(event)
    try:
        tree = msgspec.json.decode(_encode(event))
        if event.raw:
            tree["raw"] = msgspec.json.decode(event.raw)
        return rfc8785.dumps(tree)
    except (rfc8785.CanonicalizationError, msgspec.MsgspecError, ValueError) as error:
        raise InvalidInput(
            f"raw has no canonical form (RFC 8785): {error}",
            code="invalid_raw",
            pointer="/data/raw",
        ) from None


def _with_own_defaults(event: UsageEvent) -> UsageEvent:
    """Return the event with defaults that are the very objects which the encoder leaves out.

    msgspec compares text with a default by identity, so an ``ok`` read from the wire is another
    object and would be written.
    """
    return msgspec.structs.replace(
        event,
        outcome=_OK if event.outcome == _OK else event.outcome,
        billable=_TENANT if event.billable == _TENANT else event.billable,
    )


def fingerprint_of(event: UsageEvent) -> bytes:
    """Return the 16-byte digest of the canonical payload."""
    return blake2b(canonical_payload(event), digest_size=DIGEST_BYTES).digest()


def correction_fingerprint(command: Correction) -> bytes:
    """Return the 16-byte digest of a correction's canonical payload."""
    tree = msgspec.to_builtins(command)
    tree["kind"] = type(command).__name__
    return blake2b(rfc8785.dumps(tree), digest_size=DIGEST_BYTES).digest()


def record_usage(event: UsageEvent) -> RecordUsage:
    """Return the command that records ``event``, which must be in canonical form."""
    numbers, decimals = scaled_quantities(event.quantities)
    return record_scaled(event, numbers, decimals)


def record_scaled(event: UsageEvent, numbers: tuple[int, ...], decimals: int) -> RecordUsage:
    """Return the command that records ``event``, its quantities being integers already."""
    key = key_digest(event.source, event.id)
    return RecordUsage(event, key, fingerprint_of(event), numbers, decimals)


def scaled_quantities(quantities: Mapping[str, str]) -> tuple[tuple[int, ...], int]:
    """Return canonical quantities as integers and the decimals they have, 0 or 6."""
    values = quantities.values()
    try:
        return tuple(map(int, values)), 0
    except ValueError:
        scaled = (int(Decimal(value).scaleb(QUANTITY_DECIMALS)) for value in values)
        return tuple(scaled), QUANTITY_DECIMALS


def canonical_quantities(
    quantities: Mapping[str, int | Decimal], *, pointer: str = "/quantities"
) -> dict[str, str]:
    """Return quantities in canonical form: sorted by meter, plain decimal text.

    Raises:
        InvalidInput: as `read_quantities`.
    """
    return read_quantities(quantities, pointer=pointer)[0]


def read_quantities(
    quantities: Mapping[str, int | Decimal], *, pointer: str
) -> tuple[dict[str, str], tuple[int, ...], int]:
    """Return quantities in canonical form, as integers in that order, and those's decimals.

    Args:
        quantities: meter to number.
        pointer: JSON pointer to them, for errors.

    Raises:
        InvalidInput: ``no_quantities``, ``too_many_meters``, ``unknown_meter``,
            ``invalid_quantity`` (negative, not a number, 10^18 or more), ``too_precise``.
    """
    if not quantities:
        raise InvalidInput(
            "an event has at least one quantity", code="no_quantities", pointer=pointer
        )
    if len(quantities) > MAX_METERS_PER_EVENT:
        raise InvalidInput(
            f"{len(quantities)} meters in one event; at most {MAX_METERS_PER_EVENT} are possible",
            code="too_many_meters",
            pointer=pointer,
        )
    known = STANDARD_METERS
    canonical: dict[str, str] = {}
    numbers: list[int] = []
    for name in sorted(quantities):
        value = quantities[name]
        if type(value) is int and 0 <= value < QUANTITY_LIMIT and name in known:
            canonical[name] = str(value)
            numbers.append(value)
        else:
            canonical[name] = _quantity(name, value, pointer)
    if len(numbers) == len(canonical):
        return canonical, tuple(numbers), 0
    return canonical, *scaled_quantities(canonical)


def _quantity(name: str, value: int | Decimal, pointer: str) -> str:
    meter = STANDARD_METERS.get(name)
    if meter is None:
        raise InvalidInput(
            f"there is no meter {name[:64]!r}; docs/spec/metering.md lists them",
            code="unknown_meter",
            pointer=f"{pointer}/{escape_pointer(name)}",
        )
    if type(value) is int:
        if 0 <= value < QUANTITY_LIMIT:
            return str(value)
    elif isinstance(value, Decimal) and value.is_finite() and 0 <= value < QUANTITY_LIMIT:
        if decimals_of(value) <= meter.decimals:
            return text(value)
        raise InvalidInput(
            f"{name} has more than {meter.decimals} decimals",
            code="too_precise",
            pointer=f"{pointer}/{name}",
        )
    raise InvalidInput(
        f"{name} is not a number from 0 to below 10^18",
        code="invalid_quantity",
        pointer=f"{pointer}/{name}",
    )


def escape_pointer(name: str) -> str:
    """Return a member name as one token of a JSON pointer (RFC 6901), at most 64 characters."""
    return name[:64].replace("~", "~0").replace("/", "~1")


def check_source(source: str, *, pointer: str = "/source") -> None:
    """Check that a producer does not speak as the ledger.

    Raises:
        InvalidInput: ``reserved_source``: keys under the ledger's own sources are those of captures
            and expiries, which nobody else may take.
    """
    if source.startswith(RESERVED_SOURCES):
        raise InvalidInput(
            f"sources that start with {RESERVED_SOURCES} are the ledger's own; name the producer",
            code="reserved_source",
            pointer=pointer,
        )


def check_text(value: str, *, pointer: str, required: bool = False) -> None:
    """Check an id or a name.

    Raises:
        InvalidInput: ``invalid_text`` if it is empty though required, longer than 256
            characters, or holds control characters.
    """
    if required and not value:
        raise InvalidInput(f"{pointer} is empty", code="invalid_text", pointer=pointer)
    if len(value) > MAX_TEXT:
        raise InvalidInput(
            f"{pointer} has {len(value)} characters; at most {MAX_TEXT} are possible",
            code="invalid_text",
            pointer=pointer,
        )
    if not value.isprintable() and any(ord(c) < 32 or 127 <= ord(c) < 160 for c in value):
        raise InvalidInput(
            f"{pointer} holds control characters", code="invalid_text", pointer=pointer
        )


def check_time(at: int, *, pointer: str = "/time") -> None:
    """Check that an instant lies from 2000 to before 2100.

    Raises:
        InvalidInput: ``invalid_time``.
    """
    if not EARLIEST_US <= at < LATEST_US:
        raise InvalidInput(
            "the time is not between the years 2000 and 2100",
            code="invalid_time",
            pointer=pointer,
        )
