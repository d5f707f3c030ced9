"""API keys: issue, list, rotate and revoke them; an event-sourced aggregate, a stream per key.

The streams are in the same log as the ledgers. A token is returned by `Keys.issue` and
`Keys.rotate` and never again: only its digest is stored.

    issued = keys.issue({"name": "gateway", "tenant": "acme", "scopes": ["events:write"]}, by="ann")
    issued.token                              # tbk_live_…; shown once
    keys.rotate(issued.key.id, {"overlap_s": 3600}, by="ann")
    keys.revoke(issued.key.id, by="ann", reason="leaked")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, Self, TypeVar

import msgspec
from eventsourcing.domain import BaseAggregate, CanInitAggregate, CanMutateAggregate
from msgspec.structs import replace

from ledger.application import ask_fields as fields
from ledger.application.key_terms import inherited, terms_of
from ledger.domain.errors import InvariantViolation, NotFound, Refused
from ledger.domain.keys import (
    ACTIVE,
    ENTROPY_BYTES,
    ID_BYTES,
    Key,
    digest,
    id_from,
    id_of,
    is_id,
    mint,
)
from ledger.domain.periods import from_us, to_us

STREAM_PREFIX = "key-"
"""What the ids of keys' streams begin with; the key's id follows."""
CALLER_PREFIX = "key:"
"""What stands before a key's id where it says who acts."""
MAX_ATTEMPTS = 5
"""How often a change is tried while others change the key."""
OVERLAP_S = 86_400
"""How long a rotated key goes on, where nobody says otherwise."""
MAX_OVERLAP_S = 30 * 86_400
"""Longest time that a rotated key can go on."""
_US = 1_000_000


class ApiKey(BaseAggregate[str]):
    """A key's history."""

    TOPIC = "tb.key:1"

    @dataclass(frozen=True)
    class Event(CanMutateAggregate[str]):
        """Something that happened to a key."""

        originator_id: str
        originator_version: int
        timestamp: datetime

    @dataclass(frozen=True)
    class Issued(Event, CanInitAggregate[str]):
        """The key exists; "" and 0 stand for what is not said."""

        TOPIC = "tb.key.issued:1"
        originator_topic: str
        mode: str
        tenant: str
        scopes: tuple[str, ...]
        name: str
        note: str
        networks: tuple[str, ...]
        per_second: int
        burst: int
        digest: bytes
        expires_at: int
        predecessor: str
        by: str

        def apply(self, aggregate: ApiKey) -> None:
            """Make the key."""
            aggregate._key = Key(
                id=self.originator_id.removeprefix(STREAM_PREFIX),
                mode=self.mode,
                tenant=self.tenant or None,
                scopes=self.scopes,
                name=self.name,
                note=self.note,
                networks=self.networks,
                per_second=self.per_second,
                burst=self.burst,
                digest=self.digest,
                issued_at=to_us(self.timestamp),
                issued_by=self.by,
                expires_at=self.expires_at or None,
                predecessor=self.predecessor,
            )

    @dataclass(frozen=True)
    class Succeeded(Event):
        """Another key takes its place; it ends when the overlap does."""

        TOPIC = "tb.key.succeeded:1"
        successor: str
        expires_at: int
        by: str

        def apply(self, aggregate: ApiKey) -> None:
            """Let it end."""
            aggregate._key = replace(
                aggregate.key, successor=self.successor, expires_at=self.expires_at
            )

    @dataclass(frozen=True)
    class Revoked(Event):
        """It opens nothing any more."""

        TOPIC = "tb.key.revoked:1"
        by: str
        reason: str

        def apply(self, aggregate: ApiKey) -> None:
            """End it."""
            aggregate._key = replace(
                aggregate.key,
                revoked_at=to_us(self.timestamp),
                revoked_by=self.by,
                reason=self.reason,
            )

    def __init__(self) -> None:
        self._key: Key | None = None

    @property
    def key(self) -> Key:
        """Return the key as it stands."""
        if self._key is None:
            raise InvariantViolation(f"{self.id} was never issued")
        return self._key

    @classmethod
    def issue(cls, key: Key) -> Self:
        """Return a new key's history."""
        return cls._create(
            cls.Issued,
            id=STREAM_PREFIX + key.id,
            mode=key.mode,
            tenant=key.tenant or "",
            scopes=key.scopes,
            name=key.name,
            note=key.note,
            networks=key.networks,
            per_second=key.per_second,
            burst=key.burst,
            digest=key.digest,
            expires_at=key.expires_at or 0,
            predecessor=key.predecessor,
            by=key.issued_by,
            timestamp=from_us(key.issued_at),
        )

    def succeed(self, successor: str, *, expires_at: int, by: str, at: int) -> None:
        """Let another key take the place of this one."""
        self.trigger_event(
            self.Succeeded,
            successor=successor,
            expires_at=expires_at,
            by=by,
            timestamp=from_us(at),
        )

    def revoke(self, *, by: str, reason: str, at: int) -> None:
        """End it; again changes nothing."""
        if self.key.revoked_at is None:
            self.trigger_event(self.Revoked, by=by, reason=reason, timestamp=from_us(at))


