"""Budgets reach the sessions that they apply to, whichever process commits what they reach."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from fakes.stream_world import Client, Server, stream_server, wait_for

from adapters.bootstrap import Tallybook, open_ledger
from adapters.postgres.live import PostgresLiveFeed
from adapters.postgres.news import AGAIN_S, NewsDesk
from ledger.application.live import CLOSED, CREDIT, NO_BUDGET, Attached, News, Told, news_body
from ledger.application.ports import LedgerWrite
from ledger.domain.errors import NotFound
from ledger.domain.ledger import LedgerState


@pytest.fixture
def other(database_url: str) -> Iterator[Tallybook]:
    """Another process's ledger of the same database."""
    with open_ledger(database_url) as opened:
        opened.tenants.open("acme")
        opened.tenants.open("globex")
        yield opened


@pytest.fixture
def server(database_url: str, other: Tallybook) -> Iterator[Server]:
    """A server of streams."""
    with stream_server(database_url) as running:
        yield running


def cap(ledger: Tallybook, name: str, limit: str, tenant: str = "acme", **terms: Any) -> None:
    """Set a cap that only stops."""
    document = {"limit": limit, "steps": [{"kind": "stop"}], **terms}
    ledger.budgets.set(document, tenant=tenant, name=name, by="t")


def spend(ledger: Tallybook, hold: str, amount: str, tenant: str = "acme", **ask: Any) -> str:
    """Reserve an amount; return the decision."""
    outcome = ledger.holds.authorize({"hold": hold, "amount": amount, **ask}, tenant=tenant)
    assert outcome.detail is not None
    return outcome.detail.decision


def told(client: Client, mark: str) -> list[str]:
    """Return the budgets that a client heard of until a frame of its own came back."""
    seq = max((one["seq"] for one in client.seen if "seq" in one), default=0) + 1
    client.send(type="hold.void", id=mark, seq=seq, hold=mark)
    client.wait_ack(seq)
    return [one["budget"] for one in client.seen if one["type"].startswith("budget.")]


def test_a_stop_that_another_process_commits_reaches_an_open_stream(
    server: Server, other: Tallybook
) -> None:
    """With its numbers, and once."""
    cap(other, "monthly", "10")
    with server.hello("s-1") as client:
        # A frame is taken once the session has looked at what was reached before it.
        assert told(client, "looked") == []
        assert spend(other, "h-1", "10") == "allow"
        frame = client.receive("budget.exhausted")
        assert frame.pop("at") is not None
        assert frame.pop("window") is not None
        assert frame == {
            "type": "budget.exhausted",
            "budget": "monthly",
            "step": "stop",
            "scope": "tenant",
            "measure": "charge",
            "currency": "USD",
            "threshold": "10",
            "limit": "10",
            "used": "10",
            "standing": False,
        }
        assert spend(other, "h-2", "1") == "deny"
        assert told(client, "mark") == ["monthly"]


def test_each_kind_of_step_has_its_frame(server: Server, other: Tallybook) -> None:
    """In the order in which they are reached."""
    steps = [
        {"kind": "inform", "percent": 10},
        {"kind": "warn", "percent": 20},
        {"kind": "downgrade", "percent": 30, "model": "small"},
        {"kind": "confirm", "percent": 40},
        {"kind": "stop", "percent": 50},
    ]
    other.budgets.set({"limit": "100", "steps": steps}, tenant="acme", name="all", by="t")
    with server.hello("s-1") as client:
        for number in range(1, 5):
            spend(other, f"h-{number}", "10")
        assert spend(other, "h-5", "1") == "confirm"
        assert spend(other, "h-6", "60") == "deny"
        client.receive("budget.exhausted")
    found = [(one["type"], one["step"], one.get("model")) for one in client.seen[1:]]
    assert found == [
        ("budget.threshold", "inform", None),
        ("budget.threshold", "warn", None),
        ("budget.downgraded", "downgrade", "small"),
        ("budget.confirm_required", "confirm", None),
        ("budget.exhausted", "stop", None),
    ]


