"""Version 1 of this API: one question a record, flat."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from adapters.http.compat.members import Key, command, name_of, number, read_time
from ledger.domain.errors import InvalidInput
from ledger.domain.usage import RecordUsage, escape_pointer

SOURCE = "v1"
"""Source of all records: a question is unique in a tenant's ledger."""
_METERS = {
    "input_tokens": "tokens.input",
    "output_tokens": "tokens.output",
    "tool_calls": "tool.calls",
    "audio_seconds": "audio.session.seconds",
}
MEMBERS = frozenset({"question_id", "tenant", "model", "at", *_METERS})


def usage_of(record: Mapping[str, Any], *, tenant: str | None) -> RecordUsage:
    """Return the command that records one question.

    Args:
        record: decoded.
        tenant: the only one whose usage may be recorded; None takes the record's.

    Raises:
        InvalidInput: pointers are into the record; ``foreign_tenant``, ``unknown_field`` and what
            cannot be mapped.
    """
    for name in record:
        if name not in MEMBERS:
            raise InvalidInput(
                f"there is no member {name[:64]!r}",
                code="unknown_field",
                pointer=f"/{escape_pointer(name)}",
            )
    id = name_of(record.get("question_id"), pointer="/question_id")
    named = record.get("tenant")
    if named is not None or tenant is None:
        named = name_of(named, pointer="/tenant")
        if tenant is not None and named != tenant:
            raise InvalidInput(
                "the record is of another tenant than its sender",
                code="foreign_tenant",
                pointer="/tenant",
            )
    counted = _counted(record)
    if not counted:
        raise InvalidInput(
            f"the record counts nothing: give one of {', '.join(_METERS)}", code="no_quantities"
        )
    key = Key(named or tenant or "", SOURCE, id, read_time(record.get("at"), pointer="/at"))
    try:
        return command({"model": record.get("model"), **counted}, key, labels={}, keep=False)
    except InvalidInput as error:
        raise InvalidInput(
            error.message, code=error.code, pointer=error.pointer.removeprefix("/data")
        ) from None


def _counted(record: Mapping[str, Any]) -> dict[str, int | Decimal]:
    counted = {}
    for name, meter in _METERS.items():
        if record.get(name) is not None:
            counted[meter] = number(record[name], name, pointer=f"/{name}")
    return counted
