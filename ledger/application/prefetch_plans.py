"""Prefetch for plans: the running quantities upon which a batch's usage is charged.

Kept states have those of the current days. What is read is the first use of a charge in a period,
past periods, and whatever another process changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from ledger.application.ports import Batch
from ledger.application.workingset import Prepared, TenantWork
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
        of_commits = set(_keys_of_commits(work))
        if of_commits or work.state.plan is not None:
            wanted[name] = of_commits
            for instant in (batch.opening.now, *at.get(name, ())):
                _add(wanted[name], work, instant)
    if not wanted:
        return
    for prepared in commands:
        keys = wanted.get(prepared.tenant)
        if keys is not None and type(prepared.command) is RecordUsage:
            occurred_at = prepared.command.event.occurred_at
            if occurred_at is not None:
                _add(keys, partial[prepared.tenant], occurred_at)
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
