"""Opening a ledger: the use cases over one database, wired to their adapters.

As a library, with the embedded database started if need be:

    with open_ledger() as tallybook:
        outcomes = tallybook.ledger.record([event_bytes])
"""

from __future__ import annotations

import gc
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import date, datetime
from functools import cached_property, partial
from pathlib import Path

import psycopg
from eventsourcing import persistence

from adapters.paper import TypstPrinter
from adapters.postgres import embedded
from adapters.postgres.audit import open_audit
from adapters.postgres.audit_log import PostgresAuditLog, PostgresKeyUses
from adapters.postgres.billing import PostgresBilling
from adapters.postgres.database import Database
from adapters.postgres.jobs import PostgresJobs
from adapters.postgres.key_watch import KeyWatch
from adapters.postgres.keys import PostgresKeys
from adapters.postgres.live import PostgresLiveFeed
from adapters.postgres.migrate import MigrationError, MigrationStatus, check, migrate
from adapters.postgres.plans import PostgresPlans
from adapters.postgres.policies import PostgresPolicies
from adapters.postgres.price_books import PostgresPriceBooks
from adapters.postgres.projections import PostgresProjections
from adapters.postgres.protection_reads import PostgresProtectionReads
from adapters.postgres.readmodels import PostgresReads
from adapters.postgres.repeats import PostgresRepeats
from adapters.postgres.standings import PostgresStandings
from adapters.postgres.stream_sessions import PostgresStreamSessions
from adapters.providers import detect, parse_sse
from adapters.providers import normalize as normalize_response
from adapters.signing import KeyFile
from ledger.application.audit_log import AuditLog
from ledger.application.billing_close import Periods
from ledger.application.billing_rates import Rates, unit_sizes
from ledger.application.budgets import Budgets
from ledger.application.command_queue import LedgerQueue
from ledger.application.corrections import Corrections
from ledger.application.credits import Credits
from ledger.application.engine import Ledger
from ledger.application.entitlements import TenantEntitlements
from ledger.application.evidence import InvoiceEvidence
from ledger.application.ingest import Ingest
from ledger.application.invoicing import Invoicing
from ledger.application.jobs import Jobs
from ledger.application.journals import Journals
from ledger.application.key_uses import KeyUses
from ledger.application.keyring import CachedKeyring
from ledger.application.keys import Keys
from ledger.application.plans import Plans
from ledger.application.policies import Policies
from ledger.application.ports import AuditView, ConnectionLost
from ledger.application.price_shelf import PriceLibrary
from ledger.application.prices import PriceBooks, PriceSources
from ledger.application.protection import Holds
from ledger.application.replay import Difference
from ledger.application.rerating import Rerating
from ledger.application.responses import Responses
from ledger.application.runner import Projections
from ledger.application.sequencer import Sequencer, TenantDefaults
from ledger.application.settling import Settling, rerating_since
from ledger.application.standard_jobs import standard_jobs
from ledger.application.standings import Standings
from ledger.application.subscriptions import Subscriptions
from ledger.application.tenant_plans import TenantPlans
from ledger.application.tenants import Tenants
from ledger.application.verify_billing import billing_differences
from ledger.application.watching import Watch
from ledger.domain.price_records import PriceRecord
from ledger.domain.prices import PriceList
from ledger.projections import billing_daily, usage_daily

FONTS_VARIABLE = "TALLYBOOK_FONTS"
"""Environment variable that names folders of further fonts for invoices, as PATH names folders."""
LEASE_KEY_VARIABLE = "TALLYBOOK_LEASE_KEY"
"""Environment variable that names the file of the key that signs leases."""
Progress = Callable[[str], None]
RESPONSES = Responses(normalize_response, detect, parse_sse)
"""Reads provider responses."""


