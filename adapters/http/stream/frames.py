"""Frames: what goes over the wire, each type stated once.

`/asyncapi.json` is made from these. Members of ``hold.*`` frames are those of the REST documents
(`adapters.http.models.holds`) and are read by the same readers, so they are not repeated here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec

from adapters.http.models.holds import (
    AuthorizeRequest,
    CaptureRequest,
    ExtendRequest,
    ProgressRequest,
    VoidRequest,
)
from ledger.domain.errors import InvalidInput
from ledger.domain.usage import MAX_LABELS, MAX_TEXT

PATH = "/v2/stream"
SUBPROTOCOL = "tallybook.v2"
KEY_SUBPROTOCOL = "tallybook.key."
"""Before a key that comes as a subprotocol: browsers cannot set headers."""
MAX_FRAME_BYTES = 128 * 1024
"""Most bytes of one message of a client."""
MAX_ID_CHARS = 200
"""Most characters of a session's or a frame's id: ids derived from them need the rest."""
MAX_SEQ = 2**53 - 1
MAX_SEGMENT_MS = 24 * 3600 * 1000

Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT)]
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_CHARS)]
Seq = Annotated[int, msgspec.Meta(ge=1, le=MAX_SEQ)]
Labels = Annotated[dict[Name, Text], msgspec.Meta(max_length=MAX_LABELS)]
Time = Annotated[datetime, msgspec.Meta(tz=True)]
Quantities = Annotated[dict[str, Any], msgspec.Meta(description="Quantity by meter.")]


class Frame(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frame of a client; its type is its tag."""


class Hello(Frame, frozen=True, kw_only=True, tag="hello"):
    """A session begins.

    Attributes:
        session: the client's id; the server makes one where it is left out.
        tenant: whose ledger, for keys of the platform.
    """

    session: Id | None = None
    tenant: Name | None = None
    user: Text = ""
    project: Text = ""
    api_key: Text = ""
    conversation: Text = ""
    plugin: Text = ""
    labels: Labels = {}


class Resume(Frame, frozen=True, kw_only=True, tag="resume"):
    """A session goes on.

    Attributes:
        epoch: as the server's ``hello`` gave it.
        last_seq: of the last ack that the client has seen.
    """

    session: Id
    epoch: int
    last_seq: Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)] | None = None
    tenant: Name | None = None


class Numbered(Frame, frozen=True, kw_only=True):
    """A frame that is worked on in its order, and acked.

    Attributes:
        id: the client's, never used for another frame of the session.
        seq: from 1 without gaps.
    """

    id: Id
    seq: Seq


class Attributed(Numbered, frozen=True, kw_only=True):
    """A fact that becomes a usage event; what it does not say of whom, ``hello`` said."""

    provider: Name
    tier: Text = ""
    region: Text = ""
    provider_account: Text = ""
    request_id: Text = ""
    user: Text | None = None
    project: Text | None = None
    api_key: Text | None = None
    conversation: Text | None = None
    plugin: Text | None = None
    labels: Labels | None = None
    byok: bool = False
    billable: Literal["tenant", "platform"] = "tenant"
    time: Time | None = None


class Checkpoint(Numbered, frozen=True, kw_only=True, tag="usage"):
    """What a call that has a hold has come to so far, all in all; moves no money."""

    hold: Name
    quantities: Quantities
    step: Annotated[int, msgspec.Meta(ge=1)] | None = None


class Call(Attributed, frozen=True, kw_only=True, tag="usage"):
    """A whole call that nothing was reserved for.

    Attributes:
        call: the client's id of it; with the session the key of the usage event.
    """

    call: Id
    quantities: Quantities
    model: Text = ""
    attempt: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    batch: bool = False
    outcome: Literal["ok", "error", "aborted"] = "ok"
    raw: dict[str, Any] | None = None


class ToolStarted(Attributed, frozen=True, kw_only=True, tag="tool.started"):
    """A tool runs."""

    tool: Name


class ToolEnded(Attributed, frozen=True, kw_only=True, tag="tool.ended"):
    """A tool ran."""

    tool: Name
    outcome: Literal["ok", "error", "aborted"] = "ok"
    quantities: Quantities | None = None


class VoiceSegment(Attributed, frozen=True, kw_only=True, tag="voice.segment"):
    """Somebody spoke: ``in`` is heard, ``out`` is said, ``both`` is the session's audio."""

    direction: Literal["in", "out", "both"]
    ms: Annotated[int, msgspec.Meta(ge=0, le=MAX_SEGMENT_MS)]
    model: Text = ""


class End(Numbered, frozen=True, kw_only=True, tag="end"):
    """The session is over."""


class Heartbeat(Frame, frozen=True, kw_only=True, tag="heartbeat"):
    """Nothing else is to be said."""


