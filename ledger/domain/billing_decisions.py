"""What may happen to a billing account: pure decisions from an account to events.

Each function returns the events of one command, none where it changes nothing, or refuses.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from datetime import date

import msgspec

from ledger.domain.billing_account import (
    Asked,
    BillingAccount,
    BillingDetails,
    Close,
    CreditNoteIssued,
    DetailsSet,
    Event,
    InvoiceFinalized,
    InvoiceHead,
    InvoiceMoved,
    PeriodClosed,
    PeriodClosing,
    PeriodReopened,
    ReopeningAsked,
    Subscribed,
    SubscriptionEnded,
)
from ledger.domain.billing_calendar import Holding, Span, months
from ledger.domain.billing_periods import BillingCycle
from ledger.domain.billing_voids import waits
from ledger.domain.charge_models import ChargeModel
from ledger.domain.countries import check_country
from ledger.domain.errors import InvalidInput, InvariantViolation, NotFound, Refused
from ledger.domain.invoice_parts import Party
from ledger.domain.invoices import DocumentKind, Invoice, InvoiceStatus, allowed
from ledger.domain.money import RATE_DECIMALS, minor_units
from ledger.domain.plan_rates import at_rest
from ledger.domain.plans import HOUR, Plan
from ledger.domain.tiers import check_number

APPROVAL_US = 7 * 24 * 3600 * 1_000_000
"""How long the first approval of a reopening counts."""
MAX_PAYMENT_DAYS = 365
_FOUR_YEARS = 48
NOTES = "-CN"
"""What the series of credit notes has behind that of the invoices which they cite."""
_SERIES = re.compile(r"[A-Z0-9][A-Z0-9-]{0,15}")


def subscribe(
    account: BillingAccount,
    plan: Plan,
    *,
    version: int,
    from_day: date,
    anchor: date | None,
    currency: str,
    timezone: str,
) -> list[Event]:
    """Put a tenant on a plan version from a day on; the same again changes nothing.

    Args:
        account: of the tenant.
        plan: the version.
        version: its number.
        from_day: first local day.
        anchor: begins a cycle anchored there, unless its boundaries are those of the cycle that
            is there; None keeps that one where the plan's unit and count are the same, and else,
            or without an earlier subscription, takes the plan's anchor.
        currency: of the tenant's ledger.
        timezone: likewise.

    Raises:
        Refused: ``plan_currency_differs``, ``window_not_billable``, ``period_closed``,
            ``later_subscription``.
        InvalidInput: ``invalid_cycle``.
    """
    if plan.currency != currency:
        raise Refused(
            f"{plan.name} is in {plan.currency}, the tenant's ledger in {currency}; a subscription"
            " needs a plan in the ledger's currency",
            code="plan_currency_differs",
        )
    hourly = [one.name for one in plan.charges if one.window == HOUR and _owes_idle(one.model)]
    if hourly:
        raise Refused(
            f"{', '.join(hourly)} of {plan.name} runs anew every hour and owes something besides"
            " its use (a fee at no use, a minimum, a promise), of which nothing tells in which"
            " hours it is due; give it the window day or none, or make it a fee of the plan",
            code="window_not_billable",
        )
    _check_open(account, from_day)
    cycle = _cycle(account, plan, from_day=from_day, anchor=anchor, timezone=timezone)
    if account.holdings and cycle is None:
        last = account.holdings[-1]
        if last.from_day <= from_day and (last.plan, last.version) == (plan.name, version):
            return []
    return [Subscribed(from_day, plan.name, version, cycle)]


def _owes_idle(model: ChargeModel) -> bool:
    """Tell whether a model comes to something that no event brings."""
    promised = model.commitment is not None and model.commitment.true_up
    return bool(at_rest(model)) or model.min_amount is not None or promised


def end_subscription(account: BillingAccount, *, from_day: date) -> list[Event]:
    """Put a tenant at list prices from a day on; again changes nothing.

    Raises:
        Refused: ``not_subscribed``, ``period_closed``, ``later_subscription``.
    """
    if not account.holdings:
        raise Refused("the tenant has no subscription that could end", code="not_subscribed")
    last = account.holdings[-1]
    if not last.plan and last.from_day <= from_day:
        return []
    _check_open(account, from_day)
    return [SubscriptionEnded(from_day)]


def set_details(account: BillingAccount, details: BillingDetails) -> list[Event]:
    """Say how invoices are made out; the same again changes nothing.

    Raises:
        InvalidInput: ``invalid_details`` for a party without a name or with no such country;
            ``invalid_payment_days``, ``invalid_series``, ``unknown_currency``, ``invalid_rate``.
    """
    _check_party(details.party)
    for place, one in enumerate(details.displays):
        at = f"/displays/{place}"
        try:
            minor_units(one.currency)
        except InvalidInput as error:
            pointer = f"{at}/currency"
            raise InvalidInput(error.message, code=error.code, pointer=pointer) from None
        check_number(
            one.rate,
            what="exchange rate",
            code="invalid_rate",
            pointer=f"{at}/rate",
            decimals=RATE_DECIMALS,
            positive=True,
        )
    if details.series.endswith(NOTES):
        raise InvalidInput(
            f"{details.series[:64]!r} is no series of invoices: those in {NOTES} are of credit"
            " notes; give another end",
            code="invalid_series",
            pointer="/series",
        )
    if details.series and not _SERIES.fullmatch(details.series):
        raise InvalidInput(
            f"{details.series[:64]!r} is no series; give at most 16 capital letters, digits and"
            " dashes, beginning with a letter or digit",
            code="invalid_series",
            pointer="/series",
        )
    days = details.payment_days
    if days is not None and not 0 <= days <= MAX_PAYMENT_DAYS:
        raise InvalidInput(
            f"payment within {days} days is not possible; 0 to {MAX_PAYMENT_DAYS} are",
            code="invalid_payment_days",
            pointer="/payment_days",
        )
    return [] if details == account.details else [DetailsSet(details)]


def _check_party(party: Party) -> None:
    if party != Party() and not party.name.strip():
        raise InvalidInput(
            "a party has a name, as it is registered", code="invalid_details", pointer="/party/name"
        )
    if party.country:
        check_country(party.country, pointer="/party/country", error="invalid_details")


def begin_close(account: BillingAccount, span: Span) -> list[Event]:
    """Begin to close the account's next period; again changes nothing."""
    event = PeriodClosing(span.first_day, span.after_day)
    return [] if account.closing == event else [event]


