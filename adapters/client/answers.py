"""What the server answers, typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from ledger.domain.errors import Refused

SPOOLED = "spooled"
"""Status of what the server could not be asked now: it is in the spool and will be sent."""
UNSENT = "unsent"
"""Status of what was not sent and need not be: a checkpoint while the server is out of reach."""


@dataclass(frozen=True, slots=True)
class Item:
    """What became of one event.

    Attributes:
        status: ``accepted``, ``duplicate``, ``conflict``, ``rejected``, or `SPOOLED`.
        receipt: place of its entry in the ledger.
        flags: such as ``unpriced``.
        code: why it was not taken.
        detail: the same for people.
        pointer: to the member that is wrong.
    """

    status: str
    receipt: str = ""
    flags: tuple[str, ...] = ()
    code: str = ""
    detail: str = ""
    pointer: str = ""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Item:
        """Return an item of an answer."""
        return cls(
            document.get("status", ""),
            document.get("receipt") or "",
            tuple(document.get("flags") or ()),
            document.get("code") or "",
            document.get("detail") or "",
            document.get("pointer") or "",
        )


@dataclass(frozen=True, slots=True)
class HoldAnswer:
    """The answer to an operation on a hold; codes are those of docs/spec/holds.md.

    Attributes:
        status: code of the outcome, or `SPOOLED` or `UNSENT`.
        decision: ``allow``, ``allow_partial``, ``allow_downgraded``, ``confirm``, ``deny``; "" for
            other operations than asking.
        amount: reserved now, in ``currency``.
        charge: of the usage posted so far.
        overrun: what of it is beyond what was reserved.
        provider: to be called.
        model: to be called, not always the one that was asked for.
        reasons: why, each a mapping with ``code`` and, of a budget, its numbers.
        document: the whole answer.
    """

    status: str
    hold: str = ""
    decision: str = ""
    amount: Decimal = Decimal(0)
    charge: Decimal = Decimal(0)
    overrun: Decimal = Decimal(0)
    currency: str = ""
    provider: str = ""
    model: str = ""
    expires_at: datetime | None = None
    reasons: tuple[Mapping[str, Any], ...] = ()
    flags: tuple[str, ...] = ()
    receipt: str = ""
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def allowed(self) -> bool:
        """Return whether the call may be made."""
        return self.decision.startswith("allow")

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> HoldAnswer:
        """Return the answer that a document is."""
        expires_at = document.get("expires_at")
        return cls(
            status=document["status"],
            hold=document.get("hold") or "",
            decision=document.get("decision") or "",
            amount=Decimal(document.get("amount") or 0),
            charge=Decimal(document.get("charge") or 0),
            overrun=Decimal(document.get("overrun") or 0),
            currency=document.get("currency") or "",
            provider=document.get("provider") or "",
            model=document.get("model") or "",
            expires_at=datetime.fromisoformat(expires_at) if expires_at else None,
            reasons=tuple(document.get("reasons") or ()),
            flags=tuple(document.get("flags") or ()),
            receipt=document.get("receipt") or "",
            document=document,
        )


class Denied(Refused):
    """The call is not allowed, or waits for a person; do not make it.

    Attributes:
        answer: with the decision and its reasons; its status is this error's ``code``.
    """

    default_code = "denied"

    def __init__(self, answer: HoldAnswer) -> None:
        why = ", ".join(
            f"{one.get('code', '')} {one.get('name', '')}".strip() for one in answer.reasons
        )
        message = f"hold {answer.hold!r} is not allowed: {answer.status}"
        super().__init__(f"{message} ({why})" if why else message, code=answer.status)
        self.answer = answer
