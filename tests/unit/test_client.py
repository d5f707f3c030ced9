"""The client repeats itself with the same bytes, and says what the server says."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.client import (
    SPOOLED,
    UNSENT,
    AsyncClient,
    Client,
    Denied,
    LedgerUnreachable,
    NotPermitted,
    Retry,
    Usage,
)
from ledger.domain.errors import InvalidInput, LedgerError

FAST = Retry(deadline_s=0.5, first_s=0.001, most_s=0.01)
AT = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
ALLOWED = {"status": "created", "hold": "h-1", "decision": "allow", "amount": "0.25", "model": "m"}
DENIED = {
    "status": "denied_exceeds_budget",
    "hold": "h-1",
    "decision": "deny",
    "reasons": [{"code": "exceeds", "name": "monthly"}],
}
Answer = httpx.Response | Exception
MAKERS: list[Callable[..., Any]] = [Client, AsyncClient]


class Wire(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Answers as a test says, by operation: the last part of the path; the last answer stays.

    Attributes:
        seen: path and document of what arrived.
    """

    def __init__(self, **answers: list[Answer]) -> None:
        self._answers = answers
        self.seen: list[tuple[str, Any]] = []
        self.headers: list[httpx.Headers] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer."""
        body = request.read()
        self.seen.append((request.url.raw_path.decode(), json.loads(body) if body else None))
        self.headers.append(request.headers)
        answers = self._answers[request.url.path.rpartition("/")[2]]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer."""
        await request.aread()
        answer = self.handle_request(request)
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    def operations(self) -> list[str]:
        """Return the operations that arrived."""
        return [path.partition("?")[0].rpartition("/")[2] for path, _ in self.seen]


def ok(document: Any) -> httpx.Response:
    """Return an answer."""
    return httpx.Response(200, json=document)


def down() -> httpx.ConnectError:
    """Return what there is without a server."""
    return httpx.ConnectError("refused")


def usage(**members: Any) -> Usage:
    """Return an event."""
    given = {"source": "gw", "provider": "openai", "quantities": {"tokens.input": 1}, "id": "e-1"}
    return Usage(**{**given, "occurred_at": AT, **members})


def test_an_event_has_the_same_bytes_however_often_it_is_written() -> None:
    """A repetition under the same key must have the same fingerprint."""
    event = usage(quantities={"tokens.input": Decimal("1.50"), "tokens.output": "2"}, user="ann")
    assert event.wire() == event.wire()
    assert json.loads(event.wire()) == {
        "specversion": "1.0",
        "type": "tallybook.usage.v2",
        "id": "e-1",
        "source": "gw",
        "time": "2026-03-02T09:30:00+00:00",
        "data": {
            "provider": "openai",
            "quantities": {"tokens.input": "1.50", "tokens.output": "2"},
            "user": "ann",
        },
    }


def test_a_float_is_no_quantity() -> None:
    """It would be another number by the time it arrived."""
    with pytest.raises(InvalidInput) as caught:
        usage(quantities={"tokens.input": 0.1}).wire()
    assert caught.value.code == "invalid_quantity"
    assert caught.value.pointer == "/data/quantities/tokens.input"


def test_a_time_without_an_offset_is_refused_here() -> None:
    """The server could only guess."""
    with pytest.raises(InvalidInput):
        usage(occurred_at=datetime(2026, 3, 2)).wire()  # noqa: DTZ001 # that is the point


def test_a_request_is_repeated_until_it_is_answered() -> None:
    """Cut, busy, limited: the same bytes with the same key each time."""
    busy = httpx.Response(503, json={"code": "server_busy"})
    limited = httpx.Response(429, json={"code": "rate_limited"}, headers={"Retry-After": "0"})
    wire = Wire(events=[down(), busy, limited, ok({"items": [{"status": "accepted"}]})])
    with Client(transport=wire, key="secret", retry=FAST) as client:
        [item] = client.record(usage())
    assert item.status == "accepted"
    assert len(wire.seen) == 4
    assert len({json.dumps(body) for _, body in wire.seen}) == 1
    assert {headers["authorization"] for headers in wire.headers} == {"Bearer secret"}


def test_without_an_answer_in_time_the_caller_is_told() -> None:
    """And may send the same event again."""
    with (
        Client(transport=Wire(events=[down()]), retry=FAST) as client,
        pytest.raises(LedgerUnreachable),
    ):
        client.record(usage())


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "invalid_key", NotPermitted),
        (403, "missing_scope", NotPermitted),
        (422, "invalid_amount", InvalidInput),
    ],
)
def test_a_refusal_is_an_error_of_the_same_kind_as_in_process(
    status: int, code: str, kind: type[LedgerError]
) -> None:
    """It has the server's code, and is not repeated."""
    problem = {"code": code, "detail": "no", "errors": [{"pointer": "/amount", "code": code}]}
    wire = Wire(holds=[httpx.Response(status, json=problem)])
    with Client(transport=wire, retry=FAST) as client, pytest.raises(kind) as caught:
        client.authorize({"hold": "h-1", "amount": "1"})
    assert caught.value.code == code
    assert len(wire.seen) == 1


def test_a_key_is_not_shown_where_a_client_is() -> None:
    """A configuration that gets into a log gives nothing away."""
    with Client(transport=Wire(), key="swordfish") as client:
        assert "swordfish" not in repr(client.config)


# -- holds, for both clients ----------------------------------------------------------


