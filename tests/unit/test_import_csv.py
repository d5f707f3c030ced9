"""CSV: records, cells, mappings, and what identifies a record."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.application.importing.cells import TimeFormat, read_number, read_time
from ledger.application.importing.csvmapping import CsvMapping, IdFrom, parse_pairs
from ledger.application.importing.csvrecords import read_records, split_record
from ledger.application.importing.lines import ByteStream, Line, read_lines
from ledger.application.importing.sources import (
    Format,
    Plan,
    check_sources,
    choose_format,
    open_source,
)
from ledger.domain.errors import InvalidInput, Problem
from ledger.domain.periods import from_us
from ledger.domain.usage import RecordUsage

UTC = ZoneInfo("UTC")
HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens,User"
COLUMNS = {
    "occurred_at": "TIMESTAMP",
    "tokens.input": "ContextTokens",
    "tokens.output": "GeneratedTokens",
    "user": "User",
}


def mapping(
    columns: dict[str, str] | None = None,
    *,
    id_from: IdFrom = IdFrom.LINE_NUMBER,
    source: str = "",
    timezone: str = "UTC",
    **constants: str,
) -> CsvMapping:
    """Return a mapping with a tenant and a provider."""
    return CsvMapping(
        columns=COLUMNS if columns is None else columns,
        constants={"provider": "openai", **constants},
        tenant="acme",
        source=source,
        id_from=id_from,
        timezone=timezone,
    )


def items(
    text: str, how: CsvMapping | None = None, *, name: str = "dir/trace.csv"
) -> list[tuple[int, RecordUsage | Problem]]:
    """Read a whole file; only usage and problems can come of it."""
    source = open_source(
        name=name,
        form=Format.CSV,
        read=io.BytesIO(text.encode()).read,
        plan=Plan(mapping=how or mapping()),
    )
    found = []
    for number, _, item in source.items:
        assert isinstance(item, RecordUsage | Problem)
        found.append((number, item))
    return found


def usage(text: str, how: CsvMapping | None = None) -> list[RecordUsage]:
    """Read a file in which everything is right."""
    found = [item for _, item in items(text, how)]
    assert all(isinstance(item, RecordUsage) for item in found), found
    return [item for item in found if isinstance(item, RecordUsage)]


def problem(row: str, how: CsvMapping | None = None) -> Problem:
    """Return what is wrong with the one row."""
    ((_, item),) = items(f"{HEADER}\n{row}\n", how)
    assert isinstance(item, Problem)
    return item


def records(data: bytes, *, max_bytes: int = 1000) -> list[Line]:
    """Read records whose lines may be as long as they are."""
    stream = ByteStream(io.BytesIO(data).read)
    return list(read_records(read_lines(stream, max_bytes=max_bytes), max_bytes=max_bytes))


def test_a_row_becomes_an_event_with_the_mapped_members_and_meters() -> None:
    """Columns, constants and the options together make the event."""
    row = "2023-11-16 18:17:03.9799600,4808,10,ann"
    (command,) = usage(f"{HEADER}\n{row}\n", mapping(model="gpt-4o"))
    event = command.event
    assert (event.tenant, event.source, event.id) == ("acme", "csv:trace.csv", "line-2")
    assert (event.provider, event.model, event.user) == ("openai", "gpt-4o", "ann")
    assert event.quantities == {"tokens.input": "4808", "tokens.output": "10"}
    assert event.occurred_at is not None
    assert from_us(event.occurred_at).isoformat() == "2023-11-16T18:17:03.979960+00:00"


def test_every_kind_of_member_can_be_a_column() -> None:
    """Truth values, choices, attempts and labels are read as what they are."""
    columns = {
        "tokens.input": "n",
        "byok": "own",
        "outcome": "how",
        "attempt": "try",
        "label.team": "team",
        "id": "key",
        "source": "from",
        "tenant": "whose",
    }
    (command,) = usage(
        "n,own,how,try,team,key,from,whose\n1,TRUE,aborted,2,blue,k-1,gw,birch\n",
        mapping(columns, billable="platform"),
    )
    event = command.event
    assert (event.byok, event.outcome, event.attempt) == (True, "aborted", 2)
    assert (event.tenant, event.source, event.id) == ("birch", "gw", "k-1")
    assert event.labels == {"team": "blue"}
    assert event.billable == "platform"


def test_an_empty_cell_is_absent_and_a_zero_is_not() -> None:
    """A quantity of 0 is a fact; a cell with nothing in it says nothing."""
    zero, absent = usage(f"{HEADER}\n,0,5,\n,,5,\n")
    assert zero.event.quantities == {"tokens.input": "0", "tokens.output": "5"}
    assert absent.event.quantities == {"tokens.output": "5"}
    assert absent.event.occurred_at is None


@pytest.mark.parametrize(
    ("row", "code", "pointer"),
    [
        (',"1,234",5,', "invalid_quantity", "/ContextTokens"),
        (",abc,5,", "invalid_quantity", "/ContextTokens"),
        (",NaN,5,", "invalid_quantity", "/ContextTokens"),
        (",Infinity,5,", "invalid_quantity", "/ContextTokens"),
        (",-1,5,", "invalid_quantity", "/ContextTokens"),
        (",1,0.0000001,", "too_precise", "/GeneratedTokens"),
        (",1,1e18,", "invalid_quantity", "/GeneratedTokens"),
        (",1,1e999,", "invalid_quantity", "/GeneratedTokens"),
        (",1,1e-999,", "too_precise", "/GeneratedTokens"),
        (",1," + "9" * 5000 + ",", "invalid_quantity", "/GeneratedTokens"),
        (",\u0661,5,", "invalid_quantity", "/ContextTokens"),
        (",,,ann", "no_quantities", "/data/quantities"),
        ("yesterday,1,1,", "invalid_time", "/TIMESTAMP"),
        ("1999-12-31 23:59:59,1,1,", "invalid_time", "/TIMESTAMP"),
        (",1,1," + "u" * 257, "invalid_text", "/User"),
        (",1,1,a\x00b", "invalid_text", "/User"),
        (",1,1", "wrong_cell_count", ""),
        (",1,1,ann,more", "wrong_cell_count", ""),
        (',1,1,"ann"x', "malformed_csv", ""),
    ],
)
def test_a_bad_cell_is_rejected_with_its_column(row: str, code: str, pointer: str) -> None:
    """Nothing is repaired or guessed; the pointer names the column."""
    found = problem(row)
    assert (found.code, found.pointer) == (code, pointer)


def test_text_that_is_not_utf8_is_rejected() -> None:
    """The byte is named."""
    with pytest.raises(InvalidInput) as caught:
        split_record(b"a,\xff")
    assert caught.value.code == "invalid_utf8"


@pytest.mark.parametrize("name", ["id", "tenant", "source", "provider"])
def test_a_mapped_member_that_an_event_needs_is_never_made_up(name: str) -> None:
    """An empty id does not fall back to the line number: that would be another identity."""
    how = CsvMapping(
        columns={"tokens.input": "n", name: "needed"},
        constants={} if name == "provider" else {"provider": "openai"},
        tenant="" if name == "tenant" else "acme",
        source="",
    )
    found = [item for _, item in items("n,needed\n1,\n", how)]
    if name == "source":
        assert isinstance(found[0], RecordUsage)
        assert found[0].event.source == "csv:trace.csv"
    else:
        assert isinstance(found[0], Problem)
        assert (found[0].code, found[0].pointer) == (f"missing_{name}", "/needed")


def test_the_same_file_gives_the_same_identities_and_fingerprints() -> None:
    """Importing again gives duplicates; identical lines are events of their own."""
    text = f"{HEADER}\n,1,2,ann\n,1,2,ann\n"
    first, again = usage(text), usage(text)
    assert [one.key for one in first] == [one.key for one in again]
    assert [one.fingerprint for one in first] == [one.fingerprint for one in again]
    assert first[0].key != first[1].key


def test_a_changed_line_keeps_its_identity_and_changes_its_fingerprint() -> None:
    """That is what makes it the one conflict of the file."""
    before = usage(f"{HEADER}\n,1,2,ann\n,3,4,bob\n")
    after = usage(f"{HEADER}\n,1,2,ann\n,3,5,bob\n")
    assert [one.key for one in before] == [one.key for one in after]
    assert before[0].fingerprint == after[0].fingerprint
    assert before[1].fingerprint != after[1].fingerprint


def test_identity_by_digest_does_not_depend_on_the_place() -> None:
    """A line that moved is the same event, and identical lines are one event."""
    how = mapping(id_from=IdFrom.LINE_DIGEST)
    first = usage(f"{HEADER}\n,1,2,ann\n,3,4,bob\n", how)
    moved = usage(f"{HEADER}\n,9,9,cy\n,1,2,ann\n,1,2,ann\n", how)
    assert moved[1].key == moved[2].key == first[0].key
    assert moved[0].key not in {one.key for one in first}


def test_line_numbers_count_every_line_of_the_file() -> None:
    """Header, blank lines and the lines inside quotes count; the first line names the record."""
    how = mapping({"tokens.input": "n"})
    found = items('n,note\n\n1,"two\nlines"\n2,\n', how)
    assert [number for number, _ in found] == [3, 5]
    assert isinstance(found[0][1], RecordUsage)
    assert found[0][1].event.id == "line-3"


CELL = st.text(alphabet='ab ,"\n', max_size=6)


@given(st.lists(st.lists(CELL, min_size=2, max_size=3), max_size=6))
def test_records_are_what_the_csv_module_wrote(rows: list[list[str]]) -> None:
    """Whatever the cells hold, the records come back cell by cell."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\r\n", quoting=csv.QUOTE_ALL).writerows(rows)
    found = records(file.getvalue().encode())
    assert [split_record(text) for _, text, _ in found] == rows


