"""Use cases whose acts are written to the audit log, whoever calls them.

    services = audited(services, log, Actor(who="ann", via="cli"))
    services.budgets.set({"cap": "5"}, tenant="acme", name="monthly", by="ann")   # budget.set

An interface wraps its use cases once, or once a request, and cannot forget an act. What only asks
passes through untouched. An act that was refused is written too, with the code of its error; input
that could not be read, and names of nothing, are not: nothing was tried.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple, Protocol, cast

import msgspec

from ledger.application.audit_log import OK, AuditLog
from ledger.application.keys import NotRotated
from ledger.application.services import Services
from ledger.domain.commands import Outcome
from ledger.domain.errors import InvalidInput, LedgerError, NotFound, Unavailable
from ledger.domain.plans import plan_from_json
from ledger.domain.usage import AdjustUsage, VoidUsage

_log = logging.getLogger(__name__)

Arguments = Mapping[str, Any]


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who acts.

    Attributes:
        who: such as ``key:0123456789abc``, or the system's user.
        via: one of `ledger.application.audit_log.VIAS`.
        request_id: of the request.
        address: where it came from.
    """

    who: str
    via: str
    request_id: str = ""
    address: str = ""


class Told(NamedTuple):
    """What a line says of an act, besides who and what."""

    tenant: str | None
    target: str
    detail: dict[str, Any]


class _Teller(Protocol):
    def __call__(self, said: Arguments, result: Any, /) -> Told | None:
        """Tell of an act by its arguments, and its result or the error that refused it."""


class _Act(NamedTuple):
    name: str
    tell: _Teller


def audited(services: Services, log: AuditLog, actor: Actor) -> Services:
    """Return use cases whose acts are written down; cheap.

    A line that cannot be written does not undo its act: that is logged as an error.

    Args:
        services: do the work.
        log: gets a line for each act.
        actor: who acts.
    """
    return cast("Services", _Audited(services, _ACTS, log, actor))


class _Audited:
    """An object whose members may be acts, or objects with acts."""

    def __init__(
        self, target: object, acts: Mapping[str, Any], log: AuditLog, actor: Actor
    ) -> None:
        self._target = target
        self._acts = acts
        self._log = log
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._target, name)
        known = self._acts.get(name)
        if known is None:
            return member
        if isinstance(known, _Act):
            return self._watched(member, known)
        return _Audited(member, known, self._log, self._actor)

    def _watched(self, method: Callable[..., Any], act: _Act) -> Callable[..., Any]:
        def call(*positional: Any, **named: Any) -> Any:
            said = inspect.signature(method).bind(*positional, **named).arguments
            try:
                result = method(*positional, **named)
            except (InvalidInput, NotFound):
                raise
            except LedgerError as error:
                self._write(act, said, error, error.code)
                raise
            self._write(act, said, result, _outcome(result))
            return result

        return call

    def _write(self, act: _Act, said: Arguments, result: object, outcome: str) -> None:
        try:
            told = act.tell(said, result)
        except Exception:
            # The act was done, or refused; what is wrong with telling of it changes nothing.
            _log.exception("what %s did cannot be told", act.name)
            told = Told(None, "", {})
        if told is None:
            return
        by = said.get("by", "")
        also = {"by": by} if by and by != self._actor.who else {}
        try:
            self._log.write(
                act=act.name,
                who=self._actor.who,
                via=self._actor.via,
                tenant=told.tenant,
                target=told.target,
                request_id=self._actor.request_id,
                address=self._actor.address,
                outcome=outcome,
                detail=told.detail | also,
            )
        except Unavailable as error:
            _log.error("%s of %r is not in the audit log: %s", act.name, told.target, error)


def _outcome(result: object) -> str:
    if isinstance(result, Outcome) and result.status != "accepted":
        return result.problem.code if result.problem is not None else result.status
    return OK


# -- what is said of each act -------------------------------------------------------------


