"""Databases for tests: one embedded server a run, one database a test, as fresh as a new one.

The process that started the run (pytest itself, or xdist's controller) owns a directory under
``/tmp`` and, in it, the server. Whichever worker needs a database first starts the server there;
the owner alone stops it and removes the directory, after a Ctrl-C too. It holds a lock on its
directory for as long as it lives, so the next run finds what a killed one left, and removes it.

``TALLYBOOK_TEST_DATABASE_URL`` takes a server of the user's instead, of a role that may create
databases; only databases made here are dropped there.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import psycopg
import pytest
from fixtures_emptying import Emptier
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from adapters.postgres import embedded
from adapters.postgres.migrate import migrate
from ledger.domain.errors import LedgerError

URL_VARIABLE = "TALLYBOOK_TEST_DATABASE_URL"
"""Environment variable that names a server for tests."""
_PREFIX = "tallybook-tests-"
_WORKER_KEY = "tallybook_run_directory"


class Run:
    """One test run's directory, server and databases.

    Args:
        directory: of this run; its owner made it with `own_run`.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.home = directory / "home"
        # The random end of the directory's name tells the databases of two runs apart.
        self.prefix = f"tb_{directory.name.rsplit('-', 1)[-1].lower()}_"
        self._url: str | None = None
        self._emptied: list[str] = []
        self._emptier: Emptier | None = None

    @property
    def server_url(self) -> str:
        """Return the server's URL; the first to ask in this run starts it."""
        if self._url is None:
            named = os.environ.get(URL_VARIABLE)
            self._url = named or embedded.start(home=self.home).url
        return self._url

    def url_of(self, name: str) -> str:
        """Return the URL of one of the server's databases."""
        return make_conninfo(self.server_url, dbname=name)

    @property
    def template(self) -> str:
        """Return the name of the migrated template database; the first to ask makes it."""
        name = f"{self.prefix}template"
        done = self.directory / "template"
        with _locked(self.directory / "template.lock"):
            if not done.exists():
                self.create(name)
                migrate(self.url_of(name))
                done.touch()
        return name

    def create(self, name: str, *, template: str = "template0") -> None:
        """Create a database."""
        with psycopg.connect(self.server_url, autocommit=True) as connection:
            connection.execute(
                SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(template))
            )

    def drop(self, name: str) -> None:
        """Drop a database and whoever is still connected to it."""
        with psycopg.connect(self.server_url, autocommit=True) as connection:
            connection.execute(
                SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name))
            )

    @contextmanager
    def other_home(self) -> Iterator[Path]:
        """Give a home for a server of a test's own, and stop what runs there afterwards."""
        home = self.directory / f"home-{secrets.token_hex(3)}"
        try:
            yield home
        finally:
            embedded.stop(home=home)
            shutil.rmtree(home, ignore_errors=True)

    @contextmanager
    def database(self, *, migrated: bool) -> Iterator[str]:
        """Give the URL of a fresh database; afterwards it is emptied for the next, or dropped."""
        name = self._emptied.pop() if migrated and self._emptied else None
        if name is None:
            name = f"{self.prefix}{secrets.token_hex(6)}"
            self.create(name, template=self.template if migrated else "template0")
        kept = False
        try:
            yield self.url_of(name)
            kept = migrated and not self._is_named() and self._empty(name)
        finally:
            if kept:
                self._emptied.append(name)
            else:
                self.drop(name)

    def _empty(self, name: str) -> bool:
        """Make a database as its template is; False where that takes a new one."""
        if self._emptier is None:
            self._emptier = Emptier(self.url_of(self.template))
        return self._emptier.empty(self.url_of(name))

    @staticmethod
    def _is_named() -> bool:
        """Return whether the server is the user's, whose role may not do all that it takes."""
        return URL_VARIABLE in os.environ

    def end(self) -> None:
        """Stop the server, or drop this run's databases from the user's, and leave nothing."""
        if os.environ.get(URL_VARIABLE) and (self.directory / "template").exists():
            self._drop_all()
        for home in self.directory.glob("home*"):
            embedded.stop(home=home)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _drop_all(self) -> None:
        with psycopg.connect(self.server_url, autocommit=True) as connection:
            names = connection.execute(
                "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", (self.prefix,)
            ).fetchall()
        for (name,) in names:
            self.drop(name)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class RunOwner:
    """Plugin of the process that owns the run: makes its directory, and ends it.

    Attributes:
        run: what it owns.
    """

    def __init__(self) -> None:
        remove_what_killed_runs_left()
        # Short, because the server's socket is in it; 0711, because as root the server runs under
        # another account.
        directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir="/tmp"))
        directory.chmod(0o711)
        self.run = Run(directory)
        self._lock = _own(directory)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell an xdist worker which run it belongs to."""
        node.workerinput[_WORKER_KEY] = str(self.run.directory)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """End the run when all workers have ended, or were interrupted."""
        self.close()

    def pytest_unconfigure(self) -> None:
        """End a run that did not come to its finish."""
        self.close()

    def close(self) -> None:
        """End the run, once."""
        if not self._lock.closed:
            try:
                self.run.end()
            finally:
                self._lock.close()


def _own(directory: Path) -> IO[str]:
    """Lock a run's directory; the lock goes with this process, however it ends."""
    new = directory / "owner.new"
    file = new.open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    # Nobody can see it unlocked: it gets its name afterwards.
    new.rename(directory / "owner")
    return file


def remove_what_killed_runs_left() -> None:
    """Stop servers and remove directories of runs whose owner is dead."""
    for directory in Path("/tmp").glob(f"{_PREFIX}*"):  # noqa: S108 # only those whose lock is free
        with suppress(OSError, LedgerError), (directory / "owner").open("r+") as file:
            # Another run still holds the lock of a directory in use: that raises OSError.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for home in directory.glob("home*"):
                embedded.stop(home=home)
            shutil.rmtree(directory, ignore_errors=True)


def pytest_configure(config: pytest.Config) -> None:
    """Own a run, or join the one that the controller owns."""
    workerinput = getattr(config, "workerinput", None)
    if workerinput is not None:
        config.stash[_RUN] = Run(Path(workerinput[_WORKER_KEY]))
        return
    owner = RunOwner()
    config.stash[_RUN] = owner.run
    config.pluginmanager.register(owner, "tallybook-run-owner")


_RUN = pytest.StashKey[Run]()


@pytest.fixture(scope="session")
def postgres_run(request: pytest.FixtureRequest) -> Run:
    """Give this run's server, for tests that need more than one database of it."""
    return request.config.stash[_RUN]


@pytest.fixture
def database_url(postgres_run: Run) -> Iterator[str]:
    """Give the URL of a fresh, migrated database."""
    with postgres_run.database(migrated=True) as url:
        yield url


@pytest.fixture
def empty_database_url(postgres_run: Run) -> Iterator[str]:
    """Give the URL of a fresh database without any table of ours."""
    with postgres_run.database(migrated=False) as url:
        yield url
