"""Recording: usage events and corrections as CloudEvents, one or many a request."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

import msgspec

from adapters.http.bodies import BOM
from adapters.http.exchange import JSON, Answer, Exchange
from adapters.http.models.events import (
    AdjustCloudEvent,
    BatchDocument,
    RecordedDocument,
    UnrecordedDocument,
    UsageCloudEvent,
    VoidCloudEvent,
)
from adapters.http.operations import Body, Operation
from adapters.http.problems import CONTENT_TYPE, HttpProblem, problem
from adapters.http.schema import reference
from ledger.application.documents.recorded import Recorded, batch_of, encode, item_of
from ledger.application.ingest import Ingest
from ledger.application.services import Services
from ledger.domain.commands import Outcome
from ledger.domain.errors import InvalidInput
from ledger.domain.usage import check_text

MODELS = (
    AdjustCloudEvent,
    BatchDocument,
    RecordedDocument,
    UnrecordedDocument,
    UsageCloudEvent,
    VoidCloudEvent,
)
SINGLE = b"application/cloudevents+json"
BATCH = b"application/cloudevents-batch+json"
LINES = (b"application/x-ndjson", b"application/ndjson", b"application/jsonl")
Form = Literal["one", "array", "lines", "binary"]

_ENCODED_ON_LOOP = 1_000
"""Most items whose answers are encoded on the event loop."""
_CHARSETS = frozenset({b"utf-8", b"utf8", b"us-ascii"})
_ARRAY = re.compile(rb"\s*+\[")
_ATTRIBUTES = ("specversion", "type", "source", "id", "subject", "time")
_one_value = msgspec.json.Decoder(msgspec.Raw).decode


def operations(services: Services) -> list[Operation]:
    """Return the routes."""
    events = [reference(model) for model in (UsageCloudEvent, VoidCloudEvent, AdjustCloudEvent)]
    return [
        Operation(
            method="POST",
            path="/v2/events",
            handler=_record(services.ingest),
            scopes=("events:write",),
            summary="Record usage events and corrections.",
            description="One event is answered alone, a batch with one item each, in order.",
            tag="ingest",
            request=Body(
                schema={"anyOf": [*events, {"type": "array", "items": {"anyOf": events}}]},
                content_types=(JSON.decode(),),
                others={
                    SINGLE.decode(): {"anyOf": events},
                    BATCH.decode(): {
                        "type": "array",
                        "items": {"anyOf": events},
                        "maxItems": 10_000,
                    },
                    LINES[0].decode(): {"type": "string", "description": "One event a line."},
                },
                examples={"usage": _EXAMPLE},
            ),
            answers={
                200: Body(
                    schema={"anyOf": [reference(RecordedDocument), reference(BatchDocument)]},
                    description="Recorded; of a batch what became of each item.",
                )
            },
            problems=(409,),
        )
    ]


_EXAMPLE: Mapping[str, Any] = {
    "specversion": "1.0",
    "type": "tallybook.usage.v2",
    "source": "gateway-eu-1",
    "id": "req_7f3a",
    "subject": "acme",
    "time": "2026-11-02T10:00:00.123456Z",
    "data": {
        "provider": "openai",
        "model": "gpt-4o-2024-08-06",
        "quantities": {"tokens.input": 1200, "tokens.output": 80},
        "user": "u-17",
    },
}


def _record(ingest: Ingest) -> Any:
    async def handle(exchange: Exchange) -> Answer:
        body = exchange.body.removeprefix(BOM)
        form = form_of(exchange.headers, body)
        tenant = bound_tenant(exchange)
        if form == "binary":
            body = structured(exchange.headers, body)
        if form == "one" or form == "binary":  # noqa: PLR1714 - mypy narrows this form only
            outcome = await ingest.record_event(body, tenant=tenant)
            return answer_one(outcome, exchange.request_id)
        return await answer_batch(await ingest.record_batch(body, form, tenant=tenant))

    return handle


async def answer_batch(outcomes: Sequence[Outcome]) -> Answer:
    """Return the answer to a batch."""
    if len(outcomes) <= _ENCODED_ON_LOOP:
        return Answer(_batch(outcomes))
    return Answer(await asyncio.to_thread(_batch, outcomes))


def _batch(outcomes: Sequence[Outcome]) -> bytes:
    return encode(batch_of(outcomes))


def bound_tenant(exchange: Exchange) -> str | None:
    """Return the only tenant whose usage may be recorded; None where each event names its own.

    Raises:
        LedgerError: the request names a tenant that is foreign to the key, or none there can be.
    """
    named = exchange.query.get("tenant") if exchange.query_string else None
    if exchange.who.tenant is None:
        if named is None:
            return None
        check_text(named, pointer="/tenant", required=True)
    return exchange.tenant()


def form_of(headers: Mapping[bytes, bytes], body: bytes) -> Form:
    """Return how a body holds events, by its content type (CloudEvents, HTTP binding, 3).

    Raises:
        HttpProblem: ``unsupported_media_type``.
    """
    given = headers.get(b"content-type", b"")
    if given == SINGLE:
        return "one"
    kind, _, parameters = given.partition(b";")
    kind = kind.strip().lower()
    check_charset(parameters)
    if kind == BATCH:
        return "array"
    if kind == SINGLE:
        return "one"
    if kind in LINES:
        return "lines"
    if b"ce-specversion" in headers or b"ce-id" in headers:
        if kind and kind != JSON and not kind.endswith(b"+json"):
            raise HttpProblem("the data of an event must be JSON", code="unsupported_media_type")
        return "binary"
    if kind and kind != JSON:
        raise HttpProblem(
            "send events as application/cloudevents+json, application/cloudevents-batch+json, "
            "application/json or application/x-ndjson",
            code="unsupported_media_type",
        )
    return "array" if _ARRAY.match(body) else "one"


def check_charset(parameters: bytes) -> None:
    """Check that parameters of a content type name no other encoding than UTF-8.

    Raises:
        HttpProblem: ``unsupported_media_type``.
    """
    for parameter in parameters.split(b";"):
        name, _, value = parameter.partition(b"=")
        charset = value.strip().strip(b'"').lower()
        if name.strip().lower() == b"charset" and charset not in _CHARSETS:
            raise HttpProblem("JSON is sent in UTF-8", code="unsupported_media_type")


def structured(headers: Mapping[bytes, bytes], body: bytes) -> bytes:
    """Return an event in binary mode in its structured form: attributes are ``ce-`` headers.

    Raises:
        InvalidInput: ``malformed_json`` where the data is none, ``invalid_utf8`` where a header
            is not percent-encoded UTF-8.
    """
    event: dict[str, Any] = {}
    for name in _ATTRIBUTES:
        value = headers.get(b"ce-" + name.encode())
        if value is not None:
            try:
                event[name] = unquote_to_bytes(value).decode()
            except UnicodeDecodeError:
                raise InvalidInput(
                    f"ce-{name} is not percent-encoded UTF-8",
                    code="invalid_utf8",
                    pointer=f"/{name}",
                ) from None
    try:
        # On its own, so that no text of the data can reach into the event around it.
        event["data"] = _one_value(body)
    except RecursionError:
        raise InvalidInput(
            "the JSON is nested too deeply", code="nested_too_deep", pointer="/data"
        ) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"the data is not JSON: {error}", code="malformed_json", pointer="/data"
        ) from None
    return encode(event)


def answer_one(outcome: Outcome, request_id: str) -> Answer:
    """Return the answer to a single event: its item, or a problem that says why it is none."""
    item = item_of(outcome)
    if isinstance(item, Recorded):
        return Answer(encode(item))
    status = 409 if item.status == "conflict" else 403 if item.code == "foreign_tenant" else 422
    body = problem(
        status=status,
        code=item.code,
        detail=item.detail,
        request_id=request_id,
        pointer=item.pointer,
        extra={"answer": msgspec.to_builtins(item)},
    )
    return Answer(body, status, CONTENT_TYPE)
