"""Standings: where tenants stand now, for any number of callers of an event loop at once.

    await standings.document("acme")               # JSON, never older than the call
    standings.at("acme", version=12)               # as it was, folded from the log

One set-wise statement a batch tells how far the asked ledgers are. What was answered for a ledger
that has not moved since is answered again: the digest of its last commit stands for all its rows,
and nothing of a standing changes before `Standing.until` without a commit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import msgspec

from ledger.application.batched import BatchedReads
from ledger.application.documents.encoding import to_json
from ledger.application.documents.standing import standing_document
from ledger.application.ports import AuditView
from ledger.application.reads import Reads
from ledger.application.standing import Head, Standing, StandingReads, standing_at
from ledger.domain.errors import InvalidInput, NotFound, Unavailable
from ledger.domain.periods import to_us

KEPT = 4096
"""Most answers that are kept."""
FOLDS = 2
"""Most logs that are folded at once in one process."""


class _Kept(msgspec.Struct, frozen=True):
    digest: bytes
    until: int
    body: bytes


class Standings:
    """Answers where tenants stand; thread-safe.

    Args:
        reads: set-wise; used on one thread of its own and closed with this.
        tenants: knows the tenants and the time.
        audit: opens a snapshot of the log.
        kept: most answers that are kept.
    """

    def __init__(
        self,
        reads: StandingReads,
        *,
        tenants: Reads,
        audit: Callable[[], AbstractContextManager[AuditView]],
        kept: int = KEPT,
    ) -> None:
        self._reads = reads
        self._tenants = tenants
        self._audit = audit
        self._most = kept
        self._kept: dict[str, _Kept] = {}
        self._batched = BatchedReads(self._bodies, name="tallybook-standings")
        self._folds = threading.BoundedSemaphore(FOLDS)

    async def document(self, tenant: str) -> bytes:
        """Return where a tenant stands as JSON, as of this call or later.

        Raises:
            NotFound: ``unknown_tenant``.
            Unavailable: the database cannot serve this now.
        """
        body = await self._batched.ask(tenant)
        if body is None:
            raise NotFound(f"there is no tenant {tenant!r} in this ledger", code="unknown_tenant")
        return body

    def at(self, tenant: str, *, version: int | None = None, at: int | None = None) -> Standing:
        """Return where a tenant stood; folds its log from the start, see `standing_at`.

        Args:
            tenant: whose.
            version: of a commit; None where ``at`` says it.
            at: a moment, microseconds since the epoch, not to come.

        Raises:
            NotFound: ``unknown_tenant``.
            InvalidInput: ``invalid_as_of``.
            Unavailable: ``server_busy`` while others are folded.
        """
        row = self._tenants.tenant(tenant)
        if at is not None and at > to_us(self._tenants.now()):
            raise InvalidInput("as_of is to come", code="invalid_as_of", pointer="/as_of")
        if not self._folds.acquire(blocking=False):
            raise Unavailable(
                f"{FOLDS} ledgers are being folded from their logs; try again", code="server_busy"
            )
        try:
            with self._audit() as view:
                return standing_at(view, row, version=version, at=at)
        finally:
            self._folds.release()

    def close(self) -> None:
        """Answer what is on its way, then close the connection."""
        self._batched.close()
        self._reads.close()

    # -- on the reading thread --------------------------------------------------------

    def _bodies(self, tenants: Sequence[str]) -> Mapping[str, bytes]:
        heads = self._reads.heads(tenants)
        bodies: dict[str, bytes] = {}
        moved: list[str] = []
        for name, head in heads.items():
            body = self._still(name, head)
            if body is None:
                moved.append(name)
            else:
                bodies[name] = body
        if moved:
            for name, standing in self._reads.standings(moved).items():
                body = bodies[name] = to_json(standing_document(standing))
                self._keep(name, _Kept(standing.tenant.digest, standing.until, body))
        return bodies

    def _still(self, name: str, head: Head) -> bytes | None:
        kept = self._kept.get(name)
        if kept is None or kept.digest != head.digest or head.now >= kept.until:
            return None
        return kept.body

    def _keep(self, name: str, kept: _Kept) -> None:
        self._kept.pop(name, None)
        while len(self._kept) >= self._most:
            # The one that was read first: ledgers that move are read again and again.
            del self._kept[next(iter(self._kept))]
        self._kept[name] = kept
