"""The sequencer: all callers' commands in one line, one commit for as many as are waiting.

While a commit is in flight the next batch fills: there is no timer and no fixed batch size. A
batch opens a transaction under the writer lock, loads what its commands need, decides them in
order on that working set, appends, commits, and only then answers. An error answer means that
nothing of that submission moved. If the connection dies the batch runs again: idempotency keys
turn whatever did commit into ``duplicate`` with the original receipt.

Thread-safe: `submit` may be called from any thread; `submit_async` from any event loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future

import msgspec

from ledger.application.ports import (
    Batch,
    CatalogSource,
    ConnectionLost,
    LedgerStore,
    TenantKey,
)
from ledger.application.workingset import LedgerCache, TenantWork, load_balances
from ledger.domain.catalog import DEFAULT_BOOK, Catalog, Rated
from ledger.domain.decide import Command, OpenLedger, Outcome, RerateUsage, decide
from ledger.domain.entries import UsageRecorded
from ledger.domain.errors import InvalidInput, InvariantViolation, Unavailable
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

MAX_BATCH_COMMANDS = 4096
"""A batch takes waiting submissions until it has this many commands."""
MAX_SUBMISSION_COMMANDS = 10_000
"""Most commands of one submission; it is never split over two commits."""
RETRY_DELAYS_S = (0.05, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Waits between attempts of a batch whose connection was lost."""

_log = logging.getLogger(__name__)


class TenantDefaults(msgspec.Struct, frozen=True):
    """What a ledger is opened with when usage arrives for a tenant nobody has set up."""

    currency: str = "USD"
    timezone: str = "UTC"
    book: str = DEFAULT_BOOK


class Prepared(msgspec.Struct, gc=False, frozen=True):
    """A command, and for usage its amounts, found before the lock is taken."""

    tenant: str
    command: Command
    rated: Rated | None = None


class SequencerClosed(Unavailable):
    """The sequencer is closed; nothing was recorded."""

    default_code = "ledger_closed"


class _Submission:
    __slots__ = ("commands", "future")

    def __init__(self, commands: Sequence[Prepared]) -> None:
        self.commands = commands
        self.future: Future[list[Outcome]] = Future()


