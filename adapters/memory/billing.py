"""Billing in memory: dictionaries for the tables, rollups folded from the store's log."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from datetime import date, datetime
from decimal import Decimal

from adapters.memory.store import MemoryStore
from ledger.application.billing_ports import (
    AccountChanged,
    AccountSave,
    BillingStore,
    InvoiceFilter,
    InvoiceRow,
    UsageQuestion,
    UsageSnapshot,
)
from ledger.domain.billing_account import AccountCommit, BillingAccount, billing_stream
from ledger.domain.billing_drafts import Cut, Place
from ledger.domain.billing_rating import UsageRow
from ledger.domain.entries import ShapeDefined, commit_digest, decode_commit, stream_of
from ledger.domain.errors import InvariantViolation, NotFound
from ledger.domain.meters import QUANTITY_DECIMALS
from ledger.domain.money import AMOUNT_DECIMALS, from_scaled
from ledger.domain.shapes import shape_from_body
from ledger.projections import billing_daily
from ledger.projections.usage_daily import Plan, TenantView


class MemoryBilling:
    """Keeps billing beside a store's ledgers; thread-safe.

    Args:
        store: whose usage is billed.
        clock: returns the time.
    """

    def __init__(self, store: MemoryStore, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.RLock()
        self._accounts: dict[int, BillingAccount] = {}
        self._commits: dict[int, list[AccountCommit]] = {}
        self._invoices: dict[tuple[int, str], InvoiceRow] = {}
        self._series: dict[str, int] = {}
        self._only: str | None = None

    def for_tenant(self, tenant: str) -> MemoryBilling:
        """Return a view of one tenant's rows alone."""
        view = copy(self)
        view._only = tenant
        return view

    def now(self) -> datetime:
        """Return the clock's time."""
        return self._clock()

    def place(self, tenant: str) -> Place:
        """Return a tenant."""
        for place in self.places(after=0, limit=1_000_000):
            if place.tenant == tenant:
                return place
        raise NotFound(f"there is no tenant {tenant[:64]!r}", code="unknown_tenant")

    def places(self, *, after: int, limit: int) -> Sequence[Place]:
        """Return tenants by number."""
        rows = sorted(self._store.tenants(), key=lambda row: row.tenant_id)
        found = [Place(row.tenant_id, row.tenant, row.currency, row.timezone) for row in rows]
        return [
            place
            for place in found
            if place.tenant_id > after and self._only in (None, place.tenant)
        ][:limit]

    def _sees(self, tenant_id: int) -> bool:
        everyone = self._only is None
        return everyone or any(one.tenant_id == tenant_id for one in self.places(after=0, limit=1))

    def accounts(self, tenants: Collection[int]) -> Mapping[int, BillingAccount]:
        """Return accounts."""
        with self._lock:
            return {
                one: self._accounts.get(one, BillingAccount())
                if self._sees(one)
                else BillingAccount()
                for one in tenants
            }

    def history(self, tenant_id: int) -> Iterator[AccountCommit]:
        """Yield the commits of an account."""
        yield from tuple(self._commits.get(tenant_id, ()))

    def save(self, saves: Sequence[AccountSave]) -> None:
        """Write all or nothing; see `BillingStore`."""
        if self._only is not None:
            raise InvariantViolation(f"the view of {self._only} saves nothing")
        with self._lock:
            for one in saves:
                known = self._accounts.get(one.tenant_id, BillingAccount())
                if known.version != one.account.version - 1:
                    raise AccountChanged(f"account {one.tenant_id} changed meanwhile")
            for one in saves:
                self._accounts[one.tenant_id] = one.account
                self._commits.setdefault(one.tenant_id, []).append(one.commit)
                # Writers learn of it, as they do where accounts are in the same log.
                self._store.append(stream=billing_stream(one.tenant_id))
                for id in one.dropped:
                    self._invoices.pop((one.tenant_id, id), None)
                for row in one.put:
                    self._invoices[row.tenant_id, row.id] = row

    def save_numbered(
        self,
        wanted: Mapping[str, int],
        make: Callable[[Mapping[str, int]], Sequence[AccountSave]],
    ) -> None:
        """Save what needs numbers; see `BillingStore`."""
        with self._lock:
            firsts = {series: self._series.get(series, 0) + 1 for series in wanted}
            self.save(make(firsts))
            for series, count in wanted.items():
                self._series[series] = self._series.get(series, 0) + count

    def last_numbers(self) -> Mapping[str, int]:
        """Return the last number of each series."""
        return dict(self._series)

    def numbers(self, series: str) -> Sequence[str]:
        """Return the numbers of a series."""
        rows = self._invoices.values()
        return sorted(row.number for row in rows if row.series == series and row.number)

    @contextmanager
    def snapshot(self) -> Iterator[UsageSnapshot]:
        """Fold the log as it is now."""
        yield _Snapshot(self._store)

    def invoice(self, tenant_id: int, id: str) -> InvoiceRow | None:
        """Return an invoice or credit note."""
        return next(iter(self._named([(tenant_id, id)])), None)

    def invoices_at(
        self, places: Collection[tuple[int, str]]
    ) -> Mapping[tuple[int, str], InvoiceRow]:
        """Return those invoices that exist."""
        return {(row.tenant_id, row.id): row for row in self._named(list(places))}

    def invoices(self, asked: InvoiceFilter) -> Sequence[InvoiceRow]:
        """Return invoices by tenant number and id."""
        keys = [
            key
            for key, row in sorted(self._invoices.items())
            if asked.tenant_id in (None, row.tenant_id)
            and asked.status in (None, row.status)
            and asked.kind in (None, row.kind)
            and asked.cites in (None, row.cites)
            and key > (asked.after or (0, ""))
        ]
        return self._named(keys[: asked.limit])

    def covering(self, tenant_id: int, *, first_day: date, after_day: date) -> Sequence[InvoiceRow]:
        """Return invoices whose lines may be for days of a range."""
        keys = [
            key
            for key, row in sorted(self._invoices.items())
            if row.tenant_id == tenant_id
            and row.kind == "invoice"
            and row.since_day < after_day
            and row.after_day > first_day
        ]
        return self._named(keys)

    def _named(self, keys: Sequence[tuple[int, str]]) -> list[InvoiceRow]:
        names = {place.tenant_id: place.tenant for place in self.places(after=0, limit=1_000_000)}
        found = []
        for key in keys:
            row = self._invoices.get(key)
            if row is not None and self._sees(row.tenant_id):
                members = {name: getattr(row, name) for name in row.__struct_fields__}
                found.append(InvoiceRow(**{**members, "tenant": names[row.tenant_id]}))
        return found


