"""Intake: CloudEvents on the wire become commands, or problems with pointer and code.

Reading is strict and happens in two steps. The fast step decodes an event straight into its
typed form; only when that fails does the slow step look for the reason, so that good input pays
nothing for good error messages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec

from ledger.domain.errors import InvalidInput, Problem
from ledger.domain.periods import to_us
from ledger.domain.usage import (
    MAX_LABELS,
    MAX_RAW_BYTES,
    MAX_TEXT,
    AdjustUsage,
    RecordUsage,
    UsageEvent,
    VoidUsage,
    canonical_quantities,
    check_source,
    check_text,
    check_time,
    escape_pointer,
    read_quantities,
    record_scaled,
)

USAGE_TYPE = "tallybook.usage.v2"
VOID_TYPE = "tallybook.usage.void.v2"
ADJUST_TYPE = "tallybook.usage.adjust.v2"
MAX_EVENT_BYTES = 1_048_576
"""Most bytes of one event on the wire."""

Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT)]
Time = Annotated[datetime, msgspec.Meta(tz=True)]
Quantities = dict[str, int | Decimal]


class UsageData(msgspec.Struct, gc=False, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``data`` of a usage event; see `ledger.domain.usage.UsageEvent` for the members."""

    provider: Name
    quantities: Quantities
    api_key: Text = ""
    attempt: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    batch: bool = False
    billable: Literal["tenant", "platform"] = "tenant"
    byok: bool = False
    conversation: Text = ""
    hold: Text = ""
    labels: Annotated[dict[str, Text], msgspec.Meta(max_length=MAX_LABELS)] = {}
    model: Text = ""
    outcome: Literal["ok", "error", "aborted"] = "ok"
    plugin: Text = ""
    project: Text = ""
    provider_account: Text = ""
    raw: msgspec.Raw = msgspec.Raw()
    region: Text = ""
    request_id: Text = ""
    session: Text = ""
    tier: Text = ""
    user: Text = ""


