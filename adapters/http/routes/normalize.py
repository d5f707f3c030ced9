"""Normalizing: what a provider's response says was used. Nothing is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from adapters.http.bodies import BOM
from adapters.http.exchange import JSON, Answer, Exchange
from adapters.http.models.calls import CallsDocument
from adapters.http.operations import Body, Operation, Parameter
from adapters.http.problems import HttpProblem
from adapters.http.routes.events import LINES, check_charset
from adapters.http.schema import reference
from ledger.application.documents.calls import calls_json
from ledger.application.responses import AUTO, Responses
from ledger.application.services import Services

MODELS = (CallsDocument,)
SSE = b"text/event-stream"
_KINDS = frozenset({b"", JSON, SSE, *LINES})
_EXAMPLE: Mapping[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1793613600,
    "model": "gpt-4o-2024-08-06",
    "choices": [],
    "usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15},
}


def operations(services: Services) -> list[Operation]:
    """Return the routes."""
    text = {"type": "string"}
    return [
        Operation(
            method="POST",
            path="/v2/normalize",
            handler=_normalize(services.responses),
            scopes=("events:write", "read"),
            summary="Say what a provider's response bills; nothing is stored.",
            tag="ingest",
            parameters=(
                Parameter(
                    name="provider",
                    description="Whose response it is; left out, it is told by its form.",
                ),
            ),
            request=Body(
                schema={"type": ["object", "array"]},
                others={SSE.decode(): text, LINES[0].decode(): text},
                description="The response, or the events of a stream.",
                examples={"openai": _EXAMPLE},
            ),
            answers={200: Body(schema=reference(CallsDocument))},
            tenant_in="none",
        )
    ]


def _normalize(responses: Responses) -> Callable[[Exchange], Awaitable[Answer]]:
    async def handle(exchange: Exchange) -> Answer:
        kind, _, parameters = exchange.headers.get(b"content-type", b"").partition(b";")
        if kind.strip().lower() not in _KINDS:
            raise HttpProblem(
                "send the response as application/json, text/event-stream or application/x-ndjson",
                code="unsupported_media_type",
            )
        check_charset(parameters)
        provider = exchange.query.get("provider", AUTO)
        body = exchange.body.removeprefix(BOM)
        # On a thread: a stream of a long session takes as long as many requests.
        return Answer(
            await asyncio.to_thread(lambda: calls_json(responses.calls(body, provider=provider)))
        )

    return handle
