"""The application: the gate, the hot routes, and FastAPI behind them for everything else."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from adapters.http import routes
from adapters.http.bodies import Bodies
from adapters.http.exchange import KEY
from adapters.http.gate import PUBLIC_PATHS, Gate, Observer
from adapters.http.hot import routes as hot_routes
from adapters.http.lifecycle import Lifecycle
from adapters.http.metrics import Metrics
from adapters.http.operations import Operation
from adapters.http.paths import routed
from adapters.http.problems import (
    CONTENT_TYPE,
    HttpProblem,
    headers_of,
    problem,
    problem_of,
)
from adapters.http.routes import ops
from adapters.http.schema import build as schema_of
from adapters.http.scraping import Scrape
from adapters.http.stream.endpoint import Stream
from ledger.application.access import Keyring
from ledger.application.documents.encoding import to_json
from ledger.application.services import Services
from ledger.domain.errors import InvariantViolation, LedgerError

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig  # older versions have neither it nor telemetry

TITLE = "Tallybook"
NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "auto_configure": False,
}
"""What FastAPI would tell of requests holds paths and messages of errors: data of clients."""


class Dispatch:
    """Gives hot routes to their endpoints and everything else to FastAPI.

    Args:
        operations: hot ones; those without parameters are found by their path alone.
        rest: the application for everything else.
        stream: the application for WebSockets.
    """

    def __init__(
        self, operations: Sequence[Operation], rest: Callable[..., Any], stream: Callable[..., Any]
    ) -> None:
        self.routes = hot_routes(operations)
        self._static: dict[tuple[str, str], Any] = {}
        # Those with parameters by the begin of their path too: few of each are left to be tried.
        self._matched: dict[tuple[str, str], list[tuple[re.Pattern[str], Any, Any]]] = {}
        for operation, route in zip(operations, self.routes, strict=True):
            for method in route.methods or ():  # HEAD too, where there is GET
                if "{" in operation.path:
                    begin = _begin_of(operation.path)
                    if "{" in begin:
                        raise ValueError(f"{operation.path} varies in its first two parts")
                    place = self._matched.setdefault((method, begin), [])
                    place.append((route.path_regex, route.param_convertors, route.app))
                else:
                    self._static[method, operation.path] = route
        self._rest = rest
        self._stream = stream

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Find who answers."""
        if scope["type"] == "http":
            raw = scope.get("raw_path") or b""
            if b"%" in raw:
                path = routed(raw)
                if path is None:
                    raise HttpProblem("no path has control characters", code="unknown_path")
                scope["path"] = path
            method, path = scope["method"], scope["path"]
            route = self._static.get((method, path))
            if route is not None:
                scope["path_params"] = {}
                await route.app(scope, receive, send)
                return
            for pattern, convertors, endpoint in self._matched.get((method, _begin_of(path)), ()):
                found = pattern.match(path)
                if found is not None:
                    scope["path_params"] = {
                        name: convertors[name].convert(value)
                        for name, value in found.groupdict().items()
                    }
                    await endpoint(scope, receive, send)
                    return
        elif scope["type"] == "websocket":
            await self._stream(scope, receive, send)
            return
        await self._rest(scope, receive, send)


def _begin_of(path: str) -> str:
    """Return the first two parts of a path, such as ``/v2/holds``; no template varies there."""
    return "/".join(path.split("/", 3)[:3])


