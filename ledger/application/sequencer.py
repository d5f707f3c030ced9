"""The sequencer: all callers' commands in one line, one commit for as many as are waiting.

While a commit is in flight the next batch fills: there is no timer and no fixed batch size. A
batch opens a transaction under the writer lock, loads what its commands need, decides them in
order on that working set, appends, commits, and only then answers. An error answer means that
nothing of that submission moved. If the connection dies the batch runs again: idempotency keys
turn whatever did commit into ``duplicate`` with the original receipt.

Thread-safe: `submit` may be called from any thread; `submit_async` from any event loop.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future

import msgspec

from ledger.application.answers import AsyncAnswers
from ledger.application.guarding import expire_due, opens, unknown_tenant
from ledger.application.ports import (
    Batch,
    CatalogSource,
    ConnectionLost,
    KeyTaken,
    LedgerStore,
    PlanSource,
    PolicySource,
)
from ledger.application.prefetch import load_working_set, wanted_keys
from ledger.application.prefetch_holds import wanted_holds
from ledger.application.submissions import Submission, check_size, take
from ledger.application.watching import BatchDone, Unwatched, Watch
from ledger.application.workingset import LedgerCache, Prepared, TenantWork
from ledger.domain.catalog import DEFAULT_BOOK, Catalog
from ledger.domain.commands import Command, OpenLedger, Outcome, tenant_of
from ledger.domain.decide import decide
from ledger.domain.default_cap import DefaultCap
from ledger.domain.entries import stream_of
from ledger.domain.errors import Unavailable
from ledger.domain.estimates import ask_event
from ledger.domain.holds import AuthorizeHold
from ledger.domain.ledger import LedgerState
from ledger.domain.terms import adopt_default
from ledger.domain.usage import (
    RecordUsage,
)

UNLOOKED_COMMANDS = 500
"""Batches of usage from so many commands on may go without looking their keys up."""
UNLOOKED_AFTER = 8
"""They do after so many batches of that size in a row that brought free keys only."""
RETRY_DELAYS_S = (0.05, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Waits between attempts of a batch whose connection was lost."""

_log = logging.getLogger(__name__)


class TenantDefaults(msgspec.Struct, frozen=True):
    """What a ledger is opened with when usage arrives for a tenant nobody has set up."""

    currency: str = "USD"
    timezone: str = "UTC"
    book: str = DEFAULT_BOOK


class SequencerClosed(Unavailable):
    """The sequencer is closed; nothing was recorded."""

    default_code = "ledger_closed"


