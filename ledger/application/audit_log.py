"""The audit log: who did what, when, from where, and what came of it; lines are only added.

    log.write(act="key.revoked", who="key:0123456789abc", via="http", target="abc…", tenant="acme")
    log.list(tenant="acme", act="key", limit=50)

A line is written after its act. A crash between the two leaves an act without a line; the act's own
entry or event is in the ledger's log either way, but not all of these name who.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import msgspec

from ledger.application.documents.encoding import to_plain
from ledger.domain.errors import InvalidInput, InvariantViolation

OK = "ok"
"""Outcome of an act that was done; of another, the code of its error."""
VIAS = ("cli", "http", "jobs")
"""Through which interface somebody acted."""
MAX_DETAIL_BYTES = 8_192
"""Longest detail that is kept whole."""
MAX_LINES = 1_000
"""Most lines that one call of `AuditLog.list` returns."""
_MAX_TEXT = 512
_ACT = re.compile(r"[a-z_]{1,30}(\.[a-z_]{1,30})?", re.ASCII)
# Whatever looks like a token, mistyped ones too; its id says which key, and is no secret.
_SECRET = re.compile(r"(tbk_[a-z]{1,8}_[0-9a-z]{1,20})_[0-9A-Za-z]+")


class AuditLine(msgspec.Struct, frozen=True, kw_only=True):
    """One act.

    Attributes:
        number: orders the lines; a cursor for `AuditLog.list`. Not without gaps.
        at: when, microseconds since the epoch, by the database's clock.
        tenant: whom it is about; "" for the platform.
        act: what, such as ``key.revoked``.
        who: who, such as ``key:0123456789abc`` or the system's user.
        via: one of `VIAS`.
        target: what it was done to: a key's id, a budget's name, a price's version.
        request_id: of the request; "" where there is none.
        address: where it came from; "" where that is unknown.
        outcome: `OK` or the code of an error.
        detail: what else there is to know; holds no secrets.
    """

    number: int
    at: int
    tenant: str
    act: str
    who: str
    via: str
    target: str
    request_id: str
    address: str
    outcome: str
    detail: dict[str, Any]


class AuditStore(Protocol):
    """Where the lines are."""

    def append(self, line: AuditLine) -> None:
        """Add a line; the store gives it its number and its time.

        Raises:
            Unavailable: it could not be written, or it is unknown whether it was.
        """
        ...

    def list(
        self,
        *,
        tenant: str | None,
        before: int | None,
        limit: int,
        act: str | None,
        who: str | None,
    ) -> Sequence[AuditLine]:
        """Return lines, the newest first; arguments as for `AuditLog.list`."""
        ...

    def for_tenant(self, tenant: str) -> AuditStore:
        """Return the lines of one tenant alone, which the database enforces."""
        ...


class AuditLog:
    """Writes and lists acts; thread-safe.

    Args:
        store: where they are.
    """

    def __init__(self, store: AuditStore) -> None:
        self._store = store

    def write(
        self,
        *,
        act: str,
        who: str,
        via: str,
        tenant: str | None = None,
        target: str = "",
        request_id: str = "",
        address: str = "",
        outcome: str = OK,
        detail: Mapping[str, object] | None = None,
    ) -> None:
        """Write down an act; waits for the commit.

        Args:
            act: noun and past participle, such as ``budget.set``.
            who: who did it.
            via: one of `VIAS`.
            tenant: whom it is about; None for the platform.
            target: what it was done to.
            request_id: of the request.
            address: where it came from.
            outcome: `OK` or the code of an error.
            detail: plain values, decimals and times. Tokens in it lose their secrets; one that is
                longer than `MAX_DETAIL_BYTES` is left out.

        Raises:
            Unavailable: it could not be written, or it is unknown whether it was.
            InvariantViolation: ``act`` or ``via`` are not what they should be.
        """
        if "." not in act or _ACT.fullmatch(act) is None or via not in VIAS:
            raise InvariantViolation(f"{act!r} via {via!r} is no act that can be written down")
        self._store.append(
            AuditLine(
                number=0,
                at=0,
                tenant=_line(tenant or ""),
                act=act,
                who=_line(who),
                via=via,
                target=_line(target),
                request_id=_line(request_id),
                address=_line(address),
                outcome=_line(outcome),
                detail=_detail(detail or {}),
            )
        )

    def list(
        self,
        *,
        tenant: str | None = None,
        before: int | None = None,
        limit: int = 100,
        act: str | None = None,
        who: str | None = None,
    ) -> Sequence[AuditLine]:
        """Return lines, the newest first.

        Args:
            tenant: whom they are about; "" for the platform, None for all.
            before: only lines with a smaller number.
            limit: most lines, 1 to `MAX_LINES`.
            act: an act, or the noun of several: ``key`` is ``key.issued``, ``key.revoked``, ….
            who: who did it.

        Raises:
            InvalidInput: ``invalid_limit``, ``invalid_act``.
            Unavailable: they cannot be read now.
        """
        if not 1 <= limit <= MAX_LINES:
            raise InvalidInput(
                f"limit is from 1 to {MAX_LINES}", code="invalid_limit", pointer="/limit"
            )
        if act is not None and _ACT.fullmatch(act) is None:
            raise InvalidInput(
                "act is such as key or key.revoked", code="invalid_act", pointer="/act"
            )
        return self._store.list(tenant=tenant, before=before, limit=limit, act=act, who=who)

    def for_tenant(self, tenant: str) -> Self:
        """Return the lines of one tenant alone, which the database enforces; cheap.

        There are none before its ledger is open.
        """
        return type(self)(self._store.for_tenant(tenant))


def without_secrets(text: str) -> str:
    """Return a text in which tokens have lost their secrets."""
    return _SECRET.sub(r"\1_…", text)


def _line(text: str) -> str:
    """Return a text that can stand in a line: short, printable, without secrets."""
    printable = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
    return without_secrets(printable)[:_MAX_TEXT]


def _detail(detail: Mapping[str, object]) -> dict[str, Any]:
    try:
        kept: dict[str, Any] = _clean(to_plain(dict(detail)))
        size = len(msgspec.json.encode(kept))
    except (TypeError, ValueError, RecursionError):
        return {"left_out": "not plain"}
    return kept if size <= MAX_DETAIL_BYTES else {"left_out": "too long"}


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _line(value) if value else value
    if isinstance(value, dict):
        return {_line(name): _clean(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_clean(member) for member in value]
    return value
