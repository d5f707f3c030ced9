"""``tallybook keys``: issue, list, rotate and revoke keys, and see what they are used for."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from adapters.cli.output import JsonOption, err, number, out, print_json, table
from adapters.cli.protection_output import (
    AnyTenantOption,
    ByOption,
    LimitOption,
    ReasonOption,
    SinceOption,
    document,
    moment,
    say,
    since_us,
    user,
)
from adapters.cli.services import OpenServices
from ledger.application.access import SCOPES
from ledger.application.documents.audit import uses_document
from ledger.application.documents.keys import key_document
from ledger.application.keys import OVERLAP_S, IssuedKey
from ledger.domain.errors import InvalidInput
from ledger.domain.keys import Key

IdArgument = Annotated[str, typer.Argument(help="Id of the key, or its token.", metavar="ID")]
_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION = re.compile(r"([0-9]{1,9})([smhd]?)", re.ASCII)


def register(app: typer.Typer, open_services: OpenServices) -> None:
    """Add the commands to the command line."""
    keys = typer.Typer(help="Keys of the HTTP interface.", no_args_is_help=True)
    app.add_typer(keys, name="keys")
    _register_issue(keys, open_services)
    _register_questions(keys, open_services)
    _register_changes(keys, open_services)
    _register_uses(keys, open_services)


def _register_issue(keys: typer.Typer, open_services: OpenServices) -> None:
    @keys.command()
    def issue(
        name: Annotated[str, typer.Argument(help="For people: who or what gets it.")],
        *,
        scope: Annotated[
            list[str], typer.Option("--scope", "-s", help=f"Any of {', '.join(SCOPES)}.")
        ],
        tenant: Annotated[
            str, typer.Option("--tenant", "-t", help="Whose data it opens; none other's.")
        ] = "",
        platform: Annotated[
            bool, typer.Option("--platform", help="Instead of a tenant: it opens everybody's.")
        ] = False,
        mode: Annotated[str, typer.Option(help="live or test; shown in the token.")] = "",
        note: Annotated[str, typer.Option(help="For people.")] = "",
        expires: Annotated[str, typer.Option("--expires", help="Time with an offset.")] = "",
        network: Annotated[
            list[str] | None,
            typer.Option("--network", help="Only from here, such as 192.0.2.0/24; repeatable."),
        ] = None,
        per_second: Annotated[int, typer.Option(min=0, help="Most requests a second.")] = 0,
        burst: Annotated[int, typer.Option(min=0, help="Most requests at once.")] = 0,
        by: ByOption = "",
        json: JsonOption = False,
    ) -> None:
        """Issue a key. Its token is printed now and never again."""
        if bool(tenant) == platform:
            raise InvalidInput(
                "give --tenant NAME, or --platform for a key that opens everybody's data",
                code="invalid_arguments",
            )
        asked = document(
            name=name,
            scopes=scope,
            tenant=tenant,
            mode=mode,
            note=note,
            expires_at=expires,
            networks=network,
        )
        asked |= {
            member: most for member, most in (("per_second", per_second), ("burst", burst)) if most
        }
        with open_services() as services:
            issued = services.keys.issue(asked, by=user(by))
            now = services.keys.now()
        _show_issued(issued, now, json=json)


def _show_issued(issued: IssuedKey, now: int, *, json: bool, **more: Any) -> None:
    """Print a token: alone on standard output, so that it can be taken from there."""
    if json:
        print_json({"token": issued.token, **key_document(issued.key, now=now), **more})
        return
    err().print(
        f"key {issued.key.id} for {issued.key.tenant or 'the platform'}; its token is shown this"
        " once:",
        markup=False,
    )
    say(issued.token)


def _register_questions(keys: typer.Typer, open_services: OpenServices) -> None:
    @keys.command(name="list")
    def list_(
        *,
        tenant: AnyTenantOption = None,
        platform: Annotated[
            bool, typer.Option("--platform", help="Only those of the platform.")
        ] = False,
        ended: Annotated[
            bool, typer.Option("--ended", help="Also those that expired or were revoked.")
        ] = False,
        json: JsonOption = False,
    ) -> None:
        """List keys, the newest first."""
        if tenant is not None and platform:
            raise InvalidInput("give --tenant or --platform, not both", code="invalid_arguments")
        with open_services() as services:
            found = services.keys.list(tenant="" if platform else tenant, ended=ended)
            now = services.keys.now()
        if json:
            print_json([key_document(one, now=now) for one in found])
        elif found:
            out().print(_keys_table(found, now))
        else:
            err().print("no keys: `tallybook keys issue` makes one")

    @keys.command()
    def show(id: IdArgument, *, json: JsonOption = False) -> None:
        """Show a key."""
        with open_services() as services:
            found = services.keys.show(_id(id))
            now = services.keys.now()
        shown = key_document(found, now=now)
        if json:
            print_json(shown)
            return
        for name, value in shown.items():
            if value not in (None, "", [], 0):
                text = ", ".join(value) if isinstance(value, list) else str(value)
                say(f"{name.replace('_', ' '):<12} {text}")


def _register_changes(keys: typer.Typer, open_services: OpenServices) -> None:
    @keys.command()
    def rotate(
        id: IdArgument,
        *,
        overlap: Annotated[
            str, typer.Option(help="How long the old one goes on: 90s, 30m, 24h, 7d, 0.")
        ] = f"{OVERLAP_S // 3600}h",
        expires: Annotated[str, typer.Option("--expires", help="Of the new one.")] = "",
        by: ByOption = "",
        json: JsonOption = False,
    ) -> None:
        """Make a key's successor, with the same terms; the old one goes on for a while."""
        asked = document(expires_at=expires) | {"overlap_s": _seconds(overlap)}
        with open_services() as services:
            rotated = services.keys.rotate(_id(id), asked, by=user(by))
            now = services.keys.now()
        old = key_document(rotated.old, now=now)
        _show_issued(rotated.issued, now, json=json, old=old)
        if not json:
            err().print(f"{rotated.old.id} goes on until {old['expires_at']}", markup=False)

    @keys.command()
    def revoke(
        id: IdArgument, *, by: ByOption = "", reason: ReasonOption = "", json: JsonOption = False
    ) -> None:
        """End a key at once, for good."""
        with open_services() as services:
            revoked = services.keys.revoke(_id(id), by=user(by), reason=reason)
            now = services.keys.now()
        if json:
            print_json(key_document(revoked, now=now))
        else:
            say(f"{revoked.id} was revoked {moment(revoked.revoked_at or 0, 'UTC')}")


