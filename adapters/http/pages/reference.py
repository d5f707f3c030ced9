"""``/docs``: every route of the API for people, out of the OpenAPI document."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from adapters.http.pages.html import Html, inline, join, page, prose, tag
from adapters.http.pages.schemas import described, document, kind, members

AREAS = ("ingest", "protection", "read", "money", "admin", "operations", "compat")
"""Areas of the API in the order of the page; others come behind them."""
_METHODS = ("get", "post", "put", "delete", "patch")
_INTRODUCTION = """\
Requests carry a key, `Authorization: Bearer tbk_…`. A key of a tenant is about that tenant; one of
the platform names a tenant in the path, as `?tenant=`, or as member `tenant` of the body.

Every command has an id of the client's own, or an `Idempotency-Key`, so it may be sent again until
it is answered; it counts once. Answers are given after the commit. Amounts and quantities are
decimals as text, times RFC 3339.

What goes wrong is a problem document (RFC 9457) with a stable `code`, and `retryable` where the
same request may succeed later. A call that is denied is no error: it is answered 200, with the
decision."""

Described = Mapping[str, Any]


def render(schema: Described) -> bytes:
    """Return the page.

    Args:
        schema: the OpenAPI document.
    """
    areas: dict[str, list[tuple[str, str, Described]]] = {area: [] for area in AREAS}
    for path, method, one in _operations(schema):
        areas.setdefault((one.get("tags") or ["others"])[0], []).append((path, method, one))
    filled = {area: found for area, found in areas.items() if found}
    documents = schema.get("components", {}).get("schemas", {})
    links = [
        tag("p", tag("a", "The stream", href="docs/stream")),
        *(_links(area, found) for area, found in filled.items()),
        tag("h2", tag("a", "Documents", href="#documents")),
    ]
    info = schema["info"]
    return page(
        f"{info['title']} API",
        tag("nav", *links),
        tag(
            "main",
            tag("h1", f"{info['title']} API"),
            _about(info["version"]),
            *(_area(area, found) for area, found in filled.items()),
            tag("h2", "Documents", id="documents"),
            *(document(name, documents[name]) for name in sorted(documents)),
        ),
    )


def _operations(schema: Described) -> Iterator[tuple[str, str, Described]]:
    for path, methods in schema["paths"].items():
        for method in _METHODS:
            if method in methods:
                yield path, method.upper(), methods[method]


def _about(version: str) -> Html:
    setting = "TALLYBOOK=http://127.0.0.1:8787\nKEY=tbk_live_…"
    return join(
        [
            tag(
                "p",
                f"Version {version}; for programs as ",
                tag("a", "OpenAPI", href="openapi.json"),
                ". Sessions over WebSocket have ",
                tag("a", "a page of their own", href="docs/stream"),
                ".",
            ),
            prose(_INTRODUCTION),
            tag(
                "p",
                "The commands below take address and key from the shell; put ids of yours where"
                " there are braces.",
            ),
            tag("pre", setting),
        ]
    )


def _links(area: str, found: list[tuple[str, str, Described]]) -> Html:
    items = [
        tag("li", tag("a", f"{method} {path}", href=f"#{_anchor(one)}"))
        for path, method, one in found
    ]
    return join([tag("h2", area), tag("ul", *items)])


def _area(area: str, found: list[tuple[str, str, Described]]) -> Html:
    return join(
        [
            tag("h2", area, id=f"area-{area}"),
            *(_operation(path, method, one) for path, method, one in found),
        ]
    )


def _anchor(operation: Described) -> str:
    return f"operation-{operation['operationId']}"


def _operation(path: str, method: str, one: Described) -> Html:
    summary = one.get("summary", "")
    parts: list[str] = [
        tag("p", *_admission(one), id=_anchor(one)),
        prose(one.get("description", "")),
        *_parameters(one),
        *_body(one),
        *_answers(one),
        tag("h3", "Try it"),
        tag("pre", _command(path, method, one)),
    ]
    gone = tag("strong", " deprecated") if one.get("deprecated") else Html("")
    return tag(
        "details",
        tag(
            "summary",
            tag("span", method, class_="method"),
            tag("code", path),
            gone,
            tag("span", " ", inline(summary), class_="dim"),
        ),
        *parts,
    )


def _admission(one: Described) -> list[str]:
    scopes = one.get("x-scopes")
    if not scopes:
        return ["No key is needed."]
    named = join([tag("code", scope) for scope in (*scopes, "admin")], ", ")
    return ["For keys with one of the scopes ", named, "."]


def _parameters(one: Described) -> list[Html]:
    rows = []
    for parameter in one.get("parameters", ()):
        schema = {
            "description": parameter.get("description", ""),
            **_without_null(parameter["schema"]),
        }
        where = parameter["in"] + (", required" if parameter.get("required") else "")
        rows.append(
            tag(
                "tr",
                tag("td", tag("code", parameter["name"]), tag("span", f" {where}", class_="dim")),
                tag("td", tag("p", kind(schema)), described(schema)),
            )
        )
    return [tag("h3", "Parameters"), tag("table", *rows)] if rows else []


def _without_null(schema: Described) -> Described:
    """Return the schema of a parameter as it can be sent: left out, but never null."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    return {**{name: one for name, one in schema.items() if name != "anyOf"}, **kinds[0]}


