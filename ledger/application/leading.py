"""Leading: something that one process of all that share a database does, on a thread of its own.

The others look now and then whether nobody leads. Nothing in here ends a server: what goes wrong is
logged and tried again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from ledger.domain.errors import Unavailable

CANDIDATE_S = 5.0
"""How often another process looks whether nobody leads, and how soon after a lost connection."""
RETRY_S = 30.0
"""Wait after a failure that will hardly be better at once."""
CLOSE_S = 10.0
"""How long closing waits for what is at hand."""

_log = logging.getLogger(__name__)


class Leadership(Protocol):
    """Held by at most one process of all that share a database."""

    def held(self) -> bool:
        """Return whether it is still held."""
        ...


class Leader(Protocol):
    """Where leadership is to be had."""

    def try_lead(self) -> AbstractContextManager[Leadership | None]:
        """Take the lead, or None if another process has it; leaving gives it back.

        Raises:
            Unavailable: nobody can be asked now.
        """
        ...


class Led:
    """Runs something while this process leads.

    Args:
        name: of what is done, for the log.
        leader: where leadership is to be had.
        work: called when this process leads; goes on while what it is given says so.

    Attributes:
        ending: set when it is to end.
    """

    def __init__(
        self, name: str, leader: Leader, work: Callable[[Callable[[], bool]], None]
    ) -> None:
        self._name = name
        self._leader = leader
        self._work = work
        self.ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"tallybook-{name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Stop after what is at hand; what takes longer than `CLOSE_S` is left behind."""
        self.ending.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while not self.ending.is_set():
            wait_s = CANDIDATE_S
            try:
                with self._leader.try_lead() as leadership:
                    if leadership is not None:
                        self._work(self._while(leadership))
            except Unavailable as error:
                _log.warning("%s goes on in %g s: %s", self._name, wait_s, error)
            except Exception as error:
                # What is broken for good, such as a log that does not agree with itself, must not
                # end a server that can still take usage.
                wait_s = RETRY_S
                _log.error("%s goes on in %g s: %s", self._name, wait_s, error, exc_info=error)
            self.ending.wait(wait_s)

    def _while(self, leadership: Leadership) -> Callable[[], bool]:
        return lambda: leadership.held() and not self.ending.is_set()
