"""Queries over budgets, holds, credit and the decisions in the log; see `ProtectionReads`.

Decisions and steps are in the log alone: they are read from its end backwards, in pieces, until
enough of them were found.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow

from adapters.postgres import queries
from adapters.postgres.database import Database
from adapters.postgres.decision_rows import decision_of, decision_row, step_row
from adapters.postgres.protection_rows import counter_of, grant_of
from adapters.postgres.readmodels import PostgresReads, tenant_row
from ledger.application.ports import TenantRow
from ledger.application.protection_reads import (
    DECISIONS,
    HOLD_KINDS,
    BudgetStanding,
    CreditStanding,
    DecisionRow,
    DueTenant,
    HoldPlace,
    HoldRow,
    ProtectionReads,
    StepRow,
    counters_wanted,
    standing_of,
)
from ledger.domain.budgets import Budget, BudgetTerms, Counter
from ledger.domain.entitlements import Entitlements, entitlements_of
from ledger.domain.entries import Entry, decode_commit, stream_of
from ledger.domain.errors import InvalidInput, NotFound
from ledger.domain.holds import EXPIRED, OPEN, STATUSES, HoldState, hold_digest, hold_of
from ledger.domain.ledger import Ref
from ledger.domain.money import AMOUNT_DECIMALS, to_scaled
from ledger.domain.periods import to_us
from ledger.domain.protection_entries import BudgetStepReached, HoldAuthorized, HoldRefused
from ledger.domain.shapes import CompiledShape, shape_from_body

_PIECE = 200
"""Commits, or holds, that are read at once."""
_NEWEST = 2**63 - 1
_Snapshot = Connection[TupleRow]


class PostgresProtectionReads(PostgresReads):
    """Answers queries about cost protection; thread-safe; closed like `PostgresReads`.

    Args:
        database: migrated.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._protection = queries.load("protection_reads")

    # -- budgets ----------------------------------------------------------------------

    def budgets(
        self, *, tenant: str | None = None, ended: bool = False
    ) -> Sequence[BudgetStanding]:
        """Return budgets with their current window, by tenant and name."""
        return self._ask(lambda snapshot: self._budgets(snapshot, tenant, ended))

    def budget(self, *, tenant: str, name: str) -> BudgetStanding:
        """Return a budget that is not ended."""
        found = self.budgets(tenant=tenant)
        for one in found:
            if one.terms.name == name:
                return one
        there = ", ".join(one.terms.name for one in found) or "none"
        raise NotFound(
            f"tenant {tenant!r} has no budget {name!r}; there are: {there}", code="unknown_budget"
        )

    def capped(self, tenant: str) -> bool:
        """Tell whether a cap was ever set for a tenant, or waived in as many words."""

        def ask(snapshot: _Snapshot) -> bool:
            head = self._head(snapshot, self._tenant(snapshot, tenant))
            return head is not None and bool(head[0])

        return self._ask(ask)

    def _budgets(
        self, snapshot: _Snapshot, tenant: str | None, ended: bool
    ) -> list[BudgetStanding]:
        tenants, only = self._tenants_of(snapshot, tenant)
        rows = snapshot.execute(self._protection["budgets"], {"tenant_id": only}).fetchall()
        found = [(row[0], Budget(row[1], row[3].encode(), row[2])) for row in rows]
        found = [one for one in found if ended or one[1].terms.state != "ended"]
        self._know(snapshot, tenants, {tenant_id for tenant_id, _ in found})
        now = self._now(snapshot)
        asked = [
            (tenant_id, budget.number, start)
            for tenant_id, budget in found
            for start in counters_wanted(tenants[tenant_id], budget.terms, now)
        ]
        counters: dict[tuple[int, int], dict[int, Counter]] = {}
        for row in snapshot.execute(
            self._protection["counters"],
            {
                "tenants": [one[0] for one in asked],
                "budgets": [one[1] for one in asked],
                "starts": [one[2] for one in asked],
            },
        ):
            counters.setdefault((row[0], row[1]), {})[row[2]] = counter_of(row[3:])
        standings = [
            standing_of(
                tenants[tenant_id], budget, counters.get((tenant_id, budget.number), {}), now
            )
            for tenant_id, budget in found
        ]
        standings.sort(key=lambda one: (one.tenant.tenant, one.terms.name, one.number))
        return standings

    # -- holds ------------------------------------------------------------------------

    def holds(
        self,
        *,
        tenant: str | None = None,
        only: str | None = None,
        after: HoldPlace | None = None,
        limit: int,
    ) -> Sequence[HoldRow]:
        """Return holds, the one that expires or expired last first.

        Raises:
            NotFound: ``unknown_tenant``.
            InvalidInput: ``invalid_filter``.
        """
        if only is not None and only not in HOLD_KINDS:
            raise InvalidInput(
                f"holds cannot be listed by {only!r}; give one of {', '.join(HOLD_KINDS)}",
                code="invalid_filter",
            )
        statuses = {"open": [STATUSES.index(OPEN)], "expired": [STATUSES.index(EXPIRED)]}

        def ask(snapshot: _Snapshot) -> list[HoldRow]:
            tenants, number = self._tenants_of(snapshot, tenant)
            now = self._now(snapshot)
            found: list[tuple[int, HoldState]] = []
            with snapshot.cursor(name="tallybook_holds", binary=True) as cursor:
                cursor.itersize = _PIECE
                cursor.execute(
                    self._protection["holds"],
                    {
                        "tenant_id": number,
                        "statuses": statuses.get(only or ""),
                        "due": only == "expired",
                        "now": now,
                        "last": None if after is None else after[0],
                        "last_key": None if after is None else UUID(bytes=after[1]),
                    },
                )
                for tenant_id, body in cursor:
                    hold = hold_of(bytes(body))
                    if (only == "overrun" and not hold.overrun) or (
                        only == "open" and hold.expires_at <= now
                    ):
                        continue
                    found.append((tenant_id, hold))
                    if len(found) >= limit:
                        break
            return self._hold_rows(snapshot, tenants, found, now)

        return self._ask(ask)

    def hold(self, id: str, *, tenant: str) -> HoldRow:
        """Return a hold by its id."""

        def ask(snapshot: _Snapshot) -> HoldRow:
            tenants, number = self._tenants_of(snapshot, tenant)
            row = snapshot.execute(
                self._protection["hold"],
                {"tenant_id": number, "key": UUID(bytes=hold_digest(id))},
            ).fetchone()
            if row is None:
                raise NotFound(f"tenant {tenant!r} has no hold {id!r}", code="hold_not_found")
            found = [(row[0], hold_of(bytes(row[1])))]
            return self._hold_rows(snapshot, tenants, found, self._now(snapshot))[0]

        return self._ask(ask)

    def _hold_rows(
        self,
        snapshot: _Snapshot,
        tenants: dict[int, TenantRow],
        found: Sequence[tuple[int, HoldState]],
        now: int,
    ) -> list[HoldRow]:
        wanted: dict[int, set[int]] = {}
        for tenant_id, hold in found:
            wanted.setdefault(tenant_id, set()).add(hold.shape)
        self._know(snapshot, tenants, wanted.keys())
        shapes = {
            (tenant_id, number): shape
            for tenant_id, numbers in wanted.items()
            for number, shape in self._shapes(snapshot, tenant_id, numbers).items()
        }
        return [
            HoldRow(tenants[tenant_id], hold, shapes.get((tenant_id, hold.shape)), now)
            for tenant_id, hold in found
        ]

    def due(self) -> Sequence[DueTenant]:
        """Return the tenants whom an expiry may wait for, by name."""
        return self._ask(
            lambda snapshot: [
                DueTenant(*row)
                for row in snapshot.execute(self._protection["due"], {"now": self._now(snapshot)})
            ]
        )

    # -- the log ----------------------------------------------------------------------

    def decisions(
        self,
        *,
        tenant: str,
        decision: str | None = None,
        hold: str | None = None,
        since: int | None = None,
        before: Ref | None = None,
        limit: int,
    ) -> Sequence[DecisionRow]:
        """Return the kept answers to authorizations, newest first.

        Raises:
            NotFound: ``unknown_tenant``.
            InvalidInput: ``invalid_decision``.
        """
        return self.decisions_scanned(
            tenant=tenant,
            decision=decision,
            hold=hold,
            since=since,
            before=before,
            limit=limit,
            most=None,
        )[0]

    def decisions_scanned(
        self,
        *,
        tenant: str,
        decision: str | None = None,
        hold: str | None = None,
        since: int | None = None,
        before: Ref | None = None,
        limit: int,
        most: int | None,
    ) -> tuple[Sequence[DecisionRow], Ref | None]:
        """Return those of some commits, and where the look stopped; see `ProtectionReads`."""
        if decision is not None and decision not in DECISIONS:
            raise InvalidInput(
                f"{decision!r} is no decision; give one of {', '.join(DECISIONS)}",
                code="invalid_decision",
            )

        def wanted(entry: Entry) -> bool:
            return (
                isinstance(entry, HoldAuthorized | HoldRefused)
                and (hold is None or entry.id == hold)
                and (decision is None or decision_of(entry) == decision)
            )

        def ask(snapshot: _Snapshot) -> tuple[list[DecisionRow], Ref | None]:
            row = self._tenant(snapshot, tenant)
            found, stopped = self._entries(
                snapshot, row, wanted, hold or "", since, before, limit, most
            )
            answers = [
                (version, index, entry)
                for version, index, entry in found
                if isinstance(entry, HoldAuthorized | HoldRefused)
            ]
            shapes = self._shapes(snapshot, row.tenant_id, {one.shape for _, _, one in answers})
            rows = [
                decision_row(row, version, index, entry, shapes[entry.shape])
                for version, index, entry in answers
            ]
            return rows, stopped

        return self._ask(ask)

    def steps(
        self,
        *,
        tenant: str,
        budget: str | None = None,
        since: int | None = None,
        before: Ref | None = None,
        limit: int,
    ) -> Sequence[StepRow]:
        """Return the steps that fired, newest first."""

        def ask(snapshot: _Snapshot) -> list[StepRow]:
            row = self._tenant(snapshot, tenant)
            rows = snapshot.execute(
                self._protection["budgets"], {"tenant_id": row.tenant_id}
            ).fetchall()
            terms: dict[int, BudgetTerms] = {
                one[1]: Budget(one[1], one[3].encode(), one[2]).terms for one in rows
            }

            def wanted(entry: Entry) -> bool:
                return isinstance(entry, BudgetStepReached) and (
                    budget is None or terms[entry.budget].name == budget
                )

            found, _ = self._entries(snapshot, row, wanted, "", since, before, limit)
            return [
                step_row(row, version, index, entry, terms[entry.budget])
                for version, index, entry in found
                if isinstance(entry, BudgetStepReached)
            ]

        return self._ask(ask)

    def _entries(
        self,
        snapshot: _Snapshot,
        tenant: TenantRow,
        wanted: Callable[[Entry], bool],
        having: str,
        since: int | None,
        before: Ref | None,
        limit: int,
        most: int | None = None,
    ) -> tuple[list[tuple[int, int, Entry]], Ref | None]:
        """Return entries with their places, newest first, reading commits backwards in pieces.

        Args:
            snapshot: to read from.
            tenant: whose ledger.
            wanted: which entries.
            having: commits without these characters are left out by the server.
            since: stop at commits recorded before.
            before: start below this place; None at the end.
            limit: most entries.
            most: most commits that are looked at; None for all.

        Returns:
            The entries, and below which place there may be more; None where there are none.
        """
        found: list[tuple[int, int, Entry]] = []
        below = _NEWEST if before is None else before[0] + 1
        seen = 0
        for version, state in self._backwards(snapshot, tenant, having, below):
            if seen == most:
                return found, (version + 1, 0)
            seen += 1
            commit = decode_commit(state)
            if since is not None and commit.recorded_at < since:
                break
            for index in range(len(commit.entries) - 1, -1, -1):
                entry = commit.entries[index]
                if before is not None and (version, index) >= before:
                    continue
                if wanted(entry):
                    found.append((version, index, entry))
                    if len(found) >= limit:
                        return found, (version, index)
        return found, None

    def _backwards(
        self, snapshot: _Snapshot, tenant: TenantRow, having: str, before: int
    ) -> Iterator[tuple[int, bytes]]:
        while True:
            rows = snapshot.execute(
                self._protection["commits_before"],
                {
                    "stream": stream_of(tenant.tenant_id),
                    "before": before,
                    "bytes": having.encode() or None,
                    "limit": _PIECE,
                },
                binary=True,
            ).fetchall()
            for version, state in rows:
                yield version, bytes(state)
            if len(rows) < _PIECE:
                return
            before = rows[-1][0]

    # -- credit and entitlements ------------------------------------------------------

    def credit(self, tenant: str) -> CreditStanding:
        """Return a tenant's prepaid credit."""

        def ask(snapshot: _Snapshot) -> CreditStanding:
            row = self._tenant(snapshot, tenant)
            head = self._head(snapshot, row)
            grants = [
                grant_of(one[1:])
                for one in snapshot.execute(
                    self._protection["grants"], {"tenant_id": row.tenant_id}
                )
            ]
            required, owed = (head[1], to_scaled(head[3], AMOUNT_DECIMALS)) if head else (False, 0)
            return CreditStanding(row, required, owed, grants, self._now(snapshot))

        return self._ask(ask)

    def entitlements(self, tenant: str) -> Entitlements | None:
        """Return what a tenant may use; None where nothing was ever said."""

        def ask(snapshot: _Snapshot) -> Entitlements | None:
            head = self._head(snapshot, self._tenant(snapshot, tenant))
            return entitlements_of(head[4].encode()) if head is not None and head[4] else None

        return self._ask(ask)

    # -- parts ------------------------------------------------------------------------

    def _head(self, snapshot: _Snapshot, tenant: TenantRow) -> TupleRow | None:
        return snapshot.execute(
            self._protection["head"], {"tenant_id": tenant.tenant_id}
        ).fetchone()

    def _now(self, snapshot: _Snapshot) -> int:
        [(now,)] = snapshot.execute(self._protection["now"]).fetchall()
        return to_us(now)

    def _tenants_of(
        self, snapshot: _Snapshot, tenant: str | None
    ) -> tuple[dict[int, TenantRow], int | None]:
        """Return the tenant that is asked about and its number; nobody and None for all."""
        if tenant is None:
            return {}, None
        row = self._tenant(snapshot, tenant)
        return {row.tenant_id: row}, row.tenant_id

    def _know(
        self, snapshot: _Snapshot, tenants: dict[int, TenantRow], wanted: Collection[int]
    ) -> None:
        """Load those of the wanted tenants that are not there yet."""
        missing = [number for number in wanted if number not in tenants]
        if missing:
            rows = snapshot.execute(self._protection["tenants"], {"ids": missing})
            tenants.update((row.tenant_id, row) for row in map(tenant_row, rows))

    def _shapes(
        self, snapshot: _Snapshot, tenant_id: int, numbers: Collection[int]
    ) -> Mapping[int, CompiledShape]:
        rows = snapshot.execute(
            self._protection["shapes"], {"tenant_id": tenant_id, "numbers": sorted(numbers)}
        )
        return {number: shape_from_body(bytes(body)) for number, body in rows}


def _check_protocol(reads: PostgresProtectionReads) -> ProtectionReads:
    return reads
