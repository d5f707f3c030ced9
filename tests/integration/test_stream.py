"""Sessions over a real WebSocket: what frames do, what is refused, who may."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from fakes.stream_frames import BAD, CALL, SEGMENT
from fakes.stream_world import Client, Server, stream_server
from websockets.exceptions import InvalidStatus

from adapters.http.stream.frames import MAX_FRAME_BYTES
from adapters.http.stream.session import Code


@pytest.fixture
def server(database_url: str) -> Iterator[Server]:
    """A server over a fresh database with two tenants."""
    with stream_server(database_url) as running:
        running.tallybook.tenants.open("acme")
        running.tallybook.tenants.open("globex")
        yield running


def quantities(server: Server, tenant: str = "acme") -> dict[str, Decimal]:
    """Return what a tenant used, by meter."""
    totals: dict[str, Decimal] = {}
    for balance in server.tallybook.reads.balances(tenant):
        for meter, number in balance.quantities.items():
            totals[meter] = totals.get(meter, Decimal(0)) + Decimal(number) / 10**6
    return totals


def events(server: Server, tenant: str = "acme") -> int:
    """Return how many usage events a tenant has."""
    return sum(balance.events for balance in server.tallybook.reads.balances(tenant))


def refused(answer: InvalidStatus, status: int, code: str) -> None:
    """Check that a handshake was answered with a problem document."""
    response = answer.response
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert json.loads(response.body or b"")["code"] == code


# -- who may --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [(None, 401, "missing_key"), ("nobody", 401, "invalid_key"), ("reader", 403, "missing_scope")],
)
def test_a_handshake_without_a_key_that_opens_it_is_a_problem(
    server: Server, key: str | None, status: int, code: str
) -> None:
    """No key, an unknown one, one that only reads."""
    server.keyring.add("reader", tenant="acme", scopes=("read",))
    with pytest.raises(InvalidStatus) as caught:
        server.connect(key=key)
    refused(caught.value, status, code)


def test_there_is_one_stream_and_nothing_beside_it(server: Server) -> None:
    """Another path is a problem, not a silent close."""
    server.path = "/v2/streams"
    with pytest.raises(InvalidStatus) as caught:
        server.connect()
    refused(caught.value, 404, "unknown_path")


def test_a_key_may_come_as_a_subprotocol_and_is_not_sent_back(server: Server) -> None:
    """Browsers cannot set headers; the server picks the other offer."""
    with server.connect(key=None, subprotocols=["tallybook.v2", "tallybook.key.acme"]) as client:
        assert client.socket.subprotocol == "tallybook.v2"
        client.send(type="hello", session="s-1")
        assert client.receive("hello")["session"] == "s-1"


def test_a_key_comes_once(server: Server) -> None:
    """As a header and as a subprotocol it could be two."""
    with pytest.raises(InvalidStatus) as caught:
        server.connect(subprotocols=["tallybook.v2", "tallybook.key.acme"])
    refused(caught.value, 401, "invalid_key")


def test_a_key_of_the_platform_names_the_tenant_and_one_of_a_tenant_no_other(
    server: Server,
) -> None:
    """In the address or in the first frame; a foreign one closes."""
    with server.connect(key="platform", query="?tenant=globex") as client:
        client.send(type="hello", session="s-1")
        client.receive("hello")
        client.send(**SEGMENT, id="v", seq=1, ms=1000)
        client.wait_ack(1)
    assert quantities(server, "globex") == {"audio.stt.seconds": Decimal(1)}
    assert quantities(server, "acme") == {}
    with server.connect(key="platform") as client:
        client.send(type="hello", session="s-1")
        assert client.closed() == Code.BROKEN
    with server.connect() as client:
        client.send(type="hello", session="s-1", tenant="globex")
        assert client.closed() == Code.FORBIDDEN


def test_each_frame_needs_its_scope(server: Server) -> None:
    """A key for usage opens no hold, one for holds records no segment; both are acked."""
    server.keyring.add("counter", tenant="acme", scopes=("events:write",))
    server.keyring.add("asker", tenant="acme", scopes=("holds:write",))
    with server.hello("s-1", key="counter") as client:
        client.send(type="hold.authorize", id="h", seq=1, **CALL)
        assert client.receive("error")["code"] == "missing_scope"
        client.wait_ack(1)
    with server.hello("s-2", key="asker") as client:
        client.send(**SEGMENT, id="v", seq=1, ms=1000)
        assert client.receive("error")["code"] == "missing_scope"
    assert events(server) == 0


def test_a_session_of_one_tenant_cannot_be_resumed_with_the_key_of_another(
    server: Server,
) -> None:
    """Not even to be told that it is there."""
    with server.hello("s-1") as client:
        with server.resume("s-1", client.epoch, 0, key="globex") as other:
            assert other.opened["code"] == "unknown_session"
        client.send(**SEGMENT, id="v", seq=1, ms=1000)
        client.wait_ack(1)


def test_a_key_that_is_revoked_loses_its_streams(server: Server) -> None:
    """Within a heartbeat; the session itself is as it was."""
    server.limit(heartbeat_ms=1000)
    server.keyring.add("soon gone", tenant="acme")
    with server.hello("s-1", key="soon gone") as client:
        server.keyring.remove("soon gone")
        assert client.closed() == Code.KEY_REFUSED
        with server.resume("s-1", client.epoch, 0) as again:
            assert again.opened["type"] == "resumed"


def test_past_the_rate_frames_wait_and_none_is_refused(server: Server) -> None:
    """The handshake takes one of the key's requests too."""
    server.keyring.add("slow", tenant="acme", per_second=20, burst=2)
    with server.hello("s-1", key="slow") as client:
        for seq in range(1, 6):
            client.send(**SEGMENT, id=f"v-{seq}", seq=seq, ms=1000)
        client.wait_ack(5)
    assert quantities(server) == {"audio.stt.seconds": Decimal(5)}


