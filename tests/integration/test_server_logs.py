"""What a server logs of requests: their ids, and never a key or a body."""

from __future__ import annotations

import base64
import json
import socket
from contextlib import suppress

from fakes.server_process import PATIENCE_S, ServerProcess, event, running
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

MARK = "swordfish"
"""Stands in everything that is sent and must not be logged."""


def raw(server: ServerProcess, text: str) -> None:
    """Send what is no request."""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as wire:
        wire.sendall(text.encode())
        with suppress(OSError):
            wire.recv(1000)


def send_everywhere(server: ServerProcess, token: str) -> None:
    """Send a key, and marks, in every place that there is for anything."""
    call = server.call
    basic = base64.b64encode(f"{MARK}:{token}".encode()).decode()
    for authorization in (token, f"Token {token}", f"Basic {basic}", f"Bearer {token}{MARK}"):
        call("GET", "/v2/tenants", headers={"Authorization": authorization})
    for path in (
        f"/v2/holds/{token}",
        f"/{MARK}/{token}",
        f"/v2/holds?tenant={MARK}&{MARK}={token}",
        f"/v2/events/{token.replace('_', '%5F')}?cursor={MARK}",
    ):
        call("GET", path, token=token)
    for name in ("X-Request-Id", "Cookie", "User-Agent", "Idempotency-Key", "Tallybook-Version"):
        call("POST", "/v2/prices", {MARK: token}, token=token, headers={name: token})
    call("POST", "/v2/events", {**event(MARK), "subject": MARK, "data": {MARK: token}}, token=token)
    call("POST", "/v2/events", [event(MARK), MARK, token], token=token)
    call("POST", "/v2/holds", {"tenant": MARK, "hold": token, "amount": MARK}, token=token)
    call("PUT", f"/v2/tenants/{MARK}", {"currency": MARK, "timezone": token}, token=token)
    raw(server, f"GET /{MARK} {token}\r\n{MARK}: {token}\r\n\r\n")
    raw(server, f"GET / HTTP/1.1\r\nHost: x\r\n{MARK}: {token * 900}\r\n\r\n")
    address = f"ws://127.0.0.1:{server.port}/v2/stream?tenant={MARK}"
    with suppress(InvalidStatus):
        connect(address, subprotocols=["tallybook.v2", f"tallybook.key.{MARK}{token}"]).close()  # type: ignore[list-item] # only a name for text
    with connect(address, additional_headers={"Authorization": f"Bearer {token}"}) as stream:
        stream.send(json.dumps({"type": "hello", "session": MARK}))
        stream.recv(PATIENCE_S)
        with suppress(ConnectionClosed):
            stream.send(json.dumps({"type": MARK, "id": token, "seq": 1}))
            stream.recv(PATIENCE_S)


def test_nothing_that_is_sent_is_logged_and_what_is_has_the_request_s_id(
    database_url: str,
) -> None:
    """Not with everything logged that can be; lines about the server itself have no id."""
    options = ("--log-level", "debug", "--access-log", "--log-format", "json", "--workers", "2")
    with running(database_url, *options) as server:
        token = server.ready["admin_key"]
        send_everywhere(server, token)
        given = {"X-Request-Id": "req-of-the-client"}
        server.call("GET", "/v2/tenants", token=token, headers=given)
        assert server.stop() == 0
        log = server.log()
    assert MARK not in log
    assert token.rsplit("_", 1)[1] not in log
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    requests = [line for line in lines if line["event"] == "request"]
    assert len(requests) > 15
    assert all(line["request_id"] for line in requests)
    assert {line["route"] for line in requests} >= {"-", "/v2/holds/{hold}", "/v2/events"}
    [line] = [line for line in requests if line["request_id"] == "req-of-the-client"]
    assert line["worker"] in ("0", "1")
    [ending] = [line for line in lines if line["event"].startswith("ending")]
    assert "request_id" not in ending
