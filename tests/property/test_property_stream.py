"""Whatever is cut, a session comes to what its frames say: nothing lost, nothing double."""

from __future__ import annotations

import json
from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.http.stream.session import Broken, Code, Limits, Session

LIMITS = Limits(window=5, out_frames=12)


class CutSession:
    """A client, a ledger that knows ids, and connections between them that are cut anywhere.

    The client numbers its frames and sends again what it has seen no ack of. The ledger does each
    id once. What is on its way is lost with a cut, in both directions; commands that reached the
    ledger's queue are committed all the same, whenever it pleases.
    """

    def __init__(self) -> None:
        # The client.
        self.made = 0
        self.acked = 0
        self.answered: set[int] = set()
        # The ledger.
        self.committed: list[int] = []
        self.kept = 0
        # The connection.
        self.session: Session | None = None
        self.next = 1
        self.to_server: deque[int] = deque()
        self.queue: deque[tuple[int, Session]] = deque()
        self.undone: deque[tuple[int, Session]] = deque()
        self.to_client: deque[str] = deque()
        self.begin(seen=0)

    def begin(self, *, seen: int) -> None:
        """Connect: the client sends from after what it has seen on."""
        self.session = Session(LIMITS, now_ms=0)
        self.session.opened(seen=seen, acked=self.kept)
        self.next = seen + 1
        self.to_server.clear()
        self.to_client.clear()
        self.flush()

    def send(self, count: int) -> None:
        """The client has something more to say, and sends what it has not sent yet."""
        self.made += count
        self.flush()

    def flush(self) -> None:
        """Send what the client has made."""
        self.to_server.extend(range(self.next, self.made + 1))
        self.next = self.made + 1

    def read(self, count: int) -> None:
        """The server takes frames, as long as it may, and queues their commands."""
        assert self.session is not None
        while count and self.to_server and self.session.reads:
            seq = self.to_server.popleft()
            self.session.receive(seq)
            self.queue.append((seq, self.session))
            count -= 1

    def commit(self, count: int) -> None:
        """The ledger commits what waits, in order; each id does something once."""
        for _ in range(min(count, len(self.queue))):
            seq, session = self.queue.popleft()
            if seq not in self.committed:
                self.committed.append(seq)
            self.undone.append((seq, session))

    def answer(self, place: int) -> None:
        """A commit's outcome comes back, in whatever order; to a connection that may be gone."""
        if not self.undone:
            return
        self.undone.rotate(-(place % len(self.undone)))
        seq, session = self.undone.popleft()
        # Every third frame is one that is only acked.
        session.answer(seq, [json.dumps({"type": "decision", "seq": seq})] if seq % 3 else [])

    def write(self, count: int) -> None:
        """The server sends frames."""
        assert self.session is not None
        while count and (text := self.session.take(0)) is not None:
            self.session.sent(0)
            self.to_client.append(text)
            count -= 1

    def receive(self, count: int) -> None:
        """The client gets frames."""
        while count and self.to_client:
            count -= 1
            frame = json.loads(self.to_client.popleft())
            if frame["type"] == "ack":
                covered = {seq for seq in range(self.acked + 1, frame["seq"] + 1) if seq % 3}
                missing = covered - self.answered
                assert not missing, "an ack came before the answers that it covers"
                self.acked = max(self.acked, frame["seq"])
            else:
                self.answered.add(frame["seq"])

    def keep(self, _: int) -> None:
        """The server writes down how far it is, whenever it does."""
        assert self.session is not None
        self.kept = max(self.kept, self.session.acked)

    def drain(self, _: int) -> None:
        """The server is about to end."""
        assert self.session is not None
        self.session.drain()

    def cut(self, _: int) -> None:
        """The connection breaks and another process goes on."""
        self.begin(seen=self.acked)

    def forget(self, _: int) -> None:
        """The client loses what it knew of acks, and goes on where the server says."""
        self.acked = self.kept
        self.answered |= set(range(1, self.kept + 1))
        self.begin(seen=self.kept)

    def what_is_acked_is_committed(self) -> None:
        """For the client, for what is on its way to it, and for what may be written down."""
        done = set(self.committed)
        on_its_way = [json.loads(text) for text in self.to_client]
        acks = [frame["seq"] for frame in on_its_way if frame["type"] == "ack"]
        known = max([self.acked, self.kept, *acks])
        if self.session is not None:
            known = max(known, self.session.acked)
        assert all(seq in done for seq in range(1, known + 1))

    def nothing_is_committed_twice_or_out_of_the_blue(self) -> None:
        """Each id did something at most once, and the client made it."""
        assert len(self.committed) == len(set(self.committed))
        assert all(1 <= seq <= self.made for seq in self.committed)

    def queues_are_bounded(self) -> None:
        """Whatever the client sends and does not read."""
        assert self.session is not None
        assert self.session.pending <= LIMITS.window

    def check(self) -> None:
        """Check what always holds."""
        self.what_is_acked_is_committed()
        self.nothing_is_committed_twice_or_out_of_the_blue()
        self.queues_are_bounded()

    def finish(self) -> None:
        """Let it run to its end: everything that was made is committed and acked, once."""
        self.begin(seen=self.acked)
        for _ in range(self.made + 10):
            self.flush()
            self.read(6)
            self.commit(6)
            while self.undone:
                self.answer(0)
            self.write(99)
            self.receive(99)
        assert self.acked == self.made
        assert sorted(self.committed) == list(range(1, self.made + 1))


STEPS = (
    *("send", "read", "commit", "answer", "write", "receive") * 3,
    *("answer", "answer", "keep", "cut", "forget", "drain"),
)
"""What may happen next, the usual more often."""


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(1, 6)), min_size=25, max_size=80))
@settings(max_examples=300)
def test_a_session_that_is_cut_anywhere_loses_and_doubles_nothing(
    steps: list[tuple[str, int]],
) -> None:
    """At every moment, and once it has run to its end."""
    world = CutSession()
    for name, count in steps:
        getattr(world, name)(count)
        world.check()
    world.finish()


def test_a_client_that_skips_a_frame_is_told_so_at_once() -> None:
    """The model's client never does; a lost frame cannot pass for one that is done."""
    session = Session(LIMITS, now_ms=0)
    session.opened(seen=0, acked=0)
    session.receive(1)
    try:
        session.receive(3)
    except Broken:
        session.close(Code.BROKEN, "gap")
    assert session.closing is not None
