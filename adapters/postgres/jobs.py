"""Runs of jobs in PostgreSQL; a job's lock is an advisory lock of a session."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import msgspec
from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg.sql import SQL

from adapters.postgres import queries
from adapters.postgres.database import Database
from adapters.postgres.kept import KeptConnection
from adapters.postgres.leader import PostgresLeader
from ledger.application.job_ports import JobStanding, JobStore
from ledger.domain.jobs import JobRun, RunState
from ledger.domain.periods import from_us, to_us

KEEP_DAYS = 100
"""How long runs are kept."""
_COLUMNS = SQL("job, period, state, attempt, started_at, ended_at, process, reason, result")


class PostgresJobs:
    """Stores runs of jobs; thread-safe.

    Args:
        database: migrated.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept = KeptConnection(database, purpose="jobs")
        plain = queries.load("jobs")
        self._sql = plain | {
            name: plain[name].format(columns=_COLUMNS)
            for name in ("last", "begin", "standings", "runs")
        }

    def now(self) -> int:
        """Return the database's time."""
        return to_us(self._rows("now", {})[0][0])

    def last(self, job: str, *, upto: int) -> JobRun | None:
        """Return the run of the latest period that is not after one."""
        rows = self._rows("last", {"job": job, "upto": from_us(upto)})
        return _run(rows[0]) if rows else None

    @contextlib.contextmanager
    def lock(self, job: str) -> Iterator[bool]:
        """Take a job's lock; see `JobStore`."""
        with PostgresLeader(self._database, f"job {job}").try_lead() as held:
            yield held is not None

    def begin(self, job: str, period: int, *, attempt: int, by: str) -> JobRun | None:
        """Note that an attempt begins; see `JobStore`."""
        row = {"job": job, "period": from_us(period), "attempt": attempt, "process": by}
        begun: list[TupleRow] = []

        def work(connection: Connection[TupleRow]) -> None:
            begun.clear()
            connection.execute(self._sql["bury"], row)
            connection.execute(self._sql["forget"], {"job": job, "days": KEEP_DAYS})
            begun.extend(connection.execute(self._sql["begin"], row).fetchall())

        self._kept.write(work)
        return _run(begun[0]) if begun else None

    def end(
        self, run: JobRun, state: RunState, *, result: Mapping[str, int], reason: str = ""
    ) -> bool:
        """Note how an attempt ended; see `JobStore`."""
        noted: list[TupleRow] = []
        row = {
            "job": run.job,
            "period": from_us(run.period),
            "attempt": run.attempt,
            "state": state.value,
            "result": msgspec.json.encode(result).decode(),
            "reason": reason,
        }
        self._kept.write(
            lambda connection: noted.extend(connection.execute(self._sql["end"], row).fetchall())
        )
        return bool(noted)

    def standings(self) -> Sequence[JobStanding]:
        """Return what is known of each job that ever ran, by name."""
        return [
            JobStanding(row[0], _run(row), _instant(row[9]), _instant(row[10]))
            for row in self._rows("standings", {})
        ]

    def runs(self, job: str, *, limit: int) -> Sequence[JobRun]:
        """Return a job's runs, the latest period first."""
        return [_run(row) for row in self._rows("runs", {"job": job, "limit": limit})]

    def close(self) -> None:
        """Close the connection."""
        self._kept.close()

    def _rows(self, name: str, parameters: Mapping[str, object]) -> list[TupleRow]:
        return self._kept.read(
            lambda connection: connection.execute(self._sql[name], parameters).fetchall()
        )


def _run(row: TupleRow) -> JobRun:
    return JobRun(
        job=row[0],
        period=to_us(row[1]),
        state=RunState(row[2]),
        attempt=row[3],
        started_at=to_us(row[4]),
        ended_at=_instant(row[5]),
        by=row[6],
        reason=row[7],
        result=row[8],
    )


def _instant(at: datetime | None) -> int | None:
    return None if at is None else to_us(at)


def _check_protocol(store: PostgresJobs) -> JobStore:
    return store
