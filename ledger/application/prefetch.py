"""Prefetch: what a batch reads, set by set, before it decides.

Keys of known tenants are looked up while the batch opens. The rest is read only where the kept
states do not have it: keys of new tenants, evidence of conflicts, corrected events and the
commits they cite, balances of periods not touched lately, sessions' running quantities.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ledger.application.ports import Batch, TenantKey
from ledger.application.prefetch_holds import (
    hold_sessions,
    instants,
    key_digests,
    load_counters,
    load_holds,
    restating_captures,
    second_capture,
    wanted_usage,
)
from ledger.application.prefetch_plans import load_running
from ledger.application.workingset import Prepared, TenantWork, load_balances
from ledger.domain.catalog import Catalog
from ledger.domain.commands import Command, RerateUsage
from ledger.domain.entries import UsageRecorded
from ledger.domain.errors import InvariantViolation
from ledger.domain.holds import (
    AuthorizeHold,
    CaptureHold,
    ExtendHold,
    capture_key,
    command_digest,
)
from ledger.domain.ledger import LedgerState
from ledger.domain.periods import period_of
from ledger.domain.usage import (
    AdjustUsage,
    RecordUsage,
    VoidUsage,
    conflict_digest,
    correction_fingerprint,
    key_digest,
)

_CORRECTIONS = (VoidUsage, AdjustUsage)
_ABOUT_USAGE = (VoidUsage, AdjustUsage, RerateUsage)


def load_working_set(
    batch: Batch,
    commands: list[Prepared],
    guarded: list[Prepared],
    works: dict[str, TenantWork],
    known: dict[str, int],
    catalog: Catalog,
    asked_holds: Collection[TenantKey] = (),
) -> bool:
    """Read whatever the commands bear upon and the kept states do not hold.

    Args:
        batch: open.
        commands: of ledgers that are in ``works``.
        guarded: those of them that are not usage, or usage that names a hold.
        works: by tenant.
        known: numbers of tenants whose keys were asked for on opening.
        catalog: prices.
        asked_holds: asked for on opening.

    Returns:
        Whether a key that was looked up is taken.
    """
    by_id = {work.state.tenant_id: work for work in works.values()}
    taken = batch.opening.keys
    late = [prepared for prepared in commands if prepared.tenant not in known]
    if late:
        ids = {name: work.state.tenant_id for name, work in works.items() if work.state.version}
        keys = wanted_keys(late, ids)
        if keys:
            taken = {**taken, **batch.keys(keys)}
    for (tenant_id, digest), row in taken.items():
        by_id[tenant_id].keys[digest] = row
    load_holds(batch, guarded, works, asked_holds)
    if taken or any(work.holds for work in works.values()):
        _load_conflict_keys(batch, commands, works)
    _load_corrections(batch, commands, guarded, works)
    now = batch.opening.now
    at = {name: instants(work, now) for name, work in works.items() if work.state.guard is not None}
    _load_periods(batch, commands, works, at)
    load_counters(batch, works, at, now)
    _load_sessions(batch, commands, works, catalog)
    load_running(batch, commands, works, at)
    return bool(taken)


def _load_corrections(
    batch: Batch,
    commands: list[Prepared],
    guarded: list[Prepared],
    works: dict[str, TenantWork],
) -> None:
    """Load what corrections say of the events at hand, and the commits that they cite."""
    wanted, places = wanted_usage(guarded, works)
    pending = any(work.state.pending for work in works.values())
    if pending or guarded:
        for prepared in commands if pending else guarded:
            command = prepared.command
            work = works[prepared.tenant]
            tenant_id = work.state.tenant_id
            if type(command) is RecordUsage:
                if work.state.pending:
                    wanted[tenant_id, command.key] = work
            elif isinstance(command, _ABOUT_USAGE):
                wanted[tenant_id, _target(command)] = work
    if wanted or places:
        _load_commits(batch, wanted, places)
    restated = restating_captures(guarded, works)
    if restated:
        for place, row in batch.keys(list(restated)).items():
            restated[place].keys[place[1]] = row
        _load_commits(batch, restated, {})


def _load_commits(
    batch: Batch, wanted: dict[TenantKey, TenantWork], places: dict[tuple[int, int], TenantWork]
) -> None:
    """Load corrections of events, and the commits that they, their keys and others cite."""
    if wanted:
        for (tenant_id, digest), found in batch.corrections(list(wanted)).items():
            wanted[tenant_id, digest].state.corrections[digest] = found
    for (tenant_id, digest), work in wanted.items():
        correction = work.state.corrections.get(digest)
        row = work.keys.get(digest)
        refs = [correction.void, correction.adjust, correction.standing] if correction else []
        if row is not None:
            refs.append((row.version, row.index))
        for ref in refs:
            if ref is not None:
                places[tenant_id, ref[0]] = work
    if places:
        for place, commit in batch.commits(list(places)).items():
            places[place].commits[place[1]] = commit


def _load_periods(
    batch: Batch,
    commands: list[Prepared],
    works: dict[str, TenantWork],
    at_by_tenant: dict[str, set[int]],
) -> None:
    """Load the balances of the periods in which something is posted or taken back."""
    wanted: dict[int, tuple[LedgerState, set[str]]] = {}
    now = batch.opening.now
    for prepared in commands:
        command = prepared.command
        state = works[prepared.tenant].state
        if type(command) is RecordUsage:
            at = command.event.occurred_at
            if at is None:
                at = now
        else:
            when = _instant_of(command, state, now)
            if when is None:
                continue
            at = when
        loaded = state.loaded
        if not loaded.start <= at < loaded.end:
            _want_period(wanted, state, at)
        if state.guard is not None:
            at_by_tenant[prepared.tenant].add(at)
    for name, work in works.items():
        for commit in work.commits.values():
            for entry in commit.entries:
                if isinstance(entry, UsageRecorded):
                    _want_period(wanted, work.state, entry.occurred_at)
        for at in at_by_tenant.get(name, ()):
            _want_period(wanted, work.state, at)
    if wanted:
        load_balances(batch, wanted)


def _instant_of(command: Command, state: LedgerState, now: int) -> int | None:
    """Return when a command other than usage posts, takes back or reserves; None for neither."""
    if type(command) is CaptureHold:
        return now if command.occurred_at is None else command.occurred_at
    if type(command) is AuthorizeHold:
        # The default cap starts from what the month has.
        return now
    if type(command) is ExtendHold:
        # It may bind the hold to more budgets in the windows of its authorization.
        hold = state.guard.hold(command.hold) if state.guard is not None else None
        return now if hold is None else hold.at
    return None


def _want_period(
    wanted: dict[int, tuple[LedgerState, set[str]]], state: LedgerState, at: int
) -> None:
    period = period_of(state.timezone, at).name
    if period not in state.balances:
        wanted.setdefault(state.tenant_id, (state, set()))[1].add(period)


def _load_sessions(
    batch: Batch, commands: list[Prepared], works: dict[str, TenantWork], catalog: Catalog
) -> None:
    """Load the running quantities of sessions over which quantities are rounded."""
    wanted: dict[tuple[int, str], LedgerState] = {}
    if catalog.rounds_sessions:
        for prepared in commands:
            command = prepared.command
            state = works[prepared.tenant].state
            if type(command) is RecordUsage and command.event.session:
                wanted[state.tenant_id, command.event.session] = state
            elif (
                type(command) is AuthorizeHold
                and command.ask.session
                and state.guard is not None
                and command.key in state.guard.holds
            ):
                # Usage that came before its authorization learns the session from it.
                wanted[state.tenant_id, command.ask.session] = state
        for work in works.values():
            for session in hold_sessions(work):
                wanted[work.state.tenant_id, session] = work.state
    for work in works.values():
        for commit in work.commits.values():
            for entry in commit.entries:
                extra = entry.extra if isinstance(entry, UsageRecorded) else None
                if extra is not None and extra.session:
                    wanted[work.state.tenant_id, extra.session] = work.state
    if wanted:
        found = batch.accumulators(list(wanted))
        for (tenant_id, session), running in found.items():
            wanted[tenant_id, session].accumulators.update(running)


def wanted_keys(commands: list[Prepared], ids: Mapping[str, int]) -> list[TenantKey]:
    """Return the keys to look up for commands of those tenants."""
    keys: list[TenantKey] = []
    for prepared in commands:
        tenant_id = ids.get(prepared.tenant)
        if tenant_id is None:
            continue
        command = prepared.command
        if type(command) is RecordUsage:
            keys.append((tenant_id, command.key))
        else:
            keys.extend([(tenant_id, digest) for digest in _digests(command)])
    return keys


def _target(command: Command) -> bytes:
    """Return the key digest of the event that a correction or a re-rating is about."""
    if isinstance(command, _CORRECTIONS):
        return key_digest(command.target_source, command.target_id)
    if isinstance(command, RerateUsage):
        return key_digest(command.source, command.id)
    raise InvariantViolation(f"{type(command).__name__} is about no event")


def _digests(command: Command) -> tuple[bytes, ...]:
    """Return the key digests that a command needs to know."""
    if isinstance(command, _CORRECTIONS):
        return key_digest(command.source, command.id), _target(command)
    if isinstance(command, RerateUsage):
        return (_target(command),)
    return key_digests(command)


def _fingerprint(command: Command) -> bytes:
    """Return the digest of what a command says under its key."""
    if isinstance(command, RecordUsage):
        return command.fingerprint
    if isinstance(command, CaptureHold):
        return command_digest(command)
    if isinstance(command, _CORRECTIONS):
        return correction_fingerprint(command)
    raise InvariantViolation(f"{type(command).__name__} has no key")


def _load_conflict_keys(
    batch: Batch, commands: list[Prepared], works: dict[str, TenantWork]
) -> None:
    """Look up whether the evidence of a conflicting payload is kept already."""
    wanted: dict[TenantKey, TenantWork] = {}
    for prepared in commands:
        command = prepared.command
        work = works[prepared.tenant]
        if type(command) is AuthorizeHold:
            continue
        if type(command) is RecordUsage:
            key = command.key
        elif type(command) is CaptureHold:
            key = capture_key(command.source, command.id)
        elif isinstance(command, _CORRECTIONS):
            key = key_digest(command.source, command.id)
        else:
            continue
        row = work.keys.get(key)
        if row is None and not second_capture(work, command):
            continue
        fingerprint = _fingerprint(command)
        if row is not None and row.fingerprint == fingerprint:
            continue
        wanted[work.state.tenant_id, conflict_digest(key, fingerprint)] = work
    if wanted:
        for place, row in batch.keys(list(wanted)).items():
            wanted[place].keys[place[1]] = row