def build(
    services: Services,
    *,
    keyring: Keyring,
    observer: Observer,
    lifecycle: Lifecycle | None = None,
    bodies: Bodies | None = None,
    clock: Callable[[], float] = time.monotonic,
    metrics: Metrics | None = None,
    open_metrics: bool = False,
) -> Gate:
    """Return the whole ASGI application.

    Args:
        services: the use cases.
        keyring: knows the keys.
        observer: counts and logs requests.
        lifecycle: of the process; one that never ends when left out.
        bodies: reads bodies.
        clock: monotonic seconds.
        metrics: of this process; those of a server that counts nothing when left out.
        open_metrics: whether ``/metrics`` needs no key.
    """
    counts = metrics or Metrics()
    api = FastAPI(
        title=TITLE, openapi_url=None, docs_url=None, redoc_url=None, telemetry=NO_TELEMETRY
    )

    @cache
    def schema() -> bytes:
        return to_json(openapi(operations, api))

    operations = routes.operations(
        services,
        schema,
        lifecycle or Lifecycle(),
        scrape=Scrape(counts, services, clock=clock),
        open_metrics=open_metrics,
    )
    for router in routes.routers(services, operations):
        # Not `include_router`: newer versions hide the routes behind it from the schema.
        api.router.routes.extend(router.routes)
    streams = Stream(services, counted=counts.streams)
    dispatch = Dispatch(operations, api, streams)
    _handle_errors(api, lambda scope: methods_of([*dispatch.routes, *api.routes], scope))
    return Gate(
        dispatch,
        keyring=keyring,
        observer=observer,
        bodies=bodies,
        clock=clock,
        streams=streams,
        public=PUBLIC_PATHS | {ops.METRICS_PATH} if open_metrics else PUBLIC_PATHS,
    )


def openapi(operations: Sequence[Operation], api: FastAPI) -> dict[str, Any]:
    """Return the schema of everything that is served."""
    return schema_of(title=TITLE, operations=operations, api=api, models=routes.models())


def methods_of(routes: Sequence[Any], scope: Any) -> list[str]:
    """Return the methods that some routes take at a path."""
    methods: set[str] = set()
    for route in routes:
        if route.matches(scope)[0] is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return sorted(methods)


def _handle_errors(api: FastAPI, methods: Callable[[Any], list[str]]) -> None:
    """Answer problem documents where FastAPI has forms of its own.

    Whatever else is raised goes on to the gate too, which logs it; but Starlette answers it before
    that, and would do so in plain text.

    Args:
        api: whose.
        methods: those that the path of an ASGI scope takes.
    """

    async def ledger_error(request: Request, error: Exception) -> Response:
        return _problem_response(request, *problem_of(error, _id(request)), error)

    async def validation(request: Request, error: Exception) -> Response:
        if not isinstance(error, RequestValidationError):
            raise error
        errors = [
            {
                "pointer": "/" + "/".join(str(part) for part in one["loc"][1:]),
                "code": "invalid_parameter",
                "detail": one["msg"],
            }
            for one in error.errors()
        ]
        places = ", ".join(one["pointer"].strip("/") for one in errors)
        body = problem(
            status=422,
            code="invalid_parameter",
            detail=f"parameters that cannot be read: {places}",
            request_id=_id(request),
            extra={"errors": errors},
        )
        return _problem_response(request, 422, body, error)

    async def http(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        status, headers = error.status_code, dict(error.headers or {})
        code, detail = "invalid_request", str(error.detail)
        if status in (404, 405):
            # FastAPI knows only its own routes; a path may be a hot one with another method.
            taken = methods(request.scope)
            status = 405 if taken else 404
            code, detail = "unknown_path", f"there is nothing at {_path(request)}"
            if taken:
                code = "method_not_allowed"
                detail = f"this path takes {', '.join(taken)}, not {request.method}"
                headers["Allow"] = ", ".join(taken)
        body = problem(status=status, code=code, detail=detail, request_id=_id(request))
        response = _problem_response(request, status, body, error)
        response.headers.update(headers)
        return response

    api.add_exception_handler(Exception, ledger_error)
    api.add_exception_handler(LedgerError, ledger_error)
    api.add_exception_handler(InvariantViolation, ledger_error)
    api.add_exception_handler(RequestValidationError, validation)
    api.add_exception_handler(HTTPException, http)


def _id(request: Request) -> str:
    return str(request.scope[KEY].request_id)


def _path(request: Request) -> str:
    raw: bytes | None = request.scope.get("raw_path")
    return raw.decode("ascii", "replace") if raw else str(request.scope["path"])


def _problem_response(request: Request, status: int, body: bytes, error: BaseException) -> Response:
    response = Response(body, status_code=status, media_type=CONTENT_TYPE.decode())
    for name, value in headers_of(error):
        response.headers[name.decode()] = value.decode()
    return response
