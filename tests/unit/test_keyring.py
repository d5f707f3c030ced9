"""The keyring: what it answers from memory, when it asks, and what a flood can do to it."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from adapters.memory import MemoryKeys
from ledger.application import keyring as module
from ledger.application.access import Caller, KeyRefused
from ledger.application.key_uses import KeyUse, KeyUses
from ledger.application.keyring import CachedKeyring, KeyFound
from ledger.application.keys import IssuedKey, Keys
from ledger.domain.errors import Unavailable
from ledger.domain.keys import ENTROPY_BYTES, ID_BYTES, SECRET_BYTES, mint
from ledger.domain.periods import from_us

START_US = 1_800_000_000_000_000
TERMS = {"name": "gateway", "tenant": "acme", "scopes": ["read"], "per_second": 5, "burst": 9}
HOME = "192.0.2.1"


class House:
    """A keyring over keys in memory, and a clock that stands until it is moved.

    Attributes:
        seconds: monotonic seconds; the database's clock runs with it.
        down: the database cannot be reached.
        on_look_up: called before each look-up.
    """

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.down = False
        self.on_look_up = lambda: None
        self.chance = random.Random(7)
        self.store = MemoryKeys(lambda: START_US + round((self.seconds - 1000) * 1_000_000))
        self.keys = Keys(self.store, self.chance.randbytes)
        self.uses = Uses()
        self.counter = KeyUses(self.uses, every_s=3600)
        self.keyring = CachedKeyring(self, lambda: self.seconds, uses=self.counter)

    def look_up(self, id: str) -> KeyFound:
        """Look up, unless the database is down."""
        self.on_look_up()
        if self.down:
            raise Unavailable("no", code="keys_unavailable")
        return self.store.look_up(id)

    def issue(self, **terms: object) -> IssuedKey:
        """Issue a key."""
        return self.keys.issue(TERMS | terms, by="ann")

    def made_up(self) -> str:
        """Return a well-formed token that nobody issued."""
        return mint("live", self.chance.randbytes(ENTROPY_BYTES))

    def refused(self, token: str, address: str = HOME, *, cached: bool = False) -> str:
        """Return the code with which a token is refused."""
        ask = self.keyring.cached if cached else self.keyring.authenticate
        with pytest.raises(KeyRefused) as caught:
            ask(token, address)
        return caught.value.code


class Uses:
    """Keeps what is written; fails when told to."""

    def __init__(self) -> None:
        self.rows: list[KeyUse] = []
        self.error: Exception | None = None

    def add(self, uses: Sequence[KeyUse]) -> None:
        """Keep."""
        if self.error is not None:
            raise self.error
        self.rows.extend(uses)


@pytest.fixture
def house() -> Iterator[House]:
    """Give an empty house."""
    made = House()
    yield made
    made.uses.error = None
    made.counter.close()


def test_a_key_is_read_once_and_then_known(house: House) -> None:
    """The caller is what the key says."""
    token = house.issue().token
    assert house.keyring.cached(token, HOME) is None
    caller = house.keyring.authenticate(token, HOME)
    assert caller == Caller(
        key=token.split("_")[2],
        tenant="acme",
        scopes=frozenset({"read"}),
        per_second=5,
        burst=9,
        mode="live",
    )
    assert house.keyring.cached(token, HOME) is caller
    assert house.keyring.authenticate(token, HOME) is caller
    assert house.store.look_ups == 1


def test_what_is_no_token_never_asks_the_database(house: House) -> None:
    """Nothing, rubbish, a typing error and a cut-off token are told apart from a missing one."""
    token = house.issue().token
    assert house.refused("") == "missing_key"
    for bad in ("x", token[:-1], token + "x", token[:-1] + ("0" if token[-1] != "0" else "1")):
        assert house.refused(bad) == "invalid_key"
        assert house.refused(bad, cached=True) == "invalid_key"
    assert house.refused("\udcff" * len(token)) == "invalid_key"
    assert house.store.look_ups == 0


def test_a_wrong_secret_opens_nothing_and_is_remembered(house: House) -> None:
    """The id of a real key does not help, and the real token still works."""
    seed = house.chance.randbytes(ENTROPY_BYTES)
    token = Keys(house.store, lambda count: seed).issue(TERMS, by="ann").token
    wrong = mint("live", seed[:ID_BYTES] + bytes(SECRET_BYTES))
    assert wrong.split("_")[2] == token.split("_")[2]
    assert house.refused(wrong) == "invalid_key"
    assert house.refused(wrong, cached=True) == "invalid_key"
    assert house.refused(wrong) == "invalid_key"
    assert house.store.look_ups == 1
    assert house.keyring.authenticate(token, HOME).tenant == "acme"


def test_while_changes_are_told_a_key_is_kept_for_a_minute(house: House) -> None:
    """And read again after it."""
    token = house.issue().token
    house.keyring.authenticate(token, HOME)
    for _ in range(59):
        house.seconds += 1
        house.keyring.heard()
        assert house.keyring.cached(token, HOME) is not None
    house.seconds += 1
    house.keyring.heard()
    assert house.keyring.cached(token, HOME) is None
    assert house.keyring.authenticate(token, HOME).tenant == "acme"


def test_when_nothing_is_heard_a_revocation_counts_within_the_bound(house: House) -> None:
    """The channel may die without a word at any moment of its beat."""
    for delay in (0.0, 0.3, 0.9):
        token = house.issue().token
        house.keyring.authenticate(token, HOME)
        house.seconds += delay
        house.keyring.heard()
        # From here on the channel is dead; the revocation is not told.
        house.keys.revoke(token.split("_")[2], by="ann")
        house.seconds += module.BOUND_S
        assert house.keyring.cached(token, HOME) is None
        assert house.refused(token) == "key_revoked"


def test_a_change_that_is_told_counts_at_once(house: House) -> None:
    """Only the key that changed is read again."""
    house.store.watch(house.keyring)
    token, other = house.issue().token, house.issue().token
    for one in (token, other):
        house.keyring.authenticate(one, HOME)
    house.keyring.heard()
    house.keys.revoke(token.split("_")[2], by="ann")
    assert house.keyring.cached(other, HOME) is not None
    assert house.keyring.cached(token, HOME) is None
    assert house.refused(token) == "key_revoked"
    assert house.refused(token, cached=True) == "key_revoked"


def test_a_change_told_while_the_database_is_asked_is_not_overwritten(house: House) -> None:
    """The older answer serves its own request and is not kept."""
    token = house.issue().token
    found = house.store.look_up(token.split("_")[2])

    def revoked_meanwhile() -> None:
        house.on_look_up = lambda: None
        house.keys.revoke(token.split("_")[2], by="ann")
        house.keyring.forget(token.split("_")[2])
        house.store.look_up = lambda id: found  # type: ignore[method-assign] # the older answer

    house.on_look_up = revoked_meanwhile
    house.keyring.heard()
    assert house.keyring.authenticate(token, HOME).tenant == "acme"
    assert house.keyring.cached(token, HOME) is None


def test_a_key_expires_by_the_databases_clock_to_the_microsecond(house: House) -> None:
    """Without being read again; then it says so."""
    token = house.issue(expires_at=from_us(START_US + 10_000_000)).token
    house.keyring.authenticate(token, HOME)
    for _ in range(9):
        house.seconds += 1
        house.keyring.heard()
    house.seconds += 0.999
    assert house.keyring.cached(token, HOME) is not None
    house.seconds += 0.001
    house.keyring.heard()
    assert house.keyring.cached(token, HOME) is None
    assert house.refused(token) == "key_expired"
    assert house.refused(token, cached=True) == "key_expired"


def test_a_rotated_key_and_its_successor_open_the_same_until_the_overlap_ends(
    house: House,
) -> None:
    """Then the successor alone does."""
    house.store.watch(house.keyring)
    old = house.issue()
    house.keyring.authenticate(old.token, HOME)
    new = house.keys.rotate(old.key.id, {"overlap_s": 30}, by="ann").issued
    assert house.keyring.authenticate(old.token, HOME).tenant == "acme"
    assert house.keyring.authenticate(new.token, HOME).tenant == "acme"
    house.seconds += 30
    assert house.refused(old.token) == "key_expired"
    assert house.keyring.authenticate(new.token, HOME).tenant == "acme"


def test_a_key_with_networks_opens_only_from_there(house: House) -> None:
    """Whether or not it is known already; without an address not at all."""
    token = house.issue(networks=["192.0.2.0/24", "2001:db8::/64"]).token
    assert house.refused(token, "198.51.100.1") == "address_not_allowed"
    for address in (HOME, "::ffff:192.0.2.9", "2001:db8::5"):
        assert house.keyring.authenticate(token, address).tenant == "acme"
        assert house.keyring.cached(token, address) is not None
    for address in ("198.51.100.1", "", "2001:db9::1"):
        assert house.refused(token, address, cached=True) == "address_not_allowed"


def test_memory_of_addresses_is_bounded(house: House) -> None:
    """A key used from everywhere keeps only so many of them."""
    token = house.issue(networks=["10.0.0.0/8"]).token
    for number in range(module.MAX_ADDRESSES * 2 + 10):
        house.keyring.authenticate(token, f"10.0.{number // 256}.{number % 256}")
    [known] = house.keyring._known.values()
    assert len(known.addresses) <= module.MAX_ADDRESSES


def test_a_flood_of_made_up_tokens_asks_seldom_and_grows_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From one address or from many; those who were known before do not notice."""
    monkeypatch.setattr(module, "MAX_REFUSED", 100)
    monkeypatch.setattr(module, "MAX_ADDRESSES", 50)
    good = house.issue().token
    house.keyring.authenticate(good, HOME)
    codes = Counter[str]()
    for number in range(3_000):
        house.seconds += 0.001
        address = "203.0.113.9" if number % 2 else f"2001:db8::{number:x}"
        try:
            house.keyring.authenticate(house.made_up(), address)
        except (KeyRefused, Unavailable) as error:
            codes[error.code] += 1
    # 200 at once and 100 a second for all.
    assert house.store.look_ups <= 1 + 200 + 300
    assert set(codes) == {"invalid_key", "keys_busy"}
    assert codes["keys_busy"] >= 2_400
    assert len(house.keyring._refused) <= 100
    assert len(house.keyring._misses._addresses) <= 50
    house.keyring.forget()
    assert house.keyring.authenticate(good, "203.0.113.9").tenant == "acme"


