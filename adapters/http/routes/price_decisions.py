"""Decisions on prices: pull, approve, retire, mark up, set. None has an id of its own."""
# No `from __future__ import annotations`: see adapters.http.management.

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter

from adapters.http.context import Context, Kept
from adapters.http.management import Document, Doors, request_body
from adapters.http.models.prices import (
    ApproveRequest,
    MarkedUpDocument,
    MarkupRequest,
    PriceChangeDocument,
    PriceRequest,
    ProposalsRequest,
    PullDocument,
    RetireRequest,
)
from ledger.application import price_asks as asks
from ledger.application.documents.encoding import to_json
from ledger.application.documents.prices import tree, tree_of_change
from ledger.application.repeats import Command
from ledger.application.services import Services

MODELS = (ApproveRequest, MarkupRequest, PriceRequest, ProposalsRequest, RetireRequest)


def router(services: Services) -> APIRouter:
    """Return the routes."""
    api = APIRouter(tags=["money"])
    doors = Doors(services)
    enter = doors.platform("finance")

    @api.post(
        "/v2/prices/proposals",
        response_model=PullDocument,
        openapi_extra=request_body(ProposalsRequest, example={"providers": ["openai"]}, once=True),
    )
    def pull(context: Annotated[Context, enter]) -> Any:
        """Propose what the sources list and the books do not have; twice is once."""
        ask = asks.pull(context.document())
        return _once(
            context,
            lambda _: tree(
                context.services.prices.pull(
                    approve=ask.approve, providers=ask.providers, by=context.by
                )
            ),
        )

    @api.post(
        "/v2/prices/approve",
        response_model=PriceChangeDocument | PullDocument,
        openapi_extra=request_body(
            ApproveRequest, example={"versions": ["cost/openai@3.17"]}, once=True
        ),
    )
    def approve(context: Annotated[Context, enter]) -> Any:
        """Approve proposed rows, by version or all that are not held; rate what waited."""
        ask = asks.approve(context.document())

        def run(command: Command) -> object:
            if ask.versions:
                return tree_of_change(
                    context.services.prices.approve(
                        ask.versions, by=context.by, again=command.again
                    )
                )
            return tree(context.services.prices.approve_all(providers=ask.providers, by=context.by))

        return _once(context, run)

    @api.post(
        "/v2/prices/retire",
        response_model=PriceChangeDocument,
        openapi_extra=request_body(
            RetireRequest, example={"versions": ["cost/openai@3.17"]}, once=True
        ),
    )
    def retire(context: Annotated[Context, enter]) -> Any:
        """Retire approved rows or drop proposed ones; what they rated stays as it is."""
        versions = asks.retire(context.document())
        return _once(
            context,
            lambda command: tree_of_change(
                context.services.prices.retire(versions, by=context.by, again=command.again)
            ),
        )

    @api.post(
        "/v2/prices/markup",
        response_model=MarkedUpDocument,
        openapi_extra=request_body(
            MarkupRequest, example={"percent": "20", "book": "default"}, once=True
        ),
    )
    def markup(context: Annotated[Context, enter]) -> Any:
        """Set a sell book's standing mark-up: sell = cost + percent %."""
        ask = asks.markup(context.document())

        def run(command: Command) -> object:
            result = context.services.prices.markup(
                ask.percent,
                book=ask.book,
                effective_from=ask.effective_from,
                by=context.by,
                again=command.again,
            )
            standing = context.services.prices.markups(ask.book)
            return {"markups": tree(standing), **tree_of_change(result)}

        return _once(context, run)

    @api.post(
        "/v2/prices",
        response_model=PriceChangeDocument,
        openapi_extra=request_body(
            PriceRequest,
            example={
                "provider": "openai",
                "model": "gpt-4o",
                "meter": "tokens.input",
                "rate": "2.50",
                "per": "1000000",
            },
            once=True,
        ),
    )
    def set_price(context: Annotated[Context, enter]) -> Any:
        """Set a price by hand, proposed and approved at once.

        Without `effective_from` it holds from the beginning of time if there was no such price, so
        that usage recorded before is rated; else from now on.
        """
        ask = asks.price(context.document())
        return _once(
            context,
            lambda _: tree_of_change(
                context.services.prices.set(
                    ask.row,
                    kind=ask.kind,
                    book=ask.book,
                    effective_from=ask.effective_from,
                    by=context.by,
                )
            ),
        )

    return api


def _once(context: Context, run: Callable[[Command], object]) -> Document:
    return Document(context.once(lambda command: Kept(to_json(run(command)))))