# -- what frames do -------------------------------------------------------------------


def test_segments_are_seconds_by_direction_with_the_session_s_attribution(
    server: Server,
) -> None:
    """Milliseconds are counted exactly."""
    with server.hello("s-1", user="ann") as client:
        for seq, direction in enumerate(("in", "out", "both"), 1):
            client.send(**{**SEGMENT, "direction": direction}, id=f"v-{seq}", seq=seq, ms=1001)
        client.wait_ack(3)
    seconds = Decimal("1.001")
    assert quantities(server) == {
        "audio.stt.seconds": seconds,
        "audio.tts.seconds": seconds,
        "audio.session.seconds": seconds,
    }


def test_a_tool_counts_when_it_has_ended(server: Server) -> None:
    """That it began is a usage event of nothing, which is kept."""
    tool = {"provider": "gateway", "tool": "weather"}
    with server.hello("s-1") as client:
        client.send(type="tool.started", id="t-1", seq=1, **tool)
        client.wait_ack(1)
        assert (events(server), quantities(server).get("tool.calls", 0)) == (1, 0)
        client.send(type="tool.ended", id="t-2", seq=2, outcome="error", **tool)
        client.send(
            type="tool.ended", id="t-3", seq=3, quantities={"search.web": 2}, **tool, user="bob"
        )
        client.wait_ack(3)
    assert events(server) == 3
    found = quantities(server)
    assert (found["tool.calls"], found["search.web"]) == (1, 2)


def test_a_call_without_a_hold_is_reported_once_and_never_twice(server: Server) -> None:
    """Other quantities under the same call are a conflict, not a second charge."""
    call = {"type": "usage", "call": "c-1", "provider": "openai", "model": "gpt-4o"}
    with server.hello("s-1") as client:
        client.send(**call, id="u-1", seq=1, quantities={"tokens.output": "10"})
        client.send(**call, id="u-2", seq=2, quantities={"tokens.output": 10})
        client.send(**call, id="u-3", seq=3, quantities={"tokens.output": 20})
        error = client.receive("error")
        assert (error["for"], error["code"]) == ("u-3", "conflict")
        client.wait_ack(3)
    assert quantities(server) == {"tokens.output": Decimal(10)}


