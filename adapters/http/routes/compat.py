"""What other systems' senders speak: OpenMeter's and Lago's events, and version 1 of this API.

Each route answers in its own format; docs/spec/compat.md has the rules.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from adapters.http.bodies import BOM
from adapters.http.compat import openmeter, usage_v1
from adapters.http.compat.reading import read_items
from adapters.http.exchange import Answer, Exchange
from adapters.http.models.compat import OpenMeterEvent, UsageV1Record
from adapters.http.models.events import BatchDocument, RecordedDocument
from adapters.http.operations import Body, Operation, Parameter
from adapters.http.problems import CONTENT_TYPE, HttpProblem, problem
from adapters.http.routes import lago
from adapters.http.routes.events import (
    BATCH,
    LINES,
    SINGLE,
    answer_batch,
    answer_one,
    bound_tenant,
    form_of,
)
from adapters.http.schema import reference
from ledger.application.documents.recorded import batch_of
from ledger.application.ingest import Ingest
from ledger.application.services import Services
from ledger.domain.commands import Outcome
from ledger.domain.errors import Problem

MODELS = (*lago.MODELS, OpenMeterEvent, UsageV1Record)
V1_DEPRECATED = ("2026-11-27", "2027-11-27")
"""Since when `/v1` is deprecated, and when it goes."""
MAX_ERRORS = 100
"""Most items that a problem lists."""
RESULT = b"tallybook-result"
"""Header that says how many events came to which status, where the format has no place for it."""

_Handler = Callable[[Exchange], Awaitable[Answer]]
_PROVIDER = Parameter(
    name="provider",
    place="path",
    required=True,
    description="Who ran the calls whose events do not say.",
)


def operations(services: Services) -> list[Operation]:
    """Return the routes."""
    ingest = services.ingest
    return [
        *_both("openmeter", "/api/v1/events", partial(_openmeter_operation, ingest)),
        *_both("lago", "/api/v1/events", partial(lago.one_operation, ingest)),
        *_both("lago", "/api/v1/events/batch", partial(lago.batch_operation, ingest)),
        _v1_operation(ingest),
    ]


_OPENMETER_EXAMPLE: Mapping[str, Any] = {
    "specversion": "1.0",
    "type": "llm_usage",
    "source": "litellm-proxy",
    "id": "chatcmpl-9f1",
    "subject": "acme",
    "data": {"model": "gpt-4o", "prompt_tokens": 10, "completion_tokens": 20},
}
_V1_EXAMPLE: Mapping[str, Any] = {
    "question_id": "q-17",
    "tenant": "acme",
    "model": "gpt-4o",
    "input_tokens": 10,
    "output_tokens": 20,
    "at": "2026-11-02T10:00:00Z",
}


def _both(
    name: str, path: str, made: Callable[[str, tuple[Parameter, ...]], Operation]
) -> Iterable[Operation]:
    """Return a route of a format, and the same with a provider in its address."""
    yield made(f"/compat/{name}{path}", ())
    yield made(f"/compat/{name}/{{provider}}{path}", (_PROVIDER,))


def _openmeter_operation(ingest: Ingest, path: str, parameters: tuple[Parameter, ...]) -> Operation:
    one = reference(OpenMeterEvent)
    many = {"type": "array", "items": one}
    return Operation(
        method="POST",
        path=path,
        handler=_openmeter(ingest),
        scopes=("events:write",),
        summary="Record events as OpenMeter's senders post them.",
        tag="compat",
        parameters=parameters,
        request=Body(
            schema={"anyOf": [one, many]},
            others={SINGLE.decode(): one, BATCH.decode(): many},
            examples={"one": _OPENMETER_EXAMPLE},
        ),
        answers={204: Body(schema={}, content_types=(), description="Recorded, now or before.")},
    )


def _v1_operation(ingest: Ingest) -> Operation:
    one = reference(UsageV1Record)
    return Operation(
        method="POST",
        path="/v1/usage",
        handler=_v1(ingest),
        scopes=("events:write",),
        summary="Record questions as version 1 had them; use /v2/events.",
        tag="compat",
        request=Body(
            schema={"anyOf": [one, {"type": "array", "items": one}]},
            others={LINES[0].decode(): {"type": "string", "description": "One record a line."}},
            examples={"one": _V1_EXAMPLE},
        ),
        answers={
            200: Body(schema={"anyOf": [reference(RecordedDocument), reference(BatchDocument)]})
        },
        problems=(409,),
        deprecated=V1_DEPRECATED,
    )


# -- OpenMeter ----------------------------------------------------------------------


def _openmeter(ingest: Ingest) -> _Handler:
    async def handle(exchange: Exchange) -> Answer:
        body = exchange.body.removeprefix(BOM)
        form = form_of(exchange.headers, body)
        if form not in ("one", "array"):
            raise HttpProblem(
                "send events as application/cloudevents+json, application/cloudevents-batch+json "
                "or application/json",
                code="unsupported_media_type",
            )
        mapper = partial(
            openmeter.usage_of, tenant=bound_tenant(exchange), provider=_provider(exchange)
        )
        items = await read_items(body, "array" if form == "array" else None, mapper)
        outcomes = await ingest.record_items(items)
        return _openmeter_answer(outcomes, form == "one", exchange.request_id)

    return handle


def _openmeter_answer(outcomes: Sequence[Outcome], is_one: bool, request_id: str) -> Answer:
    """Answer as OpenMeter does: nothing for what is there, now or before; a problem for the rest.

    What is there under the same source and id is not counted again, whatever it holds; where it
    holds something else the ledger lists it as a conflict.
    """
    batch = batch_of(outcomes)
    counts = {
        "accepted": batch.accepted,
        "duplicate": batch.duplicate,
        "conflict": batch.conflict,
        "rejected": batch.rejected,
    }
    result = (RESULT, ", ".join(f"{name}={count}" for name, count in counts.items()).encode())
    if not batch.rejected:
        return Answer(b"", 204, headers=(result,))
    errors = [
        {
            "pointer": problem.pointer if is_one else f"/{place}{problem.pointer}",
            "code": problem.code,
            "detail": problem.message,
        }
        for place, problem in _problems(outcomes)
    ]
    first = errors[0]
    detail = first["detail"]
    if not is_one:
        detail = (
            f"{batch.rejected} of {len(outcomes)} events were not recorded, the others are; "
            f"the first at {first['pointer']}: {detail}"
        )
    body = problem(
        status=400,
        code=first["code"],
        detail=detail,
        request_id=request_id,
        extra={"errors": errors[:MAX_ERRORS], **counts},
    )
    return Answer(body, 400, CONTENT_TYPE, (result,))


def _problems(outcomes: Sequence[Outcome]) -> list[tuple[int, Problem]]:
    return [
        (place, outcome.problem or Problem(outcome.status, f"the answer is {outcome.status}"))
        for place, outcome in enumerate(outcomes)
        if outcome.status == "rejected"
    ]


def _provider(exchange: Exchange) -> str:
    return exchange.path.get("provider", "")


# -- version 1 ----------------------------------------------------------------------


def _v1(ingest: Ingest) -> _Handler:
    async def handle(exchange: Exchange) -> Answer:
        body = exchange.body.removeprefix(BOM)
        form = form_of(exchange.headers, body)
        if form == "binary":
            form = "one"
        mapper = partial(usage_v1.usage_of, tenant=bound_tenant(exchange))
        items = await read_items(body, None if form == "one" else form, mapper)
        outcomes = await ingest.record_items(items)
        if form == "one":
            return answer_one(outcomes[0], exchange.request_id)
        return await answer_batch(outcomes)

    return handle