def test_a_session_hears_of_budgets_whose_scope_it_is_in_and_of_no_others(
    server: Server, other: Tallybook
) -> None:
    """Of its tenant, user, project, label and of itself; not of another tenant's or user's."""
    ann = {"user": "ann", "project": "desk", "session": "s-1", "labels": {"team": "blue"}}
    bob = {"user": "bob", "project": "shop", "session": "s-2", "labels": {"team": "red"}}
    scopes = {"user": "ann", "project": "desk", "session": "s-1", "label": "team=blue"}
    for scope, value in scopes.items():
        where = f"label:{value}" if scope == "label" else f"{scope}={value}"
        cap(other, scope, "10", scope=where)
    cap(other, "bob", "10", scope="user=bob")
    cap(other, "tenant", "15")
    cap(other, "foreign", "1", tenant="globex")
    with (
        server.hello("s-1", user="ann", project="desk", labels={"team": "blue"}) as first,
        server.hello("s-2", user="bob", project="shop", labels={"team": "red"}) as second,
    ):
        spend(other, "g-1", "1", tenant="globex")
        spend(other, "h-1", "10", **ann)
        spend(other, "h-2", "5", **{**bob, "user": "eve"})
        first.receive("budget.exhausted")
        for client in (first, second):
            while "tenant" not in [one.get("budget") for one in client.seen]:
                client.next()
        assert sorted(told(first, "m-1")) == ["label", "project", "session", "tenant", "user"]
        assert told(second, "m-2") == ["tenant"]


def test_a_session_that_begins_later_is_told_what_stands(server: Server, other: Tallybook) -> None:
    """And a session that resumes again; a step is told once a connection."""
    cap(other, "monthly", "10")
    cap(other, "closed", "100")
    other.budgets.close("closed", tenant="acme", by="t")
    assert spend(other, "h-1", "10") == "deny"
    other.budgets.reopen("closed", tenant="acme", by="t")
    assert spend(other, "h-2", "10") == "allow"
    other.budgets.close("closed", tenant="acme", by="t")
    for _ in range(2):
        with server.hello("s-1") as client:
            found = [client.receive("budget.exhausted") for _ in range(2)]
            assert sorted((one["budget"], one["step"]) for one in found) == [
                ("closed", "closed"),
                ("monthly", "stop"),
            ]
            assert all(one["standing"] for one in found)
            assert len(told(client, client.opened["type"] + str(client.epoch))) == 2


def test_credit_that_is_not_enough_and_a_closed_budget_are_told(
    server: Server, other: Tallybook
) -> None:
    """No step of a ladder stands behind them; a hundred refusals are told once."""
    other.credits.grant({"id": "g", "amount": "5", "kind": "paid"}, tenant="acme")
    other.credits.policy(tenant="acme", required=True, by="t")
    with server.hello("s-1") as client:
        for number in range(20):
            assert spend(other, f"h-{number}", "6") == "deny"
        assert client.receive("budget.exhausted")["step"] == CREDIT
        cap(other, "shut", "100")
        other.budgets.close("shut", tenant="acme", by="t")
        assert spend(other, "last", "1") == "deny"
        frame = client.receive("budget.exhausted")
        assert (frame["budget"], frame["step"]) == ("shut", CLOSED)
        assert told(client, "mark") == ["credit", "shut"]


def test_usage_of_the_session_itself_exhausts_its_budget(server: Server, other: Tallybook) -> None:
    """A budget that counts seconds is reached by segments, without any hold."""
    document = {"limit": "3", "measure": "audio.stt.seconds", "steps": [{"kind": "stop"}]}
    other.budgets.set(document, tenant="acme", name="voice", by="t")
    with server.hello("s-1") as client:
        for seq in (1, 2, 3):
            client.send(
                type="voice.segment", id=f"v-{seq}", seq=seq, direction="in", ms=1000, provider="x"
            )
        frame = client.receive("budget.exhausted")
        assert (frame["budget"], frame["measure"], frame["used"]) == (
            "voice",
            "audio.stt.seconds",
            "3",
        )


# -- the feed -------------------------------------------------------------------------


