"""Issuing, rotating and revoking keys, in memory and on PostgreSQL alike."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from adapters.memory import MemoryKeys
from adapters.postgres.database import Database
from adapters.postgres.keys import PostgresKeys
from ledger.application.access import SCOPES, Caller, Forbidden, check_may_grant
from ledger.application.documents.keys import key_document
from ledger.application.keys import (
    ApiKey,
    KeyChanged,
    Keys,
    KeyStore,
)
from ledger.domain.errors import InvalidInput, NotFound, Refused
from ledger.domain.keys import Key, digest, id_of
from ledger.domain.periods import from_us, to_us

GATEWAY = {"name": "gateway", "tenant": "acme", "scopes": ["events:write", "holds:write"]}


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest) -> Iterator[KeyStore]:
    """Give an empty store of each kind."""
    if request.param == "memory":
        yield MemoryKeys(lambda: time.time_ns() // 1000)
        return
    with Database(request.getfixturevalue("database_url")) as database:
        made = PostgresKeys(database)
        yield made
        made.close()


@pytest.fixture
def keys(store: KeyStore) -> Keys:
    """Give the use cases."""
    return Keys(store, secrets.token_bytes)


def stored(store: KeyStore) -> str:
    """Return all that is kept, as text."""
    return repr([vars(event) for event in store.all_events()])


def test_an_issued_key_is_what_was_asked_for(keys: Keys) -> None:
    """Scopes sorted, burst from the rate, no limit of time unless one is said."""
    issued = keys.issue(
        GATEWAY | {"note": "edge", "networks": ["10.0.0.0/8", "192.0.2.7"], "per_second": 50},
        by="ann",
    )
    key = keys.show(issued.key.id)
    assert key == issued.key
    assert key.scopes == ("events:write", "holds:write")
    assert (key.tenant, key.mode, key.note, key.issued_by) == ("acme", "live", "edge", "ann")
    assert key.networks == ("10.0.0.0/8", "192.0.2.7/32")
    assert (key.per_second, key.burst) == (50, 50)
    assert key.expires_at is None
    assert key.status(keys.now()) == "active"


def test_the_token_is_stored_nowhere_only_its_digest(keys: Keys, store: KeyStore) -> None:
    """Neither does the answer's own representation show it."""
    issued = keys.issue(GATEWAY, by="ann")
    secret = issued.token.rsplit("_", 1)[1]
    assert id_of(issued.token) == issued.key.id
    assert issued.key.digest == digest(issued.token)
    assert secret not in stored(store)
    assert secret not in repr(issued)
    assert secret not in repr(key_document(issued.key, now=0))


def test_each_key_has_a_token_of_its_own(keys: Keys) -> None:
    """Two of the same terms differ in id and secret."""
    one, other = keys.issue(GATEWAY, by="ann"), keys.issue(GATEWAY, by="ann")
    assert one.key.id != other.key.id
    assert {key.id for key in keys.list()} == {one.key.id, other.key.id}


def test_a_key_of_a_named_command_is_issued_once(keys: Keys) -> None:
    """Whoever repeats it finds the key, whose token nobody has any more."""
    once, other = "0123456789abcdef", "fedcba9876543210"
    first = keys.issue(GATEWAY, by="ann", once=once)
    again = keys.issue(GATEWAY, by="ann", once=once)
    assert id_of(first.token) == first.key.id
    assert (again.token, again.key) == ("", first.key)
    assert keys.issue(GATEWAY, by="ann", once=other).key.id != first.key.id
    assert len(keys.list()) == 2
    secret = keys.issue(GATEWAY, by="ann", once="00" * 8).token.rsplit("_", 1)[1]
    assert secret[:20] != first.token.rsplit("_", 1)[1][:20]


def test_a_rotation_of_a_named_command_is_done_once(keys: Keys) -> None:
    """The same again is answered with its successor; another one is refused as ever."""
    old = keys.issue(GATEWAY, by="ann").key.id
    once = "0123456789abcdef"
    first = keys.rotate(old, {"overlap_s": 60}, by="ann", once=once)
    again = keys.rotate(old, {"overlap_s": 60}, by="ann", once=once)
    assert (again.issued.token, again.issued.key, again.old) == ("", first.issued.key, first.old)
    for name in ("fedcba9876543210", ""):
        with pytest.raises(Refused) as caught:
            keys.rotate(old, by="ann", once=name)
        assert caught.value.code == "already_rotated"
    assert len(keys.list()) == 2


