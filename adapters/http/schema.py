"""The schema: OpenAPI 3.1 out of the operations and what FastAPI knows of the other routes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from adapters.http.gate import API_VERSION, PUBLIC_PATHS
from adapters.http.operations import Body, Operation, Parameter
from adapters.http.paths import template

PROBLEM: Mapping[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457; codes are listed in docs/spec/errors.md.",
    "required": ["type", "title", "status", "detail", "code", "request_id", "retryable"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "request_id": {"type": "string"},
        "retryable": {"type": "boolean"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "code"],
                "properties": {
                    "pointer": {"type": "string"},
                    "code": {"type": "string"},
                    "detail": {"type": "string"},
                },
            },
        },
        "violated_policies": {"type": "array", "items": {"type": "string"}},
    },
}
PROBLEM_BODY: Mapping[str, Mapping[str, Any]] = {
    "application/problem+json": {"$ref": "#/components/schemas/Problem"}
}
"""Content of a problem, for answers that may be one."""
EVERYWHERE = (400, 401, 403, 404, 408, 413, 415, 422, 429, 431, 500, 503)
"""Statuses of problems that any route may answer."""
TENANT = Parameter(
    name="tenant",
    description="Whose ledger; only keys of the platform need it.",
    schema={"type": "string", "minLength": 1, "maxLength": 256},
)
_METHODS = frozenset({"get", "put", "post", "delete", "patch"})


def components(models: Iterable[type[BaseModel]]) -> dict[str, Any]:
    """Return JSON schemas of pydantic models by name."""
    wanted = [(model, "serialization") for model in models]
    _, found = models_json_schema(
        wanted,  # type: ignore[arg-type] # the mode is one of two words
        ref_template="#/components/schemas/{model}",
    )
    schemas: dict[str, Any] = found.get("$defs", {})
    return schemas


def reference(model: type[BaseModel]) -> dict[str, str]:
    """Return a schema that refers to a model's."""
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def build(
    *,
    title: str,
    operations: Sequence[Operation],
    api: FastAPI,
    models: Iterable[type[BaseModel]],
) -> dict[str, Any]:
    """Return the OpenAPI document.

    Args:
        title: of the API.
        operations: hot routes.
        api: the management surface.
        models: that hot routes' bodies refer to.
    """
    document = get_openapi(
        title=title,
        version=API_VERSION,
        openapi_version="3.1.0",
        description="Metering and billing ledger for AI gateways; docs/spec/api.md has the rules.",
        routes=api.routes,
    )
    parts = document.setdefault("components", {})
    parts.setdefault("schemas", {}).update(components(models))
    # FastAPI describes its own form of errors, which never leaves this server.
    for unused in ("HTTPValidationError", "ValidationError"):
        parts["schemas"].pop(unused, None)
    parts["schemas"]["Problem"] = dict(PROBLEM)
    parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"key": []}]
    paths = document.setdefault("paths", {})
    for operation in operations:
        paths.setdefault(operation.template, {})[operation.method.lower()] = _described(operation)
    _mend_management(paths, api)
    for name, path in paths.items():
        for method, described in path.items():
            if method in _METHODS:
                _add_problems(described, method)
                if name in PUBLIC_PATHS:
                    described["security"] = []
    document["paths"] = {template(path): described for path, described in sorted(paths.items())}
    return document


def _described(operation: Operation) -> dict[str, Any]:
    parameters = list(operation.parameters)
    named = {parameter.name for parameter in parameters}
    for part in operation.template.split("/"):
        name = part[1:-1]
        if part.startswith("{") and name not in named:
            parameters.append(Parameter(name=name, place="path", required=True))
    if operation.tenant_in in ("query", "body") and "tenant" not in named:
        parameters.append(TENANT)
    described: dict[str, Any] = {
        "tags": [operation.tag],
        "summary": operation.summary,
        "operationId": _operation_id(operation),
        "parameters": [_parameter(one) for one in parameters],
        "responses": {
            str(status): {
                "description": body.description or HTTPStatus(status).phrase,
                "content": _content(body),
            }
            for status, body in operation.answers.items()
        },
    }
    if operation.description:
        described["description"] = operation.description
    if operation.scopes:
        described["x-scopes"] = list(operation.scopes)
    if operation.request is not None:
        described["requestBody"] = {"required": True, "content": _content(operation.request)}
    if operation.deprecated is not None:
        described["deprecated"] = True
    for status in operation.problems:
        described["responses"].setdefault(str(status), _problem(status))
    return described


def _operation_id(operation: Operation) -> str:
    words = [part.strip("{}") for part in operation.template.split("/") if part and part != "v2"]
    return "_".join([operation.method.lower(), *words]).replace("-", "_")


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required or parameter.place == "path",
        "schema": dict(parameter.schema),
        **({"description": parameter.description} if parameter.description else {}),
    }


def _content(body: Body) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": dict(body.schema)}
    if body.examples:
        content["examples"] = {name: {"value": value} for name, value in body.examples.items()}
    others = {kind: {"schema": dict(schema)} for kind, schema in body.others.items()}
    return dict.fromkeys(body.content_types, content) | others


def _problem(status: int) -> dict[str, Any]:
    return {
        "description": HTTPStatus(status).phrase,
        "content": {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
        },
    }


def _add_problems(described: dict[str, Any], method: str) -> None:
    responses = described.setdefault("responses", {})
    # FastAPI's own 422 has a form that is never answered.
    own = responses.get("422", {}).get("content", {}).get("application/json", {})
    if own.get("schema", {}).get("$ref", "").endswith("/HTTPValidationError"):
        del responses["422"]
    # Whatever changes something may meet something else in its place.
    for status in EVERYWHERE if method == "get" else (*EVERYWHERE, 409):
        responses.setdefault(str(status), _problem(status))


def _mend_management(paths: dict[str, Any], api: FastAPI) -> None:
    """Say of FastAPI's routes what hot routes say of themselves, and which scopes open them."""
    for route in api.routes:
        if not isinstance(route, APIRoute):
            continue
        scopes: list[str] = []
        for dependency in route.dependant.dependencies:
            scopes += getattr(dependency.call, "scopes", ())
        described = paths.get(route.path_format, {})
        for method in route.methods or ():
            one = described.get(method.lower())
            if one is None:
                continue
            if scopes:
                one["x-scopes"] = scopes
            _say(one, route)


def _say(described: dict[str, Any], route: APIRoute) -> None:
    """Use a handler's docstring as everywhere else: its first line is the summary."""
    if route.summary is None and described.get("description"):
        summary, _, rest = described.pop("description").partition("\n\n")
        described["summary"] = " ".join(summary.split())
        if rest:
            described["description"] = rest
    for status, answer in described["responses"].items():
        if answer["description"] == "Successful Response":
            answer["description"] = HTTPStatus(int(status)).phrase
