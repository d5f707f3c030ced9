"""What frames become: commands of the ledger, and what its answers become.

Every command has ids of the client's, or ids made of them and of nothing else, so that a frame
that is sent again is the same command again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from adapters.http.routes.holds import PAYMENT_REQUIRED, status_of_outcome
from adapters.http.stream import frames
from adapters.http.stream.frames import (
    FACTS,
    HOLD_FRAMES,
    Attributed,
    Call,
    Checkpoint,
    DecisionAnswer,
    End,
    ErrorAnswer,
    ToolEnded,
    ToolStarted,
    VoiceSegment,
    encode,
)
from adapters.http.stream.session import Broken
from ledger.application import ask_fields, asks
from ledger.application.access import Caller, require
from ledger.application.documents.protection import outcome_document
from ledger.application.intake import UsageData, usage_command
from ledger.application.live import Attribution
from ledger.domain.commands import Command, Outcome
from ledger.domain.errors import InvalidInput, LedgerError
from ledger.domain.hold_usage import larger, quantities_of
from ledger.domain.holds import CaptureHold, HoldState, VoidHold, hold_digest
from ledger.domain.periods import to_us
from ledger.domain.usage import RecordUsage, check_time

SOURCE_PREFIX = "stream:"
"""Before a session's id: the source of its usage events."""
METERS = {"in": "audio.stt.seconds", "out": "audio.tts.seconds", "both": "audio.session.seconds"}
"""Meter of a voice segment, by direction."""
ROUTES = {
    "hold.authorize": "POST /v2/holds",
    "hold.extend": "POST /v2/holds/{hold}/extend",
    "hold.progress": "POST /v2/holds/{hold}/progress",
    "hold.capture": "POST /v2/holds/{hold}/capture",
    "hold.void": "POST /v2/holds/{hold}/void",
    "usage": "POST /v2/events",
    "tool.started": "POST /v2/events",
    "tool.ended": "POST /v2/events",
    "voice.segment": "POST /v2/events",
}
"""Where frames go when a session cannot go on."""
TOOL_METER = "tool.calls"
_ENVELOPE = frozenset({"type", "id", "seq"})
_NAMES = ("user", "project", "api_key", "conversation", "plugin", "labels")
_SAME = ("region", "tier", "request_id", "provider_account", "byok", "billable")
_encode_raw = msgspec.json.Encoder(decimal_format="number").encode

Answers = Callable[[Outcome], Sequence[str]]


class Context(msgspec.Struct, frozen=True):
    """Whose frames they are.

    Attributes:
        tenant: whose ledger.
        caller: who sends them.
        attribution: what ``hello`` said.
    """

    tenant: str
    caller: Caller
    attribution: Attribution

    @property
    def source(self) -> str:
        """Return the source of the session's usage events."""
        return SOURCE_PREFIX + self.attribution.session


class Numbered(msgspec.Struct, frozen=True):
    """A frame's envelope."""

    type: str
    id: str
    seq: int


class Work(msgspec.Struct, frozen=True):
    """A command, and what makes frames of its outcome."""

    command: Command
    answers: Answers


def envelope(tree: Mapping[str, Any]) -> Numbered:
    """Return the envelope of a numbered frame.

    Raises:
        Broken: it has none, so nothing can be answered.
    """
    kind, id, seq = tree.get("type"), tree.get("id"), tree.get("seq")
    if type(seq) is not int or not 1 <= seq <= frames.MAX_SEQ:
        raise Broken("a frame has no seq, a whole number from 1")
    try:
        ask_fields.name(id, "/id")
    except InvalidInput as error:
        raise Broken(f"frame {seq} has no id: {error.message}") from None
    if len(str(id)) > frames.MAX_ID_CHARS:
        raise Broken(f"frame {seq} has an id of more than {frames.MAX_ID_CHARS} characters")
    return Numbered(kind if isinstance(kind, str) else "", str(id), seq)


def work_of(tree: Mapping[str, Any], of: Numbered, context: Context) -> Work:
    """Return what a frame becomes.

    Raises:
        LedgerError: it becomes nothing; `refusal` is its answer.
    """
    if of.type in HOLD_FRAMES:
        require(context.caller, "holds:write")
        return _hold(tree, of, context)
    if of.type == "usage" and "hold" in tree:
        require(context.caller, "holds:write")
        return _checkpoint(frames.read(tree, Checkpoint), context)
    kind = FACTS.get(of.type)
    if kind is None:
        known = ", ".join([*HOLD_FRAMES, *FACTS, "end"])
        raise InvalidInput(
            f"there is no such type of frame; there are {known}",
            code="invalid_type",
            pointer="/type",
        )
    require(context.caller, "events:write")
    return _fact(frames.read(tree, kind), context)


def end_of(tree: Mapping[str, Any]) -> End:
    """Return an ``end``.

    Raises:
        InvalidInput: it has members that it should not have.
    """
    frame: End = frames.read(tree, End)
    return frame


def refusal(of: Numbered, error: LedgerError) -> str:
    """Return the answer to a frame that became nothing."""
    pointer = error.pointer if isinstance(error, InvalidInput) else ""
    return _error(of.id, of.seq, error.code, error.message, pointer)


def _error(id: str, seq: int, code: str, message: str, pointer: str = "") -> str:
    return encode(ErrorAnswer(for_=id, seq=seq, code=code, message=message, pointer=pointer))


# -- holds ----------------------------------------------------------------------------


