"""Plans and subscriptions as documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ledger.application.ask_fields import token
from ledger.application.documents.encoding import to_plain
from ledger.application.plans import PlanView
from ledger.application.subscriptions import SubscriptionView
from ledger.domain.billing_account import BillingDetails
from ledger.domain.billing_calendar import Holding
from ledger.domain.errors import InvalidInput
from ledger.domain.invoice_parts import Tax, document_tree
from ledger.domain.json_members import check_members_once


def plan_document(view: PlanView) -> dict[str, Any]:
    """Return a version of a plan and how many there are."""
    return {
        "name": view.name,
        "version": view.version,
        "latest": view.latest,
        "retired": view.retired,
        "plan": to_plain(view.plan),
    }


def plans_document(views: Sequence[PlanView]) -> dict[str, Any]:
    """Return plans, each in its latest version."""
    return {"plans": [plan_document(view) for view in views]}


def subscription_document(view: SubscriptionView) -> dict[str, Any]:
    """Return where a tenant's billing stands; a plan of null is list prices."""
    return {
        "tenant": view.tenant,
        "current": None if view.current is None else _held(view.current),
        "plans": [_held(one) for one in view.holdings],
        "cycles": [
            {"from_day": one.from_day.isoformat(), **document_tree(one.cycle)}
            for one in view.segments
        ],
        "details": details_document(view.details),
        "closed_before": None if view.closed_before is None else view.closed_before.isoformat(),
        "unknown_taxes": list(view.unknown_taxes),
        "rated_again": view.rated_again,
    }


def subscriptions_document(
    views: Sequence[SubscriptionView], *, more: bool = False
) -> dict[str, Any]:
    """Return where the billing of tenants stands; ``more`` says that there are others."""
    return {"subscriptions": [subscription_document(view) for view in views], "more": more}


def _held(holding: Holding) -> dict[str, Any]:
    return {
        "from_day": holding.from_day.isoformat(),
        "plan": holding.plan or None,
        "version": holding.version or None,
    }


def details_document(details: BillingDetails) -> dict[str, Any]:
    """Return how invoices are made out."""
    tree: dict[str, Any] = document_tree(details)
    taxes = {name: document_tree(tax) for name, tax in sorted(details.line_taxes.items())}
    return {**tree, **({"line_taxes": taxes} if taxes else {})}


class _Raw(msgspec.Struct):
    party: dict[str, Any] | None = None
    tax: dict[str, Any] | None = None
    line_taxes: dict[str, dict[str, Any]] = {}


def _check_taxes(raw: _Raw) -> None:
    """Read the taxes alone: what is refused about one is said where it stands in the document."""
    taxes = [("/tax", raw.tax)] if raw.tax is not None else []
    taxes += [(f"/line_taxes/{token(name)}", tax) for name, tax in raw.line_taxes.items()]
    for at, tax in taxes:
        try:
            msgspec.json.decode(msgspec.json.encode(tax), type=Tax)
        except InvalidInput as error:
            raise InvalidInput(
                error.message, code=error.code, pointer=f"{at}{error.pointer}"
            ) from None


def details_from_json(document: bytes | str) -> BillingDetails:
    """Read how a tenant's invoices are to be made out.

    Raises:
        InvalidInput: ``invalid_details`` for what is no such JSON or says a member twice;
            ``invalid_tax_rate``.
    """
    try:
        raw = msgspec.json.decode(document, type=_Raw)
        check_members_once(document, code="invalid_details")
        for tax in (raw.tax, *raw.line_taxes.values()):
            # An invoice's own taxes are read by a class that must go on taking more members.
            if tax is not None and not tax.keys() <= {"category", "percent"}:
                raise InvalidInput(
                    "a tax has the members category and percent", code="invalid_details"
                )
        _check_taxes(raw)
        if raw.party is not None and not raw.party.get("name"):
            # Read, it could not be told from a party that nobody gave.
            raise InvalidInput(
                "a party has a name, as it is registered; leave the party out where there is none",
                code="invalid_details",
                pointer="/party/name",
            )
        return msgspec.json.decode(document, type=BillingDetails)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise InvalidInput(
            f"these are no billing details: {error}", code="invalid_details"
        ) from None