def _register_uses(keys: typer.Typer, open_services: OpenServices) -> None:
    @keys.command()
    def uses(
        *,
        tenant: AnyTenantOption = None,
        key: Annotated[str, typer.Option("--key", help="Only of this key.")] = "",
        since: SinceOption = "",
        daily: Annotated[bool, typer.Option("--daily", help="Each day apart (UTC).")] = False,
        limit: LimitOption = 50,
        json: JsonOption = False,
    ) -> None:
        """Show which keys called what, those used last first."""
        start = since_us(since)
        with open_services() as services:
            found = services.key_uses.report(
                tenant=tenant,
                key=_id(key) if key else None,
                since=start,
                daily=daily,
                limit=limit,
            )
        if json:
            print_json([uses_document(one) for one in found])
        elif found:
            columns = [
                ("key", False),
                ("tenant", False),
                *([("day", False)] if daily else []),
                ("route", False),
                ("status", False),
                ("uses", True),
                ("last", False),
            ]
            rows = [
                (
                    one.key,
                    one.tenant or "-",
                    *([str(one.day)] if daily else []),
                    one.route,
                    f"{one.status}xx",
                    number(one.uses),
                    moment(one.last_at, "UTC"),
                )
                for one in found
            ]
            out().print(table(columns, rows))
        else:
            err().print("no key was used")


def _keys_table(keys: Any, now: int) -> Any:
    columns = [
        ("id", False),
        ("name", False),
        ("tenant", False),
        ("scopes", False),
        ("status", False),
        ("expires", False),
    ]
    return table(columns, [_cells(one, now) for one in keys])


def _cells(key: Key, now: int) -> tuple[str, ...]:
    return (
        key.id,
        key.name,
        key.tenant or "(platform)",
        " ".join(key.scopes),
        key.status(now) + (", test" if key.mode == "test" else ""),
        "-" if key.expires_at is None else moment(key.expires_at, "UTC"),
    )


def _id(given: str) -> str:
    """Return the id of a key that is named by its id or, as people do, by its token."""
    parts = given.split("_")
    return parts[2] if len(parts) == 4 and parts[0] == "tbk" else given


def _seconds(text: str) -> int:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise InvalidInput(
            f"{text[:40]!r} is no time; give such as 90s, 30m, 24h, 7d or 0",
            code="invalid_overlap_s",
        )
    return int(match[1]) * _UNITS_S[match[2] or "s"]
