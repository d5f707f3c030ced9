"""Prepaid credit: grants, what holds reserve of them, what usage burns, what is owed.

A usage posting carries which grants paid it (``Extra.credit``), so that a correction gives back
exactly what was taken. Amounts are x 10^18 in the ledger's currency.

Invariants: burned + withdrawn + lapsed + held <= amount in every grant, none of them negative;
held is the sum of open holds' allocations; credit is owed only where it is required.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ledger.domain.budgets import Filter, filter_of
from ledger.domain.entry_parts import Extra
from ledger.domain.protection_entries import Allocation, CreditGranted
from ledger.domain.shapes import CompiledShape

PAID = "paid"
PROMOTIONAL = "promotional"
GRANT_KINDS = (PAID, PROMOTIONAL)
MAX_GRANTS = 1_000
"""Most grants of one tenant that have credit left."""
_NEVER = 2**62


class Grant:
    """One grant of credit.

    Attributes:
        number: count of those before it.
        id: the client's.
        kind: ``paid`` or ``promotional``.
        amount: given.
        priority: lower burns first.
        at: when it was given.
        expires_at: exclusive; 0 for never.
        filter: which usage it pays.
        held: reserved by open holds.
        burned: paid for usage.
        withdrawn: refunded or transferred.
        lapsed: gone with its expiry.
        expired: its time is over; what is released or given back lapses.
    """

    __slots__ = (
        "amount",
        "at",
        "burned",
        "expired",
        "expires_at",
        "filter",
        "filter_body",
        "held",
        "id",
        "kind",
        "lapsed",
        "number",
        "priority",
        "withdrawn",
    )

    def __init__(
        self,
        *,
        number: int,
        id: str,
        kind: str,
        amount: int,
        priority: int,
        at: int,
        expires_at: int,
        filter_body: bytes,
    ) -> None:
        self.number = number
        self.id = id
        self.kind = kind
        self.amount = amount
        self.priority = priority
        self.at = at
        self.expires_at = expires_at
        self.filter_body = filter_body
        self.filter: Filter = filter_of(filter_body)
        self.held = 0
        self.burned = 0
        self.withdrawn = 0
        self.lapsed = 0
        self.expired = False

    @classmethod
    def given(cls, entry: CreditGranted) -> Grant:
        """Return the grant of an entry."""
        return cls(
            number=entry.number,
            id=entry.id,
            kind=entry.kind,
            amount=entry.amount,
            priority=entry.priority,
            at=entry.at,
            expires_at=entry.expires_at,
            filter_body=entry.filter,
        )

    @property
    def remaining(self) -> int:
        """Return what is left, reserved or not."""
        return self.amount - self.burned - self.withdrawn - self.lapsed

    @property
    def free(self) -> int:
        """Return what is left and not reserved."""
        return self.amount - self.burned - self.withdrawn - self.lapsed - self.held

    def counters(self) -> tuple[int, int, int, int, bool]:
        """Return what changes in a grant: held, burned, withdrawn, lapsed, expired."""
        return (self.held, self.burned, self.withdrawn, self.lapsed, self.expired)

    def set_counters(self, row: Sequence[int]) -> None:
        """Set what `counters` gives."""
        self.held, self.burned, self.withdrawn, self.lapsed = row[:4]
        self.expired = bool(row[4])

    def copy(self) -> Grant:
        """Return an independent copy."""
        copy = Grant(
            number=self.number,
            id=self.id,
            kind=self.kind,
            amount=self.amount,
            priority=self.priority,
            at=self.at,
            expires_at=self.expires_at,
            filter_body=self.filter_body,
        )
        copy.set_counters(self.counters())
        return copy


def _burns(grant: Grant) -> tuple[int, int, int]:
    """Return a grant's place in the order in which grants burn."""
    return (grant.priority, grant.expires_at or _NEVER, grant.number)


