"""The pure part of a stream: order, acks, bounds, silence, endings."""

from __future__ import annotations

import json

import pytest

from adapters.http.stream.session import (
    MOST_BETWEEN_ACKS,
    RESUMABLE,
    Broken,
    Code,
    Limits,
    Session,
)

LIMITS = Limits(window=4, out_frames=8, out_bytes=200, heartbeat_ms=1000, stall_ms=5000)


def opened(*, seen: int = 0, acked: int = 0, limits: Limits = LIMITS) -> Session:
    """Return a session that takes frames."""
    session = Session(limits, now_ms=0)
    session.opened(seen=seen, acked=acked)
    return session


def sent(session: Session, now_ms: int = 0) -> list[str]:
    """Send all that waits; return it, acks as their number."""
    texts = []
    while (text := session.take(now_ms)) is not None:
        session.sent(now_ms)
        found = json.loads(text) if text.startswith("{") else {}
        texts.append(str(found["seq"]) if found.get("type") == "ack" else text)
    return texts


def test_a_frame_is_acked_only_when_it_is_answered() -> None:
    """Receiving alone sends nothing."""
    session = opened()
    session.receive(1)
    assert sent(session) == []
    session.answer(1)
    assert sent(session) == ["1"]
    assert session.acked == 1


def test_answers_leave_in_the_order_of_the_frames_whatever_is_answered_first() -> None:
    """The second frame's answer waits for the first's, and one ack covers both."""
    session = opened()
    session.receive(1)
    session.receive(2)
    session.answer(2, ["two"])
    assert sent(session) == []
    assert session.acked == 0
    session.answer(1, ["one"])
    assert sent(session) == ["one", "two", "2"]


def test_an_ack_stands_behind_every_answer_that_it_covers() -> None:
    """An ack that waits is left out for the next one, never moved before an answer."""
    session = opened()
    for seq in (1, 2, 3):
        session.receive(seq)
        session.answer(seq, [f"answer {seq}"])
    assert sent(session) == ["answer 1", "answer 2", "answer 3", "3"]


def test_acks_are_not_put_off_for_ever() -> None:
    """A client that is sent answers without a pause gets acks between them."""
    session = opened(limits=Limits())
    for seq in range(1, 3 * MOST_BETWEEN_ACKS):
        session.receive(seq)
        session.answer(seq, ["x"])
    texts = sent(session)
    assert texts[MOST_BETWEEN_ACKS] == str(MOST_BETWEEN_ACKS)
    assert texts[-1] == str(3 * MOST_BETWEEN_ACKS - 1)


@pytest.mark.parametrize("seq", [1, 3, 0])
def test_a_frame_out_of_order_breaks_the_protocol(seq: int) -> None:
    """It comes again, leaves a gap, or lies before the beginning."""
    session = opened()
    session.receive(1)
    with pytest.raises(Broken):
        session.receive(seq)


def test_after_a_resume_frames_that_are_done_may_be_left_out() -> None:
    """From what the client has seen up to what the server knows; beyond, a gap is a loss."""
    session = opened(seen=4, acked=8)
    session.receive(6)
    session.receive(9)
    session.answer(6)
    assert sent(session) == ["6"]
    assert session.acked == 8
    with pytest.raises(Broken):
        session.receive(11)


def test_what_a_session_is_known_to_have_done_never_shrinks() -> None:
    """Acks of frames that are sent again do not take it back."""
    session = opened(seen=0, acked=5)
    session.receive(1)
    session.answer(1)
    assert session.acked == 5


def test_a_full_window_stops_reading_until_something_is_done() -> None:
    """Four frames are the window here."""
    session = opened()
    for seq in range(1, 5):
        assert session.reads
        session.receive(seq)
    assert not session.reads
    session.answer(1)
    assert session.reads


def test_answers_that_nobody_takes_stop_reading_and_then_close() -> None:
    """Half of the bound stops reading, all of it closes, and what waited is dropped."""
    session = opened()
    for _ in range(5):
        session.push("x")
    assert not session.reads
    assert session.closing is None
    for _ in range(4):
        session.push("x")
    assert session.closing is not None
    assert session.closing.code is Code.SLOW
    assert sent(session) == []


def test_the_size_of_what_waits_is_bounded_too() -> None:
    """Few large frames close as many small ones do."""
    session = opened()
    session.push("x" * 201)
    assert session.closing is not None
    assert session.closing.code is Code.SLOW


def test_a_frame_that_the_network_does_not_take_closes() -> None:
    """However little waits behind it."""
    session = opened()
    session.push("x")
    session.take(0)
    session.heard(4999)
    session.tick(4999)
    assert session.closing is None
    session.tick(5000)
    assert session.closing is not None
    assert session.closing.code is Code.SLOW


def test_a_silent_client_is_closed_after_three_heartbeats() -> None:
    """And not before."""
    session = opened()
    session.tick(2999)
    assert session.closing is None
    session.tick(3000)
    assert session.closing is not None
    assert session.closing.code is Code.IDLE


def test_a_client_that_is_not_read_is_not_taken_for_silent() -> None:
    """While the window is full, or the key's rate makes the server wait, time stands still."""
    session = opened()
    for seq in range(1, 5):
        session.receive(seq)
    session.tick(10_000)
    assert session.closing is None
    session.answer(1)
    session.hold(True)
    session.tick(20_000)
    session.hold(False)
    session.tick(22_999)
    assert session.closing is None
    session.tick(23_000)
    assert session.closing is not None


def test_a_silent_server_says_that_it_is_there() -> None:
    """A heartbeat goes out after as long without anything else."""
    session = opened()
    session.heard(900)
    assert session.tick(900) == 1000
    assert sent(session, 900) == []
    assert session.tick(1000) == 2000
    assert sent(session, 1000) == ['{"type":"heartbeat"}']
    session.push("x")
    sent(session, 1500)
    assert session.tick(1600) == 2500


def test_a_connection_without_a_first_frame_is_closed() -> None:
    """It has ten seconds."""
    session = Session(Limits(), now_ms=0)
    session.tick(9_999)
    assert session.closing is None
    session.tick(10_000)
    assert session.closing is not None


def test_the_end_waits_for_all_before_it_and_then_closes() -> None:
    """Nothing comes after it."""
    session = opened()
    session.receive(1)
    session.receive(2, last=True)
    assert not session.reads
    assert not session.before_end
    session.answer(1)
    assert session.before_end
    assert session.closing is None
    session.answer(2, ["ended"])
    assert session.closing is not None
    assert session.closing.code is Code.ENDED
    assert sent(session) == ["ended", "2"]
    with pytest.raises(Broken):
        session.receive(3)


def test_a_draining_session_answers_what_came_and_closes_resumably() -> None:
    """Nothing more is read meanwhile."""
    session = opened()
    session.receive(1)
    session.drain()
    assert not session.reads
    assert session.closing is None
    session.answer(1, ["one"])
    assert sent(session) == ["one", "1"]
    assert session.closing is not None
    assert session.closing.code is Code.RESTARTING
    assert Code.RESTARTING in RESUMABLE


def test_the_first_reason_to_close_stands() -> None:
    """But for a client that does not read what is still to be sent."""
    session = opened()
    session.close(Code.TAKEN_OVER, "another one")
    session.close(Code.IDLE, "nothing")
    assert session.closing is not None
    assert session.closing.code is Code.TAKEN_OVER
    other = opened()
    other.drain()
    other.close(Code.SLOW, "stuck")
    assert other.closing is not None
    assert other.closing.code is Code.SLOW
