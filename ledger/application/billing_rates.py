"""What tenants owe at a moment: rated from the rollups of one snapshot, less what was billed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from datetime import date
from decimal import Decimal
from typing import Self

import msgspec

from ledger.application.billing_ports import BillingStore, UsageQuestion, UsageSnapshot
from ledger.application.plans import Plans
from ledger.domain.billing_account import PLATFORM, BillingAccount, BillingDetails
from ledger.domain.billing_calendar import NEVER, Span, Stretch, stretches_of
from ledger.domain.billing_decisions import new_invoice_id
from ledger.domain.billing_differences import billed_lines, less_billed
from ledger.domain.billing_drafts import Cut, Owed, Place, draft_of
from ledger.domain.billing_rating import PlanKey, UsageRow, rate_span
from ledger.domain.errors import InvalidInput, NotFound
from ledger.domain.invoices import Invoice, from_document
from ledger.domain.money import EXACT
from ledger.domain.plans import Plan
from ledger.domain.price_records import PriceRecord
from ledger.domain.tiers import ONE

UnitSize = Callable[[str], Decimal]
"""Units that a price row's rate was given for, by its version."""


def unit_sizes(find: Callable[[str], PriceRecord]) -> UnitSize:
    """Return what looks unit sizes up among price rows; 1 for a row that is not there.

    Args:
        find: returns a price row by its version.
    """
    known: dict[str, Decimal] = {}

    def size(version: str) -> Decimal:
        found = known.get(version)
        if found is None:
            try:
                found = find(version).row.unit_size
            except (InvalidInput, NotFound):
                # The rate is of one unit either way: only the form of the price differs.
                return ONE
            known[version] = found
        return found

    return size


class Due(msgspec.Struct, frozen=True):
    """A period to be rated.

    Attributes:
        place: whose.
        account: its account.
        span: the days.
        late: whether earlier days that changed are billed with it.
    """

    place: Place
    account: BillingAccount
    span: Span
    late: bool = True


class Drafted(msgspec.Struct, frozen=True):
    """What a period comes to.

    Attributes:
        due: the period.
        cut: up to where usage counts.
        draft: its invoice; None where nothing is owed.
        settled: the ledger charged what the plans' charges come to.
    """

    due: Due
    cut: Cut
    draft: Invoice | None
    settled: bool = True


