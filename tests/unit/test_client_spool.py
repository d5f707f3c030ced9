"""The spool keeps what was taken, in order, until the server has answered for it."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.client.drain import Drain
from adapters.client.spool import EVENT, Spool, SpoolBroken, SpoolFull
from adapters.client.wire import Call, LedgerUnreachable, Reply, Retry

FAST = Retry(first_s=0.001, most_s=0.01)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    """An empty spool."""
    opened = Spool(tmp_path / "spool", fsync=False)
    yield opened
    opened.close()


class Server:
    """Answers requests as a test says, one after the other, and then takes everything.

    Attributes:
        calls: what arrived.
    """

    def __init__(self, *answers: Reply | Exception) -> None:
        self._answers = list(answers)
        self.calls: list[Call] = []

    def send(self, call: Call) -> Reply:
        """Answer."""
        self.calls.append(call)
        if self._answers:
            answer = self._answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        if not call.path.endswith("/events"):
            return Reply(200, b'{"status":"captured"}')
        return took(len(json.loads(call.body)))


def took(count: int, **refused: str) -> Reply:
    """Return the answer to a batch; ``refused`` gives a status by place, as ``at0=…``."""
    statuses = [refused.get(f"at{place}", "accepted") for place in range(count)]
    items = [{"status": status, "code": f"code_{status}", "detail": "…"} for status in statuses]
    return Reply(200, json.dumps({"items": items}).encode())


def events(*names: str) -> list[tuple[str, bytes]]:
    """Return entries that are events."""
    return [(EVENT, json.dumps({"id": name}).encode()) for name in names]


def drain(spool: Spool, server: Server) -> Drain:
    """Empty a spool and return what did it, ended."""
    drained = Drain(spool, server.send, retry=FAST)
    try:
        assert drained.flush(20)
    finally:
        drained.stop()
    return drained


def ids(call: Call) -> list[str]:
    """Return the ids of the events in a request."""
    return [event["id"] for event in json.loads(call.body)]


def test_what_was_taken_is_there_when_the_file_is_opened_again(tmp_path: Path) -> None:
    """A process that ends without sending loses nothing."""
    first = Spool(tmp_path / "spool")
    first.append(events("a", "b"))
    first.close()
    second = Spool(tmp_path / "spool")
    assert [entry.body for entry in second.first(limit=10, max_bytes=100)] == [
        body for _, body in events("a", "b")
    ]
    second.close()


def test_the_file_is_its_owner_s_alone(spool: Spool) -> None:
    """Bodies say who used what."""
    assert stat.S_IMODE(os.stat(spool.path).st_mode) == 0o600


def test_a_full_spool_takes_all_or_nothing(tmp_path: Path) -> None:
    """What does not fit is refused as a whole, and what was settled makes room."""
    spool = Spool(tmp_path / "spool", max_bytes=30, fsync=False)
    spool.append(events("a", "b"))
    with pytest.raises(SpoolFull):
        spool.append(events("c", "d"))
    assert spool.waiting() == 2
    spool.settle(spool.first(limit=2, max_bytes=100))
    assert spool.append(events("c", "d")) == 2
    spool.close()


def test_a_file_that_is_no_spool_is_refused(tmp_path: Path) -> None:
    """The error names the file."""
    path = tmp_path / "spool"
    path.write_text("this is not a database, and long enough to be looked at " * 20)
    with pytest.raises(SpoolBroken, match="spool"):
        Spool(path)


def test_events_in_line_go_together_and_requests_alone(spool: Spool) -> None:
    """Order is kept: a request never overtakes the events before it."""
    spool.append([*events("a", "b"), ("/v2/holds/h/capture", b"{}"), *events("c")])
    server = Server()
    drain(spool, server)
    assert [call.path for call in server.calls] == [
        "/v2/events",
        "/v2/holds/h/capture",
        "/v2/events",
    ]
    assert ids(server.calls[0]) == ["a", "b"]


def test_an_outage_is_waited_out_with_the_same_bytes(spool: Spool) -> None:
    """No answer, a busy server and a key that is not known yet: the same request again."""
    spool.append(events("a"))
    server = Server(
        LedgerUnreachable("down"),
        Reply(503, b"{}"),
        Reply(429, b"{}"),
        Reply(401, b'{"code":"invalid_key"}'),
        Reply(500, b"<html>"),
        Reply(200, b'{"items": []}'),
    )
    drain(spool, server)
    assert len(server.calls) == 7
    assert len({call.body for call in server.calls}) == 1
    assert spool.refused() == []


def test_what_the_server_refuses_is_kept_apart_and_holds_nothing_up(spool: Spool) -> None:
    """A bad item among good ones goes to the refusals with its code."""
    spool.append(events("a", "b", "c"))
    drain(spool, Server(took(3, at1="rejected", at2="conflict")))
    assert [
        (json.loads(one.entry.body)["id"], one.status, one.code) for one in spool.refused()
    ] == [
        ("b", "rejected", "code_rejected"),
        ("c", "conflict", "code_conflict"),
    ]
    spool.forget(spool.refused())
    assert spool.refused() == []


def test_a_batch_that_is_refused_as_a_whole_is_sent_in_halves(spool: Spool) -> None:
    """The one entry that is to blame is found; its neighbors arrive."""
    spool.append(events("a", "b", "c", "d"))

    class Picky(Server):
        def send(self, call: Call) -> Reply:
            if "c" in ids(call):
                self.calls.append(call)
                return Reply(413, b'{"code":"body_too_large"}')
            return super().send(call)

    server = Picky()
    drain(spool, server)
    assert [json.loads(one.entry.body)["id"] for one in spool.refused()] == ["c"]
    assert {"a", "b", "d"} <= {id for call in server.calls for id in ids(call)}


def test_two_who_share_a_spool_do_not_send_at_once(tmp_path: Path) -> None:
    """The lock is one process's; it is free when that one ends."""
    one, other = Spool(tmp_path / "spool"), Spool(tmp_path / "spool")
    lock = one.try_lock()
    assert lock is not None
    assert other.try_lock() is None
    lock.close()
    again = other.try_lock()
    assert again is not None
    again.close()
    one.close()
    other.close()


def test_a_drain_survives_whatever_its_server_raises(spool: Spool) -> None:
    """An error that nobody thought of is tried again, and told."""
    spool.append(events("a"))
    drain(spool, Server(RuntimeError("odd"), ValueError("odder")))
    assert spool.waiting() == 0