def _of_tenant(target: str, *members: str) -> _Teller:
    """Tell of an act on one of a tenant's things: its name is in the argument ``target``."""

    def tell(said: Arguments, result: Any, /) -> Told:
        del result
        return Told(said["tenant"], str(said.get(target, "")), _members(said, members))

    return tell


def _of_document(said: Arguments, result: Any, /) -> Told:
    """Tell of an act that a document describes; the id of what it makes is in there."""
    del result
    document = said["document"]
    return Told(said["tenant"], str(document.get("id", "")), {"document": document})


def _of_platform(*members: str) -> _Teller:
    """Tell of an act that is about no tenant."""

    def tell(said: Arguments, result: Any, /) -> Told:
        del result
        return Told(None, "", _members(said, members))

    return tell


def _of_versions(said: Arguments, result: Any, /) -> Told:
    del result
    versions: Sequence[str] = said["versions"]
    return Told(None, versions[0] if len(versions) == 1 else "", {"versions": list(versions)})


def _of_price(said: Arguments, result: Any, /) -> Told:
    row = said["row"]
    records = () if isinstance(result, LedgerError) else result.records
    versions = [one.version for one in records]
    detail = _members(said, ("kind", "book", "effective_from")) | {
        "key": row.key,
        "rate": row.rate,
        "unit_size": row.unit_size,
        "currency": row.currency,
    }
    return Told(None, ", ".join(versions), detail)


def _of_terms(said: Arguments, result: Any, /) -> Told:
    del result
    return Told(said["tenant"], said["terms"].name, {"terms": said["terms"]})


def _of_correction(said: Arguments, result: Any, /) -> Told:
    del result
    command: VoidUsage | AdjustUsage = said["command"]
    return Told(command.tenant, command.target_id, msgspec.structs.asdict(command))


def _of_opening(said: Arguments, result: Any, /) -> Told:
    del result
    return Told(said["name"], said["name"], _members(said, ("currency", "timezone", "book")))


def _of_new_key(said: Arguments, result: Any, /) -> Told | None:
    if result is None:
        # Nothing was issued: there was a key already.
        return None
    document = dict(said["document"])
    if isinstance(result, LedgerError):
        named = document.get("tenant")
        return Told(named if isinstance(named, str) else None, "", document)
    return Told(result.key.tenant, result.key.id, document)


def _of_rotation(said: Arguments, result: Any, /) -> Told:
    detail = dict(said.get("document") or {})
    if isinstance(result, NotRotated):
        return Told(result.key.tenant, said["id"], detail)
    if isinstance(result, LedgerError):
        return Told(None, said["id"], detail)
    return Told(result.old.tenant, said["id"], detail | {"successor": result.issued.key.id})


def _of_revocation(said: Arguments, result: Any, /) -> Told:
    tenant = None if isinstance(result, LedgerError) else result.tenant
    return Told(tenant, said["id"], _members(said, ("reason",)))


def _of_publication(said: Arguments, result: Any, /) -> Told:
    if isinstance(result, LedgerError):
        return Told(None, plan_from_json(said["document"]).name, {})
    return Told(None, result.name, {"version": result.latest})


def _of_plan(said: Arguments, result: Any, /) -> Told:
    done = {} if isinstance(result, LedgerError) else {"version": result.latest}
    return Told(None, said["name"], done)


def _of_close(said: Arguments, result: Any, /) -> Told:
    done = {}
    if not isinstance(result, LedgerError):
        done = {"periods": result.periods, "drafts": len(result.drafts)}
    return Told(said.get("tenant"), "", _members(said, ("grace_hours",)) | done)


def _of_drafts(said: Arguments, result: Any, /) -> Told:
    done = {} if isinstance(result, LedgerError) else {"invoices": result}
    return Told(said.get("tenant"), "", done)


