"""Prefetch for cost protection: holds, what is due, and the counters of budget windows.

Kept states have most of it: open holds, and counters of current windows. What is read is what
they do not have: holds that other processes authorized, past windows, holds whose time is over.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ledger.application.ports import Batch, TenantKey
from ledger.application.workingset import LedgerCache, Prepared, TenantWork
from ledger.domain.budgets import Counter
from ledger.domain.commands import Command
from ledger.domain.holds import (
    EXPIRED,
    EXPIRY_SOURCE,
    AuthorizeHold,
    CaptureHold,
    ExtendHold,
    HoldState,
    ProgressHold,
    ReverseCharge,
    VoidHold,
    act_digest,
    capture_key,
    hold_digest,
)
from ledger.domain.protection import CounterKey
from ledger.domain.protection_commands import ConfirmBudget, GrantCredit, SetBudget, WithdrawCredit
from ledger.domain.protection_entries import HoldCaptured
from ledger.domain.usage import RecordUsage, key_digest
from ledger.domain.windows import buckets

_ABOUT_HOLDS = (CaptureHold, ExtendHold, ProgressHold, VoidHold)
_TOOK_BACK = (VoidHold, ReverseCharge)
Place = tuple[int, int]
"""Tenant number and commit number."""


def key_digests(command: Command) -> tuple[bytes, ...]:
    """Return the keys that a command of cost protection needs to know."""
    if type(command) is CaptureHold:
        return (capture_key(command.source, command.id),)
    if type(command) is AuthorizeHold:
        return ()
    if isinstance(command, VoidHold):
        return (act_digest("void", command.void),)
    if isinstance(command, ReverseCharge):
        target = key_digest(command.source, command.capture)
        return act_digest("reversal", command.reversal), target
    if isinstance(command, ConfirmBudget):
        return (act_digest("confirmation", command.id),)
    if isinstance(command, GrantCredit):
        return (act_digest("grant", command.id),)
    if isinstance(command, WithdrawCredit):
        return (act_digest("withdrawal", command.id),)
    return ()


def hold_key(command: Command) -> bytes | None:
    """Return the digest of the hold that a command is about, None for none."""
    # Usage first: there may be thousands in a batch, nearly all without a hold.
    if type(command) is RecordUsage:
        return hold_digest(command.event.hold) if command.event.hold else None
    if type(command) is AuthorizeHold:
        return command.key
    if isinstance(command, _ABOUT_HOLDS):
        return hold_digest(command.hold)
    return None


def wanted_holds(commands: list[Prepared], cache: LedgerCache) -> list[TenantKey]:
    """Return the holds to look up on opening, of ledgers that are kept."""
    wanted: list[TenantKey] = []
    for prepared in commands:
        digest = hold_key(prepared.command)
        if digest is not None:
            state = cache.peek(prepared.tenant)
            guard = state.guard if state is not None else None
            if state is not None and guard is not None and digest not in guard.holds:
                wanted.append((state.tenant_id, digest))
    return wanted


def load_holds(
    batch: Batch,
    commands: list[Prepared],
    works: dict[str, TenantWork],
    asked: Collection[TenantKey],
) -> None:
    """Load the holds that commands are about, and those whose time is over."""
    by_id = {work.state.tenant_id: work for work in works.values()}
    for (tenant_id, known_digest), hold in batch.opening.holds.items():
        owner = by_id.get(tenant_id)
        kept = owner.state.guard if owner is not None else None
        if kept is not None:
            kept.holds.setdefault(known_digest, hold)
    known = set(asked)
    wanted: dict[TenantKey, TenantWork] = {}
    for prepared in commands:
        digest = hold_key(prepared.command)
        if digest is None:
            continue
        work = works[prepared.tenant]
        work.holds.add(digest)
        guard = work.state.guard
        if guard is not None and digest not in guard.holds and work.state.version:
            place = (work.state.tenant_id, digest)
            if place not in known:
                wanted[place] = work
    if wanted:
        for (tenant_id, digest), hold in batch.holds(list(wanted)).items():
            guard = wanted[tenant_id, digest].state.guard
            if guard is not None:
                guard.holds[digest] = hold
    now = batch.opening.now
    late = {
        work.state.tenant_id: work
        for work in works.values()
        if work.state.guard is not None and work.state.guard.next_expiry <= now
    }
    if late:
        _load_due(batch, late)


def _load_due(batch: Batch, late: dict[int, TenantWork]) -> None:
    due = batch.due_holds(list(late))
    for tenant_id, hold in due:
        work = late[tenant_id]
        digest = hold_digest(hold.id)
        guard = work.state.guard
        if guard is not None and digest not in guard.holds:
            guard.holds[digest] = hold
        work.holds.add(digest)
    after = batch.next_expiries(list(late))
    # Beyond the limit nobody knows whose holds are left: all of them look again.
    behind = set(late) if len(due) >= DUE_AT_ONCE else set()
    for tenant_id, work in late.items():
        work.next_expiry = batch.opening.now if tenant_id in behind else after.get(tenant_id)
        work.has_due = True


DUE_AT_ONCE = 1_000
"""Holds that one batch expires at most; the next batch goes on."""


def wanted_usage(
    commands: list[Prepared], works: dict[str, TenantWork]
) -> tuple[dict[TenantKey, TenantWork], dict[Place, TenantWork]]:
    """Return keys of usage events whose corrections count, and commits to load beside them."""
    targets: dict[TenantKey, TenantWork] = {}
    places: dict[Place, TenantWork] = {}
    for work in works.values():
        _usage_of_holds(work, targets, places)
    for prepared in commands:
        command = prepared.command
        if type(command) is RecordUsage:
            continue
        work = works[prepared.tenant]
        tenant_id = work.state.tenant_id
        if type(command) is AuthorizeHold:
            version = work.answers.get(command.key)
            if version is not None:
                places[tenant_id, version] = work
        elif type(command) is CaptureHold:
            if work.state.pending:
                targets[tenant_id, capture_key(command.source, command.id)] = work
        elif isinstance(command, _TOOK_BACK):
            for digest in key_digests(command):
                row = work.keys.get(digest)
                if row is not None:
                    places[tenant_id, row.version] = work
                    targets[tenant_id, digest] = work
        elif isinstance(command, SetBudget):
            for version in range(command.as_of + 1, work.state.version + 1):
                places[tenant_id, version] = work
    return targets, places


def _usage_of_holds(
    work: TenantWork, targets: dict[TenantKey, TenantWork], places: dict[Place, TenantWork]
) -> None:
    """Add the usage events that captures and expiries of the holds at hand restate or record."""
    tenant_id = work.state.tenant_id
    for hold in holds_at_hand(work):
        if hold.usage[0]:
            targets[tenant_id, key_digest(*hold.usage)] = work
            places[tenant_id, hold.usage_version] = work
        elif work.has_due and work.state.pending:
            # Its expiry may record usage that was corrected in advance.
            targets[tenant_id, key_digest(EXPIRY_SOURCE, hold.id)] = work
        if hold.version and hold.code:
            work.answers[hold_digest(hold.id)] = hold.version


def restating_captures(
    commands: list[Prepared], works: dict[str, TenantWork]
) -> dict[TenantKey, TenantWork]:
    """Return keys of the usage events that reversed captures restated; commits are loaded."""
    targets: dict[TenantKey, TenantWork] = {}
    for prepared in commands:
        command = prepared.command
        if isinstance(command, ReverseCharge):
            work = works[prepared.tenant]
            row = work.keys.get(key_digest(command.source, command.capture))
            if row is not None:
                entry = work.entry((row.version, row.index))
                if isinstance(entry, HoldCaptured):
                    targets[work.state.tenant_id, key_digest(*entry.usage)] = work
    return targets


def holds_at_hand(work: TenantWork) -> list[HoldState]:
    """Return the holds that a batch is about, as far as they are known."""
    guard = work.state.guard
    if guard is None:
        return []
    held = guard.holds
    return [hold for digest in work.holds if (hold := held.get(digest)) is not None]


def instants(work: TenantWork, now: int) -> set[int]:
    """Return when usage of a tenant's holds is posted, or taken back: past periods and windows."""
    at = {now}
    for hold in holds_at_hand(work):
        if work.has_due or hold.status == EXPIRED:
            at.add(hold.expires_at)
    at.update(standing.occurred_at for standing in work.standing())
    return at


