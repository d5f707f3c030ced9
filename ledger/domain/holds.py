"""Holds: their state, the commands about them, and their answers.

Instants and times are microseconds, money x 10^18, quantities of checkpoints x 10^6. Semantics:
docs/spec/holds.md.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

import msgspec

from ledger.domain.entitlements import Entitlements
from ledger.domain.entry_parts import Extra
from ledger.domain.protection_entries import Allocation, Binding, Promise, Reason
from ledger.domain.usage import DIGEST_BYTES, RESERVED_SOURCES, key_digest
from ledger.domain.wide import narrowed, widened

SECOND = 1_000_000
MIN_TTL_US = SECOND
MAX_TTL_US = 24 * 3600 * SECOND
DEFAULT_TTL_US = 300 * SECOND
ON_EXPIRY = ("capture_progress", "void", "capture_full")
KINDS = ("call", "lease")
HOLD_SOURCE = f"{RESERVED_SOURCES}hold"
"""Source of captures that name none, and of estimates."""
EXPIRY_SOURCE = f"{RESERVED_SOURCES}expiry"
"""Source of the usage that an expiry records; its id is the hold's."""
AVAILABLE = -1
"""In place of an amount: all that is left."""

OPEN = "open"
CAPTURED = "captured"
VOIDED = "voided"
EXPIRED = "expired"
REFUSED = "refused"
UNMATCHED = "unmatched"
"""Captures came, the authorization has not."""
STATUSES = (OPEN, CAPTURED, VOIDED, EXPIRED, REFUSED, UNMATCHED)


class HoldState(msgspec.Struct, array_like=True, omit_defaults=True):
    """What a ledger knows of one hold.

    Attributes:
        id: the client's.
        status: one of `STATUSES`.
        version: commit of the entry that answers for the id; 0 while none does.
        index: its place there.
        fingerprint: of the ask; b"" while there is none.
        code: of the authorization.
        at: when it was authorized or refused.
        expires_at: when it expires, or did.
        on_expiry: one of `ON_EXPIRY`.
        kind: one of `KINDS`.
        shape: number of the estimate's shape; -1 for none.
        quantities: of the estimate, in the decimals of its shape.
        reserved: charge that the hold reserved at most.
        amount: charge that is still reserved.
        bindings: still reserved in budgets.
        allocations: still reserved of grants.
        step: last extension.
        step_digest: its ask.
        progress_step: last checkpoint.
        meters: of the last checkpoint.
        numbers: of the last checkpoint, x 10^6.
        captured_meters: of what was captured.
        captured: cumulative, x 10^6.
        final: the last capture was final.
        usage: source and id of its usage event, ("", "") for none.
        usage_version: commit of that event's entry.
        usage_index: its place there.
        overrun: charge beyond what was reserved.
        late: captured after it was over.
        extra: attribution.
        by_event: a usage event came before the authorization and said what the call was.
        promises: what it may still use of a plan's charges.
    """

    id: str
    status: str = OPEN
    version: int = 0
    index: int = 0
    fingerprint: bytes = b""
    code: str = ""
    at: int = 0
    expires_at: int = 0
    on_expiry: str = ON_EXPIRY[0]
    kind: str = KINDS[0]
    shape: int = -1
    quantities: tuple[int, ...] = ()
    reserved: int = 0
    amount: int = 0
    bindings: tuple[Binding, ...] = ()
    allocations: tuple[Allocation, ...] = ()
    step: int = 0
    step_digest: bytes = b""
    progress_step: int = 0
    meters: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    captured_meters: tuple[str, ...] = ()
    captured: tuple[int, ...] = ()
    final: bool = False
    usage: tuple[str, str] = ("", "")
    usage_version: int = 0
    usage_index: int = 0
    overrun: int = 0
    late: bool = False
    extra: Extra | None = None
    by_event: bool = False
    promises: tuple[Promise, ...] = ()


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(HoldState)
_wide_decoder = msgspec.msgpack.Decoder(ext_hook=narrowed)


DIGESTS_KEPT = 4_096
"""Digests of ids that are kept: several times those of a batch."""


def act_digest(kind: str, id: str) -> bytes:
    """Return the 16-byte digest under which an id of a kind is kept: void, reversal and so on.

    It never equals the digest of a usage event's key.
    """
    return blake2b(id.encode(), digest_size=DIGEST_BYTES, person=kind.encode()).digest()