def _hold(tree: Mapping[str, Any], of: Numbered, context: Context) -> Work:
    document = {name: value for name, value in tree.items() if name not in _ENVELOPE}
    if document.pop("tenant", context.tenant) != context.tenant:
        ask_fields.fail("/tenant", "the session is of another tenant")
    tenant = context.tenant
    if of.type == "hold.authorize":
        document.setdefault("hold", of.id)
        session = context.attribution.session
        if document.setdefault("session", session) != session:
            ask_fields.fail("/session", "a hold of a session is of this session")
        for name in _NAMES:
            said = getattr(context.attribution, name)
            if said:
                document.setdefault(name, said)
        command: Command = asks.authorize_hold(document, tenant=tenant)
        return Work(command, _decision(of))
    # What is no id is refused by the reader.
    hold: Any = document.pop("hold", None)
    if of.type == "hold.extend":
        document.setdefault("step", of.seq)
        return Work(asks.extend_hold(document, tenant=tenant, hold=hold), _decision(of))
    if of.type == "hold.progress":
        document.setdefault("step", of.seq)
        return Work(asks.progress_hold(document, tenant=tenant, hold=hold), _progress(of))
    if of.type == "hold.capture":
        document.setdefault("capture", of.id)
        return Work(asks.capture_hold(document, tenant=tenant, hold=hold), _decision(of))
    document.setdefault("void", of.id)
    return Work(asks.void_hold(document, tenant=tenant, hold=hold), _decision(of))


def _checkpoint(frame: Checkpoint, context: Context) -> Work:
    step = frame.seq if frame.step is None else frame.step
    command = asks.progress_hold(
        {"step": step, "quantities": frame.quantities}, tenant=context.tenant, hold=frame.hold
    )
    return Work(command, _progress(Numbered("usage", frame.id, frame.seq)))


def _decision(of: Numbered) -> Answers:
    def answers(outcome: Outcome) -> Sequence[str]:
        if status_of_outcome(outcome) != 200:
            return [_refused(of, outcome)]
        document = outcome_document(outcome)
        if document.get("decision") in ("deny", "confirm"):
            document["suggested_status"] = PAYMENT_REQUIRED
        return [encode(DecisionAnswer(for_=of.id, seq=of.seq, answer=document))]

    return answers


def _progress(of: Numbered) -> Answers:
    def answers(outcome: Outcome) -> Sequence[str]:
        return [] if outcome.status in ("progressed", "exists") else [_refused(of, outcome)]

    return answers


def _refused(of: Numbered, outcome: Outcome) -> str:
    problem = outcome.problem
    if problem is None:
        said = _SAID.get(outcome.status, f"the answer is {outcome.status}")
        return _error(of.id, of.seq, outcome.status, said)
    code = problem.code if outcome.status == "rejected" else outcome.status
    return _error(of.id, of.seq, code, problem.message, problem.pointer)


_SAID = {
    "hold_not_found": "there is no such hold",
    "stale_step": "a later checkpoint was kept, or this step was taken with other quantities",
    "hold_expired": "the hold has expired; capture it",
    "hold_resolved": "the hold is captured, voided or was refused",
}


def settling(hold: HoldState, context: Context) -> Command:
    """Return what settles an open hold when its session ends.

    Its last checkpoint is captured as final; where nothing says that the provider was called, it
    is voided. A lease gives back what is left of it.
    """
    id = f"end:{hold_digest(hold.id).hex()}"
    tenant, reason = context.tenant, "the session has ended"
    if hold.kind == "lease":
        return VoidHold(tenant, id, hold.id, reason, force=True)
    if not hold.progress_step and not hold.usage[0]:
        return VoidHold(tenant, id, hold.id, reason)
    meters, numbers = larger(hold.meters, hold.numbers, hold.captured_meters, hold.captured)
    return CaptureHold(tenant, hold.id, context.source, id, quantities_of(meters, numbers))


# -- facts ----------------------------------------------------------------------------


def _fact(frame: Attributed, context: Context) -> Work:
    try:
        command = _usage(frame, context)
    except InvalidInput as error:
        pointer = error.pointer.removeprefix("/data")
        raise InvalidInput(error.message, code=error.code, pointer=pointer) from None
    of = Numbered("", frame.id, frame.seq)

    def answers(outcome: Outcome) -> Sequence[str]:
        return [] if outcome.status in ("accepted", "duplicate") else [_refused(of, outcome)]

    return Work(command, answers)


def _usage(frame: Attributed, context: Context) -> RecordUsage:
    attribution = context.attribution
    members: dict[str, Any] = {name: getattr(frame, name) for name in _SAME}
    for name in _NAMES:
        said = getattr(frame, name)
        members[name] = getattr(attribution, name) if said is None else said
    id = frame.id
    quantities: Mapping[str, Any] = {}
    if isinstance(frame, Call):
        id = frame.call
        quantities = frame.quantities
        members |= {
            "model": frame.model,
            "attempt": frame.attempt,
            "batch": frame.batch,
            "outcome": frame.outcome,
        }
        if frame.raw is not None:
            members["raw"] = msgspec.Raw(_encode_raw(frame.raw))
    elif isinstance(frame, VoiceSegment):
        quantities = {METERS[frame.direction]: Decimal(frame.ms) / 1000}
        members["model"] = frame.model
    elif isinstance(frame, ToolEnded):
        quantities = {TOOL_METER: 1} if frame.quantities is None else frame.quantities
        members |= {"model": frame.tool, "outcome": frame.outcome}
    elif isinstance(frame, ToolStarted):
        quantities = {TOOL_METER: 0}
        members["model"] = frame.tool
    canonical, _, _ = ask_fields.quantities(quantities, "/quantities")
    at = None
    if frame.time is not None:
        at = to_us(frame.time)
        check_time(at)
    data = UsageData(
        provider=frame.provider,
        quantities={meter: Decimal(number) for meter, number in canonical.items()},
        session=attribution.session,
        **members,
    )
    return usage_command(data, id=id, source=context.source, tenant=context.tenant, at=at)
