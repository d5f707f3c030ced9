"""Readers of budgets, confirmations, credit and entitlements; see `ledger.application.asks`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from ledger.application import ask_fields as fields
from ledger.application.ask_fields import Check, fail, read_members
from ledger.domain.budgets import (
    CHARGE,
    COST,
    DEFAULT_PERCENT,
    MAX_STEPS,
    SCOPES,
    STEP_KINDS,
    BudgetTerms,
    Filter,
    Step,
)
from ledger.domain.credits import GRANT_KINDS
from ledger.domain.default_cap import LADDER as CAP_LADDER
from ledger.domain.entitlements import KINDS, Entitlements
from ledger.domain.holds import AVAILABLE
from ledger.domain.protection_commands import ConfirmBudget, GrantCredit, WithdrawCredit
from ledger.domain.windows import CALENDAR, check_window

ALERT_LADDER = (Step("inform", 5000), Step("warn", 8000), Step("inform", 10000))
"""Ladder of an alert that says none."""
MAX_ENTITLED = 1000
"""Most patterns of each list of entitlements."""
MAX_PRIORITY = 1_000_000
"""Highest priority of a grant; lower burns first."""

_STOPS = ("confirm", "stop")
_LEASE = "lease:"
_ALL: Filter = BudgetTerms(name="", limit=0).filter
"""The very object that terms have as default; see `_window`."""


def budget_terms(document: Mapping[str, object], *, name: str, currency: str) -> BudgetTerms:
    """Return what a document says of a budget.

    Args:
        document: ``limit`` with ``steps``, or ``cap`` or ``alert`` with an amount for the ladder
            of docs/spec/holds.md. Further: ``scope`` (``tenant``, ``user=u1``,
            ``label:team=blue``), ``filter``, ``measure``, ``currency`` (of a cost), ``window``,
            ``on_unpriced``, ``on_outage`` (``fail_closed`` or ``lease:AMOUNT``), ``state``.
            Amounts are in the measure: money has at most 18 decimals, a quantity 6.
        name: of the budget.
        currency: of the ledger.

    Returns:
        The terms. An alert lets what has no price pass: it only tells.

    Raises:
        InvalidInput: ``invalid_<member>`` or ``unknown_member``; ``invalid_name``.
    """
    values = read_members(document, _BUDGET_CHECKS)
    fields.name(name, "/name")
    measure = values.get("measure", CHARGE)
    number = fields.money if measure in (CHARGE, COST) else fields.quantity
    limit, steps = _ladder(values, number)
    window = values.get("window", "month")
    if window not in CALENDAR:
        for place, step in enumerate(steps):
            if step.kind == "projected":
                fail(f"/steps/{place}", "a forecast needs an hour, day, week or month as window")
    scope, value = values.get("scope", ("tenant", ""))
    caps = any(step.kind in _STOPS for step in steps)
    on_unpriced = values.get("on_unpriced", "deny" if caps else "allow")
    if on_unpriced == "deny" and not caps:
        fail("/on_unpriced", "an alert only tells; give it a stop or a confirm step to refuse")
    return BudgetTerms(
        name=name,
        limit=limit,
        scope=scope,
        value=value,
        filter=values.get("filter", _ALL),
        measure=measure,
        currency=_currency(values, measure, currency),
        window=window,
        steps=steps,
        on_unpriced=on_unpriced,
        lease=values.get("on_outage", 0),
        state=values.get("state", "open"),
    )


def _ladder(values: Mapping[str, Any], number: Check) -> tuple[int, tuple[Step, ...]]:
    """Return limit and steps."""
    for word, ladder in (("cap", CAP_LADDER), ("alert", ALERT_LADDER)):
        if word in values:
            for other in ("limit", "steps", "alert"):
                if other in values and other != word:
                    fail(f"/{word}", f"says limit and steps; give it or {other}")
            return number(values[word], f"/{word}"), ladder
    if "limit" not in values:
        fail("/limit", "is missing; give limit and steps, or cap, or alert")
    limit = number(values["limit"], "/limit")
    listed = values.get("steps")
    if listed is None:
        fail("/steps", "is missing; give limit and steps, or cap, or alert")
    if not isinstance(listed, list | tuple) or not 1 <= len(listed) <= MAX_STEPS:
        fail("/steps", f"give a list of 1 to {MAX_STEPS} steps")
    steps = (_step(one, f"/steps/{place}", number) for place, one in enumerate(listed))
    return limit, tuple(steps)


def _step(document: object, pointer: str, number: Check) -> Step:
    checks: dict[str, Check] = {
        "kind": fields.choice(*STEP_KINDS),
        "percent": _percent,
        "amount": number,
        "model": fields.name,
    }
    values = read_members(document, checks, required=("kind",), pointer=pointer)
    kind = values["kind"]
    if "percent" in values and "amount" in values:
        fail(pointer, "give percent or amount, not both")
    if kind == "downgrade" and "model" not in values:
        fail(f"{pointer}/model", "is missing: which model is called instead?")
    if kind != "downgrade" and "model" in values:
        fail(f"{pointer}/model", f"a step {kind} names no model; downgrade does")
    if "amount" in values:
        return Step(kind, 0, values["amount"], values.get("model", ""))
    return Step(kind, values.get("percent", DEFAULT_PERCENT[kind]), None, values.get("model", ""))


def _percent(value: object, pointer: str) -> int:
    """Return a percentage x 100."""
    number = fields.scaled(value, pointer, 2)
    if not 1 <= number <= 100_000:
        fail(pointer, "give 0.01 to 1000 percent")
    return number


def _scope(value: object, pointer: str) -> tuple[str, str]:
    """Return scope and value of ``tenant``, ``user=u1``, ``label:team=blue``."""
    # The text is longer than an id by the name of the scope, so its parts are checked.
    if not isinstance(value, str):
        fail(pointer, f"give text such as user=u1, not {fields.shown(value)}")
    if value == "tenant":
        return "tenant", ""
    kind, equals, rest = value.partition("=")
    if kind.startswith("label:") and equals:
        label = fields.name(kind.removeprefix("label:"), pointer)
        return "label", f"{label}={fields.text(rest, pointer)}"
    if kind not in SCOPES or kind in ("tenant", "label"):
        listed = ", ".join(f"{one}=…" for one in SCOPES if one not in ("tenant", "label"))
        fail(pointer, f"{fields.shown(value)} is no scope; give tenant, {listed} or label:NAME=…")
    return sys.intern(kind), fields.name(rest, pointer)


def _measure(value: object, pointer: str) -> str:
    found = fields.name(value, pointer)
    if found in (CHARGE, COST):
        return CHARGE if found == CHARGE else COST
    if "*" in found and not found.endswith(".*"):
        fail(pointer, f"{fields.shown(found)}: a * stands for all meters below one, as tokens.*")
    if not fields.has_meter(found):
        fail(pointer, f"{fields.shown(found)} is neither charge, cost nor a meter, nor is a meter")
    return found


def _window(value: object, pointer: str) -> str:
    found = fields.name(value, pointer)
    check_window(found)
    # msgspec leaves a default out of what it writes by identity: equal terms have equal bodies.
    return sys.intern(found)


def _outage(value: object, pointer: str) -> int:
    """Return what a gateway may lease; 0 for ``fail_closed``."""
    if value == "fail_closed":
        return 0
    if not isinstance(value, str) or not value.startswith(_LEASE):
        fail(pointer, f"give fail_closed or {_LEASE}AMOUNT, not {fields.shown(value)}")
    amount = fields.money(value.removeprefix(_LEASE), pointer)
    if not amount:
        fail(pointer, "a lease is of an amount above 0; fail_closed allows none")
    return amount


def _currency(values: Mapping[str, Any], measure: str, ledger: str) -> str:
    given: str = values.get("currency", "")
    if measure not in (CHARGE, COST):
        if given:
            fail("/currency", f"{measure} is counted, not paid")
        return ""
    if measure == CHARGE and given and given != ledger:
        fail("/currency", f"this ledger charges in {ledger}")
    return given or ledger


def _filter(value: object, pointer: str) -> Filter:
    """Return a filter; its lists are sorted, so that the same ones are equal."""
    values = read_members(value, _FILTER_CHECKS, pointer=pointer)
    if "byok" in values:
        values["byok"] = values["byok"] == "include"
    found = Filter(**values)
    return _ALL if found == _ALL else found


def confirm_budget(
    document: Mapping[str, object], *, tenant: str, budget: str, terms: BudgetTerms
) -> ConfirmBudget:
    """Return the command that raises the confirm ceiling of a budget's current window.

    Args:
        document: ``id``, used once; ``ceiling`` above 0 in the budget's measure; ``by``; ``until``
            (the window's end unless said); ``reason``.
        tenant: whose ledger.
        budget: its name.
        terms: of that budget.

    Raises:
        InvalidInput: ``invalid_<member>`` or ``unknown_member``.
    """
    number = fields.money if terms.is_money else fields.quantity
    checks: dict[str, Check] = {
        "id": fields.name,
        "ceiling": _above_zero(number),
        "by": fields.name,
        "until": fields.instant,
        "reason": fields.text,
    }
    values = read_members(document, checks, required=("id", "ceiling", "by"))
    fields.name(tenant, "/tenant")
    fields.name(budget, "/budget")
    return ConfirmBudget(tenant=tenant, budget=budget, **values)


def grant_credit(document: Mapping[str, object], *, tenant: str) -> GrantCredit:
    """Return the command that gives prepaid credit.

    Args:
        document: ``id`` and ``amount`` above 0; ``currency``, ``kind`` (``paid`` unless said),
            ``priority`` from 0 (100 unless said), ``expires_at``, ``filter``, ``by``, ``reason``.
        tenant: whose ledger.

    Raises:
        InvalidInput: ``invalid_<member>`` or ``unknown_member``.
    """
    values = read_members(document, _GRANT_CHECKS, required=("id", "amount"))
    fields.name(tenant, "/tenant")
    return GrantCredit(tenant=tenant, **values)


def withdraw_credit(document: Mapping[str, object], *, tenant: str) -> WithdrawCredit:
    """Return the command that refunds or transfers free credit of a grant.

    Args:
        document: ``id``, ``grant`` and ``amount`` (above 0, or ``available``); ``to``, the tenant
            that gets it, for a transfer; ``by``, ``reason``.
        tenant: whose ledger.

    Raises:
        InvalidInput: ``invalid_<member>`` or ``unknown_member``.
    """
    values = read_members(document, _WITHDRAW_CHECKS, required=("id", "grant", "amount"))
    fields.name(tenant, "/tenant")
    if values.get("to") == tenant:
        fail("/to", "credit is transferred to another tenant")
    return WithdrawCredit(tenant=tenant, **values)


def entitlements(document: Mapping[str, object]) -> Entitlements:
    """Return what a tenant may use.

    Args:
        document: ``default`` (``allow`` unless said) and lists of patterns for any of
            `ledger.domain.entitlements.KINDS`; an empty list allows nothing of its kind.

    Raises:
        InvalidInput: ``invalid_<member>`` or ``unknown_member``.
    """
    return Entitlements(**read_members(document, _ENTITLEMENT_CHECKS))


def _above_zero(number: Check) -> Check:
    def check(value: object, pointer: str) -> int:
        found: int = number(value, pointer)
        if not found:
            fail(pointer, "give a number above 0")
        return found

    return check


_positive_money = _above_zero(fields.money)


def _money_or_available(value: object, pointer: str) -> int:
    return AVAILABLE if value == "available" else int(_positive_money(value, pointer))


def _later(value: object, pointer: str) -> object:
    """Leave a number until the measure is known."""
    del pointer
    return value


_FILTER_CHECKS: dict[str, Check] = {
    "providers": fields.patterns(),
    "models": fields.patterns(),
    "meters": fields.patterns(meters=True),
    "byok": fields.choice("include", "exclude"),
}
_BUDGET_CHECKS: dict[str, Check] = {
    "alert": _later,
    "cap": _later,
    "currency": fields.currency,
    "filter": _filter,
    "limit": _later,
    "measure": _measure,
    "on_outage": _outage,
    "on_unpriced": fields.choice("deny", "allow"),
    "scope": _scope,
    "state": fields.choice("open", "closed", "ended"),
    "steps": _later,
    "window": _window,
}
_GRANT_CHECKS: dict[str, Check] = {
    "id": fields.name,
    "amount": _positive_money,
    "currency": fields.currency,
    "kind": fields.choice(*GRANT_KINDS),
    "priority": fields.whole(0, MAX_PRIORITY),
    "expires_at": fields.instant,
    "filter": _filter,
    "by": fields.text,
    "reason": fields.text,
}
_WITHDRAW_CHECKS: dict[str, Check] = {
    "id": fields.name,
    "grant": fields.name,
    "amount": _money_or_available,
    "to": fields.text,
    "by": fields.text,
    "reason": fields.text,
}
_ENTITLEMENT_CHECKS: dict[str, Check] = {
    "default": fields.choice("allow", "deny"),
    **{kind: fields.patterns(MAX_ENTITLED, meters=kind == "meters") for kind in KINDS},
}
