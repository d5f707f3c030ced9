"""The session as a state machine: what may come, what is acked, what waits, when it is over. Pure.

It knows no socket, no ledger and no clock: it is told what came, what was answered and what time
it is (milliseconds of any clock that only goes forward), and says what is to be sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import IntEnum

import msgspec

from adapters.http.stream.frames import Ack, HeartbeatAnswer, encode


class Code(IntEnum):
    """Close codes; docs/spec/stream.md says which are resumable."""

    ENDED = 1000
    TOO_BIG = 1009
    FAILED = 1011
    RESTARTING = 1012
    FULL = 1013
    BROKEN = 4400
    KEY_REFUSED = 4401
    FORBIDDEN = 4403
    IDLE = 4408
    TAKEN_OVER = 4409
    SLOW = 4413
    UNAVAILABLE = 4503


RESUMABLE = frozenset(Code) - {Code.ENDED, Code.BROKEN, Code.TAKEN_OVER}
"""Codes after which ``resume`` goes on with the session."""
POLITE = frozenset({Code.ENDED, Code.RESTARTING, Code.UNAVAILABLE, Code.BROKEN})
"""Codes before which what waits is still sent."""


MOST_BETWEEN_ACKS = 16
"""An ack is left out for a later one only while fewer answers than this wait between them."""


class Closing(msgspec.Struct, frozen=True):
    """The connection is to be closed.

    Attributes:
        code: why, for programs.
        reason: why, for people; at most 123 bytes of UTF-8.
    """

    code: Code
    reason: str


class Broken(Exception):
    """The client broke the protocol; its text says how."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of a session.

    Attributes:
        window: most frames that are not done.
        out_frames: most frames that wait to be sent.
        out_bytes: most characters of those; a frame is refused once there are more.
        heartbeat_ms: longest silence of the server.
        idle_beats: as many times that is the longest silence of a client.
        stall_ms: longest time for one frame to be taken off by the network.
        greeting_ms: longest time until the first frame.
    """

    window: int = 256
    out_frames: int = 1024
    out_bytes: int = 1024 * 1024
    heartbeat_ms: int = 15_000
    idle_beats: int = 3
    stall_ms: int = 30_000
    greeting_ms: int = 10_000


_HEARTBEAT = encode(HeartbeatAnswer())


class Session:
    """One connection's part of a session.

    Args:
        limits: bounds.
        now_ms: when it was connected.

    Attributes:
        acked: all frames up to this one are done, as far as this connection knows.
        closing: set once the connection is to be closed.
    """

    __slots__ = (
        "_answers",
        "_came_ms",
        "_chars",
        "_draining",
        "_ending",
        "_held",
        "_limits",
        "_open",
        "_out",
        "_seen",
        "_sending_ms",
        "_sent_ms",
        "_since_ack",
        "_waiting",
        "acked",
        "closing",
    )

    def __init__(self, limits: Limits, *, now_ms: int) -> None:
        self._limits = limits
        self._open = False
        self._seen = 0
        self.acked = 0
        self._waiting: deque[int] = deque()
        self._answers: dict[int, Sequence[str]] = {}
        # Acks stand between the frames as numbers until they are sent.
        self._out: deque[str | int] = deque()
        self._chars = 0
        self._since_ack = 0
        self._held = False
        self._ending = 0
        self._draining = False
        self._came_ms = now_ms
        self._sent_ms = now_ms
        self._sending_ms: int | None = None
        self.closing: Closing | None = None

    # -- what comes -------------------------------------------------------------------

    def opened(self, *, seen: int, acked: int) -> None:
        """Begin to take numbered frames.

        Args:
            seen: the client sends from the next one on.
            acked: those up to this one are done; at least ``seen``.
        """
        self._open = True
        self._seen = seen
        self.acked = max(seen, acked)

    def heard(self, now_ms: int) -> None:
        """Take note that something came."""
        self._came_ms = now_ms

    def receive(self, seq: int, *, last: bool = False) -> None:
        """Take a numbered frame; `answer` is due for it.

        Args:
            seq: of the frame.
            last: nothing comes after it.

        Raises:
            Broken: it stands in no order, or the session is over.
        """
        if self._ending:
            raise Broken(f"frame {seq} comes after the end")
        if seq <= self._seen:
            raise Broken(f"seq {seq} comes again; after {self._seen} comes {self._seen + 1}")
        if seq > max(self._seen, self.acked) + 1:
            raise Broken(f"seq {seq} leaves a gap; after {self._seen} comes {self._seen + 1}")
        self._seen = seq
        self._waiting.append(seq)
        if last:
            self._ending = seq

    def answer(self, seq: int, frames: Sequence[str] = ()) -> None:
        """Take the answer to a frame: it is done, whatever that was.

        Answers leave in the order of the frames, each before the ack that covers it.
        """
        self._answers[seq] = frames
        done = 0
        while self._waiting and self._waiting[0] in self._answers:
            done = self._waiting.popleft()
            answers = self._answers.pop(done)
            if answers:
                self._postpone_ack()
            for frame in answers:
                self.push(frame)
            self._push_ack(done)
        self.acked = max(self.acked, done)
        if done and done == self._ending:
            self.close(Code.ENDED, "the session has ended")
        self._drained()

    def _postpone_ack(self) -> None:
        """Leave out an ack that a later one follows soon enough."""
        if self._out and type(self._out[-1]) is int and self._since_ack < MOST_BETWEEN_ACKS:
            self._out.pop()

    def _push_ack(self, seq: int) -> None:
        if self.closing is not None and self.closing.code not in POLITE:
            return
        if self._out and type(self._out[-1]) is int:
            self._out[-1] = seq
        else:
            self._out.append(seq)

    # -- what is to be sent -----------------------------------------------------------

    def push(self, frame: str) -> None:
        """Queue a frame; a client that takes too few is closed."""
        if self.closing is not None and self.closing.code not in POLITE:
            return
        self._out.append(frame)
        self._since_ack += 1
        self._chars += len(frame)
        if len(self._out) > self._limits.out_frames or self._chars > self._limits.out_bytes:
            self.close(Code.SLOW, "the client does not read what it is sent")

    def take(self, now_ms: int) -> str | None:
        """Return the next text to be sent; None where there is nothing. `sent` follows each."""
        if not self._out:
            return None
        self._sending_ms = now_ms
        frame = self._out.popleft()
        if type(frame) is int:
            self._since_ack = 0
            return encode(Ack(seq=frame))
        self._chars -= len(frame)  # type: ignore[arg-type] # what is no int is text
        return frame  # type: ignore[return-value] # the same

    def sent(self, now_ms: int) -> None:
        """Take note that the network has taken what `take` returned."""
        self._sending_ms = None
        self._sent_ms = now_ms

    @property
    def idle(self) -> bool:
        """Return whether nothing waits to be sent."""
        return not self._out

    @property
    def pending(self) -> int:
        """Return how many frames are not done."""
        return len(self._waiting)

    @property
    def before_end(self) -> bool:
        """Return whether the end is all that is left to be done."""
        return bool(self._ending) and list(self._waiting) == [self._ending]

    @property
    def reads(self) -> bool:
        """Return whether more is to be read from the client."""
        return (
            self.closing is None
            and not self._ending
            and not self._draining
            and len(self._waiting) < self._limits.window
            and len(self._out) <= self._limits.out_frames // 2
            and self._chars <= self._limits.out_bytes // 2
        )

    # -- how it ends ------------------------------------------------------------------

    def close(self, code: Code, reason: str) -> None:
        """Close the connection; the first reason stands, but for a client that does not read."""
        if self.closing is None or (code is Code.SLOW and self.closing.code in POLITE):
            self.closing = Closing(code, reason)
        if code not in POLITE:
            self._out.clear()
            self._chars = 0

    def drain(self) -> None:
        """Read no more, answer what came, then close."""
        self._draining = True
        self._drained()

    def _drained(self) -> None:
        if self._draining and not self._waiting:
            self.close(Code.RESTARTING, "the server restarts; resume the session")

    def hold(self, held: bool) -> None:
        """Say whether the server keeps from reading for reasons of its own."""
        self._held = held

    # -- time -------------------------------------------------------------------------

    def tick(self, now_ms: int) -> int:
        """Do what is due and return when to be called again."""
        limits = self._limits
        if self._held or not self.reads:
            # A client whose frames are not read cannot be told from one that is silent.
            self._came_ms = now_ms
        silence_ms = limits.idle_beats * limits.heartbeat_ms if self._open else limits.greeting_ms
        if now_ms >= self._came_ms + silence_ms:
            self.close(Code.IDLE, "nothing came for too long")
        if self._sending_ms is not None:
            if now_ms >= self._sending_ms + limits.stall_ms:
                self.close(Code.SLOW, "the client does not read what it is sent")
        elif self._open and now_ms >= self._sent_ms + limits.heartbeat_ms:
            if not self._out and self.closing is None:
                self.push(_HEARTBEAT)
            self._sent_ms = now_ms
        due = [self._came_ms + silence_ms]
        if self._sending_ms is not None:
            due.append(self._sending_ms + limits.stall_ms)
        elif self._open:
            due.append(self._sent_ms + limits.heartbeat_ms)
        return min(due)
