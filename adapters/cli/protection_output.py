"""How the commands of cost protection read their arguments and show holds and decisions."""

from __future__ import annotations

import getpass
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, NoReturn

import typer

from adapters.cli.output import ExitCode, number, out, print_json, table
from ledger.application.protection_reads import DecisionRow, HoldRow
from ledger.domain.commands import Outcome
from ledger.domain.errors import InvalidInput
from ledger.domain.holds import EstimateLine, HoldAnswer
from ledger.domain.meters import QUANTITY_DECIMALS
from ledger.domain.money import AMOUNT_DECIMALS, from_scaled, scaled_text
from ledger.domain.periods import from_us, to_us, zone
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


def measured_text(amount: int, measure: str) -> str:
    """Return what a budget measures as canonical decimal text."""
    decimals = AMOUNT_DECIMALS if measure in ("charge", "cost") else QUANTITY_DECIMALS
    return scaled_text(amount, decimals)


def amount_text(amount: int) -> str:
    """Return an amount x 10^18 as canonical decimal text."""
    return scaled_text(amount, AMOUNT_DECIMALS)


def moment(at: int, timezone: str) -> str:
    """Return an instant for people, in a tenant's zone; "-" for 0."""
    if not at:
        return "-"
    return from_us(at).astimezone(zone(timezone)).isoformat(sep=" ", timespec="seconds")


def utc_text(at: int) -> str | None:
    """Return an instant for programs; None for 0."""
    return from_us(at).isoformat().replace("+00:00", "Z") if at else None


def say(line: str) -> None:
    """Print a line for people."""
    out().print(line, markup=False, soft_wrap=True)


# -- answers --------------------------------------------------------------------------


def read_outcome(outcome: Outcome) -> Outcome:
    """Return an outcome unless the document could not be read.

    Raises:
        InvalidInput: it could not; the problem's code, message and pointer.
    """
    problem = outcome.problem
    if problem is not None and (
        outcome.status.startswith("invalid_") or outcome.status in ("unknown_member", "rejected")
    ):
        raise InvalidInput(problem.message, code=problem.code, pointer=problem.pointer)
    return outcome


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


def outcome_document(outcome: Outcome) -> dict[str, Any]:
    """Return an answer about a hold for programs."""
    shown: dict[str, Any] = {"status": outcome.status}
    if outcome.version:
        shown["receipt"] = f"{outcome.version}.{outcome.index}"
    if outcome.flags:
        shown["flags"] = list(outcome.flags)
    if outcome.problem is not None:
        shown["message"] = outcome.problem.message
    detail = outcome.detail
    if detail is None:
        return shown
    shown["hold"] = detail.hold
    if detail.decision:
        shown["decision"] = detail.decision
        shown["asked"] = amount_text(detail.asked)
    shown |= {
        "code": detail.code or outcome.status,
        "amount": amount_text(detail.amount),
        "charge": amount_text(detail.charge),
        "overrun": amount_text(detail.overrun),
        "currency": detail.currency,
        "provider": detail.provider,
        "model": detail.model,
        "expires_at": utc_text(detail.expires_at),
        "reasons": [reason_document(one) for one in detail.reasons],
        "estimate": [_line_document(one) for one in detail.estimate],
    }
    return shown


def reason_document(reason: Reason) -> dict[str, Any]:
    """Return a reason for programs; numbers are in the reason's measure."""
    shown: dict[str, Any] = {"code": reason.code, "name": reason.name}
    if reason.measure:
        measure = reason.measure
        shown |= {
            "measure": measure,
            "limit": measured_text(reason.limit, measure),
            "spent": measured_text(reason.spent, measure),
            "held": measured_text(reason.held, measure),
            "asked": measured_text(reason.asked, measure),
            "available": measured_text(reason.limit - reason.spent - reason.held, measure),
            "window": utc_text(reason.window),
        }
    if reason.detail:
        shown["detail"] = reason.detail
    return shown


