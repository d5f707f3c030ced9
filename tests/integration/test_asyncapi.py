"""The schema of the stream is AsyncAPI 3, and says what the stream does."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from fakes.http_world import Api, http_world
from fakes.stream_frames import BAD, CALL, SEGMENT, exchanges
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from adapters.http.stream.asyncapi import document

with warnings.catch_warnings():
    # Two of its models have a member named as one of pydantic's methods, which it does not mind.
    warnings.simplefilter("ignore", UserWarning)
    from asyncapi3.models.asyncapi import AsyncAPI3

DOCUMENT = document()


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    """The application over a fresh database."""
    with http_world(database_url) as opened:
        yield opened


def references(part: Any) -> Iterator[str]:
    """Yield everything that is referred to."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for member in part.values():
            yield from references(member)
    elif isinstance(part, list):
        for member in part:
            yield from references(member)


def found(reference: str) -> Any:
    """Return what a reference points at."""
    part: Any = DOCUMENT
    for name in reference.removeprefix("#/").split("/"):
        part = part[name]
    return part


def validator(operation: str) -> Draft202012Validator:
    """Return what says whether a frame is one of those of an operation."""
    names = [
        one["$ref"].rsplit("/", 1)[-1] for one in DOCUMENT["operations"][operation]["messages"]
    ]
    schema = {"oneOf": [{"$ref": f"urn:doc#/components/schemas/{name}"} for name in names]}
    resource = Resource.from_contents(
        {"$schema": "https://json-schema.org/draft/2020-12/schema", **DOCUMENT}
    )
    return Draft202012Validator(schema, registry=Registry().with_resource("urn:doc", resource))


def test_the_schema_is_asyncapi_3_and_needs_no_key(api: Api) -> None:
    """Models of the specification that are not ours take it."""
    answer = api.get("/asyncapi.json", key=None)
    assert answer.status_code == 200
    assert answer.json() == json.loads(json.dumps(DOCUMENT))
    assert AsyncAPI3.model_validate(answer.json()).asyncapi == "3.0.0"


def test_those_models_refuse_what_is_no_asyncapi() -> None:
    """Otherwise the test above would say nothing."""
    for change in ({"rooms": {}}, {"asyncapi": "2.6.0"}, {"info": {"title": "x"}}):
        with pytest.raises(ValueError, match="AsyncAPI3"):
            AsyncAPI3.model_validate({**DOCUMENT, **change})


def test_every_reference_of_the_schema_points_at_something() -> None:
    """And every schema is one."""
    seen = list(references(DOCUMENT))
    assert len(seen) > 50
    for reference in seen:
        assert found(reference) is not None, reference
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_the_frames_of_the_specification_are_those_of_the_schema() -> None:
    """What the examples send and what they are answered, each as exactly one message."""
    sides = {">": validator("receiveFrames"), "<": validator("sendFrames")}
    for who, frame in exchanges():
        if "epoch" in frame:
            frame["epoch"] = 1
        if "answer" in frame:
            frame["answer"].pop("…", None)
        errors = [error.message for error in sides[who].iter_errors(frame)]
        assert errors == [], frame


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "hello"},
        {"type": "heartbeat"},
        {"type": "resume", "session": "s", "epoch": 1},
        {**SEGMENT, "id": "x", "seq": 1, "ms": 5, "labels": {"team": "blue"}},
        {"type": "hold.authorize", "id": "x", "seq": 1, **CALL},
        {"type": "hold.void", "id": "x", "seq": 1, "hold": "h"},
        {"type": "hold.extend", "id": "x", "seq": 1, "hold": "h", "amount": "1"},
        {"type": "tool.ended", "id": "x", "seq": 1, "tool": "t", "provider": "p"},
    ],
)
def test_frames_that_the_stream_takes_are_valid(frame: dict[str, Any]) -> None:
    """As the tests of the stream send them."""
    assert list(validator("receiveFrames").iter_errors(frame)) == []


IN_WORDS = {"hold_not_found", "invalid_session", "invalid_text", "invalid_time"}
"""Codes of what a schema does not say: what is known, and rules of texts and times."""
MALFORMED = [
    frame
    for frame, code, pointer in BAD
    if code not in IN_WORDS and not pointer.startswith(("/quantities", "/amount"))
]


@pytest.mark.parametrize("frame", MALFORMED)
def test_frames_that_the_stream_refuses_for_their_form_are_not_valid(
    frame: dict[str, Any],
) -> None:
    """But for rules that no schema says."""
    errors = list(validator("receiveFrames").iter_errors({**frame, "id": "x", "seq": 1}))
    assert errors != []