class Rates:
    """Rates periods; thread-safe.

    Args:
        store: where rollups and invoices are.
        plans: versions by name and number.
        unit_size: of price rows.
    """

    def __init__(self, store: BillingStore, plans: Plans, unit_size: UnitSize) -> None:
        self._store = store
        self._everyone = store
        self._plans = plans
        self._unit_size = unit_size

    def for_tenant(self, tenant: str) -> Self:
        """Return the same over one tenant's rows alone; plans and settings are everybody's."""
        view = copy(self)
        view._store = self._store.for_tenant(tenant)
        return view

    def draft(self, dues: Sequence[Due]) -> list[Drafted]:
        """Return what periods come to by now, all at one moment."""
        if not dues:
            return []
        with self._store.snapshot() as usage:
            cuts = usage.cuts({due.place.tenant_id for due in dues})
            spans = self._spans(usage, dues)
            questions = [
                [self._questions(due, span) for span in found]
                for due, found in zip(dues, spans, strict=True)
            ]
            answers = iter(usage.rows([one for due in questions for span in due for one in span]))
            by_due = [
                [[row for _ in span for row in next(answers)] for span in due] for due in questions
            ]
        platform = self._everyone.accounts([PLATFORM])[PLATFORM].details
        return [
            self._draft(due, found, usage_rows, cuts[due.place.tenant_id], platform)
            for due, found, usage_rows in zip(dues, spans, by_due, strict=True)
        ]

    def _questions(self, due: Due, span: Span) -> list[UsageQuestion]:
        """Return what to ask for a span: sums over each stretch, by day where a charge needs it."""
        stretches = stretches_of(span, due.account.holdings)
        plans = self._plans_of(stretches)
        return [
            UsageQuestion(
                due.place.tenant_id,
                one.first_day,
                one.after_day,
                bool(one.plan)
                and any(charge.window for charge in plans[one.plan, one.version].charges),
            )
            for one in stretches
        ]

    def _spans(self, usage: UsageSnapshot, dues: Sequence[Due]) -> list[list[Span]]:
        """Return each period and the earlier ones whose usage changed since the last close."""
        asked = []
        for due in dues:
            if due.late:
                last = due.account.last
                position = 0 if last is None else last.position
                asked.append((due.place.tenant_id, due.span.first_day, position))
        changed = usage.changed(asked)
        spans = []
        for due in dues:
            days = changed.get(due.place.tenant_id, ()) if due.late else ()
            earlier: dict[date, Span] = {}
            for day in days:
                span = due.account.span_on(day, timezone=due.place.timezone)
                earlier[span.first_day] = span
            spans.append([due.span, *(earlier[first] for first in sorted(earlier))])
        return spans

    def _draft(
        self,
        due: Due,
        spans: Sequence[Span],
        rows: Sequence[Sequence[UsageRow]],
        cut: Cut,
        platform: BillingDetails,
    ) -> Drafted:
        account, place = due.account, due.place
        owed = [
            self._owed(account, place, span, found) for span, found in zip(spans, rows, strict=True)
        ]
        draft = draft_of(
            account,
            place,
            due.span,
            owed,
            id=new_invoice_id(account, due.span),
            cut=cut,
            stretches=stretches_of(due.span, account.holdings),
            platform=platform,
        )
        return Drafted(due, cut, draft, all(one.settled for one in owed))

    def _owed(
        self, account: BillingAccount, place: Place, span: Span, rows: Sequence[UsageRow]
    ) -> Owed:
        stretches = stretches_of(span, account.holdings)
        rated = rate_span(
            span,
            stretches,
            rows,
            plans=self._plans_of(stretches),
            unit_size=self._unit_size,
        )
        last = account.last
        if last is None or span.first_day >= last.after_day:
            return Owed(span, rated.lines, rated.credit, rated.unpriced, rated.settled)
        counted = set(account.counted)
        found = self._store.covering(
            place.tenant_id, first_day=span.first_day, after_day=span.after_day
        )
        before = [from_document(row.document) for row in found if row.id in counted]
        billed, credit = billed_lines(before, span)
        return Owed(
            span,
            less_billed(rated.lines, billed),
            EXACT.subtract(rated.credit, credit),
            rated.unpriced,
            rated.settled,
        )

    def unsettled(
        self, place: Place, account: BillingAccount, *, since: date, unpriced: bool
    ) -> date | None:
        """Return the first day of the first period whose usage is to be rated again; None for none.

        Args:
            place: whose.
            account: its account.
            since: first day of a period; earlier ones are not looked at.
            unpriced: whether usage without a price counts that a charge may take.
        """
        with self._store.snapshot() as usage:
            [rows] = usage.rows([UsageQuestion(place.tenant_id, since, NEVER, daily=True)])
        by_span: dict[Span, list[UsageRow]] = {}
        for row in rows:
            span = account.span_on(row.day, timezone=place.timezone)
            by_span.setdefault(span, []).append(row)
        for span in sorted(by_span):
            stretches = stretches_of(span, account.holdings)
            rated = rate_span(
                *(span, stretches, by_span[span]),
                plans=self._plans_of(stretches),
                unit_size=self._unit_size,
            )
            if not rated.settled or (unpriced and rated.waiting):
                return span.first_day
        return None

    def _plans_of(self, stretches: Sequence[Stretch]) -> Mapping[PlanKey, Plan]:
        return {
            (one.plan, one.version): self._plans.plan(one.plan, version=one.version).plan
            for one in stretches
            if one.plan
        }
