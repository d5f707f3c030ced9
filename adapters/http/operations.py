"""Operations: what a route is, stated once: who may call it, what goes in, what comes out.

Routes, checks of scopes, the schema, and the test that tries every route with a foreign key are all
made from these.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from adapters.http.exchange import Answer, Exchange
from adapters.http.paths import template

Handler = Callable[[Exchange], Awaitable[Answer]]
Method = Literal["GET", "POST", "PUT", "DELETE"]


TEXT: Mapping[str, Any] = MappingProxyType({"type": "string"})


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """A query or path parameter.

    Attributes:
        name: as it is written.
        schema: JSON schema of its value.
        description: for people.
        required: whether it must be there.
        place: where it stands.
    """

    name: str
    schema: Mapping[str, Any] = TEXT
    description: str = ""
    required: bool = False
    place: Literal["query", "path", "header"] = "query"


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """A body of a request or an answer.

    Attributes:
        schema: JSON schema; ``$ref``s point into ``#/components/schemas``.
        content_types: under which it may be sent.
        description: for people.
        examples: by name, for the schema and for the tests that send them.
        others: schemas of what is sent under further content types.
    """

    schema: Mapping[str, Any]
    content_types: tuple[str, ...] = ("application/json",)
    description: str = ""
    examples: Mapping[str, Any] = {}
    others: Mapping[str, Mapping[str, Any]] = {}


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """A method of a path.

    Attributes:
        method: HTTP method.
        path: template; ids of clients are ``{name:id}``, see `adapters.http.paths`.
        handler: answers it.
        scopes: any of which opens it; empty where any key does.
        summary: for people, imperative.
        description: more of it.
        tag: area of the API.
        parameters: of the query and the path.
        request: its body; None where it has none.
        answers: bodies by status, besides problems.
        problems: statuses of the problems that it answers, besides those of every route.
        deprecated: when it was deprecated and when it goes, as dates; None while it stays.
        tenant_in: where a platform's key names the tenant: for the schema.
    """

    method: Method
    path: str
    handler: Handler
    scopes: tuple[str, ...]
    summary: str
    tag: str
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    request: Body | None = None
    answers: Mapping[int, Body] = {}
    problems: tuple[int, ...] = ()
    deprecated: tuple[str, str] | None = None
    tenant_in: Literal["path", "query", "body", "none"] = "query"

    @property
    def template(self) -> str:
        """Return the path as schemas and logs have it, without convertors."""
        return template(self.path)
