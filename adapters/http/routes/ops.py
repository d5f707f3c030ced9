"""Operations: does the process live, can it commit, what does it count, what is served here.

None but the metrics needs a key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import cache

import msgspec

from adapters.http.exchange import Answer, Exchange
from adapters.http.lifecycle import Lifecycle
from adapters.http.operations import Body, Operation
from adapters.http.pages import html, reference, stream
from adapters.http.problems import HttpProblem
from adapters.http.scraping import CONTENT_TYPE, Scrape
from adapters.http.stream.asyncapi import encoded as stream_schema
from ledger.application.access import require_platform
from ledger.application.services import Services
from ledger.domain.errors import LedgerError

READY_TIMEOUT_S = 5.0
METRICS_PATH = "/metrics"
_OBJECT = Body(schema={"type": "object"})
_STATUS = Body(
    schema={
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"type": "string"}},
    }
)


def operations(
    services: Services, schema: Callable[[], bytes], lifecycle: Lifecycle
) -> Sequence[Operation]:
    """Return the routes.

    Args:
        services: whose database readiness is about.
        schema: gives the OpenAPI document.
        lifecycle: of the process.
    """

    async def healthz(exchange: Exchange) -> Answer:
        del exchange
        return Answer(msgspec.json.encode({"status": "ok"}))

    async def readyz(exchange: Exchange) -> Answer:
        del exchange
        if lifecycle.draining:
            raise HttpProblem("the server is ending; ask another one", code="draining")
        if not services.ledger.reachable:
            raise HttpProblem(
                "the process that commits is starting; nothing can be recorded now",
                code="not_ready",
            )
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await asyncio.to_thread(services.reads.now)
        except (LedgerError, TimeoutError):
            raise HttpProblem(
                "the database does not answer; nothing can be recorded now", code="not_ready"
            ) from None
        return Answer(msgspec.json.encode({"status": "ready"}))

    async def openapi(exchange: Exchange) -> Answer:
        del exchange
        return Answer(schema())

    async def asyncapi(exchange: Exchange) -> Answer:
        del exchange
        return Answer(stream_schema())

    @cache
    def docs() -> bytes:
        return reference.render(msgspec.json.decode(schema()))

    @cache
    def stream_docs() -> bytes:
        return stream.render(msgspec.json.decode(stream_schema()))

    def operation(path: str, handler: Callable[[Exchange], object], summary: str) -> Operation:
        return Operation(
            method="GET",
            path=path,
            handler=handler,  # type: ignore[arg-type] # they are coroutines, every one
            scopes=(),
            summary=summary,
            tag="operations",
            answers={200: _OBJECT if path.endswith(".json") else _STATUS},
            tenant_in="none",
        )

    return (
        operation("/healthz", healthz, "Say whether the process lives."),
        operation("/readyz", readyz, "Say whether the ledger can be asked."),
        operation("/openapi.json", openapi, "Return this schema."),
        operation("/asyncapi.json", asyncapi, "Return the schema of the stream."),
        _page("/docs", docs, "Show every route to people."),
        _page("/docs/stream", stream_docs, "Show the stream to people."),
    )


def _page(path: str, render: Callable[[], bytes], summary: str) -> Operation:
    async def show(exchange: Exchange) -> Answer:
        del exchange
        # The first time it takes a while.
        body = await asyncio.to_thread(render)
        return Answer(body, content_type=html.CONTENT_TYPE, headers=html.HEADERS)

    return Operation(
        method="GET",
        path=path,
        handler=show,
        scopes=(),
        summary=summary,
        tag="operations",
        answers={200: Body(schema={"type": "string"}, content_types=("text/html",))},
        tenant_in="none",
    )


def metrics(scrape: Scrape, *, open: bool) -> Operation:
    """Return the route of the metrics.

    Args:
        scrape: gives them.
        open: whether no key is needed.
    """

    async def handle(exchange: Exchange) -> Answer:
        if not open:
            require_platform(exchange.who)
        return Answer(await scrape.text(), content_type=CONTENT_TYPE)

    return Operation(
        method="GET",
        path=METRICS_PATH,
        handler=handle,
        scopes=() if open else ("metrics",),
        summary="Return what is counted, for Prometheus.",
        description="Of all workers, whichever answers; needs a key of the platform.",
        tag="operations",
        answers={200: Body(schema={"type": "string"}, content_types=("text/plain",))},
        tenant_in="none",
    )
