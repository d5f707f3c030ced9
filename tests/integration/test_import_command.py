"""``tallybook import`` on PostgreSQL: what is good is recorded, what is bad is said."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest

from adapters.cli import import_
from adapters.cli.app import build, run
from adapters.postgres.database import Database
from adapters.providers import detect, normalize
from ledger.application.engine import Ledger
from ledger.application.sequencer import Sequencer
from ledger.application.services import Services
from ledger.domain.catalog import Catalog

Import = Callable[..., tuple[int, dict[str, Any]]]


class NoPrices:
    """A catalog without a price."""

    def load(self) -> Catalog:
        """Return it."""
        return Catalog()


@pytest.fixture
def url(database_url: str) -> str:
    """Name the database shortly."""
    return database_url


@contextmanager
def services(url: str) -> Iterator[Services]:
    """Wire the one use case that an import needs."""
    with Database(url) as database:
        ledger = Ledger(Sequencer(database.store, NoPrices()))
        try:
            yield cast("Services", SimpleNamespace(ledger=ledger))
        finally:
            ledger.close()


def no_services() -> AbstractContextManager[Services]:
    """Fail where no database may be opened."""
    raise AssertionError("the database was opened")


def command(
    opened: Callable[[], AbstractContextManager[Services]],
    monkeypatch: pytest.MonkeyPatch,
    *arguments: str,
) -> int:
    """Run the command as a user does and return its exit code."""
    app = build()
    import_.register(app, opened, normalize, detect)
    monkeypatch.setattr(sys, "argv", ["tallybook", "import", *arguments])
    return run(app)


@pytest.fixture
def importing(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Import:
    """Give what runs an import with --json and returns exit code and document."""

    def run_it(*arguments: str) -> tuple[int, dict[str, Any]]:
        code = command(lambda: services(url), monkeypatch, *arguments, "--json")
        last = capsys.readouterr().out.splitlines()[-1]
        return code, json.loads(last)

    return run_it


def event(id: str, **data: Any) -> bytes:
    """Return one CloudEvent as a line."""
    body = {"provider": "openai", "model": "gpt-4o", "quantities": {"tokens.input": 5}} | data
    envelope = {
        "specversion": "1.0",
        "type": "tallybook.usage.v2",
        "id": id,
        "source": "gw",
        "subject": "acme",
        "time": "2026-10-05T12:00:00Z",
        "data": body,
    }
    return json.dumps(envelope).encode()


def counts(document: dict[str, Any]) -> tuple[int, int, int, int]:
    """Return accepted, duplicate, conflict, rejected."""
    return cast(
        "tuple[int, int, int, int]",
        tuple(document[name] for name in ("accepted", "duplicate", "conflict", "rejected")),
    )


def recorded(url: str) -> int:
    """Return how many events the ledger holds."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT coalesce(sum(events), 0) FROM tallybook.balances"
        ).fetchone()
    assert row is not None
    return int(row[0])


ZOO: list[tuple[bytes, str]] = [
    (b"{oops", "malformed_json"),
    (b"[]", "invalid_event"),
    (b"null", "invalid_event"),
    (b'{"specversion": "1.0"', "malformed_json"),
    (b"\xff\xfe\x00", "invalid_utf8"),
    (b"[" * 300_000, "invalid_event"),
    (event("n").replace(b"5}", b"NaN}"), "malformed_json"),
    (event("i").replace(b"5}", b"Infinity}"), "malformed_json"),
    (event("h").replace(b"5}", b"1e400}"), "invalid_quantity"),
    (event("d").replace(b"5}", b"9" * 5000 + b"}"), "invalid_quantity"),
    (event("e", quantities={}), "no_quantities"),
    (event("neg", quantities={"tokens.input": -1}), "invalid_quantity"),
    (event("t", quantities={"tokens.input": True}), "invalid_quantity"),
    (event("m", quantities={"tokens.inptu": 1}), "unknown_meter"),
    (event("f", quantities={"tokens.input": "0.1234567"}), "too_precise"),
    (event("u", user=5), "invalid_user"),
    (event("x", surprise=1), "unknown_field"),
    (event("c", user="a\x00b"), "invalid_text"),
    (event("l" * 300), "invalid_id"),
    (event("w").replace(b"2026-10-05T12:00:00Z", b"yesterday"), "invalid_time"),
    (event("o").replace(b"2026", b"1826"), "invalid_time"),
    (event("b", raw={"deep": "?"}).replace(b'"?"', b"[" * 900_000), "nested_too_deep"),
    (event("r", raw={"n": 1}).replace(b'"n": 1', b'"n": 1e400'), "invalid_raw"),
    (event("v").replace(b"usage.v2", b"usage.v9"), "unknown_type"),
    (event("long", user="u" * 1_100_000), "line_too_long"),
]


