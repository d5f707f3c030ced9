"""What routes of the management surface share: who asks for what, pages, answers, schema parts.

Handlers are plain functions, so FastAPI runs them on threads: the queries behind them block. Their
modules leave ``from __future__ import annotations`` out: FastAPI reads annotations when routes are
made, and those name the local `Doors`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import msgspec
from fastapi import Depends, Path, Query, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.responses import Response

from adapters.http.context import MAX_KEY_CHARS, Context
from adapters.http.cursors import DEFAULT_LIMIT, MAX_CURSOR_CHARS, MAX_LIMIT
from adapters.http.exchange import KEY, Exchange
from adapters.http.paths import template
from ledger.application.access import require, require_platform
from ledger.application.documents.encoding import to_json
from ledger.application.services import Services


def exchange_of(request: Request) -> Exchange:
    """Return the exchange of a request that passed the gate.

    Raises:
        InvalidInput: ``invalid_query`` for a parameter that the route does not have.
    """
    exchange: Exchange = request.scope[KEY]
    route: APIRoute = request.scope["route"]
    exchange.route = template(route.path)
    exchange.path = request.path_params
    if exchange.query_string:
        exchange.check_query({"tenant", *_query_names(route.dependant)})
    return exchange


def _query_names(dependant: Any) -> Iterator[str]:
    for field in dependant.query_params:
        yield field.alias
    for one in dependant.dependencies:
        yield from _query_names(one)


Called = Annotated[Exchange, Depends(exchange_of)]
"""The exchange, in a handler's parameters."""
TenantName = Annotated[
    str | None,
    Query(
        alias="tenant",
        min_length=1,
        max_length=256,
        description="Whose ledger; only keys of the platform need it.",
    ),
]


class Doors:
    """Dependencies that let a caller in who may, and give the handler its `Context`.

    Args:
        services: the use cases.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    def tenant(self, *scopes: str, platform: bool = False) -> Any:
        """Return a dependency for routes with the tenant in their path, as ``{tenant:id}``.

        Args:
            scopes: of which the key has one.
            platform: only keys of the platform pass.
        """

        def enter(exchange: Called, tenant: Annotated[str, Path()]) -> Context:
            _check(exchange, scopes, platform=platform)
            return Context(self._services, exchange, exchange.tenant(tenant))

        return _door(enter, scopes)

    def query(self, *scopes: str, platform: bool = False) -> Any:
        """Return a dependency for routes about one tenant that name it with ``?tenant=``.

        Args:
            scopes: of which the key has one.
            platform: only keys of the platform pass.
        """

        def enter(exchange: Called, tenant: TenantName = None) -> Context:
            del tenant  # `exchange.tenant` reads it; it stands here for the schema
            _check(exchange, scopes, platform=platform)
            return Context(self._services, exchange, exchange.tenant())

        return _door(enter, scopes)

    def own_or_all(self, *scopes: str, platform: bool = False) -> Any:
        """Return a dependency for listings of one tenant, or of all for keys of the platform.

        Args:
            scopes: of which the key has one.
            platform: only keys of the platform pass.
        """

        def enter(exchange: Called, tenant: TenantName = None) -> Context:
            _check(exchange, scopes, platform=platform)
            everybody = exchange.who.tenant is None and tenant is None
            return Context(self._services, exchange, None if everybody else exchange.tenant())

        return _door(enter, scopes)

    def platform(self, *scopes: str) -> Any:
        """Return a dependency for what is no tenant's: only keys of the platform pass."""

        def enter(exchange: Called) -> Context:
            _check(exchange, scopes, platform=True)
            return Context(self._services, exchange, None)

        return _door(enter, scopes)


def _check(exchange: Exchange, scopes: tuple[str, ...], *, platform: bool) -> None:
    require(exchange.who, *scopes)
    if platform:
        require_platform(exchange.who)


def _door(enter: Callable[..., Context], scopes: tuple[str, ...]) -> Any:
    # The schema and the tests read which scopes open a route.
    enter.scopes = scopes  # type: ignore[attr-defined] # a function takes attributes
    return Depends(enter)


class Page(msgspec.Struct, frozen=True):
    """Which page of a listing.

    Attributes:
        limit: most rows.
        cursor: where it starts; None at the beginning.
    """

    limit: int
    cursor: str | None


def _page(
    limit: Annotated[
        int, Query(ge=1, le=MAX_LIMIT, description="Most rows of the answer.")
    ] = DEFAULT_LIMIT,
    cursor: Annotated[
        str | None,
        Query(max_length=MAX_CURSOR_CHARS, description="`next` of the answer before."),
    ] = None,
) -> Page:
    return Page(limit, cursor)


Paged = Annotated[Page, Depends(_page)]
"""The page that is asked for, in a handler's parameters."""


class Document(Response):
    """A JSON document: decimals as plain text; bytes are JSON already."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the document as JSON."""
        return content if isinstance(content, bytes) else to_json(content)


_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "A new one for each command, the same one to repeat it; kept for a day.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARS},
}
_WITHOUT_ID = {
    "required": False,
    "description": "Needed where the body has no `id`. "
    "A new one for each command, the same one to repeat it; kept for a day.",
}


def request_body(
    model: type[BaseModel],
    *,
    example: Mapping[str, Any] | None = None,
    once: bool = False,
    named: bool = False,
    required: bool = True,
) -> dict[str, Any]:
    """Return what FastAPI adds to the schema for a body that the handler reads itself.

    Args:
        model: of the body; listed in the ``MODELS`` of its module.
        example: of a body.
        once: the command has no id of its own and needs an ``Idempotency-Key``.
        named: likewise where the body has no ``id``.
        required: whether there must be a body.
    """
    content: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
    if example is not None:
        content["example"] = example
    described: dict[str, Any] = {
        "requestBody": {"required": required, "content": {"application/json": content}}
    }
    if once:
        described["parameters"] = [_IDEMPOTENCY_KEY]
    if named:
        described["parameters"] = [_IDEMPOTENCY_KEY | _WITHOUT_ID]
    return described
