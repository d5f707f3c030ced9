"""The server of `scripts/bench http`: Tallybook's application, and beside it an empty route.

    python -m scripts.benchmarks._http_server DATABASE_URL

One worker and the sequencer in a process of its own, as `tallybook up` serves. ``/bench/answer``
keeps the bytes that are put there, ``/bench/empty`` is a plain Starlette route that answers them:
the least that this server does for a request. Prints its port when it listens; ends with its
standard input.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import closing
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapters.bootstrap import http_app, open_ledger, tune_process
from adapters.bootstrap.server import sequencer_process
from adapters.http.lifecycle import Lifecycle
from adapters.http.metrics import Metrics
from adapters.http.server import ServerSettings, Serving, config_of
from adapters.sequencing import RemoteSequencer

_PREFIX = "/bench/"


def _empty_app() -> Starlette:
    answers = {"bytes": b"{}"}

    async def put(request: Request) -> Response:
        answers["bytes"] = await request.body()
        return Response(b"{}", media_type="application/json")

    async def empty(request: Request) -> Response:
        del request
        return Response(answers["bytes"], media_type="application/json")

    return Starlette(
        routes=[
            Route("/bench/empty", empty, methods=["GET", "POST"]),
            Route("/bench/answer", put, methods=["POST"]),
        ]
    )


async def _no_sessions() -> None:
    """There are none to end."""


async def _serve(app: Any, queue: RemoteSequencer) -> None:
    serving = Serving(app, lambda code: None, _no_sessions)
    server = uvicorn.Server(config_of(serving, ServerSettings(), Lifecycle()))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with queue.running():
            await _serve_on(server, listener)


async def _serve_on(server: uvicorn.Server, listener: socket.socket) -> None:
    serve = asyncio.create_task(server.serve([listener]))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await serve


def main() -> None:
    """Serve until standard input ends."""
    import uvloop  # noqa: PLC0415 - only this process wants it

    metrics = Metrics()
    url = sys.argv[1]
    with (
        sequencer_process(url, ServerSettings()) as process,
        closing(RemoteSequencer(process.path, watch=metrics)) as queue,
        open_ledger(url, queue=queue) as tallybook,
    ):
        ours = http_app(tallybook, keyring=tallybook.keyring, observer=metrics, metrics=metrics)
        empty = _empty_app()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http" and scope["path"].startswith(_PREFIX):
                await empty(scope, receive, send)
            else:
                await ours(scope, receive, send)

        tune_process()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(app, queue))


if __name__ == "__main__":
    main()
