"""Answers to repeated commands, over several processes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from adapters.postgres.database import Database
from adapters.postgres.repeats import PostgresRepeats
from ledger.application.ports import ConnectionLost
from ledger.application.repeats import KeyInUse, KeyReused
from ledger.domain.errors import Unavailable

K = {"owner": "acme", "key": "k", "digest": b"1"}


@pytest.fixture
def both(database_url: str) -> Iterator[tuple[PostgresRepeats, PostgresRepeats]]:
    """Two processes' repeats over one database."""
    databases = [Database(database_url) for _ in range(2)]
    first, second = (PostgresRepeats(database) for database in databases)
    yield first, second
    for one in (first, second):
        one.close()
    for database in databases:
        database.close()


Both = tuple[PostgresRepeats, PostgresRepeats]


def keep(repeats: PostgresRepeats, answer: bytes, **more: object) -> bytes | None:
    """Attempt a command; return the answer that was kept before."""
    with repeats.attempt(**{**K, **more}) as attempt:  # type: ignore[arg-type] # members of K
        if attempt.answer is None:
            attempt.keep(answer)
        return attempt.answer


def cut(database_url: str) -> None:
    """End all connections of repeats."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE '%repeats'"
        )


def test_an_answer_is_kept_for_whoever_repeats_the_command(both: Both) -> None:
    """In any process; another owner and another key are other commands."""
    first, second = both
    assert keep(first, b"one") is None
    assert keep(second, b"two") == b"one"
    assert keep(second, b"two", owner="") is None
    assert keep(second, b"two", key="other") is None
    assert keep(first, b"three") == b"one"


def test_another_command_under_the_key_is_refused(both: Both) -> None:
    """What was kept stays."""
    first, second = both
    keep(first, b"one")
    with pytest.raises(KeyReused):
        keep(second, b"two", digest=b"2")
    assert keep(first, b"two") == b"one"


def test_one_attempt_at_a_time(both: Both) -> None:
    """A second one is told at once, whatever it asks; other keys go on."""
    first, second = both
    with first.attempt(**K) as attempt:
        for digest in (b"1", b"2"):
            with pytest.raises(KeyInUse):
                keep(second, b"two", digest=digest)
        assert keep(second, b"two", key="other") is None
        attempt.keep(b"one")
    assert keep(second, b"two") == b"one"


def test_an_attempt_that_fails_leaves_nothing(both: Both) -> None:
    """The command may be run again, and under the key another one too."""
    first, second = both

    def fail() -> None:
        with first.attempt(**K) as attempt:
            attempt.keep(b"one")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert keep(second, b"two", digest=b"2") is None


def test_an_attempt_whose_process_dies_blocks_nobody(both: Both, database_url: str) -> None:
    """Its lock goes with its connection."""
    first, second = both

    def die() -> None:
        with first.attempt(**K):
            cut(database_url)
            assert keep(second, b"two") is None

    with pytest.raises(ConnectionLost):
        die()
    assert keep(first, b"three") == b"two"


def test_a_command_that_was_begun_is_told_so_under_the_same_name(
    both: Both, database_url: str
) -> None:
    """After the process died, and after nobody knows what the database did; also elsewhere."""
    first, second = both
    seen = []

    def begin(repeats: PostgresRepeats, ending: Callable[[], object]) -> None:
        with repeats.attempt(**K) as attempt:
            seen.append(attempt.command)
            attempt.keep(b"one")
            ending()

    def lose() -> None:
        raise Unavailable("the connection is gone")

    def stop() -> None:
        raise KeyboardInterrupt

    for repeats, ending, error in (
        (first, lambda: cut(database_url), ConnectionLost),
        (second, lose, Unavailable),
        (first, stop, KeyboardInterrupt),
    ):
        with pytest.raises(error):
            begin(repeats, ending)
        with pytest.raises(KeyReused):
            keep(second, b"two", digest=b"2")
    begin(second, lambda: None)
    assert keep(first, b"two") == b"one"
    assert [one.again for one in seen] == [False, True, True, True]
    [name] = {one.name for one in seen}
    assert re.fullmatch("[0-9a-f]{16}", name)


def test_a_key_that_is_free_again_names_another_command(both: Both) -> None:
    """Refused, it was not begun: what comes next under the key, the same too, is new."""
    first, _ = both
    seen = []

    def refuse() -> None:
        with first.attempt(**K) as attempt:
            seen.append(attempt.command)
            raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            refuse()
    for key in ("k", "l"):
        with first.attempt(**{**K, "key": key}) as attempt:
            seen.append(attempt.command)
    assert len({one.name for one in seen}) == 4
    assert not any(one.again for one in seen)


def test_what_another_process_answered_meanwhile_is_the_answer(both: Both) -> None:
    """Between the claim and the attempt somebody else may do it all."""
    first, second = both

    def late(connection: Any, asked: Any, *, again: bool) -> Any:
        assert keep(second, b"two") is None
        return type(first)._begin(first, connection, asked, again=again)

    first._begin = late  # type: ignore[method-assign] # somebody is quicker
    assert keep(first, b"one") == b"two"


def test_a_kept_connection_that_died_is_opened_again(both: Both, database_url: str) -> None:
    """Between two attempts nothing hangs on it."""
    first, _ = both
    keep(first, b"one")
    cut(database_url)
    assert keep(first, b"two") == b"one"


def test_answers_are_kept_for_a_day_and_then_forgotten(both: Both, database_url: str) -> None:
    """The next answer that is kept takes old ones along."""
    first, _ = both
    for age, key in (("23 hours", "young"), ("26 hours", "old")):
        keep(first, b"one", key=key)
        with psycopg.connect(database_url, options="-c search_path=tallybook") as connection:
            connection.execute(
                "UPDATE repeats SET at = at - %s::interval WHERE key = %s", (age, key)
            )
    keep(first, b"one", key="new")
    assert keep(first, b"two", key="young") == b"one"
    assert keep(first, b"two", key="old") is None