def test_checkpoints_move_no_money_and_the_capture_does(server: Server) -> None:
    """The hold's last checkpoint is what its expiry would have fallen back to."""
    with server.hello("s-1") as client:
        client.send(type="hold.authorize", id="h-1", seq=1, **CALL)
        for seq in (2, 3):
            client.send(
                type="usage", id=f"u-{seq}", seq=seq, hold="h-1", quantities={"tokens.output": seq}
            )
        client.wait_ack(3)
        assert quantities(server) == {}
        hold = server.tallybook.protection_reads.hold("h-1", tenant="acme").hold
        assert (hold.meters, hold.numbers) == (("tokens.output",), (3_000_000,))
        client.send(
            type="hold.capture", id="c-1", seq=4, hold="h-1", quantities={"tokens.output": "7"}
        )
        assert client.receive("decision")["answer"]["status"] == "captured"
    assert quantities(server) == {"tokens.output": Decimal(7)}


def test_a_hold_is_extended_progressed_and_voided_over_the_stream(server: Server) -> None:
    """Each as REST does it, with the ids that the frames imply."""
    with server.hello("s-1", user="ann") as client:
        client.send(type="hold.authorize", id="f-1", seq=1, hold="h-1", ttl=60, **CALL)
        client.send(type="hold.extend", id="f-2", seq=2, hold="h-1", amount="0.5", ttl=600)
        client.send(
            type="hold.progress", id="f-3", seq=3, hold="h-1", step=9, quantities={"images": 1}
        )
        client.send(type="hold.void", id="f-4", seq=4, hold="h-1")
        client.send(type="hold.void", id="f-5", seq=5, hold="h-1", force=True, reason="left")
        client.wait_ack(5)
    statuses = [one["answer"]["status"] for one in client.of("decision")]
    assert statuses == ["created", "extended", "hold_has_progress", "voided"]
    hold = server.tallybook.protection_reads.hold("h-1", tenant="acme").hold
    assert hold.progress_step == 9
    assert hold.extra is not None
    assert (hold.extra.session, hold.extra.user) == ("s-1", "ann")


def test_a_denied_call_is_a_decision_and_not_an_error(server: Server) -> None:
    """With its reasons and the status that a gateway may pass on."""
    server.tallybook.budgets.set({"cap": "0.1"}, tenant="acme", name="small", by="t")
    with server.hello("s-1") as client:
        client.send(type="hold.authorize", id="h-1", seq=1, **CALL)
        answer = client.receive("decision")["answer"]
    assert (answer["decision"], answer["suggested_status"]) == ("deny", 402)
    assert answer["reasons"][0]["name"] == "small"


def test_a_bad_frame_is_an_error_is_acked_and_the_session_goes_on(server: Server) -> None:
    """Each with code and pointer; nothing of it is recorded."""
    with server.hello("s-1") as client:
        for seq, (frame, code, pointer) in enumerate(BAD, 1):
            client.send(**frame, id=f"f-{seq}", seq=seq)
            error = client.receive("error")
            assert (error["for"], error["seq"]) == (f"f-{seq}", seq)
            assert (error["code"], error["pointer"]) == (code, pointer), frame
        client.wait_ack(len(BAD))
        client.send(**SEGMENT, id="good", seq=len(BAD) + 1, ms=1000)
        client.wait_ack(len(BAD) + 1)
    assert quantities(server) == {"audio.stt.seconds": Decimal(1)}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("no json", Code.BROKEN),
        ("[1]", Code.BROKEN),
        ('{"type": "end", "id": "x"}', Code.BROKEN),
        ('{"type": "end", "seq": 1}', Code.BROKEN),
        ('{"type": "end", "id": "x", "seq": true}', Code.BROKEN),
        ('{"type": "end", "id": "x", "seq": 2}', Code.BROKEN),
        ('{"type": "heartbeat", "seq": 1}', Code.BROKEN),
        ('{"type": "hello"}', Code.BROKEN),
        (b"{}", Code.BROKEN),
        ("x" * (MAX_FRAME_BYTES + 1), Code.TOO_BIG),
    ],
)
def test_what_cannot_be_answered_closes(server: Server, message: Any, code: Code) -> None:
    """No frame, no envelope, a gap, a second beginning, or more than a frame can be."""
    with server.hello("s-1") as client:
        client.socket.send(message)
        assert client.closed() == code


def test_a_first_frame_that_is_none_closes(server: Server) -> None:
    """Neither a fact nor a beginning with members that nobody knows."""
    with server.connect() as client:
        client.send(**SEGMENT, id="v", seq=1, ms=1)
        assert client.closed() == Code.BROKEN
    with server.connect() as client:
        client.send(type="hello", sessions="s-1")
        assert client.closed() == Code.BROKEN


