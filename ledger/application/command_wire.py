"""Commands and their answers as bytes, between a process that asks and the one that commits.

MessagePack; both ends run the same version, so this form is never kept. Submissions and answers
carry a number that the asking side gives, in any order.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from ledger.application.ports import ConnectionLost
from ledger.application.sequencer import SequencerClosed
from ledger.domain.commands import Command, Outcome
from ledger.domain.errors import (
    InvalidInput,
    InvariantViolation,
    LedgerError,
    NotFound,
    Refused,
    Unavailable,
)
from ledger.domain.wide import narrowed, widened

_T = TypeVar("_T")
_COMMANDS: tuple[type[Any], ...] = typing.get_args(Command)
_KIND = {kind: number for number, kind in enumerate(_COMMANDS)}
_ERRORS: tuple[type[Exception], ...] = (
    SequencerClosed,
    ConnectionLost,
    InvalidInput,
    NotFound,
    Refused,
    Unavailable,
    LedgerError,
    InvariantViolation,
)


class SequencerFailed(Exception):
    """A defect ended a batch in the sequencer's process, whose log says which; nothing moved."""


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """An error on its way to who asked.

    Attributes:
        kind: name of its class; "" for a defect.
        message: for people.
        code: of a `LedgerError`.
        pointer: of an `InvalidInput`.
    """

    kind: str
    message: str
    code: str = ""
    pointer: str = ""


class Submitted(msgspec.Struct, frozen=True, array_like=True):
    """Commands on their way to who commits them.

    Attributes:
        number: of the submission.
        kinds: of its commands, a byte each.
        commands: encoded, each on its own.
    """

    number: int
    kinds: bytes
    commands: list[msgspec.Raw]


class Answered(msgspec.Struct, frozen=True, array_like=True):
    """What became of a submission.

    Attributes:
        number: of the submission.
        outcomes: encoded, one a command; empty for a failure.
        failure: why nothing moved, or why that is unknown.
    """

    number: int
    outcomes: msgspec.Raw = msgspec.Raw(b"\x90")
    failure: Failure | None = None


class Replied(msgspec.Struct, frozen=True, array_like=True):
    """Those answers of a batch that go to one process.

    Attributes:
        size: commands of the whole batch.
        counted: whether another process is told to count it.
        begun_s: when its transaction began, by the machine's monotonic clock.
        done_s: when it was committed.
        repeats: runs that were repeated since the last reply to anybody.
        answers: to this process.
    """

    size: int
    counted: bool
    begun_s: float
    done_s: float
    repeats: int
    answers: list[Answered]


_encode = msgspec.msgpack.Encoder().encode
_decode_wide = msgspec.msgpack.Decoder(ext_hook=narrowed).decode
_decode_submitted = msgspec.msgpack.Decoder(list[Submitted]).decode
_decode_replies = msgspec.msgpack.Decoder(list[Replied]).decode
_outcomes = msgspec.msgpack.Decoder(list[Outcome])
_commands = [msgspec.msgpack.Decoder(kind) for kind in _COMMANDS]


def encode_commands(commands: Sequence[Command]) -> tuple[bytes, list[msgspec.Raw]]:
    """Return the kinds and the forms of commands, as `Submitted` holds them."""
    kinds = bytes([_KIND[type(command)] for command in commands])
    return kinds, [msgspec.Raw(_encoded(command)) for command in commands]


def decode_commands(submitted: Submitted) -> list[Command]:
    """Return the commands of a submission."""
    return [
        _decoded(_commands[kind], _COMMANDS[kind], form)
        for kind, form in zip(submitted.kinds, submitted.commands, strict=True)
    ]


def encode_submissions(submissions: Sequence[Submitted]) -> bytes:
    """Return submissions as one message."""
    return _encode(submissions)


def decode_submissions(message: bytes) -> list[Submitted]:
    """Return the submissions of a message."""
    return _decode_submitted(message)


def encode_outcomes(outcomes: Sequence[Outcome]) -> msgspec.Raw:
    """Return outcomes as `Answered` holds them."""
    return msgspec.Raw(_encoded(outcomes))


def decode_outcomes(answered: Answered) -> list[Outcome]:
    """Return the outcomes of an answer."""
    return _decoded(_outcomes, list[Outcome], answered.outcomes)


def encode_replies(replies: Sequence[Replied]) -> bytes:
    """Return replies as one message."""
    return _encode(replies)


def decode_replies(message: bytes) -> list[Replied]:
    """Return the replies of a message."""
    return _decode_replies(message)


def failure_of(error: BaseException) -> Failure:
    """Return an error as its sender says it."""
    for kind in _ERRORS:
        if isinstance(error, kind):
            if not isinstance(error, LedgerError):
                return Failure(kind.__name__, str(error))
            pointer = error.pointer if isinstance(error, InvalidInput) else ""
            return Failure(kind.__name__, error.message, error.code, pointer)
    return Failure("", f"{type(error).__name__}: {error}")


def error_of(failure: Failure) -> Exception:
    """Return the error that a failure was made of; what is no error of ours is `SequencerFailed`.

    A subclass that has no name here comes as the class that callers know it by.
    """
    kind = next((kind for kind in _ERRORS if kind.__name__ == failure.kind), None)
    if kind is None:
        return SequencerFailed(failure.message)
    if issubclass(kind, InvalidInput):
        return kind(failure.message, code=failure.code, pointer=failure.pointer)
    if issubclass(kind, LedgerError):
        return kind(failure.message, code=failure.code)
    return kind(failure.message)


def _encoded(value: Any) -> bytes:
    try:
        return _encode(value)
    except OverflowError:
        return _encode(widened(msgspec.to_builtins(value, builtin_types=(bytes,))))


def _decoded(decoder: msgspec.msgpack.Decoder[_T], kind: Any, form: msgspec.Raw) -> _T:
    try:
        return decoder.decode(form)
    except msgspec.ValidationError:
        made: _T = msgspec.convert(_decode_wide(form), kind)
        return made
