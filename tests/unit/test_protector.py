"""The facade for callers in Python, and the context manager around a call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fakes.asking import QUANTITIES, RecordingQueue, allowed, ask

from ledger.application.hold_session import Denied
from ledger.application.ports import ConnectionLost
from ledger.application.protection import Holds
from ledger.domain.commands import Outcome
from ledger.domain.errors import InvalidInput, LedgerError
from ledger.domain.holds import (
    AuthorizeHold,
    CaptureHold,
    ExtendHold,
    HoldAnswer,
    ProgressHold,
    ReverseCharge,
    VoidHold,
)
from ledger.domain.protection_entries import Reason

_MEMBERS: dict[str, Any] = {
    "provider": "openai",
    "model": "gpt",
    "quantities": QUANTITIES,
}
_OPERATIONS = [
    ("authorize", ask(), None, AuthorizeHold),
    ("simulate", ask(), None, AuthorizeHold),
    ("extend", {"step": 1, "amount": 1}, "h-1", ExtendHold),
    ("progress", {"step": 1, "quantities": QUANTITIES}, "h-1", ProgressHold),
    ("capture", {"capture": "c-1", "quantities": QUANTITIES}, "h-1", CaptureHold),
    ("void", {"void": "v-1"}, "h-1", VoidHold),
    ("reverse", {"reversal": "r-1", "capture": "c-1", "amount": 1}, None, ReverseCharge),
]


class _Boom(Exception):
    pass


def _call(holds: Holds, name: str, twin: bool, document: object, hold: str | None) -> Outcome:
    members = {"tenant": "acme"} | ({"hold": hold} if hold else {})
    if twin:
        return asyncio.run(getattr(holds, f"{name}_async")(document, **members))
    answer: Outcome = getattr(holds, name)(document, **members)
    return answer


@pytest.mark.parametrize("twin", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(("name", "document", "hold", "kind"), _OPERATIONS)
def test_every_operation_runs_its_command_and_returns_the_answer(
    name: str, document: dict[str, Any], hold: str | None, kind: type, twin: bool
) -> None:
    """One command goes in and the ledger's own answer comes out."""
    answer = Outcome("stale_step", 7, 3)
    queue = RecordingQueue(answer)
    assert _call(Holds(queue), name, twin, document, hold) is answer
    [command] = queue.commands
    assert type(command) is kind
    assert command.tenant == "acme"
    assert getattr(command, "dry", False) is (name == "simulate")