class Tallybook:
    """The use cases over one database; close it with the context manager that made it.

    Args:
        database: migrated.
        defaults: for ledgers that open themselves when usage arrives.
        watch: told of every batch.
        queue: commits commands elsewhere; this process has a sequencer of its own when left out.
    """

    def __init__(
        self,
        database: Database,
        *,
        defaults: TenantDefaults | None = None,
        watch: Watch | None = None,
        queue: LedgerQueue | None = None,
    ) -> None:
        self.database = database
        self._store = PostgresPriceBooks(database)
        self._library = PriceLibrary(self._store)
        self.policies = Policies(PostgresPolicies(database))
        self.billing_store = PostgresBilling(database)
        self.sequencer: LedgerQueue = queue or self.own_sequencer(defaults=defaults, watch=watch)
        self.ledger = Ledger(self.sequencer)
        self.ingest = Ingest(self.ledger)
        self.responses = RESPONSES
        self.reads = PostgresReads(database)
        self.tenants = Tenants(self.ledger)
        self.holds = Holds(self.sequencer)
        self.protection_reads = PostgresProtectionReads(database)
        self.budgets = Budgets(self.ledger, self.reads, self.protection_reads, self.audit)
        self.credits = Credits(self.ledger, self.reads, self.protection_reads)
        self.repeats = PostgresRepeats(database)
        self.standings = Standings(
            PostgresStandings(database), tenants=self.reads, audit=self.audit
        )
        self.plans = Plans(PostgresPlans(database))
        self._rates = rates = Rates(self.billing_store, self.plans, unit_sizes(self._price))
        self._rerating = Rerating(self.ledger, self._library, self._store, self.reads)
        rerate = rerating_since(self._rerating.rerate)
        settling = Settling(self.billing_store, rates, rerate, self._count_usage)
        self._keys = PostgresKeys(database)
        self.keys = Keys(self._keys, secrets.token_bytes)
        self.subscriptions = Subscriptions(self.billing_store, self.plans, settling.settle)
        self.periods = Periods(
            self.billing_store,
            rates,
            self._count_usage,
            line_of=self.keys.line_of,
            settle=settling.settle,
        )
        self.invoicing = Invoicing(self.billing_store)
        self.evidence = InvoiceEvidence(self.billing_store, self.plans, self.audit)
        self.journals = Journals(
            self.billing_store,
            self.plans,
            self.reads,
            self.protection_reads,
            self.audit,
            self._count_all_usage,
        )
        self.printer = TypstPrinter(font_folders=_font_folders())
        self.live_feed = PostgresLiveFeed(database)
        self.stream_sessions = PostgresStreamSessions(database)
        self.corrections = Corrections(self.ledger)
        self.entitlements = TenantEntitlements(self.ledger, self.reads)
        self.key_uses = PostgresKeyUses(database)
        self._job_store = PostgresJobs(database)
        self._audit_lines = PostgresAuditLog(database)
        self.audit_log = AuditLog(self._audit_lines)

    def own_sequencer(
        self, *, defaults: TenantDefaults | None = None, watch: Watch | None = None
    ) -> Sequencer:
        """Return a sequencer of this process; whoever takes it closes it."""
        return Sequencer(
            self.database.store,
            self._library,
            defaults=defaults,
            policies=self.policies,
            plans=TenantPlans(self.billing_store, Plans(PostgresPlans(self.database))),
            watch=watch,
        )

    @cached_property
    def keyring(self) -> CachedKeyring:
        """Tells whose a token is; with its first use it begins to watch, and to count uses."""
        self._use_counter = KeyUses(self.key_uses)
        keyring = CachedKeyring(self._keys, time.monotonic, uses=self._use_counter)
        self._keys.tell(keyring)
        self._key_watch = KeyWatch(self.database, keyring)
        self._key_watch.start()
        return keyring

    @cached_property
    def prices(self) -> PriceBooks:
        """Price books."""
        sources = PriceSources(pulled=(_genai_prices,), litellm=_litellm_file)
        return PriceBooks(self._library, sources, self._rerating)

    @cached_property
    def jobs(self) -> Jobs:
        """Jobs."""
        return Jobs(
            self._job_store, standard_jobs(self), by=f"{socket.gethostname()} {os.getpid()}"
        )

    @cached_property
    def projections(self) -> Projections:
        """Read models' runners."""
        return Projections.over(self._projection_store)

    @cached_property
    def _projection_store(self) -> PostgresProjections:
        return PostgresProjections(self.database)

    def _price(self, version: str) -> PriceRecord:
        # The price books are loaded when an invoice first needs a price, not before.
        return self.prices.find(version)

    def _count_usage(self) -> None:
        """Make the rollups that invoices are rated from count what is in the log now."""
        self.projections.runner(billing_daily.NAME).catch_up()

    def billing_differences(self, *, tenant: str | None = None) -> Sequence[Difference]:
        """Return where billing's rows are not what its events say, of one tenant or of all."""
        store = self.billing_store
        return billing_differences(
            store=store,
            audit=store,
            series=self.invoicing.series,
            tenant=tenant,
            unsettled=partial(self._rates.unsettled, since=date.min, unpriced=False),
        )

    def _count_all_usage(self) -> None:
        """Make the rollups of usage and of billing count what is in the log now."""
        self._count_usage()
        self.projections.runner(usage_daily.NAME).catch_up()

    def audit(self) -> AbstractContextManager[AuditView]:
        """Open a consistent snapshot of log and state rows."""
        return open_audit(self.database)

    def close(self) -> None:
        """Answer what waits, then let every connection go."""
        self.ingest.close()
        self.live_feed.close()
        self.ledger.close()
        self.standings.close()
        self.repeats.close()
        self.reads.close()
        self.protection_reads.close()
        self.stream_sessions.close()
        self.billing_store.close()
        if "keyring" in self.__dict__:
            self._key_watch.close()
            self._use_counter.close()
        self._keys.close()
        self.key_uses.close()
        self._audit_lines.close()
        self._job_store.close()
        if "_projection_store" in self.__dict__:
            self._projection_store.close()
        self.database.close()


