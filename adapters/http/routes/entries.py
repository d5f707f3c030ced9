"""Entries about usage: list them, look at one, take it back or correct it."""
# No `from __future__ import annotations`: see adapters.http.management.

import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from adapters.http.context import Context
from adapters.http.cursors import Listing as Cursors
from adapters.http.management import Document, Doors, Paged, request_body
from adapters.http.models.entries import (
    AdjustEventRequest,
    EntryDocument,
    EventsDocument,
    VoidEventRequest,
)
from adapters.http.models.events import RecordedDocument
from adapters.http.routes.events import answer_one
from adapters.http.times import instant
from ledger.application import ask_fields as fields
from ledger.application.documents.entry import entry_document
from ledger.application.documents.events import (
    MAX_SCANNED,
    Filter,
    Listing,
    events_document,
    read_cursor,
)
from ledger.application.reads import Located
from ledger.application.services import Services
from ledger.domain.commands import Outcome
from ledger.domain.errors import NotFound, Refused
from ledger.domain.ledger import Ref
from ledger.domain.usage import AdjustUsage, VoidUsage, check_source

MODELS = (AdjustEventRequest, VoidEventRequest)
_READ = ("read", "support")
_WRITE = ("events:write", "support")
_RECEIPT = re.compile(r"(?:(.+):)?([1-9][0-9]{0,17})\.([0-9]{1,9})", re.DOTALL)
SOURCE = "api"
"""Source of corrections that name none."""


def _source(value: object, pointer: str) -> str:
    source = fields.name(value, pointer)
    check_source(source, pointer=pointer)
    return source


_CHECKS: dict[str, fields.Check] = {"id": fields.name, "source": _source, "reason": fields.text}
_Receipt = Annotated[
    str, Path(description="As the answer to the event gave it.", examples=["12.0"])
]
_Text = Annotated[str | None, Query(min_length=1, max_length=256)]
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": description,
        "content": {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
        },
    }
    for status, description in ((409, "Another payload under that key, or no usage event."),)
}


