"""``tallybook holds lease``: permission to spend while the ledger is out, signed in advance.

tallybook holds lease key                                     # for the gateway, once
tallybook holds lease issue l-1 -t acme --amount 5 --ttl 3600
tallybook holds lease spend TOKEN call-1 0.02 --file l-1.json --public-key KEY
tallybook holds lease settle l-1 -t acme

``show``, ``verify`` and ``spend`` ask no database.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from adapters.cli.call_options import with_call_options
from adapters.cli.output import ExitCode, JsonOption, TenantOption, err, out, print_json, table
from adapters.cli.protection_output import (
    ReasonOption,
    document,
    end_by,
    measured,
    say,
    say_outcome,
)
from adapters.cli.services import OpenServices
from ledger.application.documents.amounts import amount_text
from ledger.application.documents.protection import outcome_document, read_outcome
from ledger.application.leases import (
    KIND,
    LeaseToken,
    Signer,
    Verifier,
    check_token,
    issue,
    key_id,
    peek_token,
    read_token,
)
from ledger.application.local_lease import LocalLease
from ledger.domain.errors import InvalidInput, Refused
from ledger.domain.money import text
from ledger.domain.periods import to_us

NO_SUCH_OPTIONS = ("quantity", "tool", "tier", "region", "batch")
"""A lease is of an amount, whatever its calls will be."""

TokenArgument = Annotated[str, typer.Argument(help="As issue printed it.", metavar="TOKEN")]
LeaseArgument = Annotated[str, typer.Argument(help="Id of the lease.", metavar="LEASE")]
KeyOption = Annotated[
    str,
    typer.Option(
        "--public-key", help="Of the ledger, 64 hexadecimal digits; default: of its key here."
    ),
]


class LeaseKeys(Protocol):
    """The ledger's signing key, by its place, and other ledgers' public keys."""

    @property
    def path(self) -> Path:
        """Return where the key is, or will be."""
        ...

    def signer(self) -> Signer:
        """Return what signs; makes the key if there is none."""
        ...

    def public_key(self) -> bytes | None:
        """Return the public key; None where there is no key yet."""
        ...

    def verifier(self, public_key: bytes) -> Verifier:
        """Return what verifies signatures of a public key."""
        ...


def register(holds: typer.Typer, open_services: OpenServices, keys: LeaseKeys) -> None:
    """Add the commands to the group of holds."""
    lease = typer.Typer(
        help="Leases: what a gateway may spend while the ledger is out.", no_args_is_help=True
    )
    holds.add_typer(lease, name="lease")
    _register_key(lease, keys)
    _register_issue(lease, open_services, keys)
    _register_offline(lease, keys)
    _register_spend(lease, keys)
    _register_settle(lease, open_services)


def _register_key(lease: typer.Typer, keys: LeaseKeys) -> None:
    @lease.command()
    def key(*, json: JsonOption = False) -> None:
        """Print the public key that verifies leases; makes the ledger's key if there is none."""
        public_key = keys.signer().public_key
        if json:
            shown = {"public_key": public_key.hex(), "key": key_id(public_key)}
            print_json(shown | {"file": str(keys.path)})
        else:
            say(public_key.hex())
            err().print(f"the private key is in {keys.path}", markup=False, soft_wrap=True)


def _register_issue(lease: typer.Typer, open_services: OpenServices, keys: LeaseKeys) -> None:
    def issue_(
        lease: LeaseArgument,
        tenant: TenantOption,
        *,
        call: dict[str, object],
        ttl: Annotated[str, typer.Option("--ttl", help="Seconds, at most a day.")] = "",
        json: JsonOption = False,
    ) -> None:
        """Reserve an amount and print a signed token for it; exit 3 if that is not allowed.

        The same again prints the same token, until usage of it is recorded.
        """
        ask = call | document(hold=lease, ttl=ttl)
        signer = keys.signer()
        with open_services() as services:
            outcome, token = issue(holds=services.holds, signer=signer, document=ask, tenant=tenant)
        read_outcome(outcome)
        if json:
            print_json(outcome_document(outcome) | {"token": token})
        else:
            say_outcome(outcome)
            if token is not None:
                say(token)
        end_by(outcome)

    lease.command("issue")(with_call_options(issue_, without=NO_SUCH_OPTIONS))


def _register_offline(lease: typer.Typer, keys: LeaseKeys) -> None:
    @lease.command()
    def show(token: TokenArgument, *, public_key: KeyOption = "", json: JsonOption = False) -> None:
        """Show what a token says, whatever it is worth: who signed it, and whether it is over."""
        said = peek_token(token)
        shown = _document(said)
        known = _public_key(keys, public_key, must=False)
        if known is None:
            shown["signature"] = "unknown"
        else:
            shown["signature"] = "good" if _is_good(token, keys.verifier(known)) else "bad"
        if json:
            print_json(shown)
        else:
            lines = [(name.replace("_", " "), str(value)) for name, value in shown.items()]
            out().print(table((("", False), ("", False)), lines))

    @lease.command()
    def verify(
        token: TokenArgument, *, public_key: KeyOption = "", json: JsonOption = False
    ) -> None:
        """Check that the ledger signed a token and that it is not over; exit 3 if not."""
        verifier = _verifier(keys, public_key)
        try:
            said = read_token(token, verifier=verifier, now=datetime.now(UTC))
        except Refused as refusal:
            if json:
                print_json({"valid": False, "code": refusal.code, "message": refusal.message})
            else:
                say(f"not valid ({refusal.code}): {refusal.message}")
            raise typer.Exit(ExitCode.DENIED) from None
        if json:
            print_json({"valid": True} | _document(said))
        else:
            say(f"valid: {said.amount} {said.currency} of {said.tenant} until {said.expires_at}")


