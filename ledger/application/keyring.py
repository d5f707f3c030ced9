"""The keyring: whose token this is, answered from memory as long as that is known to be right.

A key is read from the database once and then kept. What is kept may be used

- for `WATCHED_S` while `heard` is called every second, which says that the channel on which
  changes are told is alive (`forget` is called for each of them), or
- for `UNWATCHED_S` without that.

So a revocation in another process counts within milliseconds, and at most `BOUND_S` seconds after
its commit, whatever breaks. Expiry is exact: the database's clock is carried on by a monotonic one.

Tokens that open nothing are kept too, so many at most. One that is no token by its form or
checksum never asks the database. One that may be one asks it only as often as two buckets allow,
one an address and one for all, so a flood of made-up tokens costs neither memory nor the database.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Protocol

import msgspec

from ledger.application.access import Caller, KeyRefused, Keyring
from ledger.application.key_uses import KeyUses
from ledger.domain.errors import Unavailable
from ledger.domain.keys import (
    EXPIRED,
    REVOKED,
    TOKEN_LENGTH,
    Key,
    Network,
    digest,
    id_of,
    is_inside,
    read_network,
)

WATCHED_S = 60.0
"""How long a key is kept without being read again, while changes are told."""
UNWATCHED_S = 1.0
"""The same while the channel that tells of changes may be dead."""
HEARD_S = 2.0
"""How long the channel counts as alive after `CachedKeyring.heard`."""
BOUND_S = 2.0
"""Longest time that a revoked key may go on in another process."""
MAX_KNOWN = 50_000
"""Most keys that are kept."""
MAX_REFUSED = 10_000
"""Most tokens that open nothing that are kept."""
MAX_ADDRESSES = 2_000
"""Most addresses of which it is kept how often they came with unknown tokens, or, for one key,
whether they may use it."""
RETRY_S = 1.0
"""How long nobody asks the database again after it could not be reached."""
WAIT_S = 5.0
"""Longest time that a caller waits for those before it."""

_REASONS = {
    "invalid_key": "this is no key of ours",
    "key_expired": "this key has expired",
    "key_revoked": "this key was revoked",
}


class KeyFound(msgspec.Struct, frozen=True):
    """What the database says of an id.

    Attributes:
        key: None if there is no such key.
        now: the database's time, microseconds since the epoch.
    """

    key: Key | None
    now: int


class KeySource(Protocol):
    """Where the keyring reads keys."""

    def look_up(self, id: str) -> KeyFound:
        """Return a key and the time.

        Raises:
            Unavailable: it cannot be read now.
        """
        ...


class _Known:
    """A key that opens something, and until when that is known; times are monotonic seconds."""

    __slots__ = ("addresses", "caller", "dies_at", "networks", "read_at")

    def __init__(self, key: Key, *, now: int, read_at: float) -> None:
        self.caller = Caller(
            key=key.id,
            tenant=key.tenant,
            scopes=frozenset(key.scopes),
            per_second=key.per_second,
            burst=key.burst,
            mode=key.mode,
        )
        self.read_at = read_at
        left_us = math.inf if key.expires_at is None else key.expires_at - now
        self.dies_at = read_at + left_us / 1_000_000
        self.networks: tuple[Network, ...] = tuple(map(read_network, key.networks))
        self.addresses: dict[str, bool] = {}

    def admits(self, address: str) -> bool:
        """Tell whether an address may use the key."""
        known = self.addresses.get(address)
        if known is None:
            known = is_inside(address, self.networks)
            if len(self.addresses) >= MAX_ADDRESSES:
                self.addresses.clear()
            self.addresses[address] = known
        return known


class CachedKeyring:
    """Knows which token is whose; thread-safe.

    Args:
        source: where keys are read.
        clock: monotonic seconds.
        uses: counts uses; None counts nothing.
    """

    def __init__(
        self, source: KeySource, clock: Callable[[], float], *, uses: KeyUses | None = None
    ) -> None:
        self._source = source
        self._clock = clock
        self._uses = uses
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._known: dict[bytes, _Known] = {}
        self._by_id: dict[str, _Known] = {}
        self._refused: dict[bytes, tuple[str, float]] = {}
        self._misses = _Misses()
        self._changes = 0
        self._heard_at = -math.inf
        self._down_until = -math.inf
        self._ahead_us = 0

    # -- asked by interfaces ------------------------------------------------------------

    def cached(self, token: str, address: str) -> Caller | None:
        """Return the caller if that is known without asking a database; see `Keyring`."""
        if len(token) != TOKEN_LENGTH:
            raise _malformed(token)
        token_digest = digest(token)
        known = self._known.get(token_digest)
        if known is None:
            self._check_unknown(token, token_digest)
            return None
        now = self._clock()
        kept_s = WATCHED_S if now - self._heard_at < HEARD_S else UNWATCHED_S
        if now - known.read_at >= kept_s or now >= known.dies_at:
            return None
        if known.networks and not known.admits(address):
            raise KeyRefused(
                f"this key may not be used from {address or 'an unknown address'}",
                code="address_not_allowed",
            )
        return known.caller

    def authenticate(self, token: str, address: str) -> Caller:
        """Return whose token this is; see `Keyring`. One at a time asks the database.

        Raises:
            KeyRefused: it opens nothing.
            Unavailable: ``keys_unavailable``, ``keys_busy``: that cannot be found out now.
        """
        caller = self.cached(token, address)
        if caller is not None:
            return caller
        if not self._reading.acquire(timeout=WAIT_S):
            raise Unavailable(
                "too many callers wait for their keys to be read; try again", code="keys_busy"
            )
        try:
            # Whoever was before may have read the same key.
            caller = self.cached(token, address)
            if caller is not None:
                return caller
            found = self._read(token, address)
        finally:
            self._reading.release()
        if found.networks and not found.admits(address):
            raise KeyRefused(
                f"this key may not be used from {address or 'an unknown address'}",
                code="address_not_allowed",
            )
        return found.caller

    def used(self, caller: Caller, *, route: str, status: int) -> None:
        """Count a use of a key; see `Keyring`."""
        if self._uses is not None:
            self._uses.count(
                key=caller.key,
                tenant=caller.tenant or "",
                route=route,
                status=status,
                at=int(self._clock() * 1_000_000) + self._ahead_us,
            )

    # -- told by whoever watches for changes --------------------------------------------

    def heard(self) -> None:
        """Take note that the channel of changes is alive, and missed nothing since `forget`."""
        self._heard_at = self._clock()

    def forget(self, id: str | None = None) -> None:
        """Read a key again before its next use; all of them without an id."""
        with self._lock:
            self._changes += 1
            if id is None:
                stale = list(self._known.values())
                self._refused.clear()
            else:
                stale = [one for one in (self._by_id.get(id),) if one is not None]
            # They stay, stale: whoever had a good token before waits for no bucket.
            for known in stale:
                known.read_at = -math.inf

    # -- parts ----------------------------------------------------------------------------

    def _check_unknown(self, token: str, token_digest: bytes) -> None:
        """Check that a token which is not kept may be one.

        Raises:
            KeyRefused: it is known to open nothing, or is no token at all.
        """
        refused = self._refused.get(token_digest)
        if refused is not None and self._clock() < refused[1]:
            raise _refusal(refused[0])
        if id_of(token) is None:
            raise _malformed(token)

    def _read(self, token: str, address: str) -> _Known:
        """Return what the database says of a token, and keep it.

        Raises:
            KeyRefused: it opens nothing.
            Unavailable: ``keys_unavailable``, ``keys_busy``.
        """
        token_digest = digest(token)
        id = id_of(token) or ""
        now = self._clock()
        known = self._known.get(token_digest)
        if known is None and not self._misses.allow(address, now):
            raise Unavailable(
                "too many unknown keys are being tried; try again in a second", code="keys_busy"
            )
        if now < self._down_until:
            raise Unavailable(
                "keys cannot be read now, the database is away; try again",
                code="keys_unavailable",
            )
        changes = self._changes
        try:
            found = self._source.look_up(id)
        except Unavailable:
            self._down_until = self._clock() + RETRY_S
            raise
        # Expiry counts from before the look, so that no key lives longer than it should.
        self._ahead_us = found.now - int(now * 1_000_000)
        key = found.key
        if key is None or not key.opens(token_digest):
            self._misses.spend(address, now)
            raise self._refuse(token_digest, "invalid_key")
        status = key.status(found.now)
        if status in (REVOKED, EXPIRED):
            raise self._refuse(token_digest, f"key_{status}")
        known = _Known(key, now=found.now, read_at=now)
        with self._lock:
            # A change that was told while the database was asked may be newer than its answer.
            if changes == self._changes:
                self._keep(token_digest, known)
        return known

    def _keep(self, token_digest: bytes, known: _Known) -> None:
        if len(self._known) >= MAX_KNOWN and token_digest not in self._known:
            oldest = next(iter(self._known))
            self._by_id.pop(self._known.pop(oldest).caller.key, None)
        self._known[token_digest] = known
        self._by_id[known.caller.key] = known

    def _refuse(self, token_digest: bytes, code: str) -> KeyRefused:
        with self._lock:
            known = self._known.pop(token_digest, None)
            if known is not None:
                self._by_id.pop(known.caller.key, None)
            if len(self._refused) >= MAX_REFUSED:
                self._refused.pop(next(iter(self._refused)), None)
            self._refused[token_digest] = (code, self._clock() + WATCHED_S)
        return _refusal(code)


class _Misses:
    """How often unknown tokens may still ask the database: a bucket an address, one for all."""

    def __init__(self) -> None:
        self._all = _Bucket(burst=200, per_second=100)
        self._addresses: dict[str, _Bucket] = {}

    def allow(self, address: str, now: float) -> bool:
        """Tell whether another unknown token from an address may ask."""
        own = self._addresses.get(address)
        return self._all.level(now) >= 1 and (own is None or own.level(now) >= 1)

    def spend(self, address: str, now: float) -> None:
        """Count a token that turned out to be unknown."""
        self._all.take(now)
        if address:
            own = self._addresses.get(address)
            if own is None:
                if len(self._addresses) >= MAX_ADDRESSES:
                    del self._addresses[next(iter(self._addresses))]
                own = self._addresses[address] = _Bucket(burst=40, per_second=10)
            own.take(now)


class _Bucket:
    def __init__(self, *, burst: float, per_second: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._level = burst
        self._at = -math.inf

    def level(self, now: float) -> float:
        """Return how many are left."""
        if now - self._at >= self._burst / self._per_second:
            return self._burst
        return min(self._burst, self._level + (now - self._at) * self._per_second)

    def take(self, now: float) -> None:
        """Take one."""
        self._level = self.level(now) - 1
        self._at = now


def _malformed(token: str) -> KeyRefused:
    if not token:
        return KeyRefused("give a key: Authorization: Bearer tbk_…", code="missing_key")
    return KeyRefused("this is no key: it is cut off or mistyped", code="invalid_key")


def _refusal(code: str) -> KeyRefused:
    return KeyRefused(_REASONS[code], code=code)


def _check_protocol(keyring: CachedKeyring) -> Keyring:
    return keyring