@pytest.mark.parametrize("twin", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(("name", "document", "hold", "kind"), _OPERATIONS)
def test_what_cannot_be_read_is_an_answer_and_runs_nothing(
    name: str, document: dict[str, Any], hold: str | None, kind: type, twin: bool
) -> None:
    """Nothing is raised and nothing moves; the problem points at the member."""
    del kind
    queue = RecordingQueue()
    answer = _call(Holds(queue), name, twin, document | {"colour": 1}, hold)
    assert answer.status == "unknown_member"
    assert answer.problem is not None
    assert answer.problem.pointer == "/colour"
    assert not queue.commands


def test_an_ask_that_cannot_be_read_is_denied() -> None:
    """A caller that looks at the decision alone does not make the call."""
    answer = Holds(RecordingQueue()).authorize(ask(ttl=0), tenant="acme")
    assert answer.status == "invalid_ttl"
    assert answer.detail == HoldAnswer("h-1", "deny")
    nameless = Holds(RecordingQueue()).authorize(ask(hold=""), tenant="acme")
    assert nameless.status == "invalid_hold"
    assert nameless.detail == HoldAnswer("", "deny")


def test_a_lost_connection_is_raised() -> None:
    """Whether it was committed is unknown, so no answer may be made up."""
    with pytest.raises(ConnectionLost):
        Holds(RecordingQueue(ConnectionLost("gone"))).authorize(ask(), tenant="acme")


# -- the context manager, both kinds through one script -----------------------------------


async def _in(
    queue: RecordingQueue,
    twin: bool,
    script: list[tuple[str, tuple[Any, ...], dict[str, Any]]],
    leave: BaseException | None = None,
    id: str = "h-1",
    **members: Any,
) -> list[Any]:
    """Enter a hold, do what the script says, leave; return the answers of the steps."""
    holds = Holds(queue)
    answers = []
    given = {**_MEMBERS, **members}
    if twin:
        async with holds.hold_async(id, tenant="acme", **given) as later:
            for name, positional, named in script:
                answers.append(await getattr(later, name)(*positional, **named))
            if leave is not None:
                raise leave
    else:
        with holds.hold(id, tenant="acme", **given) as now:
            for name, positional, named in script:
                answers.append(getattr(now, name)(*positional, **named))
            if leave is not None:
                raise leave
    return answers


def _step(name: str, *positional: Any, **named: Any) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    return name, positional, named


both = pytest.mark.parametrize("twin", [False, True], ids=["sync", "async"])


@both
def test_a_captured_hold_is_left_as_it_is(twin: bool) -> None:
    """After the final capture nothing more is sent, whether or not leaving is an error."""
    for leave in (None, _Boom()):
        queue = RecordingQueue()
        script = [_step("capture", QUANTITIES, model="gpt-1", request_id="r")]
        if leave is None:
            asyncio.run(_in(queue, twin, script))
        else:
            with pytest.raises(_Boom):
                asyncio.run(_in(queue, twin, script, leave))
        authorize, capture = queue.commands
        assert authorize.hold == "h-1"
        assert (capture.id, capture.final, capture.model) == ("h-1/capture", True, "gpt-1")
        assert capture.hold == "h-1"


@both
def test_leaving_without_a_call_voids(twin: bool) -> None:
    """Nothing was reported, so nothing was called."""
    queue = RecordingQueue()
    asyncio.run(_in(queue, twin, []))
    assert queue.commands[1:] == [VoidHold("acme", "h-1/void", "h-1", "left without a call")]


@both
def test_an_exception_without_progress_voids_and_goes_on(twin: bool) -> None:
    """What the caller raised is what the caller gets."""
    queue = RecordingQueue()
    with pytest.raises(_Boom):
        asyncio.run(_in(queue, twin, [], _Boom()))
    assert queue.commands[1:] == [VoidHold("acme", "h-1/void", "h-1", "left with _Boom")]


@both
@pytest.mark.parametrize(
    ("leave", "outcome"),
    [(None, "ok"), (_Boom(), "error"), (asyncio.CancelledError(), "aborted")],
)
def test_leaving_after_progress_captures_the_last_of_it(
    twin: bool, leave: BaseException | None, outcome: str
) -> None:
    """What the provider did is recorded, even if its caller fails."""
    queue = RecordingQueue()
    script = [_step("progress", {"tokens.output": n}) for n in (10, 30)]
    if leave is None:
        asyncio.run(_in(queue, twin, script))
    else:
        with pytest.raises(type(leave)):
            asyncio.run(_in(queue, twin, script, leave))
    _, first, second, capture = queue.commands
    assert (first.step, second.step) == (1, 2)
    assert isinstance(capture, CaptureHold)
    assert capture.quantities == {"tokens.output": "30"}
    assert (capture.final, capture.outcome, capture.id) == (True, outcome, "h-1/capture")


@both
def test_progress_is_what_it_was_when_it_was_reported(twin: bool) -> None:
    """Callers count on in the mapping that they gave."""
    counted: dict[str, object] = {"tokens.output": 10}
    queue = RecordingQueue()

    def count_on(command: ProgressHold) -> Outcome:
        counted["tokens.output"] = "broken"
        return Outcome("progressed")

    queue.answers = [allowed(), count_on]
    asyncio.run(_in(queue, twin, [_step("progress", counted)]))
    assert queue.commands[2].quantities == {"tokens.output": "10"}


@both
def test_captures_that_are_not_final_get_ids_of_their_own_and_leaving_ends_them(twin: bool) -> None:
    """The last of them becomes the final one, with all that it said."""
    queue = RecordingQueue()
    script = [_step("capture", {"tokens.output": n}, final=False, model="gpt-1") for n in (10, 30)]
    asyncio.run(_in(queue, twin, script))
    captures = queue.commands[1:]
    assert [one.id for one in captures] == ["h-1/capture/1", "h-1/capture/2", "h-1/capture"]
    assert [one.final for one in captures] == [False, False, True]
    assert captures[2].quantities == captures[1].quantities
    assert captures[2].model == "gpt-1"


@both
def test_a_capture_that_was_not_answered_is_sent_again_as_it_was(twin: bool) -> None:
    """Not the progress before it: that would record less, or conflict with it."""
    queue = RecordingQueue(allowed(), Outcome("progressed"), ConnectionLost("gone"))
    script = [_step("progress", {"tokens.output": 1}), _step("capture", QUANTITIES)]
    with pytest.raises(ConnectionLost):
        asyncio.run(_in(queue, twin, script))
    assert queue.commands[2] == queue.commands[3]


@both
def test_progress_that_was_not_answered_counts_as_a_call(twin: bool) -> None:
    """A void would give back what the provider has been paid for."""
    queue = RecordingQueue(allowed(), ConnectionLost("gone"))
    with pytest.raises(ConnectionLost):
        asyncio.run(_in(queue, twin, [_step("progress", {"tokens.output": 1})]))
    assert isinstance(queue.commands[2], CaptureHold)


@both
@pytest.mark.parametrize("name", ["capture", "progress"])
def test_a_report_that_cannot_be_read_is_not_taken_for_no_call(twin: bool, name: str) -> None:
    """The hold is neither voided nor captured, and leaving says what was wrong."""
    queue = RecordingQueue()
    with pytest.raises(InvalidInput) as caught:
        asyncio.run(_in(queue, twin, [_step(name, {"tokens.output": -1})]))
    assert caught.value.code == "invalid_quantities"
    assert caught.value.pointer == "/quantities/tokens.output"
    assert len(queue.commands) == 1


@both
def test_a_report_that_cannot_be_read_may_be_mended(twin: bool) -> None:
    """The next that can be read is what counts."""
    queue = RecordingQueue()
    script = [_step("capture", {"gold": 1}), _step("capture", QUANTITIES)]
    answers = asyncio.run(_in(queue, twin, script))
    assert [one.status for one in answers] == ["invalid_quantities", "captured"]
    assert len(queue.commands) == 2


@both
def test_trouble_in_leaving_does_not_hide_the_exception_that_leaves(twin: bool) -> None:
    """It is noted on it instead."""
    queue = RecordingQueue(allowed(), ConnectionLost("gone"))
    with pytest.raises(_Boom) as caught:
        asyncio.run(_in(queue, twin, [], _Boom()))
    assert "hold 'h-1' is not settled: gone" in caught.value.__notes__[0]


@both
def test_trouble_in_leaving_normally_is_raised(twin: bool) -> None:
    """Otherwise nobody would know that the hold is still open."""
    queue = RecordingQueue(allowed(), ConnectionLost("gone"))
    with pytest.raises(ConnectionLost):
        asyncio.run(_in(queue, twin, []))


@both
def test_a_refusal_raises_before_the_call(twin: bool) -> None:
    """The code is the answer's, the message names the reasons."""
    detail = HoldAnswer("h-1", "deny", reasons=(Reason("budget", "monthly"),))
    refusal = Outcome("denied_exceeds_budget", detail=detail)
    queue = RecordingQueue(refusal)
    with pytest.raises(Denied) as caught:
        asyncio.run(_in(queue, twin, [_step("capture", QUANTITIES)]))
    assert caught.value.code == "denied_exceeds_budget"
    assert caught.value.answer is detail
    assert caught.value.outcome is refusal
    assert "budget monthly" in caught.value.message
    assert len(queue.commands) == 1


@both
@pytest.mark.parametrize("decision", ["deny", "confirm"])
def test_a_refusal_need_not_raise(twin: bool, decision: str) -> None:
    """Then ``allowed`` says it, and leaving sends nothing."""
    queue = RecordingQueue(Outcome("denied_unpriced", detail=HoldAnswer("h-1", decision)))
    asyncio.run(_in(queue, twin, [], raise_denied=False))
    assert len(queue.commands) == 1


def test_an_ask_that_cannot_be_read_raises_as_denied() -> None:
    """With its problem as the message."""
    with (
        pytest.raises(Denied, match="86400 seconds") as caught,
        Holds(RecordingQueue()).hold("h-1", tenant="acme", ttl=0, **_MEMBERS),
    ):
        pytest.fail("the call must not be made")
    assert caught.value.code == "invalid_ttl"


def test_the_model_to_call_is_the_answers() -> None:
    """A downgrade names another; else it is the one that was asked for."""
    for answer, model in ((allowed("allow_downgraded", model="mini"), "mini"), (allowed(), "gpt")):
        with Holds(RecordingQueue(answer)).hold("h-1", tenant="acme", **_MEMBERS) as hold:
            assert hold.allowed
            assert hold.model == model
            assert hold.answer is answer.detail


def test_a_hold_has_no_answer_before_it_is_entered() -> None:
    """Asking for it is a mistake of the caller's, and says so."""
    with pytest.raises(LedgerError) as caught:
        _ = Holds(RecordingQueue()).hold("h-1", tenant="acme").allowed
    assert caught.value.code == "not_authorized"


@both
def test_extensions_count_their_steps_apart_from_checkpoints(twin: bool) -> None:
    """Targets in quantities or in money, and a longer life."""
    queue = RecordingQueue()
    script = [
        _step("extend", QUANTITIES),
        _step("progress", {"tokens.output": 1}),
        _step("extend", amount="0.50", ttl=60),
    ]
    asyncio.run(_in(queue, twin, script))
    _, first, progress, second, _ = queue.commands
    assert (first.step, progress.step, second.step) == (1, 1, 2)
    assert first.quantities == {"tokens.input": "1000", "tokens.output": "500"}
    assert (second.amount, second.ttl_us) == (5 * 10**17, 60_000_000)


@both
def test_a_hold_that_was_voided_is_left_as_it_is(twin: bool) -> None:
    """The caller's own void is the last word."""
    queue = RecordingQueue()
    asyncio.run(_in(queue, twin, [_step("void", "changed my mind", force=True)]))
    assert queue.commands[1:] == [VoidHold("acme", "h-1/void", "h-1", "changed my mind", True)]


@both
def test_the_longest_id_leaves_room_for_those_derived_from_it(twin: bool) -> None:
    """They stay ids, and those of different holds stay different."""
    seen = set()
    for last in "ab":
        queue = RecordingQueue()
        script = [_step("capture", {"tokens.output": 1}, final=False)]
        asyncio.run(_in(queue, twin, script, id="h" * 255 + last))
        assert [type(one) for one in queue.commands[1:]] == [CaptureHold, CaptureHold]
        seen |= {one.id for one in queue.commands[1:]}
    assert len(seen) == 4


def test_a_task_that_is_cancelled_while_it_asks_leaves_nothing_reserved() -> None:
    """A void is queued behind the authorization; nobody waits for it."""
    queue = RecordingQueue()

    async def stuck(commands: Any) -> list[Outcome]:
        queue.submit(commands)
        await asyncio.Event().wait()
        return []

    queue.submit_async = stuck

    async def run() -> None:
        task = asyncio.create_task(_in(queue, True, []))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())
    assert [type(one) for one in queue.commands] == [AuthorizeHold, VoidHold]