@pytest.mark.parametrize("packed", [False, True])
def test_bad_lines_are_rejected_with_their_codes_and_good_ones_recorded(
    url: str, importing: Import, tmp_path: Path, packed: bool
) -> None:
    """Every animal stands between two good lines, and each of those is recorded."""
    text = b"".join(
        b"%s\r\n\n%s\n" % (event(f"good-{number}"), bad) for number, (bad, _) in enumerate(ZOO)
    ) + event("last")
    file = tmp_path / "zoo.ndjson"
    file.write_bytes(gzip.compress(text) if packed else text)
    rejects = tmp_path / "rejected.ndjson"
    code, document = importing(str(file), "--rejected", str(rejects))
    found = {problem["line"]: problem["code"] for problem in document["problems"]}
    assert found == {3 * number + 3: code for number, (_, code) in enumerate(ZOO)}
    assert counts(document) == (len(ZOO) + 1, 0, 0, len(ZOO))
    assert document["unpriced"] == len(ZOO) + 1
    assert (code, recorded(url)) == (0, len(ZOO) + 1)
    lines = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [line["code"] for line in lines] == [code for _, code in ZOO]
    assert lines[0]["text"] == "{oops"
    assert all(len(line["text"].encode()) <= 200_000 for line in lines)


def test_importing_again_gives_duplicates_and_a_changed_line_a_conflict(
    url: str, importing: Import, tmp_path: Path
) -> None:
    """To resume is to run the same command again."""
    file = tmp_path / "events.ndjson"
    lines = [event(f"e-{number}") for number in range(2500)]
    file.write_bytes(b"\n".join(lines[:1200]))
    assert counts(importing(str(file))[1]) == (1200, 0, 0, 0)
    file.write_bytes(b"\n".join(lines))
    assert counts(importing(str(file))[1]) == (1300, 1200, 0, 0)
    lines[7] = event("e-7", user="somebody-else")
    file.write_bytes(b"\n".join(lines))
    code, document = importing(str(file))
    assert (code, counts(document)) == (0, (0, 2499, 1, 0))
    assert [(found["line"], found["status"]) for found in document["problems"]] == [(8, "conflict")]
    assert recorded(url) == 2500


def test_a_truncated_gzip_records_its_whole_lines_and_fails(
    url: str, importing: Import, tmp_path: Path
) -> None:
    """What could be read is recorded; the exit code says that there was more."""
    text = b"\n".join(event(f"e-{number}", user=f"u{number * 7919}") for number in range(2000))
    packed = gzip.compress(text)
    file = tmp_path / "events.ndjson.gz"
    file.write_bytes(packed[: len(packed) // 2])
    code, document = importing(str(file))
    assert code == 1
    assert not document["complete"]
    assert document["problems"][0]["code"] == "truncated_gzip"
    assert document["rejected"] == 1
    assert 0 < document["accepted"] == recorded(url) == document["problems"][0]["line"] - 1


def test_responses_are_recorded_with_their_quantities(
    url: str, importing: Import, tmp_path: Path
) -> None:
    """Bare responses, envelopes and streams in one file; one bad line among them."""
    chat = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": "gpt-4o",
        "choices": [],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }
    chunk = chat | {"id": "chatcmpl-2", "object": "chat.completion.chunk"}
    lines: list[Any] = [
        chat,
        {"response": chat, "id": "own", "tenant": "birch"},
        [chunk],
        {"response": {}, "id": "bad"},
        {"stream": [chunk], "id": "aborted", "quantities": {"requests": 1}},
    ]
    file = tmp_path / "responses.ndjson"
    file.write_text("\n".join(map(json.dumps, lines)))
    options = ("--provider", "auto", "--tenant", "acme", "--source", "gw")
    code, document = importing(str(file), *options)
    assert (code, counts(document)) == (0, (4, 0, 0, 1))
    assert counts(importing(str(file), *options)[1]) == (0, 4, 0, 1)
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT t.tenant, b.events FROM tallybook.balances b "
            "JOIN tallybook.tenants t USING (tenant_id) ORDER BY 1"
        ).fetchall()
    assert rows == [("acme", 3), ("birch", 1)]


