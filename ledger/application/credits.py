"""Prepaid credit: grant it, refund it, pass it on, and see what is left.

    credits.grant({"id": "g-1", "amount": "50"}, tenant="acme")
    credits.transfer({"id": "t-1", "grant": "g-1", "amount": "20", "to": "beta"}, tenant="acme")

A transfer is two commits in two ledgers: credit leaves the first before it comes to the second,
so it is never in both. Where the second did not happen, the same transfer again completes it.
"""

from __future__ import annotations

from collections.abc import Mapping

from ledger.application import asks
from ledger.application.budgets import accepted
from ledger.application.engine import Ledger
from ledger.application.protection_reads import CreditStanding, ProtectionReads
from ledger.application.reads import Reads
from ledger.domain.commands import Outcome
from ledger.domain.errors import InvalidInput, InvariantViolation, Refused
from ledger.domain.protection_commands import GrantCredit, SetCreditPolicy, WithdrawCredit
from ledger.domain.protection_entries import CreditWithdrawn

TRANSFER = "transfer:"
"""What the id of a grant that came by transfer begins with; giver and id of the transfer follow."""


class Credits:
    """Gives, takes and passes on prepaid credit.

    Args:
        ledger: runs the commands.
        reads: knows the tenants and the entries.
        protection: knows the grants.
    """

    def __init__(self, ledger: Ledger, reads: Reads, protection: ProtectionReads) -> None:
        self._ledger = ledger
        self._reads = reads
        self._protection = protection

    def grant(self, document: Mapping[str, object], *, tenant: str) -> Outcome:
        """Give credit; the same grant again is a ``duplicate``.

        Args:
            document: see `ledger.application.ask_terms.grant_credit`.
            tenant: whose; its ledger is open.

        Raises:
            InvalidInput: ``invalid_<member>`` or ``unknown_member``.
            NotFound: ``unknown_tenant``.
            Refused: ``conflict``: the id was used for another grant.
        """
        command = asks.grant_credit(document, tenant=tenant)
        if command.id.startswith(TRANSFER):
            raise InvalidInput(
                f"ids that begin with {TRANSFER!r} are those of transfers; give another",
                code="invalid_id",
                pointer="/id",
            )
        self._reads.tenant(tenant)
        return accepted(self._ledger, command)

    def refund(self, document: Mapping[str, object], *, tenant: str) -> CreditWithdrawn:
        """Take free paid credit out of a grant; the same refund again answers the first.

        Args:
            document: see `ledger.application.ask_terms.withdraw_credit`, without ``to``.
            tenant: whose.

        Raises:
            InvalidInput: ``invalid_<member>``, ``unknown_member``, ``unknown_grant``,
                ``not_refundable``, ``exceeds_credit``.
            NotFound: ``unknown_tenant``.
            Refused: ``conflict``: the id was used for something else.
        """
        command = asks.withdraw_credit(document, tenant=tenant)
        if command.to:
            raise InvalidInput(
                "a refund goes to nobody in this ledger; a transfer does",
                code="invalid_to",
                pointer="/to",
            )
        self._reads.tenant(tenant)
        return self._withdraw(command)

    def transfer(self, document: Mapping[str, object], *, tenant: str) -> CreditWithdrawn:
        """Pass free credit of a grant on to another tenant; again completes, or changes nothing.

        The new grant is of the same kind, priority, expiry and filter.

        Args:
            document: see `ledger.application.ask_terms.withdraw_credit`, with ``to``.
            tenant: whose credit it is.

        Raises:
            InvalidInput: as `refund`; ``invalid_currency`` where the two ledgers' differ.
            NotFound: ``unknown_tenant``, of either.
            Refused: ``conflict``: the id was used for something else; ``transfer_incomplete``:
                the other ledger does not take the credit now.
        """
        command = asks.withdraw_credit(document, tenant=tenant)
        if not command.to:
            raise InvalidInput(
                "a transfer names the tenant that gets the credit; a refund names none",
                code="invalid_to",
                pointer="/to",
            )
        giver, taker = self._reads.tenant(tenant), self._reads.tenant(command.to)
        if giver.currency != taker.currency:
            raise InvalidInput(
                f"{tenant!r} is charged in {giver.currency} and {command.to!r} in"
                f" {taker.currency}; credit passes between ledgers of one currency",
                code="invalid_currency",
                pointer="/to",
            )
        withdrawn = self._withdraw(command)
        given = next(
            one for one in self._protection.credit(tenant).grants if one.number == withdrawn.number
        )
        # What the log has, not what was asked now, so that a repetition says the very same.
        grant = GrantCredit(
            tenant=command.to,
            id=transferred_id(tenant, withdrawn.id),
            amount=withdrawn.amount,
            currency=giver.currency,
            kind=given.kind,
            priority=given.priority,
            expires_at=given.expires_at,
            filter=given.filter,
            by=withdrawn.by,
            reason=withdrawn.reason,
            transferred_from=(tenant, withdrawn.id),
        )
        try:
            accepted(self._ledger, grant)
        except (InvalidInput, Refused) as error:
            raise Refused(
                f"the credit has left {tenant!r} and could not come to {command.to!r} yet:"
                f" {error.message}; the same transfer again completes it",
                code="transfer_incomplete",
            ) from error
        return withdrawn

    def policy(self, *, tenant: str, required: bool, by: str) -> Outcome:
        """Say whether a tenant's holds need credit for their whole amount.

        Raises:
            NotFound: ``unknown_tenant``.
        """
        self._reads.tenant(tenant)
        return accepted(self._ledger, SetCreditPolicy(tenant, required, by))

    def list(self, *, tenant: str) -> CreditStanding:
        """Return a tenant's grants and what it owes.

        Raises:
            NotFound: ``unknown_tenant``.
        """
        return self._protection.credit(tenant)

    def _withdraw(self, command: WithdrawCredit) -> CreditWithdrawn:
        outcome = accepted(self._ledger, command)
        located = self._reads.place(
            tenant=command.tenant, version=outcome.version, index=outcome.index
        )
        entry = located.commit.entries[located.index]
        if not isinstance(entry, CreditWithdrawn):
            raise InvariantViolation(
                f"withdrawal {command.id!r} is answered by a {type(entry).__name__}"
            )
        return entry


def transferred_id(tenant: str, transfer: str) -> str:
    """Return the id of the grant that a transfer makes; another giver's makes another."""
    # The first colon after the giver's name ends it, so colons of the name are written otherwise.
    return f"{TRANSFER}{tenant.replace('%', '%25').replace(':', '%3A')}:{transfer}"
