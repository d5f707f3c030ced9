"""How the commands of cost protection read their arguments and show answers."""

from __future__ import annotations

import getpass
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Group
from rich.text import Text

from adapters.cli.output import ExitCode, err, number, out, print_json, table
from ledger.application.billing_warnings import BillingWarning
from ledger.application.documents.protection import outcome_document
from ledger.domain.commands import Outcome
from ledger.domain.errors import InvalidInput
from ledger.domain.holds import EstimateLine, HoldAnswer
from ledger.domain.meters import QUANTITY_DECIMALS
from ledger.domain.money import AMOUNT_DECIMALS, from_scaled, scaled_text
from ledger.domain.periods import LATEST_US, from_us, to_us, zone
from ledger.domain.protection_entries import Reason

ByOption = Annotated[str, typer.Option("--by", help="Who decides; default: the system's user.")]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, help="Most rows to show.")]
SinceOption = Annotated[
    str, typer.Option("--since", help="Date (00:00 UTC) or time with an offset.")
]
AnyTenantOption = Annotated[
    str | None, typer.Option("--tenant", "-t", help="Whose ledger; all when left out.")
]
QuantityOption = Annotated[
    list[str] | None,
    typer.Option("--quantity", "-q", help="METER=NUMBER; may be repeated.", metavar="M=N"),
]
ReasonOption = Annotated[str, typer.Option("--reason", help="For people.")]
NeededReasonOption = Annotated[str, typer.Option("--reason", help="For people; has to be given.")]

_DONE = re.compile(
    "|".join(
        (
            "exists",
            "created",
            "extended",
            "progressed",
            "captured(_.*)?",
            "stale_capture",
            "voided(_.*)?",
            "hold_already_voided",
            "reversed",
        )
    )
)
"""Answers after which what was asked for is so; after others a command fails."""
_DENIED = re.compile(r"denied_.*|confirmation_required|created_resolved")


# -- reading arguments ----------------------------------------------------------------


def user(by: str) -> str:
    """Return who decides: as given, else the system's user."""
    if by:
        return by
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def pairs(given: Sequence[str] | None, option: str, example: str) -> dict[str, str]:
    """Return ``NAME=VALUE`` arguments as a mapping; each name once.

    Raises:
        InvalidInput: ``invalid_arguments``.
    """
    found: dict[str, str] = {}
    for one in given or ():
        name, equals, value = one.partition("=")
        if not (name and equals) or name in found:
            why = "names one twice" if name in found else "is not NAME=VALUE"
            raise InvalidInput(
                f"{option} {one!r} {why}; give each as in {option} {example}",
                code="invalid_arguments",
            )
        found[name] = value
    return found


def document(**members: object) -> dict[str, object]:
    """Return the members that were given: those that are not None, "", empty or False."""
    return {
        name: value
        for name, value in members.items()
        if value is not None and value is not False and value != "" and value not in ([], {}, ())
    }


def since_us(value: str) -> int | None:
    """Return a day's start in UTC, or a time with an offset, in microseconds; None for "".

    Raises:
        InvalidInput: ``invalid_time``.
    """
    if not value:
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        at = None
    if at is not None and len(value) == 10:
        at = at.replace(tzinfo=UTC)
    if at is None or at.tzinfo is None:
        raise InvalidInput(
            f"{value!r} is not a date such as 2026-11-01 or a time with an offset such as"
            " 2026-11-01T12:00:00+01:00",
            code="invalid_time",
            pointer="/since",
        )
    return to_us(at)


# -- values ---------------------------------------------------------------------------


def money(amount: int) -> str:
    """Return an amount x 10^18 in full: thousands set apart, no trailing zeros."""
    return number(from_scaled(amount, AMOUNT_DECIMALS))


def measured(amount: int, measure: str, currency: str) -> str:
    """Return what a budget measures, with its unit."""
    if measure in ("charge", "cost"):
        return f"{money(amount)} {currency}".rstrip()
    return number(from_scaled(amount, QUANTITY_DECIMALS))


def moment(at: int, timezone: str) -> str:
    """Return an instant for people, in a tenant's zone; "-" for 0 and for what is far off."""
    if not 0 < at < LATEST_US:
        return "-"
    return from_us(at).astimezone(zone(timezone)).isoformat(sep=" ", timespec="seconds")


def say(line: str) -> None:
    """Print a line for people."""
    out().print(line, markup=False, soft_wrap=True)


def warn(warnings: Iterable[BillingWarning]) -> None:
    """Print warnings for people, where notes and errors go."""
    for one in warnings:
        err().print(f"warning [{one.code}]: {one.detail}", markup=False, soft_wrap=True)


