"""The default cap in the log: what was said of new ledgers' caps, and by whom."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest

from adapters.postgres.database import Database
from adapters.postgres.policies import PostgresPolicies
from ledger.application.policies import STREAM, CapPolicy, Policies
from ledger.domain.default_cap import DefaultCap
from ledger.domain.entries import tenant_of_stream
from ledger.domain.errors import InvalidInput, Refused

UNIT = 10**18
TOPIC = re.compile(r"tb\.[a-z.-]{1,30}:[1-9][0-9]?")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Give a fresh database."""
    with Database(database_url) as opened:
        yield opened


@pytest.fixture
def policies(database: Database) -> Policies:
    """Give the policies of one process."""
    return Policies(PostgresPolicies(database))


def log(database: Database) -> list[tuple[str, int, str]]:
    """Return stream, version and topic of everything in the log."""
    with database.connect(purpose="test") as connection:
        return connection.execute(
            "SELECT originator_id, originator_version, topic FROM ledger_log"
            " ORDER BY notification_id"
        ).fetchall()


def test_where_nobody_said_anything_the_built_in_cap_applies(
    policies: Policies, database: Database
) -> None:
    """Asking creates nothing; 100 a month, 10000 of currencies without cents."""
    assert policies.load() == DefaultCap()
    limits = [terms.limit for name in ("USD", "JPY") if (terms := policies.load().terms(name))]
    assert limits == [100 * UNIT, 10_000 * UNIT]
    assert log(database) == []


def test_a_limit_is_set_for_its_currency_alone(policies: Policies) -> None:
    """Another currency keeps the built-in one; money is exact."""
    said = policies.set_default_cap(Decimal("50.000000000000000001"), currency="EUR", by="ann")
    assert said == DefaultCap(limits={"EUR": 50 * UNIT + 1}, by="ann")
    usd = said.terms("USD")
    assert usd is not None
    assert usd.limit == 100 * UNIT


def test_another_process_sees_a_change_with_its_next_read(
    policies: Policies, database: Database
) -> None:
    """Also one that has read before; and from the start, without any cache."""
    other = Policies(PostgresPolicies(database))
    assert other.load() == DefaultCap()
    policies.set_default_cap("5", currency="USD", by="ann")
    assert other.load().limits == {"USD": 5 * UNIT}
    policies.set_default_cap("999999999999999999.5", currency="USD", by="bob")
    fresh = Policies(PostgresPolicies(database)).load()
    assert fresh == other.load() == policies.load()
    assert fresh == DefaultCap(limits={"USD": 10**36 - UNIT // 2}, by="bob")


def test_none_is_said_in_as_many_words_and_a_limit_ends_it(policies: Policies) -> None:
    """A waiver outweighs the limits, which come back with the next one that is set."""
    policies.set_default_cap("5", currency="USD", by="ann")
    assert policies.waive_default_cap(by="bob").terms("USD") is None
    said = policies.set_default_cap("5", currency="USD", by="cat")
    assert (said.waived, said.limits, said.by) == (False, {"USD": 5 * UNIT}, "cat")


def test_saying_the_same_again_adds_nothing(policies: Policies, database: Database) -> None:
    """Twice is once."""
    policies.set_default_cap("5", currency="USD", by="ann")
    policies.set_default_cap("5.00", currency="USD", by="bob")
    policies.waive_default_cap(by="ann")
    before = log(database)
    policies.waive_default_cap(by="bob")
    assert log(database) == before
    assert len(before) == 3


def test_topics_are_short_and_versioned_and_the_stream_is_no_ledger(
    policies: Policies, database: Database
) -> None:
    """Moving a class must not change what is stored, and no tenant is called policy."""
    policies.set_default_cap("5", currency="USD", by="ann")
    policies.waive_default_cap(by="ann")
    rows = log(database)
    assert [version for _, version, _ in rows] == [1, 2, 3]
    assert {stream for stream, _, _ in rows} == {STREAM}
    assert all(TOPIC.fullmatch(topic) for _, _, topic in rows)
    assert tenant_of_stream(STREAM) is None
    assert CapPolicy.TOPIC == "tb.policy.default-cap:1"


def test_a_change_that_lost_the_race_is_made_on_what_is_there_now(database: Database) -> None:
    """Both changes stand, in the order of the log."""
    store = _Interrupted(database, lambda: _set(database, "7", "EUR"))
    said = Policies(store).set_default_cap("5", currency="USD", by="ann")
    assert said.limits == {"EUR": 7 * UNIT, "USD": 5 * UNIT}
    assert Policies(PostgresPolicies(database)).load() == said


def test_a_change_that_always_loses_says_so_and_changes_nothing(database: Database) -> None:
    """It is refused, and later reads see only what others saved."""
    amounts = iter(range(1, 100))
    store = _Interrupted(database, lambda: _set(database, str(next(amounts)), "EUR"), times=99)
    policies = Policies(store)
    with pytest.raises(Refused) as caught:
        policies.set_default_cap("5", currency="USD", by="ann")
    assert caught.value.code == "policy_busy"
    assert "USD" not in policies.load().limits


@pytest.mark.parametrize(
    ("limit", "currency", "code"),
    [
        ("-1", "USD", "invalid_limit"),
        ("0.0000000000000000001", "USD", "invalid_limit"),
        ("1", "EURO", "invalid_currency"),
        (str(10**18), "USD", "invalid_limit"),
    ],
)
def test_what_is_no_limit_is_refused(
    policies: Policies, database: Database, limit: str, currency: str, code: str
) -> None:
    """Negative, too precise, too large, or in no currency: nothing is stored."""
    with pytest.raises(InvalidInput) as caught:
        policies.set_default_cap(limit, currency=currency, by="ann")
    assert caught.value.code == code
    assert log(database) == []


def _set(database: Database, limit: str, currency: str) -> None:
    Policies(PostgresPolicies(database)).set_default_cap(limit, currency=currency, by="bob")


class _Interrupted(PostgresPolicies):
    """Lets somebody else change the policy just before a save."""

    def __init__(
        self, database: Database, interrupt: Callable[[], None], *, times: int = 1
    ) -> None:
        super().__init__(database)
        self._interrupt = interrupt
        self._times = times

    def save(self, policy: CapPolicy) -> None:
        """Let the other one be first."""
        if self._times:
            self._times -= 1
            self._interrupt()
        super().save(policy)
