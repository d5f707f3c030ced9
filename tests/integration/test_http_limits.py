"""What comes over a socket and is no good request: refused as it should be, and nobody is hurt."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fakes.raw_server import LARGE, RawClient, RawServer, request, until

from adapters.http.protocol import Limits

HEAD = 32 * 1024
SOON_S = 0.3
"""Time limits of tests that wait for one."""
CHUNKED = (
    b"POST /echo HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer key\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
HANDSHAKE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
Make = Callable[..., RawServer]


@pytest.fixture(params=["uvloop", "asyncio"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Return a function that starts servers, which must answer as ever in the end."""
    started: list[RawServer] = []

    def start(*, body_timeout_s: float = 30.0, **limits: Any) -> RawServer:
        server = RawServer(request.param, Limits(**limits), body_timeout_s=body_timeout_s)
        server.start()
        started.append(server)
        return server

    yield start
    try:
        for server in started:
            if not server.server.should_exit:
                answers_as_ever(server)
    finally:
        for server in started:
            server.stop()


def answers_as_ever(server: RawServer) -> None:
    """Check that a normal request is answered."""
    with RawClient(server.port) as client:
        client.send(request())
        assert client.answer().status == 200


def test_requests_on_one_connection_are_answered_in_turn(make: Make) -> None:
    """Pipelined requests are all answered, in their order."""
    server = make()
    with RawClient(server.port) as client:
        bodies = [b"%d" % number for number in range(50)]
        client.send(b"".join(request("/echo", method="POST", body=body) for body in bodies))
        assert [client.answer().body for _ in bodies] == bodies
        client.send(request("/echo", method="POST", body=b"last"))
        assert client.answer().body == b"last"


@pytest.mark.parametrize("path", ["/healthz", "/echo"])
def test_an_answered_request_leaves_nothing_to_the_cycle_collector(make: Make, path: str) -> None:
    """A circle in each would stop the server for its collection every few thousand requests."""
    server = make()
    gc.disable()
    try:
        with RawClient(server.port) as client:
            # The last request of a connection is kept until there is another one.
            for _ in range(3):
                client.send(request(path, method="POST", body=b"{}"))
                assert client.answer().status == 200
            until(lambda: [mark() is None for mark in server.marks] == [True, True, False])
    finally:
        gc.enable()


@pytest.mark.parametrize("path", ["/healthz", "/echo"])
def test_an_answer_to_head_has_no_body_and_the_next_one_has(make: Make, path: str) -> None:
    """What says how long a body is, is there; the body is not."""
    server = make()
    with RawClient(server.port) as client:
        client.send(request(path, method="HEAD") + request(path))
        head = client.answer(of_head=True)
        assert (head.status, head.headers["content-length"]) == (200, "2")
        assert client.answer().body == b"{}"


@pytest.mark.parametrize("path", ["/healthz", "/echo"])
def test_a_client_that_keeps_no_connection_is_answered_and_told_so(make: Make, path: str) -> None:
    """HTTP/1.0, and whoever says close."""
    server = make()
    old = request(path).replace(b"HTTP/1.1", b"HTTP/1.0")
    for asked in (old, request(path, headers="Connection: close\r\n")):
        with RawClient(server.port) as client:
            client.send(asked)
            assert client.answer().headers["connection"] == "close"
            assert client.closed()