def test_answers_come_in_the_order_of_frames_sent_without_waiting(server: Server) -> None:
    """Refused ones wait for those before them that are still being committed."""
    with server.hello("s-1") as client:
        for seq in range(1, 61):
            if seq % 3 == 0:
                client.send(type="hold.burn", id=f"f-{seq}", seq=seq)
            else:
                client.send(type="hold.authorize", id=f"f-{seq}", seq=seq, **CALL)
        client.wait_ack(60)
    answered = [one["seq"] for one in client.seen if one["type"] in ("decision", "error")]
    assert answered == list(range(1, 61))
    for place, frame in enumerate(client.seen):
        if frame["type"] == "ack":
            behind = [one["seq"] for one in client.seen[place:] if one["type"] == "decision"]
            assert all(seq > frame["seq"] for seq in behind)


def test_the_same_usage_over_rest_is_a_duplicate(server: Server) -> None:
    """Source, id and members of each fact are those that the specification says."""
    common: dict[str, Any] = {"user": "ann", "session": "s-1"}
    with server.hello("s-1", user="ann") as client:
        client.send(**SEGMENT, id="v-1", seq=1, ms=1500, time="2026-11-03T10:00:00Z")
        client.send(type="tool.ended", id="t-1", seq=2, tool="weather", provider="gateway")
        raw = {"usage": {"prompt_tokens": 12, "cost": 0.25}}
        client.send(
            type="usage",
            id="u-1",
            seq=3,
            call="c-1",
            provider="openai",
            quantities={"tokens.output": "10"},
            raw=raw,
        )
        client.wait_ack(3)
    rest = [
        (
            "v-1",
            "2026-11-03T10:00:00Z",
            {
                "provider": "deepgram",
                "model": "nova-3",
                "quantities": {"audio.stt.seconds": "1.5"},
            },
        ),
        ("t-1", None, {"provider": "gateway", "model": "weather", "quantities": {"tool.calls": 1}}),
        ("c-1", None, {"provider": "openai", "quantities": {"tokens.output": 10}, "raw": raw}),
    ]
    wires = [
        json.dumps(
            {
                "specversion": "1.0",
                "type": "tallybook.usage.v2",
                "source": "stream:s-1",
                "id": id,
                "subject": "acme",
                **({} if time is None else {"time": time}),
                "data": {**common, **data},
            }
        ).encode()
        for id, time, data in rest
    ]
    outcomes = server.tallybook.ledger.record(wires)
    assert [one.status for one in outcomes] == ["duplicate"] * 3


# -- resuming -------------------------------------------------------------------------


def one_segment(client: Client, seq: int, ms: int = 1000) -> None:
    """Send a segment whose id follows from its number."""
    client.send(**SEGMENT, id=f"v-{seq}", seq=seq, ms=ms)


def test_a_resumed_session_goes_on_where_the_client_says(server: Server) -> None:
    """What is sent again is not counted again, and its answers come again."""
    with server.hello("s-1") as client:
        one_segment(client, 1)
        client.send(type="hold.authorize", id="h-1", seq=2, **CALL)
        one_segment(client, 3)
        client.wait_ack(3)
        client.cut()
    with server.resume("s-1", client.epoch, 1) as again:
        assert (again.opened["from"], again.opened["epoch"]) == (2, client.epoch)
        again.send(type="hold.authorize", id="h-1", seq=2, **CALL)
        one_segment(again, 3)
        one_segment(again, 4)
        answer = again.receive("decision")["answer"]
        assert (answer["status"], answer["decision"]) == ("exists", "allow")
        again.wait_ack(4)
    assert quantities(server) == {"audio.stt.seconds": Decimal(3)}


def test_a_client_that_forgot_everything_is_told_where_to_go_on(server: Server) -> None:
    """What was done is written down at the latest when the connection ends."""
    with server.hello("s-1") as client:
        one_segment(client, 1)
        one_segment(client, 2)
        client.wait_ack(2)
    with server.resume("s-1", client.epoch, None) as again:
        assert (again.opened["from"], again.opened["acked"]) == (3, 2)


def test_who_resumes_takes_the_session_over(server: Server) -> None:
    """The connection that had it is closed with a code that says not to come back."""
    with server.hello("s-1") as first, server.resume("s-1", first.epoch, 0) as second:
        assert first.closed() == Code.TAKEN_OVER
        one_segment(second, 1)
        second.wait_ack(1)


