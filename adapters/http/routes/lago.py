"""Lago's events: what its clients and LiteLLM's callback post, answered as Lago does.

Rules: docs/spec/compat.md; the mapping: `adapters.http.compat.lago`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
from pydantic import BaseModel

from adapters.http.bodies import BOM
from adapters.http.compat import lago
from adapters.http.compat.reading import Mapped, decode_all, map_items
from adapters.http.exchange import Answer, Exchange, check_json
from adapters.http.models.compat import (
    LagoBatchDocument,
    LagoBatchRequest,
    LagoErrorDocument,
    LagoEventDocument,
    LagoEventRequest,
)
from adapters.http.operations import Body, Operation, Parameter
from adapters.http.routes.events import bound_tenant
from adapters.http.schema import PROBLEM_BODY, reference
from ledger.application.ingest import INLINE_BYTES, Ingest
from ledger.domain.commands import Outcome
from ledger.domain.errors import InvalidInput
from ledger.domain.usage import RecordUsage

MODELS = (
    LagoBatchDocument,
    LagoBatchRequest,
    LagoErrorDocument,
    LagoEventDocument,
    LagoEventRequest,
)
_Handler = Callable[[Exchange], Awaitable[Answer]]
_encode = msgspec.json.Encoder(decimal_format="number").encode
_ERROR = Body(schema=reference(LagoErrorDocument), others=PROBLEM_BODY)


def one_operation(ingest: Ingest, path: str, parameters: tuple[Parameter, ...]) -> Operation:
    """Return the route for one event."""
    return _operation(
        path,
        parameters,
        handler=_one(ingest),
        summary="Record an event as Lago's senders post it.",
        request=LagoEventRequest,
        example={"event": _example("t-17", parameters)},
        answer=LagoEventDocument,
    )


def batch_operation(ingest: Ingest, path: str, parameters: tuple[Parameter, ...]) -> Operation:
    """Return the route for many events."""
    return _operation(
        path,
        parameters,
        handler=_batch(ingest),
        summary="Record events as Lago's senders post them.",
        request=LagoBatchRequest,
        example={"events": [_example("t-18", parameters)]},
        answer=LagoBatchDocument,
    )


def _example(transaction: str, parameters: tuple[Parameter, ...]) -> dict[str, Any]:
    """Return an event, another one for a route that names the provider."""
    return {
        "transaction_id": f"{transaction}-of" if parameters else transaction,
        "code": "llm_tokens",
        "external_subscription_id": "acme",
        "timestamp": 1793613600,
        "properties": {"model": "gpt-4o", "prompt_tokens": 7, "completion_tokens": 5},
    }


def _operation(
    path: str,
    parameters: tuple[Parameter, ...],
    *,
    handler: _Handler,
    summary: str,
    request: type[BaseModel],
    example: Mapping[str, Any],
    answer: type[BaseModel],
) -> Operation:
    return Operation(
        method="POST",
        path=path,
        handler=_in_lago_form(handler),
        scopes=("events:write",),
        summary=summary,
        tag="compat",
        parameters=parameters,
        request=Body(schema=reference(request), examples={"one": example}),
        answers={200: Body(schema=reference(answer)), 400: _ERROR, 422: _ERROR},
    )


def _one(ingest: Ingest) -> _Handler:
    async def handle(exchange: Exchange) -> Answer:
        document = await _document(exchange)
        event = document.get("event") if isinstance(document, dict) else None
        if not isinstance(event, dict):
            return _bad_request("param is missing or the value is empty: event")
        [item] = await map_items([event], _mapper(exchange), size=0)
        [outcome] = await ingest.record_items([item])
        wrong = _details(outcome)
        if wrong is not None or not isinstance(item, RecordUsage):
            return _invalid(wrong or {}, [outcome])
        echo = lago.echo(event, item, now=datetime.now(UTC))
        return Answer(_encode({"event": echo}))

    return handle


def _batch(ingest: Ingest) -> _Handler:
    async def handle(exchange: Exchange) -> Answer:
        document = await _document(exchange)
        events = document.get("events") if isinstance(document, dict) else None
        if not isinstance(events, list) or not events:
            return _invalid({"events": ["no_events"]})
        if len(events) > lago.MAX_EVENTS:
            return _invalid({"events": ["too_many_events"]})
        items = await map_items(events, _mapper(exchange), size=len(exchange.body))
        outcomes = await ingest.record_items(items)
        wrong = {
            str(place): found
            for place, outcome in enumerate(outcomes)
            if (found := _details(outcome)) is not None
        }
        if wrong:
            return _invalid(wrong, outcomes)
        return Answer(_encode({"events": _echoes(events, items)}))

    return handle


def _echoes(events: Sequence[Any], items: Sequence[Mapped]) -> list[dict[str, Any]]:
    now = datetime.now(UTC)
    return [
        lago.echo(event, item, now=now)
        for event, item in zip(events, items, strict=True)
        if isinstance(item, RecordUsage)
    ]


def _mapper(exchange: Exchange) -> Callable[..., RecordUsage]:
    return partial(
        lago.usage_of, tenant=bound_tenant(exchange), provider=exchange.path.get("provider", "")
    )


async def _document(exchange: Exchange) -> Any:
    check_json(exchange.headers)
    body = exchange.body.removeprefix(BOM)
    if len(body) <= INLINE_BYTES:
        return decode_all(body)
    return await asyncio.to_thread(decode_all, body)


def _details(outcome: Outcome) -> dict[str, list[str]] | None:
    """Return what is wrong with an event, by field; None where it was recorded just now."""
    if outcome.status == "accepted":
        return None
    if outcome.status in ("duplicate", "conflict"):
        return {"transaction_id": [lago.REPEATED]}
    found = outcome.problem
    return lago.details(found.code, found.pointer) if found else {"base": [outcome.status]}


def _invalid(details: dict[str, Any], outcomes: Sequence[Outcome] = ()) -> Answer:
    said = (outcome.problem.message for outcome in outcomes if outcome.problem is not None)
    body = {
        "status": 422,
        "error": "Unprocessable Entity",
        "code": "validation_errors",
        "error_details": details,
        # Lago's codes leave out what is wrong; its clients pass over members they do not know.
        "detail": next(said, ""),
    }
    return Answer(_encode(body), 422)


def _bad_request(what: str) -> Answer:
    return Answer(_encode({"status": 400, "error": f"BadRequest: {what}"}), 400)


def _in_lago_form(handle: _Handler) -> _Handler:
    """Answer what cannot be read at all in Lago's form, too."""

    async def answer(exchange: Exchange) -> Answer:
        try:
            return await handle(exchange)
        except InvalidInput as error:
            return _bad_request(error.message)

    return answer
