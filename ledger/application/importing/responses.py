"""Lines of provider responses, bare or in an envelope, as commands.

A line is an envelope if it is an object with ``response`` or ``stream`` and none of the members
by which providers tag their own objects (``type``, ``object``, ``event_type``); everything else is
the response itself, an array being the events of a stream.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Annotated, Any, Literal

import msgspec

from ledger.application.importing.lines import Item, Line
from ledger.application.intake import Name, Quantities, Text, Time, UsageData, usage_command
from ledger.application.responses import AUTO, Detect
from ledger.domain.errors import InvalidInput, Problem
from ledger.domain.periods import to_us
from ledger.domain.responses import NormalizedCall, Normalizer
from ledger.domain.usage import (
    MAX_LABELS,
    MAX_TEXT,
    RecordUsage,
    check_text,
    check_time,
    escape_pointer,
)

FLAGS_LABEL = "flags"
"""Label that has the remarks on how the quantities were found, parted by blanks."""
ESTIMATED = "estimated"
"""Flag of an event in which the caller's counts stand for what an incomplete stream lacks."""

_INCOMPLETE = frozenset({"no_usage_in_stream", "incomplete_stream"})
_TAGS = frozenset({"type", "object", "event_type"})


class Envelope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A response and what its caller knows about it.

    Attributes:
        response: the decoded response; either this or ``stream``.
        stream: a stream's decoded events in order.
        id: the producer's idempotency key.
        provider: whose response it is.
        model: where the response names none; the same for ``tier`` and ``region``.
        quantities: what the response does not state; what it states is never replaced.

    The other members are those of a usage event (docs/spec/metering.md).
    """

    response: dict[str, Any] | None = None
    stream: list[Any] | None = None
    tenant: Text = ""
    source: Text = ""
    id: Text = ""
    occurred_at: Time | None = None
    provider: Text = ""
    model: Text = ""
    tier: Text = ""
    region: Text = ""
    batch: bool = False
    quantities: Quantities = {}
    api_key: Text = ""
    attempt: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    billable: Literal["tenant", "platform"] = "tenant"
    byok: bool = False
    conversation: Text = ""
    hold: Text = ""
    labels: Annotated[dict[Name, Text], msgspec.Meta(max_length=MAX_LABELS)] = {}
    outcome: Literal["ok", "error", "aborted"] = "ok"
    plugin: Text = ""
    project: Text = ""
    provider_account: Text = ""
    request_id: Text = ""
    session: Text = ""
    user: Text = ""


_COPIED = (
    "api_key",
    "attempt",
    "billable",
    "byok",
    "conversation",
    "hold",
    "plugin",
    "project",
    "provider_account",
    "session",
    "user",
)
"""Members that an event has as the envelope says them."""
_TEXTS = ("tenant", "source", "id", "provider", "model", "tier", "region", "request_id", "user")

_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_encode = msgspec.json.Encoder(decimal_format="number").encode


class ResponseReader:
    """Makes commands of lines with responses.

    Args:
        provider: whose responses they are where an envelope does not say; `AUTO` detects it.
        tenant: whose ledger, where an envelope does not say.
        source: the producer, where an envelope does not say.
        normalizer: turns a response into calls.
        detect: tells a provider.

    Raises:
        InvalidInput: ``unknown_provider``, ``invalid_text``.
    """

    def __init__(
        self, *, provider: str, tenant: str, source: str, normalizer: Normalizer, detect: Detect
    ) -> None:
        check_text(tenant, pointer="/tenant")
        check_text(source, pointer="/source")
        if provider != AUTO:
            _check_provider(provider, normalizer)
        self._provider = "" if provider == AUTO else provider
        self._tenant = tenant
        self._source = source
        self._normalizer = normalizer
        self._detect = detect

    def read(self, lines: Iterable[Line]) -> Iterator[Item]:
        """Yield the commands of each line, one a call that the response bills, or its problem.

        A line with a problem in any of its calls gives that problem alone.
        """
        for number, line, problem in lines:
            if problem is not None:
                yield number, line, problem
                continue
            if not line or line.isspace():
                continue
            try:
                commands = self.commands(line)
            except InvalidInput as error:
                yield number, line, Problem.of(error)
                continue
            for command in commands:
                yield number, line, command

    def commands(self, line: bytes) -> list[RecordUsage]:
        """Return the commands of one line.

        Raises:
            InvalidInput: what is wrong; pointers are into the line.
        """
        envelope, prefix = _read_line(line)
        response = envelope.response if envelope.stream is None else envelope.stream
        if response is None:
            raise InvalidInput("the envelope has no response", code="missing_response")
        tenant = envelope.tenant or self._tenant
        source = envelope.source or self._source
        for value, name in ((tenant, "tenant"), (source, "source")):
            if not value:
                raise InvalidInput(
                    f"no {name}: neither the line nor --{name} says",
                    code=f"missing_{name}",
                    pointer=f"/{name}",
                )
        try:
            calls = self._normalizer(provider=self._name(envelope, response), response=response)
        except InvalidInput as error:
            raise InvalidInput(
                error.message, code=error.code, pointer=prefix + error.pointer
            ) from None
        except (ArithmeticError, RecursionError) as error:
            raise InvalidInput(
                f"the response cannot be read: {type(error).__name__}",
                code="unknown_response_shape",
                pointer=prefix,
            ) from None
        if not calls:
            raise InvalidInput("the response states no usage", code="missing_usage", pointer=prefix)
        # What the caller adds belongs to one call, not to each part of the response.
        main = next((call for call in calls if not call.part), calls[0])
        nothing: Quantities = {}
        return [
            _command(
                envelope,
                call,
                added=envelope.quantities if call is main else nothing,
                id=id,
                source=source,
                tenant=tenant,
            )
            for call, id in zip(calls, _ids(envelope, calls, line), strict=True)
        ]

    def _name(self, envelope: Envelope, response: Mapping[str, Any] | Sequence[Any]) -> str:
        name = envelope.provider or self._provider or self._detect(response)
        if not name:
            raise InvalidInput(
                "whose response this is cannot be told from it; say --provider NAME, "
                "or provider in an envelope",
                code="unknown_provider",
            )
        return name


def _check_provider(provider: str, normalizer: Normalizer) -> None:
    """Refuse a name that would have every line rejected."""
    try:
        normalizer(provider=provider, response={})
    except InvalidInput as error:
        if error.code == "unknown_provider":
            raise


def _read_line(line: bytes) -> tuple[Envelope, str]:
    """Return a line's envelope, made up for a bare response, and the response's pointer."""
    try:
        value = _decode(line)
    except UnicodeDecodeError:
        raise InvalidInput("the text is not UTF-8", code="invalid_utf8") from None
    except RecursionError:
        raise InvalidInput("the JSON is nested too deeply", code="nested_too_deep") from None
    except ArithmeticError:
        raise InvalidInput("a number is too large to be read", code="invalid_number") from None
    except msgspec.ValidationError as error:
        raise InvalidInput(str(error), code="invalid_number") from None
    except msgspec.DecodeError as error:
        raise _malformed(line, error) from None
    if isinstance(value, list):
        return Envelope(stream=value), ""
    if not isinstance(value, dict):
        raise InvalidInput(
            "the line is no JSON object or array", code="unknown_response_shape", pointer=""
        )
    if not value.keys() & {"response", "stream"} or value.keys() & _TAGS:
        return Envelope(response=value), ""
    try:
        envelope = msgspec.convert(value, Envelope)
    except msgspec.ValidationError as error:
        raise _invalid(error) from None
    if envelope.response is not None and envelope.stream is not None:
        raise InvalidInput(
            "the envelope has both response and stream; give one",
            code="invalid_stream",
            pointer="/stream",
        )
    return envelope, "/response" if envelope.stream is None else "/stream"


def _malformed(line: bytes, error: Exception) -> InvalidInput:
    try:
        line.decode()
    except UnicodeDecodeError as bad:
        return InvalidInput(f"byte {bad.start + 1} is not UTF-8", code="invalid_utf8")
    return InvalidInput(f"the line is not JSON: {error}", code="malformed_json")


_AT = re.compile(r" - at `(?:key in )?\$(.*)`$", re.DOTALL)
_MEMBER = re.compile(r"unknown field `(.*)`", re.DOTALL)


def _invalid(error: msgspec.ValidationError) -> InvalidInput:
    said = str(error)
    at = _AT.search(said)
    path = at[1].replace("[...]", "").replace(".", "/") if at else ""
    if at:
        said = said[: at.start()]
    unknown = _MEMBER.search(said)
    if unknown:
        name = escape_pointer(unknown[1])
        return InvalidInput(
            f"an envelope has no member {name!r}", code="unknown_field", pointer=f"{path}/{name}"
        )
    member = path.split("/")[1] if path else "event"
    code = "invalid_quantity" if member == "quantities" else f"invalid_{member}"
    return InvalidInput(said, code=code, pointer=path)


def _ids(envelope: Envelope, calls: Sequence[NormalizedCall], line: bytes) -> list[str]:
    """Return one id a call: the envelope's, else the response's, else the line's digest.

    Parts of one response are told apart by ``#part``, calls without parts by ``#2``, ``#3`` …
    """
    ids: dict[str, None] = {}
    for position, call in enumerate(calls, start=1):
        id = envelope.id or call.request_id
        if not id:
            id = f"digest-{blake2b(line.strip(), digest_size=16).hexdigest()}"
        if call.part:
            id = f"{id}#{call.part}"
        if id in ids:
            id = f"{id}#{position}"
        ids[id] = None
    return list(ids)


def _command(
    envelope: Envelope,
    call: NormalizedCall,
    *,
    added: Quantities,
    id: str,
    source: str,
    tenant: str,
) -> RecordUsage:
    quantities, flags = _completed(call, added)
    members = {name: getattr(envelope, name) for name in _COPIED}
    members |= {
        "provider": call.provider,
        "model": call.model or envelope.model,
        "tier": call.tier or envelope.tier,
        "region": call.region or envelope.region,
        "request_id": envelope.request_id or call.request_id,
    }
    for name, text in (("id", id), *members.items()):
        if isinstance(text, str):
            _check_length(text, name)
    at = _time(envelope.occurred_at, call)
    try:
        return usage_command(
            UsageData(
                quantities=quantities,
                batch=call.batch or envelope.batch,
                labels=_labels(envelope.labels, flags),
                outcome=envelope.outcome if call.outcome == "ok" else _outcome(call),
                raw=_raw(call.raw),
                **members,
            ),
            id=id,
            source=source,
            tenant=tenant,
            at=at,
        )
    except InvalidInput as error:
        raise InvalidInput(
            error.message, code=error.code, pointer=_line_pointer(error.pointer)
        ) from None
    except (msgspec.MsgspecError, ArithmeticError, RecursionError) as error:
        raise InvalidInput(
            f"the usage object has no canonical form (RFC 8785): {error}", code="invalid_raw"
        ) from None


def _completed(call: NormalizedCall, added: Quantities) -> tuple[Quantities, list[str]]:
    """Return the stated quantities with the caller's beside them, and the flags of the result.

    What the response states is never replaced. What is added to a stream that broke off is an
    estimate.
    """
    stated: Quantities = {**call.quantities}
    missing = added.keys() - stated.keys()
    flags = set(call.flags)
    if missing and flags & _INCOMPLETE:
        flags.add(ESTIMATED)
    stated |= {name: added[name] for name in missing}
    return stated, sorted(flags)


def _labels(labels: dict[str, str], flags: Sequence[str]) -> dict[str, str]:
    if not flags:
        return labels
    if FLAGS_LABEL in labels or len(labels) >= MAX_LABELS:
        raise InvalidInput(
            f"the label {FLAGS_LABEL!r} is needed for {' '.join(flags)[:MAX_TEXT]}; "
            f"leave it free, and have at most {MAX_LABELS - 1} others",
            code="invalid_labels",
            pointer="/labels",
        )
    # A flag can quote a member's name, which can hold anything.
    said = "".join(char if char.isprintable() else "?" for char in " ".join(flags))
    return {**labels, FLAGS_LABEL: said if len(said) <= MAX_TEXT else said[: MAX_TEXT - 1] + "…"}


def _outcome(call: NormalizedCall) -> Literal["error", "aborted"]:
    return "aborted" if call.outcome == "aborted" else "error"


def _raw(usage: Mapping[str, Any] | None) -> msgspec.Raw:
    return msgspec.Raw(b"" if usage is None else _encode(usage))


def _time(stated: datetime | None, call: NormalizedCall) -> int | None:
    moment = stated or call.occurred_at
    if moment is None:
        return None
    at = to_us(moment)
    check_time(at, pointer="/occurred_at")
    return at


def _check_length(text: str, name: str) -> None:
    if len(text) > MAX_TEXT:
        check_text(text, pointer=f"/{name}")


def _line_pointer(pointer: str) -> str:
    """Return where the line has what an event has at ``pointer``."""
    return "/tenant" if pointer == "/subject" else pointer.removeprefix("/data")