def router(services: Services) -> APIRouter:
    """Return the routes."""
    api = APIRouter(tags=["ingest"])
    doors = Doors(services)

    @api.get("/v2/events", response_model=EventsDocument)
    def listed(
        *,
        context: Annotated[Context, doors.query(*_READ)],
        page: Paged,
        first: Annotated[
            str | None,
            Query(alias="from", description="Usage of no earlier time: a moment, or a day (UTC)."),
        ] = None,
        to: Annotated[str | None, Query(description="Usage of an earlier time, likewise.")] = None,
        model: _Text = None,
        meter: _Text = None,
        session: _Text = None,
        request_id: _Text = None,
        outcome: Annotated[Literal["ok", "error", "aborted"] | None, Query()] = None,
        id: Annotated[
            str | None,
            Query(
                min_length=1,
                max_length=256,
                description="Of an event, a correction, its target, or the provider's request.",
            ),
        ] = None,
        only: Annotated[
            Literal["conflicts", "unpriced"] | None,
            Query(description="Contradicting payloads, or usage that stands without a price."),
        ] = None,
        as_of: Annotated[
            int | None,
            Query(ge=1, le=2**62, description="Only up to this commit: `version` of an answer."),
        ] = None,
    ) -> Any:
        """List a tenant's entries about usage, the newest first.

        A page may be short, also empty, while `next` is there: many entries were looked at that do
        not match.
        """
        row = context.reads.tenant(context.tenant)
        version = min(as_of or row.version, row.version)
        asked = (first, to, model, meter, session, request_id, outcome, id, only, as_of)
        cursors = Cursors("events", (context.tenant, *asked))
        listing = Listing(context.reads, row)
        lines, after = listing.page(
            Filter(
                id=id,
                outcome=outcome,
                model=model,
                meter=meter,
                session=session,
                request_id=request_id,
                start=instant(first, "from"),
                end=instant(to, "to"),
                conflicts=only == "conflicts",
                unpriced=only == "unpriced",
            ),
            before=cursors.place(page.cursor, tuple[int, int]) or (version + 1, 0),
            limit=page.limit,
            until=version if as_of else None,
            most=MAX_SCANNED,
        )
        place = read_cursor(after)
        return Document(
            {
                **events_document(row, lines, None if place is None else cursors.cursor(place)),
                "version": version,
            }
        )

    @api.get("/v2/events/{receipt:id}", response_model=EntryDocument)
    def one(context: Annotated[Context, doors.query(*_READ)], receipt: _Receipt) -> Any:
        """Return an entry with all that it keeps."""
        located = _located(context, receipt)
        return Document(entry_document(Listing(context.reads, located.tenant), located))

    @api.post(
        "/v2/events/{receipt:id}/void",
        response_model=RecordedDocument,
        responses=_PROBLEMS,
        openapi_extra=request_body(
            VoidEventRequest, example={"id": "fix-11", "reason": "counted twice"}
        ),
    )
    def void(context: Annotated[Context, doors.query(*_WRITE)], receipt: _Receipt) -> Any:
        """Take a usage event back: a new entry; the same again is a `duplicate`."""
        said = fields.read_members(context.document(), _CHECKS, required=("id",))
        source, id = _usage(context, receipt)
        command = VoidUsage(
            tenant=context.tenant,
            source=said.get("source", SOURCE),
            id=said["id"],
            target_source=source,
            target_id=id,
            reason=said.get("reason", ""),
        )
        return _answer(context.services.corrections.void(command), context)

    @api.post(
        "/v2/events/{receipt:id}/adjust",
        response_model=RecordedDocument,
        responses=_PROBLEMS,
        openapi_extra=request_body(
            AdjustEventRequest,
            example={
                "id": "fix-12",
                "quantities": {"tokens.input": "1200"},
                "reason": "counted twice",
            },
        ),
    )
    def adjust(context: Annotated[Context, doors.query(*_WRITE)], receipt: _Receipt) -> Any:
        """Replace a usage event's quantities: a new entry; the same again is a `duplicate`."""
        checks = {**_CHECKS, "quantities": fields.quantities}
        said = fields.read_members(context.document(), checks, required=("id", "quantities"))
        source, id = _usage(context, receipt)
        command = AdjustUsage(
            tenant=context.tenant,
            source=said.get("source", SOURCE),
            id=said["id"],
            target_source=source,
            target_id=id,
            quantities=said["quantities"][0],
            reason=said.get("reason", ""),
        )
        return _answer(context.services.corrections.adjust(command), context)

    return api


def _located(context: Context, receipt: str) -> Located:
    """Return the entry of a receipt, which may have the tenant before it as refs do.

    Raises:
        NotFound: ``unknown_event``, ``unknown_tenant``.
        Forbidden: ``foreign_tenant``.
    """
    match = _RECEIPT.fullmatch(receipt)
    if match is None:
        raise NotFound(f"{receipt[:64]!r} is no receipt; one looks like 12.0", code="unknown_event")
    if match[1] is not None:
        context.exchange.tenant(match[1], context.tenant)
    place: Ref = (int(match[2]), int(match[3]))
    return context.reads.place(tenant=context.tenant, version=place[0], index=place[1])


def _usage(context: Context, receipt: str) -> tuple[str, str]:
    """Return source and id of the usage event of a receipt.

    Raises:
        Refused: ``not_usage`` for another kind of entry.
    """
    located = _located(context, receipt)
    line = Listing(context.reads, located.tenant).line(located)
    if line is None or line.kind != "usage":
        raise Refused(
            f"the entry at {receipt} is no usage event; correct the event it is about",
            code="not_usage",
        )
    return line.source, line.id


def _answer(outcome: Outcome, context: Context) -> Response:
    answer = answer_one(outcome, context.exchange.request_id)
    return Response(answer.body, answer.status, media_type=answer.content_type.decode())
