"""Keys: issue, list, rotate and revoke them. A token is shown once."""
# No `from __future__ import annotations`: see adapters.http.management.

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from adapters.http.context import Context, Kept
from adapters.http.cursors import Listing
from adapters.http.management import Document, Doors, Paged, request_body
from adapters.http.models.admin import (
    IssuedKeyDocument,
    KeyDocument,
    KeyRequest,
    KeysDocument,
    RevokeRequest,
    RotatedKeyDocument,
    RotateRequest,
)
from ledger.application import ask_fields as fields
from ledger.application.access import check_may_grant
from ledger.application.documents.encoding import to_json
from ledger.application.documents.keys import key_document
from ledger.application.repeats import Command
from ledger.application.services import Services
from ledger.domain.errors import NotFound
from ledger.domain.keys import Key

MODELS = (KeyRequest, RevokeRequest, RotateRequest)
_PATH = "/v2/keys/{key:id}"
Id = Annotated[str, Path(description="Of the key; no secret.", max_length=256)]


def router(services: Services) -> APIRouter:
    """Return the routes."""
    api = APIRouter(tags=["admin"])
    doors = Doors(services)
    enter = doors.own_or_all("admin")

    @api.get("/v2/keys", response_model=KeysDocument)
    def keys(
        context: Annotated[Context, enter],
        page: Paged,
        ended: Annotated[bool, Query(description="Also expired and revoked ones.")] = False,
    ) -> Any:
        """List keys, the newest first; a key of a tenant sees that tenant's."""
        listing = Listing("keys", (context.only, ended))
        after = listing.place(page.cursor, tuple[int, str])
        found = [
            one
            for one in services.keys.list(tenant=context.only, ended=ended)
            if after is None or (one.issued_at, one.id) < after
        ]
        shown, following = listing.page(found, page.limit, lambda one: (one.issued_at, one.id))
        now = services.keys.now()
        return Document({"keys": [key_document(one, now=now) for one in shown], "next": following})

    @api.post(
        "/v2/keys",
        response_model=IssuedKeyDocument,
        openapi_extra=request_body(
            KeyRequest,
            example={"name": "gateway", "tenant": "acme", "scopes": ["holds:write"]},
            once=True,
        ),
    )
    def issue(context: Annotated[Context, enter]) -> Any:
        """Issue a key; the answer has its token, which nobody can get again.

        Repeated under its `Idempotency-Key` it answers the same key with a token of null, also
        where the first answer got lost on the way: revoke that key then, and issue another.
        """
        document = _of_one_tenant(context, context.document(tenant=False))
        _check_grant(context, document.get("tenant"), document.get("scopes"))

        def run(command: Command) -> Kept:
            issued = context.services.keys.issue(document, by=context.by, once=command.name)
            return _shown_once(issued.token, key_document(issued.key, now=services.keys.now()))

        return Document(context.once(run))

    @api.get(_PATH, response_model=KeyDocument)
    def key(context: Annotated[Context, enter], key: Id) -> Any:
        """Return a key."""
        return Document(key_document(_own(context, key), now=services.keys.now()))

    @api.post(
        f"{_PATH}/rotate",
        response_model=RotatedKeyDocument,
        openapi_extra=request_body(RotateRequest, example={"overlap_s": 3600}, once=True),
    )
    def rotate(context: Annotated[Context, enter], key: Id) -> Any:
        """Make a key's successor; the old one goes on for the overlap, then expires.

        Repeated under its `Idempotency-Key` it answers the same successor with a token of null.
        """
        old = _own(context, key)
        check_may_grant(context.exchange.who, tenant=old.tenant, scopes=old.scopes)
        document = context.document(tenant=False)

        def run(command: Command) -> Kept:
            rotated = context.services.keys.rotate(key, document, by=context.by, once=command.name)
            now = services.keys.now()
            successor = key_document(rotated.issued.key, now=now)
            replaced = {"replaces": key_document(rotated.old, now=now)}
            return _shown_once(rotated.issued.token, successor | replaced)

        return Document(context.once(run))

    @api.post(
        f"{_PATH}/revoke",
        response_model=KeyDocument,
        openapi_extra=request_body(RevokeRequest, example={"reason": "leaked"}),
    )
    def revoke(context: Annotated[Context, enter], key: Id) -> Any:
        """End a key at once, for good; again changes nothing."""
        _own(context, key)
        said = fields.read_members(context.document(tenant=False), {"reason": fields.text})
        ended = context.services.keys.revoke(key, by=context.by, reason=said.get("reason", ""))
        return Document(key_document(ended, now=services.keys.now()))

    return api


def _own(context: Context, id: str) -> Key:
    """Return a key that the caller may know of.

    Raises:
        NotFound: ``unknown_key``, also for keys of others.
    """
    found = context.services.keys.show(id)
    if context.only is not None and found.tenant != context.only:
        raise NotFound(f"there is no key {id[:40]!r}", code="unknown_key")
    return found


def _of_one_tenant(context: Context, document: dict[str, Any]) -> dict[str, Any]:
    """Return what a key shall be, of the tenant that the request is about if it is about one.

    Raises:
        Forbidden: ``foreign_tenant``.
        InvalidInput: ``invalid_tenant``.
    """
    if context.only is None:
        return document
    named = document.get("tenant", context.only)
    # Whatever is no name, null too, is none of this tenant.
    context.exchange.tenant(named if isinstance(named, str) else "", context.only)
    return {**document, "tenant": context.only}


def _check_grant(context: Context, tenant: object, scopes: object) -> None:
    """Check that the caller may give such a key; what cannot be read is refused later."""
    named = tenant if isinstance(tenant, str) else None
    wanted = [one for one in scopes if isinstance(one, str)] if isinstance(scopes, list) else []
    check_may_grant(context.exchange.who, tenant=named, scopes=wanted)


def _shown_once(token: str, document: dict[str, Any]) -> Kept:
    if not token:
        # Whoever got it died before it was answered; it is stored nowhere.
        return Kept(to_json({**document, "token": None}))
    return Kept(to_json({**document, "token": token}), to_json({**document, "token": None}))
