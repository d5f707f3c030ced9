"""Exchanges: statements that travel together and are answered together, in one round trip.

psycopg's pipeline waits for the socket once a statement. With a dozen small statements a batch
that takes three times the interpreter's time, and at each wait another thread may take the
interpreter. Here statements are prepared once a connection, their parameters are in wire form,
and there is one wait for all of them.

Everything else on the connection goes on through psycopg, between exchanges.
"""

from __future__ import annotations

import re
import select
from collections.abc import Callable, Mapping
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus
from psycopg.pq.abc import PGresult
from psycopg.sql import Composable

from adapters.postgres.arrays import Packed
from adapters.postgres.rows import Row
from ledger.domain.errors import InvariantViolation

Parameters = Mapping[str, Packed]
"""Values by the name of their place; lengths of columns that belong together are equal."""

_PLACE = re.compile(r"%\((\w+)\)s")
_BINARY = 1
_DONE = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK)


def _signed(value: bytes) -> int:
    return int.from_bytes(value, "big", signed=True)


_READERS: dict[int, Callable[[bytes], Any]] = {
    17: bytes,  # bytea
    20: _signed,  # int8
    23: _signed,  # int4
    25: bytes.decode,  # text
    2278: bytes,  # void
    2950: bytes,  # uuid, as its 16 bytes
}
"""What a column's bytes are, by the number of its type."""


class Answer:
    """What a statement returned; there once its exchange ran."""

    __slots__ = ("rows",)

    def __init__(self) -> None:
        self.rows: list[Row] = []


class _Statement:
    """A statement in PostgreSQL's own notation."""

    __slots__ = ("name", "places", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = f"tallybook_{name}".encode()
        self.places = list(dict.fromkeys(_PLACE.findall(text)))
        numbers = {place: f"${number}" for number, place in enumerate(self.places, 1)}
        self.text = _PLACE.sub(lambda found: numbers[found[1]], text).encode()


class Exchange:
    """Sends named statements over a connection, many at once.

    Args:
        connection: used by nobody else while an exchange runs, and closed by the caller after
            any error.
        statements: by name, with places as ``%(name)s``.
    """

    def __init__(
        self, connection: Connection[Row], statements: Mapping[str, str | Composable]
    ) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._texts = statements
        self._prepared: dict[str, _Statement] = {}
        self._asked: list[Answer | None] = []
        self._poll = select.poll()
        self._poll.register(self._pgconn.socket, select.POLLIN)

    def ask(self, name: str, parameters: Parameters | None = None) -> Answer:
        """Add a statement to the exchange; it is sent by `run`, or before if there is much."""
        pgconn = self._pgconn
        if not self._asked:
            pgconn.enter_pipeline_mode()
        values = parameters or {}
        statement = self._prepared.get(name) or self._prepare(name, values)
        data = [values[place].data for place in statement.places]
        pgconn.send_query_prepared(statement.name, data, [_BINARY] * len(data), _BINARY)
        answer = Answer()
        self._asked.append(answer)
        return answer

    def run(self) -> None:
        """Send everything, wait, and fill the answers.

        Raises:
            psycopg.Error: a statement failed, and those after it were not run; or the connection
                broke.
        """
        pgconn = self._pgconn
        asked, self._asked = self._asked, []
        pgconn.pipeline_sync()
        self._send()
        for answer in asked:
            result = self._result()
            if answer is not None:
                _read(result, answer)
            if self._next() is not None:
                raise InvariantViolation("a statement has more than one result")
        self._result()
        pgconn.exit_pipeline_mode()

    def _prepare(self, name: str, values: Parameters) -> _Statement:
        text = self._texts[name]
        if isinstance(text, Composable):
            text = text.as_string(self._connection)
        statement = _Statement(name, text)
        types = [values[place].oid for place in statement.places]
        self._pgconn.send_prepare(statement.name, statement.text, types)
        self._asked.append(None)
        self._prepared[name] = statement
        return statement

    def _send(self) -> None:
        pgconn = self._pgconn
        while pgconn.flush():
            # The server may be waiting for us to read before it reads on.
            self._poll.modify(pgconn.socket, select.POLLIN | select.POLLOUT)
            [(_, event)] = self._poll.poll()
            self._poll.modify(pgconn.socket, select.POLLIN)
            if event & ~select.POLLOUT:
                pgconn.consume_input()

    def _next(self) -> PGresult | None:
        pgconn = self._pgconn
        while pgconn.is_busy():
            self._poll.poll()
            pgconn.consume_input()
        return pgconn.get_result()

    def _result(self) -> PGresult:
        result = self._next()
        if result is None:
            raise InvariantViolation("a statement has no result")
        if result.status in _DONE or result.status == ExecStatus.PIPELINE_SYNC:
            return result
        if self._pgconn.status == ConnStatus.BAD or not result.error_field(
            DiagnosticField.SQLSTATE
        ):
            raise psycopg.OperationalError(result.get_error_message())
        raise error_from_result(result)


def _read(result: PGresult, answer: Answer) -> None:
    if result.ntuples:
        columns = range(result.nfields)
        readers = [_READERS[result.ftype(column)] for column in columns]
        value = result.get_value
        answer.rows = [
            tuple(
                None if (data := value(row, column)) is None else read(data)
                for column, read in zip(columns, readers, strict=True)
            )
            for row in range(result.ntuples)
        ]
