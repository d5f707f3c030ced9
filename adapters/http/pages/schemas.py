"""JSON schemas for people: what a value is, and the members of an object as a table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from adapters.http.pages.html import Html, inline, join, tag

Schema = Mapping[str, Any]
_WORDS = {"string": "text", "null": "null", "boolean": "true or false", "array": "list"}
_RANGES = (
    ("minLength", "maxLength", " characters"),
    ("minimum", "maximum", ""),
    ("minItems", "maxItems", " of them"),
    ("minProperties", "maxProperties", " members"),
)
_BOUNDS = (
    ("exclusiveMinimum", "more than {}"),
    ("exclusiveMaximum", "less than {}"),
    ("format", "form `{}`"),
    ("pattern", "matches `{}`"),
)
_SAID_NOTHING: tuple[Any, ...] = (None, "", [], {})


def anchor(name: str) -> str:
    """Return the fragment at which a document stands."""
    return f"document-{name}"


def kind(schema: Schema) -> Html:
    """Return what a value is, in a line."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return tag("a", name, href=f"#{anchor(name)}")
    for word in ("anyOf", "oneOf"):
        if word in schema:
            kinds = dict.fromkeys(kind(one) for one in schema[word])
            return join(kinds, " or ")
    if "const" in schema:
        return tag("code", _json(schema["const"]))
    if "enum" in schema:
        return join([tag("code", _json(one)) for one in schema["enum"]], " or ")
    return _plain_kind(schema)


def _plain_kind(schema: Schema) -> Html:
    name = schema.get("type", "anything")
    if isinstance(name, Sequence) and not isinstance(name, str):
        return join([kind({**schema, "type": one}) for one in name], " or ")
    if name == "array" and schema.get("items"):
        return join(["list of ", kind(schema["items"])])
    values = schema.get("additionalProperties")
    if name == "object" and isinstance(values, Mapping) and values:
        return join(["object, each member ", kind(values)])
    return join([_WORDS.get(str(name), str(name))])


def members(schema: Schema) -> Html:
    """Return the members of an object as a table; those of an object in it as one of their own."""
    required = schema.get("required", ())
    rows = []
    for name, one in schema.get("properties", {}).items():
        needed = tag("span", " required", class_="dim") if name in required else Html("")
        cell = join([tag("p", kind(one)), described(one), *_inner(one)])
        rows.append(tag("tr", tag("td", tag("code", name), needed), tag("td", cell)))
    return tag("table", *rows) if rows else tag("p", kind(schema))


def described(schema: Schema) -> Html:
    """Return what a schema says of its value, and the bounds of it."""
    texts: dict[str, None] = {}
    bounds: dict[str, None] = {}
    for one in _alternatives(schema):
        text = " ".join(one.get("description", "").split())
        texts[inline(text if text.endswith((".", "!", "?", ":")) or not text else f"{text}.")] = (
            None
        )
        bounds |= dict.fromkeys(_bounds(one))
        if one.get("examples"):
            bounds[join(["such as ", tag("code", _json(one["examples"][0]))])] = None
    if schema.get("default") not in _SAID_NOTHING:
        bounds[join([tag("code", _json(schema["default"])), " unless given"])] = None
    said = [one for one in texts if one]
    if bounds:
        said.append(join(["(", join(bounds, "; "), ")"]) if said else join(bounds, "; "))
    return tag("p", join(said, " "), class_="dim") if said else Html("")


def _bounds(schema: Schema) -> Iterator[Html]:
    for low, high, of in _RANGES:
        least, most = schema.get(low), schema.get(high)
        if least and most is not None:
            yield join([f"{least} to {most}{of}"])
        elif least:
            yield join([f"at least {least}{of}"])
        elif most is not None:
            yield join([f"at most {most}{of}"])
    for word, said in _BOUNDS:
        if word in schema:
            yield inline(said.format(schema[word]))


def document(name: str, schema: Schema) -> Html:
    """Return a document that others refer to."""
    text = " ".join(schema.get("description", "").split())
    alternatives = "properties" not in schema and ("anyOf" in schema or "oneOf" in schema)
    table = tag("p", kind(schema)) if alternatives else members(schema)
    return tag(
        "details",
        tag("summary", name, tag("span", " ", inline(text), class_="dim")),
        # Inside, so that a link to it opens it.
        tag("span", id=anchor(name)),
        table,
    )


def _inner(schema: Schema) -> list[Html]:
    found = []
    for one in _alternatives(schema):
        if one.get("properties"):
            found.append(members(one))
        items = one.get("items")
        if isinstance(items, Mapping) and items.get("properties"):
            found.append(members(items))
    return found


def _alternatives(schema: Schema) -> list[Schema]:
    """Return a schema and, where it is one of several, all of them that say something."""
    found = [schema]
    for word in ("anyOf", "oneOf"):
        for one in schema.get(word, ()):
            found += _alternatives(one)
    return found


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