def run_hold(make: Any, wire: Wire, body: Any, **members: Any) -> None:
    """Run a body inside of a hold, with either client; ``body`` gets a function for operations."""
    if make is Client:
        with Client(transport=wire, retry=FAST, **members) as client, client.hold("h-1") as hold:
            body(lambda name, *args, **more: getattr(hold, name)(*args, **more))
        return

    async def main() -> None:
        async with (
            AsyncClient(transport=wire, retry=FAST, **members) as client,
            client.hold("h-1") as hold,
        ):
            loop = asyncio.get_running_loop()

            def operate(name: str, *args: Any, **more: Any) -> Any:
                made = getattr(hold, name)(*args, **more)
                return asyncio.run_coroutine_threadsafe(made, loop).result()

            await asyncio.to_thread(body, operate)

    asyncio.run(main())


@pytest.mark.parametrize("make", MAKERS)
def test_a_hold_is_captured_once_and_left(make: Any) -> None:
    """The capture's id follows from the hold's."""
    wire = Wire(holds=[ok(ALLOWED)], capture=[ok({"status": "captured"})])
    run_hold(make, wire, lambda do: do("capture", {"tokens.output": 2}, model="m"))
    assert wire.operations() == ["holds", "capture"]
    assert wire.seen[1][1] == {
        "capture": "h-1/capture",
        "quantities": {"tokens.output": 2},
        "final": True,
        "model": "m",
    }


@pytest.mark.parametrize("make", MAKERS)
def test_a_hold_that_is_left_without_a_call_is_voided(make: Any) -> None:
    """Nothing was called, so nothing stays reserved."""
    wire = Wire(holds=[ok(ALLOWED)], void=[ok({"status": "voided"})])
    run_hold(make, wire, lambda do: None)
    assert wire.operations() == ["holds", "void"]


@pytest.mark.parametrize("make", MAKERS)
def test_an_error_after_a_checkpoint_captures_it(make: Any) -> None:
    """The provider was called: what is known is recorded, as an error."""
    wire = Wire(
        holds=[ok(ALLOWED)],
        progress=[ok({"status": "progressed"})],
        capture=[ok({"status": "captured"})],
    )

    def body(do: Any) -> None:
        do("progress", {"tokens.output": 1})
        raise RuntimeError("the stream broke")

    with pytest.raises(RuntimeError):
        run_hold(make, wire, body)
    assert wire.operations() == ["holds", "progress", "capture"]
    assert wire.seen[2][1]["outcome"] == "error"
    assert wire.seen[2][1]["quantities"] == {"tokens.output": 1}


@pytest.mark.parametrize("make", MAKERS)
def test_a_denied_hold_raises_with_its_reasons(make: Any) -> None:
    """The body does not run, and there is nothing to settle."""
    wire = Wire(holds=[ok(DENIED)])
    with pytest.raises(Denied, match="exceeds monthly") as caught:
        run_hold(make, wire, lambda do: pytest.fail("the call was made"))
    assert caught.value.code == "denied_exceeds_budget"
    assert caught.value.answer.reasons[0]["name"] == "monthly"
    assert wire.operations() == ["holds"]


@pytest.mark.parametrize("make", MAKERS)
def test_an_outage_during_a_call_leaves_its_capture_in_the_spool(make: Any, tmp_path: Path) -> None:
    """Checkpoints are left out; the final capture waits, as it was sent."""
    wire = Wire(holds=[ok(ALLOWED)], progress=[down()], capture=[down()])
    answers = []

    def body(do: Any) -> None:
        answers.append(do("progress", {"tokens.output": 1}).status)
        answers.append(do("capture", {"tokens.output": 2}).status)

    # The drain's own connection goes where nothing listens.
    run_hold(make, wire, body, spool=tmp_path / "spool", url="http://127.0.0.1:1")
    assert answers == [UNSENT, SPOOLED]
    with Client(spool=tmp_path / "spool", url="http://127.0.0.1:1") as client:
        assert client.spool is not None
        [entry] = client.spool.first(limit=9, max_bytes=9999)
    assert entry.path == "/v2/holds/h-1/capture"
    assert json.loads(entry.body)["capture"] == "h-1/capture"


def test_a_task_that_is_cancelled_while_it_asks_gives_the_hold_up() -> None:
    """Whether or not the question arrived, nothing stays reserved for it."""
    asked = asyncio.Event()

    class Slow(Wire):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.path == "/v2/holds":
                asked.set()
                await asyncio.sleep(60)
            return await super().handle_async_request(request)

    wire = Slow(void=[ok({"status": "voided_unmatched"})])

    async def main() -> None:
        async with AsyncClient(transport=wire, retry=FAST) as client:

            async def call() -> None:
                async with client.hold("h-1", amount="1"):
                    pytest.fail("the call was made")

            task = asyncio.create_task(call())
            await asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert wire.operations() == ["void"]


def test_ids_keep_their_slashes_in_a_path() -> None:
    """What the client names is one part of the path."""
    wire = Wire(capture=[ok({"status": "captured"})])
    with Client(transport=wire, retry=FAST, tenant="a&b") as client:
        client.capture({"capture": "c", "quantities": {}}, hold="a/b ü")
    assert wire.seen[0][0] == "/v2/holds/a%2Fb%20%C3%BC/capture?tenant=a%26b"


def test_the_client_needs_nothing_of_the_server() -> None:
    """It is imported where none of the server's packages is there."""
    script = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {
            "psycopg", "fastapi", "starlette", "uvicorn", "eventsourcing", "pydantic", "typer",
            "rfc8785", "genai_prices", "cryptography", "structlog", "prometheus_client", "rich",
        }:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import adapters.client
print(sorted(name for name in sys.modules if name.startswith("adapters.")))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "adapters.http" not in done.stdout
