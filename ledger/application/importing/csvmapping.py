"""CSV records as commands, by a mapping of columns to the members and meters of an event.

The identity of a record is its line number under the file's source unless a column has it: then
a file that is imported again gives duplicates, and a line that was changed gives one conflict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from hashlib import blake2b
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from ledger.application.importing.cells import (
    TimeFormat,
    read_number,
    read_time,
    read_truth,
    read_whole,
)
from ledger.application.importing.csvrecords import split_record
from ledger.application.importing.lines import Item, Line
from ledger.application.intake import TEXT_MEMBERS, UsageData, usage_command
from ledger.domain.errors import InvalidInput, Problem
from ledger.domain.meters import STANDARD_METERS
from ledger.domain.periods import zone
from ledger.domain.usage import (
    MAX_LABELS,
    OUTCOMES,
    PAYERS,
    RecordUsage,
    check_text,
    escape_pointer,
)

_IDENTITY = ("tenant", "source", "id")
_CHOICES = {"outcome": OUTCOMES, "billable": PAYERS}
_TRUTHS = ("batch", "byok")
_LABEL = "label."
MEMBERS = (*_IDENTITY, "occurred_at", *TEXT_MEMBERS, *_CHOICES, *_TRUTHS, "attempt")
"""Members of an event that a column can have, besides meters and ``label.<name>``."""


class IdFrom(StrEnum):
    """What identifies a record that has no column for it."""

    LINE_NUMBER = "line-number"
    LINE_DIGEST = "line-digest"


class CsvMapping(msgspec.Struct, frozen=True, kw_only=True):
    """How the columns of a file become events.

    Attributes:
        columns: member, meter or ``label.<name>`` to the name of its column.
        constants: the same to a text that every record has.
        tenant: whose ledger, where no column says; "" for nobody's.
        source: the producer, where no column says.
        id_from: what identifies a record if no column does.
        timezone: IANA name; of times without an offset.
        time_format: of ``occurred_at``.
    """

    columns: Mapping[str, str]
    constants: Mapping[str, str]
    tenant: str
    source: str
    id_from: IdFrom = IdFrom.LINE_NUMBER
    timezone: str = "UTC"
    time_format: TimeFormat = TimeFormat.RFC3339


def parse_pairs(pairs: Sequence[str], *, option: str) -> dict[str, str]:
    """Return ``target=value`` texts as a mapping; the value may hold more ``=``.

    Raises:
        InvalidInput: ``invalid_mapping`` if a text is no such pair, names something that an event
            does not have, or names it again.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        target, sign, value = pair.partition("=")
        if not sign or not value:
            raise InvalidInput(
                f"{option} {pair[:80]!r} is not of the form member=…", code="invalid_mapping"
            )
        if not _is_target(target):
            raise InvalidInput(
                f"{option} {pair[:80]!r}: an event has no {target[:64]!r}; it has "
                f"{', '.join(MEMBERS)}, label.<name>, and the meters {', '.join(STANDARD_METERS)}",
                code="invalid_mapping",
            )
        if target in found:
            raise InvalidInput(f"{option} names {target} twice", code="invalid_mapping")
        found[target] = value
    return found


def _is_target(name: str) -> bool:
    return (
        name in MEMBERS
        or name in STANDARD_METERS
        or (name.startswith(_LABEL) and len(name) > len(_LABEL))
    )


def check_mapping(mapping: CsvMapping) -> None:
    """Check that a mapping can make events at all, before a file is opened.

    Raises:
        InvalidInput: ``invalid_mapping``, ``unknown_timezone``, or what is wrong with a constant.
    """
    both = sorted(mapping.columns.keys() & mapping.constants.keys())
    if both:
        raise InvalidInput(
            f"{', '.join(both)} has both a column and a constant; give one",
            code="invalid_mapping",
        )
    zone(mapping.timezone)
    check_text(mapping.tenant, pointer="/tenant")
    check_text(mapping.source, pointer="/source")
    given = mapping.columns.keys() | mapping.constants.keys()
    if not given & STANDARD_METERS.keys():
        raise InvalidInput(
            "no column has a quantity; map one, such as --map tokens.input=COLUMN",
            code="invalid_mapping",
        )
    if "provider" not in given:
        raise InvalidInput(
            "no provider; give --set provider=NAME or --map provider=COLUMN",
            code="invalid_mapping",
        )
    if "tenant" not in given and not mapping.tenant:
        raise InvalidInput(
            "no tenant; give --tenant NAME or --map tenant=COLUMN", code="invalid_mapping"
        )
    if "id" in mapping.constants:
        raise InvalidInput("an id is of one event; it cannot be a constant", code="invalid_mapping")
    if sum(name.startswith(_LABEL) for name in given) > MAX_LABELS:
        raise InvalidInput(
            f"more than {MAX_LABELS} labels, the most that an event has", code="invalid_mapping"
        )


def bind(mapping: CsvMapping, header: Sequence[str]) -> CsvReader:
    """Return what reads the records under a header.

    Raises:
        InvalidInput: ``unknown_column`` if a mapped column is not in the header, or stands there
            twice; it names the columns there are.
    """
    names = [name.strip() for name in header]
    for target, column in mapping.columns.items():
        count = names.count(column)
        if count != 1:
            there = ", ".join(repr(name[:64]) for name in names[:100])
            said = "no column" if not count else f"{count} columns"
            raise InvalidInput(
                f"{said} {column[:64]!r} for {target}; the columns are {there}",
                code="unknown_column",
            )
    return CsvReader(mapping, names)


