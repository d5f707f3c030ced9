"""Leadership: one process of a database's, and another one when that is gone."""

from __future__ import annotations

import contextlib

import psycopg
import pytest

from adapters.postgres.database import Database
from adapters.postgres.leader import PostgresLeader
from ledger.application.ports import ConnectionLost


def test_one_leads_until_it_leaves(database_url: str) -> None:
    """Another name and another schema are other leaderships."""
    with Database(database_url) as database:
        leader = PostgresLeader(database, "upkeep")
        with leader.try_lead() as first, leader.try_lead() as second:
            assert first is not None
            assert first.held()
            assert second is None
            with PostgresLeader(database, "other").try_lead() as other:
                assert other is not None
        with leader.try_lead() as again:
            assert again is not None


def test_a_session_that_was_ended_leads_no_more(database_url: str) -> None:
    """The leader learns it, and another one may lead."""
    with Database(database_url) as database, contextlib.ExitStack() as stack:
        leader = PostgresLeader(database, "upkeep")
        found = stack.enter_context(leader.try_lead())
        assert found is not None
        with psycopg.connect(database_url, autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'tallybook upkeep' AND datname = current_database()"
            )
        with pytest.raises(ConnectionLost):
            found.held()
        with leader.try_lead() as other:
            assert other is not None
