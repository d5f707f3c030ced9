"""``tallybook normalize``: show the leaf quantities that a saved provider response states."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from ledger.application.documents.calls import calls_json
from ledger.application.responses import Responses
from ledger.domain.errors import InvalidInput
from ledger.domain.responses import NormalizedCall


def command(responses: Responses) -> Callable[[str, str], None]:
    """Return the command's function, for the composition root to register with Typer.

    Args:
        responses: reads them.
    """

    def normalize(
        provider: Annotated[str, typer.Option(help="Provider whose response it is, e.g. openai.")],
        file: Annotated[
            str, typer.Argument(help="JSON, a JSON array, NDJSON or SSE text; - reads stdin.")
        ] = "-",
    ) -> None:
        """Print the calls and quantities that a provider response states, as JSON."""
        typer.echo(render(responses.calls(_read(file), provider=provider)))

    return normalize


def render(calls: Sequence[NormalizedCall]) -> str:
    """Return the calls as indented JSON; quantities are canonical decimal strings."""
    return msgspec.json.format(calls_json(calls), indent=2).decode()


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise InvalidInput(
            f"{file} cannot be read: {error.strerror}", code="unreadable_file"
        ) from None