class KeyChanged(Exception):
    """Somebody else changed the key meanwhile, or its id is taken; nothing was saved."""


class NotRotated(Refused):
    """The key is not rotated as it stands: dead, rotated before, or with a live predecessor.

    Codes: ``key_not_live``, ``already_rotated``, ``rotation_running``.

    Attributes:
        key: the key.
    """

    def __init__(self, message: str, *, code: str, key: Key) -> None:
        super().__init__(message, code=code)
        self.key = key


class KeyStore(Protocol):
    """Where keys are stored."""

    def events(self, id: str) -> Iterable[ApiKey.Event]:
        """Return a key's events in order; none if there is no such key."""
        ...

    def all_events(self) -> Iterable[ApiKey.Event]:
        """Return the events of all keys, each key's in order and next to each other."""
        ...

    def save(self, changed: Sequence[ApiKey], *, only_first: bool = False) -> None:
        """Append the pending events in one commit, and tell every keyring of these keys.

        Args:
            changed: keys.
            only_first: only if there is no key yet.

        Raises:
            KeyChanged: a stream has others at their place, or there is a key already.
        """
        ...

    def now(self) -> datetime:
        """Return the database's time."""
        ...


class IssuedKey(msgspec.Struct, frozen=True):
    """A new key, and its token, which nobody can get again.

    Attributes:
        token: to be shown once; never to be logged. "" where an earlier attempt at the command
            had it, and it is lost.
        key: what it opens.
    """

    token: str
    key: Key

    def __repr__(self) -> str:
        return f"IssuedKey(key={self.key.id!r})"


class RotatedKey(msgspec.Struct, frozen=True):
    """What a rotation led to.

    Attributes:
        issued: the successor.
        old: the key that it replaces, which says until when it goes on.
    """

    issued: IssuedKey
    old: Key


