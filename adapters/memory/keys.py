"""Keys in memory: streams of events, and keyrings that are told of changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import cast

from ledger.application.keyring import CachedKeyring, KeyFound, KeySource
from ledger.application.keys import STREAM_PREFIX, ApiKey, KeyChanged, KeyStore, fold
from ledger.domain.periods import from_us


class MemoryKeys:
    """Stores keys, and looks them up; thread-safe.

    Args:
        clock: microseconds since the epoch.

    Attributes:
        look_ups: how often a keyring asked.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._streams: dict[str, list[ApiKey.Event]] = {}
        self._keyrings: list[CachedKeyring] = []
        self.look_ups = 0

    def watch(self, keyring: CachedKeyring) -> None:
        """Tell a keyring of every change from now on."""
        self._keyrings.append(keyring)

    def events(self, id: str) -> Iterable[ApiKey.Event]:
        """Return a key's events in order."""
        with self._lock:
            return list(self._streams.get(STREAM_PREFIX + id, ()))

    def all_events(self) -> Iterable[ApiKey.Event]:
        """Return the events of all keys, each key's in order."""
        with self._lock:
            return [event for _, events in sorted(self._streams.items()) for event in events]

    def save(self, changed: Sequence[ApiKey], *, only_first: bool = False) -> None:
        """Append the pending events; see `KeyStore`."""
        events = [cast("ApiKey.Event", one) for key in changed for one in key.collect_events()]
        with self._lock:
            if only_first and self._streams:
                raise KeyChanged("there is a key already")
            for event in events:
                stream = self._streams.get(event.originator_id, [])
                place = event.originator_version
                if place <= len(stream):
                    raise KeyChanged(f"event {place} of {event.originator_id} is there already")
            for event in events:
                self._streams.setdefault(event.originator_id, []).append(event)
        for keyring in self._keyrings:
            for key in changed:
                keyring.forget(key.key.id)

    def now(self) -> datetime:
        """Return the time."""
        return from_us(self._clock())

    def look_up(self, id: str) -> KeyFound:
        """Return a key and the time."""
        self.look_ups += 1
        key = fold(self.events(id))
        return KeyFound(None if key is None else key.key, self._clock())


def _check_protocols(keys: MemoryKeys) -> tuple[KeyStore, KeySource]:
    return keys, keys
