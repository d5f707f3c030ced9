"""The composition root: the one place that knows every adapter and wires the use cases.

As a library:

    with open_ledger() as tallybook:                   # starts the embedded database if needed
        outcomes = tallybook.ledger.record([event_bytes])

As a command: ``tallybook`` (`main`).
"""

from __future__ import annotations

import gc
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from datetime import date, datetime
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import msgspec
import psycopg
import typer
from eventsourcing import persistence

from adapters.cli import app as command_line
from adapters.cli import (
    audit,
    balance,
    billing_periods,
    budgets,
    credits,
    db,
    demo,
    entitlements,
    events,
    explain,
    holds,
    import_,
    invoice_forms,
    invoices,
    jobs,
    journal,
    keys,
    leases,
    normalize,
    plans,
    projections,
    setup,
    simulate,
    up,
    usage,
    verify,
)
from adapters.cli import prices as prices_cli
from adapters.cli.output import err
from adapters.cli.protection_output import user
from adapters.paper import TypstPrinter
from adapters.postgres import embedded
from adapters.postgres.audit import open_audit
from adapters.postgres.audit_log import PostgresAuditLog, PostgresKeyUses
from adapters.postgres.billing import PostgresBilling
from adapters.postgres.database import Database
from adapters.postgres.jobs import PostgresJobs
from adapters.postgres.key_watch import KeyWatch
from adapters.postgres.keys import PostgresKeys
from adapters.postgres.leader import PostgresLeader
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
from adapters.scheduler import ApTicker
from adapters.signing import KeyFile
from ledger.application.access import Keyring
from ledger.application.audit_log import AuditLog
from ledger.application.audited import Actor, audited
from ledger.application.billing_close import Periods
from ledger.application.billing_rates import Rates, unit_sizes
from ledger.application.budgets import Budgets
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
from ledger.application.scheduling import Scheduling
from ledger.application.sequencer import Sequencer, TenantDefaults
from ledger.application.services import Services
from ledger.application.settling import Settling, rerating_since
from ledger.application.standard_jobs import standard_jobs
from ledger.application.standings import Standings
from ledger.application.subscriptions import Subscriptions
from ledger.application.tenant_plans import TenantPlans
from ledger.application.tenants import Tenants
from ledger.application.upkeep import Upkeep
from ledger.application.verify_billing import billing_differences
from ledger.application.watching import Watch, Watches
from ledger.domain.price_records import PriceRecord
from ledger.domain.prices import PriceList
from ledger.projections import billing_daily, usage_daily

FONTS_VARIABLE = "TALLYBOOK_FONTS"
"""Environment variable that names folders of further fonts for invoices, as PATH names folders."""
LEASE_KEY_VARIABLE = "TALLYBOOK_LEASE_KEY"
"""Environment variable that names the file of the key that signs leases."""
if TYPE_CHECKING:
    from adapters.http.gate import Gate, Observer
    from adapters.http.lifecycle import Lifecycle
    from adapters.http.metrics import Metrics
    from adapters.http.server import ServerSettings, Serving

Progress = Callable[[str], None]
RESPONSES = Responses(normalize_response, detect, parse_sse)
"""Reads provider responses."""


class Tallybook:
    """The use cases over one database; close it with the context manager that made it.

    Args:
        database: migrated.
        defaults: for ledgers that open themselves when usage arrives.
        watch: told of every batch.
    """

    def __init__(
        self,
        database: Database,
        *,
        defaults: TenantDefaults | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.database = database
        self._store = PostgresPriceBooks(database)
        self._library = PriceLibrary(self._store)
        self.policies = Policies(PostgresPolicies(database))
        self.billing_store = PostgresBilling(database)
        self.sequencer = Sequencer(
            database.store,
            self._library,
            defaults=defaults,
            policies=self.policies,
            plans=TenantPlans(self.billing_store, Plans(PostgresPlans(database))),
            watch=watch,
        )
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


def _current_database(*, progress: Progress | None = None, migrate_theirs: bool = False) -> str:
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
) -> Iterator[Tallybook]:
    """Open the ledger: TALLYBOOK_DATABASE_URL, or the embedded database, started if need be.

    Args:
        url: of a database; None takes the environment's or the embedded one.
        defaults: currency, time zone and price book of ledgers that open themselves.
        progress: takes lines for people while a server starts.
        watch: told of every batch.

    Raises:
        DatabaseUnavailable: no server can be had, or its settings are unsafe.
        MigrationError: ``schema_pending`` if a server of the user's lacks migrations; the
            embedded one is migrated at once.
    """
    if url is None:
        url = _current_database(progress=progress)
    else:
        embedded.refuse_unsafe_settings(url)
        _bring_up_to_date(url, ours=False)
    tallybook = Tallybook(Database(url), defaults=defaults, watch=watch)
    try:
        yield tallybook
    finally:
        tallybook.close()


