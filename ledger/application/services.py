"""What an interface is given: the use cases, wired by the composition root."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from ledger.application.audit_log import AuditLog
from ledger.application.billing_close import Periods
from ledger.application.budgets import Budgets
from ledger.application.corrections import Corrections
from ledger.application.credits import Credits
from ledger.application.engine import Ledger
from ledger.application.entitlements import TenantEntitlements
from ledger.application.evidence import InvoiceEvidence
from ledger.application.ingest import Ingest
from ledger.application.invoice_forms import InvoicePrinter
from ledger.application.invoicing import Invoicing
from ledger.application.jobs import Jobs
from ledger.application.journals import Journals
from ledger.application.key_uses import KeyUseReads
from ledger.application.keys import Keys
from ledger.application.live import LiveFeed
from ledger.application.plans import Plans
from ledger.application.policies import Policies
from ledger.application.ports import AuditView
from ledger.application.prices import PriceBooks
from ledger.application.protection import Holds
from ledger.application.protection_reads import ProtectionReads
from ledger.application.reads import Reads
from ledger.application.repeats import Repeats
from ledger.application.replay import Difference
from ledger.application.responses import Responses
from ledger.application.runner import Projections
from ledger.application.standings import Standings
from ledger.application.streams import StreamSessions
from ledger.application.subscriptions import Subscriptions
from ledger.application.tenants import Tenants


class Services(Protocol):
    """The use cases; one open database."""

    @property
    def ledger(self) -> Ledger:
        """Records usage."""
        ...

    @property
    def ingest(self) -> Ingest:
        """Records usage for event loops."""
        ...

    @property
    def responses(self) -> Responses:
        """Reads provider responses."""
        ...

    @property
    def reads(self) -> Reads:
        """Answers queries."""
        ...

    @property
    def projections(self) -> Projections:
        """Keeps read models up with the log."""
        ...

    @property
    def tenants(self) -> Tenants:
        """Opens ledgers."""
        ...

    @property
    def prices(self) -> PriceBooks:
        """Keeps the price books."""
        ...

    @property
    def holds(self) -> Holds:
        """Authorizes provider calls and settles them."""
        ...

    @property
    def budgets(self) -> Budgets:
        """Sets budgets."""
        ...

    @property
    def credits(self) -> Credits:
        """Gives, takes and passes on prepaid credit."""
        ...

    @property
    def corrections(self) -> Corrections:
        """Takes usage back, or replaces its quantities."""
        ...

    @property
    def entitlements(self) -> TenantEntitlements:
        """Sets what tenants may use."""
        ...

    @property
    def keys(self) -> Keys:
        """Issues keys and ends them."""
        ...

    @property
    def key_uses(self) -> KeyUseReads:
        """Says which keys are used for what."""
        ...

    @property
    def audit_log(self) -> AuditLog:
        """Keeps who did what."""
        ...

    @property
    def policies(self) -> Policies:
        """Keeps the default cap."""
        ...

    @property
    def plans(self) -> Plans:
        """Keeps plans."""
        ...

    @property
    def subscriptions(self) -> Subscriptions:
        """Keeps who is on which plan, and how invoices are made out."""
        ...

    @property
    def periods(self) -> Periods:
        """Closes and reopens billing periods, and previews invoices."""
        ...

    @property
    def invoicing(self) -> Invoicing:
        """Keeps invoices and credit notes."""
        ...

    @property
    def evidence(self) -> InvoiceEvidence:
        """Finds the entries behind an invoice's line."""
        ...

    @property
    def journals(self) -> Journals:
        """Makes the journal."""
        ...

    @property
    def printer(self) -> InvoicePrinter:
        """Sets invoices as PDF."""
        ...

    @property
    def protection_reads(self) -> ProtectionReads:
        """Answers queries about budgets, holds and credit."""
        ...

    @property
    def standings(self) -> Standings:
        """Answers where tenants stand, many at once."""
        ...

    @property
    def stream_sessions(self) -> StreamSessions:
        """Keeps the sessions of gateways."""
        ...

    @property
    def live_feed(self) -> LiveFeed:
        """Tells news of budgets as they are committed."""
        ...

    @property
    def repeats(self) -> Repeats:
        """Keeps answers to commands without an id of their own."""
        ...

    @property
    def jobs(self) -> Jobs:
        """Runs what is done again and again."""
        ...

    def billing_differences(self, *, tenant: str | None = None) -> Sequence[Difference]:
        """Return where billing's rows are not what its events say, of one tenant or of all."""
        ...

    def audit(self) -> AbstractContextManager[AuditView]:
        """Open a consistent snapshot of log and state rows."""
        ...
