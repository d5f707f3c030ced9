"""Commands and answers between processes: what comes out is what went in."""

from __future__ import annotations

import typing
from typing import Any

import pytest
from fakes.building import usage

from ledger.application import asks
from ledger.application import command_wire as wire
from ledger.application.ports import ConnectionLost
from ledger.application.sequencer import SequencerClosed
from ledger.domain.budgets import BudgetTerms, Filter, Step
from ledger.domain.commands import (
    Command,
    OpenLedger,
    Outcome,
    RerateUsage,
    tenant_of,
)
from ledger.domain.entitlements import Entitlements
from ledger.domain.errors import InvalidInput, InvariantViolation, Problem, Unavailable
from ledger.domain.holds import (
    EstimateLine,
    ExpireHolds,
    HoldAnswer,
    ReverseCharge,
    SetEntitlements,
)
from ledger.domain.protection_commands import (
    ConfirmBudget,
    GrantCredit,
    SetBudget,
    SetCreditPolicy,
    WaiveCap,
    WithdrawCredit,
)
from ledger.domain.usage import AdjustUsage, VoidUsage

WIDE = 10**45 + 1
"""An amount past 64 bits, as money x 10^18 soon is."""
ASK = {
    "hold": "h-1",
    "provider": "openai",
    "model": "gpt-4o",
    "quantities": {"tokens.input": 900, "audio.stt.seconds": "1.25"},
    "labels": {"team": "süd"},
    "tools": ["search"],
}
ABOUT = {"tenant": "acme", "hold": "h-1"}
COMMANDS: list[Command] = [
    usage("e-1", quantities={"tokens.input": 10}),
    VoidUsage(tenant="acme", source="s", id="v", target_source="s", target_id="e", reason="r"),
    AdjustUsage(
        tenant="acme",
        source="s",
        id="a",
        target_source="s",
        target_id="e",
        quantities={"tokens.input": "5"},
    ),
    RerateUsage("acme", "s", "e", "price_changed"),
    OpenLedger("acme", "USD", "UTC", "default"),
    asks.authorize_hold(ASK, tenant="acme"),
    asks.authorize_hold({"hold": "h", "amount": str(10**17)}, tenant="acme", dry=True),
    asks.extend_hold({"step": 1, "amount": "0.5"}, **ABOUT),
    asks.progress_hold({"step": 2, "quantities": {"tokens.output": 8}}, **ABOUT),
    asks.capture_hold({"capture": "c", "quantities": {"tokens.output": 8}, "raw": {}}, **ABOUT),
    asks.void_hold({"void": "v-1", "reason": "not called"}, **ABOUT),
    ReverseCharge("acme", "r-1", "s", "c", WIDE, "gift"),
    ExpireHolds("acme"),
    SetBudget(
        "acme",
        BudgetTerms(
            "month",
            WIDE,
            filter=Filter(models=("gpt-*",)),
            steps=(Step("warn", 8000), Step("stop", amount=WIDE)),
        ),
        by="ops",
        opening=((1, WIDE),),
        as_of=3,
    ),
    WaiveCap("acme", "ops"),
    ConfirmBudget("acme", "c-1", "month", WIDE, "ops"),
    GrantCredit("acme", "g-1", WIDE, transferred_from=("other", "t-1")),
    WithdrawCredit("acme", "w-1", "g-1", -1, to="other"),
    SetCreditPolicy("acme", required=True),
    SetEntitlements("acme", Entitlements()),
]


def test_every_kind_of_command_has_an_example() -> None:
    """A kind that is new is not forgotten here."""
    assert {type(one) for one in COMMANDS} == set(typing.get_args(Command))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda one: type(one).__name__)
def test_a_command_comes_as_it_went(command: Command) -> None:
    """Amounts past 64 bits too."""
    message = wire.encode_submissions([wire.Submitted(7, *wire.encode_commands([command] * 2))])
    [found] = wire.decode_submissions(message)
    assert found.number == 7
    assert wire.decode_commands(found) == [command] * 2
    assert tenant_of(command) == "acme"


def test_outcomes_come_as_they_went() -> None:
    """Those with amounts past 64 bits beside those without."""
    line = EstimateLine("tokens.input", 5, 2, 6, "v", WIDE)
    outcomes = [
        Outcome("accepted", 3, 1, ("unpriced",)),
        Outcome("rejected", problem=Problem("invalid_time", "it is not", "/time")),
        Outcome("created", detail=HoldAnswer("h", "allow", WIDE, -WIDE, estimate=(line,))),
    ]
    answered = wire.Answered(9, wire.encode_outcomes(outcomes))
    reply = wire.Replied(4, False, 1.5, 2.25, 1, [answered])
    [found] = wire.decode_replies(wire.encode_replies([reply]))
    assert found == reply
    assert wire.decode_outcomes(found.answers[0]) == outcomes


class _Closer(InvalidInput):
    """A subclass that the other side need not know."""

    default_code = "closer"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionLost("gone"), ConnectionLost),
        (SequencerClosed("closed"), SequencerClosed),
        (Unavailable("later", code="busy"), Unavailable),
        (_Closer("no", pointer="/a"), InvalidInput),
        (InvariantViolation("broken"), InvariantViolation),
        (ZeroDivisionError("oh"), wire.SequencerFailed),
    ],
)
def test_an_error_comes_as_the_class_that_callers_know(
    error: Exception, kind: type[Exception]
) -> None:
    """With its code and its pointer; a defect is one on both sides."""
    answered = wire.Answered(1, failure=wire.failure_of(error))
    reply = wire.Replied(0, True, 0.0, 0.0, 0, [answered])
    failure = wire.decode_replies(wire.encode_replies([reply]))[0].answers[0].failure
    assert failure is not None
    found: Any = wire.error_of(failure)
    assert type(found) is kind
    assert str(error) in str(found)
    for member in ("code", "pointer"):
        assert getattr(found, member, None) == getattr(error, member, None)
