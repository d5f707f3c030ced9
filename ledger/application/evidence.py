"""Evidence: the entries behind an invoice's line, read from the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from hashlib import sha256

import msgspec

from ledger.application.billing_ports import BillingStore
from ledger.application.plans import Plans
from ledger.application.ports import AuditView, StoredCommit
from ledger.domain.billing_drafts import Place
from ledger.domain.billing_evidence import EvidenceFilter
from ledger.domain.entries import Entry, ShapeDefined, commit_digest, decode_commit, stream_of
from ledger.domain.errors import NotFound
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


class InvoiceEvidence:
    """Finds the entries behind lines; reads a tenant's whole log up to the invoice.

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
        """Return exactly the entries behind a line.

        Raises:
            NotFound: ``unknown_tenant``, ``unknown_invoice``, ``unknown_line``.
        """
        place = self._store.place(tenant)
        row = self._store.invoice(place.tenant_id, id)
        if row is None:
            raise NotFound(f"{tenant} has no invoice {id[:64]!r}", code="unknown_invoice")
        invoice = from_document(row.document)
        found = [one for one in invoice.lines if one.number == line]
        if not found:
            raise NotFound(
                f"{id} has no line {line}; it has 1 to {len(invoice.lines)}", code="unknown_line"
            )
        evidence = found[0].evidence
        if evidence is None:
            return EvidenceReport(line, (), {}, sha256().hexdigest(), True)
        query = evidence.query
        plan = None
        if query.plan:
            plan = self._plans.plan(query.plan, version=query.plan_version).plan
        takes = EvidenceFilter(query, plan).takes
        entries = []
        digest = sha256()
        chain = b""
        shapes: dict[int, CompiledShape] = {}
        for one in self._commits(place, query.through_commit):
            commit = decode_commit(one.state)
            for entry in commit.entries:
                if isinstance(entry, ShapeDefined):
                    shapes[entry.number] = shape_from_body(entry.body)
            if one.version == query.through_commit:
                chain = commit_digest(stream_of(place.tenant_id), one.version, one.state)
            if one.version <= query.after_commit:
                continue
            for index, entry in enumerate(commit.entries):
                if takes(entry, shapes):
                    entries.append(EvidenceEntry(one.version, index, commit.recorded_at, entry))
                    body = sha256(_encode(entry)).hexdigest()
                    digest.update(f"{one.version}.{index} {body}\n".encode())
        holds = chain.hex() == evidence.chain
        return EvidenceReport(line, entries, shapes, digest.hexdigest(), holds)

    def _commits(self, place: Place, through: int) -> Iterator[StoredCommit]:
        with self._audit() as view:
            for piece in view.commits(tenant_id=place.tenant_id):
                for one in piece:
                    if one.version > through:
                        return
                    yield one