def http_app(
    tallybook: Tallybook,
    *,
    keyring: Keyring,
    observer: Observer,
    lifecycle: Lifecycle | None = None,
    metrics: Metrics | None = None,
    open_metrics: bool = False,
) -> Gate:
    """Return the HTTP application over an open ledger.

    Args:
        tallybook: the use cases.
        keyring: knows the keys.
        observer: counts and logs requests.
        lifecycle: of the process; one that never ends when left out.
        metrics: of the process; those of one that counts nothing when left out.
        open_metrics: whether ``/metrics`` needs no key.
    """
    # The web framework takes a second to load, which only a server should pay: here, and below.
    from adapters.http import app as http  # noqa: PLC0415 - as said

    return http.build(
        tallybook,
        keyring=keyring,
        observer=observer,
        lifecycle=lifecycle,
        metrics=metrics,
        open_metrics=open_metrics,
    )


def run_server(options: up.UpOptions, *, ready: Callable[[up.Ready], None], say: Progress) -> bool:
    """Serve the HTTP API until a signal ends it; see `adapters.cli.up.RunServer`."""
    from adapters.http import listening, running  # noqa: PLC0415 - as in `http_app`
    from adapters.http.protocol import Limits  # noqa: PLC0415 - as in `http_app`
    from adapters.http.server import ServerSettings  # noqa: PLC0415 - as in `http_app`

    settings = ServerSettings(
        host=options.host,
        port=options.port,
        workers=options.workers,
        drain_timeout_s=options.drain_timeout_s,
        hang_timeout_s=options.hang_timeout_s,
        limits=Limits(connections=options.max_connections),
        log_format=options.log_format,
        log_level=options.log_level,
        access_log=options.access_log,
        upkeep=options.upkeep,
        jobs=options.jobs,
        open_metrics=options.open_metrics,
    )
    prepare_process(settings)
    # Bound first: a port in use is told before a database is started.
    with (
        running.bound(settings, say=say) as sockets,
        _connections_told(),
        _counting_together(settings) as (settings, on_death),
    ):
        url = _current_database(progress=say, migrate_theirs=options.migrate)

        def answers() -> None:
            host, port = sockets[0].getsockname()[:2]
            ready(
                up.Ready(
                    url=listening.url_of(sockets),
                    host=host,
                    port=port,
                    pid=os.getpid(),
                    workers=settings.workers,
                    admin_key=_first_key(url),
                )
            )

        return running.run(
            sockets,
            settings,
            open_app=partial(_open_app, url),
            prepare=prepare_process,
            beside=partial(_open_beside, url, settings),
            ready=answers,
            on_death=on_death,
        )


def prepare_process(settings: ServerSettings) -> None:
    """Set a server's process up, before it opens anything."""
    from adapters.http import logs, metrics  # noqa: PLC0415 - as in `http_app`

    logs.configure(format=settings.log_format, level=settings.log_level, worker=settings.slot)
    if settings.metrics_dir:
        metrics.share(settings.metrics_dir, settings.slot)
    tune_process()


@contextmanager
def _counting_together(
    settings: ServerSettings,
) -> Iterator[tuple[ServerSettings, Callable[[int], None]]]:
    """Give workers a place to count in; return what to start them with, and who hears of deaths."""
    from adapters.http import metrics  # noqa: PLC0415 - as in `http_app`

    if settings.workers == 1:
        yield settings, lambda slot: None
        return
    with TemporaryDirectory(prefix="tallybook-metrics-") as directory:
        for slot in (metrics.SUPERVISOR, *map(str, range(settings.workers))):
            metrics.reserve(directory, slot)
        metrics.share(directory, metrics.SUPERVISOR)
        counts = metrics.Metrics()

        def died(slot: int) -> None:
            metrics.forget_dead(directory, str(slot))
            counts.died()

        yield msgspec.structs.replace(settings, metrics_dir=directory), died


@contextmanager
def _open_app(url: str, settings: ServerSettings, lifecycle: Lifecycle) -> Iterator[Serving]:
    """Open what one process serves; leaving it answers what waits."""
    from adapters.http import tracing  # noqa: PLC0415 - as in `http_app`
    from adapters.http.metrics import Metrics  # noqa: PLC0415 - as in `http_app`
    from adapters.http.observing import AccessLog, Observers  # noqa: PLC0415 - as in `http_app`
    from adapters.http.server import Serving  # noqa: PLC0415 - as in `http_app`

    metrics = Metrics()
    observer = Observers([metrics, AccessLog()]) if settings.access_log else metrics
    traces = tracing.open_traces(os.environ)
    watch = metrics if traces is None else Watches([metrics, traces])
    with closing(traces) if traces else nullcontext(), open_ledger(url, watch=watch) as tallybook:
        app = http_app(
            tallybook,
            keyring=tallybook.keyring,
            observer=observer,
            lifecycle=lifecycle,
            metrics=metrics,
            open_metrics=settings.open_metrics,
        )
        metrics.answering()
        streams = app.streams
        if streams is None:
            raise RuntimeError("the application has no streams")
        with _beside(tallybook, settings) if settings.workers == 1 else nullcontext():
            served = app if traces is None else traces.around(app)
            yield Serving(served, refused=metrics.refused, end_sessions=streams.close_all)


