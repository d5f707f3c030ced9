"""Commands, and the answers to them.

Commands are imperative; what they cause are entries, in the past tense (`ledger.domain.entries`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from ledger.domain.entries import Entry
from ledger.domain.errors import Problem
from ledger.domain.holds import HoldAnswer
from ledger.domain.ledger import Ref
from ledger.domain.protection_commands import ProtectionCommand
from ledger.domain.usage import AdjustUsage, RecordUsage, VoidUsage


class RerateUsage(msgspec.Struct, frozen=True):
    """Rate one event again with the catalog as it is now.

    Attributes:
        tenant: whose ledger.
        source: the event's source.
        id: the event's id.
        reason: ``price_approved`` or ``price_changed``.
    """

    tenant: str
    source: str
    id: str
    reason: str


class OpenLedger(msgspec.Struct, frozen=True):
    """Open a tenant's ledger; its settings cannot change afterwards.

    Attributes:
        tenant: its name.
        currency: of every charge, ISO 4217.
        timezone: of its days and months, IANA name.
        book: sell price book.
    """

    tenant: str
    currency: str
    timezone: str
    book: str


Command = RecordUsage | VoidUsage | AdjustUsage | RerateUsage | OpenLedger | ProtectionCommand


def tenant_of(command: Command) -> str:
    """Return whose ledger a command is about."""
    return command.event.tenant if isinstance(command, RecordUsage) else command.tenant


class Outcome(msgspec.Struct, gc=False, frozen=True, omit_defaults=True):
    """The answer to one command.

    Attributes:
        status: ``accepted``, ``duplicate``, ``conflict``, ``rejected`` or ``unchanged``; of a
            command about a hold a code of `ledger.domain.hold_codes.CODES`.
        version: commit of the entry that answers for the key; 0 where there is none.
        index: its place there.
        flags: ``unpriced``, ``time_defaulted``, ``unmatched``, ``superseded_by_void``.
        problem: why it was rejected or conflicts.
        detail: of a command about a hold: the decision, or what was posted.
    """

    status: str
    version: int = 0
    index: int = 0
    flags: tuple[str, ...] = ()
    problem: Problem | None = None
    detail: HoldAnswer | None = None


class KeyRow(msgspec.Struct, gc=False, frozen=True):
    """What is known of an idempotency key: where its entry is, and the payload's digest."""

    version: int
    index: int
    fingerprint: bytes


class Decision(msgspec.Struct, gc=False, frozen=True):
    """Entries to append and the answer.

    Attributes:
        entries: to append in order; empty where nothing changes.
        outcome: the answer; for new keys ``version`` and ``index`` are those of entry ``at``.
        key: digest of the key that the entry ``at`` takes, b"" for none.
        fingerprint: digest of the payload that took it.
        at: place in ``entries`` of the entry that holds the key.
    """

    entries: tuple[Entry, ...]
    outcome: Outcome
    key: bytes = b""
    fingerprint: bytes = b""
    at: int = 0


class Known(Protocol):
    """What the log and the state rows say beyond a `LedgerState`, loaded before deciding."""

    @property
    def keys(self) -> Mapping[bytes, KeyRow]:
        """Keys taken, by digest."""
        ...

    def entry(self, ref: Ref) -> Entry:
        """Return the entry at a place of this ledger."""
        ...

    def since(self, version: int) -> list[Entry]:
        """Return the entries after a commit, up to those of the commit that grows, in order."""
        ...