class _Row:
    """What one record says, cell by cell."""

    __slots__ = ("at", "identity", "labels", "members", "quantities")

    def __init__(self) -> None:
        self.at: int | None = None
        self.identity: dict[str, str] = {}
        self.labels: dict[str, str] = {}
        self.members: dict[str, Any] = {}
        self.quantities: dict[str, Any] = {}

    def copy(self) -> _Row:
        other = _Row()
        other.at = self.at
        other.identity = self.identity.copy()
        other.labels = self.labels.copy()
        other.members = self.members.copy()
        other.quantities = self.quantities.copy()
        return other


_Put = Callable[[_Row, str, str], None]


class CsvReader:
    """Makes commands of the records of one file.

    Args:
        mapping: checked.
        names: the header's cells; every mapped column is there once.
    """

    def __init__(self, mapping: CsvMapping, names: Sequence[str]) -> None:
        self._width = len(names)
        self._id_from = mapping.id_from
        self._id_mapped = "id" in mapping.columns
        zone_info = zone(mapping.timezone)
        self._constants = _Row()
        self._constants.identity = {"tenant": mapping.tenant, "source": mapping.source}
        for target, text in mapping.constants.items():
            _putter(target, mapping.time_format, zone_info)(self._constants, text, f"/{target}")
        self._cells: list[tuple[int, _Put, str]] = []
        self._pointers = {}
        for target, column in mapping.columns.items():
            pointer = f"/{escape_pointer(column)}"
            put = _putter(target, mapping.time_format, zone_info)
            self._cells.append((names.index(column), put, pointer))
            self._pointers[_canonical_pointer(target)] = pointer

    def read(self, records: Iterable[Line]) -> Iterator[Item]:
        """Yield the command of each record, or what is wrong with it."""
        for number, record, problem in records:
            if problem is not None:
                yield number, record, problem
                continue
            try:
                yield number, record, self._command(number, record)
            except InvalidInput as error:
                pointer = self._pointers.get(error.pointer, error.pointer)
                yield number, record, Problem(error.code, error.message, pointer)

    def _command(self, number: int, record: bytes) -> RecordUsage:
        cells = split_record(record)
        if len(cells) != self._width:
            raise InvalidInput(
                f"the record has {len(cells)} cells; the header has {self._width}",
                code="wrong_cell_count",
            )
        row = self._constants.copy()
        for index, put, pointer in self._cells:
            text = cells[index]
            if text:
                put(row, text, pointer)
        identity = row.identity
        if not self._id_mapped:
            identity["id"] = (
                f"line-{number}"
                if self._id_from is IdFrom.LINE_NUMBER
                else f"digest-{blake2b(record, digest_size=16).hexdigest()}"
            )
        for name in _IDENTITY:
            if not identity.get(name):
                raise _missing(name)
        if "provider" not in row.members:
            raise _missing("provider")
        return usage_command(
            UsageData(quantities=row.quantities, labels=row.labels, **row.members),
            id=identity["id"],
            source=identity["source"],
            tenant=identity["tenant"],
            at=row.at,
        )


def _missing(name: str) -> InvalidInput:
    return InvalidInput(
        f"the cell of {name} is empty", code=f"missing_{name}", pointer=_canonical_pointer(name)
    )


def _canonical_pointer(target: str) -> str:
    """Return where an event has what ``target`` names, as `usage_command` says it."""
    if target in STANDARD_METERS:
        return f"/data/quantities/{target}"
    if target.startswith(_LABEL):
        return f"/data/labels/{escape_pointer(target.removeprefix(_LABEL))}"
    if target == "tenant":
        return "/subject"
    return f"/{target}" if target in _IDENTITY else f"/data/{target}"


def _putter(target: str, form: TimeFormat, zone_info: ZoneInfo) -> _Put:
    """Return what puts a cell's text into a row, as what ``target`` is."""
    if target in STANDARD_METERS:

        def put_quantity(row: _Row, text: str, pointer: str) -> None:
            row.quantities[target] = read_number(text, pointer=pointer)

        return put_quantity
    if target.startswith(_LABEL):
        label = target.removeprefix(_LABEL)

        def put_label(row: _Row, text: str, pointer: str) -> None:
            check_text(text, pointer=pointer)
            row.labels[label] = text

        return put_label
    if target == "occurred_at":

        def put_time(row: _Row, text: str, pointer: str) -> None:
            row.at = read_time(text, form=form, zone=zone_info, pointer=pointer)

        return put_time
    if target in _IDENTITY:

        def put_identity(row: _Row, text: str, pointer: str) -> None:
            check_text(text, pointer=pointer)
            row.identity[target] = text

        return put_identity

    read = _reader(target)

    def put_member(row: _Row, text: str, pointer: str) -> None:
        row.members[target] = read(text, pointer)

    return put_member


def _reader(target: str) -> Callable[[str, str], Any]:
    """Return what reads the text of a member of the event's data."""
    code = f"invalid_{target}"
    if target in _CHOICES:
        return lambda text, pointer: _choice(text, _CHOICES[target], pointer, code)
    if target in _TRUTHS:
        return lambda text, pointer: read_truth(text, pointer=pointer, code=code)
    if target == "attempt":
        return lambda text, pointer: read_whole(text, pointer=pointer, code=code)
    return _text


def _text(text: str, pointer: str) -> str:
    check_text(text, pointer=pointer)
    return text


def _choice(text: str, choices: Sequence[str], pointer: str, code: str) -> str:
    if text in choices:
        return text
    raise InvalidInput(f"{text[:40]!r} is none of {', '.join(choices)}", code=code, pointer=pointer)