@contextmanager
def _open_beside(url: str, settings: ServerSettings) -> Iterator[None]:
    """Do upkeep and jobs beside workers."""
    if not settings.upkeep and not settings.jobs:
        yield
        return
    with open_ledger(url) as tallybook, _beside(tallybook, settings):
        yield


@contextmanager
def _beside(tallybook: Tallybook, settings: ServerSettings) -> Iterator[None]:
    """Do what a server does beside answering."""
    with (
        _upkeep(tallybook) if settings.upkeep else nullcontext(),
        _scheduling(tallybook) if settings.jobs else nullcontext(),
    ):
        yield


@contextmanager
def _scheduling(tallybook: Tallybook) -> Iterator[None]:
    scheduling = Scheduling(
        leader=PostgresLeader(tallybook.database, "jobs"), ticker=ApTicker, jobs=tallybook.jobs
    )
    scheduling.start()
    try:
        yield
    finally:
        scheduling.close()


@contextmanager
def _upkeep(tallybook: Tallybook) -> Iterator[None]:
    upkeep = Upkeep(
        leader=PostgresLeader(tallybook.database, "upkeep"),
        projections=tallybook.projections,
        ledger=tallybook.ledger,
        protection=tallybook.protection_reads,
        told=lambda statuses: None,
    )
    upkeep.start()
    try:
        yield
    finally:
        upkeep.close()


def _first_key(url: str) -> str | None:
    """Make the first key if there is none; None if there is one. Safe against itself."""
    with closing(Tallybook(Database(url))) as tallybook:
        services = audited(tallybook, tallybook.audit_log, Actor(who=user(""), via="cli"))
        issued = services.keys.issue_first(
            {"name": "first admin key", "scopes": ["admin"]}, by="tallybook up"
        )
    return None if issued is None else issued.token


@contextmanager
def _connections_told() -> Iterator[None]:
    """Tell of a lost connection in the ledger's words."""
    try:
        yield
    except (psycopg.OperationalError, persistence.OperationalError) as error:
        raise ConnectionLost(f"the database connection was lost: {error}") from error


def _say(line: str) -> None:
    err().print(line, style="dim", markup=False)


def build() -> typer.Typer:
    """Return the command line with all commands."""
    app = command_line.build()

    @contextmanager
    def open_services() -> Iterator[Services]:
        with _connections_told(), open_ledger(progress=_say) as tallybook:
            yield audited(tallybook, tallybook.audit_log, Actor(who=user(""), via="cli"))

    server = embedded.EmbeddedDatabase()
    demo.register(
        app,
        open_services,
        demo.Parts(
            database=server,
            migrate=migrate_database,
            normalizer=normalize_response,
            detect=detect,
            folder=_demo_folder,
        ),
    )
    up.register(app, run_server)
    import_.register(app, open_services, normalize_response, detect)
    balance.register(app, open_services)
    budgets.register(app, open_services)
    group = holds.register(app, open_services)
    leases.register(group, open_services, lease_keys())
    simulate.register(app, open_services)
    credits.register(app, open_services)
    entitlements.register(app, open_services)
    usage.register(app, open_services)
    events.register(app, open_services)
    explain.register(app, open_services)
    prices_cli.register(app, open_services)
    plans.register(app, open_services)
    billing_periods.register(app, open_services)
    invoice_forms.register(invoices.register(app, open_services), open_services)
    journal.register(app, open_services)
    jobs.register(app, open_services)
    setup.register_tenants(app, open_services)
    keys.register(app, open_services)
    audit.register(app, open_services)
    verify.register(app, open_services)
    projections.register(app, open_services)
    app.command("normalize")(normalize.command(RESPONSES))
    setup.register_migrate(app, migrate_database, check_database)
    app.add_typer(db.build(server), name="db")
    return app


def _font_folders() -> list[Path]:
    named = os.environ.get(FONTS_VARIABLE, "")
    return [Path(folder).expanduser() for folder in named.split(os.pathsep) if folder]


def lease_keys() -> KeyFile:
    """Return the key that signs leases: TALLYBOOK_LEASE_KEY, else keys/lease.pem in the home."""
    named = os.environ.get(LEASE_KEY_VARIABLE)
    if named:
        return KeyFile(Path(named).expanduser().absolute())
    return KeyFile(embedded.default_home() / "keys" / "lease.pem")


def _demo_folder() -> Path:
    folder = embedded.default_home() / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def tune_process() -> None:
    """Let the cycle collector come seldom: commands and entries are values without cycles.

    For programs of ours only; a library leaves its host's interpreter alone.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)


def main() -> None:
    """Run the command line and exit with its code."""
    tune_process()
    sys.exit(command_line.run(build()))


if __name__ == "__main__":
    main()
