"""The examples and tables of docs/spec/stream.md are true."""

from __future__ import annotations

import re

from fakes.examples import differs
from fakes.stream_frames import SPEC, exchanges
from fakes.stream_world import Client, stream_server

from adapters.http.stream import commands, frames
from adapters.http.stream.session import RESUMABLE, Code


def table(header: str) -> list[list[str]]:
    """Return the rows of a table of the specification."""
    lines = SPEC.splitlines()
    first = lines.index(header) + 2
    rows = []
    for line in lines[first:]:
        if not line.startswith("|"):
            return rows
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_the_specified_session_runs_as_it_is_written(database_url: str) -> None:
    """All examples in their order are one session, cut where it is resumed."""
    with stream_server(database_url) as server:
        server.tallybook.tenants.open("acme")
        client: Client | None = None
        epoch = 0
        played = 0
        for who, frame in exchanges():
            if who == ">":
                if frame["type"] in ("hello", "resume"):
                    if client is not None:
                        client.cut()
                    client = server.connect()
                assert client is not None
                client.send(**{k: epoch if v == "$epoch" else v for k, v in frame.items()})
            else:
                assert client is not None
                answer = client.next()
                assert differs(frame, answer) == "", (frame, answer)
                epoch = answer.get("epoch", epoch)
                played += 1
        assert client is not None
        assert client.closed() == Code.ENDED
        assert played == 14


def test_every_close_code_is_listed_and_says_whether_it_is_resumable() -> None:
    """The table has the codes of the session and no others."""
    rows = table("| code | resumable | because |")
    assert {int(row[0]): row[1] == "yes" for row in rows} == {
        int(code): code in RESUMABLE for code in Code
    }


def test_every_type_of_frame_is_listed() -> None:
    """Of the client and of the server."""
    listed = {
        name
        for header in (
            "| type | members besides | becomes |",
            "| type | members | when |",
            "| type | the budget |",
        )
        for row in table(header)
        for name in re.findall(r"`([a-z_.]+)`", row[0])
    }
    ours = {kind.__struct_config__.tag for kind in frames.CLIENT_FRAMES + frames.SERVER_FRAMES}
    assert listed - {"hold", "call", "budget."} == (ours | set(frames.HOLD_FRAMES)) - {
        "hello",
        "resume",
    }


def test_the_numbers_of_the_specification_are_those_of_the_code() -> None:
    """Window, size of frames, bounds of what waits, time-outs."""
    from adapters.http.stream.session import Limits

    limits = Limits()
    assert f'"heartbeat_ms": {limits.heartbeat_ms}, "window": {limits.window}' in SPEC
    assert f'"max_frame_bytes": {frames.MAX_FRAME_BYTES}' in SPEC
    assert f"{limits.out_frames:,} frames or {limits.out_bytes // 2**20} MiB" in SPEC
    assert f"reads nothing for {limits.stall_ms // 1000} seconds" in SPEC
    assert f"within {limits.greeting_ms // 1000} seconds" in SPEC
    assert f"1 to {frames.MAX_ID_CHARS} characters" in SPEC
    assert limits.idle_beats == 3
    for direction, meter in commands.METERS.items():
        assert f"`{direction}` is `{meter}`" in SPEC