HOLD_FRAMES: Mapping[str, Any] = MappingProxyType(
    {
        "hold.authorize": AuthorizeRequest,
        "hold.extend": ExtendRequest,
        "hold.progress": ProgressRequest,
        "hold.capture": CaptureRequest,
        "hold.void": VoidRequest,
    }
)
"""Types whose members are those of a REST document."""
FACTS: Mapping[str, type[Attributed]] = MappingProxyType(
    {
        "usage": Call,
        "tool.started": ToolStarted,
        "tool.ended": ToolEnded,
        "voice.segment": VoiceSegment,
    }
)
"""Types that become usage events."""
CLIENT_FRAMES: tuple[type[Frame], ...] = (
    Hello,
    Resume,
    Checkpoint,
    Call,
    ToolStarted,
    ToolEnded,
    VoiceSegment,
    End,
    Heartbeat,
)


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A frame of the server; its type is its tag. Later versions may add members."""


class Opened(Answer, frozen=True, kw_only=True):
    """What a session that begins or goes on is told."""

    session: str
    epoch: int
    heartbeat_ms: int
    window: int
    max_frame_bytes: int


class HelloAnswer(Opened, frozen=True, kw_only=True, tag="hello"):
    """The session has begun; frames are numbered from ``from``."""

    from_: int = msgspec.field(name="from")


class Resumed(Opened, frozen=True, kw_only=True, tag="resumed"):
    """The session goes on; frames from ``from`` on are sent again."""

    from_: int = msgspec.field(name="from")
    acked: int


class ResumeFailed(Answer, frozen=True, kw_only=True, tag="resume_failed"):
    """The session cannot go on here; ``routes`` has the REST route for each type of frame."""

    session: str
    code: Literal["unknown_session", "stale_epoch", "session_ended"]
    message: str
    routes: dict[str, str]


class Ack(Answer, frozen=True, kw_only=True, tag="ack"):
    """This frame and all before it are done."""

    seq: int


class DecisionAnswer(Answer, frozen=True, kw_only=True, tag="decision"):
    """The answer to a ``hold.*`` frame, as REST gives it."""

    for_: str = msgspec.field(name="for")
    seq: int
    answer: dict[str, Any]


class ErrorAnswer(Answer, frozen=True, kw_only=True, tag="error"):
    """A frame did nothing, and will not if it is sent again."""

    for_: str = msgspec.field(name="for")
    seq: int
    code: str
    message: str
    pointer: str


class Ended(Answer, frozen=True, kw_only=True, tag="ended"):
    """The session is over; what was still open was settled."""

    for_: str = msgspec.field(name="for")
    seq: int
    settled: list[dict[str, str]]


class BudgetFrame(Answer, frozen=True, kw_only=True):
    """A budget that applies to the session reached a step; numbers are in its measure."""

    budget: str
    step: str
    scope: str
    measure: str
    currency: str
    window: str | None
    threshold: str
    limit: str
    used: str
    at: str | None
    standing: bool
    model: str | msgspec.UnsetType = msgspec.UNSET
    forecast: str | msgspec.UnsetType = msgspec.UNSET
    limit_at: str | msgspec.UnsetType = msgspec.UNSET


class BudgetThreshold(BudgetFrame, frozen=True, kw_only=True, tag="budget.threshold"):
    """It only tells."""


class BudgetDowngraded(BudgetFrame, frozen=True, kw_only=True, tag="budget.downgraded"):
    """Calls are to go to ``model``."""


class BudgetConfirmRequired(BudgetFrame, frozen=True, kw_only=True, tag="budget.confirm_required"):
    """Calls wait for a person."""


class BudgetExhausted(BudgetFrame, frozen=True, kw_only=True, tag="budget.exhausted"):
    """It stops calls."""


class HeartbeatAnswer(Answer, frozen=True, kw_only=True, tag="heartbeat"):
    """Nothing else is to be said."""


SERVER_FRAMES: tuple[type[Answer], ...] = (
    HelloAnswer,
    Resumed,
    ResumeFailed,
    Ack,
    DecisionAnswer,
    ErrorAnswer,
    Ended,
    BudgetThreshold,
    BudgetDowngraded,
    BudgetConfirmRequired,
    BudgetExhausted,
    HeartbeatAnswer,
)

_tree = msgspec.json.Decoder(float_hook=Decimal).decode
_encoder = msgspec.json.Encoder(decimal_format="string")


def encode(frame: Answer) -> str:
    """Return a frame of the server as the text that is sent."""
    return _encoder.encode(frame).decode()


def tree_of(message: str | bytes) -> dict[str, Any]:
    """Return a message as a JSON object; numbers are int or `Decimal`.

    Raises:
        InvalidInput: it is none.
    """
    try:
        tree = _tree(message)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ArithmeticError) as error:
        raise InvalidInput(f"a message is no JSON: {error}", code="invalid_json") from None
    if not isinstance(tree, dict):
        raise InvalidInput("a message is one JSON object", code="invalid_frame")
    return tree


def read(tree: Mapping[str, Any], kind: type[Frame]) -> Any:
    """Return a message as a frame of a type.

    Raises:
        InvalidInput: ``unknown_member`` or ``invalid_<member>`` with its pointer.
    """
    try:
        return msgspec.convert(tree, kind)
    except (msgspec.ValidationError, UnicodeError) as error:
        raise invalid(str(error)) from None


def invalid(said: str) -> InvalidInput:
    """Return what msgspec says of a bad member as an error of ours."""
    message, _, path = said.partition(" - at `$")
    pointer = path.rstrip("`").replace("[...]", "").replace(".", "/")
    quoted = message.split("`")
    if "unknown field" in message:
        name = quoted[1]
        return InvalidInput(
            f"there is no member {name!r} here", code="unknown_member", pointer=f"{pointer}/{name}"
        )
    if "missing required field" in message:
        name = quoted[1]
        return InvalidInput(
            f"{name} is missing", code=f"invalid_{name}", pointer=f"{pointer}/{name}"
        )
    member = pointer[1:].partition("/")[0]
    return InvalidInput(message, code=f"invalid_{member or 'frame'}", pointer=pointer)