def test_one_address_that_tries_keys_does_not_shut_others_out(house: House) -> None:
    """Its own bucket is empty first."""
    for _ in range(60):
        with pytest.raises((KeyRefused, Unavailable)):
            house.keyring.authenticate(house.made_up(), "203.0.113.9")
    new = house.issue().token
    with pytest.raises(Unavailable) as caught:
        house.keyring.authenticate(new, "203.0.113.9")
    assert caught.value.code == "keys_busy"
    assert house.keyring.authenticate(new, HOME).tenant == "acme"
    house.seconds += 1
    assert house.keyring.authenticate(house.issue().token, "203.0.113.9").tenant == "acme"


def test_keys_that_are_kept_are_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest goes; it is read again when it comes."""
    monkeypatch.setattr(module, "MAX_KNOWN", 3)
    tokens = [house.issue().token for _ in range(5)]
    for token in tokens:
        house.keyring.authenticate(token, HOME)
    assert len(house.keyring._known) == len(house.keyring._by_id) == 3
    assert house.keyring.authenticate(tokens[0], HOME).tenant == "acme"


def test_while_the_database_is_away_known_keys_go_on_and_others_do_not_queue(
    house: House,
) -> None:
    """After one failure nobody asks for a second; then it is tried again."""
    known, unknown = house.issue().token, house.issue().token
    house.keyring.authenticate(known, HOME)
    asked = []
    house.on_look_up = lambda: asked.append(house.seconds)
    house.down = True
    for _ in range(5):
        with pytest.raises(Unavailable) as caught:
            house.keyring.authenticate(unknown, HOME)
        assert caught.value.code == "keys_unavailable"
    assert len(asked) == 1
    assert house.keyring.cached(known, HOME) is not None
    house.seconds += module.RETRY_S
    house.down = False
    assert house.keyring.authenticate(unknown, HOME).tenant == "acme"


def test_many_who_come_with_the_same_new_key_ask_once(house: House) -> None:
    """They wait for the first of them."""
    token = house.issue().token
    gate = threading.Event()
    house.on_look_up = lambda: gate.wait(10) and None
    callers: list[Caller] = []
    threads = [
        threading.Thread(target=lambda: callers.append(house.keyring.authenticate(token, HOME)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join()
    assert len(callers) == 8
    assert house.store.look_ups == 1


def test_uses_are_counted_by_key_route_class_and_day_of_the_database(house: House) -> None:
    """The process's own clock says nothing."""
    caller = house.keyring.authenticate(house.issue().token, HOME)
    for status in (200, 201, 404, 200):
        house.keyring.used(caller, route="/v2/events", status=status)
        house.seconds += 1
    house.seconds += 86_400
    house.keyring.used(caller, route="/v2/events", status=200)
    house.counter.flush()
    day = START_US // 86_400_000_000
    assert sorted((one.day, one.status, one.uses) for one in house.uses.rows) == [
        (day, 2, 3),
        (day, 4, 1),
        (day + 1, 2, 1),
    ]
    first = min(house.uses.rows, key=lambda one: (one.day, one.status))
    assert (first.tenant, first.key, first.route) == ("acme", caller.key, "/v2/events")
    assert (first.first_at, first.last_at) == (START_US, START_US + 3_000_000)
    house.counter.flush()
    assert len(house.uses.rows) == 3


