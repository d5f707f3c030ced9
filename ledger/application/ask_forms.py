"""The two documents on the path of every provider call, read in one typed step.

`ask_form` and `capture_form` return a document with its texts, words and times checked; amounts,
quantities and what members say together are checked by `ledger.application.asks`. A document that
the typed step does not take is read member by member, which finds what is wrong or, for unusual
but valid values, returns the same form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from ledger.application import ask_fields as fields
from ledger.application.ask_fields import Check, read_members
from ledger.domain.holds import HOLD_SOURCE, KINDS, ON_EXPIRY
from ledger.domain.usage import MAX_LABELS, MAX_TEXT, OUTCOMES, PAYERS

_Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT)]
_Time = Annotated[datetime, msgspec.Meta(tz=True)]
_Form = TypeVar("_Form")
_PLAIN_TYPES = frozenset({str, int, bool, dict, list, tuple, Decimal, datetime})


class AskForm(msgspec.Struct, gc=False, frozen=True, forbid_unknown_fields=True):
    """An ask as it is sent; amounts, numbers and ttl are checked after it."""

    hold: _Name
    amount: Any = msgspec.UNSET
    api_key: _Text = ""
    batch: bool = False
    billable: Literal["tenant", "platform"] = "tenant"
    byok: bool = False
    conversation: _Text = ""
    currency: Any = ""
    kind: Literal["call", "lease"] = "call"
    labels: Annotated[dict[_Name, _Text], msgspec.Meta(max_length=MAX_LABELS)] = {}
    min_amount: Any = msgspec.UNSET
    model: _Text = ""
    on_expiry: Literal["capture_progress", "void", "capture_full"] = "capture_progress"
    plugin: _Text = ""
    project: _Text = ""
    provider: _Text = ""
    provider_account: _Text = ""
    quantities: Any = msgspec.UNSET
    region: _Text = ""
    session: _Text = ""
    tier: _Text = ""
    tools: Any = ()
    ttl: Any = msgspec.UNSET
    user: _Text = ""


class CaptureForm(msgspec.Struct, gc=False, frozen=True, forbid_unknown_fields=True):
    """A capture as it is sent; numbers are checked after it."""

    capture: _Name
    quantities: Any
    final: bool = True
    model: _Text = ""
    occurred_at: _Time | msgspec.UnsetType = msgspec.UNSET
    outcome: Literal["ok", "error", "aborted"] = "ok"
    provider: _Text = ""
    raw: Any = msgspec.UNSET
    region: _Text = ""
    request_id: _Text = ""
    source: _Name = HOLD_SOURCE
    tier: _Text = ""


class SentAsk(AskForm, gc=False, frozen=True, forbid_unknown_fields=True):
    """An ask that may name the tenant, as a body does."""

    tenant: Any = msgspec.UNSET


class SentCapture(CaptureForm, gc=False, frozen=True, forbid_unknown_fields=True):
    """A capture that may name the tenant, as a body does."""

    tenant: Any = msgspec.UNSET


_sent_ask = msgspec.json.Decoder(SentAsk, float_hook=Decimal).decode
_sent_capture = msgspec.json.Decoder(SentCapture, float_hook=Decimal).decode


def sent_ask(body: bytes) -> SentAsk | None:
    """Return the form of an ask straight from its JSON; None where `ask_form` must look closer."""
    return _sent(body, _sent_ask)


def sent_capture(body: bytes) -> SentCapture | None:
    """Return the form of a capture straight from its JSON; None where more must be looked at.

    So it is with ``raw`` too, which is kept letter by letter.
    """
    sent = _sent(body, _sent_capture)
    return sent if sent is None or sent.raw is msgspec.UNSET else None


def _sent(body: bytes, decode: Callable[[bytes], _Form]) -> _Form | None:
    # Text of ASCII without escapes is printable: what is not cannot stand in JSON unescaped.
    if not body.isascii() or b"\\" in body or b"\x7f" in body:
        return None
    try:
        return decode(body)
    except (msgspec.MsgspecError, ArithmeticError, RecursionError):
        return None


def _as_it_is(value: object, pointer: str) -> object:
    """Leave a member to the checks that both ways share."""
    del pointer
    return value


def _aware(value: object, pointer: str) -> datetime:
    """Return a time that a document says, checked, as a datetime."""
    fields.instant(value, pointer)
    at: datetime = msgspec.convert(value, datetime)
    return at


_ASK_CHECKS: dict[str, Check] = {
    "hold": fields.name,
    "amount": _as_it_is,
    "api_key": fields.text,
    "batch": fields.flag,
    "billable": fields.choice(*PAYERS),
    "byok": fields.flag,
    "conversation": fields.text,
    "currency": _as_it_is,
    "kind": fields.choice(*KINDS),
    "labels": fields.labels,
    "min_amount": _as_it_is,
    "model": fields.text,
    "on_expiry": fields.choice(*ON_EXPIRY),
    "plugin": fields.text,
    "project": fields.text,
    "provider": fields.text,
    "provider_account": fields.text,
    "quantities": _as_it_is,
    "region": fields.text,
    "session": fields.text,
    "tier": fields.text,
    "tools": _as_it_is,
    "ttl": _as_it_is,
    "user": fields.text,
}
_CAPTURE_CHECKS: dict[str, Check] = {
    "capture": fields.name,
    "quantities": _as_it_is,
    "final": fields.flag,
    "model": fields.text,
    "occurred_at": _aware,
    "outcome": fields.choice(*OUTCOMES),
    "provider": fields.text,
    "raw": _as_it_is,
    "region": fields.text,
    "request_id": fields.text,
    "source": fields.name,
    "tier": fields.text,
}


def _typed(
    document: object, form: type[Any], checks: Mapping[str, Check], required: tuple[str, ...]
) -> Any:
    """Return a document in its typed form: in one step if it is plain, else member by member."""
    if isinstance(document, Mapping) and _is_plain(document):
        try:
            return msgspec.convert(document, form)
        except (msgspec.ValidationError, UnicodeEncodeError, RecursionError):
            pass
    return form(**read_members(document, checks, required=required))


def _is_plain(document: Mapping[str, object]) -> bool:
    """Tell whether the typed step sees all that may be wrong with the texts of a document."""
    for value in document.values():
        kind = type(value)
        if kind is str:
            if not value.isprintable():  # type: ignore[attr-defined] # it is a str
                return False
        elif kind not in _PLAIN_TYPES:
            return False
    labels = document.get("labels")
    if not labels:
        return True
    if type(labels) is not dict:
        return False
    return all(type(one) is str and one.isprintable() for pair in labels.items() for one in pair)


def ask_form(document: object) -> AskForm:
    """Return the form of an ask; of one that is in its form, itself.

    Raises:
        InvalidInput: as `ledger.application.ask_fields.read_members`.
    """
    if isinstance(document, AskForm):
        return document
    form: AskForm = _typed(document, AskForm, _ASK_CHECKS, ("hold",))
    return form


def capture_form(document: object) -> CaptureForm:
    """Return the form of a capture; of one that is in its form, itself.

    Raises:
        InvalidInput: as `ledger.application.ask_fields.read_members`.
    """
    if isinstance(document, CaptureForm):
        return document
    form: CaptureForm = _typed(document, CaptureForm, _CAPTURE_CHECKS, ("capture", "quantities"))
    return form
