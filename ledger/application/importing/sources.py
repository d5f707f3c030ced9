"""Files as sources of items: which format, whose usage, and how an item is identified.

Everything that can be wrong with the way a file is to be read comes out here, before anything is
imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import PurePath

import msgspec

from ledger.application.importing.cloudevents import read_cloudevents
from ledger.application.importing.csvmapping import CsvMapping, IdFrom, bind, check_mapping
from ledger.application.importing.csvrecords import read_records, split_record
from ledger.application.importing.lines import (
    ByteStream,
    Item,
    Line,
    Read,
    from_line,
    read_lines,
)
from ledger.application.importing.responses import ResponseReader
from ledger.domain.errors import InvalidInput
from ledger.domain.usage import check_text

STDIN = "-"
"""Name of standard input."""


class Format(StrEnum):
    """What the lines of a file are."""

    NDJSON = "ndjson"
    RESPONSES = "responses"
    CSV = "csv"


class Source(msgspec.Struct, frozen=True):
    """A file that is open and known to be readable as what it should be.

    Attributes:
        name: of the file, as the user gave it.
        items: its items in order; to be read once.
        position: returns how many bytes of the file were read.
    """

    name: str
    items: Iterator[Item]
    position: Callable[[], int]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How files are to be read.

    Attributes:
        responses: reads lines of responses.
        mapping: of the columns of CSV files.
        start_line: line to begin with, from 1; a CSV file's header is read in any case.
    """

    responses: ResponseReader | None = None
    mapping: CsvMapping | None = None
    start_line: int = 1


def choose_format(name: str, *, given: Format | None, provider: str) -> Format:
    """Return what a file's lines are: as given, else by its extension, else NDJSON.

    Args:
        name: of the file.
        given: what the user said.
        provider: whose responses they are; "" if the user did not say.

    Raises:
        InvalidInput: ``invalid_format`` if what the user said fits no one format.
    """
    is_csv = name.lower().endswith((".csv", ".csv.gz"))
    chosen = given
    if chosen is None:
        chosen = Format.CSV if is_csv else Format.RESPONSES if provider else Format.NDJSON
    if provider and chosen is not Format.RESPONSES:
        raise InvalidInput(
            f"--provider is for provider responses, and {name} is read as {chosen.value}; "
            "use --format responses, or for CSV --set provider=NAME",
            code="invalid_format",
        )
    if chosen is Format.RESPONSES and not provider:
        raise InvalidInput(
            "whose responses are these? give --provider NAME, or --provider auto",
            code="invalid_format",
        )
    return chosen


def check_sources(files: Sequence[tuple[str, Format]], mapping: CsvMapping | None) -> None:
    """Check that every record of every CSV file gets an identity of its own.

    Raises:
        InvalidInput: ``invalid_mapping``, ``missing_source``, ``ambiguous_source``.
    """
    names = [name for name, form in files if form is Format.CSV]
    if not names:
        if mapping is not None and (mapping.columns or mapping.constants):
            raise InvalidInput(
                "--map and --set are for CSV files; say --format csv if it is one",
                code="invalid_format",
            )
        return
    if mapping is None or not mapping.columns:
        raise InvalidInput(
            "a CSV file needs columns; give --map member=COLUMN, such as "
            "--map tokens.input=ContextTokens",
            code="invalid_mapping",
        )
    check_mapping(mapping)
    says = "source" in mapping.columns or "source" in mapping.constants or bool(mapping.source)
    if STDIN in names and not (mapping.source or "source" in mapping.constants):
        raise InvalidInput("standard input has no name; give --source NAME", code="missing_source")
    if "id" in mapping.columns or mapping.id_from is not IdFrom.LINE_NUMBER or len(names) == 1:
        return
    defaults = {default_source(name) for name in names}
    if says or len(defaults) < len(names):
        raise InvalidInput(
            "line numbers identify the records, and these files would have the same source; "
            "import them one by one, map a column to id, or use --id-from line-digest",
            code="ambiguous_source",
        )


def default_source(name: str) -> str:
    """Return the source of a CSV file's records where nothing says it: ``csv:`` and its name."""
    return f"csv:{PurePath(name).name}"


def open_source(*, name: str, form: Format, read: Read, plan: Plan) -> Source:
    """Return a file as a source; of a CSV file the header is read.

    Args:
        name: of the file.
        form: of its lines.
        read: returns its next bytes.
        plan: checked with `check_sources`.

    Raises:
        InvalidInput: ``unknown_column``, ``missing_header`` and what makes a header unreadable.
    """
    stream = ByteStream(read)
    lines = read_lines(stream)
    if form is Format.CSV and plan.mapping is not None:
        items = _csv_items(name, lines, plan.mapping, plan.start_line)
    elif form is Format.RESPONSES and plan.responses is not None:
        items = plan.responses.read(from_line(lines, plan.start_line))
    else:
        items = read_cloudevents(from_line(lines, plan.start_line))
    return Source(name, items, lambda: stream.position)


def _csv_items(
    name: str, lines: Iterator[Line], mapping: CsvMapping, start_line: int
) -> Iterator[Item]:
    records = read_records(lines)
    header = next(records, None)
    if header is None:
        raise InvalidInput(
            f"{name} is empty; a CSV file begins with the names of its columns",
            code="missing_header",
        )
    _, text, problem = header
    if problem is not None:
        raise InvalidInput(
            f"the header of {name} cannot be read: {problem.message}", code=problem.code
        )
    if not mapping.source and "source" not in mapping.constants:
        mapping = msgspec.structs.replace(mapping, source=default_source(name))
        check_text(mapping.source, pointer="/source")
    return bind(mapping, split_record(text)).read(from_line(records, start_line))