def test_what_cannot_be_resumed_says_why_and_where_to_go(server: Server) -> None:
    """Unknown, begun anew, over; a session may begin on the same connection."""
    with server.resume("s-1", 1, 0) as client:
        assert client.opened["code"] == "unknown_session"
        assert client.opened["routes"]["voice.segment"] == "POST /v2/events"
        client.send(type="hello", session="s-1")
        first = client.receive("hello")["epoch"]
    with server.hello("s-1") as client:
        assert client.epoch > first
        with server.resume("s-1", first, 0) as stale:
            assert stale.opened["code"] == "stale_epoch"
        one_segment(client, 1)
        client.send(type="end", id="bye", seq=2)
        assert client.closed() == Code.ENDED
    with server.resume("s-1", client.epoch, 2) as over:
        assert over.opened["code"] == "session_ended"


def test_the_server_gives_a_session_an_id_where_the_client_has_none(server: Server) -> None:
    """It can be resumed by it."""
    with server.connect() as client:
        client.send(type="hello")
        client.opened = client.receive("hello")
    with server.resume(client.opened["session"], client.epoch, 0) as again:
        assert again.opened["type"] == "resumed"


# -- ending ---------------------------------------------------------------------------


def test_the_end_settles_what_is_open_of_this_session_and_nothing_else(server: Server) -> None:
    """Captured with the last checkpoint, voided without one; over any connection's holds."""
    with server.hello("s-1") as client:
        client.send(type="hold.authorize", id="h-1", seq=1, **CALL)
        client.send(type="hold.authorize", id="h-2", seq=2, **CALL)
        client.send(
            type="usage", id="u", seq=3, hold="h-1", quantities={"tokens.output": 40}, step=1
        )
        client.wait_ack(3)
    ask = {"hold": "h-3", "session": "s-11", **CALL}
    assert server.tallybook.holds.authorize(ask, tenant="acme").status == "created"
    with server.resume("s-1", client.epoch, 3) as again:
        again.send(type="end", id="bye", seq=4)
        ended = again.receive("ended")
        assert again.closed() == Code.ENDED
    settled = {one["hold"]: one["status"] for one in ended["settled"]}
    assert settled == {"h-1": "captured", "h-2": "voided"}
    assert again.acked == 4
    assert quantities(server) == {"tokens.output": Decimal(40)}
    assert server.tallybook.protection_reads.hold("h-3", tenant="acme").status == "open"


def test_nothing_is_read_after_the_end(server: Server) -> None:
    """A frame that follows it does nothing."""
    with server.hello("s-1") as client:
        client.send(type="end", id="bye", seq=1)
        one_segment(client, 2)
        assert client.closed() == Code.ENDED
    assert events(server) == 0


# -- silence and the end of the server ------------------------------------------------


def test_a_silent_client_is_closed_and_heartbeats_keep_it(server: Server) -> None:
    """Three of the server's heartbeats are the patience."""
    server.limit(heartbeat_ms=600)
    with server.hello("silent") as silent, server.hello("talking") as talking:
        for _ in range(4):
            talking.send(type="heartbeat")
            talking.socket.recv(timeout=10)
        assert silent.closed() == Code.IDLE
        one_segment(talking, 1)
        talking.wait_ack(1)


def test_a_drained_server_answers_what_came_and_closes_resumably(server: Server) -> None:
    """New streams are turned away; the session goes on elsewhere."""
    with server.hello("s-1") as client:
        for seq in range(1, 31):
            one_segment(client, seq)
        client.wait_ack(1)
        server.drain()
        assert client.closed() == Code.RESTARTING
        acked = client.acked
        assert quantities(server)["audio.stt.seconds"] >= acked
        with pytest.raises(InvalidStatus) as caught:
            server.connect()
        refused(caught.value, 503, "draining")


def test_the_ledger_out_of_reach_closes_resumably_and_acks_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the frame was committed is unknown, so nothing is said of it."""
    with server.hello("s-1") as client:
        one_segment(client, 1)
        client.wait_ack(1)
        server.tallybook.sequencer.close()
        one_segment(client, 2)
        assert client.closed() == Code.UNAVAILABLE
        assert client.acked == 1