def _body(one: Described) -> list[Html]:
    body = one.get("requestBody")
    if body is None:
        return []
    return [tag("h3", "Body"), _content(body["content"])]


def _answers(one: Described) -> list[Html]:
    parts = [tag("h3", "Answers")]
    problems = []
    for status, answer in sorted(one.get("responses", {}).items()):
        content = answer.get("content", {})
        if list(content) == ["application/problem+json"]:
            problems.append(status)
            continue
        parts.append(tag("p", tag("strong", status), " ", inline(answer["description"])))
        parts.append(_content(content))
    if problems:
        link = kind({"$ref": "#/components/schemas/Problem"})
        parts.append(tag("p", "Problems: ", ", ".join(problems), " (", link, ")"))
    return parts


def _content(content: Mapping[str, Described]) -> Html:
    """Return what a body may be, content types of the same form together."""
    forms: dict[str, tuple[list[str], Described]] = {}
    for content_type, media in content.items():
        schema = media.get("schema", {})
        forms.setdefault(json.dumps(schema), ([], schema))[0].append(content_type)
    rows = []
    for content_types, schema in forms.values():
        shown = members(schema) if schema.get("properties") else tag("p", kind(schema))
        said = Html("") if schema.get("properties") else described(schema)
        names = join([tag("code", one) for one in content_types], " ")
        rows.append(tag("tr", tag("td", names), tag("td", shown, said)))
    return tag("table", *rows)


def _command(path: str, method: str, one: Described) -> str:
    """Return a command for a shell that calls an operation."""
    words = ["curl"]
    if method != "GET":
        words.append(f"-X {method}")
    words.append(f'"$TALLYBOOK{path}"')
    lines = [" ".join(words)]
    if one.get("x-scopes"):
        lines.append('-H "Authorization: Bearer $KEY"')
    for parameter in one.get("parameters", ()):
        if parameter["in"] == "header" and parameter.get("required"):
            lines.append(f"-H '{parameter['name']}: …'")
    content = one.get("requestBody", {}).get("content", {})
    if content:
        content_type, media = next(iter(content.items()))
        lines.append(f"-H 'Content-Type: {content_type}'")
        example = _example(media)
        body = "…" if example is None else json.dumps(example, indent=2, ensure_ascii=False)
        lines.append(f"-d {shlex.quote(body)}")
    return " \\\n  ".join(lines)


def _example(media: Described) -> Any:
    if "example" in media:
        return media["example"]
    for example in media.get("examples", {}).values():
        return example["value"]
    return None
