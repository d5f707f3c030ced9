"""Errors of the ledger, drawn as a tree.

    LedgerError
    |- InvalidInput          what a client sent cannot be read; has a JSON pointer
    |- NotFound              the id names nothing in this ledger
    |- Refused               readable, but against a rule
    `- Unavailable           the database or a file cannot serve now; may be retried

    InvariantViolation       stands outside: a defect or tampering, never a client's fault

Each class's ``code`` is stable and meant for programs; the message is for people. Subclasses
live beside whoever raises them. Bulk work returns problems as data, see `Problem`.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec


class LedgerError(Exception):
    """Something that a caller can act upon.

    Args:
        message: what is wrong, where it is and what would be right, in one sentence.
        code: stable snake_case code; the class's own when left out.
    """

    default_code: ClassVar[str] = "ledger_error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code


class InvalidInput(LedgerError):
    """Input that cannot be read as what it should be.

    Args:
        message: what is wrong and what would be right.
        code: stable code such as ``invalid_quantity``.
        pointer: JSON pointer (RFC 6901) to the offending member; "" is the whole document.
    """

    default_code = "invalid_input"

    def __init__(self, message: str, *, code: str | None = None, pointer: str = "") -> None:
        super().__init__(message, code=code)
        self.pointer = pointer


class NotFound(LedgerError):
    """The id names nothing here."""

    default_code = "not_found"


class Refused(LedgerError):
    """Well-formed, but a rule of the ledger forbids it."""

    default_code = "refused"


class Unavailable(LedgerError):
    """A resource cannot serve the request now; nothing moved and a retry is safe."""

    default_code = "unavailable"


class InvariantViolation(Exception):
    """An invariant of the ledger does not hold; handled at the process edge only."""


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One problem with one item of bulk work, returned as data.

    Attributes:
        code: stable snake_case code.
        message: what is wrong and what would be right.
        pointer: JSON pointer (RFC 6901) into the item; "" is the whole item.
    """

    code: str
    message: str
    pointer: str = ""

    @classmethod
    def of(cls, error: InvalidInput) -> Problem:
        """Return the problem that an `InvalidInput` describes."""
        return cls(code=error.code, message=error.message, pointer=error.pointer)
