"""One entry as a document, with all that it keeps."""

from __future__ import annotations

from typing import Any

from ledger.application.documents.encoding import to_plain
from ledger.application.documents.events import Listing
from ledger.application.reads import Located
from ledger.domain.entries import (
    ConflictKept,
    UsageAdjusted,
    UsageRerated,
    UsageVoided,
)
from ledger.domain.entry_parts import Extra
from ledger.domain.errors import NotFound
from ledger.domain.protection_entries import ChargeReversed

_REASONED = UsageVoided | UsageAdjusted | UsageRerated | ChargeReversed
_NOTHING = Extra()


def entry_document(listing: Listing, located: Located) -> dict[str, Any]:
    """Return an entry: its line, and what lines leave out.

    ``raw`` and ``payload`` are JSON as text, letter by letter.

    Raises:
        NotFound: ``unknown_event`` for an entry that is about no usage.
    """
    line = listing.line(located)
    if line is None:
        raise NotFound(
            f"the entry at {located.version}.{located.index} is about no usage",
            code="unknown_event",
        )
    entry = located.commit.entries[located.index]
    document: dict[str, Any] = {
        **to_plain(line),
        "receipt": f"{located.version}.{located.index}",
        "tenant": located.tenant.tenant,
        "currency": located.tenant.currency,
        "commit": {
            "version": located.version,
            "digest": located.digest,
            "position": located.position,
        },
    }
    said = listing.said(entry)
    if said is not None:
        shape, extra = said.shape, said.extra or _NOTHING
        document |= {
            "tier": shape.tier,
            "region": shape.region,
            "batch": shape.batch,
            "provider_account": shape.provider_account,
            "attempt": shape.attempt,
            "billable": shape.billable,
            "byok": shape.byok,
            "missing_prices": list(shape.missing),
            "api_key": extra.api_key,
            "conversation": extra.conversation,
            "plugin": extra.plugin,
            "hold": extra.hold,
            "labels": extra.labels,
            "raw": extra.raw.decode() if extra.raw else None,
        }
    if isinstance(entry, _REASONED):
        document["reason"] = entry.reason
    if isinstance(entry, ConflictKept):
        document["payload"] = entry.payload.decode()
        document["original"] = f"{entry.version}.{entry.index}"
    return document