class Sequencer:
    """Runs commands in batches on one worker thread.

    Args:
        store: where the log is.
        prices: where the catalog comes from.
        defaults: for ledgers that open themselves.
        retry_delays_s: waits between attempts after a lost connection.
    """

    def __init__(
        self,
        store: LedgerStore,
        prices: CatalogSource,
        *,
        defaults: TenantDefaults | None = None,
        retry_delays_s: Sequence[float] = RETRY_DELAYS_S,
    ) -> None:
        self._store = store
        self._prices = prices
        self._defaults = defaults or TenantDefaults()
        self._retry_delays_s = tuple(retry_delays_s)
        self._cache = LedgerCache()
        self._catalog: Catalog | None = None
        self._waiting: deque[_Submission] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._worker: threading.Thread | None = None

    # -- the callers' side ------------------------------------------------------------

    def prepare(self, command: Command) -> Prepared:
        """Rate a command with what is known now; the batch rates again if that is stale."""
        if type(command) is not RecordUsage:
            return Prepared(command.tenant, command)  # type: ignore[union-attr] # only usage wraps
        event = command.event
        if event.occurred_at is None:
            return Prepared(event.tenant, command)
        place = self._cache.peek(event.tenant) or self._defaults
        rated = (self._catalog or self.catalog()).rate(
            event,
            numbers=command.numbers,
            decimals=command.decimals,
            occurred_at=event.occurred_at,
            book=place.book,
            currency=place.currency,
        )
        return Prepared(event.tenant, command, rated)

    def catalog(self) -> Catalog:
        """Return the catalog of approved prices that batches rate with now."""
        catalog = self._catalog
        if catalog is None:
            catalog = self._catalog = self._prices.load()
        return catalog

    def submit(self, commands: Sequence[Prepared]) -> Future[list[Outcome]]:
        """Queue commands; the future answers after their commit, one outcome a command.

        Raises:
            InvalidInput: ``too_many_commands`` above 10,000 in one submission.
            SequencerClosed: it was closed before.
        """
        if len(commands) > MAX_SUBMISSION_COMMANDS:
            raise InvalidInput(
                f"{len(commands)} commands at once; at most {MAX_SUBMISSION_COMMANDS} are possible",
                code="too_many_commands",
            )
        submission = _Submission(commands)
        if not commands:
            submission.future.set_result([])
            return submission.future
        with self._wake:
            if self._closing:
                raise SequencerClosed("the ledger is closed; open it again")
            if self._worker is None:
                self._worker = threading.Thread(
                    target=self._run, name="tallybook-sequencer", daemon=True
                )
                self._worker.start()
            self._waiting.append(submission)
            self._wake.notify()
        return submission.future

    async def submit_async(self, commands: Sequence[Prepared]) -> list[Outcome]:
        """Queue commands and wait for their commit without blocking the event loop.

        A caller that is cancelled stops waiting; its commands may still be committed.
        """
        return await asyncio.shield(asyncio.wrap_future(self.submit(commands)))

    def close(self) -> None:
        """Answer everything that waits, then stop the worker."""
        with self._wake:
            self._closing = True
            self._wake.notify()
            worker = self._worker
        if worker is not None and worker is not threading.current_thread():
            worker.join()

    # -- the worker's side ------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._closing:
                    self._wake.wait()
                if not self._waiting:
                    return
                taken = self._take()
            self._answer(taken)

    def _take(self) -> list[_Submission]:
        taken: list[_Submission] = []
        count = 0
        while self._waiting:
            count += len(self._waiting[0].commands)
            if taken and count > MAX_BATCH_COMMANDS:
                break
            taken.append(self._waiting.popleft())
        return taken

    def _answer(self, taken: list[_Submission]) -> None:
        live = [one for one in taken if one.future.set_running_or_notify_cancel()]
        if not live:
            return
        commands = [prepared for one in live for prepared in one.commands]
        try:
            outcomes = self._run_with_retries(commands)
        except BaseException as error:
            self._cache.clear()
            if len(live) > 1:
                # One submission's trouble must not fail its neighbors': run them one by one.
                for one in live:
                    self._answer_alone(one)
            else:
                live[0].future.set_exception(error)
            return
        start = 0
        for one in live:
            end = start + len(one.commands)
            one.future.set_result(outcomes[start:end])
            start = end

    def _answer_alone(self, one: _Submission) -> None:
        try:
            one.future.set_result(self._run_with_retries(list(one.commands)))
        except BaseException as error:
            self._cache.clear()
            one.future.set_exception(error)

    def _run_with_retries(self, commands: list[Prepared]) -> list[Outcome]:
        for delay_s in (*self._retry_delays_s, None):
            try:
                return self._batch(commands)
            except ConnectionLost as error:
                self._cache.clear()
                if delay_s is None or self._closing:
                    raise
                _log.warning("batch of %d runs again in %s s: %s", len(commands), delay_s, error)
                time.sleep(delay_s)
        raise SequencerClosed("unreachable")  # pragma: no cover

    def _batch(self, commands: list[Prepared]) -> list[Outcome]:
        known = self._known_tenants(commands)
        keys = _wanted_keys(commands, known)
        with self._store.batch(since=self._cache.position, keys=keys) as batch:
            opening = batch.opening
            if self._cache.drop(opening.changed) or self._catalog is None:
                self._catalog = self._prices.load()
            catalog = self._catalog
            works = self._works(batch, commands)
            self._load(batch, commands, works, known, catalog)
            outcomes = []
            now = opening.now
            for prepared in commands:
                work = works[prepared.tenant]
                decision = decide(
                    work.state,
                    prepared.command,
                    known=work,
                    catalog=catalog,
                    now=now,
                    rated=prepared.rated,
                )
                outcomes.append(work.append(decision))
            writes = [work.write(now) for work in works.values() if work.entries]
            head = batch.write(writes) if writes else opening.head
        kept = (work.state for work in works.values() if work.state.version)
        self._cache.keep(kept, position=head)
        return outcomes

    def _known_tenants(self, commands: list[Prepared]) -> dict[str, int]:
        """Return the numbers of those tenants whose state is kept."""
        known = {}
        for name in {prepared.tenant for prepared in commands}:
            state = self._cache.get(name)
            if state is not None:
                known[name] = state.tenant_id
        return known

    @staticmethod
    def _load(
        batch: Batch,
        commands: list[Prepared],
        works: dict[str, TenantWork],
        known: dict[str, int],
        catalog: Catalog,
    ) -> None:
        """Read whatever the commands bear upon and the kept states do not hold."""
        by_id = {work.state.tenant_id: work for work in works.values()}
        taken = batch.opening.keys
        late = [prepared for prepared in commands if prepared.tenant not in known]
        if late:
            ids = {name: work.state.tenant_id for name, work in works.items() if work.state.version}
            keys = _wanted_keys(late, ids)
            if keys:
                taken = {**taken, **batch.keys(keys)}
        for (tenant_id, digest), row in taken.items():
            by_id[tenant_id].keys[digest] = row
        if taken:
            _load_conflict_keys(batch, commands, works)
        _load_corrections(batch, commands, works)
        _load_periods(batch, commands, works)
        _load_sessions(batch, commands, works, catalog)

    def _works(self, batch: Batch, commands: list[Prepared]) -> dict[str, TenantWork]:
        names = dict.fromkeys(prepared.tenant for prepared in commands)
        states: dict[str, LedgerState] = {}
        missing = []
        for name in names:
            state = self._cache.get(name)
            if state is None:
                missing.append(name)
            else:
                states[name] = state
        if missing:
            states.update((state.tenant, state) for state in batch.tenants(missing))
        wishes: dict[str, OpenLedger] = {}
        if len(states) < len(names):
            for prepared in commands:
                if isinstance(prepared.command, OpenLedger):
                    wishes.setdefault(prepared.command.tenant, prepared.command)
        works = {}
        for name in names:
            state = states.get(name)
            if state is not None:
                works[name] = TenantWork(state)
                continue
            defaults = wishes.get(name, self._defaults)
            state = batch.open_tenant(
                name, currency=defaults.currency, timezone=defaults.timezone, book=defaults.book
            )
            works[name] = work = TenantWork(state)
            work.open()
        return works