def test_a_header_that_would_begin_another_one_is_not_sent(make: Make) -> None:
    """The answer is a failure instead."""
    server = make()
    with RawClient(server.port) as client:
        client.send(request("/injected"))
        answer = client.answer()
        assert (answer.status, answer.code) == (500, "internal_error")
        assert "x-injected" not in answer.headers


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * HEAD + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * HEAD + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: xxxxxxxxxx\r\n" * 128 + b"Y: y\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * 40_000,
        b"GET / HTTP/1.1\r\nX: " + b"x" * 1_000_000,
        b"GET / HTTP/1.1\r\n" + b"x" * 1_000_000,
        b"GET /" + b"x" * 1_000_000,
        b"\r\n" * 200_000,
    ],
    ids=["line", "header", "count", "endless headers", "value", "name", "endless line", "blank"],
)
def test_a_head_past_its_limits_is_refused(make: Make, head: bytes) -> None:
    """The answer is read even though the client was still sending."""
    server = make()
    with RawClient(server.port) as client:
        client.send(head)
        answer = client.answer()
        assert (answer.status, answer.code) == (431, "headers_too_large")
        assert answer.headers["connection"] == "close"
        assert client.closed()
    assert server.refused == ["headers_too_large"]
    assert server.seen == []


def test_a_head_of_just_its_limits_is_taken(make: Make) -> None:
    """Large cookies and traces of proxies pass."""
    server = make()
    with RawClient(server.port) as client:
        client.send(request(headers="X: " + "x" * (HEAD - 200) + "\r\n"))
        assert client.answer().status == 200
        client.send(request(headers="X: x\r\n" * 126))
        assert client.answer().status == 200


def test_a_head_that_does_not_come_to_its_end_is_given_up(make: Make) -> None:
    """A byte now and then does not prolong it: the time counts from the first one."""
    server = make(head_timeout_s=SOON_S)
    with RawClient(server.port) as client:
        client.trickle(b"GET / HTTP/1.1\r\nX: " + b"x" * 100, every_s=0.02)
        answer = client.answer()
        assert (answer.status, answer.code) == (408, "request_timeout")
    assert server.refused == ["request_timeout"]


@pytest.mark.parametrize("rest", [b"GET / HTTP/1.1\r\nX: " + b"x" * 100, b"\r\n" * 50])
def test_a_second_head_that_does_not_come_to_its_end_is_given_up(make: Make, rest: bytes) -> None:
    """After a good request too, and blank lines are no sign of life."""
    server = make(head_timeout_s=SOON_S)
    with RawClient(server.port) as client:
        client.send(request())
        assert client.answer().status == 200
        client.trickle(rest, every_s=0.02)
        if rest.startswith(b"GET"):
            assert client.answer().code == "request_timeout"
        assert client.closed()


def test_a_connection_without_a_request_is_closed(make: Make) -> None:
    """A new one after the time of a head, one that had its answer after the idle time."""
    server = make(head_timeout_s=SOON_S, idle_timeout_s=SOON_S)
    with RawClient(server.port) as client:
        assert client.closed()
    with RawClient(server.port) as client:
        client.send(request())
        assert client.answer().status == 200
        assert client.closed()
    assert server.refused == []
    until(lambda: server.connections == 0)


def test_the_time_of_a_head_does_not_count_between_requests(make: Make) -> None:
    """An idle connection stays for the idle time, which is longer."""
    server = make(head_timeout_s=SOON_S)
    with RawClient(server.port) as client:
        for _ in range(2):
            client.send(request())
            assert client.answer().status == 200
            assert client.quiet(2 * SOON_S)


def test_a_body_that_does_not_come_to_its_end_is_given_up(make: Make) -> None:
    """The client learns why."""
    server = make(body_timeout_s=SOON_S)
    with RawClient(server.port) as client:
        client.send(request("/echo", method="POST", body=b"x" * 100)[:-50])
        client.trickle(b"x" * 40, every_s=0.02)
        answer = client.answer()
        assert (answer.status, answer.code) == (408, "request_timeout")
        assert client.closed()
    assert server.seen == []


def test_a_body_past_its_limit_is_refused_while_it_is_sent(make: Make) -> None:
    """The answer reaches a client that sends all of it before it reads."""
    server = make()
    with RawClient(server.port) as client:
        client.send(request("/echo", method="POST", body=b"x" * 20_000_000))
        answer = client.answer()
        assert (answer.status, answer.code) == (413, "body_too_large")
        assert client.closed()


