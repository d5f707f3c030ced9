"""Acts are written down by whoever gives the use cases out, so that no interface can forget one."""

from __future__ import annotations

import inspect
import json
import logging
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes.billing_world import TEAM

from adapters.memory import MemoryAuditLog, MemoryKeys
from ledger.application import audited as module
from ledger.application.audit_log import AuditLine, AuditLog
from ledger.application.audited import Actor, audited
from ledger.application.billing_close import Periods
from ledger.application.budgets import Budgets
from ledger.application.corrections import Corrections
from ledger.application.credits import Credits
from ledger.application.entitlements import TenantEntitlements
from ledger.application.invoicing import Invoicing
from ledger.application.jobs import Jobs
from ledger.application.keys import Keys
from ledger.application.plans import Plans
from ledger.application.policies import Policies
from ledger.application.prices import PriceBooks
from ledger.application.subscriptions import Subscriptions
from ledger.application.tenants import Tenants
from ledger.domain.billing_account import BillingDetails
from ledger.domain.commands import Outcome
from ledger.domain.entitlements import Entitlements
from ledger.domain.errors import InvalidInput, NotFound, Problem, Refused, Unavailable
from ledger.domain.invoices import InvoiceStatus
from ledger.domain.jobs import RunState
from ledger.domain.prices import PriceKey, PriceKind, PriceRow
from ledger.domain.usage import AdjustUsage, VoidUsage

CLASSES = {
    "tenants": Tenants,
    "budgets": Budgets,
    "policies": Policies,
    "credits": Credits,
    "corrections": Corrections,
    "entitlements": TenantEntitlements,
    "prices": PriceBooks,
    "keys": Keys,
    "plans": Plans,
    "subscriptions": Subscriptions,
    "periods": Periods,
    "invoicing": Invoicing,
    "jobs": Jobs,
}
ASKING = {
    "budgets": {"list", "show", "steps"},
    "policies": {"load", "default_cap"},
    "credits": {"list"},
    "keys": {"list", "show", "now", "line_of"},
    "plans": {"plan", "list"},
    "subscriptions": {"show", "page", "for_tenant"},
    "periods": {"preview", "status", "page", "warnings", "preview_warnings", "for_tenant"},
    "invoicing": {"invoice", "list", "series", "settings", "warnings", "for_tenant"},
    "jobs": {"is_due", "tick", "standings", "runs"},
    "prices": {"find", "list", "diff", "at", "markups", "rate_unpriced"},
}
"""What changes nothing that an operator decides."""


