"""Prefetch for plans: running quantities that usage is charged upon, and what holds promise.

Kept states have those of the current days. What is read is the first use of a charge in a period,
past periods, and whatever another process changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from ledger.application.ports import Batch
from ledger.application.prefetch_holds import holds_at_hand
from ledger.application.workingset import Prepared, TenantWork
from ledger.domain.plan_rates import promised_key, reserved_key
from ledger.domain.usage import RecordUsage


def load_running(
    batch: Batch,
    commands: list[Prepared],
    works: Mapping[str, TenantWork],
    at: Mapping[str, Collection[int]],
) -> None:
    """Load the running quantities of plans' charges that the commands may read or change.

    Args:
        batch: open.
        commands: of ledgers that are in ``works``; what they cite is loaded.
        works: by tenant.
        at: when usage of holds is posted, or taken back, by tenant.
    """
    partial = {name: work for name, work in works.items() if work.state.partial}
    if not partial:
        return
    wanted: dict[str, set[str]] = {}
    for name, work in partial.items():
        keys = {*_keys_of_commits(work), *_keys_of_holds(work, batch.opening.now)}
        if keys or work.state.plan is not None:
            wanted[name] = keys
            for instant in (batch.opening.now, *at.get(name, ())):
                _add(keys, work, instant)
    if not wanted:
        return
    for prepared in commands:
        of = wanted.get(prepared.tenant)
        if of is not None and type(prepared.command) is RecordUsage:
            occurred_at = prepared.command.event.occurred_at
            if occurred_at is not None:
                _add(of, partial[prepared.tenant], occurred_at)
    missing = {
        (work.state.tenant_id, key): work
        for name, work in partial.items()
        for key in wanted.get(name, ())
        if key not in work.state.running
    }
    if missing:
        found = batch.running(list(missing))
        for (tenant_id, key), work in missing.items():
            work.state.running[key] = found.get((tenant_id, key), 0)


def _add(keys: set[str], work: TenantWork, at: int) -> None:
    plan = work.state.plan
    days = plan.at(at) if plan is not None else None
    if days is not None:
        keys.update(days.keys(at))


def _keys_of_holds(work: TenantWork, now: int) -> Iterator[str]:
    """Yield the keys of what holds promise, and reserve: those at hand, and all open ones now."""
    guard, plan = work.state.guard, work.state.plan
    if not (work.holds or work.has_due):
        return
    days = plan.at(now) if plan is not None else None
    promised = set(days.keys(now)) if days is not None else set()
    at_hand = holds_at_hand(work)
    if guard is not None and work.has_due:
        at_hand += guard.due(now)
    for hold in at_hand:
        promised.update(key for key, _, _ in hold.promises)
    for key in promised:
        yield promised_key(key)
        yield reserved_key(key)


def _keys_of_commits(work: TenantWork) -> Iterator[str]:
    """Yield the keys of what stands in the commits at hand, and of what would be posted instead."""
    state = work.state
    for standing in work.standing():
        at = standing.occurred_at
        for track in state.shapes[standing.shape].tracks:
            if track is not None:
                yield track.key(state.timezone, at)
        days = state.plan.at(at) if state.plan is not None else None
        if days is not None:
            yield from days.keys(at)
