"""Exchanges: many statements in one round trip, answered in order, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from psycopg import Connection

from adapters.postgres import arrays
from adapters.postgres.exchange import Exchange

STATEMENTS = {
    "begin": "BEGIN",
    "commit": "COMMIT",
    "create": "CREATE TEMPORARY TABLE numbers (n int8 PRIMARY KEY) ON COMMIT DROP",
    "insert": "INSERT INTO numbers SELECT * FROM unnest(%(numbers)s)",
    "numbers": "SELECT n FROM numbers ORDER BY n",
    "echo": "SELECT %(number)s::int8 AS again, %(number)s + 1 AS next",
    "types": "SELECT a, b, c, d, e FROM unnest(%(a)s, %(b)s, %(c)s, %(d)s, %(e)s)"
    " AS t (a, b, c, d, e)",
    "nothing": "SELECT NULL::text",
    "broken": "SELECT 1 / (%(number)s - 1)",
    "sizes": "SELECT length(b) FROM unnest(%(bodies)s) AS t (b)",
    "bodies": "SELECT b FROM unnest(%(bodies)s) AS t (b)",
    "sleep": "SELECT pg_sleep(30)",
}


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection[tuple[object, ...]]]:
    """Give a connection of its own."""
    with closing(psycopg.connect(database_url, autocommit=True)) as made:
        yield made


def test_statements_are_answered_in_their_order(connection: Connection[tuple[object, ...]]) -> None:
    """Each sees what those before it did, and a second exchange uses what was prepared."""
    exchange = Exchange(connection, STATEMENTS)
    for turn in (1, 2):
        exchange.ask("begin")
        exchange.ask("create")
        exchange.ask("insert", {"numbers": arrays.int8s([turn, -turn])})
        first = exchange.ask("numbers")
        exchange.ask("insert", {"numbers": arrays.int8s([5])})
        second = exchange.ask("numbers")
        exchange.ask("commit")
        exchange.run()
        assert first.rows == [(-turn,), (turn,)]
        assert second.rows == [(-turn,), (turn,), (5,)]
    assert connection.execute("SELECT 1").fetchall() == [(1,)]


def test_a_place_may_be_used_twice(connection: Connection[tuple[object, ...]]) -> None:
    """One value goes to every place of its name."""
    exchange = Exchange(connection, STATEMENTS)
    answer = exchange.ask("echo", {"number": arrays.int8(2**62)})
    exchange.run()
    assert answer.rows == [(2**62, 2**62 + 1)]


def test_values_come_back_as_they_were_sent(connection: Connection[tuple[object, ...]]) -> None:
    """Integers of both sizes, text, bytes and digests; NULL is None."""
    exchange = Exchange(connection, STATEMENTS)
    rows = [
        (0, 0, "", b"", bytes(16)),
        (-(2**31), -(2**63), "naïve ☃", b"\0\xff", bytes(range(16))),
        (2**31 - 1, 2**63 - 1, "a\tb", b"x" * 300, b"\xff" * 16),
    ]
    a, b, c, d, e = zip(*rows, strict=True)
    answer = exchange.ask(
        "types",
        {
            "a": arrays.int4s(a),
            "b": arrays.int8s(b),
            "c": arrays.texts(c),
            "d": arrays.byteas(d),
            "e": arrays.uuids(e),
        },
    )
    nothing = exchange.ask("nothing")
    exchange.run()
    assert answer.rows == rows
    assert nothing.rows == [(None,)]


def test_more_than_the_sockets_hold_goes_both_ways_at_once(
    connection: Connection[tuple[object, ...]],
) -> None:
    """Neither side waits for the other to read first."""
    exchange = Exchange(connection, STATEMENTS)
    bodies = [bytes([number]) * 1_000_000 for number in range(8)]
    answers = [exchange.ask("bodies", {"bodies": arrays.byteas(bodies)}) for _ in range(4)]
    exchange.run()
    for answer in answers:
        assert answer.rows == [(body,) for body in bodies]


def test_a_failed_statement_is_named_and_what_follows_it_is_not_run(
    connection: Connection[tuple[object, ...]], database_url: str
) -> None:
    """The commit behind it does not happen."""
    connection.execute("CREATE TABLE numbers (n int8)")
    exchange = Exchange(connection, STATEMENTS)
    exchange.ask("begin")
    exchange.ask("insert", {"numbers": arrays.int8s([1])})
    exchange.ask("broken", {"number": arrays.int8(1)})
    exchange.ask("commit")
    with pytest.raises(psycopg.errors.DivisionByZero):
        exchange.run()
    connection.close()
    with psycopg.connect(database_url) as other:
        assert other.execute("SELECT n FROM numbers").fetchall() == []


def test_a_backend_that_is_ended_is_an_operational_error(
    connection: Connection[tuple[object, ...]], database_url: str
) -> None:
    """So the batch runs again, over another connection."""
    exchange = Exchange(connection, STATEMENTS)
    exchange.ask("begin")
    exchange.run()
    pid = connection.info.backend_pid
    exchange.ask("sleep")
    with psycopg.connect(database_url, autocommit=True) as other:
        killer = threading.Timer(
            0.3, lambda: other.execute("SELECT pg_terminate_backend(%s)", (pid,))
        )
        killer.start()
        with pytest.raises(psycopg.OperationalError):
            exchange.run()
        killer.join()