def close(
    account: BillingAccount,
    span: Span,
    *,
    draft: Invoice | None,
    document: bytes,
    through_commit: int,
    position: int,
) -> list[Event]:
    """Close the period whose close has begun.

    Raises:
        InvariantViolation: no close of this period has begun.
    """
    if account.closing != PeriodClosing(span.first_day, span.after_day):
        raise InvariantViolation(f"{span.first_day} to {span.after_day} is not closing")
    id = draft.id if draft is not None else ""
    done = Close(span.first_day, span.after_day, id, through_commit, position)
    return [PeriodClosed(done, document)]


def reopen(
    account: BillingAccount,
    *,
    first_day: date,
    by: str,
    reason: str,
    at: int,
    once: str = "",
    line_of: Callable[[str], str] = str,
) -> list[Event]:
    """Ask to reopen the latest closed period, or as the second of two people reopen it.

    Args:
        account: of the tenant.
        first_day: of the period.
        by: who asks, or approves.
        reason: why.
        at: microseconds since the epoch.
        once: names the command: the one that asked changes nothing when it is repeated.
        line_of: returns of a name what it has in common with other names of the same approver,
            such as the first key of a line of keys.

    Raises:
        NotFound: ``unknown_period``.
        Refused: ``period_not_closed``, ``not_the_latest_period``, ``needs_another_approver``.
        InvalidInput: ``invalid_text`` without a reason or a name.
    """
    for value, pointer in ((reason, "/reason"), (by, "/by")):
        if not value.strip():
            raise InvalidInput(
                "reopening a period needs a reason and a name", code="invalid_text", pointer=pointer
            )
    last = account.last
    if last is None or all(one.first_day != first_day for one in account.closes):
        raise NotFound(f"no closed period begins on {first_day}", code="unknown_period")
    if last.first_day != first_day:
        raise Refused(
            f"only the latest closed period can be reopened, which begins on {last.first_day}",
            code="not_the_latest_period",
        )
    # A reopened period whose invoice was voided since has that to release.
    again = last.reopened and not waits(account)
    if again or account.closing is not None:
        raise Refused(
            f"the period from {first_day} on is open or closing already", code="period_not_closed"
        )
    asked = account.asked
    if asked is None or asked.first_day != first_day or at - asked.at > APPROVAL_US:
        return [ReopeningAsked(Asked(first_day, by, reason, at, once))]
    if once and asked.once == once:
        return []
    if _person(line_of(asked.by)) == _person(line_of(by)):
        also = "" if asked.by == by else f", and {by} is the same approver"
        raise Refused(
            f"{asked.by} asked for this already{also}; somebody else has to approve it",
            code="needs_another_approver",
        )
    dropped: list[str] = []
    released: list[str] = []
    for one in reversed(account.closes):
        status = account.invoices[one.invoice].status if one.invoice else None
        if one.first_day != first_day or status not in (
            None,
            InvoiceStatus.DRAFT,
            InvoiceStatus.VOID,
        ):
            break
        if status is not None:
            (dropped if status is InvoiceStatus.DRAFT else released).append(one.invoice)
    return [
        PeriodReopened(first_day, (asked.by, by), asked.reason, tuple(dropped), tuple(released))
    ]