class _Snapshot:
    """Rollups folded from the whole log; ``changed`` is each row's last commit."""

    def __init__(self, store: MemoryStore) -> None:
        self._position = 0
        self._heads: dict[int, tuple[int, bytes]] = {}
        self._rows: dict[billing_daily.BillingKey, list[int]] = {}
        self._changed: dict[tuple[int, str], int] = {}
        views = {row.tenant_id: TenantView(row.timezone) for row in store.tenants()}
        for one in store.commits():
            commit = decode_commit(one.state)
            plans = views[one.tenant_id].plans
            for entry in commit.entries:
                if isinstance(entry, ShapeDefined):
                    plans[entry.number] = Plan(shape_from_body(entry.body))
            digest = commit_digest(stream_of(one.tenant_id), one.version, one.state)
            self._heads[one.tenant_id] = (one.version, digest)
            self._position = one.position
            for key, numbers in billing_daily.fold([(one.tenant_id, commit)], views).items():
                row = self._rows.setdefault(key, [0, 0, 0, 0])
                self._rows[key] = [a + b for a, b in zip(row, numbers, strict=True)]
                self._changed[key[0], key[1]] = one.position

    def cuts(self, tenants: Collection[int]) -> Mapping[int, Cut]:
        """Return up to where the log goes."""
        none = (0, b"")
        return {one: Cut(self._position, *self._heads.get(one, none)) for one in tenants}

    def first_days(self, tenants: Collection[int]) -> Mapping[int, date]:
        """Return the earliest day with usage."""
        found: dict[int, date] = {}
        for tenant_id, day in self._changed:
            first = date.fromisoformat(day)
            if tenant_id in tenants:
                found[tenant_id] = min(first, found.get(tenant_id, first))
        return found

    def rows(self, asked: Sequence[UsageQuestion]) -> Sequence[Sequence[UsageRow]]:
        """Return rows by question."""
        answers = []
        for tenant_id, first, after, daily in asked:
            sums: dict[billing_daily.BillingKey, list[int]] = {}
            for key, numbers in self._rows.items():
                if key[0] == tenant_id and first <= date.fromisoformat(key[1]) < after:
                    group = key if daily else (key[0], first.isoformat(), *key[2:])
                    row = sums.setdefault(group, [0, 0, 0, 0])
                    sums[group] = [a + b for a, b in zip(row, numbers, strict=True)]
            answers.append([_usage_row(key, numbers) for key, numbers in sorted(sums.items())])
        return answers

    def changed(self, asked: Sequence[tuple[int, date, int]]) -> Mapping[int, Sequence[date]]:
        """Return changed days."""
        found: dict[int, list[date]] = {}
        for tenant_id, before, position in asked:
            for (owner, day), changed in sorted(self._changed.items()):
                on = date.fromisoformat(day)
                if owner == tenant_id and on < before and changed > position:
                    found.setdefault(tenant_id, []).append(on)
        return found


def _usage_row(key: billing_daily.BillingKey, numbers: Sequence[int]) -> UsageRow:
    _, day, provider, model, meter, byok, platform, version, rate = key
    quantity, charge, unpriced, credit = numbers
    return UsageRow(
        date.fromisoformat(day),
        provider,
        model,
        meter,
        byok,
        platform,
        version,
        Decimal(rate),
        from_scaled(quantity, QUANTITY_DECIMALS),
        from_scaled(charge, AMOUNT_DECIMALS),
        from_scaled(unpriced, QUANTITY_DECIMALS),
        from_scaled(credit, AMOUNT_DECIMALS),
    )


def _check_protocol(billing: MemoryBilling) -> BillingStore:
    return billing