def test_a_body_that_nobody_reads_is_thrown_away(make: Make) -> None:
    """The connection goes on behind it, and ends where the rest does not come."""
    server = make(head_timeout_s=SOON_S)
    with RawClient(server.port) as client:
        body = b"x" * 2_000_000
        client.send(request(body=body))
        assert client.answer().status == 200
        client.send(request())
        assert client.answer().status == 200
        client.send(request(body=body)[:-10])
        assert client.answer().status == 200
        assert client.closed()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"BREW / HTTP/1.1\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nA\x00B: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\n\r\n",
        b"\xff" * 100_000,
    ],
)
def test_garbage_is_refused(make: Make, garbage: bytes) -> None:
    """With a problem document, whatever it is; nothing gets to the application."""
    server = make()
    with RawClient(server.port) as client:
        client.send(garbage)
        answer = client.answer()
        assert (answer.status, answer.code) == (400, "invalid_request")
        assert client.closed()
    assert server.seen == []
    assert server.refused == ["invalid_request"]


def test_garbage_behind_a_request_is_refused_in_its_turn(make: Make) -> None:
    """The good ones are answered first."""
    server = make()
    with RawClient(server.port) as client:
        client.send(request("/wait") + request("/echo", method="POST", body=b"2") + b"\x00\x01")
        until(lambda: server.refused != [])
        server.let_go()
        assert client.answer().status == 200
        assert client.answer().body == b"2"
        assert client.answer().code == "invalid_request"
        assert client.closed()


def test_a_body_that_turns_to_garbage_ends_its_request(make: Make) -> None:
    """It is not handled, and nobody waits for the rest of it."""
    server = make()
    broken = CHUNKED + b"3\r\nabc\r\nzzz\r\n"
    with RawClient(server.port) as client:
        client.send(broken)
        assert client.answer().code == "invalid_request"
        assert client.closed()
    with RawClient(server.port) as client:
        client.send(request("/wait") + broken)
        until(lambda: len(server.refused) == 2)
        server.let_go()
        assert client.answer().status == 200
        assert client.answer().code == "invalid_request"
        assert client.closed()
    assert server.seen == ["/wait"]


@pytest.mark.parametrize(
    "framing",
    [b"1;" + b"x" * 1_000_000, b"1\r\nx\r\n0\r\n" + b"X: " + b"x" * 1_000_000],
    ids=["extension", "trailer"],
)
def test_what_frames_a_body_has_a_limit_too(make: Make, framing: bytes) -> None:
    """Extensions of chunks and trailers do not fill the memory."""
    server = make()
    with RawClient(server.port) as client:
        client.send(CHUNKED + framing)
        assert client.answer().code == "headers_too_large"
        assert client.closed()
    assert server.seen == []