class CreditBook:
    """All grants of a ledger.

    Attributes:
        grants: by number.
        required: holds need credit for their whole amount.
        owed: what required credit did not cover.
        touched: numbers of grants that a commit changed.
    """

    __slots__ = ("_order", "grants", "owed", "required", "touched")

    def __init__(self) -> None:
        self.grants: dict[int, Grant] = {}
        self.required = False
        self.owed = 0
        self.touched: set[int] = set()
        self._order: list[Grant] | None = None

    def copy(self) -> CreditBook:
        """Return an independent copy, to try something on."""
        copy = CreditBook()
        copy.grants = {number: grant.copy() for number, grant in self.grants.items()}
        copy.required = self.required
        copy.owed = self.owed
        return copy

    @property
    def active(self) -> bool:
        """Return whether credit has any part in decisions and postings."""
        return self.required or bool(self.grants)

    def add(self, grant: Grant) -> None:
        """Add a grant, and pay what is owed from it."""
        self.grants[grant.number] = grant
        self.touched.add(grant.number)
        self._order = None
        self.settle()

    def in_order(self) -> list[Grant]:
        """Return the grants that are not expired in the order in which they burn."""
        if self._order is None:
            live = [grant for grant in self.grants.values() if not grant.expired]
            self._order = sorted(live, key=_burns)
        return self._order

    def _applying(self, shape: CompiledShape) -> Iterable[Grant]:
        return (grant for grant in self.in_order() if grant.filter.admits(shape))

    def free(self, shape: CompiledShape) -> int:
        """Return the free credit that can pay usage of a shape; negative while credit is owed."""
        return sum(grant.free for grant in self._applying(shape)) - self.owed

    def covered(self, own: Extra | None = None) -> int:
        """Return what grants that have not expired paid, or are to pay, x 10^18.

        Args:
            own: of a posting whose part does not count.
        """
        paid = dict(own.credit) if own is not None else {}
        burned = sum(one.burned - paid.get(one.number, 0) for one in self.in_order())
        return max(burned + self.owed - (own.owed if own is not None else 0), 0)

    def held(self) -> int:
        """Return what open holds have reserved."""
        return sum(grant.held for grant in self.grants.values())

    def plan(
        self, shape: CompiledShape, amount: int, own: Mapping[int, int] | None = None
    ) -> tuple[tuple[Allocation, ...], int]:
        """Return what each grant would give for an amount, and what none covers.

        Args:
            shape: of the usage.
            amount: x 10^18.
            own: by number, what expired grants still give for it.
        """
        grants = self._applying(shape)
        expired = own or {}
        if expired:
            late = [self.grants[number] for number in expired]
            late = [grant for grant in late if grant.filter.admits(shape)]
            grants = sorted((*grants, *late), key=_burns)
        parts = []
        for grant in grants:
            if amount <= 0:
                break
            part = min(expired.get(grant.number, grant.free), amount)
            if part > 0:
                parts.append((grant.number, part))
                amount -= part
        return tuple(parts), max(amount, 0)

    def kept(self, allocations: Iterable[Allocation], left: int) -> tuple[Allocation, ...]:
        """Return what stays reserved of allocations: so much of what burns last."""
        parts = []
        order = sorted(allocations, key=lambda one: _burns(self.grants[one[0]]), reverse=True)
        for number, amount in order:
            part = min(amount, left)
            if part > 0:
                parts.append((number, part))
                left -= part
        return tuple(sorted(parts))

    # -- folds ------------------------------------------------------------------------

    def reserve(self, allocations: Iterable[Allocation], sign: int = 1) -> None:
        """Reserve (1) or release (-1) parts of grants; what an expired grant releases lapses."""
        for number, amount in allocations:
            grant = self.grants[number]
            grant.held += sign * amount
            if sign < 0 and grant.expired:
                grant.lapsed += amount
            self.touched.add(number)
        if sign < 0:
            self.settle()

    def post(self, extra: Extra, sign: int = 1) -> None:
        """Burn (1) what a posting says its grants paid, or give it back (-1)."""
        for number, amount in extra.credit:
            grant = self.grants[number]
            grant.burned += sign * amount
            if grant.expired:
                # It burns what lapsed with the release just before, or lapses again.
                grant.lapsed -= sign * amount
            self.touched.add(number)
        if extra.owed:
            self.owed += sign * extra.owed
            if self.owed < 0:
                # It has been paid since: refill the grants that burned last.
                surplus, self.owed = -self.owed, 0
                self._refill(surplus)
        if sign < 0:
            self.settle()

    def _refill(self, amount: int) -> None:
        for grant in reversed(self.in_order()):
            part = min(grant.burned, amount)
            grant.burned -= part
            amount -= part
            self.touched.add(grant.number)

    def settle(self) -> None:
        """Pay what is owed from free credit."""
        if not self.owed:
            return
        for grant in self.in_order():
            part = min(grant.free, self.owed)
            if part > 0:
                grant.burned += part
                self.owed -= part
                self.touched.add(grant.number)

    def expire(self, number: int, amount: int) -> None:
        """Let the free rest of a grant lapse."""
        grant = self.grants[number]
        grant.expired = True
        grant.lapsed += amount
        self.touched.add(number)
        self._order = None

    def withdraw(self, number: int, amount: int) -> None:
        """Take free credit out of a grant."""
        self.grants[number].withdrawn += amount
        self.touched.add(number)
