"""Replay: fold the log from its first commit, checking each ledger's chain on the way.

What does not fit is a difference, never an exception: whoever looks for damage must not fall over
it. A ledger whose commit cannot be read or folded is *broken*: its chain is followed further, its
state is worth nothing any more.

Memory grows with tenants, their corrections, sessions and holds, not with usage: a hold that is
over may still be captured late, so its state is kept, about 1.4 kB each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from ledger.application.ports import StoredCommit
from ledger.domain.entries import (
    Commit,
    Entry,
    LedgerOpened,
    commit_digest,
    decode_commit,
    stream_of,
)
from ledger.domain.errors import InvariantViolation, LedgerError
from ledger.domain.ledger import LedgerState, Ref, evolve
from ledger.domain.usage import key_digest

DIFFERENCES_KEPT = 100
"""Differences that are told one by one; beyond, they are only counted."""
DAMAGE = (
    InvariantViolation,
    LedgerError,
    LookupError,
    ArithmeticError,
    TypeError,
    ValueError,
    msgspec.MsgspecError,
)
"""What reading or folding damaged entries may raise."""

EntryCheck = Callable[[LedgerState, Entry, Ref], None]
"""Looks at an entry before it is folded into the state."""


class Difference(msgspec.Struct, frozen=True):
    """One place where the database does not say what the log says.

    Attributes:
        tenant: whose ledger; ``#7`` where only the number is known, "" for none.
        code: stable, one of those in docs/spec/audit.md.
        what: which row, commit or number.
        expected: what follows from the log.
        found: what is there.
    """

    tenant: str
    code: str
    what: str
    expected: str
    found: str


class Differences:
    """Differences in the order in which they were found.

    Args:
        limit: most to keep.

    Attributes:
        kept: the first ones.
        total: how many there were.
    """

    def __init__(self, *, limit: int = DIFFERENCES_KEPT) -> None:
        self.kept: list[Difference] = []
        self.total = 0
        self._limit = limit

    def add(self, tenant: str, code: str, what: str, expected: object, found: object) -> None:
        """Add one; None reads ``none``."""
        self.total += 1
        if len(self.kept) < self._limit:
            said = ["none" if value is None else str(value) for value in (expected, found)]
            self.kept.append(Difference(tenant, code, what, *said))


class Ledger:
    """One tenant's ledger while it is folded.

    Attributes:
        state: as of the last commit folded.
        position: notification id of its last commit.
        broken: a commit could not be read or folded; the state is worth nothing.
        keys: keys that its entries take, as counted by who looks at them.
        absent: of these, without a row.
        conflicts: places of conflicting payloads kept.
    """

    __slots__ = ("absent", "broken", "conflicts", "keys", "position", "state")

    def __init__(self, tenant_id: int) -> None:
        self.state = LedgerState(tenant_id, f"#{tenant_id}")
        self.position = 0
        self.broken = False
        self.keys = 0
        self.absent = 0
        self.conflicts: set[Ref] = set()


class ReplayResult(msgspec.Struct, frozen=True):
    """What a replay found.

    Attributes:
        states: by tenant number; those of broken ledgers are worth nothing.
        commits: commits read.
        entries: entries folded.
        differences: broken chains and commits that do not fold.
    """

    states: dict[int, LedgerState]
    commits: int
    entries: int
    differences: Differences


class Replay:
    """Folds commits as they come.

    Args:
        differences: where to put what does not fit.
        check: looks at each entry before it is folded.

    Attributes:
        ledgers: by tenant number.
        commits: commits read.
        entries: entries folded.
    """

    def __init__(self, *, differences: Differences, check: EntryCheck | None = None) -> None:
        self.ledgers: dict[int, Ledger] = {}
        self.commits = 0
        self.entries = 0
        self._differences = differences
        self._check = check

    def fold(self, stored: StoredCommit) -> Commit | None:
        """Fold one commit; None if its ledger is broken."""
        ledger = self.ledgers.get(stored.tenant_id)
        if ledger is None:
            ledger = self.ledgers[stored.tenant_id] = Ledger(stored.tenant_id)
        self.commits += 1
        state = ledger.state
        body = stored.state
        try:
            commit = decode_commit(body)
        except DAMAGE as error:
            self._break(ledger, "commit_unreadable", f"commit {stored.version}", error)
            commit = None
        version = stored.version
        if (
            version != state.version + 1
            or stored.position <= ledger.position
            or (commit is not None and commit.before != state.digest)
        ):
            self._misplaced(ledger, stored, commit)
        ledger.position = stored.position
        state.version = version
        state.digest = commit_digest(stream_of(stored.tenant_id), version, body)
        if commit is None or ledger.broken:
            return None
        if version == 1 and type(commit.entries[0] if commit.entries else None) is not LedgerOpened:
            self._break(ledger, "commit_unfoldable", "commit 1", "it does not open the ledger")
            return None
        entries = commit.entries
        check = self._check
        index = 0
        try:
            if check is None:
                for entry in entries:
                    evolve(state, entry, (version, index))
                    index += 1
            else:
                for entry in entries:
                    check(state, entry, (version, index))
                    evolve(state, entry, (version, index))
                    index += 1
        except DAMAGE as error:
            self._break(ledger, "commit_unfoldable", f"entry {version}.{index}", error)
            return None
        self.entries += index
        return commit

    def _break(self, ledger: Ledger, code: str, what: str, error: object) -> None:
        if ledger.broken:
            return
        ledger.broken = True
        expected = "entries that follow from those before; nothing after is compared"
        self._differences.add(ledger.state.tenant, code, what, expected, error)

    def _misplaced(self, ledger: Ledger, stored: StoredCommit, commit: Commit | None) -> None:
        state = ledger.state
        tenant = state.tenant
        add = self._differences.add
        if stored.version != state.version + 1:
            what = f"commit after {state.version}" if state.version else "first commit"
            add(tenant, "commit_gap", what, state.version + 1, stored.version)
        if stored.position <= ledger.position:
            what = f"log position of commit {stored.version}"
            add(tenant, "commit_order", what, f"above {ledger.position}", stored.position)
        if commit is not None and commit.before != state.digest:
            what = f"digest of commit {stored.version - 1} in commit {stored.version}"
            expected = state.digest.hex() or "empty"
            add(tenant, "chain_broken", what, expected, commit.before.hex() or "empty")


def forget_settled(state: LedgerState, source: str, id: str) -> None:
    """Forget an event that was unpriced once and no longer is, so that memory does not grow."""
    key = key_digest(source, id)
    if key in state.unpriced and state.unpriced[key] is None:
        del state.unpriced[key]


def replay(commits: Iterable[Sequence[StoredCommit]]) -> ReplayResult:
    """Fold commits, checking their chains; compares them with nothing else.

    Args:
        commits: in log order, or in order of commit numbers by tenant, in pieces.
    """
    differences = Differences()
    fold = Replay(differences=differences)
    for piece in commits:
        for stored in piece:
            fold.fold(stored)
    states = {number: ledger.state for number, ledger in fold.ledgers.items()}
    return ReplayResult(states, fold.commits, fold.entries, differences)
