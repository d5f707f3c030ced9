"""Budgets: set, close, reopen, end and confirm them, and see where they stand.

    budgets.set({"cap": "100", "window": "day", "scope": "user=u1"}, tenant="acme", name="u1")

A new budget's windows start from the usage that the ledger has: it is summed here, from the log
and outside the writer lock; what is recorded meanwhile is added when the command is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

import msgspec

from ledger.application import asks
from ledger.application.engine import Ledger
from ledger.application.ports import AuditView, TenantRow
from ledger.application.protection_reads import BudgetStanding, ProtectionReads, StepRow
from ledger.application.reads import Reads
from ledger.domain.budget_opening import Opening, opening_of
from ledger.domain.budgets import Budget, BudgetTerms, terms_body
from ledger.domain.commands import Command, Outcome
from ledger.domain.entries import Commit, decode_commit
from ledger.domain.errors import InvalidInput, Refused
from ledger.domain.periods import to_us
from ledger.domain.protection_commands import SetBudget, WaiveCap

OpenAudit = Callable[[], AbstractContextManager[AuditView]]
"""Opens a consistent snapshot of the log."""
_ENDED = "ended"


class Budgets:
    """Sets budgets and says where they stand.

    Args:
        ledger: runs the commands.
        reads: knows the tenants and the database's time.
        protection: knows the budgets.
        audit: opens a snapshot of the log.
    """

    def __init__(
        self, ledger: Ledger, reads: Reads, protection: ProtectionReads, audit: OpenAudit
    ) -> None:
        self._ledger = ledger
        self._reads = reads
        self._protection = protection
        self._audit = audit

    # -- terms ------------------------------------------------------------------------

    def set(
        self, document: Mapping[str, object], *, tenant: str, name: str, by: str
    ) -> BudgetStanding:
        """Give a budget terms; the same ones again change nothing.

        Another scope, filter, measure, currency or window ends the budget of that name and makes
        a new one. A closed one stays closed unless the document has a ``state``.

        Args:
            document: see `ledger.application.ask_terms.budget_terms`.
            tenant: whose; its ledger is open.
            name: of the budget.
            by: who sets it.

        Raises:
            InvalidInput: ``invalid_<member>`` or ``unknown_member``.
            NotFound: ``unknown_tenant``.
            Refused: ``too_many_budgets``.
        """
        row = self._reads.tenant(tenant)
        terms = asks.budget_terms(document, name=name, currency=row.currency)
        before = self._standing(tenant, name)
        if before is not None and "state" not in document:
            # Another limit must not open by the way what somebody closed.
            terms = msgspec.structs.replace(terms, state=before.terms.state)
        self.set_terms(terms, tenant=tenant, by=by)
        found = [one for one in self.list(tenant=tenant, ended=True) if one.terms.name == name]
        return max(found, key=lambda one: one.number)

    def set_terms(self, terms: BudgetTerms, *, tenant: str, by: str) -> Outcome:
        """Give a budget terms that were read before.

        Raises:
            InvalidInput: the ledger cannot have them.
            NotFound: ``unknown_tenant``.
            Refused: ``too_many_budgets``.
        """
        row = self._reads.tenant(tenant)
        opening: Opening = ()
        as_of = 0
        if self._starts_anew(terms, tenant):
            opening, as_of = self._opening(row, terms)
        return self._run(SetBudget(tenant, terms, by, opening, as_of))

    def close(self, name: str, *, tenant: str, by: str) -> BudgetStanding:
        """Close a budget: it refuses all that it applies to; again changes nothing.

        Raises:
            NotFound: ``unknown_tenant``, ``unknown_budget``.
            InvalidInput: ``invalid_state``: an alert cannot refuse.
        """
        return self._state(name, tenant, "closed", by)

    def reopen(self, name: str, *, tenant: str, by: str) -> BudgetStanding:
        """Open a closed budget; its counters went on meanwhile.

        Raises:
            NotFound: ``unknown_tenant``, ``unknown_budget``.
        """
        return self._state(name, tenant, "open", by)

    def end(self, name: str, *, tenant: str, by: str) -> BudgetStanding:
        """End a budget: it applies to nothing, and its name is free.

        Raises:
            NotFound: ``unknown_tenant``, ``unknown_budget``.
        """
        return self._state(name, tenant, _ENDED, by)

    def waive(self, *, tenant: str, by: str) -> Outcome:
        """Say in as many words that a ledger has no default cap; again changes nothing.

        Raises:
            NotFound: ``unknown_tenant``.
        """
        self._reads.tenant(tenant)
        return self._run(WaiveCap(tenant, by))

    def confirm(self, document: Mapping[str, object], *, tenant: str, name: str) -> BudgetStanding:
        """Raise the confirm ceiling of a budget's current window, once for each id.

        Args:
            document: see `ledger.application.ask_terms.confirm_budget`.
            tenant: whose.
            name: of the budget.

        Raises:
            InvalidInput: ``invalid_<member>`` or ``unknown_member``.
            NotFound: ``unknown_tenant``, ``unknown_budget``.
            Refused: the id was used for something else.
        """
        terms = self._protection.budget(tenant=tenant, name=name).terms
        self._run(asks.confirm_budget(document, tenant=tenant, budget=name, terms=terms))
        return self._protection.budget(tenant=tenant, name=name)

    # -- where they stand -------------------------------------------------------------

    def list(self, *, tenant: str | None = None, ended: bool = False) -> Sequence[BudgetStanding]:
        """Return budgets with their current window, by tenant and name.

        Raises:
            NotFound: ``unknown_tenant``.
        """
        return self._protection.budgets(tenant=tenant, ended=ended)

    def show(self, name: str, *, tenant: str) -> BudgetStanding:
        """Return a budget that is not ended.

        Raises:
            NotFound: ``unknown_tenant``, ``unknown_budget``.
        """
        return self._protection.budget(tenant=tenant, name=name)

    def steps(
        self,
        *,
        tenant: str,
        name: str | None = None,
        since: int | None = None,
        limit: int = 50,
    ) -> Sequence[StepRow]:
        """Return the steps of budgets that fired, newest first.

        Args:
            tenant: whose.
            name: of a budget; None for all.
            since: microseconds; None from the beginning.
            limit: most rows.

        Raises:
            NotFound: ``unknown_tenant``.
        """
        return self._protection.steps(tenant=tenant, budget=name, since=since, limit=limit)

    # -- how --------------------------------------------------------------------------

    def _state(self, name: str, tenant: str, state: str, by: str) -> BudgetStanding:
        before = self._protection.budget(tenant=tenant, name=name)
        if state == "closed" and not before.terms.cap:
            raise InvalidInput(
                f"budget {name!r} is an alert, which only tells; a cap can be closed",
                code="invalid_state",
                pointer="/state",
            )
        terms = msgspec.structs.replace(before.terms, state=state)
        self._run(SetBudget(tenant, terms, by))
        for one in self._protection.budgets(tenant=tenant, ended=True):
            if one.number == before.number:
                return one
        return before

    def _starts_anew(self, terms: BudgetTerms, tenant: str) -> bool:
        """Tell whether terms are of a new budget; if that changes meanwhile, no harm is done."""
        before = self._standing(tenant, terms.name)
        return before is None or before.terms.identity() != terms.identity()

    def _standing(self, tenant: str, name: str) -> BudgetStanding | None:
        found = self._protection.budgets(tenant=tenant)
        return next((one for one in found if one.terms.name == name), None)

    def _opening(self, row: TenantRow, terms: BudgetTerms) -> tuple[Opening, int]:
        """Return what a new budget has spent so far, and the last commit that this counts."""
        now = to_us(self._reads.now())
        budget = Budget(0, terms_body(terms))
        with self._audit() as view:
            return opening_of(
                budget, timezone=row.timezone, commits=_commits(view, row.tenant_id), now=now
            )

    def _run(self, command: Command) -> Outcome:
        return accepted(self._ledger, command)


def _commits(view: AuditView, tenant_id: int) -> Iterator[Commit]:
    for piece in view.commits(tenant_id=tenant_id):
        for stored in piece:
            yield decode_commit(stored.state)


def accepted(ledger: Ledger, command: Command) -> Outcome:
    """Run a command; return its outcome unless it is a refusal.

    Raises:
        InvalidInput: it was rejected; code, message and pointer are the problem's.
        Refused: its id was used with another payload.
    """
    [outcome] = ledger.run([command])
    problem = outcome.problem
    if problem is None:
        return outcome
    if outcome.status == "rejected":
        raise InvalidInput(problem.message, code=problem.code, pointer=problem.pointer)
    raise Refused(problem.message, code=problem.code)