def _person(name: str) -> str:
    """Return what names of one person have in common: not case, width of letters or space."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def finalize(account: BillingAccount, invoice: Invoice, document: bytes) -> list[Event]:
    """Make an invoice final.

    Raises:
        NotFound: ``unknown_invoice``.
        Refused: ``invalid_status``.
    """
    _check_move(account, invoice.id, InvoiceStatus.FINALIZED)
    return [InvoiceFinalized(invoice.id, invoice.number, document)]


def move(
    account: BillingAccount, id: str, *, status: InvoiceStatus, reason: str = ""
) -> list[Event]:
    """Say that an invoice was paid, is uncollectible or void; again changes nothing.

    Raises:
        NotFound: ``unknown_invoice``.
        Refused: ``invalid_status``, ``has_credit_notes``; ``later_invoices`` and
            ``period_closing`` for a void invoice that no reopening could release.
    """
    head = head_of(account, id)
    if head.status is status:
        return []
    _check_move(account, id, status)
    if status is InvoiceStatus.VOID and head.notes:
        raise Refused(
            f"{head.number} has the credit note {head.notes[0]}; credit the rest of it instead",
            code="has_credit_notes",
        )
    if status is InvoiceStatus.VOID:
        _check_latest(account, id)
    return [InvoiceMoved(id, status, reason)]


def issue_credit_note(
    account: BillingAccount, invoice: Invoice, note: Invoice, document: bytes
) -> list[Event]:
    """Issue a credit note for a final invoice that is not void.

    Raises:
        NotFound: ``unknown_invoice``.
        Refused: ``invalid_status``.
    """
    check_creditable(account, invoice.id)
    if note.kind is not DocumentKind.CREDIT_NOTE:
        raise InvariantViolation(f"{note.id} is no credit note")
    taken = {id for head in account.invoices.values() for id in head.notes}
    if note.id in taken or note.id in account.invoices:
        raise InvariantViolation(f"the id {note.id} is taken")
    return [CreditNoteIssued(invoice.id, note.id, note.number, document)]


def check_creditable(account: BillingAccount, id: str) -> None:
    """Check that a credit note can cite an invoice.

    Raises:
        NotFound: ``unknown_invoice``.
        Refused: ``invalid_status``.
    """
    status = head_of(account, id).status
    if status in (InvoiceStatus.DRAFT, InvoiceStatus.VOID):
        raise Refused(
            f"invoice {id} is {status}; only what is asked for can be given back",
            code="invalid_status",
        )


def head_of(account: BillingAccount, id: str) -> InvoiceHead:
    """Return what the account knows of an invoice.

    Raises:
        NotFound: ``unknown_invoice``.
    """
    head = account.invoices.get(id)
    if head is None:
        raise NotFound(f"there is no invoice {id[:64]!r}", code="unknown_invoice")
    return head


def new_invoice_id(account: BillingAccount, span: Span) -> str:
    """Return an unused id for a period's invoice: its first day, with a number from the second."""
    day = span.first_day.isoformat()
    number = 1
    while (id := day if number == 1 else f"{day}.{number}") in account.invoices:
        number += 1
    return id


