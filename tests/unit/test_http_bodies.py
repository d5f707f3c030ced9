"""Bodies are read whole, or given up in time, and what they took is given back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from adapters.http.bodies import Bodies, ClientGone
from adapters.http.problems import HttpProblem

Receive = Callable[[], Awaitable[dict[str, Any]]]


def parts(*bodies: bytes, then: Receive | None = None) -> Receive:
    """Return what an ASGI server gives: parts of a body, the last one unless more is to come."""
    left = list(bodies)

    async def receive() -> dict[str, Any]:
        if not left and then is not None:
            return await then()
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left) or then is not None}

    return receive


async def never() -> dict[str, Any]:
    """Wait for a part that does not come."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def gone() -> dict[str, Any]:
    """Say that the client went away."""
    return {"type": "http.disconnect"}


def test_a_body_in_parts_is_put_together() -> None:
    """However it comes, the handler sees one."""
    bodies = Bodies()
    assert asyncio.run(bodies.read(parts(b"a", b"b", b"c"), {}, 10)) == b"abc"


def test_a_body_that_does_not_come_is_given_up() -> None:
    """The request is answered 408 and takes no memory any more."""

    async def read() -> None:
        bodies = Bodies(timeout_s=0.1)
        with pytest.raises(HttpProblem) as caught:
            await bodies.read(parts(b"abc", then=never), {}, 10)
        assert caught.value.code == "request_timeout"
        assert bodies.waiting_bytes == 0
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        # The next request of the connection is read as if nothing had happened.
        assert await bodies.read(parts(b"x"), {}, 10) == b"x"

    asyncio.run(read())


def test_a_server_that_ends_is_no_time_out() -> None:
    """Whoever cancels the request for another reason is obeyed."""

    async def read() -> None:
        bodies = Bodies()
        task = asyncio.create_task(bodies.read(parts(b"abc", then=never), {}, 10))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert bodies.waiting_bytes == 0

    asyncio.run(read())


def test_a_client_that_goes_away_leaves_nothing() -> None:
    """There is nobody to answer, and what it had sent is given back."""

    async def read() -> None:
        bodies = Bodies()
        with pytest.raises(ClientGone):
            await bodies.read(parts(b"abc", then=gone), {}, 10)
        assert bodies.waiting_bytes == 0

    asyncio.run(read())


def test_all_bodies_together_have_a_limit() -> None:
    """A server that holds too many says so instead of growing; released ones make room."""

    async def read() -> None:
        bodies = Bodies(max_waiting_bytes=5)
        first = await bodies.read(parts(b"abc"), {}, 10)
        with pytest.raises(HttpProblem) as caught:
            await bodies.read(parts(b"ab", b"cd"), {}, 10)
        assert caught.value.code == "server_busy"
        assert bodies.waiting_bytes == 3
        bodies.release(first)
        assert await bodies.read(parts(b"abcd"), {}, 10) == b"abcd"

    asyncio.run(read())
