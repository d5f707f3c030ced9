"""A stand-in for the sequencer that records commands, and asks in few words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from ledger.application.workingset import Prepared
from ledger.domain.commands import Command, Outcome
from ledger.domain.holds import AuthorizeHold, HoldAnswer

QUANTITIES = {"tokens.input": 1000, "tokens.output": 500}
Answer = Outcome | BaseException | Callable[[Any], Outcome]


def ask(**members: Any) -> dict[str, Any]:
    """Return an ask in quantities; members replace or add, a None takes one away."""
    document = {"hold": "h-1", "provider": "openai", "model": "gpt", "quantities": QUANTITIES}
    return {name: value for name, value in (document | members).items() if value is not None}


def allowed(decision: str = "allow", **members: Any) -> Outcome:
    """Return the answer that a call may be made."""
    return Outcome("created", 1, detail=HoldAnswer("h-1", decision, **members))


class RecordingQueue:
    """Runs nothing: keeps commands and gives the answers that it was given, then plain ones.

    Attributes:
        commands: all that came, in order.
        answers: for the next commands; an exception is raised, a callable is asked.
    """

    def __init__(self, *answers: Answer) -> None:
        self.commands: list[Any] = []
        self.answers: list[Answer] = list(answers)

    def prepare(self, command: Command) -> Prepared:
        """Wrap a command."""
        return Prepared("", command)

    def submit(self, commands: Sequence[Prepared]) -> Future[list[Outcome]]:
        """Answer at once."""
        future: Future[list[Outcome]] = Future()
        try:
            future.set_result([self._answer(one.command) for one in commands])
        except BaseException as error:
            future.set_exception(error)
        return future

    async def submit_async(self, commands: Sequence[Prepared]) -> list[Outcome]:
        """Answer at once."""
        return self.submit(commands).result()

    def _answer(self, command: Any) -> Outcome:
        self.commands.append(command)
        answer: Answer = self.answers.pop(0) if self.answers else _plain(command)
        if isinstance(answer, BaseException):
            raise answer
        return answer if isinstance(answer, Outcome) else answer(command)


def _plain(command: Any) -> Outcome:
    if isinstance(command, AuthorizeHold):
        return Outcome("created", 1, detail=HoldAnswer(command.hold, "allow"))
    words = {
        "ExtendHold": "extended",
        "ProgressHold": "progressed",
        "CaptureHold": "captured",
        "VoidHold": "voided",
        "ReverseCharge": "reversed",
    }
    return Outcome(words[type(command).__name__], 1)