class Sequencer:
    """Runs commands in batches on one worker thread.

    Args:
        store: where the log is.
        prices: where the catalog comes from.
        defaults: for ledgers that open themselves.
        policies: where the default cap comes from; the built-in one when left out.
        plans: what tenants' plans charge; list prices for all when left out.
        retry_delays_s: waits between attempts after a lost connection.
        watch: told of every batch.

    Attributes:
        watch: the same.
    """

    def __init__(
        self,
        store: LedgerStore,
        prices: CatalogSource,
        *,
        defaults: TenantDefaults | None = None,
        policies: PolicySource | None = None,
        plans: PlanSource | None = None,
        retry_delays_s: Sequence[float] = RETRY_DELAYS_S,
        watch: Watch | None = None,
    ) -> None:
        self.watch = watch or Unwatched()
        self._store = store
        self._prices = prices
        self._defaults = defaults or TenantDefaults()
        self._policies = policies
        self._plans = plans
        self._default_cap = DefaultCap()
        self._retry_delays_s = tuple(retry_delays_s)
        self._cache = LedgerCache()
        self._catalog: Catalog | None = None
        self._answers = AsyncAnswers()
        self._waiting: deque[Submission] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._down = False
        self._free_batches = 0
        # Held while the worker computes and free while it waits for the database. Callers who
        # prepare commands take it, so that they compute when the worker does not: otherwise
        # both share the interpreter at one time, and at the other nobody uses it.
        self.deciding = threading.Lock()
        self._worker: threading.Thread | None = None

    # -- the callers' side ------------------------------------------------------------

    def prepare(self, command: Command) -> Prepared:
        """Rate a command with what is known now; the batch rates again if that is stale."""
        if type(command) is AuthorizeHold:
            return self._prepare_ask(command)
        if type(command) is not RecordUsage:
            return Prepared(tenant_of(command), command)
        event = command.event
        if event.occurred_at is None:
            return Prepared(event.tenant, command)
        state = self._cache.peek(event.tenant)
        place = state or self._defaults
        rated = (self._catalog or self.catalog()).rate(
            event,
            numbers=command.numbers,
            decimals=command.decimals,
            occurred_at=event.occurred_at,
            book=place.book,
            currency=place.currency,
            plan=state.plan if state is not None else None,
        )
        return Prepared(event.tenant, command, rated)

    def _prepare_ask(self, command: AuthorizeHold) -> Prepared:
        """Rate an ask's estimate with the prices of now, as far as this process knows them."""
        place = self._cache.peek(command.tenant)
        if place is None:
            return Prepared(command.tenant, command)
        rated = (self._catalog or self.catalog()).rate(
            ask_event(command.tenant, command.ask),
            numbers=command.numbers,
            decimals=command.decimals,
            occurred_at=time.time_ns() // 1000,
            book=place.book,
            currency=place.currency,
            plan=place.plan,
        )
        return Prepared(command.tenant, command, rated)

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
        future: Future[list[Outcome]] = Future()
        if commands:
            self._queue(Submission(commands, future, self.watch.origin()))
        else:
            future.set_result([])
        return future

    def _queue(self, submission: Submission) -> None:
        check_size(submission.commands)
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

    async def submit_async(self, commands: Sequence[Prepared]) -> list[Outcome]:
        """Queue commands and wait for their commit without blocking the event loop.

        A caller that is cancelled stops waiting; its commands may still be committed.
        """
        if not commands:
            return []
        told = self._answers.expect()
        self._queue(Submission(commands, told, self.watch.origin()))
        outcomes: list[Outcome] = await told.answer
        return outcomes

    @property
    def reachable(self) -> bool:
        """Return whether it takes commands."""
        return not self._closing

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
                taken = take(self._waiting)
            self.answer(taken)
            self._answers.flush()

    def answer(self, taken: Sequence[Submission]) -> None:
        """Commit submissions in one batch on this thread, and tell each what became of it.

        For whoever has a queue of its own: only one thread may do so, and nobody submits here.
        """
        live = [one for one in taken if one.told.set_running_or_notify_cancel()]
        if not live:
            return
        commands = [prepared for one in live for prepared in one.commands]
        begun_s = time.monotonic()
        try:
            outcomes = self._run_with_retries(commands)
        except BaseException as error:
            self._cache.clear()
            if len(live) > 1:
                # One submission's trouble must not fail its neighbors': run them one by one.
                for one in live:
                    self._answer_alone(one)
            else:
                live[0].told.set_exception(error)
            return
        start = 0
        for one in live:
            end = start + len(one.commands)
            one.told.set_result(outcomes[start:end])
            start = end
        self._tell(live, commands, outcomes, begun_s)

    def _answer_alone(self, one: Submission) -> None:
        begun_s = time.monotonic()
        try:
            outcomes = self._run_with_retries(list(one.commands))
        except BaseException as error:
            self._cache.clear()
            one.told.set_exception(error)
            return
        one.told.set_result(outcomes)
        self._tell([one], one.commands, outcomes, begun_s)

    def _tell(
        self,
        live: Sequence[Submission],
        commands: Sequence[Prepared],
        outcomes: Sequence[Outcome],
        begun_s: float,
    ) -> None:
        done_s = time.monotonic()
        # Before anything else is done: the answers of those who wait on an event loop.
        self._answers.flush()
        self.watch.done(
            BatchDone(
                commands,
                outcomes,
                [one.origin for one in live],
                queued_s=min(one.queued_s for one in live),
                begun_s=begun_s,
                done_s=done_s,
                size=len(commands),
            )
        )

    def _run_with_retries(self, commands: list[Prepared]) -> list[Outcome]:
        # What waited while a batch gave up does not wait as long again: one attempt each.
        delays = () if self._down else self._retry_delays_s
        for delay_s in (*delays, None):
            try:
                outcomes = self._batch(commands)
                self._down = False
                return outcomes
            except ConnectionLost as error:
                self._cache.clear()
                if delay_s is None or self._closing:
                    self._down = True
                    raise
                self.watch.repeated()
                _log.warning("batch of %d runs again in %s s: %s", len(commands), delay_s, error)
                time.sleep(delay_s)
        raise SequencerClosed("unreachable")  # pragma: no cover

    def _batch(self, commands: list[Prepared]) -> list[Outcome]:
        """Decide and commit commands; return the answers.

        Looking keys up is a third of the database's work, and where producers do not repeat
        themselves it finds nothing. So once that was so for a while, large batches of usage are
        decided as if all keys were free. The unique index has the last word: if one is taken,
        nothing was committed, and the batch runs again with looking.
        """
        guarded = [
            one
            for one in commands
            if type(one.command) is not RecordUsage or one.command.event.hold
        ]
        large = len(commands) >= UNLOOKED_COMMANDS and not guarded
        if large and self._free_batches >= UNLOOKED_AFTER:
            try:
                return self._commit(commands, guarded, look=False)
            except KeyTaken:
                self._free_batches = 0
                decided = self._known_tenants(commands).values()
                self._cache.drop([stream_of(tenant_id) for tenant_id in decided])
        return self._commit(commands, guarded, look=True)

    def _commit(
        self, commands: list[Prepared], guarded: list[Prepared], *, look: bool
    ) -> list[Outcome]:
        known = self._known_tenants(commands)
        keys = wanted_keys(commands, known) if look else []
        holds = wanted_holds(guarded, self._cache)
        with self._store.batch(since=self._cache.position, keys=keys, holds=holds) as batch:
            opening = batch.opening
            if self._cache.drop(opening.changed) or self._catalog is None:
                self._catalog = self._prices.load()
                self._default_cap = self._policies.load() if self._policies else DefaultCap()
            catalog = self._catalog
            works = self._works(batch, commands)
            here = commands
            if any(prepared.tenant not in works for prepared in guarded):
                here = [prepared for prepared in commands if prepared.tenant in works]
                guarded = [prepared for prepared in guarded if prepared.tenant in works]
            taken = load_working_set(batch, here, guarded, works, known, catalog, holds)
            with self.deciding:
                for work in works.values():
                    expire_due(work, catalog, opening.now)
                outcomes = self._decide_all(commands, works, catalog, opening.now)
                writes = [work.write(opening.now) for work in works.values() if work.entries]
            head = batch.write(writes) if writes else opening.head
        if taken:
            self._free_batches = 0
        elif len(commands) >= UNLOOKED_COMMANDS:
            self._free_batches += 1
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
            found = batch.tenants(missing)
            self._load_plans(found)
            states.update((state.tenant, state) for state in found)
        wishes: dict[str, OpenLedger] = {}
        opening: set[str] = set()
        if len(states) < len(names):
            for prepared in commands:
                if isinstance(prepared.command, OpenLedger):
                    wishes.setdefault(prepared.command.tenant, prepared.command)
                if opens(prepared.command):
                    opening.add(prepared.tenant)
        now = batch.opening.now
        works = {}
        for name in names:
            state = states.get(name)
            if state is not None:
                works[name] = TenantWork(state, now)
                continue
            if name not in opening:
                continue
            defaults = wishes.get(name, self._defaults)
            state = batch.open_tenant(
                name, currency=defaults.currency, timezone=defaults.timezone, book=defaults.book
            )
            works[name] = work = TenantWork(state, now)
            work.open()
        return works

    def _load_plans(self, states: list[LedgerState]) -> None:
        """Let ledgers that were just loaded know what their plans charge."""
        for state in states:
            state.partial = True
        if self._plans is not None and states:
            zones = {state.tenant_id: state.timezone for state in states}
            plans = self._plans.load(zones)
            for state in states:
                state.plan = plans.get(state.tenant_id)

    def _decide_all(
        self, commands: list[Prepared], works: dict[str, TenantWork], catalog: Catalog, now: int
    ) -> list[Outcome]:
        """Decide commands in order, each upon what those before it did; return the answers."""
        outcomes = []
        for prepared in commands:
            work = works.get(prepared.tenant)
            if work is None:
                outcomes.append(unknown_tenant(prepared.command))
                continue
            if type(prepared.command) is AuthorizeHold:
                adoption = adopt_default(work.state, self._default_cap, now)
                if adoption is not None:
                    work.append(adoption)
            decision = decide(
                work.state,
                prepared.command,
                known=work,
                catalog=catalog,
                now=now,
                rated=prepared.rated,
            )
            outcomes.append(work.append(decision))
        return outcomes
