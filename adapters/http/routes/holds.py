"""Holds: authorize, extend, progress, capture, void, reverse, simulate.

These stand before and behind every provider call. Documents, codes and answers are those of
docs/spec/holds.md; a denied hold is an answer, not an error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from adapters.http.exchange import Answer, Exchange, named_tenant
from adapters.http.models.holds import (
    AuthorizeRequest,
    CaptureRequest,
    ExtendRequest,
    HoldAnswerDocument,
    ProgressRequest,
    ReverseRequest,
    VoidRequest,
)
from adapters.http.operations import Body, Operation
from adapters.http.problems import CONTENT_TYPE, STATUS_BY_CODE, problem
from adapters.http.schema import reference
from ledger.application import ask_fields as fields
from ledger.application.ask_forms import SentAsk, SentCapture, sent_ask, sent_capture
from ledger.application.documents.encoding import plain_json
from ledger.application.documents.protection import outcome_document
from ledger.application.protection import Holds
from ledger.application.services import Services
from ledger.domain.commands import Outcome

MODELS = (
    AuthorizeRequest,
    CaptureRequest,
    ExtendRequest,
    HoldAnswerDocument,
    ProgressRequest,
    ReverseRequest,
    VoidRequest,
)
PAYMENT_REQUIRED = 402
"""What a gateway may pass on where a call is not allowed: clients of providers retry a 429."""
_SCOPES = ("holds:write",)
_EXAMPLES: Mapping[Any, Mapping[str, Any]] = {
    AuthorizeRequest: {
        "hold": "call-1",
        "provider": "openai",
        "model": "gpt-4o",
        "quantities": {"tokens.input": "900", "tokens.output": "500"},
    },
    ExtendRequest: {"step": 2, "quantities": {"tokens.input": "900", "tokens.output": "800"}},
    ProgressRequest: {"step": 1, "quantities": {"tokens.input": "880", "tokens.output": "80"}},
    CaptureRequest: {
        "capture": "call-1",
        "quantities": {"tokens.input": "880", "tokens.output": "212"},
        "final": True,
    },
    VoidRequest: {"void": "call-2", "reason": "the caller hung up"},
    ReverseRequest: {"reversal": "back-1", "amount": "0.001", "reason": "a bad answer"},
}
"""Of the documents, in the schema; a test sends them."""
_Run = Callable[..., Awaitable[Outcome]]
_Read = Callable[[bytes], SentAsk | SentCapture | None]
_READERS: Mapping[Any, _Read] = {AuthorizeRequest: sent_ask, CaptureRequest: sent_capture}


def operations(services: Services) -> list[Operation]:
    """Return the routes."""
    holds = services.holds
    answers = {200: Body(schema=reference(HoldAnswerDocument))}

    def operation(path: str, run: _Run, summary: str, model: Any, *, of: str = "") -> Operation:
        example = _EXAMPLES[model]
        return Operation(
            method="POST",
            path=path,
            handler=_handler(run, of, _READERS.get(model)),
            scopes=_SCOPES,
            summary=summary,
            tag="protection",
            request=Body(schema=reference(model), examples={"call": example}),
            answers=answers,
            problems=(404, 409),
            tenant_in="body",
        )

    hold = "/v2/holds/{hold:id}"
    return [
        operation("/v2/holds", holds.authorize_async, "Ask for a call.", AuthorizeRequest),
        operation("/v2/simulate", holds.simulate_async, "Say what would be.", AuthorizeRequest),
        operation(
            f"{hold}/capture", holds.capture_async, "Post what was used.", CaptureRequest, of="hold"
        ),
        operation(
            f"{hold}/progress",
            holds.progress_async,
            "Keep a checkpoint.",
            ProgressRequest,
            of="hold",
        ),
        operation(
            f"{hold}/extend", holds.extend_async, "Reserve up to more.", ExtendRequest, of="hold"
        ),
        operation(f"{hold}/void", holds.void_async, "Give a hold up.", VoidRequest, of="hold"),
        operation(
            "/v2/captures/{capture:id}/reverse",
            _reverse(holds),
            "Take charge back.",
            ReverseRequest,
            of="capture",
        ),
    ]


def _handler(run: _Run, of: str, read: _Read | None) -> Callable[[Exchange], Awaitable[Answer]]:
    """Return a handler.

    Args:
        run: of `Holds`.
        of: path parameter that it is about; "" where the document names the hold itself.
        read: reads a plain body in one step; None where there is no such form.
    """

    async def handle(exchange: Exchange) -> Answer:
        form: SentAsk | SentCapture | None = None if read is None else exchange.sent(read)
        if form is not None:
            named = None if form.tenant is msgspec.UNSET else fields.text(form.tenant, "/tenant")
            about = {of: exchange.path[of]} if of else {}
            outcome = await run(form, tenant=exchange.tenant(named), **about)
            return answer(outcome, exchange.request_id)
        document = exchange.document()
        tenant = exchange.tenant(named_tenant(document))
        if "raw" in document and not isinstance(document["raw"], str):
            document["raw"] = _as_sent(exchange.body)
        if of:
            outcome = await run(document, tenant=tenant, **{of: exchange.path[of]})
        else:
            outcome = await run(document, tenant=tenant)
        return answer(outcome, exchange.request_id)

    return handle


class _Evidence(msgspec.Struct):
    raw: msgspec.Raw


_evidence = msgspec.json.Decoder(_Evidence).decode


def _as_sent(body: bytes) -> str:
    """Return the member ``raw`` of a body that has one, letter by letter."""
    return bytes(_evidence(body).raw).decode()


def _reverse(holds: Holds) -> _Run:
    async def run(document: dict[str, Any], *, tenant: str, capture: str) -> Outcome:
        return await holds.reverse_async({**document, "capture": capture}, tenant=tenant)

    return run


def answer(outcome: Outcome, request_id: str) -> Answer:
    """Return the answer to an operation on a hold: its document, or a problem."""
    status = status_of_outcome(outcome)
    document = outcome_document(outcome)
    if status == 200:
        if document.get("decision") in ("deny", "confirm"):
            document["suggested_status"] = PAYMENT_REQUIRED
        return Answer(plain_json(document))
    found = outcome.problem
    detail = found.message if found is not None else f"the answer is {outcome.status}"
    pointer = found.pointer if found is not None and status == 422 else None
    code = found.code if found is not None and status == 422 else outcome.status
    body = problem(
        status=status,
        code=code,
        detail=detail,
        request_id=request_id,
        pointer=pointer,
        extra={"answer": document},
    )
    return Answer(body, status, CONTENT_TYPE)


def status_of_outcome(outcome: Outcome) -> int:
    """Return the HTTP status of an answer about a hold: 200 for every decision."""
    code = outcome.status
    status = STATUS_BY_CODE.get(code)
    if status is not None:
        return status
    if code.startswith("exists_with_different_"):
        return 409
    if outcome.problem is not None and (
        code.startswith("invalid_") or code in ("unknown_member", "rejected")
    ):
        return 422
    return 200
