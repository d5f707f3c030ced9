"""One request as handlers see it, and what they answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from adapters.http.problems import HttpProblem
from ledger.application import ask_fields as fields
from ledger.application.access import Caller, tenant_of
from ledger.domain.errors import InvalidInput

JSON = b"application/json"
KEY = "tallybook"
"""Name in an ASGI scope under which the exchange is."""
_Sent = TypeVar("_Sent")
_tree = msgspec.json.Decoder(float_hook=Decimal).decode


class Answer(msgspec.Struct, frozen=True):
    """What a handler answers.

    Attributes:
        body: encoded.
        status: HTTP status.
        content_type: of the body.
        headers: further ones, lower case.
    """

    body: bytes
    status: int = 200
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Exchange:
    """A request that has passed the gate.

    Attributes:
        request_id: of this request.
        method: in capitals.
        headers: lower case; of a repeated one the last.
        caller: who calls; None on public routes.
        body: whole, decoded.
        route: template of the route, for counting and logging.
        path: values of the template's parameters.
        status: of the answer; 0 until there is one.
        extra: headers that the answer gets, whoever gives it.
        address: where the request comes from.
    """

    __slots__ = (
        "_query",
        "address",
        "body",
        "caller",
        "extra",
        "headers",
        "method",
        "path",
        "query_string",
        "request_id",
        "route",
        "status",
    )

    def __init__(
        self, method: str, headers: Mapping[bytes, bytes], query_string: bytes, request_id: str
    ) -> None:
        self.method = method
        self.headers = headers
        self.query_string = query_string
        self.request_id = request_id
        self.caller: Caller | None = None
        self.body = b""
        self.route = ""
        self.path: Mapping[str, str] = {}
        self.status = 0
        self.extra: list[tuple[bytes, bytes]] = []
        self.address = ""
        self._query: dict[str, str] | None = None

    @property
    def query(self) -> dict[str, str]:
        """Return the query parameters.

        Raises:
            InvalidInput: ``invalid_query`` where one is given twice.
        """
        if self._query is None:
            pairs = parse_qsl(self.query_string.decode("utf-8", "replace"), keep_blank_values=True)
            self._query = dict(pairs)
            if len(pairs) != len(self._query):
                raise InvalidInput("a query parameter is given twice", code="invalid_query")
        return self._query

    def check_query(self, known: Collection[str]) -> None:
        """Check that a request has no parameters but those of its route.

        Args:
            known: their names.

        Raises:
            InvalidInput: ``invalid_query``.
        """
        for name in self.query:
            if name not in known:
                there = f"there are {', '.join(sorted(known))}" if known else "there are none"
                raise InvalidInput(
                    f"there is no parameter {name[:40]!r} here; {there}", code="invalid_query"
                )

    @property
    def who(self) -> Caller:
        """Return the caller of a route that needs one."""
        if self.caller is None:
            raise RuntimeError("a public route has no caller")
        return self.caller

    def every_answer(self) -> list[tuple[bytes, bytes]]:
        """Return the headers that the answer has, whatever it is."""
        return [(b"x-request-id", self.request_id.encode()), *self.extra]

    def document(self) -> dict[str, Any]:
        """Return the body as a JSON object; decimals are exact.

        Raises:
            HttpProblem: ``invalid_json``, ``invalid_body``, ``unsupported_media_type``.
        """
        check_json(self.headers)
        return read_object(self.body)

    def sent(self, read: Callable[[bytes], _Sent]) -> _Sent:
        """Return the body as a form reads it in one step.

        Args:
            read: of the form; may answer None, where `document` must look closer.

        Raises:
            HttpProblem: ``unsupported_media_type``.
        """
        check_json(self.headers)
        return read(self.body)

    def tenant(self, *named: str | None) -> str:
        """Return the tenant that the request is about; see `ledger.application.access.tenant_of`.

        Args:
            named: in the path or the body.
        """
        if not self.query_string:
            return tenant_of(self.who, *named)
        return tenant_of(self.who, self.query.get("tenant"), *named)


def check_json(headers: Mapping[bytes, bytes]) -> None:
    """Check that a body says it is JSON, or says nothing.

    Raises:
        HttpProblem: ``unsupported_media_type``.
    """
    given = headers.get(b"content-type")
    if given is None or given == JSON:
        return
    kind = given.split(b";", 1)[0].strip().lower()
    if kind != JSON and not kind.endswith(b"+json"):
        raise HttpProblem("send the body as application/json", code="unsupported_media_type")


def read_object(body: bytes) -> dict[str, Any]:
    """Return a body as a JSON object.

    Raises:
        HttpProblem: ``invalid_json`` or ``invalid_body``.
    """
    try:
        document = _tree(body)
    except ArithmeticError:
        raise HttpProblem("a number is too large to be read", code="invalid_json") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HttpProblem(f"the body is no JSON: {error}", code="invalid_json") from None
    if not isinstance(document, dict):
        raise HttpProblem("the body must be one JSON object", code="invalid_body")
    return document


def named_tenant(document: dict[str, Any]) -> str | None:
    """Take the member ``tenant`` out of a document, where it has one.

    Raises:
        InvalidInput: ``invalid_tenant`` where it is no text that could be a name.
    """
    if "tenant" not in document:
        return None
    return fields.text(document.pop("tenant"), "/tenant")


def utc(at: datetime) -> str:
    """Return an instant as answers have it: RFC 3339 in UTC."""
    return at.isoformat().replace("+00:00", "Z")