class Keys:
    """Issues and ends keys; thread-safe.

    Args:
        store: where they are.
        entropy: returns that many random bytes, of a generator made for secrets.
    """

    def __init__(self, store: KeyStore, entropy: Callable[[int], bytes]) -> None:
        self._store = store
        self._entropy = entropy

    def issue(self, document: Mapping[str, object], *, by: str, once: str = "") -> IssuedKey:
        """Issue a key.

        Args:
            document: ``name`` and ``scopes``; and any of ``tenant`` (left out or null for a key of
                the platform), ``mode`` (``live``), ``note``, ``expires_at``, ``networks`` (CIDR),
                ``per_second`` and ``burst`` (where one is missing it is the other).
            by: who asks for it.
            once: names the command, 16 hexadecimal digits; the same again returns its key. The
                key's id is made of it.

        Raises:
            InvalidInput: ``invalid_<member>``, ``unknown_member``.
            Refused: ``key_busy`` if the random id is taken each time; nothing was saved.
        """
        return self._issue(document, by=by, only_first=False, once=once)

    def issue_first(self, document: Mapping[str, object], *, by: str) -> IssuedKey | None:
        """Issue a key if there is none at all; None if there is one. Members as in `issue`."""
        if any(True for _ in self._store.all_events()):
            return None
        try:
            return self._issue(document, by=by, only_first=True)
        except Refused:
            return None

    def _issue(
        self, document: Mapping[str, object], *, by: str, only_first: bool, once: str = ""
    ) -> IssuedKey:
        terms = terms_of(document)
        checked = fields.name(by, "/by")
        for _ in range(MAX_ATTEMPTS):
            made = fold(self._store.events(_named(once))) if once else None
            if made is not None:
                return IssuedKey("", made.key)
            at = to_us(self._store.now())
            if terms["expires_at"] is not None and terms["expires_at"] <= at:
                fields.fail("/expires_at", "is over already")
            issued = self._mint(terms, by=checked, at=at, once=once)
            try:
                self._store.save([ApiKey.issue(issued.key)], only_first=only_first)
            except KeyChanged:
                continue
            return issued
        raise Refused(
            "no key could be saved, its id was taken each time; try again", code="key_busy"
        )

    def list(self, *, tenant: str | None = None, ended: bool = True) -> Sequence[Key]:
        """Return keys, the newest first.

        Args:
            tenant: only those of this tenant; "" for those of the platform, None for all.
            ended: also those that expired or were revoked.
        """
        now = to_us(self._store.now())
        found = [
            key
            for key in _fold_all(self._store.all_events())
            if tenant is None or (key.tenant or "") == tenant
            if ended or key.status(now) == ACTIVE
        ]
        return sorted(found, key=lambda key: (key.issued_at, key.id), reverse=True)

    def show(self, id: str) -> Key:
        """Return a key.

        Raises:
            NotFound: ``unknown_key``.
        """
        return self._load(id).key

    def line_of(self, who: str) -> str:
        """Return what stands for whoever acts: of a key the first one of its line, else the name.

        A key's successors are of its line: whoever rotates a key has the next one too.

        Args:
            who: as entries name it; ``key:<id>`` is a key.
        """
        id = who.removeprefix(CALLER_PREFIX)
        if id == who or not is_id(id):
            return who
        while (found := fold(self._store.events(id))) is not None and found.key.predecessor:
            id = found.key.predecessor
        return CALLER_PREFIX + id

    def now(self) -> int:
        """Return the database's time, microseconds since the epoch, which decides expiry."""
        return to_us(self._store.now())

    def rotate(
        self,
        id: str,
        document: Mapping[str, object] | None = None,
        *,
        by: str,
        once: str = "",
    ) -> RotatedKey:
        """Make a key's successor; the old one goes on for a while, then expires.

        At most two of a line are live: a key whose predecessor is still live is not rotated.
        The successor has the same terms. If the old one had an expiry, the successor lives as
        long as the old one was meant to.

        Args:
            id: of the old one.
            document: any of ``overlap_s`` (whole seconds, 0 ends the old one at once) and
                ``expires_at`` of the successor.
            by: who asks for it.
            once: names the command, as in `issue`; the same again returns its successor.

        Raises:
            NotFound: ``unknown_key``.
            InvalidInput: ``invalid_overlap_s``, ``invalid_expires_at``, ``unknown_member``.
            NotRotated: ``key_not_live``, ``already_rotated``, ``rotation_running``.
            Refused: ``key_busy`` if others change it all the time; nothing was saved.
        """
        said = fields.read_members(
            document or {},
            {"overlap_s": fields.whole(0, MAX_OVERLAP_S), "expires_at": fields.instant},
        )
        checked = fields.name(by, "/by")

        def change() -> RotatedKey:
            old = self._load(id)
            if once and old.key.successor == _named(once):
                return RotatedKey(IssuedKey("", self._load(old.key.successor).key), old.key)
            at = self.now()
            self._check_rotation(old.key, at)
            until = at + said.get("overlap_s", OVERLAP_S) * _US
            if old.key.expires_at is not None:
                until = min(until, old.key.expires_at)
            issued = self._mint(inherited(old.key, said, at), by=checked, at=at, once=once)
            old.succeed(issued.key.id, expires_at=until, by=checked, at=at)
            self._store.save([ApiKey.issue(issued.key), old])
            return RotatedKey(issued, old.key)

        return _try(change)

    def revoke(self, id: str, *, by: str, reason: str = "") -> Key:
        """End a key at once, for good; again changes nothing.

        Raises:
            NotFound: ``unknown_key``.
            InvalidInput: ``invalid_by``, ``invalid_reason``.
            Refused: ``key_busy`` if others change it all the time; nothing was saved.
        """
        who, why = fields.name(by, "/by"), fields.text(reason, "/reason")

        def change() -> Key:
            found = self._load(id)
            found.revoke(by=who, reason=why, at=self.now())
            if found.pending_events:
                self._store.save([found])
            return found.key

        return _try(change)

    def _check_rotation(self, key: Key, now: int) -> None:
        status = key.status(now)
        if status != ACTIVE:
            raise NotRotated(
                f"key {key.id} is {status} and has no time left to share; issue a new one",
                code="key_not_live",
                key=key,
            )
        if key.successor:
            raise NotRotated(
                f"key {key.id} was rotated before; rotate its successor {key.successor}",
                code="already_rotated",
                key=key,
            )
        if key.predecessor and self._load(key.predecessor).key.status(now) == ACTIVE:
            raise NotRotated(
                f"key {key.predecessor}, which {key.id} replaces, is still live; revoke it or wait"
                " until it has expired",
                code="rotation_running",
                key=key,
            )

    def _mint(self, terms: Mapping[str, Any], *, by: str, at: int, once: str) -> IssuedKey:
        entropy = self._entropy(ENTROPY_BYTES)
        if once:
            entropy = bytes.fromhex(once) + entropy[ID_BYTES:]
        token = mint(terms["mode"], entropy)
        id = id_of(token)
        if id is None:
            raise InvariantViolation("a token was made that cannot be read")
        key = Key(id=id, digest=digest(token), issued_at=at, issued_by=by, **terms)
        return IssuedKey(token, key)

    def _load(self, id: str) -> ApiKey:
        found = fold(self._store.events(id)) if is_id(id) else None
        if found is None:
            raise NotFound(f"there is no key {id[:40]!r}", code="unknown_key")
        return found


def _named(once: str) -> str:
    """Return the id of the key that a command of this name makes."""
    return id_from(bytes.fromhex(once))


def fold(events: Iterable[ApiKey.Event]) -> ApiKey | None:
    """Return the key that events lead to; None if there are none."""
    key: ApiKey | None = None
    for event in events:
        key = event.mutate(key)
    return key


def _fold_all(events: Iterable[ApiKey.Event]) -> list[Key]:
    keys: dict[str, ApiKey | None] = {}
    for event in events:
        keys[event.originator_id] = event.mutate(keys.get(event.originator_id))
    return [one.key for one in keys.values() if one is not None]


_T = TypeVar("_T")


def _try(change: Callable[[], _T]) -> _T:
    """Run a change of a key on the key as it is, again while others change it."""
    for _ in range(MAX_ATTEMPTS):
        try:
            return change()
        except KeyChanged:
            continue
    raise Refused(
        "others are changing the key all the time; nothing was saved, try again", code="key_busy"
    )