class Hearing:
    """Keeps what a feed tells."""

    def __init__(self) -> None:
        self.news: list[Told] = []
        self.attachments: list[Attached] = []

    def told(self, news: Any) -> None:
        """Keep news."""
        self.news += news

    def attached(self, attached: Attached) -> None:
        """Keep a take-over."""
        self.attachments.append(attached)


@pytest.fixture
def hearing(other: Tallybook) -> Iterator[Hearing]:
    """A listener of a feed that looks for itself only once an hour."""
    found = Hearing()
    feed = PostgresLiveFeed(other.database, poll_s=3600)
    stop = feed.start(found)
    yield found
    stop()


def test_a_feed_is_woken_by_the_commit(other: Tallybook, hearing: Hearing) -> None:
    """This one would not look by itself for an hour."""
    cap(other, "monthly", "10")
    spend(other, "h-1", "10")
    wait_for(lambda: hearing.news)
    assert [(one.tenant, one.news.step) for one in hearing.news] == [("acme", "stop")]


def test_nothing_is_missed_while_the_listener_s_connection_is_away(
    other: Tallybook, hearing: Hearing, database_url: str
) -> None:
    """Cut again and again, it tells every step once and in order."""
    wanted = []
    with psycopg.connect(database_url, autocommit=True) as admin:
        for number in range(8):
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'tallybook live' AND datname = current_database()"
            )
            name = f"b-{number}"
            cap(other, name, "1", scope=f"user=u-{number}")
            spend(other, f"h-{number}", "1", user=f"u-{number}")
            wanted.append(name)
    wait_for(lambda: len(hearing.news) >= len(wanted), "the news")
    assert [one.terms.name for one in hearing.news if one.terms is not None] == wanted
    positions = [one.position for one in hearing.news]
    assert positions == sorted(positions)


def test_a_feed_looks_for_itself_where_it_is_not_woken(other: Tallybook, database_url: str) -> None:
    """A waking that gets lost costs a second at most: here the channel is not listened to."""
    cap(other, "monthly", "10")
    found = Hearing()
    stop = PostgresLiveFeed(other.database, poll_s=0.1).start(found)
    try:
        with psycopg.connect(database_url) as writer:
            # As a commit would, without NOTIFY.
            writer.execute("SET search_path = tallybook")
            writer.execute(
                "INSERT INTO budget_news SELECT 0, max(notification_id) + 1, 1, 0, 0, %s"
                " FROM ledger_log",
                (news_body(News("stop", 0, 0, 0, 1, 1, 1)),),
            )
        wait_for(lambda: found.news)
    finally:
        stop()


def test_news_are_in_the_transaction_of_what_they_are_about(
    other: Tallybook, hearing: Hearing, database_url: str
) -> None:
    """Where they cannot be written, nothing is committed; afterwards they are told once."""
    cap(other, "monthly", "10")
    table = "ALTER TABLE tallybook.budget_news"
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(f"{table} ADD CONSTRAINT no CHECK (budget < 0) NOT VALID")
        with pytest.raises(psycopg.errors.CheckViolation):
            spend(other, "h-1", "10")
        with pytest.raises(NotFound):
            other.protection_reads.hold("h-1", tenant="acme")
        admin.execute(f"{table} DROP CONSTRAINT no")
    assert spend(other, "h-1", "10") == "allow"
    wait_for(lambda: hearing.news)
    assert len(hearing.news) == 1


def test_a_refusal_behind_which_no_step_stands_is_written_again_only_after_a_while() -> None:
    """And a batch that was not committed counts for nothing."""
    now_s = [0.0]
    desk = NewsDesk(lambda: now_s[0])
    news = News(CREDIT, -1, NO_BUDGET, 0, 1, 1, 1)
    writes = [LedgerWrite(LedgerState(1, "acme"), b"", (), (), (), (news, news))]

    def told() -> int:
        rows = desk.rows(writes)
        return 0 if rows is None else 1

    assert told() == 1
    assert told() == 1
    desk.committed()
    assert told() == 0
    now_s[0] = AGAIN_S
    assert told() == 1