def test_the_keys_of_a_line_stand_for_one_approver(keys: Keys) -> None:
    """However often it was rotated, whatever became of the first; names of people stay."""
    line = [keys.issue(GATEWAY, by="ann").key.id]
    for _ in range(3):
        line.append(keys.rotate(line[-1], {"overlap_s": 0}, by="ann").issued.key.id)
    keys.revoke(line[-1], by="ann")
    other = keys.issue(GATEWAY, by=f"key:{line[0]}").key.id
    assert {keys.line_of(f"key:{id}") for id in line} == {f"key:{line[0]}"}
    assert keys.line_of(f"key:{other}") == f"key:{other}"
    for name in ("ann", "key:", "key:nobody", f"key:{'0' * 13}", "tallybook jobs"):
        assert keys.line_of(name) == name


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"scopes": []}, "invalid_scopes"),
        ({"scopes": ["root"]}, "invalid_scopes"),
        ({"scopes": "read"}, "invalid_scopes"),
        ({"name": ""}, "invalid_name"),
        ({"tenant": ""}, "invalid_tenant"),
        ({"mode": "prod"}, "invalid_mode"),
        ({"networks": ["10.0.0.1/8"]}, "invalid_networks"),
        ({"per_second": -1}, "invalid_per_second"),
        ({"burst": 1.5}, "invalid_burst"),
        ({"expires_at": "tomorrow"}, "invalid_expires_at"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "invalid_expires_at"),
        ({"secret": "mine"}, "unknown_member"),
    ],
)
def test_bad_terms_are_refused_by_name_and_nothing_is_saved(
    keys: Keys, change: dict[str, object], code: str
) -> None:
    """The code names the member."""
    with pytest.raises(InvalidInput) as caught:
        keys.issue(GATEWAY | change, by="ann")
    assert caught.value.code == code
    assert keys.list() == []


def test_without_a_tenant_the_key_is_the_platforms(keys: Keys) -> None:
    """Left out and null are the same; lists tell the two kinds apart."""
    ours = [
        keys.issue({"name": "ops", "scopes": ["admin"]}, by="ann").key,
        keys.issue({"name": "ops", "scopes": ["admin"], "tenant": None}, by="ann").key,
    ]
    theirs = keys.issue(GATEWAY, by="ann").key
    assert {key.tenant for key in ours} == {None}
    assert {key.id for key in keys.list(tenant="")} == {key.id for key in ours}
    assert [key.id for key in keys.list(tenant="acme")] == [theirs.id]
    assert keys.list(tenant="other") == []


def test_a_rotated_key_goes_on_for_the_overlap_and_its_successor_has_its_terms(
    keys: Keys,
) -> None:
    """Both are live meanwhile; each names the other."""
    old = keys.issue(GATEWAY | {"per_second": 5, "networks": ["10.0.0.0/8"]}, by="ann").key
    before = keys.now()
    rotated = keys.rotate(old.id, {"overlap_s": 3600}, by="bob")
    after = keys.now()
    new = rotated.issued.key
    assert (new.predecessor, rotated.old.successor) == (old.id, new.id)
    for member in ("tenant", "mode", "scopes", "name", "note", "networks", "per_second", "burst"):
        assert getattr(new, member) == getattr(old, member)
    assert new.expires_at is None
    until = keys.show(old.id).expires_at
    assert until is not None
    assert before + 3600 * 10**6 <= until <= after + 3600 * 10**6
    statuses = [keys.show(id).status(until - 1) for id in (old.id, new.id)]
    assert statuses == ["active", "active"]
    assert keys.show(old.id).status(until) == "expired"


def test_an_overlap_of_nothing_ends_the_old_key_at_once(keys: Keys) -> None:
    """And the list of live keys has the successor alone."""
    old = keys.issue(GATEWAY, by="ann").key
    new = keys.rotate(old.id, {"overlap_s": 0}, by="ann").issued.key
    assert [key.id for key in keys.list(ended=False)] == [new.id]


def test_an_overlap_never_makes_a_key_live_longer(keys: Keys) -> None:
    """The successor of a key with an expiry lives as long as that was meant to."""
    expires_at = from_us(keys.now()) + timedelta(hours=1)
    old = keys.issue(GATEWAY | {"expires_at": expires_at}, by="ann").key
    rotated = keys.rotate(old.id, by="ann")
    assert rotated.old.expires_at == old.expires_at == to_us(expires_at)
    new = rotated.issued.key
    assert new.expires_at is not None
    assert new.expires_at - new.issued_at == to_us(expires_at) - old.issued_at
    said = datetime(2099, 1, 1, tzinfo=UTC)
    keys.revoke(old.id, by="ann")
    again = keys.rotate(new.id, {"expires_at": said}, by="ann").issued.key
    assert again.expires_at == to_us(said)


def test_at_most_two_keys_of_a_line_are_live(keys: Keys) -> None:
    """A key is rotated once; its successor when it is gone itself."""
    old = keys.issue(GATEWAY, by="ann").key
    new = keys.rotate(old.id, by="ann").issued.key
    with pytest.raises(Refused) as caught:
        keys.rotate(old.id, by="ann")
    assert caught.value.code == "already_rotated"
    with pytest.raises(Refused) as caught:
        keys.rotate(new.id, by="ann")
    assert caught.value.code == "rotation_running"
    keys.revoke(old.id, by="ann")
    newest = keys.rotate(new.id, by="ann").issued.key
    assert {key.id for key in keys.list(ended=False)} == {new.id, newest.id}