@lru_cache(maxsize=DIGESTS_KEPT)
def hold_digest(id: str) -> bytes:
    """Return the digest under which a hold is kept."""
    # Asked for four times a command: where it is read, looked up, decided and folded.
    return blake2b(id.encode(), digest_size=DIGEST_BYTES, person=b"hold").digest()


capture_key = lru_cache(maxsize=DIGESTS_KEPT)(key_digest)
"""`key_digest` of a capture, which is asked for three times a command."""


class Ask(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an authorization asks for, in canonical form; members in alphabetical order.

    The order of members is the order in which a differing one is named.

    Attributes:
        amount: charge x 10^18; None where quantities say it; `AVAILABLE` for all that is left.
        api_key: alias of the caller's key.
        batch: at the provider's batch price.
        billable: ``tenant`` or ``platform``.
        byok: with the tenant's own provider key.
        conversation: opaque id.
        currency: of the amounts; "" for the ledger's.
        kind: ``call`` or ``lease``.
        labels: name to value.
        min_amount: least that is worth having, x 10^18; None for all or nothing.
        model: to be called.
        on_expiry: one of `ON_EXPIRY`.
        plugin: opaque id.
        project: opaque id.
        provider: to be called.
        provider_account: alias of the account at the provider.
        quantities: estimated, meter to canonical decimal text.
        region: to be called.
        session: opaque id.
        tier: service tier.
        tools: names of tools that the call may use.
        ttl_us: how long it is held.
        user: opaque id.
    """

    amount: int | None = None
    api_key: str = ""
    batch: bool = False
    billable: str = "tenant"
    byok: bool = False
    conversation: str = ""
    currency: str = ""
    kind: str = "call"
    labels: dict[str, str] = {}
    min_amount: int | None = None
    model: str = ""
    on_expiry: str = "capture_progress"
    plugin: str = ""
    project: str = ""
    provider: str = ""
    provider_account: str = ""
    quantities: dict[str, str] = {}
    region: str = ""
    session: str = ""
    tier: str = ""
    tools: tuple[str, ...] = ()
    ttl_us: int = DEFAULT_TTL_US
    user: str = ""


class AuthorizeHold(msgspec.Struct, gc=False, frozen=True):
    """May this tenant make this call?

    Attributes:
        tenant: whose ledger.
        hold: the client's id.
        ask: what for.
        body: canonical JSON of ``ask``.
        key: `hold_digest` of the id.
        fingerprint: digest of ``body``.
        numbers: the quantities as integers.
        decimals: their decimals.
        dry: only say what the answer would be; nothing is kept.
    """

    tenant: str
    hold: str
    ask: Ask
    body: bytes
    key: bytes
    fingerprint: bytes
    numbers: tuple[int, ...]
    decimals: int
    dry: bool = False


class ExtendHold(msgspec.Struct, gc=False, frozen=True):
    """Reserve up to a target, as a stream grows.

    Attributes:
        tenant: whose ledger.
        hold: its id.
        step: rising, from 1.
        amount: charge to reserve in all, x 10^18; `AVAILABLE` for all that is left; None where
            quantities say it.
        quantities: cumulative estimate, canonical; {} where an amount says it.
        ttl_us: from now; 0 keeps the expiry.
    """

    tenant: str
    hold: str
    step: int
    amount: int | None = None
    quantities: dict[str, str] = {}
    ttl_us: int = 0


class ProgressHold(msgspec.Struct, gc=False, frozen=True):
    """Keep a checkpoint: cumulative quantities so far, canonical."""

    tenant: str
    hold: str
    step: int
    quantities: dict[str, str]


class CaptureHold(msgspec.Struct, gc=False, frozen=True):
    """Post what a call took.

    What is "" or None is taken from the hold; of a hold that is not known ``provider`` is
    ``unknown`` until its authorization comes.

    Attributes:
        tenant: whose ledger.
        hold: its id.
        source: who sends it.
        id: the client's; with ``source`` the idempotency key of the usage event.
        quantities: cumulative, meter to canonical decimal text.
        final: nothing more is to come.
        occurred_at: microseconds; None for the database's time.
        provider: as the response says.
        model: as the response says.
        tier: as the response says.
        region: as the response says.
        request_id: the provider's.
        outcome: ``ok``, ``error``, ``aborted``.
        raw: the provider's usage object as JSON text.
    """

    tenant: str
    hold: str
    source: str
    id: str
    quantities: dict[str, str]
    final: bool = True
    occurred_at: int | None = None
    provider: str = ""
    model: str = ""
    tier: str = ""
    region: str = ""
    request_id: str = ""
    outcome: str = "ok"
    raw: str = ""


class VoidHold(msgspec.Struct, gc=False, frozen=True):
    """Give a hold up.

    Attributes:
        tenant: whose ledger.
        void: id of this void.
        hold: id of the hold.
        reason: for people.
        force: although a checkpoint says that the provider was called.
    """

    tenant: str
    void: str
    hold: str
    reason: str = ""
    force: bool = False


class ReverseCharge(msgspec.Struct, gc=False, frozen=True):
    """Take part of a captured charge back.

    Attributes:
        tenant: whose ledger.
        reversal: id of this reversal.
        source: of the capture.
        capture: id of the capture, or of any usage event.
        amount: x 10^18, above 0.
        reason: for people.
    """

    tenant: str
    reversal: str
    source: str
    capture: str
    amount: int
    reason: str = ""


class ExpireHolds(msgspec.Struct, gc=False, frozen=True):
    """Expire what is due in one ledger; every command does so before anything else."""

    tenant: str


class SetEntitlements(msgspec.Struct, frozen=True):
    """Say what the tenant may use."""

    tenant: str
    entitlements: Entitlements
    by: str = ""


HoldCommand = AuthorizeHold | ExtendHold | ProgressHold | CaptureHold | VoidHold
"""Commands about one hold."""


class EstimateLine(msgspec.Struct, frozen=True):
    """One line of an estimate's formula: quantity x rate = amount.

    Attributes:
        meter: what is counted.
        quantity: x 10^6.
        rate: price of one unit x 10^(``rate_decimals``).
        rate_decimals: of ``rate``.
        version: of the price.
        amount: x 10^18.
    """

    meter: str
    quantity: int
    rate: int
    rate_decimals: int
    version: str
    amount: int


class HoldAnswer(msgspec.Struct, gc=False, frozen=True, omit_defaults=True):
    """The answer to a command about a hold, beside the code in `Outcome.status`.

    Attributes:
        hold: its id.
        decision: ``allow``, ``allow_partial``, ``allow_downgraded``, ``confirm``, ``deny``; "" for
            operations other than authorize.
        amount: charge that is reserved now, x 10^18.
        asked: charge that was asked for, x 10^18.
        currency: of both.
        provider: to be called.
        model: to be called.
        expires_at: of the hold.
        reasons: what bounds or refuses it.
        estimate: the formula.
        charge: charge that the hold has come to, x 10^18; captures only.
        overrun: charge beyond what was reserved, x 10^18; captures only.
        code: of the authorization, where the status is ``exists``.
    """

    hold: str
    decision: str = ""
    amount: int = 0
    asked: int = 0
    currency: str = ""
    provider: str = ""
    model: str = ""
    expires_at: int = 0
    reasons: tuple[Reason, ...] = ()
    estimate: tuple[EstimateLine, ...] = ()
    charge: int = 0
    overrun: int = 0
    code: str = ""


def hold_body(hold: HoldState) -> bytes:
    """Return the stored form of a hold's state; without promises, as before there were any."""
    members = msgspec.structs.astuple(hold)
    if not hold.promises:
        members = members[:-1]
    try:
        return _encoder.encode(members)
    except OverflowError:
        return _encoder.encode(widened(msgspec.to_builtins(members, builtin_types=(bytes,))))


def hold_of(body: bytes) -> HoldState:
    """Return the hold of a stored form."""
    try:
        return _decoder.decode(body)
    except msgspec.ValidationError:
        return msgspec.convert(_wide_decoder.decode(body), HoldState)


def command_digest(command: msgspec.Struct) -> bytes:
    """Return the 16-byte digest of a command's members."""
    body = msgspec.json.encode(command, order="sorted")
    return blake2b(body, digest_size=DIGEST_BYTES).digest()
