"""Requests to every operation of an OpenAPI document, with ids of one's choice in every place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, product
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

MAX_FILLINGS = 16
"""Most ways in which the parameters of a path are filled."""
_VALUES = {"integer": "1", "boolean": "true", "number": "1"}
Schema = Mapping[str, Any]
Ids = Mapping[str, Sequence[str]]


class Request(NamedTuple):
    """A request.

    Attributes:
        method: in capitals.
        url: path and query.
        kind: of the body; "" for none.
        body: a JSON value, or text.
        said: ids and names in it, in clear.
    """

    method: str
    url: str
    kind: str
    body: Any
    said: tuple[str, ...]


class Operation(NamedTuple):
    """A method of a path.

    Attributes:
        method: in capitals.
        path: template.
        places: names of the path's parameters.
        query: schemas of the query's parameters by name.
        needed: those that must be there.
        bodies: that are taken, by content type.
        members: names of the members of a body that is an object.
    """

    method: str
    path: str
    places: list[str]
    query: dict[str, Schema]
    needed: list[str]
    bodies: dict[str, Any]
    members: set[str]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def requests(
        self,
        ids: Ids,
        *,
        path: Schema | None = None,
        query: Schema | None = None,
        deep: bool = True,
    ) -> Iterator[Request]:
        """Yield requests with ids in the path, and in one parameter or member at a time.

        Args:
            ids: by the name of what takes them.
            path: parameters that are fixed.
            query: parameters that are added.
            deep: whether parameters of the query and members of bodies are filled too.
        """
        fixed = path or {}
        needed = {
            name: ids.get(name, [_VALUES.get(self.query[name].get("type", ""), "x")])[0]
            for name in self.needed
        }
        fillings = product(*([fixed[n]] if n in fixed else ids[n] for n in self.places))
        for number, values in enumerate(islice(fillings, MAX_FILLINGS)):
            where = self.path
            for name, value in zip(self.places, values, strict=True):
                where = where.replace("{" + name + "}", quote(value, safe=""))
            for extra in self._queries(ids) if deep and number == 0 else [{}]:
                asked = {**needed, **extra, **(query or {})}
                url = f"{where}?{urlencode(asked)}" if asked else where
                for kind, body, said in self._bodies(ids) if deep and not extra else self._plain():
                    told = (*values, *asked.values(), *said)
                    yield Request(self.method, url, kind, body, told)

    def naming(self, tenant: str, own: str, ids: Ids) -> Iterator[Request]:
        """Yield requests that name another tenant, in each place where one can be named."""
        if "tenant" in self.places:
            yield from self.requests(ids, path={"tenant": tenant}, deep=False)
            yield from self.requests(
                ids, path={"tenant": tenant}, query={"tenant": own}, deep=False
            )
            yield from self.requests(
                ids, path={"tenant": own}, query={"tenant": tenant}, deep=False
            )
        elif "tenant" in self.query:
            yield from self.requests(ids, query={"tenant": tenant}, deep=False)
        if "tenant" in self.members:
            [first, *_] = self.requests(ids, path={"tenant": own}, deep=False)
            if isinstance(first.body, dict):
                yield first._replace(body={**first.body, "tenant": tenant})

    def _queries(self, ids: Ids) -> list[dict[str, str]]:
        taking = [name for name in self.query if name in ids and name != "tenant"]
        return [{}, *({name: id} for name in taking for id in ids[name])]

    def _plain(self) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
        for kind, body in self.bodies.items() or [("", None)]:
            yield kind, body, ()

    def _bodies(self, ids: Ids) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
        yield from self._plain()
        for kind, body in self.bodies.items():
            if isinstance(body, dict):
                for name in sorted(self.members & ids.keys() - {"tenant"}):
                    for id in ids[name]:
                        yield kind, {**body, name: id}, (id,)


def operations(document: Schema, bodies: Mapping[str, Any]) -> list[Operation]:
    """Return every operation of a document.

    Args:
        document: OpenAPI 3.1.
        bodies: JSON for paths with an end for which the document has no example.
    """
    models = document["components"]["schemas"]
    return [
        _operation(method.upper(), path, described, models, bodies)
        for path, methods in document["paths"].items()
        for method, described in methods.items()
    ]


def _operation(
    method: str, path: str, described: Schema, models: Schema, bodies: Mapping[str, Any]
) -> Operation:
    parameters = described.get("parameters", [])
    query = {one["name"]: one["schema"] for one in parameters if one["in"] == "query"}
    content = described.get("requestBody", {}).get("content", {})
    members = {
        member
        for body in content.values()
        for member in _resolved(body["schema"], models).get("properties", {})
    }
    given = {kind: _body(body, models) for kind, body in content.items()}
    for end, body in bodies.items():
        if path.endswith(end) and method != "GET":
            given = {"application/json": body}
            members |= set(body) if isinstance(body, dict) else set()
    return Operation(
        method,
        path,
        [part[1:-1] for part in path.split("/") if part.startswith("{")],
        query,
        [one["name"] for one in parameters if one["in"] == "query" and one.get("required")],
        given,
        members,
    )


def _resolved(schema: Schema, models: Schema) -> Schema:
    """Return a schema without references and alternatives at its top: the first one."""
    while True:
        if "$ref" in schema:
            schema = models[schema["$ref"].rpartition("/")[2]]
        elif "anyOf" in schema:
            schema = schema["anyOf"][0]
        else:
            return schema


def _body(body: Schema, models: Schema) -> Any:
    """Return a body that is taken: an example of the document's, or one made of its schema."""
    if "example" in body:
        return body["example"]
    for one in body.get("examples", {}).values():
        return one["value"]
    return _made(body["schema"], models)


def _made(schema: Schema, models: Schema) -> Any:
    """Return the smallest value of a schema."""
    one = _resolved(schema, models)
    for known in ("const", "default"):
        if known in one:
            return one[known]
    for several in ("examples", "enum"):
        if one.get(several):
            return one[several][0]
    kind = one.get("type")
    if kind == "object":
        members = one.get("properties", {})
        return {name: _made(members[name], models) for name in one.get("required", ())}
    if kind == "array":
        return [_made(one["items"], models)] if one.get("minItems") else []
    return {"integer": 1, "number": 1, "boolean": True}.get(str(kind), "x")