class Desk:
    """Use cases whose methods return what a test says, with the signatures of the real ones."""

    def __init__(self) -> None:
        self.log = AuditLog(MemoryAuditLog(lambda: 1_800_000_000_000_000))
        self.answer: Any = Outcome("accepted")
        self.error: Exception | None = None
        self.calls: list[tuple[str, str, tuple[Any, ...], dict[str, Any]]] = []
        parts = {name: self._stand_in(name, kind) for name, kind in CLASSES.items()}
        self.plain = SimpleNamespace(**parts, reads="reads")

    def _stand_in(self, part: str, kind: type) -> Any:
        members = {}
        for name, method in inspect.getmembers(kind, inspect.isfunction):
            if not name.startswith("_"):
                members[name] = self._method(part, method)
        return SimpleNamespace(**members)

    def _method(self, part: str, method: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            self.calls.append((part, method.__name__, arguments, named))
            if self.error is not None:
                raise self.error
            return self.answer

        signature = inspect.signature(method)
        own = list(signature.parameters.values())[1:]
        call.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
        return call

    def services(self) -> Any:
        """Return the use cases as an interface gets them."""
        actor = Actor(who="key:abc", via="http", request_id="r-1", address="192.0.2.1")
        return audited(self.plain, self.log, actor)  # type: ignore[arg-type] # stand-ins

    def lines(self) -> list[AuditLine]:
        """Return what was written, the oldest first."""
        return list(reversed(self.log.list()))


@pytest.fixture
def desk() -> Desk:
    """Give a desk."""
    return Desk()


def test_every_act_of_an_operator_is_known() -> None:
    """A use case that is added must be put among the acts, or here among the questions."""
    for name, kind in CLASSES.items():
        public = {one for one, _ in inspect.getmembers(kind, inspect.isfunction) if one[0] != "_"}
        assert public == set(module._ACTS[name]) | ASKING.get(name, set()), name


def operate(desk: Desk) -> None:
    """Do each act of an operator but for billing's, which are in `bill`, and keys'."""
    services = desk.services()
    row = PriceRow(
        key=PriceKey("openai", "m", "tokens.output"),
        effective_from=datetime(2026, 1, 1, tzinfo=UTC),
        rate=Decimal("1.5"),
    )
    at = datetime(2026, 1, 1, tzinfo=UTC)
    services.tenants.open("acme", currency="EUR")
    services.budgets.set({"cap": "5"}, tenant="acme", name="m", by="ann")
    services.budgets.close("m", tenant="acme", by="ann")
    services.budgets.reopen("m", tenant="acme", by="ann")
    services.budgets.end("m", tenant="acme", by="ann")
    services.budgets.confirm({"id": "c", "ceiling": "9"}, tenant="acme", name="m")
    services.budgets.waive(tenant="acme", by="ann")
    services.policies.set_default_cap("5", currency="EUR", by="ann")
    services.policies.waive_default_cap(by="ann")
    services.credits.grant({"id": "g", "amount": "3"}, tenant="acme")
    services.credits.refund({"id": "f", "amount": "1"}, tenant="acme")
    services.credits.transfer({"id": "t", "to": "globex"}, tenant="acme")
    services.credits.policy(tenant="acme", required=True, by="ann")
    services.entitlements.set(Entitlements(models=("m*",)), tenant="acme", by="ann")
    services.corrections.void(
        VoidUsage(
            tenant="acme",
            source="api",
            id="fix-1",
            target_source="gw",
            target_id="e-1",
            reason="twice",
        )
    )
    desk.answer = SimpleNamespace(records=[SimpleNamespace(version="cost/openai@1.0")])
    services.prices.pull(approve=True, providers=["openai"], by="ann")
    services.prices.import_litellm(Path("f.json"), by="ann")
    services.prices.approve(["v1", "v2"], by="ann")
    services.prices.approve_all(by="ann")
    services.prices.set(row, kind=PriceKind.COST, by="ann")
    services.prices.retire(["v1"], by="ann")
    services.prices.markup(Decimal(20), by="ann")
    services.prices.rerate(tenant="acme", start=at, end=at)


def bill(desk: Desk) -> None:
    """Do each act of billing."""
    services = desk.services()
    first = datetime(2026, 1, 1, tzinfo=UTC).date()
    desk.answer = SimpleNamespace(name="team", latest=2)
    services.plans.publish(json.dumps(TEAM), by="ann")
    services.plans.retire("team", by="ann")
    services.subscriptions.subscribe("acme", "team", from_day=first, by="ann")
    services.subscriptions.end("acme", by="ann")
    services.subscriptions.set_details("acme", BillingDetails(series="A"), by="ann")
    services.invoicing.set_settings(BillingDetails(series="B"), by="ann")
    desk.answer = SimpleNamespace(periods=3, drafts=["d"])
    services.periods.close(by="ann")
    services.periods.reopen("acme", first_day=first, by="ann", reason="late")
    services.invoicing.finalize("acme", "i", by="ann")
    desk.answer = 7
    services.invoicing.finalize_all(by="ann")
    services.invoicing.move("acme", "i", status=InvoiceStatus.PAID, by="ann")
    desk.answer = SimpleNamespace(invoice=SimpleNamespace(id="i-cn1"))
    lines = {2: Decimal("1.5")}
    services.invoicing.credit("acme", "i", lines=lines, reason="r", by="ann", note="cr")
    desk.answer = SimpleNamespace(state=RunState.DONE, attempt=2)
    services.jobs.run("verify", again=True)


def test_each_act_has_its_line(desk: Desk) -> None:
    """With what it is about, and who, from where and by which request."""
    operate(desk)
    lines = desk.lines()
    assert [(line.act, line.tenant, line.target) for line in lines] == [
        ("tenant.opened", "acme", "acme"),
        ("budget.set", "acme", "m"),
        ("budget.closed", "acme", "m"),
        ("budget.reopened", "acme", "m"),
        ("budget.ended", "acme", "m"),
        ("budget.confirmed", "acme", "m"),
        ("default_cap.waived", "acme", "acme"),
        ("default_cap.set", "", ""),
        ("default_cap.waived", "", ""),
        ("credit.granted", "acme", "g"),
        ("credit.refunded", "acme", "f"),
        ("credit.transferred", "acme", "t"),
        ("credit.policy_set", "acme", "acme"),
        ("entitlements.set", "acme", "acme"),
        ("usage.voided", "acme", "e-1"),
        ("price.pulled", "", ""),
        ("price.imported", "", ""),
        ("price.approved", "", ""),
        ("price.approved", "", ""),
        ("price.set", "", "cost/openai@1.0"),
        ("price.retired", "", "v1"),
        ("price.markup_set", "", ""),
        ("usage.rerated", "acme", "acme"),
    ]
    assert {line.outcome for line in lines} == {"ok"}
    assert {(one.who, one.via, one.request_id, one.address) for one in lines} == {
        ("key:abc", "http", "r-1", "192.0.2.1")
    }
    details = {line.act: line.detail for line in lines}
    assert details["tenant.opened"] == {"currency": "EUR"}
    assert details["budget.set"] == {"document": {"cap": "5"}, "by": "ann"}
    assert details["entitlements.set"] == {"wanted": {"models": ["m*"]}, "by": "ann"}
    assert details["usage.voided"]["reason"] == "twice"
    assert details["price.imported"] == {"path": "f.json", "by": "ann"}
    assert details["price.set"]["rate"] == "1.5"
    assert details["price.set"]["key"]["model"] == "m"
    assert details["price.markup_set"] == {"percent": "20", "by": "ann"}


def test_each_act_of_billing_has_its_line(desk: Desk) -> None:
    """Plans, subscriptions, periods and invoices."""
    bill(desk)
    lines = desk.lines()
    assert [(line.act, line.tenant, line.target) for line in lines] == [
        ("plan.published", "", "team"),
        ("plan.retired", "", "team"),
        ("subscription.set", "acme", "team"),
        ("subscription.ended", "acme", "acme"),
        ("billing.details_set", "acme", "acme"),
        ("billing.settings_set", "", ""),
        ("period.closed", "", ""),
        ("period.reopened", "acme", "2026-01-01"),
        ("invoice.finalized", "acme", "i"),
        ("invoice.finalized", "", ""),
        ("invoice.moved", "acme", "i"),
        ("invoice.credited", "acme", "i"),
        ("job.run", "", "verify"),
    ]
    assert lines[2].detail == {"from_day": "2026-01-01", "by": "ann"}
    assert lines[4].detail["details"]["series"] == "A"
    assert lines[6].detail == {"periods": 3, "drafts": 1, "by": "ann"}
    assert lines[9].detail == {"invoices": 7, "by": "ann"}
    assert lines[10].detail == {"status": "paid", "by": "ann"}
    assert lines[11].detail["lines"] == {"2": "1.5"}
    assert lines[11].detail["note"] == "i-cn1"
    assert lines[12].detail == {"again": True, "state": "done", "attempt": 2}


def test_every_act_that_is_refused_is_written_with_its_code(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """About the same as if it had been done, as far as that is known then."""
    operate(desk)
    bill(desk)
    desk.services().corrections.adjust(
        AdjustUsage(
            tenant="acme",
            source="api",
            id="fix-2",
            target_source="gw",
            target_id="e-2",
            quantities={"tokens.input": "1"},
        )
    )
    services = desk.services()
    done, calls = desk.lines(), list(desk.calls)
    desk.error = Refused("no", code="busy")
    for part, name, arguments, named in calls:
        with pytest.raises(Refused):
            getattr(getattr(services, part), name)(*arguments, **named)
    refused = desk.lines()[len(done) :]
    assert [one.outcome for one in refused] == ["busy"] * len(done)
    assert [(one.act, one.tenant) for one in refused] == [(one.act, one.tenant) for one in done]
    # The version of a price that was not set is not known.
    assert {
        one.act for one, before in zip(refused, done, strict=True) if one.target != before.target
    } == {"price.set"}
    [note] = [one.detail["note"] for one in refused if one.act == "invoice.credited"]
    assert note == "cr"
    assert caplog.records == []
    acts = {one.name for members in module._ACTS.values() for one in members.values()}
    assert acts - {one.act for one in refused} <= {"key.issued", "key.rotated", "key.revoked"}


def test_an_act_stands_whatever_is_wrong_with_telling_of_it(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """Its line says at least who did what, and the defect is logged."""
    desk.answer = None  # which no publication answers
    assert desk.services().plans.publish(json.dumps(TEAM), by="ann") is None
    [line] = desk.lines()
    assert (line.act, line.who, line.target) == ("plan.published", "key:abc", "")
    assert "plan.published" in caplog.text


def test_keys_are_written_down_without_their_tokens() -> None:
    """Issued, rotated and revoked, each under the key's id and its tenant."""
    log = AuditLog(MemoryAuditLog(lambda: 1_800_000_000_000_000))
    keys = Keys(MemoryKeys(lambda: 1_800_000_000_000_000), secrets.token_bytes)
    services = audited(
        SimpleNamespace(keys=keys),  # type: ignore[arg-type] # all that is used
        log,
        Actor(who="ann", via="cli"),
    )
    first = services.keys.issue_first({"name": "first", "scopes": ["admin"]}, by="ann")
    assert services.keys.issue_first({"name": "first", "scopes": ["admin"]}, by="ann") is None
    terms = {"name": "gateway", "tenant": "acme", "scopes": ["read"]}
    issued = services.keys.issue(terms, by="ann")
    rotated = services.keys.rotate(issued.key.id, {"overlap_s": 5}, by="ann")
    services.keys.revoke(issued.key.id, by="ann", reason="leaked")
    services.keys.list()
    lines = list(reversed(log.list()))
    assert first is not None
    assert [(line.act, line.tenant, line.target) for line in lines] == [
        ("key.issued", "", first.key.id),
        ("key.issued", "acme", issued.key.id),
        ("key.rotated", "acme", issued.key.id),
        ("key.revoked", "acme", issued.key.id),
    ]
    assert lines[1].detail == terms
    assert lines[2].detail == {"overlap_s": 5, "successor": rotated.issued.key.id}
    assert lines[3].detail == {"reason": "leaked"}
    for one in (first, issued, rotated.issued):
        assert one.token.rsplit("_", 1)[1][:10] not in repr(lines)


def test_a_refused_act_is_written_with_its_code_and_still_refused(desk: Desk) -> None:
    """Input that cannot be read, and what names nothing, are no acts."""
    desk.error = Refused("no", code="key_not_live")
    with pytest.raises(Refused):
        desk.services().keys.rotate("abc", by="ann")
    for error in (InvalidInput("no"), NotFound("no")):
        desk.error = error
        with pytest.raises(type(error)):
            desk.services().keys.revoke("abc", by="ann")
    assert [(line.act, line.target, line.outcome) for line in desk.lines()] == [
        ("key.rotated", "abc", "key_not_live")
    ]


def test_a_refused_act_of_billing_is_written_with_its_code(desk: Desk) -> None:
    """Nothing came of it, so its line says what was wanted."""
    services = desk.services()
    desk.error = Refused("no", code="refused")
    acts: list[Callable[[], object]] = [
        lambda: services.plans.publish(json.dumps(TEAM), by="ann"),
        lambda: services.plans.retire("team", by="ann"),
        lambda: services.periods.close(by="ann", tenant="acme"),
        lambda: services.invoicing.finalize_all(by="ann", tenant="acme"),
        lambda: services.invoicing.credit("acme", "i", total=Decimal(1), reason="r", by="ann"),
    ]
    for act in acts:
        with pytest.raises(Refused):
            act()
    assert [(line.act, line.tenant, line.target, line.outcome) for line in desk.lines()] == [
        ("plan.published", "", "team", "refused"),
        ("plan.retired", "", "team", "refused"),
        ("period.closed", "acme", "", "refused"),
        ("invoice.finalized", "acme", "", "refused"),
        ("invoice.credited", "acme", "i", "refused"),
    ]


def test_an_act_that_changed_nothing_says_so(desk: Desk) -> None:
    """Outcomes that are answers and not exceptions are told apart."""
    services = desk.services()
    for outcome in (
        Outcome("duplicate"),
        Outcome("conflict", problem=Problem("tenant_differs", "no")),
        Outcome("unchanged"),
    ):
        desk.answer = outcome
        services.tenants.open("acme")
    assert [line.outcome for line in desk.lines()] == ["duplicate", "tenant_differs", "unchanged"]


def test_what_only_asks_passes_through(desk: Desk) -> None:
    """Without a line; other members are the very same."""
    services = desk.services()
    assert services.budgets.list is desk.plain.budgets.list
    assert services.reads == "reads"
    services.credits.list(tenant="acme")
    assert desk.lines() == []


def test_an_act_stands_when_its_line_cannot_be_written(
    desk: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged as an error, and the caller gets the answer."""

    def away(**members: object) -> None:
        raise Unavailable("the database is away")

    monkeypatch.setattr(desk.log, "write", away)
    with caplog.at_level(logging.ERROR):
        assert desk.services().tenants.open("acme") is desk.answer
    assert "tenant.opened of 'acme' is not in the audit log" in caplog.text