def test_what_stands_between_quotes_is_never_a_record() -> None:
    """Neither after a record that is too long nor after a quote that is never closed."""
    forged = b"\nforged,1\n"
    long = b'"' + b"x" * 50 + forged + b'y"'
    found = records(b"a,1\n" + long + b",2\nb,3\n", max_bytes=40)
    assert [(number, text) for number, text, bad in found if bad is None] == [
        (1, b"a,1"),
        (4 + 1, b"b,3"),
    ]
    assert [bad.code for _, _, bad in found if bad] == ["line_too_long"]
    grown = records(b'a,1\n"' + b"x\n" * 50 + b'forged,1\n",2\nb,3\n', max_bytes=40)
    assert [text for _, text, bad in grown if bad is None] == [b"a,1", b"b,3"]
    unclosed = records(b'a,1\n"x' + forged + b"b,3\n")
    assert [text for _, text, bad in unclosed if bad is None] == [b"a,1"]
    assert [(number, bad.code) for number, _, bad in unclosed if bad] == [(2, "unclosed_quote")]


def test_a_quote_inside_an_unquoted_cell_opens_nothing() -> None:
    """Only a quote at the start of a cell quotes it (RFC 4180)."""
    assert [text for _, text, _ in records(b'a,5"6\nb,1\n')] == [b'a,5"6', b"b,1"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        (" 12 ", 12),
        ("1.50", Decimal("1.50")),
        ("+3", Decimal(3)),
        ("1e3", Decimal(1000)),
    ],
)
def test_numbers_are_read_exactly_as_written(text: str, value: int | Decimal) -> None:
    """No float is on the way."""
    assert read_number(text, pointer="") == value