def _line_document(line: EstimateLine) -> dict[str, Any]:
    return {
        "meter": line.meter,
        "quantity": scaled_text(line.quantity, QUANTITY_DECIMALS),
        "rate": scaled_text(line.rate, line.rate_decimals),
        "amount": amount_text(line.amount),
        "version": line.version,
    }


def show_outcome(outcome: Outcome, *, json: bool) -> None:
    """Show an answer about a hold, and end the command with its exit code."""
    if json:
        print_json(outcome_document(outcome))
    else:
        _say_outcome(outcome)
    end_by(outcome)


def _say_outcome(outcome: Outcome) -> None:
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
        _say_decision(detail, outcome.status)
    if outcome.problem is not None:
        say(outcome.problem.message)


def _say_decision(detail: HoldAnswer, status: str) -> None:
    say(f"{detail.decision} ({detail.code or status})")
    if detail.provider or detail.model:
        say(f"call {detail.provider or 'any provider'} {detail.model or 'any model'}")
    currency = detail.currency
    if detail.decision.startswith("allow"):
        say(f"reserved {measured(detail.amount, 'charge', currency)} of {money(detail.asked)}")
    else:
        say(f"asked {measured(detail.asked, 'charge', currency)}")
    if detail.estimate:
        out().print(estimate_table(detail.estimate, currency))
    if detail.reasons:
        out().print(reasons_table(detail.reasons, currency))


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
                scaled_text(one.rate, one.rate_decimals),
                money(one.amount),
                one.version,
            )
            for one in lines
        ),
    )


def reasons_table(reasons: Iterable[Reason], currency: str) -> Any:
    """Return reasons as a table: each budget with limit, spent, held, asked and available.

    Args:
        reasons: of a decision.
        currency: of the ledger; a cost may be in another, which the budget itself says.
    """
    columns = (
        ("why", False),
        ("name", False),
        ("measure", False),
        ("limit", True),
        ("spent", True),
        ("held", True),
        ("asked", True),
        ("available", True),
        ("", False),
    )
    return table(columns, (_reason_cells(one, currency) for one in reasons))


def _reason_cells(reason: Reason, currency: str) -> tuple[str, ...]:
    if not reason.measure:
        return (reason.code, reason.name, "", "", "", "", "", "", reason.detail)
    measure = f"charge {currency}" if reason.measure == "charge" else reason.measure
    amounts = (
        reason.limit,
        reason.spent,
        reason.held,
        reason.asked,
        reason.limit - reason.spent - reason.held,
    )
    shown = (measured(amount, reason.measure, "") for amount in amounts)
    return (reason.code, reason.name, measure, *shown, reason.detail)


# -- holds and decisions --------------------------------------------------------------


def hold_document(row: HoldRow) -> dict[str, Any]:
    """Return a hold for programs; amounts are charge in the ledger's currency."""
    hold, extra, shape = row.hold, row.hold.extra, row.shape
    return {
        "tenant": row.tenant.tenant,
        "hold": hold.id,
        "status": row.status,
        "due": row.due,
        "kind": hold.kind,
        "code": hold.code,
        "provider": shape.shape.provider if shape is not None else "",
        "model": shape.shape.model if shape is not None else "",
        "user": extra.user if extra is not None else "",
        "currency": row.tenant.currency,
        "reserved": amount_text(hold.amount),
        "reserved_at_most": amount_text(hold.reserved),
        "overrun": amount_text(hold.overrun),
        "authorized_at": utc_text(hold.at),
        "expires_at": utc_text(hold.expires_at),
        "on_expiry": hold.on_expiry,
        "step": hold.step,
        "progress": _quantities(hold.meters, hold.numbers),
        "captured": _quantities(hold.captured_meters, hold.captured),
        "final": hold.final,
        "late": hold.late,
        "usage": {"source": hold.usage[0], "id": hold.usage[1]} if hold.usage[1] else None,
        "budgets": [
            {"number": budget, "window": utc_text(start)} for budget, start, _ in hold.bindings
        ],
    }


