"""How much was used, of what and by whom, as members of other systems' events say it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec

from ledger.application.intake import UsageData, usage_command
from ledger.domain.errors import InvalidInput
from ledger.domain.meters import QUANTITY_LIMIT, STANDARD_METERS
from ledger.domain.periods import to_us
from ledger.domain.provider_names import from_litellm, maker_of
from ledger.domain.usage import (
    MAX_RAW_BYTES,
    OUTCOMES,
    RecordUsage,
    check_text,
    check_time,
    escape_pointer,
)

UNKNOWN = "unknown"
"""Provider of a call of which nobody said who ran it; it stays unpriced until it has a price."""
FLAGS_LABEL = "flags"
"""Label that has the remarks on how an event was mapped, parted by blanks."""
NO_DETAILS = "totals_only"
"""Flag: cached, reasoning and other tokens are not told apart, the sender gave totals."""
INFERRED = "provider_inferred"
"""Flag: the provider is the model's maker; the sender did not say who ran it."""
NO_QUANTITIES = "no_quantities"
"""Flag: a call of a model without quantities counts as one request."""
DIFFERENT_TOTAL = "total_differs"
"""Flag: the sender's total is not the sum of what it gave."""

_INPUT = ("prompt_tokens", "input_tokens")
_OUTPUT = ("completion_tokens", "output_tokens")
_TYPES = {
    "input": "tokens.input",
    "prompt": "tokens.input",
    "system": "tokens.input",
    "output": "tokens.output",
    "completion": "tokens.output",
}
"""Meter of ``tokens`` by ``type``: how OpenMeter's documentation tells prompts from answers."""
_DECIMAL = re.compile(r"[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?", re.ASCII)
_EXACT_LIMIT = 2**53
_NUMBER_CHARS = 64
_encode = msgspec.json.Encoder(decimal_format="string").encode


class Key(msgspec.Struct, frozen=True):
    """Where an event goes and what identifies it there.

    Attributes:
        tenant: whose ledger.
        source: the producer.
        id: the idempotency key.
        at: when it happened, microseconds since the epoch; None takes the database's time.
    """

    tenant: str
    source: str
    id: str
    at: int | None


def command(
    members: Mapping[str, Any],
    key: Key,
    *,
    provider: str = "",
    user: str = "",
    request_id: str = "",
    labels: Mapping[str, str],
    keep: bool = True,
) -> RecordUsage:
    """Return the command that records what an event's members say.

    Args:
        members: of the event's data or properties; their pointers begin with ``/data``.
        key: where to, and under which key.
        provider: who ran it, where the members do not say.
        user: who used it, likewise.
        request_id: the provider's, likewise.
        labels: that the event gets besides those about its mapping.
        keep: whether the members are kept as evidence.

    Raises:
        InvalidInput: what cannot be mapped, or breaks a rule of docs/spec/metering.md.
    """
    quantities, flags = quantities_of(members)
    model = text_of(members, "model")
    provider, model, inferred = provider_of(text_of(members, "provider"), model, provider)
    if not quantities:
        if not model:
            raise InvalidInput(
                "no member says how much was used: give prompt_tokens and completion_tokens, "
                "tokens with a type, or a meter's own name",
                code="no_quantities",
                pointer="/data",
            )
        quantities, flags = {"requests": 1}, [NO_QUANTITIES]
    if inferred:
        flags.append(INFERRED)
    remarks = {FLAGS_LABEL: " ".join(sorted(flags))} if flags else {}
    data = UsageData(
        provider=provider,
        model=model,
        quantities=quantities,
        user=text_of(members, "user") or user,
        outcome=_outcome(members),
        labels={**labels, **remarks},
        raw=evidence(members) if keep else msgspec.Raw(),
        api_key=text_of(members, "api_key"),
        conversation=text_of(members, "conversation"),
        plugin=text_of(members, "plugin"),
        project=text_of(members, "project"),
        provider_account=text_of(members, "provider_account"),
        region=text_of(members, "region"),
        request_id=text_of(members, "request_id") or request_id,
        session=text_of(members, "session"),
        tier=text_of(members, "tier"),
    )
    try:
        return usage_command(data, id=key.id, source=key.source, tenant=key.tenant, at=key.at)
    except InvalidInput as error:
        # The meters are ours; the sender has no such members to look at.
        pointer = "/data" if error.pointer.startswith("/data/quantities") else error.pointer
        raise InvalidInput(error.message, code=error.code, pointer=pointer) from None


