"""Verify: fold the whole log again and compare it with every state row and rollup.

The audit reads one snapshot, so writers go on meanwhile. What it proves and what it does not is
in docs/spec/audit.md. Damage is reported as data; nothing about it is an exception.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import msgspec

from ledger.application.audit_log import OK, AuditLog
from ledger.application.billing_warnings import BillingWarning
from ledger.application.ports import AskedKeys, AuditView, StoredCommit, TenantRow
from ledger.application.recorded import taken_fingerprint, taken_key
from ledger.application.replay import (
    DAMAGE,
    Difference,
    Differences,
    Ledger,
    Replay,
    forget_settled,
)
from ledger.application.verify_amounts import AmountCheck
from ledger.application.verify_rows import Rollups, compare_ledger
from ledger.domain.entries import (
    Commit,
    ConflictKept,
    CorrectionApplied,
    Entry,
    UsageAdjusted,
    UsageRecorded,
    UsageRerated,
    UsageVoided,
    decode_commit,
)
from ledger.domain.errors import NotFound
from ledger.domain.ledger import LedgerState
from ledger.domain.usage import key_digest

ACT = "ledger.verified"
"""Act of the audit log that keeps what an audit found; its detail is a `Verified`."""
TENANTS_AT_ONCE = 200
"""Tenants whose rows are read together."""
_CORRECTIONS = UsageVoided | UsageAdjusted | UsageRerated | CorrectionApplied


class Progress(msgspec.Struct, frozen=True):
    """How far an audit is.

    Attributes:
        position: notification id of the last commit read.
        head: the log's last one.
        commits: commits read.
        entries: entries folded.
        seconds: since the start.
    """

    position: int
    head: int
    commits: int
    entries: int
    seconds: float


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an audit found.

    Attributes:
        tenants: ledgers compared.
        commits: commits read.
        entries: entries folded.
        seconds: how long it took.
        head: the log's last notification id in the snapshot.
        rollup_position: notification id up to which `usage_daily` counted and was compared.
        billing_position: likewise of `billing_daily`; 0 if nothing of it was compared.
        deep: whether fingerprints and amounts were computed again too.
        differences: the first ones.
        total: how many there were.
        warnings: what is as the log says, and has to be looked at all the same.
    """

    tenants: int
    commits: int
    entries: int
    seconds: float
    head: int
    rollup_position: int
    billing_position: int = 0
    deep: bool
    differences: Sequence[Difference]
    total: int
    warnings: Sequence[BillingWarning] = ()

    @property
    def clean(self) -> bool:
        """Return whether nothing differed."""
        return not self.total

    @property
    def not_compared(self) -> Sequence[str]:
        """Return the rollups that have counted nothing of a log that is not empty."""
        positions = (
            ("usage_daily", self.rollup_position),
            ("billing_daily", self.billing_position),
        )
        return [name for name, position in positions if self.head and not position]

    @property
    def entries_per_s(self) -> int:
        """Return how many entries a second were folded, everything compared."""
        return round(self.entries / self.seconds) if self.seconds else 0


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of an audit.

    Attributes:
        differences: how many there were.
        commits: commits read.
        head: the log's last notification id then.
        deep: whether fingerprints and amounts were computed again too.
        warnings: how many there were.
    """

    differences: int
    commits: int
    head: int
    deep: bool
    warnings: int = 0


def keep(
    log: AuditLog, report: VerifyReport, *, tenant: str | None, who: str, via: str = "cli"
) -> None:
    """Write down what an audit found.

    Args:
        log: the audit log.
        report: of the audit.
        tenant: whose ledger it was of; None for all.
        who: had it made.
        via: one of `ledger.application.audit_log.VIAS`.

    Raises:
        Unavailable: it could not be written, or it is unknown whether it was.
    """
    kept = Verified(
        differences=report.total,
        commits=report.commits,
        head=report.head,
        deep=report.deep,
        warnings=len(report.warnings),
    )
    log.write(
        act=ACT,
        who=who,
        via=via,
        tenant=tenant,
        outcome=OK if report.clean else "integrity",
        detail=msgspec.structs.asdict(kept),
    )


def verify(
    *,
    view: AuditView,
    tenant: str | None = None,
    deep: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> VerifyReport:
    """Fold the log again and compare it with the rows.

    Args:
        view: one snapshot of the database.
        tenant: only this one's ledger; None for all.
        deep: compute fingerprints and amounts again too, entry by entry.
        progress: told after every piece of the log.

    Raises:
        NotFound: ``unknown_tenant``.
    """
    return _Audit(view, _number(view, tenant), deep, progress).run()


def _number(view: AuditView, tenant: str | None) -> int | None:
    if tenant is None:
        return None
    for row in view.tenants():
        if row.tenant == tenant:
            return row.tenant_id
    raise NotFound(f"there is no tenant {tenant!r}", code="unknown_tenant")


class _Audit:
    def __init__(
        self,
        view: AuditView,
        only: int | None,
        deep: bool,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._started_s = time.perf_counter()
        self._view = view
        self._only = only
        self._deep = deep
        self._progress = progress
        self._differences = Differences()
        check = AmountCheck(self._differences) if deep else None
        self._replay = Replay(differences=self._differences, check=check)
        self._rollups = Rollups(
            differences=self._differences,
            position=view.rollup_position(),
            billing_position=view.billing_position(),
        )

    def run(self) -> VerifyReport:
        """Read the log, then the rows."""
        view = self._view
        head = view.head()
        for piece in view.commits(tenant_id=self._only):
            self._fold(piece)
            if self._progress is not None:
                replay = self._replay
                position = piece[-1].position
                self._progress(
                    Progress(position, head, replay.commits, replay.entries, self._elapsed_s())
                )
        for stranger in view.strangers():
            self._differences.add("", "log_stranger", stranger, "a commit in a tenant's ledger", "")
        ledgers = self._replay.ledgers
        self._rows()
        rollups = self._rollups
        if rollups.position != rollups.billing_position:
            # Where they count the same, the audit of billing compares the one with the other.
            rollups.compare_billing(view.billing_rollups(tenant_id=self._only), ledgers)
        rollups.compare(view.rollups(tenant_id=self._only), ledgers)
        return VerifyReport(
            tenants=len(ledgers),
            commits=self._replay.commits,
            entries=self._replay.entries,
            seconds=round(self._elapsed_s(), 3),
            head=head,
            rollup_position=rollups.position,
            billing_position=rollups.billing_position,
            deep=self._deep,
            differences=self._differences.kept,
            total=self._differences.total,
        )

    def _elapsed_s(self) -> float:
        return time.perf_counter() - self._started_s

    # -- the log ----------------------------------------------------------------------

    def _fold(self, piece: Sequence[StoredCommit]) -> None:
        fold = self._replay.fold
        ledgers = self._replay.ledgers
        asked = AskedKeys()
        both, upto = self._rollups.both, self._rollups.upto
        rolled_up: list[tuple[int, Commit]] = []
        tail: list[tuple[int, Commit]] = []
        for stored in piece:
            commit = fold(stored)
            if commit is None:
                continue
            ledger = ledgers[stored.tenant_id]
            try:
                self._ask(asked, ledger, stored.version, commit)
            except DAMAGE as error:
                what = f"commit {stored.version}"
                expected = "entries whose keys can be found again"
                self._differences.add(
                    ledger.state.tenant, "commit_unreadable", what, expected, error
                )
                ledger.broken = True
            if both < stored.position <= upto:
                tail.append((stored.tenant_id, commit))
            elif stored.position <= both:
                rolled_up.append((stored.tenant_id, commit))
        if asked.keys:
            self._compare_keys(asked)
        if rolled_up:
            self._rollups.fold(rolled_up, ledgers)
        if tail:
            self._rollups.fold(tail, ledgers, tail=True)

    def _ask(self, asked: AskedKeys, ledger: Ledger, version: int, commit: Commit) -> None:
        """Add the keys that a commit's entries take."""
        state = ledger.state
        shapes = state.shapes
        digests, indexes = [], []
        for index, entry in enumerate(commit.entries):
            if type(entry) is UsageRecorded:
                digests.append(key_digest(shapes[entry.shape].shape.source, entry.id))
                indexes.append(index)
            else:
                digest = self._rare(ledger, version, index, entry)
                if digest is not None:
                    digests.append(digest)
                    indexes.append(index)
        if not digests:
            return
        if self._deep:
            entries = commit.entries
            asked.fingerprints.extend([_fingerprint(state, entries[at]) for at in indexes])
        asked.keys.extend(digests)
        asked.indexes.extend(indexes)
        asked.versions.extend([version] * len(digests))
        asked.tenants.extend([state.tenant_id] * len(digests))
        ledger.keys += len(digests)

    @staticmethod
    def _rare(ledger: Ledger, version: int, index: int, entry: Entry) -> bytes | None:
        if type(entry) is ConflictKept:
            ledger.conflicts.add((version, index))
        elif isinstance(entry, _CORRECTIONS):
            forget_settled(ledger.state, entry.target_source, entry.target_id)
        return taken_key(entry)

    def _compare_keys(self, asked: AskedKeys) -> None:
        ledgers = self._replay.ledgers
        for place, row in self._view.wrong_keys(asked):
            ledger = ledgers[asked.tenants[place]]
            version, index = asked.versions[place], asked.indexes[place]
            tenant = ledger.state.tenant
            what = f"usage_keys {asked.keys[place].hex()}"
            if row is None:
                ledger.absent += 1
                self._differences.add(tenant, "key_missing", what, f"{version}.{index}", None)
            elif (row.version, row.index) != (version, index):
                found = f"{row.version}.{row.index}"
                self._differences.add(tenant, "key_wrong", what, f"{version}.{index}", found)
            else:
                self._differences.add(
                    tenant,
                    "fingerprint",
                    f"{what} (entry {version}.{index})",
                    asked.fingerprints[place].hex(),
                    row.fingerprint.hex(),
                )

    # -- the rows ---------------------------------------------------------------------

    def _rows(self) -> None:
        view = self._view
        ledgers = self._replay.ledgers
        tenants = {row.tenant_id: row for row in view.tenants()}
        numbers = {self._only} if self._only is not None else view.tenant_numbers()
        everyone = sorted({number for number in numbers if number is not None} | ledgers.keys())
        for start in range(0, len(everyone), TENANTS_AT_ONCE):
            some = everyone[start : start + TENANTS_AT_ONCE]
            rows = view.rows(some)
            for number in some:
                ledger = ledgers.get(number)
                row = tenants.get(number)
                if ledger is None:
                    self._without_log(number, row)
                    continue
                compare_ledger(
                    differences=self._differences, ledger=ledger, row=row, rows=rows[number]
                )
                if not ledger.broken and rows[number].keys != ledger.keys - ledger.absent:
                    self._stray_keys(ledger)

    def _without_log(self, number: int, row: TenantRow | None) -> None:
        tenant = f"#{number}" if row is None else row.tenant
        found = "rows of a tenant" if row is None else f"tenants row, version {row.version}"
        self._differences.add(tenant, "ledger_missing", "the tenant's commits", "no rows", found)

    def _stray_keys(self, ledger: Ledger) -> None:
        """Name the keys that no entry takes: read the tenant's keys beside its commits."""
        state = ledger.state
        for piece in self._view.key_rows(state.tenant_id):
            bodies = self._view.commits_at(state.tenant_id, {row.version for _, row in piece})
            taken: set[bytes] = set()
            for body in bodies.values():
                taken.update(_keys_of(state, decode_commit(body)))
            for digest, row in piece:
                if digest not in taken:
                    what = f"usage_keys {digest.hex()}"
                    found = f"{row.version}.{row.index}"
                    self._differences.add(state.tenant, "key_stray", what, None, found)


def _fingerprint(state: LedgerState, entry: Entry) -> bytes:
    shape = state.shapes[entry.shape] if type(entry) is UsageRecorded else None
    return taken_fingerprint(tenant=state.tenant, shape=shape, entry=entry)


def _keys_of(state: LedgerState, commit: Commit) -> Iterable[bytes]:
    for entry in commit.entries:
        if type(entry) is UsageRecorded:
            yield key_digest(state.shapes[entry.shape].shape.source, entry.id)
        elif (digest := taken_key(entry)) is not None:
            yield digest
