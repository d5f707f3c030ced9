"""The journal of tenants: gathers facts from rollups, entries and documents, and books them.

journals.bookings(tenant="acme")          # all its days
trial_balance(journals.bookings())        # of everybody
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from ledger.application.billing_ports import BillingStore, UsageQuestion
from ledger.application.plans import Plans
from ledger.application.ports import AuditView
from ledger.application.protection_reads import ProtectionReads
from ledger.application.reads import Reads
from ledger.domain.billing_calendar import NEVER, Stretch, stretches_between
from ledger.domain.billing_drafts import Place
from ledger.domain.billing_rating import PlanKey, rows_at_list_prices
from ledger.domain.entries import Commit, decode_commit
from ledger.domain.errors import InvalidInput
from ledger.domain.journal import Booking
from ledger.domain.journal_facts import CostAccrued, Fact, UsageAccrued, document_facts
from ledger.domain.journal_rules import journal
from ledger.domain.money import EXACT
from ledger.domain.plans import Plan
from ledger.domain.tiers import ZERO
from ledger.projections.credit_moves import credit_moves

PLACES_AT_A_TIME = 25
"""Tenants whose rollups are read at once: some ten thousand rows."""


class BookingPlace(NamedTuple):
    """A booking among the others."""

    tenant: str
    currency: str
    day: str
    rule: str
    reference: str


def place_of(one: Booking) -> BookingPlace:
    """Return where a booking stands."""
    return BookingPlace(
        one.tenant, one.currency, one.day.isoformat(), one.rule.value, one.reference
    )


class Journals:
    """Makes the journal; nothing of it is stored.

    Usage that is recorded meanwhile may count in one part and not yet in another. A tenant with
    prepaid credit has its whole log read, for entries alone say what burned when.

    Args:
        store: accounts and billing rollups.
        plans: whose charges take usage.
        reads: provider costs.
        credit: grants.
        audit: opens the log.
        catch_up: makes the rollups count what is in the log now.
    """

    def __init__(
        self,
        store: BillingStore,
        plans: Plans,
        reads: Reads,
        credit: ProtectionReads,
        audit: Callable[[], AbstractContextManager[AuditView]],
        catch_up: Callable[[], None],
    ) -> None:
        self._store = store
        self._plans = plans
        self._reads = reads
        self._credit = credit
        self._audit = audit
        self._catch_up = catch_up

    def bookings(
        self,
        *,
        tenant: str | None = None,
        first_day: date | None = None,
        after_day: date | None = None,
    ) -> list[Booking]:
        """Return bookings in order of tenant, currency, day and rule.

        Args:
            tenant: only this one's.
            first_day: first local day; None from the beginning.
            after_day: first local day no longer included; None to the end.

        Raises:
            NotFound: ``unknown_tenant``.
            InvalidInput: ``invalid_period`` where the first day comes after the other.
        """
        days = _days(first_day, after_day)
        places = self._places() if tenant is None else iter([[self._store.place(tenant)]])
        self._catch_up()
        return sorted(
            one for piece in places for one in journal(self._facts(piece)) if days(one.day)
        )

    def page(
        self,
        *,
        limit: int,
        after: BookingPlace | None = None,
        tenant: str | None = None,
        first_day: date | None = None,
        after_day: date | None = None,
    ) -> list[Booking]:
        """Return bookings that follow one, in the order of `bookings`, and one more than a page.

        Makes the journal of the tenants that are on the page, and at most of as many after them.

        Args:
            limit: bookings of a page.
            after: the last one of the page before; None for the first page.
            tenant: as of `bookings`, like the days.
            first_day: likewise.
            after_day: likewise.

        Raises:
            NotFound: as `bookings`.
            InvalidInput: likewise.
        """
        days = _days(first_day, after_day)
        places = [self._store.place(tenant)] if tenant is not None else self._by_name()
        if after is not None:
            places = [one for one in places if one.tenant >= after.tenant]
        self._catch_up()
        found: list[Booking] = []
        size = 1
        while places and len(found) <= limit:
            piece, places = places[:size], places[size:]
            size = min(2 * size, PLACES_AT_A_TIME)
            found += sorted(
                one
                for one in journal(self._facts(piece))
                if days(one.day) and (after is None or place_of(one) > after)
            )
        return found[: limit + 1]

    def _by_name(self) -> list[Place]:
        return sorted(
            (one for piece in self._places() for one in piece), key=lambda place: place.tenant
        )

    def _places(self) -> Iterator[Sequence[Place]]:
        after = 0
        while found := self._store.places(after=after, limit=PLACES_AT_A_TIME):
            yield found
            after = found[-1].tenant_id

    def _facts(self, places: Sequence[Place]) -> Iterator[Fact]:
        yield from self._usage(places)
        for place in places:
            yield from self._costs(place)
            yield from self._credits(place)
            history = self._store.history(place.tenant_id)
            yield from document_facts(history, timezone=place.timezone)

    def _usage(self, places: Sequence[Place]) -> Iterator[UsageAccrued]:
        accounts = self._store.accounts([one.tenant_id for one in places])
        with self._store.snapshot() as usage:
            asked = [UsageQuestion(one.tenant_id, date.min, NEVER, daily=True) for one in places]
            answers = usage.rows(asked)
        for place, rows in zip(places, answers, strict=True):
            holdings = accounts[place.tenant_id].holdings
            stretches = stretches_between(date.min, NEVER, holdings)
            sums: dict[tuple[date, str], Decimal] = {}
            for row in rows_at_list_prices(stretches, rows, plans=self._plans_of(stretches)):
                key = (row.day, row.meter)
                sums[key] = EXACT.add(sums.get(key, ZERO), row.charge)
            for (day, meter), amount in sums.items():
                yield UsageAccrued(place.tenant, place.currency, day, meter, amount)

    def _plans_of(self, stretches: list[Stretch]) -> dict[PlanKey, Plan]:
        return {
            (one.plan, one.version): self._plans.plan(one.plan, version=one.version).plan
            for one in stretches
            if one.plan
        }

    def _costs(self, place: Place) -> Iterator[CostAccrued]:
        groups = self._reads.usage(
            tenant=place.tenant, start=None, end=None, by=("day", "provider")
        )
        for row in groups:
            day, provider = row.group
            for currency, amount in row.costs.items():
                yield CostAccrued(place.tenant, currency, date.fromisoformat(day), provider, amount)

    def _credits(self, place: Place) -> Iterator[Fact]:
        grants = self._credit.credit(place.tenant).grants
        if not grants:
            return
        yield from credit_moves(
            self._commits(place.tenant_id),
            grants,
            tenant=place.tenant,
            currency=place.currency,
            timezone=place.timezone,
        )

    def _commits(self, tenant_id: int) -> Iterator[Commit]:
        with self._audit() as view:
            for piece in view.commits(tenant_id=tenant_id):
                for one in piece:
                    yield decode_commit(one.state)


def _days(first_day: date | None, after_day: date | None) -> Callable[[date], bool]:
    """Return what tells whether a day is asked for.

    Raises:
        InvalidInput: ``invalid_period``.
    """
    if first_day is not None and after_day is not None and first_day > after_day:
        raise InvalidInput(
            f"there is no day from {first_day} to before {after_day}", code="invalid_period"
        )
    first, end = first_day or date.min, after_day
    return lambda day: day >= first and (end is None or day < end)
