"""What routes of the management surface share: FastAPI dependencies, answers, schema parts.

Handlers are plain functions, so FastAPI runs them on threads: the queries behind them block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.responses import Response

from adapters.http.exchange import KEY, Exchange
from adapters.http.paths import template
from ledger.application.access import require
from ledger.application.documents.encoding import to_json


def exchange_of(request: Request) -> Exchange:
    """Return the exchange of a request that passed the gate."""
    exchange: Exchange = request.scope[KEY]
    exchange.route = template(request.scope["route"].path)
    return exchange


Called = Annotated[Exchange, Depends(exchange_of)]
"""The exchange, in a handler's parameters."""


def allowed(*scopes: str) -> Callable[[Exchange], Exchange]:
    """Return a dependency that checks for one of some scopes and gives the exchange."""

    def check(exchange: Called) -> Exchange:
        require(exchange.who, *scopes)
        return exchange

    # The schema and the tests read which scopes open a route.
    check.scopes = scopes  # type: ignore[attr-defined] # a function takes attributes
    return check


class Document(Response):
    """A JSON document: decimals as plain text."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the document as JSON."""
        return to_json(content)


def request_body(
    schema: Mapping[str, Any], *, example: Any = None, required: bool = True
) -> dict[str, Any]:
    """Return what FastAPI adds to the schema for a body that the handler reads itself.

    Args:
        schema: JSON schema.
        example: of a body.
        required: whether there must be one.
    """
    content: dict[str, Any] = {"schema": dict(schema)}
    if example is not None:
        content["example"] = example
    return {"requestBody": {"required": required, "content": {"application/json": content}}}