def _of_credit_note(said: Arguments, result: Any, /) -> Told:
    detail = _members(said, ("total", "reason"))
    if said.get("note"):
        detail["note"] = said["note"]
    if said.get("lines") is not None:
        detail["lines"] = {str(number): amount for number, amount in said["lines"].items()}
    if not isinstance(result, LedgerError):
        detail["note"] = result.invoice.id
    return Told(said["tenant"], said["id"], detail)


def _of_job(said: Arguments, result: Any, /) -> Told:
    detail = _members(said, ("period", "again"))
    if not isinstance(result, LedgerError):
        detail |= {"state": result.state.value, "attempt": result.attempt}
    return Told(None, said["name"], detail)


def _members(said: Arguments, names: Sequence[str]) -> dict[str, Any]:
    return {
        name: str(said[name]) if isinstance(said[name], PurePath) else said[name]
        for name in names
        if name in said
    }


_ACTS: dict[str, dict[str, _Act]] = {
    "tenants": {"open": _Act("tenant.opened", _of_opening)},
    "budgets": {
        "set": _Act("budget.set", _of_tenant("name", "document")),
        "set_terms": _Act("budget.set", _of_terms),
        "close": _Act("budget.closed", _of_tenant("name")),
        "reopen": _Act("budget.reopened", _of_tenant("name")),
        "end": _Act("budget.ended", _of_tenant("name")),
        "confirm": _Act("budget.confirmed", _of_tenant("name", "document")),
        "waive": _Act("default_cap.waived", _of_tenant("tenant")),
    },
    "policies": {
        "set_default_cap": _Act("default_cap.set", _of_platform("limit", "currency")),
        "waive_default_cap": _Act("default_cap.waived", _of_platform()),
    },
    "credits": {
        "grant": _Act("credit.granted", _of_document),
        "refund": _Act("credit.refunded", _of_document),
        "transfer": _Act("credit.transferred", _of_document),
        "policy": _Act("credit.policy_set", _of_tenant("tenant", "required")),
    },
    "corrections": {
        "void": _Act("usage.voided", _of_correction),
        "adjust": _Act("usage.adjusted", _of_correction),
    },
    "entitlements": {"set": _Act("entitlements.set", _of_tenant("tenant", "wanted"))},
    "prices": {
        "pull": _Act("price.pulled", _of_platform("approve", "providers")),
        "import_litellm": _Act("price.imported", _of_platform("path", "approve")),
        "approve": _Act("price.approved", _of_versions),
        "approve_all": _Act("price.approved", _of_platform("providers")),
        "set": _Act("price.set", _of_price),
        "retire": _Act("price.retired", _of_versions),
        "markup": _Act("price.markup_set", _of_platform("percent", "book", "effective_from")),
        "rerate": _Act("usage.rerated", _of_tenant("tenant", "start", "end")),
    },
    "plans": {
        "publish": _Act("plan.published", _of_publication),
        "retire": _Act("plan.retired", _of_plan),
    },
    "subscriptions": {
        "subscribe": _Act("subscription.set", _of_tenant("plan", "version", "from_day", "anchor")),
        "end": _Act("subscription.ended", _of_tenant("tenant", "from_day")),
        "set_details": _Act("billing.details_set", _of_tenant("tenant", "details")),
    },
    "periods": {
        "close": _Act("period.closed", _of_close),
        "reopen": _Act("period.reopened", _of_tenant("first_day", "reason")),
    },
    "invoicing": {
        "finalize": _Act("invoice.finalized", _of_tenant("id")),
        "finalize_all": _Act("invoice.finalized", _of_drafts),
        "move": _Act("invoice.moved", _of_tenant("id", "status", "reason")),
        "credit": _Act("invoice.credited", _of_credit_note),
        "set_settings": _Act("billing.settings_set", _of_platform("details")),
    },
    "jobs": {"run": _Act("job.run", _of_job)},
    "keys": {
        "issue": _Act("key.issued", _of_new_key),
        "issue_first": _Act("key.issued", _of_new_key),
        "rotate": _Act("key.rotated", _of_rotation),
        "revoke": _Act("key.revoked", _of_revocation),
    },
}