@pytest.mark.parametrize(
    "text", ["1,234", "1 234", "1_234", "0x10", "", ".", "1.2.3", "--1", "1'0"]
)
def test_anything_else_is_no_number(text: str) -> None:
    """Thousands separators of any kind are refused."""
    with pytest.raises(InvalidInput) as caught:
        read_number(text, pointer="/n")
    assert (caught.value.code, caught.value.pointer) == ("invalid_quantity", "/n")


@pytest.mark.parametrize(
    ("text", "zone", "form", "expected"),
    [
        ("2023-11-16 18:17:03.9799609", "UTC", TimeFormat.RFC3339, "2023-11-16T18:17:03.979960"),
        ("2023-11-16T18:17:03Z", "Asia/Tokyo", TimeFormat.RFC3339, "2023-11-16T18:17:03"),
        ("2023-11-16T18:17:03.5+05:30", "UTC", TimeFormat.RFC3339, "2023-11-16T12:47:03.500000"),
        ("2023-11-16 18:17:03", "Asia/Tokyo", TimeFormat.RFC3339, "2023-11-16T09:17:03"),
        ("2023-10-29 02:30:00", "Europe/Berlin", TimeFormat.RFC3339, "2023-10-29T00:30:00"),
        ("1700158623.9799609", "UTC", TimeFormat.EPOCH_S, "2023-11-16T18:17:03.979960"),
        ("1700158623979.9609", "UTC", TimeFormat.EPOCH_MS, "2023-11-16T18:17:03.979960"),
    ],
)
def test_times_keep_microseconds_and_cut_the_rest(
    text: str, zone: str, form: TimeFormat, expected: str
) -> None:
    """An offset counts; without one the zone does, and of a repeated hour the earlier."""
    at = read_time(text, form=form, zone=ZoneInfo(zone), pointer="")
    assert from_us(at).isoformat() == expected + "+00:00"


@pytest.mark.parametrize(
    ("text", "zone", "form"),
    [
        ("2023-02-30 00:00:00", "UTC", TimeFormat.RFC3339),
        ("2023-11-16 24:00:00", "UTC", TimeFormat.RFC3339),
        ("2023-11-16", "UTC", TimeFormat.RFC3339),
        ("16/11/2023 18:17", "UTC", TimeFormat.RFC3339),
        ("1700158623", "UTC", TimeFormat.RFC3339),
        ("2023-11-16T18:17:03+05:75", "UTC", TimeFormat.RFC3339),
        ("2023-11-16T18:17:03+99:00", "UTC", TimeFormat.RFC3339),
        ("2023-03-26 02:30:00", "Europe/Berlin", TimeFormat.RFC3339),
        ("2100-01-01T00:00:00Z", "UTC", TimeFormat.RFC3339),
        ("1700158623979", "UTC", TimeFormat.EPOCH_S),
        ("999999999999999999", "UTC", TimeFormat.EPOCH_S),
        ("-1", "UTC", TimeFormat.EPOCH_MS),
        ("2023-11-16T18:17:03Z", "UTC", TimeFormat.EPOCH_S),
    ],
)
def test_what_is_no_instant_is_refused(text: str, zone: str, form: TimeFormat) -> None:
    """Days that are not, clock times that were skipped, and the wrong unit."""
    with pytest.raises(InvalidInput) as caught:
        read_time(text, form=form, zone=ZoneInfo(zone), pointer="/t")
    assert (caught.value.code, caught.value.pointer) == ("invalid_time", "/t")


