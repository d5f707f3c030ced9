"""Evidence: the entries behind an invoice's line, read from the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from hashlib import sha256
from typing import NamedTuple

import msgspec

from ledger.application.billing_ports import BillingStore
from ledger.application.plans import Plans
from ledger.application.ports import AuditView, StoredCommit
from ledger.domain.billing_drafts import Place
from ledger.domain.billing_evidence import EvidenceFilter
from ledger.domain.entries import (
    Commit,
    Entry,
    ShapeDefined,
    commit_digest,
    decode_commit,
    stream_of,
)
from ledger.domain.errors import NotFound
from ledger.domain.invoice_parts import Evidence, EvidenceQuery
from ledger.domain.invoices import from_document
from ledger.domain.shapes import CompiledShape, shape_from_body

_encode = msgspec.msgpack.Encoder().encode


class EvidenceEntry(msgspec.Struct, frozen=True):
    """An entry behind a line, at its place in the ledger."""

    commit: int
    index: int
    recorded_at: int
    entry: Entry


class EvidenceReport(msgspec.Struct, frozen=True):
    """The entries behind a line.

    Attributes:
        line: number of the line.
        entries: in order.
        shapes: of the ledger, by number.
        digest: SHA-256, hexadecimal, of the lines ``<commit>.<index> <SHA-256 of the entry>``.
        chain_holds: whether the ledger's commit still has the digest that the invoice states.
    """

    line: int
    entries: Sequence[EvidenceEntry]
    shapes: Mapping[int, CompiledShape]
    digest: str
    chain_holds: bool


class EvidencePlace(NamedTuple):
    """Where the next page of evidence begins, with what is true of all pages.

    Attributes:
        commit: of the last entry shown.
        entry: its index there.
        digest: of all entries behind the line.
        chain_holds: as in the report.
    """

    commit: int
    entry: int
    digest: str
    chain_holds: bool


class InvoiceEvidence:
    """Finds the entries behind lines.

    Args:
        store: where invoices are.
        plans: whose charges evidence names.
        audit: opens the log.
    """

    def __init__(
        self,
        store: BillingStore,
        plans: Plans,
        audit: Callable[[], AbstractContextManager[AuditView]],
    ) -> None:
        self._store = store
        self._plans = plans
        self._audit = audit

    def for_tenant(self, tenant: str) -> InvoiceEvidence:
        """Return the same about one tenant's invoices alone; a foreign name is unknown."""
        return InvoiceEvidence(self._store.for_tenant(tenant), self._plans, self._audit)

    def entries(self, tenant: str, id: str, *, line: int) -> EvidenceReport:
        """Return exactly the entries behind a line; reads the tenant's log up to the invoice.

        Raises:
            NotFound: ``unknown_tenant``, ``unknown_invoice``, ``unknown_line``.
        """
        return self.page(tenant, id, line=line)[0]

    def page(
        self,
        tenant: str,
        id: str,
        *,
        line: int,
        limit: int | None = None,
        after: EvidencePlace | None = None,
    ) -> tuple[EvidenceReport, EvidencePlace | None]:
        """Return some of the entries behind a line, and where the next ones begin.

        The first page reads the tenant's log up to the invoice, for the digest of all; those after
        it read what they show and what lies between.

        Args:
            tenant: whose.
            id: of the invoice.
            line: its number.
            limit: most entries; None for all.
            after: as the page before gave it; None for the first.

        Raises:
            NotFound: ``unknown_tenant``, ``unknown_invoice``, ``unknown_line``.
        """
        place = self._store.place(tenant)
        evidence = self._evidence(place, id, line)
        if evidence is None:
            return EvidenceReport(line, (), {}, sha256().hexdigest(), True), None
        query = evidence.query
        plan = None
        if query.plan:
            plan = self._plans.plan(query.plan, version=query.plan_version).plan
        with self._audit() as view:
            found = _Found(place, query, EvidenceFilter(query, plan), limit)
            if after is None:
                found.read(view)
                digest, holds = found.digest(), found.chain.hex() == evidence.chain
            else:
                found.read_on(view, after)
                digest, holds = after.digest, after.chain_holds
        shown = found.entries if limit is None else found.entries[:limit]
        report = EvidenceReport(line, shown, found.shapes, digest, holds)
        if len(shown) == len(found.entries):
            return report, None
        return report, EvidencePlace(shown[-1].commit, shown[-1].index, digest, holds)

    def _evidence(self, place: Place, id: str, line: int) -> Evidence | None:
        row = self._store.invoice(place.tenant_id, id)
        if row is None:
            raise NotFound(f"{place.tenant} has no invoice {id[:64]!r}", code="unknown_invoice")
        invoice = from_document(row.document)
        found = [one for one in invoice.lines if one.number == line]
        if not found:
            raise NotFound(
                f"{id} has no line {line}; it has 1 to {len(invoice.lines)}", code="unknown_line"
            )
        return found[0].evidence


class _Found:
    """What is found of a page on a way through the log; one entry more tells that others follow."""

    def __init__(
        self, place: Place, query: EvidenceQuery, wanted: EvidenceFilter, limit: int | None
    ) -> None:
        self.entries: list[EvidenceEntry] = []
        self.shapes: dict[int, CompiledShape] = {}
        self.chain = b""
        self._place = place
        self._query = query
        self._takes = wanted.takes
        self._limit = limit
        self._digest = sha256()

    def digest(self) -> str:
        """Return the digest of all entries that were met."""
        return self._digest.hexdigest()

    def read(self, view: AuditView) -> None:
        """Read all, from the ledger's first commit on: shapes too are those of the log."""
        query, ledger = self._query, self._place.tenant_id
        for one in self._commits(view, 0):
            commit = decode_commit(one.state)
            for entry in commit.entries:
                if isinstance(entry, ShapeDefined):
                    self.shapes[entry.number] = shape_from_body(entry.body)
            if one.version == query.through_commit:
                self.chain = commit_digest(stream_of(ledger), one.version, one.state)
            if one.version > query.after_commit:
                for found in self._behind(one, commit):
                    body = sha256(_encode(found.entry)).hexdigest()
                    self._digest.update(f"{found.commit}.{found.index} {body}\n".encode())
                    if not self._is_full():
                        self.entries.append(found)

    def read_on(self, view: AuditView, after: EvidencePlace) -> None:
        """Read what comes after a page, until this one is full."""
        bodies = view.shapes(self._place.tenant_id)
        self.shapes = {number: shape_from_body(body) for number, body in bodies.items()}
        for one in self._commits(view, max(after.commit - 1, self._query.after_commit)):
            for found in self._behind(one, decode_commit(one.state)):
                if (found.commit, found.index) > after[:2]:
                    self.entries.append(found)
                    if self._is_full():
                        return

    def _is_full(self) -> bool:
        return self._limit is not None and len(self.entries) > self._limit

    def _behind(self, one: StoredCommit, commit: Commit) -> Iterator[EvidenceEntry]:
        for index, entry in enumerate(commit.entries):
            if self._takes(entry, self.shapes):
                yield EvidenceEntry(one.version, index, commit.recorded_at, entry)

    def _commits(self, view: AuditView, after: int) -> Iterator[StoredCommit]:
        for piece in view.commits(tenant_id=self._place.tenant_id, after=after):
            for one in piece:
                if one.version > self._query.through_commit:
                    return
                yield one
