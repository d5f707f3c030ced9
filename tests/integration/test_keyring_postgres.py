"""The keyring on PostgreSQL: what another process changes counts here, and soon."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator

import psycopg
import pytest
from fixtures_postgres import Run
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from adapters.bootstrap import Tallybook
from adapters.postgres.database import Database
from ledger.application.access import KeyRefused
from ledger.application.keyring import CachedKeyring
from ledger.application.verify import verify
from ledger.domain.errors import Unavailable

TERMS = {"name": "gateway", "tenant": "acme", "scopes": ["read"]}
TOPIC = re.compile(r"tb\.[a-z.-]{1,30}:[1-9][0-9]?")
_OTHER = """
import sys
from adapters.bootstrap import open_ledger
with open_ledger(sys.argv[1]) as tallybook:
    tallybook.keys.revoke(sys.argv[2], by="other")
"""


@pytest.fixture
def tallybook(database_url: str) -> Iterator[Tallybook]:
    """Give one process's use cases."""
    made = Tallybook(Database(database_url))
    yield made
    made.close()


def until(done: Callable[[], bool]) -> None:
    """Wait for something that will be, at most half a minute."""
    end = time.monotonic() + 30
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


def opens(keyring: CachedKeyring, token: str) -> bool:
    """Tell whether a token opens something now; not while the database is away."""
    try:
        return keyring.authenticate(token, "").tenant == "acme"
    except Unavailable:
        return False


def watching(keyring: CachedKeyring) -> None:
    """Wait until a keyring hears of changes."""
    until(lambda: keyring._heard_at > 0)


def revoked(keyring: CachedKeyring, token: str) -> bool:
    """Tell whether a token is refused as revoked."""
    try:
        keyring.authenticate(token, "")
    except KeyRefused as error:
        return error.code == "key_revoked"
    return False


def test_a_key_revoked_by_another_process_opens_nothing_here(
    tallybook: Tallybook, database_url: str
) -> None:
    """Through the notification: what is kept would be good for a minute."""
    issued = tallybook.keys.issue(TERMS, by="ann")
    watching(tallybook.keyring)
    assert tallybook.keyring.authenticate(issued.token, "").tenant == "acme"
    subprocess.run(
        [sys.executable, "-c", _OTHER, database_url, issued.key.id], check=True, env=os.environ
    )
    until(lambda: revoked(tallybook.keyring, issued.token))


def test_a_change_of_this_process_counts_before_it_is_answered(tallybook: Tallybook) -> None:
    """Nobody has to wait for the channel."""
    issued = tallybook.keys.issue(TERMS, by="ann")
    tallybook.keyring.authenticate(issued.token, "")
    tallybook.keys.revoke(issued.key.id, by="ann")
    assert tallybook.keyring.cached(issued.token, "") is None
    assert revoked(tallybook.keyring, issued.token)


def test_what_was_changed_while_the_channel_was_cut_counts_when_it_is_back(
    tallybook: Tallybook, database_url: str
) -> None:
    """A cut connection is opened again, and what was kept is read again."""
    issued = tallybook.keys.issue(TERMS, by="ann")
    watching(tallybook.keyring)
    tallybook.keyring.authenticate(issued.token, "")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    other = Tallybook(Database(database_url))
    try:
        other.keys.revoke(issued.key.id, by="bob")
    finally:
        other.close()
    until(lambda: revoked(tallybook.keyring, issued.token))
    heard_at = tallybook.keyring._heard_at
    until(lambda: tallybook.keyring._heard_at > heard_at)


def test_a_look_up_opens_its_connection_again(tallybook: Tallybook, database_url: str) -> None:
    """A caller does not see that it was cut."""
    one, other = (tallybook.keys.issue(TERMS, by="ann").token for _ in range(2))
    tallybook.keyring.authenticate(one, "")
    with psycopg.connect(database_url, autocommit=True) as connection:
        cut = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'tallybook keys'"
        ).fetchall()
    assert cut == [(True,)]
    assert tallybook.keyring.authenticate(other, "").tenant == "acme"


def test_a_database_that_is_away_is_unavailable_not_a_refusal(
    tallybook: Tallybook, postgres_run: Run, database_url: str
) -> None:
    """A gateway may try again; its key is not wrong."""
    token = tallybook.keys.issue(TERMS, by="ann").token
    name = Identifier(str(conninfo_to_dict(database_url)["dbname"]))
    with psycopg.connect(postgres_run.server_url, autocommit=True) as connection:
        connection.execute(SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        with pytest.raises(Unavailable) as caught:
            tallybook.keyring.authenticate(token, "")
        connection.execute(SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
    assert caught.value.code == "keys_unavailable"
    until(lambda: opens(tallybook.keyring, token))


def test_only_one_of_many_processes_that_start_at_once_issues_the_first_key(
    database_url: str,
) -> None:
    """The others find it there."""
    processes = [Tallybook(Database(database_url)) for _ in range(4)]
    found = []
    gate = threading.Barrier(len(processes))

    def start(one: Tallybook) -> None:
        gate.wait()
        found.append(one.keys.issue_first({"name": "first", "scopes": ["admin"]}, by="up"))

    threads = [threading.Thread(target=start, args=(one,)) for one in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in processes:
        one.close()
    assert len([one for one in found if one is not None]) == 1


def test_keys_are_in_the_log_under_short_names_and_without_their_secrets(
    tallybook: Tallybook,
) -> None:
    """A class may move; a dump of the log opens nothing."""
    old = tallybook.keys.issue(TERMS, by="ann")
    new = tallybook.keys.rotate(old.key.id, by="ann").issued
    tallybook.keys.revoke(new.key.id, by="ann")
    with tallybook.database.connect(purpose="test") as connection:
        rows = connection.execute(
            "SELECT originator_id, originator_version, topic, state FROM ledger_log"
            " ORDER BY notification_id"
        ).fetchall()
    assert [row[:3] for row in rows] == [
        (f"key-{old.key.id}", 1, "tb.key.issued:1"),
        (f"key-{new.key.id}", 1, "tb.key.issued:1"),
        (f"key-{old.key.id}", 2, "tb.key.succeeded:1"),
        (f"key-{new.key.id}", 2, "tb.key.revoked:1"),
    ]
    for row in rows:
        assert TOPIC.fullmatch(row[2])
        for issued in (old, new):
            secret = issued.token.rsplit("_", 1)[1][:10].encode()
            assert secret not in row[3]
            assert secret not in zlib.decompress(row[3])


def test_the_ledger_goes_on_beside_keys_in_its_log(tallybook: Tallybook) -> None:
    """Verification and reading pass their streams over."""
    tallybook.tenants.open("acme")
    tallybook.keys.issue(TERMS, by="ann")
    tallybook.tenants.open("other")
    with tallybook.audit() as view:
        assert verify(view=view).clean