class VoidData(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``data`` of a void: which event, and why."""

    id: Name
    source: Text = ""
    reason: Text = ""


class AdjustData(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``data`` of an adjustment: which event, its quantities from now on, and why."""

    id: Name
    quantities: Quantities
    source: Text = ""
    reason: Text = ""


class _Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What every CloudEvent has; ``data`` is read by type. Extension attributes are ignored."""

    specversion: Literal["1.0"]
    type: str
    id: Name
    source: Name
    subject: Name | None = None
    data: msgspec.Raw
    time: Time | None = None


class _UsageEnvelope(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    specversion: Literal["1.0"]
    type: Literal["tallybook.usage.v2"]
    id: Name
    source: Name
    subject: Name | None = None
    data: UsageData
    time: Time | None = None


WireCommand = RecordUsage | VoidUsage | AdjustUsage

_usage = msgspec.json.Decoder(_UsageEnvelope).decode
_envelope = msgspec.json.Decoder(_Envelope).decode
_void_data = msgspec.json.Decoder(VoidData).decode
_adjust_data = msgspec.json.Decoder(AdjustData).decode
_tree = msgspec.json.Decoder(float_hook=Decimal).decode


def read_event(wire: bytes | msgspec.Raw, *, tenant: str | None = None) -> WireCommand | Problem:
    """Return the command of one CloudEvent (JSON, structured form), or what is wrong with it.

    Args:
        wire: one JSON object, at most 1 MiB.
        tenant: whose usage the sender may record: an event without a subject is that tenant's, as
            if it said so, and one of another subject is a problem ``foreign_tenant``. None takes
            every subject, and needs one.

    Returns:
        A command, or a problem with code and JSON pointer; never raises for bad input.
    """
    try:
        if len(bytes(wire)) > MAX_EVENT_BYTES:
            raise InvalidInput(
                f"the event has more than {MAX_EVENT_BYTES} bytes", code="event_too_large"
            )
        try:
            envelope = _usage(wire)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return _read_slowly(wire, tenant)
        if Decimal in map(type, envelope.data.quantities.values()):
            _check_spelling(wire)
        return _usage_command(envelope, tenant, plain=_is_plain(wire))
    except InvalidInput as error:
        return Problem.of(error)


def _check_spelling(wire: bytes | msgspec.Raw) -> None:
    """Check that quantities given as text are plain decimals.

    The decoder reads what `Decimal` reads, which is more: blanks, underscores, other scripts.

    Raises:
        InvalidInput: ``invalid_quantity``.
    """
    problem = _numbers_problem(wire)
    if problem is not None:
        raise problem


def _is_plain(wire: bytes | msgspec.Raw) -> bool:
    """Tell whether no text of this JSON can hold a control character: ASCII without escapes.

    JSON allows control characters in texts only as escapes, but for DEL.
    """
    body = bytes(wire)
    return body.isascii() and b"\\" not in body and b"\x7f" not in body


def _usage_command(envelope: _UsageEnvelope, tenant: str | None, *, plain: bool) -> RecordUsage:
    data = envelope.data
    subject = envelope.subject
    if subject is None or (tenant is not None and subject != tenant):
        subject = _subject(subject, tenant)
    at = None
    if envelope.time is not None:
        at = to_us(envelope.time)
        check_time(at)
    return usage_command(
        data,
        id=envelope.id,
        source=envelope.source,
        tenant=subject,
        at=at,
        plain=plain,
    )


def _subject(subject: str | None, tenant: str | None) -> str:
    """Return whose usage an event is.

    Raises:
        InvalidInput: ``missing_subject``, ``foreign_tenant``.
    """
    if subject is None:
        if tenant is None:
            raise InvalidInput("'subject' is missing", code="missing_subject", pointer="/subject")
        return tenant
    if tenant is not None and subject != tenant:
        raise InvalidInput(
            "the event is of another tenant than its sender; leave subject out, or name your own",
            code="foreign_tenant",
            pointer="/subject",
        )
    return subject


def usage_command(
    data: UsageData, *, id: str, source: str, tenant: str, at: int | None, plain: bool = False
) -> RecordUsage:
    """Return the command that records usage data that is typed already.

    Args:
        data: the usage.
        id: the producer's idempotency key.
        source: the producer.
        tenant: whose ledger.
        at: microseconds since the epoch, checked; None takes the database's time.
        plain: no text holds control characters, which the caller has made sure of.

    Raises:
        InvalidInput: a member breaks a rule of docs/spec/metering.md.
    """
    if not plain:
        _check_texts(data, id=id, source=source, tenant=tenant)
    if data.labels:
        _check_labels(data.labels)
    check_source(source)
    raw = _checked_raw(data.raw) if data.raw else ""
    quantities, numbers, decimals = read_quantities(data.quantities, pointer="/data/quantities")
    # By position, in the order of the members: keywords would cost a fifth of all reading.
    event = UsageEvent(
        data.api_key,
        data.attempt,
        data.batch,
        data.billable,
        data.byok,
        data.conversation,
        data.hold,
        id,
        data.labels,
        data.model,
        at,
        data.outcome,
        data.plugin,
        data.project,
        data.provider,
        data.provider_account,
        quantities,
        raw,
        data.region,
        data.request_id,
        data.session,
        source,
        tenant,
        data.tier,
        data.user,
    )
    return record_scaled(event, numbers, decimals)


TEXT_MEMBERS = (
    "provider",
    "model",
    "tier",
    "region",
    "provider_account",
    "request_id",
    "user",
    "project",
    "session",
    "conversation",
    "api_key",
    "plugin",
    "hold",
)
"""Members of an event's ``data`` that are opaque text."""


def _check_texts(data: UsageData, *, id: str, source: str, tenant: str) -> None:
    check_text(id, pointer="/id")
    check_text(source, pointer="/source")
    check_text(tenant, pointer="/subject")
    for name in TEXT_MEMBERS:
        check_text(getattr(data, name), pointer=f"/data/{name}")


def _check_labels(labels: Mapping[str, str]) -> None:
    for name, value in labels.items():
        pointer = f"/data/labels/{escape_pointer(name)}"
        check_text(name, pointer=pointer, required=True)
        check_text(value, pointer=pointer)


def _checked_raw(raw: msgspec.Raw) -> str:
    body = bytes(raw)
    if body == b"null":
        return ""
    if len(body) > MAX_RAW_BYTES:
        raise InvalidInput(
            f"raw has {len(body)} bytes; at most {MAX_RAW_BYTES} are kept",
            code="invalid_raw",
            pointer="/data/raw",
        )
    return body.decode()


def _read_slowly(wire: bytes | msgspec.Raw, tenant: str | None) -> WireCommand | Problem:
    """Read anything but a well-formed usage event: corrections, and the reason of a rejection."""
    try:
        envelope = _envelope(wire)
        if envelope.type == VOID_TYPE:
            return _void(envelope, _subject(envelope.subject, tenant))
        if envelope.type == ADJUST_TYPE:
            _check_spelling(wire)
            return _adjust(envelope, _subject(envelope.subject, tenant))
        if envelope.type != USAGE_TYPE:
            raise InvalidInput(
                f"there is no event type {envelope.type[:64]!r}; {USAGE_TYPE} records usage",
                code="unknown_type",
                pointer="/type",
            )
        _usage(wire)
    except msgspec.ValidationError as error:
        raise _invalid(error, _numbers_problem(wire)) from None
    except RecursionError:
        raise InvalidInput("the JSON is nested too deeply", code="nested_too_deep") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(wire, error) from None
    raise InvalidInput("the event cannot be read", code="invalid_event")


def _void(envelope: _Envelope, tenant: str) -> VoidUsage:
    try:
        data = _void_data(envelope.data)
    except msgspec.ValidationError as error:
        raise _invalid(error, None, prefix="/data") from None
    return VoidUsage(
        tenant=_checked(tenant, "/subject"),
        source=_producer(envelope.source),
        id=_checked(envelope.id, "/id"),
        target_source=_checked(data.source or envelope.source, "/data/source"),
        target_id=_checked(data.id, "/data/id"),
        reason=_checked(data.reason, "/data/reason"),
    )


def _adjust(envelope: _Envelope, tenant: str) -> AdjustUsage:
    try:
        data = _adjust_data(envelope.data)
    except msgspec.ValidationError as error:
        raise _invalid(error, None, prefix="/data") from None
    return AdjustUsage(
        tenant=_checked(tenant, "/subject"),
        source=_producer(envelope.source),
        id=_checked(envelope.id, "/id"),
        target_source=_checked(data.source or envelope.source, "/data/source"),
        target_id=_checked(data.id, "/data/id"),
        quantities=canonical_quantities(data.quantities, pointer="/data/quantities"),
        reason=_checked(data.reason, "/data/reason"),
    )


def _checked(value: str, pointer: str) -> str:
    check_text(value, pointer=pointer)
    return value


def _producer(source: str) -> str:
    check_source(source)
    return _checked(source, "/source")


_AT = re.compile(r" - at `\$(.*)`$", re.DOTALL)
_MEMBER = re.compile(r"`([^`]*)`")


def _invalid(
    error: msgspec.ValidationError, better: InvalidInput | None, *, prefix: str = ""
) -> InvalidInput:
    """Return a decoding error as ours: stable code, JSON pointer, what would be right."""
    if better is not None:
        return better
    message = str(error)
    at = _AT.search(message)
    path = prefix + (at[1] if at else "").replace("[...]", "").replace(".", "/")
    said = message[: at.start()] if at else message
    member = _MEMBER.search(said)
    name = escape_pointer(member[1]) if member else ""
    there = f"{path}/{name}"
    if said.startswith("Object missing required field"):
        return InvalidInput(
            f"{name!r} is missing", code=f"missing_{name}", pointer=f"{path}/{name}"
        )
    if said.startswith("Object contains unknown field"):
        return InvalidInput(f"there is no member {name!r}", code="unknown_field", pointer=there)
    if not path:
        return InvalidInput(f"the event is not a JSON object: {said}", code="invalid_event")
    field = path.rsplit("/", 1)[-1]
    code = "invalid_quantity" if field == "quantities" else f"invalid_{field}"
    return InvalidInput(f"{said}", code=code, pointer=path)


def _numbers_problem(wire: bytes | msgspec.Raw) -> InvalidInput | None:
    """Find the first quantity or label that is no number or text; None if that is not it."""
    try:
        tree: Any = _tree(wire)
    except (msgspec.MsgspecError, RecursionError, ArithmeticError):
        return None
    data = tree.get("data") if isinstance(tree, dict) else None
    quantities = data.get("quantities") if isinstance(data, dict) else None
    if not isinstance(quantities, dict):
        return None
    for name, value in quantities.items():
        pointer = f"/data/quantities/{escape_pointer(name)}"
        if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
            kind = "null" if value is None else type(value).__name__
            return InvalidInput(
                f"a quantity is a number or decimal text, not {kind}",
                code="invalid_quantity",
                pointer=pointer,
            )
        if isinstance(value, str) and not _is_decimal(value):
            return InvalidInput(
                f"{value[:40]!r} is not a decimal number", code="invalid_quantity", pointer=pointer
            )
    return None


_DECIMAL = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?", re.ASCII)


def _is_decimal(value: str) -> bool:
    return _DECIMAL.fullmatch(value) is not None


def _malformed(wire: bytes | msgspec.Raw, error: Exception) -> InvalidInput:
    if isinstance(error, UnicodeDecodeError):
        return InvalidInput("the text is not UTF-8", code="invalid_utf8")
    try:
        bytes(memoryview(wire)).decode()
    except UnicodeDecodeError as bad:
        return InvalidInput(f"byte {bad.start + 1} is not UTF-8", code="invalid_utf8")
    return InvalidInput(f"the event is not JSON: {error}", code="malformed_json")