# -- answers --------------------------------------------------------------------------


def end_by(outcome: Outcome) -> None:
    """End the command with the exit code of an answer; returns where that is 0."""
    detail = outcome.detail
    decision = detail.decision if detail is not None else ""
    if decision in ("deny", "confirm") or _DENIED.fullmatch(outcome.status):
        _exit(ExitCode.DENIED)
    if decision.startswith("allow"):
        return
    if not _DONE.fullmatch(outcome.status):
        _exit(ExitCode.USAGE)


def _exit(code: ExitCode) -> NoReturn:
    raise typer.Exit(code)


def show_outcome(outcome: Outcome, *, json: bool, windows: Mapping[str, str] | None = None) -> None:
    """Show an answer about a hold, and end the command with its exit code.

    Args:
        outcome: of the command.
        json: for programs.
        windows: of a simulation: the current window by budget, for people.
    """
    if json:
        print_json(outcome_document(outcome))
    else:
        say_outcome(outcome, windows)
    end_by(outcome)


def say_outcome(outcome: Outcome, windows: Mapping[str, str] | None = None) -> None:
    """Show an answer about a hold to people; ``windows`` as in `show_outcome`."""
    detail = outcome.detail
    if detail is None or not detail.decision:
        said = outcome.status
        if detail is not None:
            parts = (
                ("charge", detail.charge),
                ("reserved", detail.amount),
                ("overrun", detail.overrun),
            )
            said += "".join(
                f", {name} {measured(value, 'charge', detail.currency)}"
                for name, value in parts
                if value
            )
        say(said)
    else:
        _say_decision(detail, outcome.status, windows)
    if outcome.problem is not None:
        say(outcome.problem.message)


def _say_decision(detail: HoldAnswer, status: str, windows: Mapping[str, str] | None) -> None:
    say(f"{detail.decision} ({detail.code or status})")
    currency = detail.currency
    if detail.decision.startswith("allow"):
        if detail.provider or detail.model:
            say(f"call {detail.provider or 'any provider'} {detail.model or 'any model'}")
        verb = "reserved" if windows is None else "would reserve"
        say(f"{verb} {measured(detail.amount, 'charge', currency)} of {money(detail.asked)}")
    else:
        say(f"asked {measured(detail.asked, 'charge', currency)}")
    if detail.estimate:
        out().print(estimate_table(detail.estimate, currency))
    if detail.reasons:
        out().print(reasons_table(detail.reasons, currency, windows or {}))


def estimate_table(lines: Iterable[EstimateLine], currency: str) -> Any:
    """Return an estimate's formula as a table: quantity x rate = amount."""
    columns = (
        ("meter", False),
        ("quantity", True),
        ("x rate", True),
        (f"= {currency}", True),
        ("price", False),
    )
    return table(
        columns,
        (
            (
                one.meter,
                number(from_scaled(one.quantity, QUANTITY_DECIMALS)),
                scaled_text(one.rate, one.rate_decimals) if one.rate or not one.amount else "-",
                money(one.amount),
                one.version,
            )
            for one in lines
        ),
    )


def reasons_table(reasons: Iterable[Reason], currency: str, windows: Mapping[str, str]) -> Any:
    """Return reasons as a table: each budget with limit, spent, held, asked and available.

    Args:
        reasons: of a decision.
        currency: of the ledger; a cost may be in another, which the budget itself says.
        windows: by budget, where they are known.
    """
    listed = list(reasons)
    lines = [
        Text(f"{one.code} {one.name} {one.detail}".rstrip()) for one in listed if not one.measure
    ]
    counted = [one for one in listed if one.measure]
    if not counted:
        return Group(*lines)
    columns = (
        ("why", False),
        ("budget", False),
        ("limit", True),
        ("spent", True),
        ("held", True),
        ("asked", True),
        ("available", True),
    )
    rows = (_reason_cells(one, currency, windows.get(one.name, "")) for one in counted)
    return Group(*lines, table(columns, rows))


def _reason_cells(reason: Reason, currency: str, window: str) -> tuple[str, ...]:
    measure = currency if reason.measure == "charge" else reason.measure
    name = "; ".join(part for part in (reason.name, measure, window, reason.detail) if part)
    amounts = (
        reason.limit,
        reason.spent,
        reason.held,
        reason.asked,
        reason.limit - reason.spent - reason.held,
    )
    shown = (measured(amount, reason.measure, "") for amount in amounts)
    return (reason.code, name, *shown)
