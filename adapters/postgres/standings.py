"""Where many tenants stand, in a few set-wise statements that see these tenants and no others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from psycopg import Connection, Cursor
from psycopg.rows import TupleRow

from adapters.postgres import arrays, queries
from adapters.postgres.database import Database
from adapters.postgres.protection_rows import counter_of, grant_of
from adapters.postgres.readmodels import tenant_row
from adapters.postgres.rows import balance_of
from adapters.postgres.snapshots import Snapshots
from ledger.application.ports import TenantRow
from ledger.application.protection_reads import CreditStanding, counters_wanted
from ledger.application.standing import (
    Head,
    Standing,
    StandingReads,
    bounds_everything,
    make_standing,
)
from ledger.domain.balance import Balance
from ledger.domain.budgets import Budget, Counter
from ledger.domain.credits import Grant
from ledger.domain.holds import HoldState, hold_of
from ledger.domain.money import AMOUNT_DECIMALS, to_scaled

_V = TypeVar("_V")
_Rows = dict[int, list[_V]]


class PostgresStandings:
    """Answers where tenants stand; for one thread at a time.

    Args:
        database: migrated.
    """

    def __init__(self, database: Database) -> None:
        self._sql = queries.load("standings")
        self._snapshots = Snapshots(
            database, isolated=True, statements={"heads": self._sql["heads"]}
        )

    def heads(self, tenants: Sequence[str]) -> Mapping[str, Head]:
        """Return how far ledgers are, with one statement."""
        rows = self._snapshots.ask_prepared(
            "heads", {"tenants": arrays.texts(tenants)}, tenants=tenants
        )
        return {row[0]: Head(*row[1:]) for row in rows}

    def standings(self, tenants: Sequence[str]) -> Mapping[str, Standing]:
        """Return where tenants stand, in one transaction on one snapshot."""
        names = list(tenants)
        return self._snapshots.ask(lambda snapshot: self._standings(snapshot, names), tenants=names)

    def close(self) -> None:
        """Close the connection."""
        self._snapshots.close()

    # -- parts ------------------------------------------------------------------------

    def _standings(self, connection: Connection[TupleRow], names: list[str]) -> dict[str, Standing]:
        found = connection.execute(self._sql["tenants"], {"tenants": names}).fetchall()
        tenants = {row[0]: tenant_row(row[:10]) for row in found}
        asked = {"ids": list(tenants)}
        with connection.pipeline():
            now_of = connection.execute(self._sql["now"])
            balances = connection.execute(self._sql["balances"], asked)
            holds = connection.execute(self._sql["open_holds"], asked, binary=True)
            budgets = connection.execute(self._sql["budgets"], asked)
            grants = connection.execute(self._sql["grants"], asked)
        [(now,)] = now_of.fetchall()
        caps = _by_tenant(budgets, lambda row: Budget(row[1], row[3].encode(), row[2]))
        caps = {number: list(filter(bounds_everything, found)) for number, found in caps.items()}
        counters = self._counters(connection, tenants, caps, now)
        months: _Rows[Balance] = _by_tenant(balances, lambda row: balance_of(row[1:]))
        opened: _Rows[HoldState] = _by_tenant(holds, lambda row: hold_of(bytes(row[1])))
        given: _Rows[Grant] = _by_tenant(grants, lambda row: grant_of(row[1:]))
        standings = {}
        for row in found:
            number, tenant = row[0], tenants[row[0]]
            credit = CreditStanding(
                tenant=tenant,
                required=bool(row[10]),
                owed=0 if row[11] is None else to_scaled(row[11], AMOUNT_DECIMALS),
                grants=given.get(number, []),
                now=now,
            )
            standings[tenant.tenant] = make_standing(
                tenant=tenant,
                balances=months.get(number, []),
                holds=opened.get(number, []),
                caps=caps.get(number, []),
                counters=counters.get(number, {}),
                credit=credit,
                now=now,
            )
        return standings

    def _counters(
        self,
        connection: Connection[TupleRow],
        tenants: Mapping[int, TenantRow],
        caps: Mapping[int, Sequence[Budget]],
        now: int,
    ) -> dict[int, dict[tuple[int, int], Counter]]:
        asked = [
            (number, cap.number, start)
            for number, found in caps.items()
            for cap in found
            for start in counters_wanted(tenants[number], cap.terms, now)
        ]
        counters: dict[int, dict[tuple[int, int], Counter]] = {}
        if not asked:
            return counters
        ids, budgets, starts = zip(*asked, strict=True)
        rows = connection.execute(
            self._sql["counters"],
            {"tenants": list(ids), "budgets": list(budgets), "starts": list(starts)},
        )
        for row in rows:
            counters.setdefault(row[0], {})[row[1], row[2]] = counter_of(row[3:])
        return counters


def _by_tenant(rows: Cursor[TupleRow], value: Callable[[TupleRow], _V]) -> dict[int, list[_V]]:
    """Return rows by the tenant's number in their first column, each as ``value`` says."""
    found: dict[int, list[_V]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(value(row))
    return found


def _check_protocol(reads: PostgresStandings) -> StandingReads:
    return reads