def test_uses_that_cannot_be_written_wait_and_beyond_a_limit_are_told(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counting itself never fails; what was kept is written later, once."""
    monkeypatch.setattr("ledger.application.key_uses.MAX_ROWS", 2)
    caller = house.keyring.authenticate(house.issue().token, HOME)
    house.uses.error = Unavailable("away")
    for route in ("/a", "/b", "/a", "/c"):
        house.keyring.used(caller, route=route, status=200)
    assert house.counter.lost == 1
    with pytest.raises(Unavailable):
        house.counter.flush()
    house.keyring.used(caller, route="/a", status=200)
    house.uses.error = None
    house.counter.close()
    assert {(one.route, one.uses) for one in house.uses.rows} == {("/a", 3), ("/b", 1)}


def test_uses_are_written_in_the_background() -> None:
    """By a thread of its own that closing ends, and that survives failures."""
    uses = Uses()
    uses.error = Unavailable("away")
    written = threading.Event()
    failed = threading.Event()
    add = uses.add

    def watched(rows: Sequence[KeyUse]) -> None:
        failed.set()
        add(rows)
        written.set()

    uses.add = watched  # type: ignore[method-assign] # to see when
    counter = KeyUses(uses, every_s=0.01)
    counter.count(key="k", tenant="", route="/a", status=500, at=START_US)
    assert failed.wait(30)
    assert not written.is_set()
    uses.error = None
    assert written.wait(30)
    counter.close()
    assert [(one.status, one.uses) for one in uses.rows] == [(5, 1)]
    assert counter._thread is not None
    assert not counter._thread.is_alive()