def quantities_of(members: Mapping[str, Any]) -> tuple[dict[str, int | Decimal], list[str]]:
    """Return quantities by meter, and remarks on how they were found.

    A member that is null says nothing. Counted are ``prompt_tokens`` and ``completion_tokens``
    (or ``input_tokens``, ``output_tokens``), ``tokens`` by its ``type``, and members that are
    called as meters are.

    Raises:
        InvalidInput: ``invalid_quantity``, ``invalid_type``.
    """
    found: dict[str, int | Decimal] = {}
    flags: list[str] = []
    for meter, names in (("tokens.input", _INPUT), ("tokens.output", _OUTPUT)):
        name = next((name for name in names if members.get(name) is not None), None)
        if name is not None:
            found[meter] = number(members[name], name)
    if found:
        flags.append(NO_DETAILS)
        total = members.get("total_tokens")
        if total is not None and number(total, "total_tokens") != sum(found.values()):
            flags.append(DIFFERENT_TOTAL)
    elif members.get("tokens") is not None:
        kind = members.get("type")
        meter_of_kind = _TYPES.get(kind) if isinstance(kind, str) else None
        if meter_of_kind is None:
            raise InvalidInput(
                "tokens need a type: input or output (or prompt, system, completion)",
                code="invalid_type",
                pointer="/data/type",
            )
        found[meter_of_kind] = number(members["tokens"], "tokens")
        flags.append(NO_DETAILS)
    for name in members.keys() & STANDARD_METERS.keys():
        if members[name] is not None:
            found[name] = number(members[name], name)
    return found, flags


def number(value: object, name: str, *, pointer: str | None = None) -> int | Decimal:
    """Return a number that is one, or a text that says one.

    Args:
        value: of a member.
        name: of that member.
        pointer: to it; that of a member of the data when left out.

    Raises:
        InvalidInput: ``invalid_quantity``.
    """
    found: object = value
    if isinstance(value, str) and len(value) <= _NUMBER_CHARS and _DECIMAL.fullmatch(value):
        with suppress(ArithmeticError):
            found = Decimal(value)
    is_number = isinstance(found, int | Decimal) and not isinstance(found, bool)
    # Compared before it is added to anything: its exponent may be of any size.
    if is_number and 0 <= found < QUANTITY_LIMIT:  # type: ignore[operator] # said before
        return found  # type: ignore[return-value] # likewise
    raise InvalidInput(
        f"{name} is not a number from 0 to below 10^18",
        code="invalid_quantity",
        pointer=f"/data/{escape_pointer(name)}" if pointer is None else pointer,
    )


def text_of(members: Mapping[str, Any], name: str) -> str:
    """Return a member as text; a whole number is taken for an id, null for nothing.

    Raises:
        InvalidInput: ``invalid_<name>``.
    """
    value = members.get(name)
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) < _EXACT_LIMIT else None
    if not isinstance(value, str):
        raise InvalidInput(f"{name} is not a text", code=f"invalid_{name}", pointer=f"/data/{name}")
    return value


def provider_of(said: str, model: str, address: str) -> tuple[str, str, bool]:
    """Return who ran a model, the model's name, and whether the first was inferred.

    In this order: what the event says, what stands before a slash in the model's name (as LiteLLM
    writes it), what the address says, the model's maker, `UNKNOWN`.

    Args:
        said: by the event.
        model: as the event says.
        address: provider that the address says.
    """
    if said:
        return from_litellm(said), model, False
    first, slash, rest = model.partition("/")
    if slash and first and rest:
        return from_litellm(first), rest, False
    if address:
        return from_litellm(address), model, False
    maker = maker_of(model)
    return (maker, model, True) if maker else (UNKNOWN, model, False)


def _outcome(members: Mapping[str, Any]) -> Literal["ok", "error", "aborted"]:
    value = members.get("outcome")
    # Another system's word of that name may mean anything; only ours is taken.
    return value if value in OUTCOMES else "ok"


def evidence(members: Mapping[str, Any]) -> msgspec.Raw:
    """Return an event's members as they are kept: numbers that JSON cannot say exactly as text.

    What is too large to be kept is left out; the usage counts all the same.
    """
    body = _encode(_exact(members))
    return msgspec.Raw(body if len(body) <= MAX_RAW_BYTES else b"")


def _exact(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _exact(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_exact(member) for member in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _EXACT_LIMIT:
        return str(value)
    return value


def name_of(value: object, *, pointer: str) -> str:
    """Return a name that has to be there.

    Raises:
        InvalidInput: ``missing_<member>``, ``invalid_<member>``, ``invalid_text``.
    """
    member = pointer.rsplit("/", 1)[-1]
    if value is None:
        raise InvalidInput(f"{member} is missing", code=f"missing_{member}", pointer=pointer)
    if not isinstance(value, str):
        raise InvalidInput(f"{member} is not a text", code=f"invalid_{member}", pointer=pointer)
    check_text(value, pointer=pointer, required=True)
    return value


def instant(at: int, *, pointer: str) -> int:
    """Return an instant that lies in the years that are possible.

    Raises:
        InvalidInput: ``invalid_time``.
    """
    check_time(at, pointer=pointer)
    return at


def read_time(value: object, *, pointer: str) -> int | None:
    """Return an RFC 3339 time as microseconds since the epoch; one without an offset is UTC.

    Raises:
        InvalidInput: ``invalid_time``.
    """
    if value is None:
        return None
    try:
        read = msgspec.convert(value, datetime)
    except msgspec.ValidationError:
        raise InvalidInput(
            "the time is not one as RFC 3339 writes it", code="invalid_time", pointer=pointer
        ) from None
    return instant(to_us(read if read.tzinfo else read.replace(tzinfo=UTC)), pointer=pointer)
