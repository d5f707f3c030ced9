"""Billing rollups: the fold from commits to what invoices are rated from.

Per local day, who ran it, model, meter, payer and price row: quantity and charge. It differs from
`usage_daily` in its key: no user and no project, but the price version and rate that rated it, and
whether the platform or the tenant's own provider key pays, all of which an invoice must tell apart.

A row with meter "" holds what belongs to no leaf: what reversals took back of charges, and what
prepaid credit paid or still owes: an invoice that asked for that too would ask twice. Corrections
subtract what they reverse and add what they post, each on its own day. Rows are only ever added to,
so they do not depend on how the log was cut into batches.

Numbers are integers: quantities x 10^6, amounts x 10^18.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ledger.domain.entries import Commit, Posting, UsageRecorded
from ledger.domain.entry_parts import Extra
from ledger.domain.errors import InvariantViolation
from ledger.domain.money import scaled_text
from ledger.domain.periods import day_of
from ledger.domain.protection_entries import ChargeReversed
from ledger.domain.shapes import CompiledShape
from ledger.projections.usage_daily import Plan, TenantView, posting_leaves, postings_of

NAME = "billing_daily"
VERSION = 1
"""Version of the fold; rows that another version began to rebuild are not continued."""

BillingKey = tuple[int, str, str, str, str, bool, bool, str, str]
"""Tenant number, local day, provider, model, meter, byok, platform, price version, rate as text."""
BillingRows = dict[BillingKey, list[int]]
"""What to add by row: quantity, charge, unpriced quantity, credit."""

_Price = tuple[str, str]
"""Price version, and rate of one unit as text."""
_NO_PRICE: _Price = ("", "0")


def fold(commits: Iterable[tuple[int, Commit]], views: Mapping[int, TenantView]) -> BillingRows:
    """Return what commits add to the rows.

    Args:
        commits: tenant numbers and commits, in any order.
        views: of these tenants, with the plans of all shapes that the commits refer to.

    Raises:
        InvariantViolation: a commit refers to a shape that is not there.
    """
    rows: BillingRows = {}
    try:
        for tenant_id, commit in commits:
            _fold_commit(rows, tenant_id, views[tenant_id], commit)
    except KeyError as error:
        raise InvariantViolation(
            f"a commit refers to tenant or shape {error}, which the ledger has not defined"
        ) from error
    return rows


def _fold_commit(rows: BillingRows, tenant_id: int, view: TenantView, commit: Commit) -> None:
    linear: dict[tuple[int, str], list[tuple[int, ...]]] = {}
    for entry in commit.entries:
        if type(entry) is UsageRecorded:
            plan = view.plans[entry.shape]
            day = day_of(view.timezone, entry.occurred_at)
            _add_credit(rows, tenant_id, day, plan.shape, entry.extra, 1)
            if plan.linear:
                linear.setdefault((entry.shape, day), []).append(entry.quantities)
            else:
                _add_posting(rows, tenant_id, day, plan, entry, 1)
        elif type(entry) is ChargeReversed:
            shape = view.plans[entry.shape].shape
            day = day_of(view.timezone, entry.occurred_at)
            row = _row(rows, _key(tenant_id, day, shape, "", _NO_PRICE))
            row[1] -= entry.amount
            _add_credit(rows, tenant_id, day, shape, entry.extra, -1 if entry.amount >= 0 else 1)
        else:
            for sign, posting in postings_of(entry):
                plan = view.plans[posting.shape]
                day = day_of(view.timezone, posting.occurred_at)
                _add_credit(rows, tenant_id, day, plan.shape, posting.extra, sign)
                _add_posting(rows, tenant_id, day, plan, posting, sign)
    for (number, day), quantities in linear.items():
        plan = view.plans[number]
        totals = [sum(column) for column in zip(*quantities, strict=True)]
        _add_leaves(rows, tenant_id, day, plan, totals, None, 1)


def _add_posting(
    rows: BillingRows,
    tenant_id: int,
    day: str,
    plan: Plan,
    posting: Posting | UsageRecorded,
    sign: int,
) -> None:
    charges, _ = posting_leaves(plan.shape, posting)
    _add_leaves(rows, tenant_id, day, plan, posting.quantities, charges, sign)


def _add_leaves(
    rows: BillingRows,
    tenant_id: int,
    day: str,
    plan: Plan,
    quantities: Iterable[int],
    charges: tuple[int, ...] | None,
    sign: int,
) -> None:
    """Add leaves; ``charges`` None multiplies quantities with the rates."""
    shape = plan.shape
    for place, (leaf, number) in enumerate(zip(plan.leaves, quantities, strict=True)):
        row = _row(rows, _key(tenant_id, day, shape, leaf.meter, _price(shape, place)))
        quantity = sign * number * shape.quantity_factor
        row[0] += quantity
        if charges is None:
            row[1] += sign * number * leaf.charge
        elif charges:
            row[1] += sign * charges[place] * shape.charge_factor
        if shape.unpriced:
            row[2] += quantity


def _add_credit(
    rows: BillingRows,
    tenant_id: int,
    day: str,
    shape: CompiledShape,
    extra: Extra | None,
    sign: int,
) -> None:
    if extra is not None and (extra.credit or extra.owed):
        row = _row(rows, _key(tenant_id, day, shape, "", _NO_PRICE))
        # What credit did not cover is taken from credit that is yet to come.
        row[3] += sign * (sum(amount for _, amount in extra.credit) + extra.owed)


def _key(tenant_id: int, day: str, shape: CompiledShape, meter: str, price: _Price) -> BillingKey:
    of = shape.shape
    platform = of.billable == "platform"
    return (tenant_id, day, of.provider, of.model, meter, of.byok, platform, price[0], price[1])


def _price(shape: CompiledShape, place: int) -> _Price:
    card = shape.shape.card
    if card is None or not card.sell:
        return _NO_PRICE
    leaf = card.sell[place]
    return (leaf.version, scaled_text(leaf.rate, card.sell_decimals))


def _row(rows: BillingRows, key: BillingKey) -> list[int]:
    row = rows.get(key)
    if row is None:
        row = rows[key] = [0, 0, 0, 0]
    return row