def test_a_body_in_tiny_chunks_is_taken(make: Make) -> None:
    """However much frames it, as long as it is in proportion."""
    server = make()
    with RawClient(server.port) as client:
        client.send(CHUNKED + b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n")
        assert client.answer().body == b"x" * 50_000


def test_a_client_that_has_closed_its_half_is_answered(make: Make) -> None:
    """Its requests were whole."""
    server = make()
    with RawClient(server.port) as client:
        client.send(request("/wait") + request("/echo", method="POST", body=b"2"))
        until(lambda: server.seen == ["/wait"])
        client.end()
        server.let_go()
        assert client.answer().status == 200
        assert client.answer().body == b"2"
        assert client.closed()


def test_a_client_that_closes_its_half_before_its_request_is_whole_is_gone(make: Make) -> None:
    """Nothing is handled, nothing is answered."""
    server = make()
    for part in (b"", b"GET / HT", request("/echo", method="POST", body=b"xxxx")[:-2]):
        with RawClient(server.port) as client:
            client.send(part)
            client.end()
            assert client.closed()
    until(lambda: server.connections == 0)
    assert server.seen == []


def test_past_the_most_connections_there_is_a_503(make: Make) -> None:
    """Those that are there go on."""
    server = make(connections=2)
    with RawClient(server.port) as one, RawClient(server.port) as two:
        for client in (one, two):
            client.send(request())
            assert client.answer().status == 200
        with RawClient(server.port) as third:
            third.send(request())
            answer = third.answer()
            assert (answer.status, answer.code) == (503, "server_busy")
            assert answer.headers["retry-after"] == "1"
            one.send(request())
            assert one.answer().status == 200
            assert third.closed()
    until(lambda: server.connections == 0)
    assert server.refused == ["server_busy"]


def test_far_past_the_most_connections_they_are_cut_off(make: Make) -> None:
    """So many are not even told."""
    server = make(connections=1)
    with RawClient(server.port), RawClient(server.port):
        until(lambda: server.connections == 2)
        with RawClient(server.port) as third, pytest.raises((ConnectionResetError, EOFError)):
            third.answer()
    until(lambda: server.connections == 0)


def test_a_client_that_does_not_read_is_given_up(make: Make) -> None:
    """Its connection does not stay for ever; one that reads gets it all."""
    server = make(write_timeout_s=SOON_S)
    with RawClient(server.port, small=True) as client:
        client.send(request("/large"))
        until(lambda: server.seen == ["/large"])
        until(lambda: server.connections == 0)
    with RawClient(server.port) as client:
        client.send(request("/large"))
        assert client.answer().body == LARGE


@pytest.mark.parametrize("pieces", [1, 1000])
def test_an_upgrade_to_something_else_is_passed_over(make: Make, pieces: int) -> None:
    """As clients ask that would rather speak HTTP/2; the body is there, and the next request."""
    server = make()
    upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    asked = request("/echo", method="POST", body=b"hello", headers=upgrade)
    with RawClient(server.port) as client:
        for place in range(0, len(asked), -(-len(asked) // pieces)):
            client.send(asked[place : place + -(-len(asked) // pieces)])
        answer = client.answer()
        assert (answer.status, answer.body) == (200, b"hello")
        client.send(request())
        assert client.answer().status == 200
        client.send(asked.replace(b"Connection: ", b"Connection: close, "))
        assert client.answer().body == b"hello"
        assert client.closed()


def test_a_websocket_has_the_same_limits_of_its_head(make: Make) -> None:
    """And none of the times of requests once it is open."""
    server = make(head_timeout_s=SOON_S, idle_timeout_s=SOON_S)
    with RawClient(server.port) as client:
        client.send(request("/v2/stream", headers="X: " + "x" * HEAD + "\r\n" + HANDSHAKE))
        assert client.answer().code == "headers_too_large"
    with RawClient(server.port) as client:
        client.send(request("/v2/stream", headers=HANDSHAKE))
        assert client.socket.recv(1000).startswith(b"HTTP/1.1 101 ")
        assert client.quiet(3 * SOON_S)


def test_who_has_a_connection_is_answered_once_more_while_the_process_drains(make: Make) -> None:
    """With the word that it ends; a WebSocket is not begun any more."""
    server = make()
    with (
        RawClient(server.port) as waiting,
        RawClient(server.port) as idle,
        RawClient(server.port) as late,
        RawClient(server.port) as silent,
    ):
        for client in (idle, late):
            client.send(request())
            assert client.answer().status == 200
        waiting.send(request("/wait"))
        until(lambda: "/wait" in server.seen)
        server.drain()
        until(lambda: server.server.should_exit)
        idle.send(request())
        assert idle.answer().headers["connection"] == "close"
        late.send(request("/v2/stream", headers=HANDSHAKE))
        assert late.answer().code == "draining"
        assert silent.closed()
        for client in (idle, late, silent):
            client.socket.close()
        server.let_go()
        answer = waiting.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert waiting.closed()
    server.ended()
    with pytest.raises(ConnectionRefusedError):
        RawClient(server.port)
