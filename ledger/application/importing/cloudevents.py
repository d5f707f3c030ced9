"""Lines of CloudEvents (NDJSON, structured form) as commands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from ledger.application.importing.lines import Item, Line
from ledger.application.intake import read_event
from ledger.domain.errors import Problem


def read_cloudevents(lines: Iterable[Line]) -> Iterator[Item]:
    """Yield the command of each line, or what is wrong with it; blank lines mean nothing."""
    for number, line, problem in lines:
        if problem is not None:
            yield number, line, problem
        elif line and not line.isspace():
            try:
                yield number, line, read_event(line)
            except (msgspec.MsgspecError, ArithmeticError, RecursionError) as error:
                # A number in ``raw`` can be beyond what any canonical form can say.
                yield (
                    number,
                    line,
                    Problem(
                        code="invalid_raw",
                        message=f"raw has no canonical form (RFC 8785): {error}",
                        pointer="/data/raw",
                    ),
                )
