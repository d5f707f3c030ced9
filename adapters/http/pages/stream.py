"""``/docs/stream``: the WebSocket protocol for people, out of the AsyncAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapters.http.pages.html import Html, inline, page, prose, tag
from adapters.http.pages.schemas import anchor, document

Described = Mapping[str, Any]


def render(schema: Described) -> bytes:
    """Return the page.

    Args:
        schema: the AsyncAPI document.
    """
    info = schema["info"]
    channel = schema["channels"]["stream"]
    documents = schema["components"]["schemas"]
    sides = {
        "Frames of clients": _frames(schema, "receiveFrames"),
        "Frames of the server": _frames(schema, "sendFrames"),
    }
    framed = {name for names in sides.values() for name in names}
    others = sorted(name for name in documents if name not in framed)
    links = [tag("p", tag("a", "The API", href="../docs"))]
    sections = []
    for title, names in (*sides.items(), ("Documents", others)):
        items = [tag("li", tag("a", name, href=f"#{anchor(name)}")) for name in names]
        links += [tag("h2", title), tag("ul", *items)]
        sections.append(tag("h2", title))
        sections += [document(name, documents[name]) for name in names]
    links.append(tag("h2", tag("a", "Close codes", href="#close-codes")))
    return page(
        info["title"],
        tag("nav", *links),
        tag(
            "main",
            tag("h1", info["title"]),
            tag(
                "p",
                f"Version {info['version']}, at ",
                tag("code", channel["address"]),
                ", as ",
                tag("a", "AsyncAPI", href="../asyncapi.json"),
                ".",
            ),
            prose(info["description"]),
            tag("p", inline(channel["description"])),
            *sections,
            tag("h2", "Close codes", id="close-codes"),
            _close_codes(schema["x-close-codes"]),
        ),
    )


def _frames(schema: Described, operation: str) -> list[str]:
    return [one["$ref"].rsplit("/", 1)[1] for one in schema["operations"][operation]["messages"]]


def _close_codes(codes: Mapping[str, Described]) -> Html:
    rows = [
        tag(
            "tr",
            tag("td", code),
            tag("td", one["name"].replace("_", " ")),
            tag("td", "may be resumed" if one["resumable"] else "begin anew"),
        )
        for code, one in codes.items()
    ]
    return tag("table", *rows)