def _register_spend(lease: typer.Typer, keys: LeaseKeys) -> None:
    @lease.command()
    def spend(
        token: TokenArgument,
        call: Annotated[str, typer.Argument(help="Id of the call.", metavar="CALL")],
        amount: Annotated[str, typer.Argument(help="At most what it will cost.", metavar="AMOUNT")],
        file: Annotated[
            Path, typer.Option("--file", help="Keeps what was spent; one for each token.")
        ],
        *,
        public_key: KeyOption = "",
        json: JsonOption = False,
    ) -> None:
        """Spend against a token, once for each call's id; exit 3 where no more is left."""
        verifier = _verifier(keys, public_key)
        with LocalLease(path=file, token=token, verifier=verifier) as local:
            allowed = local.authorize(call, amount)
            spent, left, currency = local.spent, local.left, local.token.currency
        if json:
            shown = {"allowed": allowed, "spent": text(spent), "left": text(left)}
            print_json(shown | {"currency": currency})
        else:
            word = "allowed" if allowed else "not allowed"
            say(f"{word}: {text(spent)} {currency} spent, {text(left)} left")
        if not allowed:
            raise typer.Exit(ExitCode.DENIED)


def _register_settle(lease: typer.Typer, open_services: OpenServices) -> None:
    @lease.command()
    def settle(
        lease: LeaseArgument,
        tenant: TenantOption,
        *,
        reason: ReasonOption = "",
        json: JsonOption = False,
    ) -> None:
        """Give the rest of a lease back once its usage is recorded; say what was recorded of it.

        Usage that comes later is recorded too, as late.
        """
        with open_services() as services:
            _require_lease(services.protection_reads.hold(lease, tenant=tenant).hold.kind, lease)
            sent = document(void=lease, reason=reason)
            outcome = read_outcome(services.holds.void(sent, tenant=tenant, hold=lease))
            row = services.protection_reads.hold(lease, tenant=tenant)
        released = 0
        if outcome.status == "voided" and outcome.detail is not None:
            released = outcome.detail.amount
        overrun, leased = row.hold.overrun, row.hold.reserved
        shown: dict[str, Any] = {
            "status": outcome.status,
            "lease": lease,
            "state": row.status,
            "leased": amount_text(leased),
            "released": amount_text(released),
            "overrun": amount_text(overrun),
            "currency": row.tenant.currency,
        }
        if outcome.status == "voided":
            shown["recorded"] = amount_text(leased - released + overrun)
        if json:
            print_json(shown)
        else:
            currency = row.tenant.currency
            say(f"{outcome.status}, {measured(released, 'charge', currency)} released")
            if overrun:
                say(f"{measured(overrun, 'charge', currency)} more than leased was recorded")
        if outcome.status != "hold_already_expired":
            end_by(outcome)


def _require_lease(kind: str, id: str) -> None:
    if kind != KIND:
        raise InvalidInput(
            f"{id!r} is a hold of one call; capture or void it", code="invalid_lease"
        )


def _document(said: LeaseToken) -> dict[str, Any]:
    return {
        "tenant": said.tenant,
        "lease": said.lease,
        "amount": said.amount,
        "currency": said.currency,
        "expires_at": said.expires_at,
        "expired": to_us(datetime.now(UTC)) >= said.expires_us,
        "key": said.key,
    }


def _is_good(token: str, verifier: Verifier) -> bool:
    try:
        check_token(token, verifier=verifier)
    except Refused:
        return False
    return True


def _verifier(keys: LeaseKeys, given: str) -> Verifier:
    return keys.verifier(_public_key(keys, given) or b"")


def _public_key(keys: LeaseKeys, given: str, *, must: bool = True) -> bytes | None:
    """Return the public key that was given, else the ledger's; None where nobody knows one.

    Raises:
        InvalidInput: ``invalid_public_key``: it is not hexadecimal, or there has to be one.
    """
    if given:
        try:
            return bytes.fromhex(given)
        except ValueError:
            raise InvalidInput(
                "a public key is 64 hexadecimal digits, as `tallybook holds lease key` prints it",
                code="invalid_public_key",
            ) from None
    known = keys.public_key()
    if known is None and must:
        raise InvalidInput(
            f"there is no key in {keys.path}; give the ledger's with --public-key",
            code="invalid_public_key",
        )
    return known
