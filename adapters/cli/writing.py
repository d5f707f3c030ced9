"""How commands write files: to a path, or to standard output for ``-``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from ledger.domain.errors import InvalidInput

OutputOption = Annotated[str, typer.Option("--output", "-o", help="File; - is standard output.")]


def write_output(output: str, pieces: Iterable[bytes]) -> None:
    """Write pieces one after the other.

    Raises:
        InvalidInput: ``unwritable_file``.
    """
    if output == "-":
        for piece in pieces:
            left = memoryview(piece)
            while left:
                # With PYTHONUNBUFFERED a write ends where a signal stops the process.
                left = left[sys.stdout.buffer.write(left) :]
        sys.stdout.buffer.flush()
        return
    body = b"".join(pieces)  # what fails while it is made leaves the file alone
    try:
        Path(output).write_bytes(body)
    except OSError as error:
        raise InvalidInput(f"{output} cannot be written: {error}", code="unwritable_file") from None