def test_a_missing_column_is_refused_and_the_columns_are_named() -> None:
    """Before anything is imported."""
    with pytest.raises(InvalidInput, match="'TIMESTAMP', 'Tokens'") as caught:
        items("TIMESTAMP,Tokens\n")
    assert caught.value.code == "unknown_column"
    with pytest.raises(InvalidInput, match="2 columns 'n'"):
        items("n,n\n1,2\n", mapping({"tokens.input": "n"}))
    with pytest.raises(InvalidInput) as caught:
        items("")
    assert caught.value.code == "missing_header"


@pytest.mark.parametrize(
    "pairs",
    [
        ["tokens.input"],
        ["=x"],
        ["tokens.input="],
        ["tokens.inptu=x"],
        ["user=a", "user=b"],
        ["label.=x"],
    ],
)
def test_a_pair_that_means_nothing_is_refused(pairs: list[str]) -> None:
    """A misspelt member is an error, not a column that is left out."""
    with pytest.raises(InvalidInput) as caught:
        parse_pairs(pairs, option="--map")
    assert caught.value.code == "invalid_mapping"


def test_a_column_name_may_hold_an_equals_sign() -> None:
    """The first one parts the pair."""
    assert parse_pairs(["user=a=b"], option="--map") == {"user": "a=b"}


@pytest.mark.parametrize(
    "how",
    [
        CsvMapping(columns={"tokens.input": "n"}, constants={}, tenant="acme", source=""),
        CsvMapping(
            columns={"tokens.input": "n"}, constants={"provider": "x"}, tenant="", source=""
        ),
        CsvMapping(columns={"user": "n"}, constants={"provider": "x"}, tenant="a", source=""),
        CsvMapping(
            columns={"tokens.input": "n", "provider": "p"},
            constants={"provider": "x"},
            tenant="a",
            source="",
        ),
        CsvMapping(
            columns={"tokens.input": "n"},
            constants={"provider": "x", "id": "1"},
            tenant="a",
            source="",
        ),
    ],
)
def test_a_mapping_that_can_make_no_event_is_refused(how: CsvMapping) -> None:
    """No provider, no tenant, no quantity, two sayings, one id for all."""
    with pytest.raises(InvalidInput) as caught:
        check_sources([("a.csv", Format.CSV)], how)
    assert caught.value.code == "invalid_mapping"


def test_files_whose_line_numbers_would_collide_are_refused() -> None:
    """Line 2 of one file is not line 2 of another."""
    both = [("a/x.csv", Format.CSV), ("b/y.csv", Format.CSV)]
    check_sources(both, mapping())
    check_sources(both, mapping(id_from=IdFrom.LINE_DIGEST, source="gw"))
    for files, how in (
        (both, mapping(source="gw")),
        ([("a/x.csv", Format.CSV), ("b/x.csv", Format.CSV)], mapping()),
    ):
        with pytest.raises(InvalidInput) as caught:
            check_sources(files, how)
        assert caught.value.code == "ambiguous_source"
    with pytest.raises(InvalidInput) as caught:
        check_sources([("-", Format.CSV)], mapping())
    assert caught.value.code == "missing_source"


def test_the_format_is_told_by_option_then_extension() -> None:
    """What contradicts itself is refused."""
    assert choose_format("x.CSV.gz", given=None, provider="") is Format.CSV
    assert choose_format("x.gz", given=None, provider="") is Format.NDJSON
    assert choose_format("x.csv", given=Format.NDJSON, provider="") is Format.NDJSON
    assert choose_format("-", given=None, provider="auto") is Format.RESPONSES
    for name, form, provider in (
        ("x.csv", None, "openai"),
        ("x", Format.NDJSON, "openai"),
        ("x", Format.RESPONSES, ""),
    ):
        with pytest.raises(InvalidInput) as caught:
            choose_format(name, given=form, provider=provider)
        assert caught.value.code == "invalid_format"
    with pytest.raises(InvalidInput) as caught:
        check_sources([("x.ndjson", Format.NDJSON)], mapping())
    assert caught.value.code == "invalid_format"