def test_a_dead_key_cannot_be_rotated(keys: Keys) -> None:
    """There is nothing to overlap with."""
    old = keys.issue(GATEWAY, by="ann").key
    keys.revoke(old.id, by="ann")
    with pytest.raises(Refused) as caught:
        keys.rotate(old.id, by="ann")
    assert caught.value.code == "key_not_live"
    assert len(keys.list()) == 1


def test_revoking_ends_a_key_for_good_and_twice_is_once(keys: Keys, store: KeyStore) -> None:
    """The first word stays."""
    key = keys.issue(GATEWAY, by="ann").key
    revoked = keys.revoke(key.id, by="bob", reason="leaked")
    assert (revoked.revoked_by, revoked.reason) == ("bob", "leaked")
    assert revoked.status(0) == "revoked"
    before = stored(store)
    assert keys.revoke(key.id, by="cat", reason="again") == revoked
    assert stored(store) == before
    assert keys.list(ended=False) == []


@pytest.mark.parametrize("id", ["", "0" * 13, "nope", "../../../etc/p", "\x00" * 13])
def test_an_unknown_key_is_not_found(keys: Keys, id: str) -> None:
    """Whatever is given as its id."""
    for ask in (
        keys.show,
        lambda id: keys.revoke(id, by="ann"),
        lambda id: keys.rotate(id, by="a"),
    ):
        with pytest.raises(NotFound) as caught:
            ask(id)
        assert caught.value.code == "unknown_key"


def test_the_first_key_is_issued_once(keys: Keys) -> None:
    """A revoked one counts: whoever locked the door did not mean to open it again."""
    issued = keys.issue_first({"name": "first", "scopes": ["admin"]}, by="ann")
    assert issued is not None
    assert keys.issue_first({"name": "first", "scopes": ["admin"]}, by="ann") is None
    keys.revoke(issued.key.id, by="ann")
    assert keys.issue_first({"name": "first", "scopes": ["admin"]}, by="ann") is None


def test_a_store_saves_a_first_key_only_where_there_is_none(store: KeyStore, keys: Keys) -> None:
    """The look and the append are one step."""
    keys.issue(GATEWAY, by="ann")
    with pytest.raises(KeyChanged):
        store.save([ApiKey.issue(some_key())], only_first=True)


def test_a_change_that_another_was_before_is_made_on_top_of_it(
    keys: Keys, store: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A revocation between the look and the save of a rotation wins."""
    key = keys.issue(GATEWAY, by="ann").key
    save = store.save

    def revoked_before(changed: list[ApiKey], *, only_first: bool = False) -> None:
        monkeypatch.setattr(store, "save", save)
        Keys(store, secrets.token_bytes).revoke(key.id, by="bob")
        save(changed, only_first=only_first)

    monkeypatch.setattr(store, "save", revoked_before)
    with pytest.raises(Refused) as caught:
        keys.rotate(key.id, by="ann")
    assert caught.value.code == "key_not_live"
    assert len(keys.list()) == 1


def test_a_key_whose_id_is_taken_gets_another(store: KeyStore) -> None:
    """Randomness that repeats itself is asked again, a few times."""
    taken = b"\x01" * 40
    entropies = [taken, taken, b"\x02" * 40]
    keys = Keys(store, lambda count: entropies.pop(0))
    first, second = keys.issue(GATEWAY, by="ann"), keys.issue(GATEWAY, by="ann")
    assert first.key.id != second.key.id
    stuck = Keys(store, lambda count: taken)
    with pytest.raises(Refused) as caught:
        stuck.issue(GATEWAY, by="ann")
    assert caught.value.code == "key_busy"
    assert keys.show(first.key.id) == first.key


def test_nobody_hands_on_more_than_they_have() -> None:
    """Neither another tenant's data nor a scope of their own lack; admin has them all."""
    caller = Caller(key="k", tenant="acme", scopes=frozenset({"read"}))
    check_may_grant(caller, tenant="acme", scopes=["read"])
    for tenant in (None, "other"):
        with pytest.raises(Forbidden) as caught:
            check_may_grant(caller, tenant=tenant, scopes=["read"])
        assert caught.value.code == "foreign_tenant"
    with pytest.raises(Forbidden) as caught:
        check_may_grant(caller, tenant="acme", scopes=["read", "admin"])
    assert caught.value.code == "missing_scope"
    admin = Caller(key="k", tenant=None, scopes=frozenset({"admin"}))
    for tenant in (None, "acme"):
        check_may_grant(admin, tenant=tenant, scopes=SCOPES)


def some_key() -> Key:
    """Return a key that nobody issued."""
    return Key(
        id="0123456789abc",
        mode="live",
        tenant=None,
        scopes=("admin",),
        name="x",
        note="",
        networks=(),
        per_second=0,
        burst=0,
        digest=bytes(32),
        issued_at=to_us(datetime(2026, 1, 1, tzinfo=UTC)),
        issued_by="ann",
        expires_at=None,
    )
