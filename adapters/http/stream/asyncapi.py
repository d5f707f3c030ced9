"""The schema of the stream: AsyncAPI 3 out of the definitions of the frames."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import msgspec

from adapters.http.models.holds import HoldAnswerDocument
from adapters.http.schema import components as model_schemas
from adapters.http.stream import frames
from adapters.http.stream.session import RESUMABLE, Code
from ledger.application.documents.encoding import to_json

VERSION = "2026-11-27"
_REF = "#/components/schemas/{name}"
_CHANNEL = {"$ref": "#/channels/stream"}
_IMPLIED = {
    "hold.authorize": ("hold",),
    "hold.extend": ("step",),
    "hold.progress": ("step",),
    "hold.capture": ("capture",),
    "hold.void": ("void",),
}
"""Members that REST requires and that a frame's id or number stands for where they are left out."""
_DIALOGUE = """\
One session a WebSocket. The first frame is hello or resume; frames with a seq are worked on in
their order and acked after their commit; whatever is not acked is sent again after resume, on any
process, and counts once. docs/spec/stream.md has the rules and what each close code means."""


@cache
def encoded() -> bytes:
    """Return the document as JSON."""
    return to_json(document())


def document() -> dict[str, Any]:
    """Return the AsyncAPI document: the server receives clients' frames and sends its own."""
    schemas = _schemas()
    sent = [_name(kind) for kind in frames.SERVER_FRAMES]
    received = [_name(kind) for kind in frames.CLIENT_FRAMES]
    received += [_hold_name(kind) for kind in frames.HOLD_FRAMES]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tallybook stream",
            "version": VERSION,
            "description": _DIALOGUE,
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {
                "host": "127.0.0.1:8787",
                "protocol": "ws",
                "description": "`tallybook up`, unless it is told otherwise.",
                "security": [{"$ref": "#/components/securitySchemes/key"}],
            }
        },
        "channels": {
            "stream": {
                "address": frames.PATH,
                "title": "A session",
                "description": f"The key comes as a header, or as the subprotocol"
                f" {frames.KEY_SUBPROTOCOL}KEY beside {frames.SUBPROTOCOL}.",
                "messages": {
                    name: {"$ref": f"#/components/messages/{name}"} for name in received + sent
                },
                "bindings": {
                    "ws": {
                        "method": "GET",
                        "query": {
                            "type": "object",
                            "properties": {"tenant": {"type": "string", "minLength": 1}},
                        },
                    }
                },
            }
        },
        "operations": {
            "receiveFrames": _operation("receive", "Take a client's frames.", received),
            "sendFrames": _operation("send", "Answer them, and tell of budgets.", sent),
        },
        "components": {
            "messages": {name: _message(name, schemas[name]) for name in received + sent},
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "x-close-codes": {
            str(int(code)): {"name": code.name.lower(), "resumable": code in RESUMABLE}
            for code in Code
        },
    }


def _name(kind: type[msgspec.Struct]) -> str:
    return kind.__name__


def _hold_name(kind: str) -> str:
    return "".join(word.capitalize() for word in kind.split("."))


def _operation(action: str, summary: str, names: list[str]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": _CHANNEL,
        "summary": summary,
        "messages": [{"$ref": f"#/channels/stream/messages/{name}"} for name in names],
    }


def _message(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": schema["properties"]["type"]["const"],
        "summary": schema["description"],
        "payload": {"$ref": _REF.format(name=name)},
    }


def _schemas() -> dict[str, Any]:
    """Return the schemas of all frames by name, and those that they refer to."""
    kinds = (*frames.CLIENT_FRAMES, *frames.SERVER_FRAMES)
    _, found = msgspec.json.schema_components(kinds, ref_template=_REF)
    for kind in kinds:
        schema = found[_name(kind)]
        schema["properties"]["type"] = {"const": kind.__struct_config__.tag}
        schema["description"] = _summary(kind)
    models = model_schemas([*frames.HOLD_FRAMES.values(), HoldAnswerDocument])
    for tag, model in frames.HOLD_FRAMES.items():
        found[_hold_name(tag)] = _hold_frame(tag, models.pop(model.__name__))
    found["DecisionAnswer"]["properties"]["answer"] = {
        "$ref": _REF.format(name=HoldAnswerDocument.__name__)
    }
    # REST documents refer to some of these; only those that are referred to stay.
    return {**found, **models}


def _summary(kind: type) -> str:
    return (inspect.getdoc(kind) or "").split("\n", 1)[0]


def _hold_frame(kind: str, model: dict[str, Any]) -> dict[str, Any]:
    """Return a REST document's schema with a frame's envelope around its members."""
    members = {name: part for name, part in model["properties"].items() if name != "tenant"}
    implied = _IMPLIED[kind]
    required = [name for name in model.get("required", ()) if name not in implied]
    if "hold" not in members:
        members = {"hold": {"type": "string", "minLength": 1, "maxLength": 256}, **members}
        required.append("hold")
    envelope = {
        "type": {"const": kind},
        "id": {"type": "string", "minLength": 1, "maxLength": frames.MAX_ID_CHARS},
        "seq": {"type": "integer", "minimum": 1, "maximum": frames.MAX_SEQ},
    }
    return {
        "type": "object",
        "title": _hold_name(kind),
        "description": model.get("description", ""),
        "required": [*envelope, *required],
        "properties": {**envelope, **members},
        "additionalProperties": False,
    }
