"""Readers: plain documents become commands about holds, or `InvalidInput` with a JSON pointer.

A bad or missing member has the code ``invalid_<member>``, a member that does not exist
``unknown_member``; what a document may say is in docs/spec/holds.md. Authorize and capture stand
before and behind every provider call: a valid document is read in one typed step, and only what
that step does not take is read member by member, which also finds what is wrong.

The readers of budgets, credit and entitlements are in `ledger.application.ask_terms`.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

import msgspec
import rfc8785

from ledger.application import ask_fields as fields
from ledger.application.ask_fields import Check, Scaled, fail, read_members
from ledger.application.ask_forms import AskForm, CaptureForm, ask_form, capture_form
from ledger.application.ask_terms import (
    budget_terms,
    confirm_budget,
    entitlements,
    grant_credit,
    withdraw_credit,
)
from ledger.domain.errors import InvalidInput
from ledger.domain.holds import (
    AVAILABLE,
    DEFAULT_TTL_US,
    HOLD_SOURCE,
    KINDS,
    MAX_TTL_US,
    MIN_TTL_US,
    ON_EXPIRY,
    SECOND,
    Ask,
    AuthorizeHold,
    CaptureHold,
    ExtendHold,
    ProgressHold,
    ReverseCharge,
    VoidHold,
    hold_digest,
)
from ledger.domain.usage import (
    DIGEST_BYTES,
    MAX_RAW_BYTES,
    MAX_TEXT,
    OUTCOMES,
    PAYERS,
    RESERVED_SOURCES,
    read_quantities,
)

__all__ = [
    "authorize_hold",
    "budget_terms",
    "capture_hold",
    "confirm_budget",
    "entitlements",
    "extend_hold",
    "grant_credit",
    "progress_hold",
    "reverse_charge",
    "void_hold",
    "withdraw_credit",
]

MAX_TOOLS = 100
"""Most tools that one ask may name."""
MAX_STEP = 10**9
"""Highest step of an extension or a checkpoint."""

_WORD = "available"
_TTL = fields.seconds(MIN_TTL_US // SECOND, MAX_TTL_US // SECOND)
_WORDS = {word: word for word in (*KINDS, *PAYERS, *ON_EXPIRY, *OUTCOMES)}
"""Words that may be defaults: msgspec leaves those out by identity, so each is one object."""
_encode = msgspec.json.Encoder().encode
_tools = fields.names(MAX_TOOLS)


def authorize_hold(
    document: Mapping[str, object] | AskForm, *, tenant: str, dry: bool = False
) -> AuthorizeHold:
    """Return the command that asks whether a call may be made.

    Args:
        document: ``hold`` and exactly one of ``quantities`` and ``amount``, the members of
            `ledger.domain.holds.Ask`, and ``ttl`` in seconds. ``amount`` may be ``available``.
        tenant: whose ledger.
        dry: only say what the answer would be.

    Raises:
        InvalidInput: ``invalid_<member>`` or ``unknown_member``.
    """
    asked = ask_form(document)
    _checked_name(tenant, "/tenant")
    amount = minimum = None
    if asked.amount is not msgspec.UNSET:
        amount = _amount(asked.amount, "/amount")
    quantities: dict[str, str] = {}
    numbers: tuple[int, ...] = ()
    decimals = 0
    if asked.quantities is not msgspec.UNSET:
        quantities, numbers, decimals = _quantities(asked.quantities)
    if asked.min_amount is not msgspec.UNSET:
        minimum = _positive(asked.min_amount, "/min_amount")
    _check_together(asked, amount, minimum)
    ttl_us = DEFAULT_TTL_US
    if asked.ttl is not msgspec.UNSET:
        given = _TTL(asked.ttl, "/ttl")
        ttl_us = DEFAULT_TTL_US if given == DEFAULT_TTL_US else given
    labels = asked.labels
    # By position, in the order of the members: keywords would cost a good part of all reading.
    ask = Ask(
        amount,
        asked.api_key,
        asked.batch,
        _WORDS[asked.billable],
        asked.byok,
        asked.conversation,
        fields.currency(asked.currency, "/currency") if asked.currency != "" else "",
        _WORDS[asked.kind],
        dict(sorted(labels.items())) if len(labels) > 1 else labels,
        minimum,
        asked.model,
        _WORDS[asked.on_expiry],
        asked.plugin,
        asked.project,
        asked.provider,
        asked.provider_account,
        quantities,
        asked.region,
        asked.session,
        asked.tier,
        _tools(asked.tools, "/tools") if asked.tools != () else (),
        ttl_us,
        asked.user,
    )
    body = _encode(ask)
    return AuthorizeHold(
        tenant,
        asked.hold,
        ask,
        body,
        hold_digest(asked.hold),
        blake2b(body, digest_size=DIGEST_BYTES).digest(),
        numbers,
        decimals,
        dry,
    )


def _check_together(asked: AskForm, amount: int | None, minimum: int | None) -> None:
    """Check what no member can say alone."""
    by_quantities = asked.quantities is not msgspec.UNSET
    if asked.kind == "lease" and by_quantities:
        fail("/quantities", "a lease is of an amount")
    if by_quantities and amount is not None:
        fail("/amount", "give quantities or an amount, not both")
    if not by_quantities and amount is None:
        if asked.kind == "lease":
            fail("/amount", "is missing: a lease is of an amount")
        fail("/quantities", "is missing, and so is amount: give one of them")
    if by_quantities and not asked.provider:
        fail("/provider", "is missing: quantities are rated with a provider's prices")
    if asked.on_expiry == "capture_full" and not by_quantities:
        fail("/on_expiry", "capture_full records the quantities of an ask, and this one has none")
    if minimum is not None and amount is not None and amount != AVAILABLE and minimum > amount:
        fail("/min_amount", "is more than amount")


def extend_hold(document: Mapping[str, object], *, tenant: str, hold: str) -> ExtendHold:
    """Return the command that reserves up to a target.

    Args:
        document: ``step`` from 1, exactly one of ``amount`` (may be ``available``) and
            ``quantities``, both cumulative; ``ttl`` in seconds from now.
        tenant: whose ledger.
        hold: id of the hold.

    Raises:
        InvalidInput: ``invalid_<member>`` or ``unknown_member``.
    """
    values = read_members(document, _EXTEND_CHECKS, required=("step",))
    _checked_names(tenant, hold)
    if "amount" in values and "quantities" in values:
        fail("/amount", "give quantities or an amount, not both")
    if "amount" not in values and "quantities" not in values:
        fail("/quantities", "is missing, and so is amount: give one of them")
    scaled: Scaled = values.get("quantities", ({}, (), 0))
    return ExtendHold(
        tenant, hold, values["step"], values.get("amount"), scaled[0], values.get("ttl", 0)
    )


def progress_hold(document: Mapping[str, object], *, tenant: str, hold: str) -> ProgressHold:
    """Return the command that keeps a checkpoint.

    Args:
        document: ``step`` from 1 and cumulative ``quantities``.
        tenant: whose ledger.
        hold: id of the hold.

    Raises:
        InvalidInput: ``invalid_<member>`` or ``unknown_member``.
    """
    values = read_members(document, _PROGRESS_CHECKS, required=("step", "quantities"))
    _checked_names(tenant, hold)
    return ProgressHold(tenant, hold, values["step"], values["quantities"][0])


def capture_hold(
    document: Mapping[str, object] | CaptureForm, *, tenant: str, hold: str
) -> CaptureHold:
    """Return the command that posts what a call took.

    Args:
        document: ``capture``, the client's id of it, and cumulative ``quantities``; ``final``
            (true unless said), and what the provider's response says of ``provider``, ``model``,
            ``tier``, ``region``, ``request_id``, ``outcome``; ``occurred_at``; ``source``, which
            with ``capture`` is the key of the usage event; ``raw``, the provider's usage object
            or its JSON text.
        tenant: whose ledger.
        hold: id of the hold.

    Raises:
        InvalidInput: ``invalid_<member>`` or ``unknown_member``.
    """
    sent = capture_form(document)
    _checked_names(tenant, hold)
    quantities, _, _ = _quantities(sent.quantities)
    source = sent.source
    if source.startswith(RESERVED_SOURCES) and source != HOLD_SOURCE:
        fail("/source", f"sources that start with {RESERVED_SOURCES} are the ledger's own")
    at = sent.occurred_at
    return CaptureHold(
        tenant,
        hold,
        source,
        sent.capture,
        quantities,
        sent.final,
        None if at is msgspec.UNSET else fields.instant(at, "/occurred_at"),
        sent.provider,
        sent.model,
        sent.tier,
        sent.region,
        sent.request_id,
        _WORDS[sent.outcome],
        "" if sent.raw is msgspec.UNSET else _raw(sent.raw, "/raw"),
    )


def void_hold(document: Mapping[str, object], *, tenant: str, hold: str) -> VoidHold:
    """Return the command that gives a hold up.

    Args:
        document: ``void``, the client's id of it; ``reason``; ``force`` (false unless said).
        tenant: whose ledger.
        hold: id of the hold.

    Raises:
        InvalidInput: ``invalid_<member>`` or ``unknown_member``.
    """
    values = read_members(document, _VOID_CHECKS, required=("void",))
    _checked_names(tenant, hold)
    return VoidHold(tenant=tenant, hold=hold, **values)


def reverse_charge(document: Mapping[str, object], *, tenant: str) -> ReverseCharge:
    """Return the command that takes part of a captured charge back.

    Args:
        document: ``reversal``, the client's id of it; ``capture`` and ``source`` (the source of
            captures that named none, unless said); ``amount`` above 0; ``reason``.
        tenant: whose ledger.

    Raises:
        InvalidInput: ``invalid_<member>`` or ``unknown_member``.
    """
    values = read_members(document, _REVERSE_CHECKS, required=("reversal", "capture", "amount"))
    _checked_name(tenant, "/tenant")
    values.setdefault("source", HOLD_SOURCE)
    return ReverseCharge(tenant=tenant, **values)


def _checked_name(value: object, pointer: str) -> None:
    if type(value) is not str or not 0 < len(value) <= MAX_TEXT or not value.isprintable():
        fields.name(value, pointer)


def _checked_names(tenant: str, hold: str) -> None:
    _checked_name(tenant, "/tenant")
    _checked_name(hold, "/hold")


def _amount(value: object, pointer: str) -> int:
    return AVAILABLE if value == _WORD else fields.money(value, pointer)


def _positive(value: object, pointer: str) -> int:
    number = fields.money(value, pointer)
    if not number:
        fail(pointer, "give a number above 0")
    return number


def _quantities(value: object) -> Scaled:
    """Return quantities, at once where all numbers are whole."""
    if type(value) is dict:
        for number in value.values():
            if type(number) is not int:
                break
        else:
            try:
                return read_quantities(value, pointer="/quantities")
            except (InvalidInput, TypeError):
                pass
    return fields.quantities(value, "/quantities")


def _raw(value: object, pointer: str) -> str:
    """Return a provider's usage object as JSON text that has a canonical form."""
    try:
        body = value.encode() if isinstance(value, str) else _encode(value)
        if len(body) > MAX_RAW_BYTES:
            fail(pointer, f"has {len(body)} bytes; at most {MAX_RAW_BYTES} are kept")
        rfc8785.dumps(msgspec.json.decode(body))
    except InvalidInput:
        raise
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
        fail(pointer, f"has no canonical JSON (RFC 8785): {error}")
    return body.decode()


_EXTEND_CHECKS: dict[str, Check] = {
    "step": fields.whole(1, MAX_STEP),
    "amount": _amount,
    "quantities": fields.quantities,
    "ttl": _TTL,
}
_PROGRESS_CHECKS: dict[str, Check] = {
    "step": fields.whole(1, MAX_STEP),
    "quantities": fields.quantities,
}
_VOID_CHECKS: dict[str, Check] = {
    "void": fields.name,
    "reason": fields.text,
    "force": fields.flag,
}
_REVERSE_CHECKS: dict[str, Check] = {
    "reversal": fields.name,
    "source": fields.name,
    "capture": fields.name,
    "amount": _positive,
    "reason": fields.text,
}