def load_counters(
    batch: Batch, works: dict[str, TenantWork], at: dict[str, set[int]], now: int
) -> None:
    """Load the counters of all budget windows that a batch reads or changes.

    Args:
        batch: open.
        works: by tenant.
        at: when usage is posted, or taken back, by tenant.
        now: of the batch.
    """
    wanted: dict[tuple[int, CounterKey], TenantWork] = {}
    for name, work in works.items():
        guard = work.state.guard
        if guard is None or not guard.budgets or not work.state.version:
            continue
        have = guard.counters
        for key in _keys(work, at.get(name, ()), now):
            if key not in have:
                wanted[work.state.tenant_id, key] = work
    if not wanted:
        return
    found = batch.counters(list(wanted))
    for place, work in wanted.items():
        guard = work.state.guard
        if guard is not None:
            guard.counters[place[1]] = found.get(place) or Counter()


def _keys(work: TenantWork, at: Iterable[int], now: int) -> Iterable[CounterKey]:
    guard = work.state.guard
    if guard is None:
        return
    zone = guard.timezone
    for budget in guard.live:
        number = budget.number
        if budget.rolls is None:
            yield number, budget.window(zone, now)
        else:
            for start in buckets(zone, budget.terms.window, now):
                yield number, start
        for instant in at:
            if instant != now:
                yield number, budget.window(zone, instant)
    for hold in holds_at_hand(work):
        for number, start, _ in hold.bindings:
            yield number, start


def second_capture(work: TenantWork, command: Command) -> bool:
    """Tell whether a capture, or usage, is about a hold that has its final capture."""
    digest = hold_key(command)
    guard = work.state.guard
    hold = guard.holds.get(digest) if guard is not None and digest is not None else None
    return hold is not None and hold.final


def hold_sessions(work: TenantWork) -> set[str]:
    """Return the sessions of the holds at hand."""
    extras = (hold.extra for hold in holds_at_hand(work))
    return {extra.session for extra in extras if extra is not None and extra.session}
