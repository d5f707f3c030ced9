"""Comparing what the log folds to with the state rows and the daily rollups.

A row without any number in it is as good as no row: running quantities and rollups that add up
to nothing may or may not be there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from ledger.application.ports import AuditRows, BillingRollupRow, RollupRow, TenantRow
from ledger.application.replay import DAMAGE, Differences, Ledger
from ledger.application.verify_protection import check_reserved, compare_protection
from ledger.domain.balance import Balance
from ledger.domain.entries import Commit
from ledger.domain.ledger import CorrectionState, LedgerState, Ref
from ledger.domain.meters import QUANTITY_DECIMALS
from ledger.domain.money import AMOUNT_DECIMALS, scaled_text
from ledger.domain.plan_rates import is_amount
from ledger.projections.usage_daily import Plan, RowKey, Rows, TenantView, fold

_Key = TypeVar("_Key", int, str, bytes)
_TENANT_FIELDS = ("tenant", "currency", "timezone", "book", "pending", "conflicts")
_ROLLUP_NUMBERS = (
    ("quantity", QUANTITY_DECIMALS),
    ("charge", AMOUNT_DECIMALS),
    ("cost", AMOUNT_DECIMALS),
    ("unpriced", QUANTITY_DECIMALS),
)


def compare_ledger(
    *, differences: Differences, ledger: Ledger, row: TenantRow | None, rows: AuditRows
) -> None:
    """Compare one ledger's state with its rows; keys and rollups are compared elsewhere.

    Args:
        differences: where to put what differs.
        ledger: as the log folds.
        row: the tenant's row; None if there is none.
        rows: its other rows.
    """
    _Comparison(differences, ledger.state).run(ledger, row, rows)


class _Comparison:
    def __init__(self, differences: Differences, state: LedgerState) -> None:
        self._differences = differences
        self._state = state

    def _add(self, code: str, what: str, expected: object, found: object) -> None:
        self._differences.add(self._state.tenant, code, what, expected, found)

    def run(self, ledger: Ledger, row: TenantRow | None, rows: AuditRows) -> None:
        if row is None:
            self._add("tenant_missing", "tenants", f"a row, version {self._state.version}", None)
        else:
            self._head(row)
        if ledger.broken:
            return
        if row is not None:
            self._settings(row)
        for what, found in rows.unreadable:
            self._add("row_unreadable", what, "a number that is exact here", found)
        self._shapes(rows)
        self._balances(rows)
        self._corrections(rows)
        state = self._state
        kept = {**state.accumulators, **state.running}
        running = {key: number for key, number in kept.items() if number}
        there = {key: number for key, number in rows.accumulators.items() if number}
        for key in _unequal(running, there):
            name = "accumulator " + " ".join(key.split("\t"))
            decimals = AMOUNT_DECIMALS if is_amount(key) else QUANTITY_DECIMALS
            both = (_scaled(of.get(key), decimals) for of in (running, there))
            self._add("accumulator", name, *both)
        unpriced = {key: usage for key, usage in state.unpriced.items() if usage is not None}
        for digest in _unequal(unpriced, rows.unpriced):
            usage = unpriced.get(digest) or rows.unpriced[digest]
            what = f"unpriced_usage {usage.source} {usage.id}"
            self._add("unpriced", what, unpriced.get(digest), rows.unpriced.get(digest))
        self._conflicts(ledger, rows)
        compare_protection(guard=state.guard, rows=rows, add=self._add)
        if state.guard is not None:
            check_reserved(guard=state.guard, running=state.running, add=self._add)

    def _conflicts(self, ledger: Ledger, rows: AuditRows) -> None:
        for version, index in sorted(ledger.conflicts ^ rows.conflicts):
            logged = (version, index) in ledger.conflicts
            self._add(
                "conflict",
                f"conflicts {version}.{index}",
                "a row" if logged else None,
                None if logged else "a row",
            )

    def _head(self, row: TenantRow) -> None:
        state = self._state
        if row.version != state.version:
            code = "tail_missing" if row.version > state.version else "tenant_row"
            self._add(code, "tenants.version (last commit)", state.version, row.version)
        if row.digest != state.digest:
            self._add("tenant_row", "tenants.digest", state.digest.hex(), row.digest.hex())

    def _settings(self, row: TenantRow) -> None:
        state = self._state
        for name in _TENANT_FIELDS:
            if getattr(state, name) != getattr(row, name):
                self._add("tenant_row", f"tenants.{name}", getattr(state, name), getattr(row, name))
        if len(state.shapes) != row.shapes:
            self._add("tenant_row", "tenants.shapes", len(state.shapes), row.shapes)

    def _shapes(self, rows: AuditRows) -> None:
        bodies = {number: shape.body for number, shape in enumerate(self._state.shapes)}
        for number in _unequal(bodies, rows.shapes):
            self._add(
                "shape",
                f"shapes {number}",
                _hex(bodies.get(number)),
                _hex(rows.shapes.get(number)),
            )

    def _balances(self, rows: AuditRows) -> None:
        folded = self._state.balances
        there = {balance.period: balance for balance in rows.balances}
        for period in sorted(folded.keys() | there.keys()):
            expected, found = folded.get(period), there.get(period)
            if expected is None or found is None:
                said = ("a row" if one else None for one in (expected, found))
                self._add("balance", f"balances {period}", *said)
            elif expected.as_tuple() != found.as_tuple():
                left, right = _balance(expected), _balance(found)
                for name in _unequal(left, right):
                    self._add(
                        "balance", f"balances {period} {name}", left.get(name), right.get(name)
                    )

    def _corrections(self, rows: AuditRows) -> None:
        folded, there = self._state.corrections, rows.corrections
        for digest in _unequal(folded, there):
            self._add(
                "correction",
                f"corrections {digest.hex()}",
                _places(folded.get(digest)),
                _places(there.get(digest)),
            )


def _unequal(left: Mapping[_Key, object], right: Mapping[_Key, object]) -> list[_Key]:
    """Return the keys, in order, under which two mappings do not hold the same."""
    return sorted(key for key in left.keys() | right.keys() if left.get(key) != right.get(key))


class Rollups:
    """The rollups as the log folds them, and their comparison, each up to its own position.

    Args:
        differences: where to put what differs.
        position: notification id up to which the daily rows count.
        billing_position: likewise, of the rows that invoices are rated from.
    """

    def __init__(self, *, differences: Differences, position: int, billing_position: int) -> None:
        self.position = position
        self.billing_position = billing_position
        self.both = min(position, billing_position)
        self.upto = max(position, billing_position)
        self._differences = differences
        self._rows: Rows = {}
        self._tail: Rows = {}
        """What only the rollup counts that is further on."""
        self._views: dict[int, TenantView] = {}
        self._damaged: set[int] = set()

    def fold(
        self,
        commits: Sequence[tuple[int, Commit]],
        ledgers: Mapping[int, Ledger],
        *,
        tail: bool = False,
    ) -> None:
        """Fold commits of ledgers folded that far.

        Args:
            commits: with their tenants' numbers.
            ledgers: by tenant number.
            tail: they are past `both`, but not past `upto`; else they are not past `both`.
        """
        for tenant_id in {number for number, _ in commits}:
            self._learn(ledgers[tenant_id].state)
        kept = self._tail if tail else self._rows
        try:
            _merge(kept, fold(commits, self._views))
        except DAMAGE:
            # One of them cannot be folded: find out whose, and keep the others.
            for tenant_id, commit in commits:
                self._fold_alone(kept, tenant_id, commit, ledgers[tenant_id].state)

    def _learn(self, state: LedgerState) -> None:
        view = self._views.get(state.tenant_id)
        if view is None:
            view = self._views[state.tenant_id] = TenantView(state.timezone)
        plans = view.plans
        for number in range(len(plans), len(state.shapes)):
            plans[number] = Plan(state.shapes[number])

    def _fold_alone(self, kept: Rows, tenant_id: int, commit: Commit, state: LedgerState) -> None:
        try:
            _merge(kept, fold([(tenant_id, commit)], self._views))
        except DAMAGE as error:
            self._damaged.add(tenant_id)
            what = f"commit that follows {commit.before.hex() or 'none'}"
            expected = "entries that can be rolled up"
            self._differences.add(state.tenant, "rollup_unfoldable", what, expected, error)

    def _broken(self, ledgers: Mapping[int, Ledger]) -> set[int]:
        return {number for number, ledger in ledgers.items() if ledger.broken} | self._damaged

    def compare_billing(
        self, pieces: Iterable[Sequence[BillingRollupRow]], ledgers: Mapping[int, Ledger]
    ) -> None:
        """Compare with the rows of billing, before `compare`; broken ledgers are passed over."""
        broken = self._broken(ledgers)
        folded: dict[tuple[int, str, str, str, str], list[int]] = {}
        parts = [self._rows]
        if self.billing_position > self.position:
            parts.append(self._tail)
        for part in parts:
            for key, (quantity, charge, _, unpriced) in part.items():
                sums = folded.setdefault(key[:5], [0, 0, 0])
                sums[0] += quantity
                sums[1] += charge
                sums[2] += unpriced
        for piece in pieces:
            for row in piece:
                numbers = tuple(folded.pop(row.key, (0, 0, 0)))
                if numbers != row.numbers and row.key[0] not in broken:
                    self._differ_billing(ledgers, row.key, numbers, row.numbers)
        for rest, left in folded.items():
            if any(left) and rest[0] not in broken:
                self._differ_billing(ledgers, rest, left, None)

    def _differ_billing(
        self,
        ledgers: Mapping[int, Ledger],
        key: tuple[int, str, str, str, str],
        expected: Sequence[int],
        found: Sequence[int | None] | None,
    ) -> None:
        ledger = ledgers.get(key[0])
        tenant = ledger.state.tenant if ledger is not None else f"#{key[0]}"
        _, day, provider, model, meter = key
        texts = [
            None if numbers is None else _named((*numbers[:2], None, numbers[2]), (0, 1, 3))
            for numbers in (expected, found)
        ]
        what = f"billing_daily {day} {provider}/{model} {meter}"
        self._differences.add(tenant, "billing_rollup", what, *texts)

    def compare(self, pieces: Iterable[Sequence[RollupRow]], ledgers: Mapping[int, Ledger]) -> None:
        """Compare with the daily rows; those of broken ledgers are passed over. Once only."""
        broken = self._broken(ledgers)
        folded = self._rows
        if self.position > self.billing_position:
            _merge(folded, self._tail)
        for piece in pieces:
            for row in piece:
                expected = folded.pop(row.key, None)
                numbers = tuple(expected) if expected is not None else (0, 0, 0, 0)
                if numbers != row.numbers and row.key[0] not in broken:
                    self._differ(ledgers, row.key, numbers, row.numbers)
        for key, left in folded.items():
            if any(left) and key[0] not in broken:
                self._differ(ledgers, key, tuple(left), None)

    def _differ(
        self,
        ledgers: Mapping[int, Ledger],
        key: RowKey,
        expected: Sequence[int],
        found: Sequence[int | None] | None,
    ) -> None:
        ledger = ledgers.get(key[0])
        tenant = ledger.state.tenant if ledger is not None else f"#{key[0]}"
        _, day, provider, model, meter, user, project, currency = key
        what = f"usage_daily {day} {provider}/{model} {meter}"
        for name, value in (("user", user), ("project", project), ("cost in", currency)):
            what += f", {name} {value}" if value else ""
        unequal = [
            place
            for place in range(len(_ROLLUP_NUMBERS))
            if found is None or expected[place] != found[place]
        ]
        self._differences.add(
            tenant,
            "rollup",
            what,
            _named(expected, unequal),
            None if found is None else _named(found, unequal),
        )


def _merge(kept: Rows, rows: Rows) -> None:
    for key, numbers in rows.items():
        row = kept.get(key)
        if row is None:
            kept[key] = numbers
        else:
            for place, number in enumerate(numbers):
                row[place] += number


def _named(numbers: Sequence[int | None], places: Iterable[int]) -> str:
    return ", ".join(
        f"{_ROLLUP_NUMBERS[place][0]} "
        + (_scaled(numbers[place], _ROLLUP_NUMBERS[place][1]) or "no exact number")
        for place in places
    )


def _balance(balance: Balance) -> dict[str, str]:
    said = {"charge": scaled_text(balance.charge, AMOUNT_DECIMALS)}
    for currency, cost in balance.costs.items():
        if cost:
            said[f"cost {currency}"] = scaled_text(cost, AMOUNT_DECIMALS)
    for meter, quantity in balance.quantities.items():
        if quantity:
            said[f"quantity {meter}"] = scaled_text(quantity, QUANTITY_DECIMALS)
    for name in ("events", "voided", "unpriced"):
        said[name] = str(getattr(balance, name))
    return said


def _scaled(number: int | None, decimals: int) -> str | None:
    return None if number is None else scaled_text(number, decimals)


def _hex(body: bytes | None) -> str | None:
    return None if body is None else body.hex()


def _place(ref: Ref | None) -> str:
    return "none" if ref is None else f"{ref[0]}.{ref[1]}"


def _places(correction: CorrectionState | None) -> str | None:
    if correction is None:
        return None
    said = (
        f"void {_place(correction.void)}, adjust {_place(correction.adjust)},"
        f" standing {_place(correction.standing)}"
    )
    if correction.reversed or correction.returned or correction.forgiven:
        returned = ", ".join(
            f"{scaled_text(amount, AMOUNT_DECIMALS)} to grant {number}"
            for number, amount in correction.returned
        )
        said += (
            f", reversed {scaled_text(correction.reversed, AMOUNT_DECIMALS)}"
            f" (returned {returned or 'none'},"
            f" forgiven {scaled_text(correction.forgiven, AMOUNT_DECIMALS)})"
        )
    return said