def _check_move(account: BillingAccount, id: str, to: InvoiceStatus) -> None:
    head = head_of(account, id)
    if not allowed(head.status, to=to):
        raise Refused(
            f"invoice {id} is {head.status}, so it cannot become {to}", code="invalid_status"
        )


def _check_latest(account: BillingAccount, id: str) -> None:
    """Check that no invoice closed later stands: reopening goes from the latest back."""
    if account.closing is not None:
        raise Refused(
            f"the close of the period from {account.closing.first_day} on has begun, so what {id}"
            " billed could not be billed anew; let the close end, or run it again, first",
            code="period_closing",
        )
    for one in reversed(account.closes):
        if one.invoice == id:
            return
        head = account.invoices[one.invoice] if one.invoice else None
        if head is not None and head.status is not InvoiceStatus.VOID:
            raise Refused(
                f"invoice {one.invoice} came after {id} and is {head.status}, so what {id} billed"
                f" could not be billed anew; {_undo(one, head)}credit {id} instead",
                code="later_invoices",
            )


def _undo(close: Close, head: InvoiceHead) -> str:
    if head.status is InvoiceStatus.DRAFT:
        return f"reopen the period from {close.first_day} on first, which drops the draft, or "
    if allowed(head.status, to=InvoiceStatus.VOID) and not head.notes:
        return f"void {close.invoice} first, or "
    return ""


def _check_open(account: BillingAccount, from_day: date) -> None:
    fixed = account.fixed_before
    if from_day < fixed:
        raise Refused(
            f"the period before {fixed} is closed or closing, so its plan cannot change from"
            f" {from_day} on; give {fixed} or later, or reopen it",
            code="period_closed",
        )
    if account.holdings and account.holdings[-1].from_day > from_day:
        later: Holding = account.holdings[-1]
        raise Refused(
            f"the subscription changes on {later.from_day} already; give that day or a later one",
            code="later_subscription",
        )


def _cycle(
    account: BillingAccount, plan: Plan, *, from_day: date, anchor: date | None, timezone: str
) -> BillingCycle | None:
    """Return the cycle that begins with a subscription; None where the one before goes on."""
    own = msgspec.structs.replace(plan.cycle, timezone=timezone)
    if anchor is not None:
        own = msgspec.structs.replace(own, anchor=anchor)
    before = [one for one in account.segments if one.from_day <= from_day]
    current = before[-1].cycle if before else months(timezone)
    same = (current.unit, current.count) == (own.unit, own.count)
    if same and ((before and anchor is None) or _aligned(current, own)):
        return None
    return own


def _aligned(current: BillingCycle, own: BillingCycle) -> bool:
    """Tell whether two cycles of one unit and count have the same boundaries.

    Four years of them: the last day of a month stands for days that it lacks, so single
    boundaries of different anchors can be the same.
    """
    number = current.period_on(own.anchor).number
    return all(
        current.boundary(number + place) == own.boundary(place) for place in range(_FOUR_YEARS)
    )
