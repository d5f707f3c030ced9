"""HTML out of parts: text is escaped unless it is HTML already, so nobody has to think of it."""

from __future__ import annotations

import html
import re
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256

from adapters.http.pages.style import STYLE

CONTENT_TYPE = b"text/html; charset=utf-8"
_CODE = re.compile(r"(`+)(.+?)\1")


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, *children: str, **attributes: str) -> Html:
    """Return an element.

    Args:
        name: of it.
        children: HTML as it is; other text is escaped.
        attributes: by name; a trailing underscore is left out (``class_``).
    """
    given = "".join(
        f' {key.rstrip("_")}="{html.escape(value)}"' for key, value in attributes.items()
    )
    return Html(f"<{name}{given}>{join(children)}</{name}>")


def join(parts: Iterable[str], between: str = "") -> Html:
    """Return parts one after another."""
    return Html(html.escape(between).join(_safe(part) for part in parts))


def prose(text: str) -> Html:
    """Return text with empty lines between its paragraphs and code between backticks."""
    return join(tag("p", inline(one)) for one in re.split(r"\n\s*\n", text.strip()) if one)


def inline(text: str) -> Html:
    """Return a line of text with code between backticks."""
    parts: list[str] = []
    end = 0
    for found in _CODE.finditer(text):
        parts += [text[end : found.start()], tag("code", found[2])]
        end = found.end()
    return join([*parts, text[end:]])


def page(title: str, *body: str) -> bytes:
    """Return a whole page."""
    head = join(
        [
            Html('<meta charset="utf-8">'),
            Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            tag("title", title),
            tag("style", Html(STYLE)),
        ]
    )
    whole = tag("html", tag("head", head), tag("body", *body), lang="en")
    return f"<!doctype html>\n{whole}\n".encode()


def _policy() -> bytes:
    digest = b64encode(sha256(STYLE.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ).encode()


HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", _policy()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
"""Of every page: a browser loads and runs nothing but the page's own style."""


def _safe(part: str) -> str:
    return part if isinstance(part, Html) else html.escape(part)
