"""``/docs``: everything that is served, for people, with nothing from anywhere else."""

from __future__ import annotations

import json
import shlex
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from html.parser import HTMLParser
from urllib.parse import urljoin

import pytest
from fakes.http_world import Api, http_world

from adapters.http.pages import reference, stream


class Page(HTMLParser):
    """What a page is made of.

    Attributes:
        elements: names, each once.
        attributes: names, each once.
        links: targets.
        ids: in order.
        texts: of each element of a name.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.links: set[str] = set()
        self.ids: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element."""
        self.elements.add(tag)
        self._open.append(tag)
        self.texts.setdefault(tag, []).append("")
        for name, value in attrs:
            self.attributes.add(name)
            if name == "href":
                self.links.add(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        """Leave an element."""
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        """Keep text."""
        for tag in {*self._open}:
            self.texts[tag][-1] += data


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    """Give an application."""
    with http_world(database_url) as world:
        yield world


def test_pages_load_and_run_nothing_and_their_links_lead_somewhere(api: Api) -> None:
    """A browser is told so too: the only thing it may use is the page's own style."""
    for path in ("/docs", "/docs/stream"):
        answer = api.get(path, key=None)
        assert (answer.status_code, answer.headers["content-type"]) == (
            200,
            "text/html; charset=utf-8",
        )
        page = Page(answer.text)
        digest = b64encode(sha256(page.texts["style"][0].encode()).digest()).decode()
        policy = answer.headers["content-security-policy"]
        assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
        assert not page.elements & {"script", "link", "img", "iframe", "form", "object", "base"}
        assert page.attributes <= {"class", "content", "charset", "href", "id", "lang", "name"}
        assert len(page.ids) == len(set(page.ids))
        for link in page.links:
            if link.startswith("#"):
                assert link[1:] in page.ids
            else:
                assert api.get(urljoin(path, link), key=None).status_code == 200


def test_every_route_and_document_is_shown_with_a_command_that_is_one(api: Api) -> None:
    """A command is one for a shell; the body in it is the schema's example."""
    schema = api.get("/openapi.json", key=None).json()
    page = Page(api.get("/docs", key=None).text)
    summaries = " ".join(page.texts["summary"])
    commands = [shlex.split(text.replace("\\\n", " ")) for text in page.texts["pre"][1:]]
    shown = 0
    for path, methods in schema["paths"].items():
        for method, one in methods.items():
            assert f"{method.upper()}{path}" in summaries
            assert one["summary"].replace("`", "") in summaries
            assert f"operation-{one['operationId']}" in page.ids
            shown += 1
            bodies = one.get("requestBody", {}).get("content", {}).values()
            for example in [media["example"] for media in bodies if "example" in media]:
                assert any(f"$TALLYBOOK{path}" in words for words in commands)
                assert any(words[-1] == json.dumps(example, indent=2) for words in commands)
    assert len(commands) == shown
    for name in schema["components"]["schemas"]:
        assert f"document-{name}" in page.ids
    frames = Page(api.get("/docs/stream", key=None).text)
    for name in api.get("/asyncapi.json", key=None).json()["components"]["schemas"]:
        assert f"document-{name}" in frames.ids


def test_text_of_a_schema_is_never_markup() -> None:
    """Whatever stands in a name, a description, an example or a default is shown as it is."""
    evil = "<script>alert('x')</script>"
    member = {"type": "string", "description": evil, "default": evil, "examples": [evil]}
    documents = {evil: {"properties": {evil: member}, "description": evil}}
    operation = {
        "tags": [evil],
        "summary": evil,
        "description": evil,
        "operationId": evil,
        "x-scopes": [evil],
        "parameters": [{"name": evil, "in": "query", "schema": {"enum": [evil]}}],
        "requestBody": {"content": {evil: {"schema": {"pattern": evil}, "example": evil}}},
        "responses": {"200": {"description": evil}},
    }
    openapi = {
        "info": {"title": evil, "version": evil},
        "paths": {evil: {"post": operation}},
        "components": {"schemas": documents},
    }
    messages = [{"$ref": f"#/x/{evil.replace('/', '')}"}]
    named = {evil.replace("/", ""): documents[evil]}
    asyncapi = {
        "info": {"title": evil, "version": evil, "description": evil},
        "channels": {"stream": {"address": evil, "description": evil}},
        "operations": {"receiveFrames": {"messages": messages}, "sendFrames": {"messages": []}},
        "components": {"schemas": named},
        "x-close-codes": {"1": {"name": evil, "resumable": True}},
    }
    for body in (reference.render(openapi), stream.render(asyncapi)):
        assert b"<script" not in body
        assert b"&lt;script&gt;" in body
