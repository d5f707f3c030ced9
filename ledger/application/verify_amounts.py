"""Amounts computed again from the rates that an entry's shape holds."""

from __future__ import annotations

from ledger.application.replay import Differences
from ledger.domain.amounts import amounts
from ledger.domain.entries import (
    CorrectionApplied,
    Entry,
    Posting,
    UsageAdjusted,
    UsageRecorded,
    UsageRerated,
    UsageVoided,
)
from ledger.domain.ledger import LedgerState, Ref, amounts_now, session_of_period
from ledger.domain.money import scaled_text
from ledger.domain.shapes import CompiledShape

_CORRECTIONS = UsageVoided | UsageAdjusted | UsageRerated | CorrectionApplied


class AmountCheck:
    """Compares each entry's amounts with quantities times rates, rounded as the rates say.

    Where quantities are rounded over a session, recorded usage is rated with the session's
    running quantity at that moment; of a correction's postings only the sum by leaf is compared.

    Args:
        differences: where to put what differs.
    """

    def __init__(self, differences: Differences) -> None:
        self._differences = differences

    def __call__(self, state: LedgerState, entry: Entry, ref: Ref) -> None:
        """Check one entry against the state before it."""
        if type(entry) is UsageRecorded:
            shape = state.shapes[entry.shape]
            if shape.stateful:
                self._session(state, shape, entry, ref)
            elif amounts(shape, entry.quantities) != (entry.charge, entry.cost):
                self._plain(state, shape, entry, ref)
        elif isinstance(entry, _CORRECTIONS):
            for posting in _postings(entry):
                shape = state.shapes[posting.shape]
                if shape.stateful:
                    self._sums(state, shape, posting, ref)
                elif amounts(shape, posting.quantities) != (posting.charge, posting.cost):
                    self._plain(state, shape, posting, ref)

    def _plain(
        self, state: LedgerState, shape: CompiledShape, posting: Posting | UsageRecorded, ref: Ref
    ) -> None:
        self._add(state, shape, ref, amounts(shape, posting.quantities), posting)

    def _session(
        self, state: LedgerState, shape: CompiledShape, entry: UsageRecorded, ref: Ref
    ) -> None:
        session = entry.extra.session if entry.extra is not None else ""
        session = session_of_period(state.timezone, session, entry.occurred_at)
        charges, costs, _ = amounts_now(state, shape, entry.quantities, session, entry.occurred_at)
        if (charges, costs) != _leaves(entry) or (sum(charges), sum(costs)) != (
            entry.charge,
            entry.cost,
        ):
            self._add(state, shape, ref, (sum(charges), sum(costs)), entry)

    def _sums(self, state: LedgerState, shape: CompiledShape, posting: Posting, ref: Ref) -> None:
        charges, costs = _leaves(posting)
        if (sum(charges), sum(costs)) != (posting.charge, posting.cost):
            self._add(state, shape, ref, (sum(charges), sum(costs)), posting)

    def _add(
        self,
        state: LedgerState,
        shape: CompiledShape,
        ref: Ref,
        expected: tuple[int, int],
        posting: Posting | UsageRecorded,
    ) -> None:
        self._differences.add(
            state.tenant,
            "amount",
            f"amounts of entry {ref[0]}.{ref[1]}, by its rates",
            _said(shape, *expected),
            _said(shape, posting.charge, posting.cost),
        )


def _leaves(posting: Posting | UsageRecorded) -> tuple[tuple[int, ...], tuple[int, ...]]:
    extra = posting.extra
    return (extra.leaf_charges, extra.leaf_costs) if extra is not None else ((), ())


def _postings(
    entry: UsageVoided | UsageAdjusted | UsageRerated | CorrectionApplied,
) -> list[Posting]:
    both = [entry.reversed]
    if not isinstance(entry, UsageVoided):
        both.append(entry.posted)
    return [posting for posting in both if posting is not None]


def _said(shape: CompiledShape, charge: int, cost: int) -> str:
    return (
        f"charge {scaled_text(charge, shape.charge_decimals)},"
        f" cost {scaled_text(cost, shape.cost_decimals)}"
    )
