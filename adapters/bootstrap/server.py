"""Running a server: an open ledger behind the HTTP API, and what is done beside answering."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from functools import partial
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import msgspec

from adapters.bootstrap.ledger import (
    Progress,
    Tallybook,
    connections_told,
    current_database,
    open_ledger,
    tune_process,
)
from adapters.cli import up
from adapters.cli.protection_output import user
from adapters.postgres.database import Database
from adapters.postgres.leader import PostgresLeader
from adapters.scheduler import ApTicker
from ledger.application.access import Keyring
from ledger.application.audited import Actor, audited
from ledger.application.scheduling import Scheduling
from ledger.application.sequencer import Sequencer
from ledger.application.upkeep import Upkeep
from ledger.application.watching import Watch, Watches

if TYPE_CHECKING:
    from adapters.http.gate import Gate, Observer
    from adapters.http.lifecycle import Lifecycle
    from adapters.http.metrics import Metrics
    from adapters.http.server import ServerSettings, Serving
    from adapters.sequencing import SequencerProcess


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
    with ExitStack() as stack:
        sockets = stack.enter_context(running.bound(settings, say=say))
        stack.enter_context(connections_told())
        settings, on_death = stack.enter_context(_counting_together(settings))
        url = current_database(progress=say, migrate_theirs=options.migrate)
        process = stack.enter_context(sequencer_process(url, settings))
        settings = msgspec.structs.replace(settings, sequencer=process.path)

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


def sequencer_process(url: str, settings: ServerSettings) -> SequencerProcess:
    """Return the process that commits for the servers of this machine; a context manager.

    Args:
        url: of the database.
        settings: of the servers, for its log.
    """
    from adapters.sequencing import SequencerProcess  # noqa: PLC0415 - as in `http_app`

    its_own = msgspec.structs.replace(settings, slot="sequencer", metrics_dir="")
    return SequencerProcess(partial(_open_sequencer, url), partial(prepare_process, its_own))


@contextmanager
def _open_sequencer(url: str, watch: Watch) -> Iterator[Sequencer]:
    with open_ledger(url) as tallybook, closing(tallybook.own_sequencer(watch=watch)) as made:
        yield made


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
    from adapters.sequencing import RemoteSequencer  # noqa: PLC0415 - as in `http_app`

    metrics = Metrics()
    observer = Observers([metrics, AccessLog()]) if settings.access_log else metrics
    traces = tracing.open_traces(os.environ)
    watch = metrics if traces is None else Watches([metrics, traces])
    with ExitStack() as stack:
        if traces is not None:
            stack.enter_context(closing(traces))
        queue = RemoteSequencer(settings.sequencer, watch=watch)
        tallybook = stack.enter_context(open_ledger(url, queue=queue))
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
        if settings.workers == 1:
            # With a sequencer of its own, for the queue ends with the event loop.
            stack.enter_context(_open_beside(url, settings))
        yield Serving(
            app if traces is None else traces.around(app),
            refused=metrics.refused,
            end_sessions=streams.close_all,
            around=queue.running,
        )


@contextmanager
def _open_beside(url: str, settings: ServerSettings) -> Iterator[None]:
    """Do upkeep and jobs beside what answers."""
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
