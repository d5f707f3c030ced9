"""What is recorded of one hold comes to the same numbers in whatever order."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from fakes.building import adjust, usage, void
from fakes.hold_strategies import (
    INPUT,
    OUTPUT,
    SECOND,
    capture_document,
    document,
    quantities,
    stored,
)
from fakes.hold_values import Ask, Rung, Terms, Who
from fakes.hold_world import World, assert_rows_are_the_fold
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.application.asks import (
    authorize_hold,
    capture_hold,
    progress_hold,
)
from ledger.domain.commands import Command
from ledger.domain.holds import AuthorizeHold, ExpireHolds, ProgressHold

SCENE_AT = ("2026-11-23T10:12:00Z", "2026-11-23T10:13:00Z", "2026-11-22T23:59:00Z")
SCENE_ASK = Ask("big", Who("ann"), quantities=((INPUT, Decimal(1)), (OUTPUT, Decimal(2))))


def _said(
    draw: st.DrawFn, id: str, *, final: bool, times: tuple[str | None, ...]
) -> dict[str, Any]:
    """Draw a capture that may name model and time."""
    model, at = draw(st.sampled_from(["", "small", "big"])), draw(st.sampled_from(times))
    members = capture_document(id, draw(quantities), final=final, model=model, at=None)
    return members if at is None else members | {"occurred_at": at}


@st.composite
def scenes(draw: st.DrawFn) -> list[Command]:
    """Draw recording commands of one hold and of its neighbors.

    Where nothing is checkpointed the authorization may come at any place, too. A final capture
    names its time: what the clock says of it is not the same in every order.
    """
    commands: list[Command] = []
    for number in range(draw(st.integers(0, 3))):
        members = _said(draw, f"c{number}", final=False, times=(*SCENE_AT, None))
        commands.append(capture_hold(members, tenant="acme", hold="h0"))
    checkpoints = draw(st.integers(0, 2))
    for step in range(checkpoints):
        members = {"step": step + 1, "quantities": draw(quantities)}
        commands.append(progress_hold(members, tenant="acme", hold="h0"))
    final = draw(st.sampled_from(["capture", "event", "none"]))
    if final == "capture":
        members = _said(draw, "final", final=True, times=SCENE_AT)
        commands.append(capture_hold(members, tenant="acme", hold="h0"))
    elif final == "event":
        members = {"time": draw(st.sampled_from(SCENE_AT)), "user": draw(st.sampled_from(USERS))}
        model, numbers = draw(st.sampled_from(["big", "small"])), draw(quantities)
        commands.append(usage("final", model=model, hold="h0", quantities=numbers, **members))
    for number in range(draw(st.integers(0, 2))):
        id = f"e{number}"
        commands.append(usage(id, time=SCENE_AT[0], model="small", quantities=draw(quantities)))
        kind = draw(st.sampled_from(["void", "adjust", "none"]))
        if kind == "void":
            commands.append(void(id, id=f"void {id}"))
        elif kind == "adjust":
            commands.append(adjust(id, id=f"adjust {id}", quantities=draw(quantities)))
    ask = authorize_hold(document("h0", SCENE_ASK), tenant="acme")
    at = 0 if checkpoints else draw(st.integers(0, len(commands)))
    return [*commands[:at], ask, *commands[at:]]


USERS = ("", "ann", "bob")


def outcome_of(commands: list[Command], repeated: list[Command]) -> tuple[object, ...]:
    """Return charge, the hold's quantities and the budgets' numbers after commands and expiry."""
    world = World()
    try:
        for name, measure in (("charge", "charge"), ("cost", "cost"), ("tokens", INPUT)):
            steps = (Rung("stop", Decimal(1000)),)
            world.set_budget(stored(Terms(name, Decimal(1000), steps, measure=measure)))
        for user in USERS[1:]:
            world.set_budget(stored(Terms(user, Decimal(9), (), scope="user", value=user)))
        for command in [*commands, *repeated]:
            world.run(command)
        world.now += 300 * SECOND
        world.run(ExpireHolds("acme"))
        guard = world.guard
        hold = guard.hold("h0")
        assert hold is not None
        assert_rows_are_the_fold(world)
        counted = {m: n for m, n in zip(hold.captured_meters, hold.captured, strict=True) if n}
        return (
            sum(one.charge for one in world.state.balances.values()),
            counted,
            [guard.used(one, world.now) for one in guard.live],
        )
    finally:
        world.close()


@given(scenes(), st.data())
@settings(max_examples=60)
def test_no_order_and_no_repetition_of_recordings_changes_what_is_charged(
    scene: list[Command], data: st.DataObject
) -> None:
    """Captures, checkpoints, usage, corrections and a late ask in any order: the same numbers."""
    first = [one for one in scene if isinstance(one, AuthorizeHold)]
    checkpoints = any(isinstance(one, ProgressHold) for one in scene)
    rest = [one for one in scene if one not in first] if checkpoints else scene
    shuffled = data.draw(st.permutations(rest))
    repeated = data.draw(st.lists(st.sampled_from(scene), max_size=3))
    before = first if checkpoints else []
    assert outcome_of([*before, *shuffled], repeated) == outcome_of(scene, [])