def _quantities(meters: Sequence[str], numbers: Sequence[int]) -> dict[str, Decimal]:
    return {
        meter: from_scaled(one, QUANTITY_DECIMALS)
        for meter, one in zip(meters, numbers, strict=True)
    }


def holds_table(rows: Iterable[HoldRow]) -> Any:
    """Return holds as a table."""
    columns = (
        ("tenant", False),
        ("hold", False),
        ("status", False),
        ("model", False),
        ("reserved", True),
        ("overrun", True),
        ("authorized", False),
        ("expires", False),
    )
    return table(columns, map(_hold_cells, rows))


def _hold_cells(row: HoldRow) -> tuple[str, ...]:
    hold, zone_name, shape = row.hold, row.tenant.timezone, row.shape
    return (
        row.tenant.tenant,
        hold.id,
        f"{row.status}{' (due)' if row.due else ''}{', late' if hold.late else ''}",
        f"{shape.shape.provider}/{shape.shape.model}" if shape is not None else "-",
        measured(hold.amount, "charge", row.tenant.currency),
        measured(hold.overrun, "charge", row.tenant.currency) if hold.overrun else "-",
        moment(hold.at, zone_name),
        moment(hold.expires_at, zone_name),
    )


def say_hold(row: HoldRow) -> None:
    """Show everything that is known of a hold."""
    shown = hold_document(row)
    lines = []
    for name, value in shown.items():
        if isinstance(value, dict):
            value = ", ".join(  # noqa: PLW2901 - the same value, as text
                f"{key} {number(part) if isinstance(part, Decimal) else part}"
                for key, part in value.items()
            )
        elif name == "budgets":
            value = ", ".join(str(one["number"]) for one in value)  # noqa: PLW2901 - as above
        if value not in ("", None, 0, False):
            lines.append((name.replace("_", " "), str(value)))
    out().print(table((("", False), ("", False)), lines))


def decision_document(row: DecisionRow) -> dict[str, Any]:
    """Return a kept answer for programs."""
    return {
        "tenant": row.tenant.tenant,
        "receipt": f"{row.version}.{row.index}",
        "at": utc_text(row.at),
        "hold": row.hold,
        "decision": row.decision,
        "code": row.code,
        "provider": row.shape.shape.provider,
        "model": row.model,
        "called_model": row.shape.shape.model,
        "user": row.user,
        "currency": row.tenant.currency,
        "asked": amount_text(row.asked),
        "amount": amount_text(row.amount),
        "reasons": [reason_document(one) for one in row.reasons],
    }


def decisions_table(rows: Iterable[DecisionRow]) -> Any:
    """Return kept answers as a table."""
    columns = (
        ("when", False),
        ("hold", False),
        ("decision", False),
        ("code", False),
        ("model", False),
        ("asked", True),
        ("reserved", True),
        ("why", False),
    )
    return table(columns, map(_decision_cells, rows))


def _decision_cells(row: DecisionRow) -> tuple[str, ...]:
    called = row.shape.shape.model
    model = row.model if called == row.model else f"{row.model} -> {called}"
    return (
        moment(row.at, row.tenant.timezone),
        row.hold,
        row.decision,
        row.code,
        f"{row.shape.shape.provider}/{model}",
        measured(row.asked, "charge", row.tenant.currency),
        measured(row.amount, "charge", row.tenant.currency),
        "; ".join(reason_text(one) for one in row.reasons),
    )


def reason_text(reason: Reason) -> str:
    """Return a reason in one line."""
    if not reason.measure or reason.code == "downgrade":
        return " ".join(part for part in (reason.code, reason.name, reason.detail) if part)
    parts = (
        ("limit", reason.limit),
        ("spent", reason.spent),
        ("held", reason.held),
        ("asked", reason.asked),
    )
    numbers = ", ".join(f"{name} {measured(one, reason.measure, '')}" for name, one in parts)
    return f"{reason.code} {reason.name}: {numbers}"