def _load_corrections(batch: Batch, commands: list[Prepared], works: dict[str, TenantWork]) -> None:
    """Load what corrections say of the events at hand, and the commits that they cite."""
    if not any(work.state.pending for work in works.values()) and all(
        type(prepared.command) is RecordUsage for prepared in commands
    ):
        return
    wanted: dict[TenantKey, TenantWork] = {}
    for prepared in commands:
        command = prepared.command
        work = works[prepared.tenant]
        tenant_id = work.state.tenant_id
        if type(command) is RecordUsage:
            if work.state.pending:
                wanted[tenant_id, command.key] = work
        elif not isinstance(command, OpenLedger):
            wanted[tenant_id, _target(command)] = work
    if not wanted:
        return
    for (tenant_id, digest), found in batch.corrections(list(wanted)).items():
        wanted[tenant_id, digest].state.corrections[digest] = found
    places: dict[tuple[int, int], TenantWork] = {}
    for (tenant_id, digest), work in wanted.items():
        correction = work.state.corrections.get(digest)
        row = work.keys.get(digest)
        refs = [correction.void, correction.adjust, correction.standing] if correction else []
        if row is not None:
            refs.append((row.version, row.index))
        for ref in refs:
            if ref is not None:
                places[tenant_id, ref[0]] = work
    for place, commit in batch.commits(list(places)).items():
        places[place].commits[place[1]] = commit


def _load_periods(batch: Batch, commands: list[Prepared], works: dict[str, TenantWork]) -> None:
    """Load the balances of the periods in which something is posted or taken back."""
    wanted: dict[int, tuple[LedgerState, set[str]]] = {}
    now = batch.opening.now
    for prepared in commands:
        command = prepared.command
        if type(command) is RecordUsage:
            state = works[prepared.tenant].state
            at = command.event.occurred_at
            if at is None:
                at = now
            loaded = state.loaded
            if not loaded.start <= at < loaded.end:
                _want_period(wanted, state, at)
    for work in works.values():
        for commit in work.commits.values():
            for entry in commit.entries:
                if isinstance(entry, UsageRecorded):
                    _want_period(wanted, work.state, entry.occurred_at)
    if wanted:
        load_balances(batch, wanted)


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
            if type(command) is RecordUsage and command.event.session:
                state = works[prepared.tenant].state
                wanted[state.tenant_id, command.event.session] = state
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


def _wanted_keys(commands: list[Prepared], ids: Mapping[str, int]) -> list[TenantKey]:
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
    if isinstance(command, VoidUsage | AdjustUsage):
        return key_digest(command.target_source, command.target_id)
    if isinstance(command, RerateUsage):
        return key_digest(command.source, command.id)
    raise InvariantViolation(f"{type(command).__name__} is about no event")


def _digests(command: Command) -> tuple[bytes, ...]:
    """Return the key digests that a command needs to know."""
    if isinstance(command, VoidUsage | AdjustUsage):
        return key_digest(command.source, command.id), _target(command)
    if isinstance(command, OpenLedger):
        return ()
    return (_target(command),)


def _load_conflict_keys(
    batch: Batch, commands: list[Prepared], works: dict[str, TenantWork]
) -> None:
    """Look up whether the evidence of a conflicting payload is kept already."""
    wanted: dict[TenantKey, TenantWork] = {}
    for prepared in commands:
        command = prepared.command
        work = works[prepared.tenant]
        if isinstance(command, RerateUsage | OpenLedger) or not work.keys:
            continue
        if type(command) is RecordUsage:
            key, fingerprint = command.key, command.fingerprint
        else:
            key = key_digest(command.source, command.id)  # type: ignore[union-attr] # a correction
            fingerprint = correction_fingerprint(command)  # type: ignore[arg-type] # a correction
        row = work.keys.get(key)
        if row is not None and row.fingerprint != fingerprint:
            wanted[work.state.tenant_id, conflict_digest(key, fingerprint)] = work
    if wanted:
        for place, row in batch.keys(list(wanted)).items():
            wanted[place].keys[place[1]] = row