def _genai_prices() -> PriceList:
    # Loading the package's data takes most of a second, which only a pull should pay.
    from adapters.price_sources import genai  # noqa: PLC0415

    return genai.load()


def _litellm_file(*, path: Path, effective_from: datetime) -> PriceList:
    from adapters.price_sources import litellm  # noqa: PLC0415 - as above

    return litellm.load(path=path, effective_from=effective_from)


def migrate_database(*, progress: Progress | None = None) -> MigrationStatus:
    """Start the database where it is ours and bring its schema up to this version."""
    return migrate(embedded.database_url(progress=progress))


def check_database() -> MigrationStatus:
    """Say which migrations the database has and lacks; change nothing in it."""
    return check(embedded.database_url())


def current_database(*, progress: Progress | None = None, migrate_theirs: bool = False) -> str:
    """Return the URL of the environment's database or the embedded one, its schema current.

    Raises:
        DatabaseUnavailable: no server can be had, or its settings are unsafe.
        MigrationError: ``schema_pending`` if a server of the user's lacks migrations.
    """
    url = embedded.database_url(progress=progress)
    ours = not os.environ.get(embedded.URL_VARIABLE)
    _bring_up_to_date(url, ours=ours or migrate_theirs)
    return url


def _bring_up_to_date(url: str, *, ours: bool) -> None:
    if not check(url).pending:
        return
    if not ours:
        raise MigrationError(
            "the database's schema is not current; run `tallybook migrate`", code="schema_pending"
        )
    migrate(url)


@contextmanager
def open_ledger(
    url: str | None = None,
    *,
    defaults: TenantDefaults | None = None,
    progress: Progress | None = None,
    watch: Watch | None = None,
    queue: LedgerQueue | None = None,
) -> Iterator[Tallybook]:
    """Open the ledger: TALLYBOOK_DATABASE_URL, or the embedded database, started if need be.

    Args:
        url: of a database; None takes the environment's or the embedded one.
        defaults: currency, time zone and price book of ledgers that open themselves.
        progress: takes lines for people while a server starts.
        watch: told of every batch.
        queue: as for `Tallybook`.

    Raises:
        DatabaseUnavailable: no server can be had, or its settings are unsafe.
        MigrationError: ``schema_pending`` if a server of the user's lacks migrations; the
            embedded one is migrated at once.
    """
    if url is None:
        url = current_database(progress=progress)
    else:
        embedded.refuse_unsafe_settings(url)
        _bring_up_to_date(url, ours=False)
    tallybook = Tallybook(Database(url), defaults=defaults, watch=watch, queue=queue)
    try:
        yield tallybook
    finally:
        tallybook.close()


@contextmanager
def connections_told() -> Iterator[None]:
    """Tell of a lost connection in the ledger's words."""
    try:
        yield
    except (psycopg.OperationalError, persistence.OperationalError) as error:
        raise ConnectionLost(f"the database connection was lost: {error}") from error


def _font_folders() -> list[Path]:
    named = os.environ.get(FONTS_VARIABLE, "")
    return [Path(folder).expanduser() for folder in named.split(os.pathsep) if folder]


def lease_keys() -> KeyFile:
    """Return the key that signs leases: TALLYBOOK_LEASE_KEY, else keys/lease.pem in the home."""
    named = os.environ.get(LEASE_KEY_VARIABLE)
    if named:
        return KeyFile(Path(named).expanduser().absolute())
    return KeyFile(embedded.default_home() / "keys" / "lease.pem")


def tune_process() -> None:
    """Let the cycle collector come seldom: commands and entries are values without cycles.

    For programs of ours only; a library leaves its host's interpreter alone.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