def test_standard_input_is_read(
    url: str, importing: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dash stands for it."""
    stdin = SimpleNamespace(buffer=io.BytesIO(event("one") + b"\n" + event("two")))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert counts(importing("-")[1]) == (2, 0, 0, 0)
    assert recorded(url) == 2


def test_several_files_are_reported_each(importing: Import, tmp_path: Path) -> None:
    """And their sum is what stands on top."""
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(event(name) + b"\n" + event("both"))
    _, document = importing(str(tmp_path / "a"), str(tmp_path / "b"))
    assert [(file["accepted"], file["duplicate"]) for file in document["files"]] == [(2, 0), (1, 1)]
    assert counts(document) == (3, 1, 0, 0)


def test_start_line_leaves_out_what_is_before(importing: Import, tmp_path: Path) -> None:
    """Lines keep their numbers; a CSV file's header is read in any case."""
    file = tmp_path / "t.csv"
    file.write_text("n\n1\n2\nx\n")
    options = ("--tenant", "acme", "--set", "provider=openai", "--map", "tokens.input=n")
    _, document = importing(str(file), *options, "--start-line", "3")
    assert counts(document) == (1, 0, 0, 1)
    assert document["problems"][0]["line"] == 4
    assert counts(importing(str(file), *options)[1]) == (1, 1, 0, 1)


def test_strict_fails_when_something_was_rejected(importing: Import, tmp_path: Path) -> None:
    """The rest is recorded all the same."""
    file = tmp_path / "f"
    file.write_bytes(event("a") + b"\n{")
    assert importing(str(file), "--strict")[0] == 1
    file.write_bytes(event("a"))
    assert importing(str(file), "--strict")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such-file"], "no-such-file cannot be opened"),
        (["good", "no-such-file"], "no-such-file cannot be opened"),
        (["."], "cannot be opened"),
        (["good", "good"], "named twice"),
        (["good", "--tenant", "acme"], "say tenant"),
        (["good", "--rejected", "good"], "would overwrite"),
        (["good", "--map", "user=x"], "are for CSV"),
        (["t.csv"], "needs columns"),
        (
            ["t.csv", "-t", "a", "--set", "provider=x", "--map", "tokens.input=nope"],
            "the columns are 'n', 'user'",
        ),
        (
            [
                "t.csv",
                "-t",
                "a",
                "--set",
                "provider=x",
                "--map",
                "tokens.input=n",
                "--timezone",
                "Mars",
            ],
            "IANA",
        ),
        (["good", "--format", "responses"], "--provider"),
        (["good", "no.csv", "--start-line", "2"], "needs columns"),
    ],
)
def test_wrong_use_ends_with_2_before_a_database_is_opened(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is wrong is said, and nothing was imported."""
    monkeypatch.chdir(tmp_path)
    Path("good").write_bytes(event("a"))
    Path("t.csv").write_text("n,user\n1,ann\n")
    assert command(no_services, monkeypatch, *arguments) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert Path("good").read_bytes() == event("a")


def test_a_dry_run_reports_and_opens_no_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table says what could be read, and each problem has file, line, pointer and code."""
    file = tmp_path / "f"
    file.write_bytes(event("a") + b"\n" + event("b", quantities={"x": 1}) + b"\n")
    monkeypatch.chdir(tmp_path)
    assert command(no_services, monkeypatch, "f", "--dry-run") == 0
    shown = capsys.readouterr()
    assert "readable" in shown.out
    assert "f:2 /data/quantities/x [unknown_meter]" in shown.out
    assert "nothing was stored" in shown.err


def test_an_interrupt_says_what_is_recorded_and_how_to_go_on(
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 130, as shells have it; running again completes the import."""
    data = io.BytesIO(b"\n".join(event(f"e-{number}") for number in range(5000)))

    class Interrupted:
        """Input during which somebody presses Ctrl-C."""

        def read1(self, count: int) -> bytes:
            """Return the next bytes until there is enough."""
            if data.tell() > 600_000:
                raise KeyboardInterrupt
            return data.read(count)

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=Interrupted()))
    assert command(lambda: services(url), monkeypatch, "-") == 130
    said = capsys.readouterr().err
    count = recorded(url)
    assert 0 < count < 5000
    assert f"interrupted: {count:,} items are recorded for certain" in said
    assert f"--start-line {count}" in said
